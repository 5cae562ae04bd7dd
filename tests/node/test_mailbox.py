"""The mailbox: its bounds, what a full one answers, and its end."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_relay import Limits, MailboxFull, open_node
from trio_relay.testing import MemoryNetwork

from .support import count, open_town, relays_of, take, until, url


async def test_full_mailbox_answers_busy_and_takes_the_message_when_there_is_room(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    small = Limits(mailbox_messages=2)
    async with (
        open_node("hub", network=network),
        open_node(None, [url("hub")], network=network, limits=small) as bob,
        open_node(None, [url("hub")], network=network) as alice,
    ):
        await until(lambda: relays_of(alice) and relays_of(bob))
        for number in range(2):
            await alice.deliver(bob.id, number)
        with pytest.raises(MailboxFull) as caught:
            await alice.deliver(bob.id, 2, timeout=5)
        assert caught.value.outcome == "not_delivered"
        assert count(bob, "mailbox_full") >= 2

        async with trio.open_nursery() as nursery:
            nursery.start_soon(alice.deliver, bob.id, 3)
            await trio.sleep(3)
            assert await take(bob, 3) == [0, 1, 3]
        assert bob.statistics().sizes["mailbox_messages"] == 0


async def test_full_mailbox_drops_what_needs_no_confirmation_and_counts_it(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    small = Limits(mailbox_messages=3)
    async with (
        open_node("hub", network=network, limits=small) as hub,
        open_node(None, [url("hub")], network=network) as alice,
    ):
        await alice.wait_linked()
        for number in range(10):
            await alice.send(hub.id, number)
        await until(lambda: count(hub, "mailbox_full") == 7)
        assert await take(hub, 3) == [0, 1, 2]


async def test_mailbox_is_bounded_in_bytes_too(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    small = Limits(mailbox_bytes=10_000)
    async with (
        open_node("hub", network=network, limits=small) as hub,
        open_node(None, [url("hub")], network=network) as alice,
    ):
        await alice.wait_linked()
        for _ in range(4):
            await alice.send(hub.id, bytes(3000))
        await until(lambda: count(hub, "mailbox_full") == 1)
        assert hub.statistics().sizes["mailbox_messages"] == 3
        assert hub.statistics().sizes["mailbox_bytes"] <= 10_000
        await take(hub, 3)
        assert hub.statistics().sizes["mailbox_bytes"] == 0


async def test_full_own_mailbox_refuses_a_message_to_oneself(autojump_clock: MockClock) -> None:
    async with open_node(None, network=MemoryNetwork(), limits=Limits(mailbox_messages=1)) as node:
        await node.deliver(node.id, 1)
        with trio.fail_after(60), pytest.raises(MailboxFull) as caught:
            await node.deliver(node.id, 2, timeout=5)
        assert caught.value.outcome == "not_delivered"


async def test_iteration_ends_with_the_node_and_takes_what_is_left(autojump_clock: MockClock) -> None:
    async with open_node(None, network=MemoryNetwork()) as node:
        for number in range(3):
            await node.deliver(node.id, number)
    assert [message.data async for message in node] == [0, 1, 2]
    with pytest.raises(trio.EndOfChannel):
        await node.receive()


async def test_receiver_that_waits_is_told_of_the_end(autojump_clock: MockClock) -> None:
    ended = trio.Event()

    async def receive() -> None:
        with pytest.raises(trio.EndOfChannel):
            await node.receive()
        ended.set()

    async with trio.open_nursery() as nursery, open_node(None, network=MemoryNetwork()) as node:
        nursery.start_soon(receive)
        await wait_all_tasks_blocked()
        assert not ended.is_set()
    assert ended.is_set()


async def test_closed_node_refuses_everything(autojump_clock: MockClock) -> None:
    async with open_town(1, 1) as town:
        (leaf,) = town.leaves
        async with open_node(None, [url("relay-0")], network=town.network) as node:
            await node.wait_linked()
        with pytest.raises(trio.ClosedResourceError):
            node.send_nowait(leaf.id, 1)
        for call in (node.send, node.deliver):
            with pytest.raises(trio.ClosedResourceError):
                await call(leaf.id, 1)
        for ask in (node.connect, node.lookup):
            with pytest.raises(trio.ClosedResourceError):
                await ask(leaf.id)
        with trio.fail_after(1), pytest.raises(trio.ClosedResourceError):
            await node.wait_linked()
        await node.disconnect(leaf.id)
        async with node.events() as events:
            assert [event async for event in events] == []
        assert node.links == {}
