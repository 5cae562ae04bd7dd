"""The time that a handshake may take, counted from the accepted connection: a node's port over a stream in memory."""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.transports.support import make_authority
from trio_relay import Limits
from trio_relay.node.dialler import Dialler
from trio_relay.node.gatekeeper import Gatekeeper
from trio_relay.node.runtime import Runtime
from trio_relay.node.services import open_services
from trio_relay.transports.http import HttpServer
from trio_relay.transports.routes import Route, RouteTable
from trio_relay.transports.transport import WebSocketTransport

from .support import identity

UPGRADE = (
    b"GET / HTTP/1.1\r\nhost: h\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nsec-websocket-protocol: trio-relay.1\r\n\r\n"
)
LIMITS = Limits(handshake_timeout=5.0, http_timeout=5.0)

Stream = trio.StapledStream[trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream]


@asynccontextmanager
async def accepted(tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[Runtime, Stream]]:
    """A running peer, and a connection that it has just accepted."""
    async with open_services() as services:
        transport = WebSocketTransport(LIMITS)
        runtime = Runtime(identity("acceptor"), LIMITS, services, Counter[str](), legacy=False)
        services.start_soon(runtime.route)
        table = RouteTable([Route("/", upgrade=Dialler(runtime, transport).accept)])
        server = HttpServer(table, limits=LIMITS, admission=transport.admission, tls=tls)
        ours, theirs = trio.testing.memory_stream_pair()
        services.start_soon(server.serve_stream, theirs)
        yield runtime, ours
        await ours.aclose()


async def expect_end(runtime: Runtime, stream: trio.abc.Stream, began: float) -> None:
    """Asks for a WebSocket, is greeted, says nothing, and is closed when the time of the handshake is over."""
    await stream.send_all(UPGRADE[20:])
    asked = trio.current_time()
    answer = bytes(await stream.receive_some())
    while b"TRLH" not in answer:
        answer += bytes(await stream.receive_some())
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert trio.current_time() == asked
    # A close frame, or the end of the stream, comes next.
    assert bytes(await stream.receive_some())[:1] in (b"", b"\x88")
    assert trio.current_time() - began == pytest.approx(LIMITS.handshake_timeout)
    assert runtime.counts["handshakes_failed"] == 1
    assert runtime.link_count == 0


@pytest.mark.parametrize("spent", [0.0, 3.0, 4.9])
async def test_what_the_upgrade_took_is_taken_from_the_handshake(spent: float, autojump_clock: MockClock) -> None:
    began = trio.current_time()
    async with accepted() as (runtime, stream):
        await stream.send_all(UPGRADE[:20])
        await trio.sleep(spent)
        await expect_end(runtime, stream, began)


async def test_an_original_has_no_more_time_than_others(autojump_clock: MockClock) -> None:
    began = trio.current_time()
    async with accepted() as (runtime, stream):
        runtime.legacy = Gatekeeper(runtime, WebSocketTransport(LIMITS))
        await stream.send_all(UPGRADE[:20])
        await trio.sleep(3)
        await stream.send_all(UPGRADE[20:].replace(b"sec-websocket-protocol: trio-relay.1\r\n", b""))
        assert bytes(await stream.receive_some()).startswith(b"HTTP/1.1 101 ")
        assert bytes(await stream.receive_some())[:1] in (b"", b"\x88")
        assert trio.current_time() - began == pytest.approx(LIMITS.handshake_timeout)
        assert runtime.counts["handshakes_failed"] == 1


async def test_what_tls_and_the_upgrade_took_is_taken_from_the_handshake(autojump_clock: MockClock) -> None:
    authority = make_authority("localhost")
    began = trio.current_time()
    async with accepted(authority.server) as (runtime, plain):
        await trio.sleep(2)
        stream = trio.SSLStream(plain, authority.client, server_hostname="localhost", https_compatible=True)
        await stream.send_all(UPGRADE[:20])
        await trio.sleep(1)
        await expect_end(runtime, stream, began)
