"""Request bodies: who reads how much of them, in which time, and what becomes of the rest."""

from __future__ import annotations

import hashlib
import itertools
import socket
import struct
import weakref
from collections.abc import Iterator

import h11
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.transports.support import ROUTES, read_all, serving
from tests.transports.talking import LAST, UPGRADE, Client, get, talking
from trio_relay.limits import Limits
from trio_relay.transports.admission import Ending, TransportStatistics
from trio_relay.transports.conversation import Conversation
from trio_relay.transports.routes import Body, BodyIncomplete, BodyTooLarge, Request, Response, Route, RouteTable

KIB = 1024
CONTINUE = b"HTTP/1.1 100 \r\n\r\n"


async def take_all(request: Request) -> Response:
    return Response(200, await request.body.read(KIB * KIB))


async def digest(request: Request) -> Response:
    """Reads piece by piece."""
    hashed = hashlib.sha256()
    async for piece in request.body:
        assert piece
        hashed.update(piece)
    return Response(200, hashed.hexdigest().encode())


async def take_few(request: Request) -> Response:
    """Says itself that there is too much."""
    try:
        return Response(200, await request.body.read(10))
    except BodyTooLarge as error:
        return Response(413, b'{"error":"Blob exceeds max size (%d bytes)"}' % error.most)


async def take_slowly(request: Request) -> Response:
    size = 0
    async for piece in request.body:
        size += len(piece)
        await trio.sleep(3)
    return Response(200, b"%d" % size)


SERVED = (
    *ROUTES,
    Route("/all", respond=take_all),
    Route("/digest", respond=digest),
    Route("/few", respond=take_few),
    Route("/slowly", respond=take_slowly),
)


def post(target: str, length: int | None, *headers: str) -> bytes:
    framing = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    return get(target, framing, *headers, method="POST")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def cut(data: bytes, at: list[int]) -> Iterator[bytes]:
    edges = [0, *sorted(edge % (len(data) + 1) for edge in at), len(data)]
    return (data[start:end] for start, end in itertools.pairwise(edges))


async def expect(client: Client, *answers: tuple[int, bytes]) -> None:
    """The next responses on a connection that is kept alive."""
    http = h11.Connection(h11.CLIENT)
    for answer in answers:
        http.send(h11.Request(method="GET", target="/", headers=[("host", "h")]))
        http.send(h11.EndOfMessage())
        assert await client.read_response(http) == answer
        http.start_next_cycle()


@given(
    st.binary(max_size=3000),
    st.lists(st.integers(0, 4000), max_size=6),
    st.lists(st.integers(0, 4000), max_size=6),
    st.booleans(),
    st.sampled_from(["/all", "/digest", "/hello"]),
)
@settings(max_examples=80, deadline=None)
def test_a_body_is_what_was_sent(body: bytes, chunks: list[int], writes: list[int], chunked: bool, path: str) -> None:
    sent = b"".join(map(chunk, cut(body, chunks))) + b"0\r\nx-trailer: 1\r\n\r\n" if chunked else body
    data = post(path, None if chunked else len(body)) + sent + get("/hello?next")
    answer = {"/all": body, "/digest": hashlib.sha256(body).hexdigest().encode(), "/hello": b"POST /hello"}[path]

    async def run() -> None:
        async with talking(SERVED) as client, trio.open_nursery() as nursery:
            nursery.start_soon(expect, client, (200, answer), (200, b"GET /hello next"))
            for piece in cut(data, writes):
                await client.stream.send_all(piece)
                await wait_all_tasks_blocked()

    trio.run(run, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize("path", ["/all", "/digest"])
async def test_a_large_body_arrives(path: str) -> None:
    body = bytes(range(256)) * 4000
    async with serving(SERVED) as served, await trio.open_tcp_stream("127.0.0.1", served.port) as stream:
        await stream.send_all(post(path, len(body), LAST) + body)
        answer = (await read_all(stream)).partition(b"\r\n\r\n")[2]
    assert answer == (body if path == "/all" else hashlib.sha256(body).hexdigest().encode())


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
async def test_a_request_without_a_body_has_an_empty_one(method: str) -> None:
    seen: list[tuple[int | None, bytes]] = []

    async def note(request: Request) -> Response:
        seen.append((request.body.length, await request.body.read(0)))
        return Response(200)

    async with talking((Route("/", respond=note),)) as client:
        assert await client.ask_status(get("/", LAST, method=method)) == 200
    assert seen == [(0, b"")]


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_responder_may_say_itself_that_it_is_too_much(chunked: bool) -> None:
    async with talking(SERVED) as client:
        sent = chunk(bytes(8)) + chunk(bytes(3)) + b"0\r\n\r\n" if chunked else bytes(11)
        await client.stream.send_all(post("/few", None if chunked else 11) + sent + get("/hello"))
        await expect(client, (413, b'{"error":"Blob exceeds max size (10 bytes)"}'), (200, b"GET /hello"))
        assert client.statistics[Ending.HTTP_REFUSED] == 0


@pytest.mark.parametrize("path", ["/all", "/few"])
async def test_too_much_is_refused_before_it_is_sent(path: str, autojump_clock: MockClock) -> None:
    async with talking(SERVED) as client:
        begin = trio.current_time()
        # Nothing of the body is ever sent.
        answer = await client.ask(post(path, 1 << 40, "expect: 100-continue"))
        assert answer.startswith("HTTP/1.1 413 ")
        assert "connection: close" in answer.lower()
        assert trio.current_time() - begin == 0


@pytest.mark.parametrize("grouped", [False, True])
async def test_too_much_that_no_responder_catches_is_answered(grouped: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def take(request: Request) -> Response:
        if not grouped:
            return Response(200, await request.body.read(10))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(request.body.read, 10)
        return Response(200)

    async with talking((Route("/", respond=take),)) as client:
        answer = await client.ask(post("/", 11) + bytes(11))
    assert answer.startswith("HTTP/1.1 413 ")
    assert answer.endswith("expected a body of at most 10 bytes")
    assert client.statistics[Ending.HTTP_REFUSED] == 1
    assert caplog.records == []


# 100 Continue


async def test_a_client_is_told_to_go_on_when_the_body_is_read() -> None:
    async with talking(SERVED) as client:
        await client.stream.send_all(post("/all", 3, "expect: 100-continue", LAST))
        assert await client.stream.receive_some() == CONTINUE
        await client.stream.send_all(b"a")
        await wait_all_tasks_blocked()
        answer = await client.ask(b"bc")
        assert answer.startswith("HTTP/1.1 200 ")
        assert answer.endswith("\r\n\r\nabc")


async def test_a_client_that_does_not_wait_is_not_told_to_go_on() -> None:
    async with talking(SERVED) as client:
        await client.stream.send_all(post("/digest", 6, "expect: 100-continue", LAST) + b"abc")
        assert await client.stream.receive_some() == CONTINUE  # nothing was looked at before the first read
        assert (await client.ask(b"def")).startswith("HTTP/1.1 200 ")


async def test_a_client_that_waits_for_nothing_is_answered_at_once(autojump_clock: MockClock) -> None:
    async with talking(SERVED) as client:
        begin = trio.current_time()
        await client.stream.send_all(post("/hello", 3, "expect: 100-continue"))
        answer = await client.stream.receive_some()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close" in answer.lower()
        assert trio.current_time() == begin


# What nobody reads


@pytest.mark.parametrize(("size", "kept"), [(64 * KIB, True), (64 * KIB + 1, False)])
@pytest.mark.parametrize("chunked", [False, True])
async def test_what_is_not_read_is_thrown_away(size: int, kept: bool, chunked: bool, autojump_clock: MockClock) -> None:
    async with talking(SERVED) as client:
        sent = chunk(bytes(size)) + b"0\r\n\r\n" if chunked else bytes(size)
        answer = await client.ask(post("/hello", None if chunked else size) + sent + get("/hello", LAST))
        assert answer.count("HTTP/1.1 200 ") == 1 + kept
        assert "POST /hello" in answer
        assert answer.lower().count("connection: close") == 1
        assert client.statistics[Ending.HTTP_REFUSED] == 0


async def test_too_much_to_be_thrown_away_is_not_waited_for(autojump_clock: MockClock) -> None:
    async with talking(SERVED) as client:
        begin = trio.current_time()
        await client.stream.send_all(post("/hello", 64 * KIB + 1))
        answer = await client.stream.receive_some()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close" in answer.lower()
        assert trio.current_time() == begin


async def test_what_was_read_does_not_count_as_thrown_away() -> None:
    async def take_one(request: Request) -> Response:
        return Response(200, b"%d" % (len(await anext(request.body)) > 0))

    size = 64 * KIB + 1  # one piece is read, so the rest is within the bound
    async with talking((*ROUTES, Route("/one", respond=take_one))) as client:
        await client.stream.send_all(post("/one", size) + bytes(size) + get("/hello"))
        await expect(client, (200, b"1"), (200, b"GET /hello"))


async def test_a_body_without_end_does_not_keep_the_answer_from_the_client(autojump_clock: MockClock) -> None:
    async with talking(SERVED) as client:
        await client.stream.send_all(post("/hello", None))
        for _ in range(70):
            await client.stream.send_all(chunk(bytes(KIB)))
        await wait_all_tasks_blocked()
        begin = trio.current_time()
        answer = await read_all(client.stream)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert trio.current_time() - begin <= Limits().close_timeout


@pytest.mark.parametrize("target", ["/hello", "/nowhere", "/"])
async def test_an_unread_body_that_stalls_delays_the_answer_only(target: str, autojump_clock: MockClock) -> None:
    async with talking(SERVED) as client:
        begin = trio.current_time()
        answer = await client.ask(post(target, 3) + b"a")
        assert answer.startswith({"/hello": "HTTP/1.1 200 ", "/nowhere": "HTTP/1.1 404 ", "/": "HTTP/1.1 426 "}[target])
        assert "connection: close" in answer.lower()
        assert trio.current_time() - begin == pytest.approx(5.0)
        assert client.statistics[Ending.HTTP_TIMEOUT] == 1


# Time


@pytest.mark.parametrize("path", ["/all", "/digest"])
@pytest.mark.parametrize("chunked", [False, True])
async def test_one_byte_a_second_is_too_slow(path: str, chunked: bool, autojump_clock: MockClock) -> None:
    async with talking(SERVED) as client:
        begin = trio.current_time()
        await client.stream.send_all(post(path, None if chunked else 1000))
        while not client.statistics[Ending.HTTP_TIMEOUT]:
            await client.stream.send_all(chunk(b"a") if chunked else b"a")
            await trio.sleep(1)
        assert trio.current_time() - begin == pytest.approx(5, abs=1.1)
        assert (await read_all(client.stream)).startswith(b"HTTP/1.1 408 ")
        assert client.statistics[Ending.HTTP_TIMEOUT] == 1


async def test_a_client_that_keeps_the_rate_has_the_time_it_needs(autojump_clock: MockClock) -> None:
    async with talking(SERVED) as client:
        await client.stream.send_all(post("/all", 60 * 16 * KIB, LAST))
        for _ in range(60):
            await trio.sleep(1)
            await client.stream.send_all(bytes(16 * KIB))
        assert (await read_all(client.stream)).startswith(b"HTTP/1.1 200 ")
        assert trio.current_time() >= 60


async def test_a_slow_responder_takes_no_time_from_its_client(autojump_clock: MockClock) -> None:
    async with talking(SERVED) as client:
        await client.stream.send_all(post("/slowly", 10, LAST))
        for _ in range(10):
            await client.stream.send_all(b"a")
            await trio.sleep(3)
        answer = await read_all(client.stream)
        assert answer.endswith(b"\r\n\r\n10")


async def test_each_request_has_its_own_time(autojump_clock: MockClock) -> None:
    async with talking(SERVED) as client:
        for _ in range(3):
            await client.stream.send_all(post("/all", 1))
            await trio.sleep(4)
            await client.stream.send_all(b"a")
            await expect(client, (200, b"a"))


async def test_many_small_chunks_leave_time_for_others() -> None:
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with talking(SERVED) as client, trio.open_nursery() as nursery:
        await client.stream.send_all(post("/digest", None, LAST) + chunk(b"a") * 1000 + b"0\r\n\r\n")
        nursery.start_soon(take_turns)
        assert (await read_all(client.stream)).startswith(b"HTTP/1.1 200 ")
        nursery.cancel_scope.cancel()
    assert turns >= 1000


# Clients that go away


@pytest.mark.parametrize("path", ["/all", "/digest", "/hello"])
async def test_a_client_that_goes_away_costs_itself_only(path: str, caplog: pytest.LogCaptureFixture) -> None:
    async with talking(SERVED) as client:
        await client.stream.send_all(post(path, 1000) + bytes(10))
        await wait_all_tasks_blocked()
        await client.stream.aclose()
    assert client.statistics.snapshot() == {"accepted": 1, "upgraded": 0, "requests": 1, "http_refused": 1} | (
        {"broken": 1} if path == "/hello" else {}
    )
    assert caplog.records == []


async def test_a_connection_that_breaks_costs_itself_only(caplog: pytest.LogCaptureFixture) -> None:
    failures: list[BodyIncomplete] = []

    async def take(request: Request) -> Response:
        for _ in range(2):
            with pytest.raises(BodyIncomplete) as caught:
                await request.body.read(1000)
            failures.append(caught.value)
        raise caught.value

    async with serving([*ROUTES, Route("/take", respond=take)]) as served:
        stream = await trio.open_tcp_stream("127.0.0.1", served.port)
        await stream.send_all(post("/take", 1000) + bytes(10))
        await wait_all_tasks_blocked(0.01)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await stream.aclose()
        with trio.fail_after(5):
            while served.admission.admitted:
                await trio.lowlevel.checkpoint()
        assert served.admission.statistics[Ending.BROKEN] == 1
        assert served.admission.statistics[Ending.RESPONDER_FAILED] == 0
    assert len(failures) == 2
    assert caplog.records == []


async def test_a_responder_may_answer_without_the_rest(autojump_clock: MockClock) -> None:
    async def take(request: Request) -> Response:
        try:
            await request.body.read(1000)
        except BodyIncomplete:
            return Response(202, b"so what")
        return Response(200)

    async with talking((Route("/", respond=take),)) as client:
        begin = trio.current_time()
        answer = await client.ask(post("/", 1000) + bytes(10))
        assert answer.startswith("HTTP/1.1 202 ")
        assert "connection: close" in answer.lower()
        assert trio.current_time() - begin == pytest.approx(5.0)
        assert client.statistics[Ending.HTTP_TIMEOUT] == 1


# What is kept


async def test_a_body_that_was_kept_can_not_be_read_and_holds_nothing() -> None:
    kept: list[Body] = []

    async def keep(request: Request) -> Response:
        kept.append(request.body)
        return Response(200)

    ours, theirs = trio.testing.memory_stream_pair()
    table = RouteTable([Route("/", respond=keep)])
    conversation = Conversation(theirs, table, limits=Limits(), statistics=TransportStatistics())
    held = weakref.ref(conversation._reader)
    await ours.send_all(post("/", 3, LAST) + b"abc")
    await ours.send_eof()
    assert await conversation.run() is None
    del conversation
    assert held() is None
    with pytest.raises(trio.ClosedResourceError, match="was answered"):
        await kept[0].read(3)


async def test_an_upgrade_keeps_nothing_of_http() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    conversation = Conversation(theirs, RouteTable(ROUTES), limits=Limits(), statistics=TransportStatistics())
    held = weakref.ref(conversation._reader)
    await ours.send_all(UPGRADE + b"\r\nrest")
    upgrade = await conversation.run()
    assert upgrade is not None
    assert (upgrade.received, await upgrade.request.body.read(0)) == (b"rest", b"")
    del conversation
    assert held() is None


async def test_a_body_with_two_lengths_is_refused() -> None:
    async with talking() as client:
        two = b"POST /all HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
        await client.stream.send_all(two + b"0\r\n\r\n" + get("/hello"))
        answered = await read_all(client.stream)
        assert answered.startswith(b"HTTP/1.1 400 ")
        assert answered.count(b"HTTP/1.1 ") == 1
