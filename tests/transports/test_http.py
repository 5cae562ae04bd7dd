"""`serve_http` over real sockets."""

from __future__ import annotations

import errno
import logging
import os
import resource
import socket
import ssl
from collections.abc import Sequence

import pytest
import trio
import trio.testing

from tests.transports.support import ROUTES, echo, make_authority, read_all, serving, take
from tests.transports.talking import get
from trio_relay.limits import Limits
from trio_relay.transports.admission import Admission, Ending, TransportStatistics
from trio_relay.transports.connection import Connection
from trio_relay.transports.dial import dial_websocket
from trio_relay.transports.http import HttpServer, serve_http
from trio_relay.transports.routes import Request, Response, Route, RouteTable
from trio_relay.wire.addresses import parse_listen

LIMITS = Limits(close_timeout=0.5)
GET = b"GET /hello HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n"


async def connect(bound: str) -> trio.SocketStream:
    host, port = parse_listen(bound)
    return await trio.open_tcp_stream(host, port)


async def serve(listen: str | list[str], routes: Sequence[Route] = ROUTES) -> None:
    await serve_http(listen, routes, limits=LIMITS, admission=Admission(LIMITS, TransportStatistics()))


async def ask(bound: str, data: bytes = GET) -> bytes:
    async with await connect(bound) as stream:
        await stream.send_all(data)
        return await read_all(stream)


async def wait_until_open(admission: Admission, count: int) -> None:
    while admission.admitted != count:
        await trio.lowlevel.checkpoint()


async def test_it_listens_on_several_addresses_and_reports_them() -> None:
    async with serving(listen=["127.0.0.1:0", "[::1]:0"]) as served:
        assert len(served.bound) == 2
        assert served.bound[1].startswith("[::1]:")
        for bound in served.bound:
            assert b"GET /hello" in await ask(bound)


async def test_a_name_may_be_several_addresses() -> None:
    async with serving(listen="localhost:0") as served:
        for bound in served.bound:
            assert (await ask(bound)).startswith(b"HTTP/1.1 200 ")


async def test_the_request_knows_both_ends() -> None:
    seen: list[Request | None] = []

    async def note(connection: Connection, request: Request | None) -> None:
        seen.append(request)
        assert request is not None
        assert (connection.remote, connection.local) == (request.remote, request.local)

    async with serving([Route("/", upgrade=note)]) as served:
        connection = await dial_websocket(served.url + "/?x=y", limits=LIMITS)
        assert await take(connection) == []
        await connection.aclose()
    (request,) = seen
    assert request is not None
    assert (request.remote, request.local) == (connection.local, connection.remote)
    assert (request.path, request.query, request.secure) == ("/", "x=y", False)


async def test_a_port_that_is_taken() -> None:
    async with serving() as served:
        with pytest.raises(OSError, match="in use") as caught:
            await serve(["127.0.0.1:0", served.bound[0]])
        assert caught.value.errno == errno.EADDRINUSE


@pytest.mark.parametrize("listen", ["nonsense", "127.0.0.1"])
async def test_a_bad_address(listen: str) -> None:
    with pytest.raises(ValueError, match="expected an address to listen on"):
        await serve(listen)


async def test_two_owners_of_one_path_are_refused_at_start() -> None:
    with pytest.raises(ValueError, match="two routes"):
        await serve("127.0.0.1:0", [*ROUTES, ROUTES[0]])


def test_old_tls_is_refused_at_start() -> None:
    context = make_authority("localhost").server
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1_1
    admission = Admission(LIMITS, TransportStatistics())
    with pytest.raises(ValueError, match=r"from version 1\.2 on, not from TLSv1_1"):
        HttpServer(RouteTable(ROUTES), limits=LIMITS, admission=admission, tls=context)


async def test_responses_do_not_wait_for_more_to_send() -> None:
    seen: list[int] = []

    async def note(connection: Connection, request: Request | None) -> None:
        stream = connection._stream  # type: ignore[attr-defined]
        seen.append(stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    async with serving([Route("/", upgrade=note)]) as served:
        connection = await dial_websocket(served.url, limits=LIMITS)
        await connection.receive()
        await connection.aclose()
    assert seen == [1]


@pytest.mark.parametrize(
    ("path", "status", "secure"), [("/hello", 200, False), ("/small", 413, False), ("/small", 413, True)]
)
async def test_a_body_that_nobody_takes_does_not_cost_the_client_its_answer(
    path: str, status: int, secure: bool
) -> None:
    async def small(request: Request) -> Response:
        return Response(200, await request.body.read(10))

    authority = make_authority("localhost")
    routes = [*ROUTES, Route("/small", respond=small)]
    async with serving(routes, limits=LIMITS, tls=authority.server if secure else None) as served:
        plain = await connect(served.bound[0])
        stream: trio.abc.Stream = plain
        if secure:
            stream = trio.SSLStream(plain, authority.client, server_hostname="localhost", https_compatible=True)
        async with stream, trio.open_nursery() as nursery:

            async def send() -> None:
                await stream.send_all(get(path, "content-length: 3000000", method="POST") + bytes(3_000_000))

            nursery.start_soon(send)
            head = (await read_all(stream)).lower()
        assert head.startswith(b"http/1.1 %d " % status)
        assert b"\r\nconnection: close\r\n" in head
        await wait_until_open(served.admission, 0)


async def test_one_too_many_connections_are_closed_and_counted() -> None:
    async with serving(limits=Limits(connections=2)) as served:
        first, second = [await connect(served.bound[0]) for _ in range(2)]
        await wait_until_open(served.admission, 2)
        assert await ask(served.bound[0], b"") == b""
        assert served.admission.statistics[Ending.CONNECTIONS_FULL] == 1
        await first.aclose()
        await wait_until_open(served.admission, 1)
        assert (await ask(served.bound[0])).startswith(b"HTTP/1.1 200 ")
        await second.aclose()


async def test_silent_connections_do_not_keep_honest_ones_out() -> None:
    admissions: list[Admission] = []

    async def prove(connection: Connection, request: Request | None) -> None:
        admissions[0].proven(connection)
        await echo(connection, request)

    async with serving([Route("/", upgrade=prove)], limits=Limits(unproven_connections=10)) as served:
        admissions.append(served.admission)
        honest = await dial_websocket(served.url, limits=LIMITS)
        silent = [await connect(served.bound[0]) for _ in range(100)]
        latest = await dial_websocket(served.url, limits=LIMITS)
        for connection in (honest, latest):
            assert connection.send_nowait([b"still here"])
            assert await take(connection) == [b"still here"]
        assert served.admission.statistics[Ending.UNPROVEN_EVICTED] >= 90
        # The oldest were cut without a response.
        assert await read_all(silent[0]) == b""
        assert served.admission.statistics[Ending.CLOSED] == 0
        for stream in silent:
            await stream.aclose()
        for connection in (honest, latest):
            await connection.aclose()


async def test_an_evicted_websocket_is_aborted() -> None:
    async with serving(limits=Limits(unproven_connections=1)) as served:
        first = await dial_websocket(served.url, limits=LIMITS)
        first.send_nowait([b"x"])
        assert await take(first) == [b"x"]
        second = await dial_websocket(served.url, limits=LIMITS)
        assert await take(first) == []
        assert first.close_code == 1006
        first.abort()
        await second.aclose()


@pytest.mark.parametrize("garbage", [b"", b"\x16\x03\x01\x02\x00" + bytes(600), GET])
async def test_what_is_not_tls_ends_one_connection(garbage: bytes) -> None:
    authority = make_authority("localhost")
    async with serving(tls=authority.server) as served:
        async with await connect(served.bound[0]) as stream:
            await stream.send_all(garbage)
            await stream.send_eof()
            await read_all(stream)
        await wait_until_open(served.admission, 0)
        assert served.admission.statistics[Ending.TLS_FAILED] == 1
        url = f"wss://localhost:{served.port}"
        connection = await dial_websocket(url, limits=LIMITS, ssl_context=authority.client)
        await connection.send([b"x"])
        assert await take(connection) == [b"x"]
        await connection.aclose()


async def test_a_tls_handshake_that_stalls_has_a_deadline() -> None:
    async with serving(tls=make_authority("localhost").server, limits=Limits(handshake_timeout=0.05)) as served:
        with trio.fail_after(5):
            assert await ask(served.bound[0], b"\x16") == b""
        assert served.admission.statistics[Ending.TLS_TIMEOUT] == 1


async def test_http_over_tls() -> None:
    authority = make_authority("localhost")
    async with serving(tls=authority.server) as served:
        stream = await trio.open_ssl_over_tcp_stream(
            "localhost", served.port, ssl_context=authority.client, https_compatible=True
        )
        async with stream:
            await stream.send_all(GET)
            assert b"GET /hello" in await read_all(stream)


async def test_accepting_goes_on_when_descriptors_are_free_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="trio_relay.http")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with serving() as served:
        # The client's descriptor exists before the process runs out of them.
        client = trio.socket.socket()
        lowest = os.dup(client.fileno())
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        try:
            await client.connect(("127.0.0.1", served.port))
            while not served.admission.statistics[Ending.DESCRIPTORS_EXHAUSTED]:
                await trio.lowlevel.checkpoint()
            assert served.admission.admitted == 0
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        stream = trio.SocketStream(client)
        async with stream:
            await stream.send_all(GET)
            assert (await read_all(stream)).startswith(b"HTTP/1.1 200 ")


async def test_connections_may_outlive_their_listener() -> None:
    admission = Admission(LIMITS, TransportStatistics())
    async with trio.open_nursery() as handlers:
        async with trio.open_nursery() as listeners:

            async def serve(*, task_status: trio.TaskStatus[list[str]]) -> None:
                await serve_http(
                    "127.0.0.1:0",
                    ROUTES,
                    limits=LIMITS,
                    admission=admission,
                    handler_nursery=handlers,
                    task_status=task_status,
                )

            (bound,) = await listeners.start(serve)
            connection = await dial_websocket(f"ws://{bound}", limits=LIMITS)
            listeners.cancel_scope.cancel()
        with pytest.raises(OSError, match="connect"):
            await connect(bound)
        connection.send_nowait([b"x"])
        assert await take(connection) == [b"x"]
        await connection.aclose()


async def test_a_handler_that_fails_as_expected_ends_its_connection_only() -> None:
    async def give_up(connection: Connection, request: Request | None) -> None:
        await connection.receive()
        raise trio.TooSlowError

    async with serving([Route("/", upgrade=give_up)]) as served:
        connection = await dial_websocket(served.url, limits=LIMITS)
        connection.send_nowait([b"x"])
        assert await take(connection) == []
        connection.abort()
        await wait_until_open(served.admission, 0)
        assert served.admission.statistics[Ending.TIMEOUT] == 1


async def test_a_violation_of_the_websocket_rules_is_counted() -> None:
    async with serving(limits=Limits(websocket_message=10, close_timeout=0.1)) as served:
        connection = await dial_websocket(served.url, limits=LIMITS)
        # More than is read at once: the close frame arrives although data was never read.
        for _ in range(20):
            await connection.send([bytes(50_000)])
        assert await take(connection) == []
        assert connection.close_code == 1009
        await connection.aclose()
        await wait_until_open(served.admission, 0)
        assert served.admission.statistics[Ending.PROTOCOL_ERROR] == 1


async def test_a_route_may_take_larger_messages() -> None:
    routes = [Route("/", upgrade=echo, max_message=100)]
    async with serving(routes, limits=Limits(websocket_message=10)) as served:
        connection = await dial_websocket(served.url, limits=LIMITS)
        connection.send_nowait([bytes(100)])
        assert await take(connection) == [bytes(100)]
        await connection.aclose()


async def test_a_connection_is_closed_politely_when_its_handler_returns() -> None:
    async def greet(connection: Connection, request: Request | None) -> None:
        await connection.send([b"hi"], text=True)

    async with serving([Route("/", upgrade=greet)]) as served:
        connection = await dial_websocket(served.url, limits=LIMITS)
        assert await take(connection) == ["hi"]
        assert await take(connection) == []
        assert connection.close_code == 1000
        await connection.aclose()


@pytest.mark.parametrize(("raw", "text"), [(False, "gr\u00fc\u00df"), (True, "gr\u00fc\u00df".encode())])
async def test_a_route_may_take_text_as_bytes(raw: bool, text: str | bytes) -> None:
    seen: list[str | bytes] = []

    async def note(connection: Connection, request: Request | None) -> None:
        seen.extend(await take(connection))

    async with serving([Route("/", upgrade=note, raw=raw)]) as served:
        connection = await dial_websocket(served.url, limits=LIMITS)
        await connection.send(["gr\u00fc\u00df".encode()], text=True)
        assert await take(connection) == []
        await connection.aclose()
    assert seen == [text]
