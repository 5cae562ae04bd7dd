"""Links as the application sees them: events, direct links on request, lookups, admission, statistics."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_relay import (
    Event,
    EventsLost,
    Limits,
    LinkDown,
    LinkUp,
    NegotiationFailed,
    Node,
    NodeId,
    PeerUnreachable,
    SessionTimeout,
    open_node,
)
from trio_relay.testing import MemoryNetwork

from .support import UNKNOWN, count, identity, open_town, relays_of, take, until, url

# What there is


async def test_links_say_who_and_how(autojump_clock: MockClock) -> None:
    async with open_town(1, 1) as town:
        (relay,), (leaf,) = town.relays, town.leaves
        await until(lambda: leaf.links[relay.id].rtt is not None)
        ours, theirs = leaf.links[relay.id], relay.links[leaf.id]
        assert (ours.id, ours.transport, ours.role, ours.dialled) == (relay.id, "memory", "relay", True)
        assert (theirs.id, theirs.transport, theirs.role, theirs.dialled) == (leaf.id, "memory", "leaf", False)
        assert ours.remote == "relay-0:0"
        assert ours.backlog == 0
        assert ours.since <= trio.current_time()
        assert repr(leaf) == f"<Node {leaf.id[:4].hex()}, 1 links, leaf>"
        assert repr(relay).endswith("relay>")


async def test_node_without_a_listener_has_no_addresses(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    async with open_node(None, network=network) as leaf, open_node("here", network=network) as relay:
        assert leaf.urls == ()
        assert relay.urls == ("memory://here",)
        assert leaf.links == relay.links == {}


async def test_advertised_addresses_are_told_instead_of_the_bound_one(autojump_clock: MockClock) -> None:
    async with open_node("here", advertise=["memory://there", "memory://yonder"], network=MemoryNetwork()) as node:
        assert node.urls == ("memory://there", "memory://yonder")
        assert (await node.lookup(node.id)).urls == node.urls


async def test_statistics_are_a_value_of_one_moment(autojump_clock: MockClock) -> None:
    async with open_town(1, 2) as town:
        alice, bob = town.leaves
        before = alice.statistics()
        await alice.deliver(bob.id, 1)
        after = alice.statistics()
        assert after.counts["messages_sent"] - before.counts.get("messages_sent", 0) == 1
        assert after.counts["acknowledged"] == 1
        assert bob.statistics().sizes["mailbox_messages"] == 1
        assert (after.links, after.relaying, after.backlog) == (1, False, 0)
        assert town.relays[0].statistics().relaying
        with pytest.raises(dataclasses.FrozenInstanceError):
            after.links = 7  # type: ignore[misc]


def test_limits_are_positive() -> None:
    with pytest.raises(ValueError, match=r"limits\.hops must be positive, not 0"):
        Limits(hops=0)


async def test_wait_linked_counts(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    async with open_node("hub", network=network) as hub, trio.open_nursery() as nursery:
        seen: list[int] = []

        async def watch(number: int) -> None:
            await hub.wait_linked(number)
            seen.append(number)

        for number in (2, 1):
            nursery.start_soon(watch, number)
        await wait_all_tasks_blocked()
        async with open_node(None, [url("hub")], network=network) as first:
            await first.wait_linked()
            await wait_all_tasks_blocked()
            assert seen == [1]
            async with open_node(None, [url("hub")], network=network) as second:
                await second.wait_linked()
                await until(lambda: seen == [1, 2])


# Events


async def test_events_tell_of_links_that_come_and_go(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    async with open_node("hub", network=network) as hub, hub.events() as events:
        async with open_node(None, [url("hub")], network=network) as polite:
            await polite.wait_linked()
            polite_id = polite.id
        async with open_node(None, [url("hub")], network=network) as rude:
            await rude.wait_linked()
            await until(lambda: rude.id in hub.links)
            network.kill("host-2")
            seen = [await anext(events) for _ in range(4)]
            assert seen == [
                LinkUp(polite_id, "memory"),
                LinkDown(polite_id, "shutdown"),
                LinkUp(rude.id, "memory"),
                LinkDown(rude.id, "connection lost"),
            ]


async def test_subscriber_that_does_not_read_is_told_what_it_lost(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    limits = Limits(event_buffer=4)
    async with open_node("hub", network=network, limits=limits) as hub, hub.events() as slow, hub.events() as quick:
        all_events: list[Event] = []
        for _ in range(5):
            async with open_node(None, [url("hub")], network=network) as leaf:
                await leaf.wait_linked()
            all_events += [await anext(quick), await anext(quick)]
        assert [await anext(slow) for _ in range(4)] == all_events[:4]
        async with open_node(None, [url("hub")], network=network) as leaf:
            await leaf.wait_linked()
            assert await anext(slow) == EventsLost(6)
            assert await anext(slow) == LinkUp(leaf.id, "memory")


async def test_loss_is_told_even_at_the_end(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    async with open_node("relay-0", network=network) as relay, trio.open_nursery() as nursery:
        seen: list[Event] = []

        async def watch(node: Node, *, task_status: trio.TaskStatus[None]) -> None:
            async with node.events() as events:
                task_status.started()
                await closed.wait()
                seen.extend([event async for event in events])

        closed = trio.Event()
        async with open_node(None, [url("relay-0")], network=network, limits=Limits(event_buffer=1)) as leaf:
            await nursery.start(watch, leaf)
            await leaf.wait_linked()
            network.kill("relay-0")
            await until(lambda: not leaf.links)
            await leaf.wait_linked()
        closed.set()
    assert seen[0] == LinkUp(relay.id, "memory")
    assert isinstance(seen[1], EventsLost)
    assert len(seen) == 2


async def test_events_end_with_the_node(autojump_clock: MockClock) -> None:
    ended = trio.Event()

    async def watch(node: Node) -> None:
        async with node.events() as events:
            assert [event async for event in events] == []
        ended.set()

    async with trio.open_nursery() as nursery:
        async with open_node(None, network=MemoryNetwork()) as node:
            nursery.start_soon(watch, node)
            await wait_all_tasks_blocked()
        with trio.fail_after(1):
            await ended.wait()


# Direct links


async def test_connect_dials_a_peer_that_listens(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    async with (
        open_town(1, 1, network=network) as town,
        open_node("bob", [url("relay-0")], network=network) as bob,
    ):
        (alice,) = town.leaves
        await until(lambda: relays_of(bob))
        await alice.connect(bob.id)
        assert alice.links[bob.id].dialled
        await alice.connect(bob.id)
        assert (await alice.deliver(bob.id, 1)).hops == 1


async def test_connect_asks_a_peer_that_cannot_be_dialled_to_dial_us(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    async with (
        open_town(1, 1, network=network) as town,
        open_node("bob", [url("relay-0")], network=network) as bob,
    ):
        (leaf,) = town.leaves
        await until(lambda: leaf.id in bob.links, seconds=100)
        await bob.disconnect(leaf.id)
        await until(lambda: bob.id not in leaf.links)
        began = trio.current_time()
        await bob.connect(leaf.id)
        assert not bob.links[leaf.id].dialled
        # Left alone, the leaf would have come back later.
        assert trio.current_time() - began < 0.4


async def test_connect_fails_when_neither_side_can_be_dialled(autojump_clock: MockClock) -> None:
    async with open_town(1, 2) as town:
        alice, bob = town.leaves
        with pytest.raises(NegotiationFailed, match="neither side has an address; this node was opened without webrtc"):
            await alice.connect(bob.id)
        assert bob.id not in alice.links
        assert (await alice.deliver(bob.id, "still reachable")).hops == 2


async def test_connect_fails_for_a_peer_that_nobody_knows(autojump_clock: MockClock) -> None:
    async with open_town(2, 1) as town:
        began = trio.current_time()
        with pytest.raises(PeerUnreachable) as caught:
            await town.leaves[0].connect(UNKNOWN)
        assert caught.value.outcome == "not_delivered"
        assert trio.current_time() - began <= Limits().connect_timeout + 0.001


async def test_one_of_two_that_connect_gives_up_and_the_other_waits_on(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    bob = identity("bob")
    async with open_town(1, 1, network=network) as town, trio.open_nursery() as nursery:
        [alice] = town.leaves

        async def give_up() -> None:
            with trio.move_on_after(1):
                await alice.connect(bob.id)
                raise AssertionError("there is nobody yet")

        async def wait_on() -> None:
            await alice.connect(bob.id)
            assert bob.id in alice.links
            nursery.cancel_scope.cancel()

        nursery.start_soon(give_up)
        nursery.start_soon(wait_on)
        await trio.sleep(3)
        assert alice.statistics().sizes["connecting"] == 1
        async with open_node("bob", [url("relay-0")], identity=bob, network=network):
            await trio.sleep(20)
            raise AssertionError("alice did not link with bob")


async def test_connect_refused_by_a_peer_that_disconnected_us(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    async with open_town(1, 1, network=network) as town, open_node("bob", [url("relay-0")], network=network) as bob:
        (alice,) = town.leaves
        await until(lambda: alice.id in bob.links, seconds=100)
        await bob.disconnect(alice.id)
        await until(lambda: bob.id not in alice.links)
        with pytest.raises(NegotiationFailed):
            await alice.connect(bob.id)


async def test_connect_with_oneself_is_a_mistake(autojump_clock: MockClock) -> None:
    async with open_node(None, network=MemoryNetwork()) as node:
        with pytest.raises(ValueError, match="another peer's id"):
            await node.connect(node.id)


async def test_disconnect_is_remembered_for_a_minute(autojump_clock: MockClock) -> None:
    async with open_town(2, 1) as town:
        (leaf,), (first, second) = town.leaves, town.relays
        async with leaf.events() as events:
            await leaf.disconnect(first.id)
            assert await anext(events) == LinkDown(first.id, "disconnected")
            assert first.id not in leaf.links
            await trio.sleep(55)
            assert first.id not in leaf.links
            # The other relay carries everything meanwhile.
            assert (await leaf.deliver(first.id, "by the other way")).hops == 2
            await until(lambda: first.id in leaf.links, seconds=400)
            assert second.id in leaf.links


async def test_connect_takes_a_disconnect_back(autojump_clock: MockClock) -> None:
    async with open_town(2, 1) as town:
        (leaf,), (first, _) = town.leaves, town.relays
        await leaf.disconnect(first.id)
        await leaf.connect(first.id)
        assert first.id in leaf.links


# Lookups


async def test_lookup_finds_the_record_of_a_peer_that_is_no_neighbour(autojump_clock: MockClock) -> None:
    async with open_town(2, 2) as town:
        alice, bob = town.leaves
        await trio.sleep(5)
        record = await alice.lookup(bob.id)
        assert (record.id, record.urls, record.relay) == (bob.id, (), False)
        relay = await alice.lookup(town.relays[0].id)
        assert (relay.urls, relay.relay) == (("memory://relay-0",), True)


async def test_lookup_of_an_unknown_peer(autojump_clock: MockClock) -> None:
    async with open_town(2, 1) as town:
        with pytest.raises(PeerUnreachable):
            await town.leaves[0].lookup(UNKNOWN)
    async with open_node(None, network=MemoryNetwork()) as alone:
        with pytest.raises(PeerUnreachable):
            await alone.lookup(UNKNOWN)


# Admission

Guest = Callable[[NodeId], bool]


@pytest.mark.parametrize("as_function", [False, True], ids=["ids", "function"])
async def test_only_the_admitted_may_link(autojump_clock: MockClock, as_function: bool) -> None:
    network = MemoryNetwork()
    friend = identity("friend")
    admit = (lambda node_id: node_id == friend.id) if as_function else {friend.id}
    async with (
        open_node("hub", admit=admit, network=network) as hub,
        open_node(None, [url("hub")], identity=friend, network=network) as welcome,
        open_node(None, [url("hub")], network=network) as stranger,
    ):
        await welcome.wait_linked()
        await until(lambda: count(stranger, "handshakes_failed") >= 2, seconds=20)
        assert set(hub.links) == {friend.id}
        assert stranger.links == {}
        assert count(hub, "handshakes_failed") >= 2
        await welcome.deliver(hub.id, 1)


@pytest.mark.parametrize("as_function", [False, True], ids=["ids", "function"])
async def test_only_the_admitted_may_send(autojump_clock: MockClock, as_function: bool) -> None:
    async with open_town(1, 2) as town:
        friend, stranger = town.leaves
        admit = (lambda node_id: node_id == friend.id) if as_function else {friend.id}
        async with open_node(None, [url("relay-0")], admit=admit, network=town.network) as careful:
            await until(lambda: relays_of(careful))
            await friend.deliver(careful.id, "hello")
            await stranger.send(careful.id, "let me in")
            with pytest.raises(SessionTimeout):
                await stranger.deliver(careful.id, "please", timeout=3)
            assert count(careful, "not_admitted") >= 3
            assert await take(careful, 1) == ["hello"]
            assert careful.statistics().sizes["mailbox_messages"] == 0


def test_admitted_ids_must_be_ids() -> None:
    async def open_with_text() -> None:
        async with open_node(None, admit={"0" * 40}, network=MemoryNetwork()):  # type: ignore[arg-type]
            pytest.fail("expected a TypeError")

    with pytest.raises(TypeError, match="expected a node id as 20 bytes, not str"):
        trio.run(open_with_text)
