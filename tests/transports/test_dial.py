"""`dial_websocket` against servers that behave, and against such that do not."""

from __future__ import annotations

import base64
import hashlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from tests.transports.support import make_authority, serving, take
from trio_relay.exceptions import HandshakeError
from trio_relay.limits import Limits
from trio_relay.transports import dial
from trio_relay.transports.dial import dial_websocket
from trio_relay.transports.upgrade import MAGIC
from trio_relay.wire.addresses import Scope, scope

LIMITS = Limits(close_timeout=0.2)


def accept_line(request: bytes) -> bytes:
    key = next(line for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key")).split()[1]
    return b"sec-websocket-accept: " + base64.b64encode(hashlib.sha1(key + MAGIC).digest()) + b"\r\n"


SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"


@asynccontextmanager
async def answering(answer: Callable[[bytes], bytes | None]) -> AsyncIterator[str]:
    """A server that answers every request with what `answer` makes of it, or closes for None; yields its URL."""

    async def serve(stream: trio.SocketStream) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += await stream.receive_some()
        said = answer(request)
        if said is not None:
            await stream.send_all(said)
            await trio.sleep_forever()

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield f"ws://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


async def expect_refusal(answer: Callable[[bytes], bytes | None], complaint: str) -> None:
    async with answering(answer) as url:
        with trio.fail_after(5), pytest.raises(HandshakeError, match=complaint):
            await dial_websocket(url, limits=LIMITS)


async def test_plain() -> None:
    async with serving() as served:
        connection = await dial_websocket(served.url, limits=LIMITS)
        assert connection.direct
        assert connection.offered_subprotocol
        assert connection.remote == served.bound[0]
        connection.send_nowait([b"x", b"y"])
        assert await take(connection) == [b"xy"]
        await connection.aclose()


async def test_without_the_subprotocol() -> None:
    async with serving() as served:
        connection = await dial_websocket(served.url, limits=LIMITS, subprotocol=False)
        assert not connection.offered_subprotocol
        await connection.aclose()


@pytest.mark.parametrize(("echo", "echoed"), [(b"sec-websocket-protocol: mqtt\r\n", True), (b"", False)])
async def test_another_subprotocol(echo: bytes, echoed: bool) -> None:
    def answer(request: bytes) -> bytes:
        assert b"\r\nsec-websocket-protocol: mqtt\r\n" in request.lower()
        return SWITCHING + accept_line(request) + echo + b"\r\n"

    async with answering(answer) as url:
        connection = await dial_websocket(url, limits=LIMITS, subprotocol="mqtt")
        assert connection.offered_subprotocol == echoed
        connection.abort()


async def test_a_subprotocol_instead_of_another_one() -> None:
    async with answering(
        lambda request: SWITCHING + accept_line(request) + b"sec-websocket-protocol: trio-relay.1\r\n\r\n"
    ) as url:
        with pytest.raises(HandshakeError, match="no other subprotocol"):
            await dial_websocket(url, limits=LIMITS, subprotocol="mqtt")


async def test_ipv6() -> None:
    async with serving(listen="[::1]:0") as served:
        connection = await dial_websocket(served.url, limits=LIMITS)
        assert connection.remote == served.bound[0]
        await connection.aclose()


async def test_a_name_with_several_addresses_of_which_one_answers() -> None:
    async with serving(listen="127.0.0.1:0") as served:
        connection = await dial_websocket(f"ws://localhost:{served.port}", limits=LIMITS)
        assert connection.remote == served.bound[0]
        await connection.aclose()


class FakeNames(trio.abc.HostnameResolver):
    """Resolves every name to fixed IPv4 addresses, and counts how often it was asked."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.asked = 0

    async def getaddrinfo(self, host, port, family=0, type=0, proto=0, flags=0):  # type: ignore[no-untyped-def]
        self.asked += 1
        return [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port)) for address in self.addresses
        ]

    async def getnameinfo(self, sockaddr, flags):  # type: ignore[no-untyped-def]
        raise NotImplementedError


@pytest.fixture
def fake_names() -> Callable[..., FakeNames]:
    def install(*addresses: str) -> FakeNames:
        names = FakeNames(*addresses)
        trio.socket.set_custom_hostname_resolver(names)
        return names

    return install


async def test_a_name_cannot_lead_into_a_network_that_is_not_allowed(
    fake_names: Callable[..., FakeNames],
) -> None:
    async with serving() as served:
        fake_names("127.0.0.1", "10.0.0.1")
        with pytest.raises(HandshakeError, match=r"relay\.example:\d+ is not allowed: it is at 10\.0\.0\.1, 127"):
            await dial_websocket(
                f"ws://relay.example:{served.port}",
                limits=LIMITS,
                allow_address=lambda address: scope(address) is Scope.GLOBAL,
            )
        assert served.admission.statistics.accepted == 0


async def test_only_allowed_addresses_are_tried_and_names_resolved_once(
    fake_names: Callable[..., FakeNames],
) -> None:
    async with serving() as served:
        names = fake_names("127.0.0.9", "127.0.0.1")
        asked: list[str] = []

        def allow(address: str) -> bool:
            asked.append(address)
            return address == "127.0.0.1"

        url = f"ws://relay.example:{served.port}"
        connection = await dial_websocket(url, limits=LIMITS, allow_address=allow)
        assert connection.remote == served.bound[0]
        assert asked == ["127.0.0.9", "127.0.0.1"]
        assert names.asked == 1
        await connection.aclose()


async def test_the_next_address_is_tried_beside_one_that_does_not_answer(
    fake_names: Callable[..., FakeNames], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dial, "NEXT_ATTEMPT", 0.01)
    # A listener whose backlog is full takes no further connection: 127.0.0.2 hangs.
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.2", 0))
        full.listen(0)
        port = full.getsockname()[1]
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.2", port))
        async with serving(listen=f"127.0.0.1:{port}"):
            fake_names("127.0.0.2", "127.0.0.1")
            with trio.fail_after(5):
                connection = await dial_websocket(f"ws://relay.example:{port}", limits=LIMITS)
            assert connection.remote == f"127.0.0.1:{port}"
            await connection.aclose()


async def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot connect to 127.0.0.1:{port}: Connection refused"):
            await dial_websocket(f"ws://127.0.0.1:{port}", limits=LIMITS)


async def test_a_bad_url() -> None:
    with pytest.raises(ValueError, match="like ws://host:port"):
        await dial_websocket("http://127.0.0.1", limits=LIMITS)


async def test_tls() -> None:
    authority = make_authority("localhost", "127.0.0.1")
    async with serving(tls=authority.server) as served:
        for host in ("localhost", "127.0.0.1"):
            url = f"wss://{host}:{served.port}"
            connection = await dial_websocket(url, limits=LIMITS, ssl_context=authority.client)
            assert not connection.direct
            assert connection.remote == served.bound[0]
            await connection.send([b"x"])
            assert await take(connection) == [b"x"]
            await connection.aclose()


@pytest.mark.parametrize(
    ("name", "trusted", "complaint"),
    [
        ("localhost", False, "certificate of localhost:[0-9]+ not trusted: unable to get local issuer certificate"),
        ("other.example", True, "certificate of localhost:[0-9]+ not trusted: Hostname mismatch, .*'localhost'$"),
    ],
)
async def test_a_certificate_that_is_not_trusted(name: str, trusted: bool, complaint: str) -> None:
    authority = make_authority(name)
    context = authority.client if trusted else None
    async with serving(tls=authority.server) as served:
        with pytest.raises(HandshakeError, match=complaint):
            await dial_websocket(f"wss://localhost:{served.port}", limits=LIMITS, ssl_context=context)


async def test_tls_to_a_server_without_it() -> None:
    async with serving() as served:
        with pytest.raises(HandshakeError, match="no TLS with localhost"):
            await dial_websocket(f"wss://localhost:{served.port}", limits=LIMITS)


async def test_old_tls_is_refused() -> None:
    context = ssl.create_default_context()
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.raises(ValueError, match=r"from version 1\.2 on"):
        await dial_websocket("wss://localhost:1", limits=LIMITS, ssl_context=context)


@pytest.mark.parametrize(
    "status", [b"302 Found\r\nlocation: ws://127.0.0.1:1", b"200 OK", b"403 Forbidden", b"503 Busy"]
)
async def test_anything_but_101_is_a_refusal_and_redirects_are_not_followed(status: bytes) -> None:
    answer = b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\n\r\n"
    await expect_refusal(lambda request: answer, f"expected 101 switching protocols, not {status[:3].decode()}")


async def test_a_wrong_accept_token() -> None:
    answer = SWITCHING + b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    await expect_refusal(lambda request: answer, "answer to our Sec-WebSocket-Key")


@pytest.mark.parametrize(
    ("extra", "complaint"),
    [
        (b"sec-websocket-extensions: permessage-deflate\r\n", "expected no extensions"),
        (b"sec-websocket-protocol: chat\r\n", "no other subprotocol than was offered, got 'chat'"),
    ],
)
async def test_what_was_not_asked_for(extra: bytes, complaint: str) -> None:
    await expect_refusal(lambda request: SWITCHING + extra + accept_line(request) + b"\r\n", complaint)


async def test_an_answer_without_the_upgrade() -> None:
    head = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n"
    await expect_refusal(lambda request: head + accept_line(request) + b"\r\n", "expected an upgrade to websocket")


async def test_an_answer_that_is_not_http() -> None:
    await expect_refusal(lambda request: b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "expected an HTTP response")


async def test_an_answer_that_is_too_long() -> None:
    await expect_refusal(lambda request: SWITCHING + b"x: " + bytes(b"a" * 40_000), "expected an HTTP response")


async def test_a_server_that_hangs_up() -> None:
    await expect_refusal(lambda request: None, "end of the stream|broke the connection")


async def test_informational_responses_come_before_the_answer() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    async with answering(lambda request: early + SWITCHING + accept_line(request) + b"\r\n") as url:
        connection = await dial_websocket(url, limits=LIMITS)
        assert not connection.offered_subprotocol
        connection.abort()


async def test_bytes_in_the_packet_of_the_answer_are_received() -> None:
    async with answering(lambda request: SWITCHING + accept_line(request) + b"\r\n\x82\x02hi\x82") as url:
        connection = await dial_websocket(url, limits=LIMITS)
        assert await take(connection) == [b"hi"]
        connection.abort()


async def test_a_cancelled_dial_leaves_no_socket_behind() -> None:
    # The server never answers. A socket that is left to the garbage collector warns, and warnings are errors.
    opened: list[bool] = []

    async def hold(stream: trio.SocketStream) -> None:
        opened.append(True)
        data = await stream.receive_some()
        while data:
            data = await stream.receive_some()
        opened.append(False)

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, hold, listeners)
        for _ in range(3):
            with trio.move_on_after(0.02) as scope:
                await dial_websocket(f"ws://127.0.0.1:{port}", limits=LIMITS)
            assert scope.cancelled_caught
        while opened.count(False) < opened.count(True):
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert opened.count(False) == opened.count(True)
