"""Peers that send pings and read nothing: what waits for them is bounded, and nothing is mixed up. Real sockets."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest
import trio

from tests.transports.support import take
from tests.transports.test_websocket import client_codec, with_raw_peer
from trio_relay.transports.connection import Buffer
from trio_relay.transports.websocket import WebSocketConnection

PONG_SIZE = 2 + 125


def leftover(connection: WebSocketConnection) -> int:
    """Bytes that the connection keeps because the socket did not take them."""
    assert connection._socket is not None
    left = connection._socket.leftover
    return 0 if left is None else len(left)


def ping_and_message(number: int) -> bytes:
    """A large ping, and a message after it, so that the other side has something to return."""
    codec = client_codec()
    return codec.send_ping(b"%d " % number + bytes(120)) + b"".join(codec.send_binary([b"%d" % number]))


class SlowSocket:
    """Takes the place of the calls that write to a socket: at most `room` bytes go through, then none."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.room = 0
        self._write = os.write
        patch.setattr(os, "writev", self.writev)
        patch.setattr(os, "write", self.write)

    def writev(self, fd: int, buffers: Sequence[Buffer]) -> int:
        return self.write(fd, b"".join(buffers))

    def write(self, fd: int, data: Buffer) -> int:
        if not self.room:
            raise BlockingIOError
        written = self._write(fd, bytes(data)[: self.room])
        self.room -= written
        return written


async def flood(peer: trio.SocketStream, connection: WebSocketConnection, number: int) -> None:
    """So many pings, each of them read before the next is sent."""
    for index in range(number):
        await peer.send_all(ping_and_message(index))
        assert await take(connection) == [b"%d" % index]


async def read_messages(peer: trio.SocketStream, number: int, end: bytes) -> tuple[bytes, list[bytes]]:
    """Everything up to `end`, and the messages in it, of which there are so many."""
    codec, data, messages = client_codec(), b"", list[bytes]()
    with trio.fail_after(10):
        while len(messages) < number or not data.endswith(end):
            chunk = bytes(await peer.receive_some(1 << 20))
            data += chunk
            messages += [bytes(message) for message in codec.receive_data(chunk) if isinstance(message, bytes)]
    assert codec.failure is None
    return data, messages


async def test_pings_behind_a_message_that_does_not_leave_are_answered_by_one_pong() -> None:
    async with with_raw_peer() as (peer, connection):
        sent = [b"%7d" % 0 + bytes(50_000)]
        while connection.send_nowait([sent[-1]]):
            sent.append(b"%7d" % len(sent) + bytes(50_000))
        kept = leftover(connection)
        assert kept > PONG_SIZE
        await flood(peer, connection, 500)
        assert leftover(connection) == kept
        assert connection.control_pending
        with pytest.raises(trio.BusyResourceError):
            connection.send_nowait([b"more"])
        last = b"\x8a\x7c499 " + bytes(120)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.flush)
            data, messages = await read_messages(peer, len(sent), last)
        assert messages == sent
        assert data.count(b"\x8a\x7c") == 1
        assert not connection.control_pending


async def test_a_pong_that_does_not_leave_holds_up_one_message_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    async with with_raw_peer() as (peer, connection):
        with monkeypatch.context() as patch:
            slow = SlowSocket(patch)
            await flood(peer, connection, 300)
            assert 0 < leftover(connection) <= PONG_SIZE
            slow.room = 50
            await flood(peer, connection, 300)
            # The first pong was begun, so it goes on; of the others only the newest counts.
            assert 0 < leftover(connection) <= PONG_SIZE - 50
            slow.room = 100
            await flood(peer, connection, 300)
            # The first one is through, another was begun.
            assert slow.room == 0
            assert 0 < leftover(connection) <= PONG_SIZE
            assert not connection.send_nowait([b"first"])
            kept = leftover(connection)
            with pytest.raises(trio.BusyResourceError):
                connection.send_nowait([b"second"])
            await flood(peer, connection, 300)
            assert leftover(connection) == kept <= 2 * PONG_SIZE + 7
        await connection.flush()
        await connection.send([b"second"])
        data, messages = await read_messages(peer, 2, b"second")
        assert messages == [b"first", b"second"]
        assert data.count(b"\x8a") == 4
        assert not connection.control_pending


async def test_a_pong_leaves_as_soon_as_the_socket_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with with_raw_peer() as (peer, connection):
        with monkeypatch.context() as patch:
            SlowSocket(patch)
            await flood(peer, connection, 3)
            assert connection.control_pending
        # No message is sent, and nobody flushes: the next ping is enough.
        await flood(peer, connection, 1)
        data, _ = await read_messages(peer, 0, b"\x8a\x7a0 " + bytes(120))
        assert data.startswith(b"\x8a\x7a0 ")
        assert not connection.control_pending
