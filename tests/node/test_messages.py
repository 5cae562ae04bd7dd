"""Messages between nodes in one process: kinds of data, confirmation, bounds, and the end of the mailbox."""

from __future__ import annotations

import logging

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from trio_relay import (
    DeliveryError,
    Limits,
    LocalProtocolError,
    Message,
    NoAcknowledgement,
    NodeId,
    PayloadTooLarge,
    PeerUnreachable,
    SessionTimeout,
    open_node,
)
from trio_relay.testing import MemoryNetwork
from trio_relay.wire.content import Data

from .support import UNKNOWN, count, identity, open_town, relays_of, take, until, url

EVERY_KIND: list[Data] = [
    b"",
    b"\x00\xff" * 10,
    None,
    True,
    0,
    -1.5,
    "",
    "schön \U0001f600",
    [],
    {},
    {"a": [1, {"b": None}], "": "x"},
]


async def test_leaves_exchange_messages_through_a_relay_that_they_share(autojump_clock: MockClock) -> None:
    async with open_town(1, 2) as town:
        alice, bob = town.leaves
        assert bob.id not in alice.links
        await alice.send(bob.id, b"hello")
        assert await bob.receive() == Message(b"hello", alice.id, proven=True)
        await bob.send(alice.id, "hello yourself")
        assert await alice.receive() == Message("hello yourself", bob.id, proven=True)


async def test_without_sealing_messages_arrive_and_only_neighbours_are_proven(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    async with (
        open_node("relay", network=network, sealed=False) as relay,
        open_node(None, [url("relay")], network=network, sealed=False) as alice,
        open_node(None, [url("relay")], network=network, sealed=False) as bob,
    ):
        await until(lambda: relays_of(alice) and relays_of(bob))
        assert (await alice.deliver(bob.id, "hello")).hops == 2
        assert await bob.receive() == Message("hello", alice.id, proven=False)
        await alice.deliver(relay.id, "hello")
        assert await relay.receive() == Message("hello", alice.id, proven=True)
        with pytest.raises(LocalProtocolError, match="opened with sealed=False"):
            await alice.send(bob.id, "secret", sealed=True)


async def test_neighbour_is_a_proven_sender(autojump_clock: MockClock) -> None:
    async with open_town(1, 1) as town:
        await town.leaves[0].send(town.relays[0].id, 1)
        assert await town.relays[0].receive() == Message(1, town.leaves[0].id, proven=True)


@pytest.mark.parametrize("data", EVERY_KIND, ids=repr)
async def test_every_kind_of_data_arrives_as_it_was_sent(autojump_clock: MockClock, data: Data) -> None:
    async with open_town(1, 2) as town:
        alice, bob = town.leaves
        await alice.deliver(bob.id, data)
        received = (await bob.receive()).data
        assert received == data
        assert type(received) is type(data)


@pytest.mark.parametrize(
    "data", [object(), {1: 2}, {b"x"}, float("nan")], ids=["object", "number as key", "set", "NaN"]
)
async def test_what_is_neither_bytes_nor_json_is_refused(autojump_clock: MockClock, data: Data) -> None:
    async with open_node(None, network=MemoryNetwork()) as node:
        with pytest.raises(LocalProtocolError):
            await node.send(UNKNOWN, data)
        with pytest.raises(LocalProtocolError):
            await node.deliver(UNKNOWN, data)
        with pytest.raises(LocalProtocolError):
            node.send_nowait(UNKNOWN, data)


async def test_largest_payload_fits_and_one_byte_more_does_not(autojump_clock: MockClock) -> None:
    async with open_town(1, 2) as town:
        alice, bob = town.leaves
        largest = bytes(Limits().payload)
        await alice.deliver(bob.id, largest)
        assert (await bob.receive()).data == largest
        with pytest.raises(PayloadTooLarge, match="61440 bytes, not 61441"):
            await alice.send(bob.id, largest + b"x")


@pytest.mark.parametrize(
    ("wrong", "error"), [("0" * 40, TypeError), (b"short", ValueError), (bytes(21), ValueError), (None, TypeError)]
)
async def test_receiver_must_be_an_id(autojump_clock: MockClock, wrong: NodeId, error: type[Exception]) -> None:
    async with open_node(None, network=MemoryNetwork()) as node:
        for call in (node.send, node.deliver):
            with pytest.raises(error):
                await call(wrong, b"")
        with pytest.raises(error):
            node.send_nowait(wrong, b"")
        for ask in (node.connect, node.disconnect, node.lookup):
            with pytest.raises(error):
                await ask(wrong)


async def test_receipt_counts_links_and_time(autojump_clock: MockClock) -> None:
    async with MemoryNetwork(latency=0.05) as network, open_town(1, 2, network=network) as town:
        (relay,), (alice, bob) = town.relays, town.leaves
        far, near = await alice.deliver(bob.id, 1), await alice.deliver(relay.id, 2)
        assert (far.hops, near.hops) == (2, 1)
        assert far.rtt == pytest.approx(0.2)
        assert near.rtt == pytest.approx(0.1)


async def test_message_to_oneself(autojump_clock: MockClock) -> None:
    async with open_node(None, network=MemoryNetwork()) as node:
        receipt = await node.deliver(node.id, [1])
        assert receipt.hops == 0
        node.send_nowait(node.id, b"2")
        await node.send(node.id, "3")
        own = [await node.receive() for _ in range(3)]
        assert [message.data for message in own] == [[1], b"2", "3"]
        assert all(message.sender == node.id and message.proven for message in own)


async def test_every_waiting_call_is_a_checkpoint(autojump_clock: MockClock) -> None:
    async with open_town(1, 1) as town:
        (leaf,), (relay,) = town.leaves, town.relays
        with assert_checkpoints():
            await leaf.send(leaf.id, 1)
        with assert_checkpoints():
            await leaf.deliver(leaf.id, 1)
        with assert_checkpoints():
            await leaf.receive()
        with assert_checkpoints():
            await leaf.wait_linked()
        with assert_checkpoints():
            await leaf.connect(relay.id)
        with assert_checkpoints():
            await leaf.lookup(relay.id)
        with assert_checkpoints():
            await leaf.disconnect(relay.id)


# Before the first link


async def test_messages_wait_for_the_first_link(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    async with open_node(None, [url("hub")], network=network) as node:
        hub = identity("hub")
        for number in range(3):
            await node.send(hub.id, number)
        await trio.sleep(1)
        async with open_node("hub", identity=hub, network=network) as other:
            assert await take(other, 3) == [0, 1, 2]


async def test_messages_that_wait_too_long_expire_and_are_counted(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    limits = Limits(unlinked_wait=100)
    async with open_node(None, [url("hub")], network=network, limits=limits) as node:
        hub = identity("hub")
        await node.send(hub.id, "too early")
        await trio.sleep(95)
        await node.send(hub.id, "in time")
        await trio.sleep(6)
        assert count(node, "unlinked_expired") == 1
        async with open_node("hub", identity=hub, network=network) as other:
            assert await take(other, 1) == ["in time"]


async def test_only_so_many_messages_wait(autojump_clock: MockClock) -> None:
    limits = Limits(unlinked_messages=4)
    async with open_node(None, network=MemoryNetwork(), limits=limits) as node:
        for number in range(4):
            node.send_nowait(UNKNOWN, number)
        with pytest.raises(trio.WouldBlock):
            node.send_nowait(UNKNOWN, 4)
        began = trio.current_time()
        with trio.fail_after(100):
            await node.send(UNKNOWN, 4)
        assert trio.current_time() - began == pytest.approx(limits.unlinked_wait)
        assert count(node, "unlinked_expired") == 4
        node.send_nowait(node.id, "oneself is always reachable")


async def test_message_without_a_way_is_counted(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    async with open_node("a", network=network) as one, open_node(None, [url("a")], network=network) as leaf:
        await leaf.wait_linked()
        await until(lambda: leaf.id in one.links)
        await one.send(UNKNOWN, b"the only link leads to a leaf")
        assert one.statistics().sizes["session_waiting"] == 1
        await trio.sleep(Limits().session_timeout + 0.1)
        assert count(one, "session_waiting_expired") == 1
        assert one.statistics().sizes["session_waiting"] == 0


async def test_plain_message_without_a_way_is_counted(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    async with (
        open_node("a", network=network, sealed=False) as one,
        open_node(None, [url("a")], network=network) as leaf,
    ):
        await leaf.wait_linked()
        await until(lambda: leaf.id in one.links)
        await one.send(UNKNOWN, b"the only link leads to a leaf")
        assert count(one, "no_way") == 1


# Confirmation


async def test_unknown_peer_is_unreachable_and_nothing_was_delivered(autojump_clock: MockClock) -> None:
    """Relays say that there is no way, and prove nothing; but without a session nothing has left."""
    async with open_town(2, 1) as town:
        with pytest.raises(PeerUnreachable) as caught:
            await town.leaves[0].deliver(UNKNOWN, 1, timeout=5)
        assert caught.value.outcome == "not_delivered"
        assert count(town.leaves[0], "unreachable_hints") > 0


async def test_peer_that_is_gone_is_unreachable_and_the_outcome_is_unknown(autojump_clock: MockClock) -> None:
    """The relays that say so may as well have passed the message on."""
    async with open_town(2, 1) as town:
        (alice,) = town.leaves
        async with open_node(None, [url("relay-0")], network=town.network) as bob:
            await until(lambda: relays_of(bob))
            await alice.deliver(bob.id, 1)
        with pytest.raises(PeerUnreachable) as caught:
            await alice.deliver(bob.id, 2, timeout=5)
        assert caught.value.outcome == "unknown"


async def test_without_any_link_nothing_is_delivered_and_that_is_certain(autojump_clock: MockClock) -> None:
    async with open_node(None, network=MemoryNetwork()) as node:
        began = trio.current_time()
        with pytest.raises(PeerUnreachable) as caught:
            await node.deliver(UNKNOWN, 1, timeout=7)
        assert caught.value.outcome == "not_delivered"
        assert trio.current_time() - began == pytest.approx(7)


async def test_delivery_begins_before_the_first_link(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    hub = identity("hub")
    async with open_node(None, [url("hub")], network=network) as node, trio.open_nursery() as nursery:

        async def deliver() -> None:
            assert (await node.deliver(hub.id, "patience", timeout=30)).hops == 1
            nursery.cancel_scope.cancel()

        nursery.start_soon(deliver)
        await trio.sleep(4)
        async with open_node("hub", identity=hub, network=network) as other:
            assert await take(other, 1) == ["patience"]
            await trio.sleep_forever()


async def test_receiver_that_went_silent_does_not_acknowledge(autojump_clock: MockClock) -> None:
    async with open_town(1, 2) as town:
        alice, bob = town.leaves
        await alice.deliver(bob.id, 0)
        town.network.partition(["host-2"])
        with pytest.raises(NoAcknowledgement) as caught:
            await alice.deliver(bob.id, 1, timeout=4)
        assert caught.value.outcome == "unknown"
        assert count(alice, "retries") >= 2


async def test_receiver_that_never_answered_got_nothing(autojump_clock: MockClock) -> None:
    async with open_town(1, 2) as town:
        alice, bob = town.leaves
        town.network.partition(["host-2"])
        with pytest.raises(SessionTimeout) as caught:
            await alice.deliver(bob.id, 1, timeout=4)
        assert caught.value.outcome == "not_delivered"
        assert count(alice, "retries") == 0


async def test_delivery_that_the_caller_gave_up_leaves_nothing_behind(autojump_clock: MockClock) -> None:
    async with open_town(1, 1) as town:
        (leaf,) = town.leaves
        with trio.move_on_after(1):
            await leaf.deliver(UNKNOWN, 1)
        assert leaf.statistics().sizes["pending_deliveries"] == 0


async def test_deliveries_wait_for_room(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    limits = Limits(pending_deliveries=2)
    async with open_node(None, network=network, limits=limits) as node, trio.open_nursery() as nursery:
        failures: list[tuple[float, str]] = []

        async def deliver(timeout: float) -> None:
            try:
                await node.deliver(UNKNOWN, 1, timeout=timeout)
            except DeliveryError as error:
                failures.append((trio.current_time() - began, error.outcome))

        began = trio.current_time()
        nursery.start_soon(deliver, 2)
        nursery.start_soon(deliver, 3)
        await wait_all_tasks_blocked()
        nursery.start_soon(deliver, 1)
        nursery.start_soon(deliver, 8)
        await wait_all_tasks_blocked()
        assert node.statistics().sizes["pending_deliveries"] == 2
    assert [at for at, _ in failures] == pytest.approx([1, 2, 3, 8])
    assert {outcome for _, outcome in failures} == {"not_delivered"}


async def test_nothing_is_logged_above_debug(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "trio_relay")
    async with open_town(2, 2) as town:
        await town.leaves[0].deliver(town.leaves[1].id, 1)
    assert caplog.records
    assert all(record.levelno == logging.DEBUG for record in caplog.records)
