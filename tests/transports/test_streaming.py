"""Responses that are made while they are sent, and clients that go away or do not read."""

from __future__ import annotations

import h11
import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from tests.transports.support import ROUTES, make_authority, read_all, serving
from tests.transports.talking import LAST, get, talking
from trio_relay.limits import Limits
from trio_relay.transports.admission import Admission, Ending, TransportStatistics
from trio_relay.transports.http import HttpServer
from trio_relay.transports.routes import Request, Responder, Response, Route, RouteTable, Sender, Streamed

TEXT = ((b"content-type", b"text/plain"),)


def stream(*pieces: bytes, last: bytes = b"", status: int = 200) -> Route:
    async def make(send: Sender) -> bytes:
        for piece in pieces:
            await send(piece)
        return last

    async def respond(request: Request) -> Streamed:
        return Streamed(status, make, TEXT)

    return Route("/s", respond=respond)


class Endless:
    """Sends ticks, one a second, and tells how it ended."""

    def __init__(self, *, held: bool = False) -> None:
        self.ended = trio.Event()
        self.running = 0
        self.told = 0
        self._held = held

    async def _make(self, send: Sender) -> bytes:
        self.running += 1
        try:
            await send(b"begun\n")
            while True:
                await trio.sleep(1)
                await send(b"tick\n")
        finally:
            self.running -= 1
            self.ended.set()

    async def respond(self, request: Request) -> Streamed:
        return Streamed(200, self._make, TEXT, held=self._held, ended=self._tell)

    def _tell(self) -> None:
        self.told += 1

    @property
    def route(self) -> Route:
        return Route("/s", respond=self.respond)


async def test_pieces_and_an_end_and_then_another_request() -> None:
    http = h11.Connection(h11.CLIENT)
    async with talking((stream(b"one ", b"", b"two ", last=b"three"), *ROUTES)) as client:
        for _ in range(2):
            await client.stream.send_all(http.send(h11.Request(method="GET", target="/s", headers=[("host", "h")])))
            http.send(h11.EndOfMessage())
            assert await client.read_response(http) == (200, b"one two three")
            http.start_next_cycle()
        assert (await client.ask(get("/hello", LAST))).endswith("GET /hello")


async def test_a_body_in_one_piece_is_an_ordinary_response() -> None:
    async with talking((stream(last=b"all"),)) as client:
        head, _, body = (await client.ask(get("/s", LAST))).partition("\r\n\r\n")
        assert body == "all"
        assert "content-length: 3" in head.lower()
        assert "chunked" not in head


async def test_who_made_a_response_is_told_when_it_was_sent(autojump_clock: MockClock) -> None:
    sent: list[float] = []

    async def make(send: Sender) -> bytes:
        return b"x" * 100

    async def respond(request: Request) -> Streamed:
        return Streamed(200, make, TEXT, ended=lambda: sent.append(trio.current_time()))

    ours, theirs = memory_stream_pair()
    pump = theirs.send_stream.send_all_hook
    assert pump is not None

    async def slowly() -> None:
        await trio.sleep(3)
        await pump()

    theirs.send_stream.send_all_hook = slowly
    limits = Limits()
    server = HttpServer(
        RouteTable([Route("/s", respond=respond)]), limits=limits, admission=Admission(limits, TransportStatistics())
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve_stream, theirs, ("192.0.2.1:1", "192.0.2.2:80"))
        began = trio.current_time()
        await ours.send_all(get("/s", LAST))
        assert (await read_all(ours)).endswith(b"x" * 100)
    assert sent == [began + 3]


async def test_an_old_client_reads_up_to_the_end_of_the_connection() -> None:
    async with talking((stream(b"one ", last=b"two"),)) as client:
        head, _, body = (await client.ask(b"GET /s HTTP/1.0\r\n\r\n")).partition("\r\n\r\n")
        assert body == "one two"
        assert "chunked" not in head


async def test_head_does_not_make_a_body() -> None:
    endless = Endless()
    async with talking((endless.route,)) as client:
        answer = await client.ask(get("/s", LAST, method="HEAD"))
        assert answer.startswith("HTTP/1.1 200")
        assert answer.endswith("\r\n\r\n")
        assert not endless.ended.is_set()
        assert endless.told == 1


async def test_what_is_asked_meanwhile_is_answered_afterwards() -> None:
    more = trio.Event()

    async def make(send: Sender) -> bytes:
        await send(b"first")
        await more.wait()
        return b" last"

    async def respond(request: Request) -> Streamed:
        return Streamed(200, make)

    async with talking((Route("/s", respond=respond), *ROUTES)) as client:
        await client.stream.send_all(get("/s"))
        await wait_all_tasks_blocked()
        await client.stream.send_all(get("/hello", LAST))
        await wait_all_tasks_blocked()
        more.set()
        answer = (await read_all(client.stream)).decode()
        assert answer.index(" last") < answer.index("GET /hello")


async def test_a_client_that_asks_without_end_is_not_read_from(autojump_clock: MockClock) -> None:
    endless = Endless()
    limits = Limits(http_head=1024)
    server = HttpServer(RouteTable([endless.route]), limits=limits, admission=Admission(limits, TransportStatistics()))
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve_stream, theirs)
        await ours.send_all(get("/s"))
        await wait_all_tasks_blocked()
        for _ in range(8):
            await ours.send_all(bytes(1024))
        await wait_all_tasks_blocked()
        assert len(await theirs.receive_some(65536)) == 7 * 1024
        assert endless.running == 1
        nursery.cancel_scope.cancel()


async def test_a_client_that_goes_away_ends_the_making(autojump_clock: MockClock) -> None:
    endless = Endless()
    async with talking((endless.route,)) as client:
        await client.stream.send_all(get("/s"))
        await trio.sleep(2.5)
        await client.stream.aclose()
        await wait_all_tasks_blocked()
        assert endless.ended.is_set()
        assert endless.told == 1
        assert client.statistics.snapshot() == {"accepted": 1, "upgraded": 0, "requests": 1}


async def test_a_client_that_does_not_read_is_let_go(autojump_clock: MockClock) -> None:
    endless, limits = Endless(), Limits()
    statistics = TransportStatistics()
    server = HttpServer(RouteTable([endless.route]), limits=limits, admission=Admission(limits, statistics))
    ours, theirs = memory_stream_pair()
    pieces = 0

    async def clog() -> None:
        nonlocal pieces
        pieces += 1
        if pieces > 1:
            await trio.sleep_forever()

    theirs.send_stream.send_all_hook = clog
    await ours.send_all(get("/s"))
    began = trio.current_time()
    await server.serve_stream(theirs)
    assert trio.current_time() - began == pytest.approx(1 + limits.http_timeout)
    assert statistics[Ending.HTTP_TIMEOUT] == 1
    assert endless.ended.is_set()
    assert endless.told == 1


@pytest.mark.parametrize(("pieces", "status"), [((), 500), ((b"some",), 200)])
async def test_a_failure_cuts_off_or_is_answered(
    pieces: tuple[bytes, ...], status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def make(send: Sender) -> bytes:
        for piece in pieces:
            await send(piece)
        raise ValueError("our fault")

    async def respond(request: Request) -> Streamed:
        return Streamed(200, make)

    async with talking((Route("/s", respond=respond),)) as client:
        answer = await client.ask(get("/s?token=secret"))
        assert answer.startswith(f"HTTP/1.1 {status} ")
        assert not answer.endswith("0\r\n\r\n")
        assert client.statistics[Ending.RESPONDER_FAILED] == 1
    assert "our fault" in caplog.text
    assert "secret" not in caplog.text


async def test_bad_headers_are_the_responders_fault(caplog: pytest.LogCaptureFixture) -> None:
    async def make(send: Sender) -> bytes:
        await send(b"x")
        return b""

    async def respond(request: Request) -> Streamed:
        return Streamed(200, make, ((b"x", b"a\r\nb"),))

    async with talking((Route("/s", respond=respond),)) as client:
        assert await client.ask_status(get("/s", LAST)) == 500
        assert client.statistics[Ending.RESPONDER_FAILED] == 1
    assert "could not answer GET /s" in caplog.text


async def test_only_those_that_are_held_stay_when_strangers_come() -> None:
    held, other = Endless(held=True), Endless()
    routes = [held.route, Route("/other", respond=other.respond)]
    async with serving(routes, limits=Limits(unproven_connections=2)) as served:
        streams = []
        for path in ("/s", "/other", "/other", "/other"):
            streams.append(await trio.open_tcp_stream("127.0.0.1", served.port))
            await streams[-1].send_all(get(path))
            assert (await streams[-1].receive_some()).startswith(b"HTTP/1.1 200")
        with trio.fail_after(5):
            await other.ended.wait()
        assert (held.running, other.running) == (1, 2)
        assert served.admission.statistics[Ending.UNPROVEN_EVICTED] == 1
        for stream in streams:
            await stream.aclose()
        with trio.fail_after(5):
            await held.ended.wait()
        while served.admission.admitted:
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert served.admission.unproven == 0


async def test_over_tls_the_end_of_the_client_is_noticed() -> None:
    endless, authority = Endless(), make_authority("localhost")
    async with serving([endless.route], tls=authority.server) as served:
        tcp = await trio.open_tcp_stream("127.0.0.1", served.port)
        client = trio.SSLStream(tcp, authority.client, server_hostname="localhost", https_compatible=True)
        await client.send_all(get("/s"))
        assert b"begun" in await client.receive_some()
        await client.aclose()
        with trio.fail_after(5):
            await endless.ended.wait()
        assert endless.running == 0


async def test_a_server_that_ends_ends_streams() -> None:
    endless = Endless()
    async with serving([endless.route]) as served:
        stream = await trio.open_tcp_stream("127.0.0.1", served.port)
        await stream.send_all(get("/s"))
        assert b"200" in await stream.receive_some()
    await stream.aclose()
    assert endless.ended.is_set()
    assert endless.told == 1


def test_the_type_of_responders() -> None:
    async def whole(request: Request) -> Response:
        return Response(204)

    responders: list[Responder] = [whole, Endless().respond]
    assert len(responders) == 2
