"""The end of a node: goodbyes, what was under way, exceptions, cancellation, and how long it takes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_relay import Limits, LinkDown, LinkUp, Node, open_node
from trio_relay.testing import MemoryNetwork

from .support import UNKNOWN, count, open_town, relays_of, take, until, url


async def test_neighbours_are_told(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    async with open_node("hub", network=network) as hub, hub.events() as events:
        async with open_node(None, [url("hub")], network=network) as leaf:
            await leaf.wait_linked()
        assert await anext(events) == LinkUp(leaf.id, "memory")
        assert await anext(events) == LinkDown(leaf.id, "shutdown")
        assert hub.links == {}


async def test_what_was_sent_before_the_end_arrives(autojump_clock: MockClock) -> None:
    async with MemoryNetwork(latency=0.05) as network, open_town(1, 1, network=network) as town:
        (bob,) = town.leaves
        async with open_node(None, [url("relay-0")], network=network) as alice:
            await until(lambda: relays_of(alice))
            for number in range(500):
                await alice.send(bob.id, number)
        with trio.fail_after(1):
            assert [(await bob.receive()).data for _ in range(500)] == list(range(500))


async def test_relay_that_ends_passes_on_what_it_has(autojump_clock: MockClock) -> None:
    """A slow link's backlog is written after the goodbye was queued."""
    network = MemoryNetwork(latency=0.02, buffer_messages=1)
    async with (
        network,
        open_node(None, [url("hub")], network=network) as alice,
        open_node(None, [url("hub")], network=network) as bob,
        open_node(None, [url("hub")], network=network) as carol,
    ):
        async with open_node("hub", network=network) as hub:
            await until(lambda: relays_of(alice) and relays_of(bob) and relays_of(carol), seconds=30)
            for sender in (alice, carol):
                # Once there is a session, all that is sent leaves at once.
                await sender.deliver(bob.id, "first")
            for sender in (alice, carol):
                for _ in range(14):
                    sender.send_nowait(bob.id, bytes(30_000))
            await until(lambda: not alice.statistics().backlog and not carol.statistics().backlog)
            assert hub.statistics().backlog > 100_000
        with trio.fail_after(5):
            assert [(await bob.receive()).data for _ in range(30)] == ["first"] * 2 + [bytes(30_000)] * 28


async def test_pending_calls_are_told(autojump_clock: MockClock) -> None:
    told: list[str] = []

    async def expect_closed(name: str, node: Node) -> None:
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "deliver": lambda: node.deliver(UNKNOWN, 1),
            "connect": lambda: node.connect(UNKNOWN),
            "lookup": lambda: node.lookup(UNKNOWN),
            "wait_linked": lambda: node.wait_linked(9),
            "send": lambda: node.send(UNKNOWN, 1),
        }
        with pytest.raises(trio.ClosedResourceError):
            await calls[name]()
        told.append(name)

    network = MemoryNetwork()
    limits = Limits(unlinked_messages=1)
    async with trio.open_nursery() as nursery:
        async with open_node(None, [url("nowhere")], network=network, limits=limits) as alone:
            alone.send_nowait(UNKNOWN, 0)
            nursery.start_soon(expect_closed, "send", alone)
            await wait_all_tasks_blocked()
        async with open_node("hub", network=network), open_node(None, [url("hub")], network=network) as node:
            await until(lambda: relays_of(node))
            network.partition(["hub"])
            for name in ("deliver", "connect", "lookup", "wait_linked"):
                nursery.start_soon(expect_closed, name, node)
            await wait_all_tasks_blocked()
            assert told == ["send"]
    assert set(told) == {"send", "deliver", "connect", "lookup", "wait_linked"}


async def test_calls_that_begin_at_the_end_are_told(autojump_clock: MockClock) -> None:
    """From outside the block: whatever step they are at when it ends, none of them waits for a node that is gone."""
    network = MemoryNetwork()
    told = 0

    async def deliver(node: Node) -> None:
        nonlocal told
        with pytest.raises(trio.ClosedResourceError):
            await node.deliver(UNKNOWN, 1)
        told += 1

    async with open_node("hub", network=network):
        for steps in range(4):
            with trio.fail_after(20):
                async with trio.open_nursery() as nursery, open_node(None, [url("hub")], network=network) as node:
                    await node.wait_linked()
                    for _ in range(5):
                        nursery.start_soon(deliver, node)
                    for _ in range(steps):
                        await trio.lowlevel.checkpoint()
    assert told == 4 * 5


async def test_exception_of_the_block_comes_out_as_it_was_raised(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    problem = KeyError("mine")
    async with open_node("hub", network=network) as hub:

        async def fail() -> None:
            async with open_node(None, [url("hub")], network=network) as node:
                await node.wait_linked()
                raise problem

        with pytest.raises(KeyError) as caught:
            await fail()
        assert caught.value is problem
        await until(lambda: not hub.links)


async def test_group_of_the_block_stays_a_group(autojump_clock: MockClock) -> None:
    problem = ExceptionGroup("mine", [KeyError("one")])

    async def fail() -> None:
        async with open_node(None, network=MemoryNetwork()):
            raise problem

    with pytest.raises(ExceptionGroup) as caught:
        await fail()
    assert (caught.value.message, caught.value.exceptions) == (problem.message, problem.exceptions)


async def test_cancelled_block_says_goodbye(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    async with open_node("hub", network=network) as hub, hub.events() as events:
        with trio.CancelScope() as scope:
            async with open_node(None, [url("hub")], network=network) as leaf:
                await leaf.wait_linked()
                await leaf.send(hub.id, "last words")
                scope.cancel()
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert await take(hub, 1) == ["last words"]
        assert [await anext(events), await anext(events)] == [
            LinkUp(leaf.id, "memory"),
            LinkDown(leaf.id, "shutdown"),
        ]


@pytest.mark.parametrize("reachable", [True, False])
async def test_end_waits_for_a_session_only_with_who_may_answer(autojump_clock: MockClock, reachable: bool) -> None:
    """And what is left then is counted."""
    limits = Limits()
    async with open_town(1, 1, limits=limits) as town:
        (silent,) = town.leaves
        async with open_node(None, [url("relay-0")], network=town.network) as node:
            await until(lambda: relays_of(node))
            town.network.partition(["host-1"])
            await node.send(silent.id if reachable else UNKNOWN, "nobody hears this")
            await trio.sleep(0.1)
            began = trio.current_time()
        waited = trio.current_time() - began
        assert (limits.close_timeout <= waited < limits.close_timeout + 0.1) if reachable else waited < 0.1
        assert count(node, "session_waiting_closed") == 1


async def test_what_waits_for_a_link_at_the_end_is_counted(autojump_clock: MockClock) -> None:
    async with open_node(None, network=MemoryNetwork()) as node:
        node.send_nowait(UNKNOWN, 1)
    assert count(node, "unlinked_closed") == 1


async def test_node_alone_ends_at_once(autojump_clock: MockClock) -> None:
    async with open_node("here", [url("nowhere")], network=MemoryNetwork()):
        await trio.sleep(3)
        began = trio.current_time()
    assert trio.current_time() == began


async def test_everything_ends_under_load(autojump_clock: MockClock) -> None:
    """Whatever was under way, no exception leaves the blocks, and nothing waits longer than it may."""
    for seed in range(3):
        network = MemoryNetwork(seed, latency=0.01, jitter=0.01)
        async with network, trio.open_nursery() as nursery:
            with trio.fail_after(20):
                async with open_town(2, 3, network=network) as town:

                    async def chat(node: Node, peers: list[Node]) -> None:
                        try:
                            while True:
                                for peer in peers:
                                    await node.send(peer.id, bytes(1000))
                                    await node.deliver(peer.id, 1)
                        except trio.ClosedResourceError:
                            pass

                    for node in town.leaves:
                        nursery.start_soon(chat, node, [peer for peer in town.leaves if peer is not node])
                    await trio.sleep(0.5 + seed / 7)
                    assert all(count(node, "messages_received") > 8 for node in town.leaves)
                    began = trio.current_time()
            assert trio.current_time() - began < 10
