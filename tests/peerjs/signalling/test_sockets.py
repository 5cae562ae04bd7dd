"""A signaller over real sockets: HTTP, WebSocket, TLS, and brokers that break their rules."""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from tests.peerjs.signalling.scripted_broker import OPEN, RecordingDesk, ScriptedBroker, make, running, stay, telling
from tests.peerjs.signalling.test_http import answering
from tests.transports.support import make_authority, serving
from tests.wsrelay.scripted_server import ScriptedPeer
from trio_relay.exceptions import PeerError
from trio_relay.limits import Limits
from trio_relay.peerjs.messages import ServerMessage
from trio_relay.peerjs.signalling.address import BrokerAddress
from trio_relay.transports.connection import Connection
from trio_relay.transports.routes import Request, Response, Route
from trio_relay.transports.websocket import WebSocketConnection

LIMITS = Limits(close_timeout=0.2)
HUGE = 1 << 20


@asynccontextmanager
async def listening(
    broker: ScriptedBroker, *, server_tls: ssl.SSLContext | None = None, client_tls: ssl.SSLContext | None = None
) -> AsyncIterator[BrokerAddress]:
    """The broker on 127.0.0.1, with ids and a list of peers."""

    async def play(connection: Connection, request: Request | None) -> None:
        assert isinstance(connection, WebSocketConnection)
        assert request is not None
        await broker.play(connection, request.target)

    async def make_id(request: Request) -> Response:
        return Response.text(200, "made here")

    async def list_peers(request: Request) -> Response:
        return Response.text(200, '["a","b"]')

    routes = [
        Route("/my/peerjs", upgrade=play),
        Route("/my/peerjs/id", respond=make_id),
        Route("/my/peerjs/peers", respond=list_peers),
    ]
    async with serving(routes, tls=server_tls, limits=LIMITS) as served:
        yield BrokerAddress(
            host="127.0.0.1", port=served.port, path="my", secure=server_tls is not None, ssl_context=client_tls
        )


async def ask(server: BrokerAddress, told: int, counts: Counter[str] | None = None, **options: Any) -> RecordingDesk:
    """Runs a signaller until its desk was told so many things."""
    desk = RecordingDesk()
    with trio.fail_after(5):
        async with running(make(desk, counts, server=server, max_reconnect_delay=0.01, **options)):
            await desk.wait(told)
    return desk


async def test_an_id_messages_both_ways_and_a_goodbye() -> None:
    heard: list[Any] = []

    async def script(peer: ScriptedPeer) -> None:
        await peer.send(OPEN)
        heard.append(await peer.receive())
        await peer.send({"type": "ANSWER", "src": "bob", "payload": "x" * 500_000})
        heard.extend(await peer.until_end())
        heard.append(peer.connection.close_code)

    broker, desk = ScriptedBroker(script), RecordingDesk()
    with trio.fail_after(5):
        async with listening(broker) as server, trio.open_nursery() as nursery:
            signaller = make(desk, server=server, id=None, limits=LIMITS)
            nursery.start_soon(signaller.run)
            await desk.wait(1)
            assert desk.told[0] == ("open", "made here", False)
            signaller.send(b'{"type":"OFFER"}')
            await desk.wait(2)
            assert desk.told[1] == ServerMessage("ANSWER", "bob", "x" * 500_000)
            assert await signaller.list_peers() == ["a", "b"]
            signaller.send(b'{"type":"LAST"}')
            await signaller.close()
    assert heard == [{"type": "OFFER"}, {"type": "LAST"}, 1000]
    assert broker.peers[0].path.startswith("/my/peerjs?key=peerjs&id=made%20here&token=")


async def test_tls() -> None:
    authority = make_authority("127.0.0.1")
    broker = ScriptedBroker(telling(OPEN, end=True), stay)
    async with listening(broker, server_tls=authority.server, client_tls=authority.client) as server:
        desk = await ask(server, 3, id=None)
        assert [told[0] for told in desk.told] == ["open", "lost", "open"]
        stranger = BrokerAddress(
            host=server.host, port=server.port, secure=True, ssl_context=make_authority("127.0.0.1").client
        )
        desk = await ask(stranger, 1)
    (told,) = desk.told
    assert told[:2] == ("over", "ssl-unavailable")
    assert "not trusted" in told[2]


async def test_a_broker_without_tls() -> None:
    async with listening(ScriptedBroker()) as server:
        desk = await ask(BrokerAddress(host=server.host, port=server.port, secure=True), 1)
    assert desk.told[0][:2] == ("over", "ssl-unavailable")


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n", "not 400"),
        (b"HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n", "not 302"),
        (b"garbage\r\n\r\n", "expected an HTTP response"),
        (b"", "end of the stream"),
    ],
)
async def test_no_upgrade(answer: bytes, complaint: str) -> None:
    async with answering(answer) as server:
        desk = await ask(server, 1)
    (told,) = desk.told
    assert told[:2] == ("over", "socket-error")
    assert complaint in told[2]
    assert "secret" not in told[2]


async def test_no_answer() -> None:
    async with answering(ends=False) as server:
        desk = await ask(server, 1, connect_timeout=0.05)
    assert desk.told == [
        ("over", "socket-error", f"could not open a WebSocket to {server.authority}: no answer within 0.05 s")
    ]


async def test_no_id() -> None:
    async with answering(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n") as server:
        desk = await ask(server, 1, id=None)
    (told,) = desk.told
    assert told[:2] == ("over", "server-error")
    assert "could not get an id" in told[2]


async def test_no_broker() -> None:
    with trio.socket.socket() as unused:
        await unused.bind(("127.0.0.1", 0))
        server = BrokerAddress(host="127.0.0.1", port=unused.getsockname()[1])
        desk = await ask(server, 1)
        with pytest.raises(PeerError, match="refused") as caught:
            await make(RecordingDesk(), server=server).list_peers()
    (told,) = desk.told
    assert told[:2] == ("over", "socket-error")
    assert caught.value.type == "server-error"


@pytest.mark.parametrize("size", [HUGE, HUGE + 1])
async def test_a_huge_message(size: int) -> None:
    frame = '{"type":"LEAVE","src":"' + "x" * (size - 25) + '"}'
    assert len(frame) == size
    counts = Counter[str]()
    async with listening(ScriptedBroker(telling(OPEN, frame), stay)) as server:
        desk = await ask(server, 2, counts)
    if size == HUGE:
        assert desk.told[1] == ServerMessage("LEAVE", "x" * (size - 25))
    else:
        assert desk.told[1][:2] == ("lost", "network")
        assert "broke the WebSocket protocol" in desk.told[1][2]
        assert counts["broker_violations"] == 1


async def test_a_message_without_an_end() -> None:
    async def script(peer: ScriptedPeer) -> None:
        await peer.send(OPEN)
        stream = peer.connection._stream
        assert isinstance(stream, trio.SocketStream)
        await stream.send_all(b"\x01\x04aaaa")
        while True:
            await stream.send_all(b"\x00\x7f" + (65536).to_bytes(8, "big") + bytes(65536))

    counts = Counter[str]()
    async with listening(ScriptedBroker(script, stay)) as server:
        desk = await ask(server, 3, counts)
    assert [told[0] for told in desk.told] == ["open", "lost", "open"]
    assert counts["broker_violations"] == 1


async def test_a_broker_that_breaks_the_connection() -> None:
    async def script(peer: ScriptedPeer) -> None:
        await peer.send(OPEN)
        peer.connection.abort()

    async with listening(ScriptedBroker(script, stay)) as server:
        desk = await ask(server, 3)
    assert [told[:2] for told in desk.told] == [("open", "alice"), ("lost", "network"), ("open", "alice")]
