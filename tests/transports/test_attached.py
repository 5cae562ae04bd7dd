"""Links over connections of trio-websocket that belong to the embedding program; also interop in both directions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
import trio_websocket
from trio.testing import MockClock

from tests.transports.support import echo, make_authority, serving, take
from trio_relay.exceptions import RemoteProtocolError
from trio_relay.limits import Limits
from trio_relay.transports.attached import AttachedConnection
from trio_relay.transports.dial import dial_websocket
from trio_relay.transports.routes import Route
from trio_relay.transports.upgrade import SUBPROTOCOL

LIMITS = Limits(close_timeout=0.2)


@asynccontextmanager
async def attached_pair(
    limits: Limits = LIMITS, subprotocols: tuple[str, ...] = (SUBPROTOCOL,)
) -> AsyncIterator[tuple[AttachedConnection, AttachedConnection]]:
    """Both ends of a trio-websocket connection in memory: client, server."""
    near, far = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        ends: list[trio_websocket.WebSocketConnection] = []
        # It takes any stream, but its annotation does not say so.
        wrap: Any = trio_websocket.wrap_client_stream

        async def open_client() -> None:
            ends.append(await wrap(nursery, near, "localhost", "/", subprotocols=subprotocols))

        nursery.start_soon(open_client)
        request = await trio_websocket.wrap_server_stream(nursery, far)
        offered = request.proposed_subprotocols
        server = await request.accept(subprotocol=offered[0] if offered else None)
        while not ends:
            await trio.lowlevel.checkpoint()
        client = AttachedConnection(ends[0], limits)
        yield client, AttachedConnection(server, limits)
        nursery.cancel_scope.cancel()


async def test_messages_travel_both_ways() -> None:
    async with attached_pair() as (client, server):
        assert client.transport == server.transport == "attached"
        assert not client.direct
        assert not client.control_pending
        assert client.offered_subprotocol
        assert server.offered_subprotocol
        for sender, receiver in ((client, server), (server, client)):
            await sender.send([b"by", memoryview(b"tes")])
            (message,) = await receiver.receive()
            assert isinstance(message, bytes)
            assert message == b"bytes"
            await sender.send(["te\u00fc".encode()], text=True)
            assert await take(receiver) == ["te\u00fc"]
        await client.flush()
        with pytest.raises(RuntimeError, match="direct"):
            client.send_nowait([b"x"])


async def test_the_subprotocol_may_be_missing() -> None:
    async with attached_pair(subprotocols=()) as (client, server):
        assert not client.offered_subprotocol
        assert not server.offered_subprotocol


async def test_a_polite_close() -> None:
    async with attached_pair() as (client, server):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.aclose, 4000, "done")
            assert await take(server) == []
            assert await take(server) == []
            with pytest.raises(trio.BrokenResourceError, match="peer closed"):
                await server.send([b"x"])
            await server.aclose()
            await server.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await client.receive()
        with pytest.raises(trio.ClosedResourceError):
            await client.send([b"x"])


async def test_a_broken_stream() -> None:
    async with attached_pair() as (client, server):
        await trio.aclose_forcefully(client._connection._stream)
        with pytest.raises(trio.BrokenResourceError):
            await server.receive()
        with pytest.raises(trio.BrokenResourceError):
            await server.send([b"x"])
        await server.aclose()


async def test_a_peer_that_does_not_answer_the_close(autojump_clock: MockClock) -> None:
    near, far = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as opening:
            servers: list[trio_websocket.WebSocketConnection] = []

            async def accept() -> None:
                request = await trio_websocket.wrap_server_stream(nursery, far)
                servers.append(await request.accept())

            opening.start_soon(accept)
            await near.send_all(
                b"GET / HTTP/1.1\r\nhost: h\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
                b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            )
        connection = AttachedConnection(servers[0], LIMITS)
        await connection.aclose()
        assert trio.current_time() == pytest.approx(LIMITS.close_timeout)


async def test_abort_ends_what_is_waiting() -> None:
    async with attached_pair() as (client, server):
        async with trio.open_nursery() as nursery:

            async def expect_closed() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await client.receive()

            nursery.start_soon(expect_closed)
            await trio.testing.wait_all_tasks_blocked()
            client.abort()
            client.abort()
        with pytest.raises(trio.BrokenResourceError):
            await server.receive()
        await server.aclose()
        await client.aclose()


async def test_an_interrupted_send_breaks_the_connection() -> None:
    async with attached_pair() as (client, _):
        with trio.CancelScope() as scope:
            scope.cancel()
            await client.send([b"x"])
        with pytest.raises(trio.BrokenResourceError):
            await client.send([b"x"])
        await client.aclose()


async def test_messages_are_bounded_in_bytes() -> None:
    async with attached_pair(Limits(websocket_message=10)) as (client, server):
        await client.send(["\u00fc".encode() * 6], text=True)
        with pytest.raises(RemoteProtocolError, match="at most 10 bytes, got 12") as caught:
            await server.receive()
        assert caught.value.close_code == 1009


# Interop of our own WebSockets with trio-websocket


@pytest.mark.parametrize("secure", [False, True])
async def test_a_client_of_trio_websocket_at_our_server(secure: bool) -> None:
    authority = make_authority("localhost")
    async with serving([Route("/", upgrade=echo)], tls=authority.server if secure else None) as served:
        url = f"{'wss' if secure else 'ws'}://localhost:{served.port}/"
        async with trio_websocket.open_websocket_url(
            url, ssl_context=authority.client if secure else None, subprotocols=["chat", SUBPROTOCOL]
        ) as socket:
            assert socket.subprotocol == SUBPROTOCOL
            for message in (b"", b"a" * 70_000, "te\u00fc"):
                await socket.send_message(message)
                assert await socket.get_message() == message
            await socket.ping(b"still there?")
        assert socket.closed is not None
        assert socket.closed.code == 1000


@pytest.mark.parametrize("secure", [False, True])
async def test_our_client_at_a_server_of_trio_websocket(secure: bool) -> None:
    async def serve_one(request: trio_websocket.WebSocketRequest) -> None:
        connection = await request.accept(subprotocol=request.proposed_subprotocols[0])
        await connection.ping(b"are you")
        try:
            while True:
                await connection.send_message(await connection.get_message())
        except trio_websocket.ConnectionClosed:
            pass

    authority = make_authority("localhost")
    async with trio.open_nursery() as nursery:
        server = await nursery.start(
            trio_websocket.serve_websocket, serve_one, "127.0.0.1", 0, authority.server if secure else None
        )
        url = f"{'wss' if secure else 'ws'}://localhost:{server.port}"
        connection = await dial_websocket(url, limits=LIMITS, ssl_context=authority.client)
        assert connection.offered_subprotocol
        messages: tuple[bytes | str, ...] = (b"", b"a" * 70_000, "te\u00fc")
        async with trio.open_nursery() as exchange:

            async def send() -> None:
                for message in messages:
                    if isinstance(message, str):
                        await connection.send([message.encode()], text=True)
                    else:
                        await connection.send([message])

            received: list[object] = []
            exchange.start_soon(send)
            while len(received) < len(messages):
                received += await connection.receive()
        assert received == list(messages)
        await connection.aclose()
        assert connection.close_code == 1000
        nursery.cancel_scope.cancel()
