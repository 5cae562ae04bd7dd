"""HTTP/1.1 over streams in memory, with a clock that jumps."""

from __future__ import annotations

import base64
import contextlib
import logging

import h11
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.transports.support import ROUTES, read_all
from tests.transports.talking import KEY, LAST, UPGRADE, get, talking
from trio_relay.limits import Limits
from trio_relay.transports.admission import Admission, Ending, TransportStatistics
from trio_relay.transports.connection import Connection
from trio_relay.transports.http import HttpServer
from trio_relay.transports.routes import Request, Response, Route, RouteTable


async def read_small(request: Request) -> Response:
    return Response.typed(200, await request.body.read(16), "text/plain")


SMALL = Route("/small", respond=read_small)


@pytest.mark.parametrize(
    ("request_bytes", "status", "part"),
    [
        (get("/hello?x=1", LAST), 200, "GET /hello x=1"),
        (get("/hello/a%2Fb", LAST), 200, "GET /hello/a%2Fb"),
        (get("http://h/hello", LAST), 200, "GET /hello"),
        (get("/hello", LAST, method="OPTIONS"), 200, "OPTIONS /hello"),
        (get("/nowhere", LAST), 404, "Not Found"),
        (get("*", LAST, method="OPTIONS"), 404, "Not Found"),
        (get("/", LAST), 426, "Upgrade Required"),
        (get("/hello", "content-length: 3", LAST, method="POST") + b"abc", 200, "POST /hello"),
        (get("/hello", "expect: 100-continue", "content-length: 3", method="PUT"), 200, "PUT /hello"),
        (b"GET /hello HTTP/1.0\r\n\r\n", 200, "GET /hello"),
        (get("h:80", method="CONNECT"), 400, "expected a path"),
        (get("/hello", method="CONNECT"), 400, "no proxy"),
        (b"GET /hello HTTP/1.1\r\n\r\n", 400, "Host"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "illegal"),
        (b"\x00" * 100 + b"\r\n\r\n", 400, "illegal"),
        (get("/hello", "content-length: x"), 400, "Content-Length"),
        (get("/hello", "transfer-encoding: chunked") + b"zz\r\n", 200, "GET /hello"),
        (get("/" + "a" * 20_000), 431, ""),
        (get("/hello", "x-a: " + "a" * 17_000), 431, ""),
        (get("/hello", "content-length: 70000", method="POST") + bytes(70_000), 200, "POST /hello"),
        (get("/small", "content-length: 17", method="POST") + bytes(17), 413, "at most 16 bytes"),
        (get("/small", "transfer-encoding: chunked", method="POST") + b"zz\r\n", 400, "illegal"),
    ],
)
async def test_answers(request_bytes: bytes, status: int, part: str, autojump_clock: MockClock) -> None:
    async with talking((*ROUTES, SMALL)) as client:
        answer = await client.ask(request_bytes)
        head, _, body = answer.partition("\r\n\r\n")
        assert head.startswith(f"HTTP/1.1 {status} ")
        assert part in body
        assert f"content-length: {len(body)}" in head.lower()
        assert client.statistics[Ending.HTTP_REFUSED] == (status in (400, 413, 431) or b"zz" in request_bytes)


async def test_an_upgrade_only_route_says_what_it_wants() -> None:
    async with talking() as client:
        head, _, body = (await client.ask(get("/", LAST))).partition("\r\n\r\n")
        assert "Upgrade: websocket" in head or "upgrade: websocket" in head
        assert "content-type: text/plain" in head.lower()
        assert body == "Upgrade Required"


async def test_head_gets_the_length_and_no_body() -> None:
    async with talking() as client:
        head, _, body = (await client.ask(get("/hello", LAST, method="HEAD"))).partition("\r\n\r\n")
        assert "content-length: 11" in head.lower()
        assert body == ""


async def test_a_refused_head_request_gets_no_body() -> None:
    async with talking((SMALL,)) as client:
        answer = await client.ask(get("/small", "content-length: 17", method="HEAD") + bytes(17))
        assert answer.startswith("HTTP/1.1 413 ")
        assert answer.endswith("\r\n\r\n")


@pytest.mark.parametrize(
    ("refused", "status"),
    [
        (b"garbage\r\n\r\n", 400),
        (get("/hello", "content-length: x"), 400),
        (get("h:80", method="CONNECT"), 400),
        (get("/hello", "x-a: " + "a" * 17_000), 431),
        (get("/small", "content-length: 17", method="POST") + bytes(17), 413),
        (b"GET / HT", 408),
    ],
)
async def test_a_refusal_after_a_head_request_has_its_body(
    refused: bytes, status: int, autojump_clock: MockClock
) -> None:
    async with talking((*ROUTES, SMALL)) as client:
        first, second, body = (await client.ask(get("/hello", method="HEAD") + refused)).split("\r\n\r\n")
        assert first.startswith("HTTP/1.1 200 ")
        assert second.startswith(f"HTTP/1.1 {status} ")
        assert "connection: close" in second.lower()
        assert body
        assert f"content-length: {len(body)}" in second.lower()


async def test_connections_are_kept_alive_and_requests_may_be_pipelined() -> None:
    async with talking() as client:
        await client.stream.send_all(get("/hello?1") + get("/hello?2", method="POST"))
        http = h11.Connection(h11.CLIENT)
        answers = []
        for number in range(3):
            http.send(h11.Request(method="GET", target="/", headers=[("host", "h")]))
            http.send(h11.EndOfMessage())
            answers.append(await client.read_response(http))
            http.start_next_cycle()
            if number == 1:
                await client.stream.send_all(get("/hello?3"))
        assert answers == [(200, b"GET /hello 1"), (200, b"POST /hello 2"), (200, b"GET /hello 3")]
        assert client.statistics.requests == 3


async def test_a_request_in_single_bytes() -> None:
    async with talking() as client:
        request = get("/hello", LAST)
        for position in range(len(request) - 1):
            await client.stream.send_all(request[position : position + 1])
        assert await client.ask_status(request[-1:]) == 200


@pytest.mark.parametrize("start", [b"", b"GET / HT", get("/small", "content-length: 3", method="POST") + b"a"])
async def test_an_unfinished_request_times_out(start: bytes, autojump_clock: MockClock) -> None:
    async with talking((SMALL,)) as client:
        begin = trio.current_time()
        assert await client.ask_status(start) == 408
        assert trio.current_time() - begin == pytest.approx(5.0)
        assert client.statistics[Ending.HTTP_TIMEOUT] == 1


async def test_one_byte_a_second_does_not_move_the_deadline(autojump_clock: MockClock) -> None:
    async with talking() as client:
        begin = trio.current_time()
        with contextlib.suppress(trio.BrokenResourceError):
            for _ in range(60):
                await client.stream.send_all(b"a")
                await trio.sleep(1)
        # The deadline of the head, then at most the time in which a client may read what it did wrong.
        assert trio.current_time() - begin <= 5 + 2 + 1
        assert (await read_all(client.stream)).startswith(b"HTTP/1.1 408 ")


async def test_an_idle_connection_is_closed_without_a_word(autojump_clock: MockClock) -> None:
    async with talking() as client:
        begin = trio.current_time()
        answer = await client.ask(get("/hello"))
        assert answer.count("HTTP/1.1") == 1
        assert trio.current_time() - begin == pytest.approx(5.0)
        assert client.statistics[Ending.HTTP_TIMEOUT] == 0


async def test_a_client_that_does_not_read_its_response_is_given_up(autojump_clock: MockClock) -> None:
    statistics = TransportStatistics()
    server = HttpServer(RouteTable(ROUTES), limits=Limits(), admission=Admission(Limits(), statistics))
    # Of a lockstep stream nothing is ever buffered: a write waits for its read.
    ours, theirs = trio.testing.lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve_stream, theirs)
        await ours.send_all(get("/hello"))
    assert statistics[Ending.HTTP_TIMEOUT] == 1
    assert trio.current_time() == pytest.approx(5.0)


async def test_a_client_that_goes_away_costs_nothing() -> None:
    async with talking() as client:
        await client.stream.send_all(b"GET / HT")
        await client.stream.aclose()
    assert client.statistics.snapshot() == {"accepted": 1, "upgraded": 0, "requests": 0, "http_refused": 1}


@pytest.mark.parametrize(
    "error",
    [ZeroDivisionError(), OSError("disk full"), ExceptionGroup("", [trio.BrokenResourceError()]), trio.TooSlowError()],
    ids=repr,
)
async def test_a_responder_that_raises_costs_its_own_request_only(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def faulty(request: Request) -> Response:
        raise error

    async with talking((*ROUTES, Route("/faulty", respond=faulty))) as client:
        http = h11.Connection(h11.CLIENT)
        answers = []
        for path in ("/faulty?key=secret", "/hello"):
            http.send(h11.Request(method="GET", target="/", headers=[("host", "h")]))
            http.send(h11.EndOfMessage())
            await client.stream.send_all(get(path))
            answers.append(await client.read_response(http))
            http.start_next_cycle()
        assert answers == [(500, b"Internal Server Error"), (200, b"GET /hello")]
        assert client.statistics[Ending.RESPONDER_FAILED] == 1
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("trio_relay.http", logging.ERROR)
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    assert record.getMessage() == "could not answer GET /faulty"
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    "nonsense",
    [
        None,
        Response(200, headers=((b"x-a", b"1\r\nx-b: 2"),)),
        Response(200, b"abc", ((b"content-length", b"5"),)),
        Response(100),
        Response(1000),
    ],
    ids=repr,
)
async def test_a_response_that_may_not_be_sent_is_none(nonsense: Response, caplog: pytest.LogCaptureFixture) -> None:
    async def faulty(request: Request) -> Response:
        return nonsense

    async with talking((Route("/", respond=faulty),)) as client:
        answer = await client.ask(get("/", LAST))
    assert answer.startswith("HTTP/1.1 500 ")
    assert answer.endswith("\r\n\r\nInternal Server Error")
    assert client.statistics[Ending.RESPONDER_FAILED] == len(caplog.records) == 1


async def test_a_bug_in_what_takes_an_upgrade_is_not_swallowed() -> None:
    async def faulty(connection: Connection, request: Request | None) -> None:
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as caught:
        async with talking((Route("/", upgrade=faulty),)) as client:
            await client.ask(UPGRADE + b"\r\n")
    assert caught.group_contains(ZeroDivisionError)


@pytest.mark.parametrize("status", [204, 304])
async def test_some_responses_have_neither_body_nor_length(status: int) -> None:
    async def empty(request: Request) -> Response:
        return Response(status, b"forgotten", ((b"access-control-allow-origin", b"*"),))

    async with talking((Route("/", respond=empty),)) as client:
        head, end, rest = (await client.ask(get("/", LAST, method="OPTIONS"))).partition("\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ")
    assert "access-control-allow-origin: *" in head
    assert "content-length" not in head
    assert (end, rest) == ("\r\n\r\n", "")


@pytest.mark.parametrize(("value", "status"), [("1", 200), ("1" * 20, 431)], ids=["as much as fits", "more than fits"])
async def test_a_thousand_headers(value: str, status: int, autojump_clock: MockClock) -> None:
    async with talking() as client:
        assert await client.ask_status(get("/hello", *(f"x-{i}: {value}" for i in range(1000)), LAST)) == status


async def test_a_header_of_a_megabyte_is_not_collected(autojump_clock: MockClock) -> None:
    async with talking() as client:
        sent = bytearray(get("/hello", "x-a: " + "a" * 1_000_000))
        taken = 0
        while taken < len(sent) and not client.statistics[Ending.HTTP_REFUSED]:
            await client.stream.send_all(sent[taken : taken + 1000])
            taken += 1000
            await wait_all_tasks_blocked()
        assert taken <= 16 * 1024 + 1000
        assert (await read_all(client.stream)).startswith(b"HTTP/1.1 431 ")


async def test_an_upgrade_is_accepted() -> None:
    async with talking() as client:
        await client.stream.send_all(UPGRADE + b"\r\n")
        head = bytes(await client.stream.receive_some()).decode().lower()
        assert head.startswith("http/1.1 101 switching protocols\r\n")
        assert "upgrade: websocket\r\n" in head
        assert "connection: upgrade\r\n" in head
        assert "sec-websocket-accept: icx+yqv66kxgm0fcwalwlflwtai=\r\n" in head
        assert "protocol" not in head.split("\r\n", 1)[1]
        assert "extensions" not in head


async def test_the_accept_token_of_the_rfc() -> None:
    async with talking() as client:
        sample = UPGRADE.replace(KEY, b"dGhlIHNhbXBsZSBub25jZQ==")
        await client.stream.send_all(sample + b"\r\n")
        assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in bytes(await client.stream.receive_some())


@pytest.mark.parametrize(
    ("offer", "echoed"), [("chat, trio-relay.1", True), ("trio-relay.1", True), ("trio-relay.10, chat", False)]
)
async def test_our_subprotocol_is_echoed_if_it_is_offered(offer: str, echoed: bool) -> None:
    seen: list[bool] = []

    async def note(connection: object, request: object) -> None:
        seen.append(connection.offered_subprotocol)  # type: ignore[attr-defined]

    async with talking((Route("/", upgrade=note),)) as client:
        await client.stream.send_all(UPGRADE + f"sec-websocket-protocol: {offer}\r\n\r\n".encode())
        head = bytes(await client.stream.receive_some()).lower()
        assert (b"sec-websocket-protocol: trio-relay.1\r\n" in head) is echoed
    assert seen == [echoed]


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (UPGRADE.replace(b"GET /", b"GET /nowhere"), 400),
        (UPGRADE.replace(b"GET /", b"GET /hello"), 400),
        (UPGRADE.replace(b"GET", b"PUT"), 400),
        (UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0"), 400),
        (UPGRADE.replace(b"connection: keep-alive, UPGRADE", b"connection: keep-alive"), 400),
        (UPGRADE.replace(KEY, b""), 400),
        (UPGRADE.replace(KEY, base64.b64encode(bytes(15))), 400),
        (UPGRADE.replace(KEY, b"!" * 24), 400),
        (UPGRADE.replace(b"version: 13", b"version: 8"), 426),
        (UPGRADE.replace(b"sec-websocket-version: 13\r\n", b""), 426),
        (UPGRADE + b"content-length: 1\r\n", 400),
        (UPGRADE + b"transfer-encoding: chunked\r\n", 400),
    ],
)
async def test_a_bad_upgrade_is_refused(request_bytes: bytes, status: int) -> None:
    async with talking() as client:
        await client.stream.send_all(request_bytes + b"\r\n")
        head = bytes(await client.stream.receive_some()).decode().lower()
        assert head.startswith(f"http/1.1 {status} ")
        assert "connection: close" in head
        assert ("sec-websocket-version: 13" in head) is (status == 426)
        assert client.statistics[Ending.UPGRADE_REFUSED] == 1


async def test_other_upgrades_are_ignored() -> None:
    async with talking() as client:
        assert await client.ask_status(get("/hello", "connection: upgrade, close", "upgrade: h2c")) == 200


@given(st.lists(st.binary(min_size=1, max_size=200), max_size=5), st.booleans())
@settings(max_examples=60)
def test_arbitrary_bytes_end_one_connection_only(chunks: list[bytes], polite: bool) -> None:
    async def run() -> None:
        async with talking() as client:
            with trio.move_on_after(20):
                for chunk in ([b"GET / HTTP/1.1\r\n"] if polite else []) + chunks:
                    await client.stream.send_all(chunk)
                answer = await read_all(client.stream)
                assert answer.startswith(b"HTTP/1.1 ")

    trio.run(run, clock=MockClock(autojump_threshold=0))


async def test_what_takes_an_upgrade_is_told_when_its_time_began(autojump_clock: MockClock) -> None:
    began: list[float] = []

    async def take(connection: Connection, request: Request | None) -> None:
        assert request is not None
        began.append(request.since)

    start = trio.current_time()
    async with talking((Route("/", upgrade=take),)) as client:
        await trio.sleep(4.5)
        assert (await client.ask(UPGRADE + b"\r\n")).startswith("HTTP/1.1 101 ")
    assert began == [start]
