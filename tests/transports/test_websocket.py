"""`WebSocketConnection` over real sockets (direct), over TLS and over memory (not direct)."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.transports.support import make_authority, read_all, take
from trio_relay.exceptions import RemoteProtocolError
from trio_relay.limits import Limits
from trio_relay.transports.connection import Connection
from trio_relay.transports.direct import IOVECS
from trio_relay.transports.websocket import WebSocketConnection
from trio_relay.wire.websocket import Role, WebSocketCodec

LIMITS = Limits(close_timeout=0.5)
MASK = b"mask"


def server_over(stream: trio.abc.Stream, limits: Limits = LIMITS) -> WebSocketConnection:
    return WebSocketConnection(stream, Role.SERVER, limits=limits, offered_subprotocol=False)


def client_codec() -> WebSocketCodec:
    return WebSocketCodec(Role.CLIENT, max_message=1 << 24, max_fragments=9, new_mask=lambda: MASK)


async def socket_streams() -> tuple[trio.SocketStream, trio.SocketStream]:
    """Both ends of a TCP connection."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        ours = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        return ours, await listener.accept()


@asynccontextmanager
async def connected(
    kind: str, limits: Limits = LIMITS
) -> AsyncIterator[tuple[WebSocketConnection, WebSocketConnection]]:
    """A client's and a server's connection with each other."""
    near: trio.abc.Stream
    far: trio.abc.Stream
    if kind == "memory":
        near, far = trio.testing.memory_stream_pair()
    else:
        near, far = await socket_streams()
    if kind == "tls":
        authority = make_authority("localhost")
        near = trio.SSLStream(near, authority.client, server_hostname="localhost", https_compatible=True)
        far = trio.SSLStream(far, authority.server, server_side=True, https_compatible=True)
    client = WebSocketConnection(near, Role.CLIENT, limits=limits, offered_subprotocol=True)
    server = server_over(far, limits)
    try:
        yield client, server
    finally:
        client.abort()
        server.abort()


@asynccontextmanager
async def with_raw_peer(limits: Limits = LIMITS) -> AsyncIterator[tuple[trio.SocketStream, WebSocketConnection]]:
    """A plain stream, and the server's connection at its other end."""
    peer, far = await socket_streams()
    async with peer:
        connection = server_over(far, limits)
        try:
            yield peer, connection
        finally:
            connection.abort()


def assert_nothing_pending(connection: Connection) -> None:
    assert not connection.control_pending


KINDS = pytest.mark.parametrize("kind", ["tcp", "tls", "memory"])


@KINDS
async def test_messages_of_both_kinds_arrive_whole_and_in_order(kind: str) -> None:
    sent: list[bytes | str] = [b"", "", bytes(b"a" * 100_000), "\u00fc" * 1000, bytes(range(256))]

    async def send_all(connection: Connection) -> None:
        for message in sent:
            if isinstance(message, str):
                await connection.send([message.encode()], text=True)
            else:
                await connection.send([message[:7], memoryview(message)[7:]])

    async with connected(kind) as (client, server):
        assert client.direct is server.direct is (kind == "tcp")
        for sender, receiver in ((client, server), (server, client)):
            received: list[bytes | str] = []
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send_all, sender)
                while len(received) < len(sent):
                    received += await take(receiver)
            assert received == sent


async def test_addresses() -> None:
    async with connected("tcp") as (client, server):
        assert client.remote == server.local
        assert client.local == server.remote
        assert client.local.startswith("127.0.0.1:")
        assert client.remote in repr(client)


@KINDS
async def test_a_polite_close_reaches_the_other_side(kind: str) -> None:
    async with connected(kind) as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(client.aclose, 4321, "b\u00fce")
        assert await take(server) == []
        assert await take(server) == []
        assert (server.close_code, server.close_reason) == (4321, "b\u00fce")
        await server.aclose()
        await server.aclose()
    assert client.close_code == 4321
    for connection in (client, server):
        with pytest.raises(trio.ClosedResourceError):
            await connection.receive()
        with pytest.raises(trio.ClosedResourceError):
            await connection.send([b"x"])


@KINDS
async def test_closing_while_another_task_receives(kind: str) -> None:
    async with connected(kind) as (client, server), trio.open_nursery() as nursery:
        got: list[list[bytes | str]] = []

        async def receive() -> None:
            got.append(await take(client))

        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(client.aclose)
        assert await take(server) == []
        await server.aclose()
    assert got == [[]]
    assert client.close_code == 1000


@KINDS
async def test_a_peer_that_does_not_answer_a_close_is_left(kind: str) -> None:
    async with connected(kind, Limits(close_timeout=0.05)) as (client, server):
        async with trio.open_nursery() as nursery:
            if kind == "tls":  # the handshake of TLS needs both
                nursery.start_soon(client.send, [b"x"])
                assert await take(server) == [b"x"]
        with trio.fail_after(5):
            await client.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await client.flush()


async def test_a_cancelled_close_still_says_goodbye(autojump_clock: MockClock) -> None:
    near, far = trio.testing.memory_stream_pair()
    connection = server_over(far)
    with trio.CancelScope() as scope:
        scope.cancel()
        await connection.aclose(1001)
    assert trio.current_time() == pytest.approx(LIMITS.close_timeout)
    assert await read_all(near) == b"\x88\x02\x03\xe9"


async def test_messages_after_the_peers_close_are_refused() -> None:
    async with connected("tcp") as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(client.aclose)
        assert await take(server) == []
        with pytest.raises(trio.BrokenResourceError, match="peer closed"):
            server.send_nowait([b"x"])


async def test_the_end_of_the_stream_without_a_close_frame() -> None:
    async with with_raw_peer() as (peer, connection):
        frame = b"".join(client_codec().send_binary([b"last"]))
        await peer.send_all(frame + frame[:3])
        await peer.send_eof()
        assert await take(connection) == [b"last"]
        assert await take(connection) == []
        assert connection.close_code == 1006


async def test_messages_before_a_violation_are_returned_first() -> None:
    async with with_raw_peer() as (peer, connection):
        codec = client_codec()
        frames = [b"".join(codec.send_binary([payload])) for payload in (b"one", b"two")]
        await peer.send_all(b"".join(frames) + b"\xff\xff" + bytes(5000))
        assert await take(connection) == [b"one", b"two"]
        with pytest.raises(RemoteProtocolError) as caught:
            await connection.receive()
        assert caught.value.close_code == 1002
        with trio.fail_after(2):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(connection.aclose)
                answer = await read_all(peer)
                await peer.aclose()
        codec.receive_data(answer)
        assert codec.close_code == 1002


@KINDS
async def test_a_violation_is_answered_with_its_close_code(kind: str) -> None:
    async with connected(kind, Limits(websocket_message=10, close_timeout=0.2)) as (client, server):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send, [bytes(11)])
            with pytest.raises(RemoteProtocolError, match="at most 10 bytes"):
                await server.receive()
        assert await take(client) == []
        assert client.close_code == 1009


async def test_pings_are_answered_without_help() -> None:
    async with with_raw_peer() as (peer, connection):
        codec = client_codec()
        await peer.send_all(codec.send_ping(b"1") + codec.send_ping(b"2") + b"".join(codec.send_binary([b"m"])))
        assert await take(connection) == [b"m"]
        assert not connection.control_pending
        assert await peer.receive_some() == b"\x8a\x012"


@pytest.mark.parametrize("with_message", [True, False])
async def test_over_tls_a_ping_waits_for_flush_or_the_next_message(with_message: bool) -> None:
    near, far = trio.testing.memory_stream_pair()
    connection = server_over(far)
    codec = client_codec()
    await near.send_all(codec.send_ping(b"1") + b"".join(codec.send_binary([b"m"])))
    assert await take(connection) == [b"m"]
    assert connection.control_pending
    if with_message:
        await connection.send([b"x"])
    else:
        await connection.flush()
    assert_nothing_pending(connection)
    assert await near.receive_some() == b"\x8a\x011" + (b"\x82\x01x" if with_message else b"")
    connection.abort()


async def test_over_tls_pings_are_answered_while_nothing_else_is_sent() -> None:
    async with connected("tls") as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(server.receive)
        await client._stream.send_all(client._codec.send_ping(b"1"))
        assert await client._stream.receive_some() == b"\x8a\x011"
        await client.send([b"end"])


async def test_over_streams_reading_goes_on_while_a_writer_waits() -> None:
    near, far = trio.testing.lockstep_stream_pair()
    connection = server_over(far)
    codec = client_codec()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.send, [b"slow"])
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(near.send_all, codec.send_ping(b"1") + b"".join(codec.send_binary([b"m"])))
        assert await take(connection) == [b"m"]
        assert codec.receive_data(bytes(await near.receive_some())) == [b"slow"]
        assert await near.receive_some() == b"\x8a\x011"
    connection.abort()


async def test_a_peer_that_pings_and_does_not_read_breaks_its_connection(autojump_clock: MockClock) -> None:
    near, far = trio.testing.lockstep_stream_pair()
    connection = server_over(far)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(near.send_all, client_codec().send_ping(b"1"))
        with pytest.raises(trio.BrokenResourceError):
            await connection.receive()
    assert trio.current_time() == pytest.approx(LIMITS.dead_after)
    connection.abort()


async def test_a_pong_that_was_not_taken_goes_before_the_next_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def take_nothing(fd: int, buffers: object) -> int:
        raise BlockingIOError

    async with with_raw_peer() as (peer, connection):
        codec = client_codec()
        await peer.send_all(codec.send_ping(b"1") + b"".join(codec.send_binary([b"m"])))
        with monkeypatch.context() as full:
            full.setattr(os, "writev", take_nothing)
            assert await take(connection) == [b"m"]
            assert connection.control_pending
        assert connection.send_nowait([b"x"])
        assert await peer.receive_some() == b"\x8a\x011\x82\x01x"
        assert_nothing_pending(connection)


async def test_a_pong_that_was_not_taken_is_flushed(monkeypatch: pytest.MonkeyPatch) -> None:
    def take_nothing(fd: int, buffers: object) -> int:
        raise BlockingIOError

    async with with_raw_peer() as (peer, connection):
        codec = client_codec()
        await peer.send_all(codec.send_ping(b"1") + b"".join(codec.send_binary([b"m"])))
        with monkeypatch.context() as full:
            full.setattr(os, "writev", take_nothing)
            assert await take(connection) == [b"m"]
        await connection.flush()
        assert await peer.receive_some() == b"\x8a\x011"
        assert_nothing_pending(connection)


async def test_a_peer_that_reads_nothing() -> None:
    async with with_raw_peer() as (peer, connection):
        payload = bytes(60_000)
        sent = 1
        while connection.send_nowait([payload]):
            sent += 1
        assert connection.control_pending
        with pytest.raises(trio.BusyResourceError):
            connection.send_nowait([b"x"])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.flush)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError):
                await connection.flush()
            # It is still served: nothing but its own connection waits.
            received = client_codec()
            total = 0
            while total < sent:
                total += len(received.receive_data(await peer.receive_some(1 << 20)))
        assert total == sent


async def test_pings_during_a_partial_write_do_not_cut_into_the_message() -> None:
    async with with_raw_peer() as (peer, connection):
        codec = client_codec()
        payload = os.urandom(50_000)
        sent = 1
        while connection.send_nowait([payload]):
            sent += 1
        await peer.send_all(codec.send_ping(b"p") + b"".join(codec.send_binary([b"m"])))
        assert await take(connection) == [b"m"]
        pongs = b""
        messages: list[object] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.flush)
            while len(messages) < sent:
                pongs = await peer.receive_some(1 << 20)
                messages += codec.receive_data(pongs)
            if not pongs.endswith(b"\x8a\x01p"):
                assert await peer.receive_some() == b"\x8a\x01p"
        assert messages == [payload] * sent
        assert not connection.control_pending
        assert codec.failure is None


async def test_abort_wakes_both_directions() -> None:
    async with with_raw_peer() as (_, connection):
        while connection.send_nowait([bytes(60_000)]):
            pass
        caught: list[str] = []

        async def expect_closed(name: str) -> None:
            with pytest.raises(trio.ClosedResourceError):
                await getattr(connection, name)()
            caught.append(name)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(expect_closed, "receive")
            nursery.start_soon(expect_closed, "flush")
            await trio.testing.wait_all_tasks_blocked()
            connection.abort()
            connection.abort()
        assert sorted(caught) == ["flush", "receive"]


async def test_nothing_is_written_to_a_reused_descriptor() -> None:
    async with with_raw_peer() as (_, connection):
        descriptor = connection._stream.socket.fileno()  # type: ignore[attr-defined]
        while connection.send_nowait([bytes(60_000)]):
            pass
        async with trio.open_nursery() as nursery:

            async def flush() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await connection.flush()

            nursery.start_soon(flush)
            await trio.testing.wait_all_tasks_blocked()
            connection.abort()
            ours, theirs = socket.socketpair()
            # The lowest free number is taken, which abort has just set free.
            assert descriptor in (ours.fileno(), theirs.fileno())
        with ours, theirs:
            with pytest.raises(trio.ClosedResourceError):
                connection.send_nowait([b"stray"])
            with pytest.raises(trio.ClosedResourceError):
                await connection.send([b"stray"])
            with pytest.raises(trio.ClosedResourceError):
                await connection.receive()
            await connection.aclose()
            for end in (ours, theirs):
                end.setblocking(False)
                with pytest.raises(BlockingIOError):
                    end.recv(1)


@KINDS
async def test_an_interrupted_write_breaks_the_connection(kind: str) -> None:
    async with connected(kind) as (client, server):
        if kind == "memory":
            near, _ = trio.testing.lockstep_stream_pair()
            client = WebSocketConnection(near, Role.CLIENT, limits=LIMITS, offered_subprotocol=True)
        if kind == "tls":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.send, [b"x"])
                await server.receive()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:

                async def send() -> None:
                    while True:
                        await client.send([bytes(60_000)])

                nursery.start_soon(send)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        with pytest.raises(trio.BrokenResourceError):
            await client.send([b"x"])
        with trio.fail_after(0.2):
            await client.aclose()
        client.abort()


async def test_a_send_cancelled_before_it_began_breaks_nothing() -> None:
    async with connected("tcp") as (client, server):
        with trio.CancelScope() as scope:
            scope.cancel()
            await client.send([b"never"])
        await client.send([b"x"])
        assert await take(server) == [b"x"]


async def test_a_cancelled_receive_loses_nothing() -> None:
    async with connected("tcp") as (client, server):
        with trio.move_on_after(0):
            await server.receive()
        client.send_nowait([b"x"])
        assert await take(server) == [b"x"]


async def test_a_reset_breaks_both_directions() -> None:
    async with with_raw_peer() as (peer, connection):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await peer.aclose()
        with pytest.raises(trio.BrokenResourceError):
            await connection.receive()
        with pytest.raises(trio.BrokenResourceError):
            connection.send_nowait([b"x"])
        await connection.aclose()


async def test_a_reset_while_closing_is_no_error() -> None:
    async with with_raw_peer() as (peer, connection), trio.open_nursery() as nursery:
        nursery.start_soon(connection.aclose)
        await trio.testing.wait_all_tasks_blocked()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await peer.aclose()
    with pytest.raises(trio.ClosedResourceError):
        connection.send_nowait([b"x"])


async def test_two_receivers_are_one_too_many() -> None:
    async with connected("tcp") as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(client.receive)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await client.receive()
        server.send_nowait([b"x"])


async def test_many_pieces_are_one_message() -> None:
    async with connected("tcp") as (client, server):
        pieces = [b"%d," % number for number in range(3 * IOVECS)]
        assert server.send_nowait(pieces)
        assert await take(client) == [b"".join(pieces)]


async def test_pieces_may_change_once_they_were_taken() -> None:
    async with with_raw_peer() as (peer, connection):
        piece = bytearray(b"a" * 60_000)
        sent = 1
        while connection.send_nowait([piece]):
            sent += 1
        piece[:] = b"b" * 60_000
        codec = client_codec()
        messages: list[object] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.flush)
            while len(messages) < sent:
                messages += codec.receive_data(await peer.receive_some(1 << 20))
        assert messages[-1] == b"a" * 60_000


@pytest.mark.parametrize("kind", ["tls", "memory"])
async def test_only_direct_connections_are_written_without_waiting(kind: str) -> None:
    async with connected(kind) as (client, _):
        with pytest.raises(RuntimeError, match="direct"):
            client.send_nowait([b"x"])


async def test_bytes_after_the_handshake_come_first() -> None:
    peer, far = await socket_streams()
    frame = b"".join(client_codec().send_binary([b"early"]))
    connection = WebSocketConnection(
        far, Role.SERVER, limits=LIMITS, offered_subprotocol=False, received=frame + frame[:5]
    )
    async with peer:
        assert await take(connection) == [b"early"]
        await peer.send_all(frame[5:])
        assert await take(connection) == [b"early"]
        connection.abort()


async def test_waiting_methods_are_checkpoints() -> None:
    async with connected("tcp") as (client, server):
        with trio.testing.assert_checkpoints():
            await client.send([b"x"])
        with trio.testing.assert_checkpoints():
            await server.receive()
        with trio.testing.assert_checkpoints():
            await client.flush()
        with trio.testing.assert_no_checkpoints():
            client.send_nowait([b"x"])


async def test_nothing_is_left_to_the_garbage_collector() -> None:
    # Sockets that were not closed warn here, and warnings are errors.
    async with connected("tcp") as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(client.aclose)
        await server.receive()
        await server.aclose()
    del client, server
    assert gc.collect() >= 0


# What relays of text need


@KINDS
async def test_each_piece_a_message(kind: str) -> None:
    sent = [b"a", b"", b"b" * 70_000, b"c" * 200]
    async with connected(kind) as (client, server):
        for sender, receiver in ((client, server), (server, client)):
            received: list[bytes | str] = []
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(sender.send, sent, text=True, each=True))
                while len(received) < len(sent):
                    received += await take(receiver)
            assert received == [text.decode() for text in sent]


@KINDS
async def test_a_ping_is_heard(kind: str) -> None:
    async with connected(kind) as (client, server), trio.open_nursery() as nursery:

        async def answer() -> None:
            while True:
                await client.receive()

        nursery.start_soon(answer)
        await server.send([b"shake hands"])
        server.heard = False
        server.ping_soon()
        if not server.direct:
            assert server.control_pending
            await server.flush()
        assert not server.control_pending
        with trio.fail_after(5):
            while not server.heard:
                with trio.move_on_after(0.01):
                    await server.receive()
        nursery.cancel_scope.cancel()


async def test_a_ping_waits_for_a_message_that_is_being_written() -> None:
    async with with_raw_peer() as (peer, connection):
        while connection.send_nowait([bytes(60_000)]):
            pass
        connection.ping_soon()
        assert connection.control_pending
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.flush)
            data = bytearray()
            while not data.endswith(b"\x89\x00"):
                data += await peer.receive_some()
        assert len(data) % 60_004 == 2
        assert_nothing_pending(connection)


async def test_a_ping_on_a_closed_connection_is_nothing() -> None:
    async with connected("tcp") as (client, _):
        client.abort()
        client.ping_soon()


async def test_raw_texts_arrive_as_bytes() -> None:
    near, far = trio.testing.memory_stream_pair()
    connection = WebSocketConnection(far, Role.SERVER, limits=LIMITS, offered_subprotocol=False, raw=True)
    await near.send_all(b"".join(client_codec().send_text([b"\xff"])))
    assert await take(connection) == [b"\xff"]
    connection.abort()
