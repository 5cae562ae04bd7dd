"""Relays that are processes: killed, stopped, and out of descriptors."""

from __future__ import annotations

from contextlib import AsyncExitStack

import trio

from trio_relay import Limits, LinkDown, LinkUp, open_node
from trio_relay.wire.urls import parse_ws_url

from .processes import open_process
from .support import honest_pair, relays_of, until
from .traffic import Traffic


async def test_relay_that_is_killed_in_the_middle_of_traffic() -> None:
    """Every confirmed message arrives once, by the other relay if need be."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(open_process())
        second = await stack.enter_async_context(open_process(first.urls))
        urls = first.urls + second.urls
        leaves = [await stack.enter_async_context(open_node(None, urls)) for _ in range(3)]
        await until(lambda: all(relays_of(leaf) == 2 for leaf in leaves))
        traffic = Traffic(leaves)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: traffic.run(rounds=40, pause=0.01, timeout=10))
            await until(lambda: len(traffic.confirmed) >= 60)
            first.kill()
        traffic.check()
        assert len(traffic.confirmed) == 6 * 40
        assert all(set(leaf.links) == {second.id} for leaf in leaves)


async def test_peer_process_that_was_stopped_is_found_dead_by_ping() -> None:
    limits = Limits(ping_after=0.2, dead_after=0.4, close_timeout=0.2)
    async with open_process() as process, open_node(None, process.urls, limits=limits) as node, node.events() as events:
        assert await anext(events) == LinkUp(process.id, "websocket")
        await trio.sleep(0.5)
        assert process.id in node.links
        process.stop()
        began = trio.current_time()
        with trio.fail_after(3):
            assert isinstance(await anext(events), LinkDown)
        assert 0.3 < trio.current_time() - began < 2
        process.go_on()
        with trio.fail_after(3):
            assert await anext(events) == LinkUp(process.id, "websocket")


async def test_process_that_is_out_of_descriptors_recovers() -> None:
    async with open_process(descriptors=40) as process, honest_pair(process.urls) as pair:
        where = parse_ws_url(process.urls[0])
        async with AsyncExitStack() as stack:
            for _ in range(60):
                await stack.enter_async_context(await trio.open_tcp_stream(where.host, where.port))
            with trio.fail_after(5):
                while not (await process.statistics())["counts"].get("transport_descriptors_exhausted"):
                    await pair.more()
        with trio.fail_after(5):
            async with open_node(None, process.urls) as late:
                await late.wait_linked()
                await late.deliver(process.id, "there is room again")
