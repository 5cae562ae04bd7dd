"""Messages of one turn of the loop leave joined, the first of them at once; and other tasks have their turns."""

from __future__ import annotations

import select
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_relay import Node, PeerUnreachable, open_node
from trio_relay.wire.frame import Kind, parse_frames_untrusted

from .raw_peer import RawPeer, open_raw_peer
from .support import UNKNOWN, count, open_town, until


@asynccontextmanager
async def open_pair() -> AsyncIterator[tuple[Node, RawPeer]]:
    """A node over a real socket, and a neighbour that shows what it reads; the node has nothing to say any more."""
    async with open_node(sealed=False) as node, open_raw_peer(node.urls[0]) as peer:
        await until(lambda: peer.id in node.links)
        await peer.ping(node.id)
        yield node, peer


async def read(peer: RawPeer, number: int) -> tuple[list[int], int]:
    """So many DATA payloads as numbers, and how many WebSocket messages they came in."""
    numbers: list[int] = []
    messages = 0
    with trio.fail_after(5):
        while len(numbers) < number:
            data = [f.payload[1:] for f in parse_frames_untrusted(await peer.message()) if f.kind == Kind.DATA]
            numbers += map(int, data)
            messages += bool(data)
    return numbers, messages


def is_readable(peer: RawPeer) -> bool:
    """Whether the kernel has bytes for it."""
    stream = peer.connection._stream
    assert isinstance(stream, trio.SocketStream)
    return bool(select.select([stream.socket.fileno()], [], [], 0)[0])


async def test_messages_of_one_turn_leave_joined_and_in_order() -> None:
    """One at once, then 32 at a time."""
    async with open_pair() as (node, peer):
        await wait_all_tasks_blocked()
        for number in range(100):
            node.send_nowait(peer.id, b"%d" % number)
        numbers, messages = await read(peer, 100)
        assert numbers == list(range(100))
        assert messages == 1 + 4


async def test_the_first_message_leaves_at_once_and_the_next_when_no_more_follow() -> None:
    async with open_pair() as (node, peer):
        await wait_all_tasks_blocked()
        for number in range(3):
            assert not is_readable(peer)
            node.send_nowait(peer.id, b"%d" % (2 * number))
            assert is_readable(peer)
            node.send_nowait(peer.id, b"%d" % (2 * number + 1))
            assert await read(peer, 1) == ([2 * number], 1)
            assert await read(peer, 1) == ([2 * number + 1], 1)
            await wait_all_tasks_blocked()


async def test_what_waits_for_the_end_of_a_turn_is_bounded_in_bytes() -> None:
    async with open_pair() as (node, peer):
        await wait_all_tasks_blocked()
        for number in range(6):
            node.send_nowait(peer.id, str(number).ljust(9_000).encode())
        numbers, messages = await read(peer, 6)
        assert numbers == list(range(6))
        assert messages == 1 + 3


@pytest.mark.parametrize("size", [0, 20, 200, 2000])
async def test_what_a_peer_that_does_not_read_is_sent_blocks_and_is_not_lost(size: int) -> None:
    """`send_nowait` says so before the backlog is full, however small the messages are."""
    async with open_pair() as (node, peer):
        with suppress(trio.WouldBlock):
            for _ in range(200_000):
                node.send_nowait(peer.id, bytes(size))
        assert 100 < count(node, "messages_sent") < 200_000
        assert count(node, "backlog_full") == 0


async def test_timers_run_while_the_application_sends_without_end(mock_clock: MockClock) -> None:
    mock_clock.rate = 1000
    async with open_town(1, 1) as town, trio.open_nursery() as nursery:
        (leaf,), (relay,) = town.leaves, town.relays
        mock_clock.rate = 0

        async def flood() -> None:
            while True:
                await leaf.send(relay.id, b"")
                mock_clock.jump(0.001)

        nursery.start_soon(flood)
        with trio.fail_after(5), pytest.raises(PeerUnreachable):
            await leaf.deliver(UNKNOWN, b"", timeout=1)
        nursery.cancel_scope.cancel()
