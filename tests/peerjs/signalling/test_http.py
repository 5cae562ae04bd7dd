"""Getting an id and the list of peers from brokers that behave, and from such that do not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.transports.support import make_authority, serving
from trio_relay.exceptions import PeerError
from trio_relay.limits import Limits
from trio_relay.peerjs.signalling.address import BrokerAddress
from trio_relay.peerjs.signalling.http import fetch_id, fetch_peers
from trio_relay.transports.routes import Request, Response, Route

LIMITS = Limits(close_timeout=0.2)


def ok(body: bytes, more: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\n%scontent-length: %d\r\n\r\n%s" % (more, len(body), body)


@asynccontextmanager
async def answering(*pieces: bytes, ends: bool = True, endless: bytes = b"") -> AsyncIterator[BrokerAddress]:
    """A server that answers every request with these bytes, then with `endless` for ever, then ends or waits."""

    async def serve(stream: trio.SocketStream) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += await stream.receive_some()
        try:
            for piece in pieces:
                await stream.send_all(piece)
            while endless:
                await stream.send_all(endless)
            if not ends:
                await trio.sleep_forever()
        except trio.BrokenResourceError:
            pass

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield BrokerAddress(host="127.0.0.1", port=listeners[0].socket.getsockname()[1])
        nursery.cancel_scope.cancel()


async def get_id(broker: BrokerAddress, timeout: float = 5.0) -> str:
    return await fetch_id(broker, limits=LIMITS, timeout=timeout)


async def get_peers(broker: BrokerAddress) -> list[str]:
    return await fetch_peers(broker, limits=LIMITS, timeout=5.0)


async def expect_no_id(broker: BrokerAddress, complaint: str, type: str = "server-error", timeout: float = 5.0) -> None:
    with pytest.raises(PeerError, match=complaint) as caught:
        await get_id(broker, timeout)
    assert caught.value.type == type


async def test_what_is_asked() -> None:
    asked: list[Request] = []

    async def respond(request: Request) -> Response:
        asked.append(request)
        return Response.text(200, "an id")

    async with serving([Route("/my/k/id", respond=respond)]) as served:
        broker = BrokerAddress(host="127.0.0.1", port=served.port, path="my", key="k")
        assert [await get_id(broker), await get_id(broker)] == ["an id", "an id"]
    first, second = (request.query for request in asked)
    assert first != second
    assert first.startswith("ts=")
    assert first.endswith("&version=1.5.5")


@pytest.mark.parametrize(
    "answer",
    [
        ok(b"id-1"),
        b"HTTP/1.1 103 Early Hints\r\n\r\n" + ok(b"id-1"),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nid\r\n2\r\n-1\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nid-1",
    ],
)
async def test_forms_of_an_answer(answer: bytes) -> None:
    async with answering(answer) as broker:
        assert await get_id(broker) == "id-1"
    async with answering(*(answer[place : place + 1] for place in range(len(answer)))) as broker:
        assert await get_id(broker) == "id-1"


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (b"", "expected an HTTP response"),
        (b"garbage\r\n\r\n", "expected an HTTP response"),
        (bytes(range(256)), "expected an HTTP response"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", "expected an HTTP response"),
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "status 200, got 404; if the broker has a path"),
        (b"HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n", "status 200, got 302"),
        (ok(b""), "expected an id, got ''"),
        (ok(b"<html>\n"), r"expected an id, got '<html>\?'"),
        (ok(b"\xff\xfe"), "expected an id, got 2 bytes"),
        (ok(b"x" * 257), "expected an id"),
        (ok(b"x" * (1 << 20 | 1)), "at most 1048576 bytes"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 20_000, "expected an HTTP response"),
    ],
)
async def test_answers_without_an_id(answer: bytes, complaint: str) -> None:
    async with answering(answer) as broker:
        await expect_no_id(broker, complaint)


@pytest.mark.parametrize(
    ("head", "endless"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"8000\r\n" + b"x" * 32768 + b"\r\n"),
        (b"HTTP/1.1 200 OK\r\n", b"a: b\r\n" * 100),
    ],
)
async def test_an_answer_without_an_end(head: bytes, endless: bytes) -> None:
    async with answering(head, endless=endless) as broker:
        await expect_no_id(broker, "at most 1048576 bytes|expected an HTTP response")


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nid"])
async def test_a_slow_broker(said: bytes) -> None:
    async with answering(said, ends=False) as broker:
        await expect_no_id(broker, r"no answer within 0\.05 s", timeout=0.05)


async def test_no_broker() -> None:
    with trio.socket.socket() as unused:
        await unused.bind(("127.0.0.1", 0))
        broker = BrokerAddress(host="127.0.0.1", port=unused.getsockname()[1])
        await expect_no_id(broker, "could not get an id from 127.0.0.1:.*refused")


async def test_the_hint_is_for_brokers_without_a_path() -> None:
    async with answering(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n") as broker:
        await expect_no_id(BrokerAddress(host=broker.host, port=broker.port, path="/x"), "got 404$")


async def test_tls() -> None:
    authority = make_authority("127.0.0.1")

    async def respond(request: Request) -> Response:
        return Response.text(200, "an id")

    async with serving([Route("/peerjs/id", respond=respond)], tls=authority.server) as served:
        trusting = BrokerAddress(host="127.0.0.1", port=served.port, secure=True, ssl_context=authority.client)
        assert await get_id(trusting) == "an id"
        stranger = make_authority("127.0.0.1").client
        broker = BrokerAddress(host="127.0.0.1", port=served.port, secure=True, ssl_context=stranger)
        await expect_no_id(broker, "certificate of 127.0.0.1:.* not trusted", "ssl-unavailable")


async def test_a_broker_without_tls() -> None:
    async with serving([]) as served:
        broker = BrokerAddress(host="127.0.0.1", port=served.port, secure=True)
        await expect_no_id(broker, "no TLS with 127.0.0.1", "ssl-unavailable")


# The list of peers


async def test_peers() -> None:
    async with answering(ok(b'["a","b c"]')) as broker:
        assert await get_peers(broker) == ["a", "b c"]


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n", "discovery is off"),
        (b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n", "status 200, got 500"),
        (ok(b"Unauthorized"), "expected json"),
        (ok(b'{"a":1}'), "expected a list of ids, got dict"),
        (ok(b'["a",1]'), "other values in it"),
        (ok(b"[" * 200), "nested at most"),
    ],
)
async def test_no_peers(answer: bytes, complaint: str) -> None:
    async with answering(answer) as broker:
        with pytest.raises(PeerError, match=complaint) as caught:
            await get_peers(broker)
    assert caught.value.type == "server-error"
    assert "could not get the list of peers from 127.0.0.1" in str(caught.value)
