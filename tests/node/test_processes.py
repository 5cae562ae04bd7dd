"""Relays that are processes: killed, stopped, and out of descriptors."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from contextlib import AsyncExitStack

import trio

from trio_relay import DeliveryError, Limits, LinkDown, LinkUp, Node, open_node
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


class Claims:
    """What a sender was told of each message, and what its receiver got.

    Attributes:
        told: names of messages by outcome: ``confirmed`` or that of the error.
    """

    def __init__(self, sender: Node, receiver: Node) -> None:
        self._sender, self._receiver = sender, receiver
        self.told: defaultdict[str, set[str]] = defaultdict(set)
        self.received: Counter[str] = Counter()

    async def deliver(self, name: str) -> None:
        try:
            await self._sender.deliver(self._receiver.id, name, timeout=1.5)
        except DeliveryError as error:
            self.told[error.outcome].add(name)
        else:
            self.told["confirmed"].add(name)

    async def deliver_while_linked(self, lane: int) -> None:
        for number in itertools.count():
            if not self._sender.links:
                break
            await self.deliver(f"{lane}/{number}")

    async def collect(self) -> None:
        async for message in self._receiver:
            self.received[str(message.data)] += 1


async def test_only_relay_is_killed_in_the_middle_of_traffic_and_no_outcome_is_wrong() -> None:
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(open_process())
        sender, receiver = [await stack.enter_async_context(open_node(None, relay.urls)) for _ in range(2)]
        await until(lambda: relays_of(sender) and relays_of(receiver))
        claims = Claims(sender, receiver)
        late = {f"late {number}" for number in range(10)}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(claims.collect)
            async with trio.open_nursery() as deliveries:
                for lane in range(30):
                    deliveries.start_soon(claims.deliver_while_linked, lane)
                await until(lambda: len(claims.told["confirmed"]) >= 100)
                relay.kill()
                await until(lambda: not sender.links)
                for name in late:
                    deliveries.start_soon(claims.deliver, name)
            nursery.cancel_scope.cancel()
    received = set(claims.received)
    assert max(claims.received.values()) == 1
    assert claims.told["confirmed"] <= received
    assert not claims.told["not_delivered"] & received
    assert claims.told["not_delivered"] >= late
    assert claims.told["unknown"]


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
