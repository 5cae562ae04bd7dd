"""From the listening socket to the first message of a WebSocket, over real sockets."""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.transports.support import ROUTES, echo, hello, read_all, serving
from tests.transports.talking import KEY, UPGRADE, get, talking
from trio_relay.limits import Limits
from trio_relay.transports.admission import Ending, TransportStatistics
from trio_relay.transports.connection import Connection
from trio_relay.transports.listening import Listener
from trio_relay.transports.routes import Request, Response, Route

USUAL = UPGRADE + b"\r\n"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\n"
LIMITS = Limits(close_timeout=0.2)
CLOSE = b"\x88\x80\0\0\0\0"


async def connect(port: int) -> trio.SocketStream:
    return await trio.open_tcp_stream("127.0.0.1", port)


async def ask(port: int, *pieces: bytes) -> bytes:
    """What a server says until it ends the stream."""
    async with await connect(port) as stream:
        for piece in pieces:
            await stream.send_all(piece)
            await trio.testing.wait_all_tasks_blocked()
        return await read_all(stream)


async def greet(connection: Connection, request: Request | None) -> None:
    await connection.send([b"hello"])
    await connection.receive()


@pytest.mark.parametrize("speaks_first", [True, False])
async def test_the_answer_to_an_upgrade_may_leave_with_the_first_message(
    speaks_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[bytes] = []
    monkeypatch.setattr("os.writev", recording(writes))
    async with serving([Route("/", upgrade=greet, speaks_first=speaks_first)], limits=LIMITS) as served:
        answer = await ask(served.port, USUAL + CLOSE)
    head, _, frames = answer.partition(b"\r\n\r\n")
    assert head.startswith(SWITCHING)
    assert frames == b"\x82\x05hello\x88\x00"
    assert writes[0] == (head + b"\r\n\r\n\x82\x05hello" if speaks_first else b"\x82\x05hello")


def recording(writes: list[bytes], writev: Callable[[int, list[bytes]], int] = os.writev) -> Callable[..., int]:
    """`os.writev`, which writes messages; what a socket did not take, or a head alone, is written by `os.write`."""

    def record(descriptor: int, buffers: list[bytes]) -> int:
        writes.append(b"".join(buffers))
        return writev(descriptor, buffers)

    return record


@pytest.mark.parametrize("speaks_first", [True, False])
async def test_the_answer_does_not_wait_for_a_handler_that_only_listens(speaks_first: bool) -> None:
    route = Route("/", upgrade=echo, speaks_first=speaks_first)
    async with serving([route], limits=LIMITS) as served, await connect(served.port) as stream:
        await stream.send_all(USUAL)
        assert (await stream.receive_some()).startswith(SWITCHING)


async def test_the_answer_does_not_wait_for_a_handler_that_does_not_speak_first() -> None:
    async def think(connection: Connection, request: Request | None) -> None:
        await trio.sleep_forever()

    async with serving([Route("/", upgrade=think)], limits=LIMITS) as served, await connect(served.port) as stream:
        await stream.send_all(USUAL)
        assert (await stream.receive_some()).startswith(SWITCHING)


async def test_a_handler_that_only_closes_has_the_answer_sent_before() -> None:
    async def refuse(connection: Connection, request: Request | None) -> None:
        await connection.aclose(1000)

    async with serving([Route("/", upgrade=refuse, speaks_first=True)], limits=LIMITS) as served:
        answer = await ask(served.port, USUAL + CLOSE)
    assert answer.startswith(SWITCHING)
    assert answer.endswith(b"\r\n\r\n\x88\x02\x03\xe8")


def without_date(answer: bytes) -> list[bytes]:
    return [line for line in answer.split(b"\r\n") if not line.startswith(b"date:")]


def only_hello(request: Request) -> Response | None:
    return None if request.query == "hello" else Response.text(403, "not here")


def fail(request: Request) -> Response | None:
    raise ValueError("a bug")


CHECKED = (
    *ROUTES[1:],
    Route("/", upgrade=greet),
    Route("/checked", upgrade=greet, respond=hello, check=only_hello),
    Route("/broken", upgrade=greet, check=fail),
)


@pytest.mark.parametrize(
    "request_bytes",
    [
        USUAL + CLOSE,
        USUAL.replace(b"\r\nhost: h", b"\r\nhost: h\r\nx: a\r\nx: b") + CLOSE,
        USUAL.replace(b" / ", b" /checked?hello ") + CLOSE,
        USUAL.replace(b" / ", b" /checked "),
        USUAL.replace(b" / ", b" /broken "),
        USUAL.replace(b" / ", b" /hello "),
        USUAL.replace(b" / ", b" /nowhere "),
        USUAL.replace(b"host: h", b"host h"),
        USUAL.replace(b": 13", b": 8"),
        USUAL.replace(KEY, b"k"),
        get("/hello", "connection: close"),
        get("/", "connection: close"),
        b"",
        b"GET /hello HTTP/1.1\r\n",
        b"\x16\x03\x01",
        get("/hello", "x: " + "y" * 20_000),
    ],
)
async def test_what_a_socket_hears_is_what_a_stream_in_memory_hears(
    request_bytes: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Over which everything is read by h11."""
    caplog.set_level(logging.CRITICAL, logger="trio_relay.http")
    async with serving(CHECKED, limits=LIMITS) as served:
        async with await connect(served.port) as stream:
            await stream.send_all(request_bytes)
            await stream.send_eof()
            over_tcp = await read_all(stream)
        while served.admission.admitted:
            await trio.lowlevel.checkpoint()
        counted = served.admission.statistics.snapshot()
    async with talking(CHECKED, LIMITS) as client:
        await client.stream.send_all(request_bytes)
        await client.stream.send_stream.aclose()
        in_memory = await read_all(client.stream)
        assert without_date(over_tcp) == without_date(in_memory)
        assert counted == client.statistics.snapshot()


async def test_a_check_that_refuses_or_fails_is_answered_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, logger="trio_relay.http")
    async with serving(CHECKED, limits=LIMITS) as served:
        refused = await ask(served.port, USUAL.replace(b" / ", b" /checked "))
        failed = await ask(served.port, USUAL.replace(b" / ", b" /broken?key=secret "))
        statistics = served.admission.statistics
        assert (statistics.requests, statistics.upgraded, statistics[Ending.UPGRADE_REFUSED]) == (2, 0, 2)
        assert statistics[Ending.RESPONDER_FAILED] == 1
    assert refused.startswith(b"HTTP/1.1 403 ")
    assert failed.startswith(b"HTTP/1.1 500 ")
    assert [record.getMessage() for record in caplog.records] == ["could not answer GET /broken"]


@pytest.mark.parametrize("cut", [1, 60, len(USUAL) - 1])
async def test_a_head_may_come_in_pieces(cut: int) -> None:
    async with serving([Route("/", upgrade=greet, speaks_first=True)], limits=LIMITS) as served:
        answer = await ask(served.port, USUAL[:cut], USUAL[cut:] + CLOSE)
    assert answer.startswith(SWITCHING)
    assert answer.endswith(b"\r\n\r\n\x82\x05hello\x88\x00")


async def test_who_sends_nothing_is_told_so_in_time() -> None:
    async with serving(limits=Limits(http_timeout=0.05, close_timeout=0.05)) as served:
        with trio.fail_after(5):
            assert (await ask(served.port)).startswith(b"HTTP/1.1 408 ")
        assert served.admission.statistics.snapshot() == {
            "accepted": 1,
            "upgraded": 0,
            "requests": 0,
            "http_timeout": 1,
        }


async def test_who_resets_the_connection_before_a_word_is_counted() -> None:
    async with serving() as served:
        stream = await connect(served.port)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await stream.aclose()
        while not served.admission.statistics[Ending.BROKEN]:
            await trio.lowlevel.checkpoint()
        assert served.admission.admitted == 0


# Listeners


async def test_more_than_are_accepted_in_one_turn_are_all_served() -> None:
    async with serving(limits=LIMITS) as served:
        sockets = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(50)]
        for sock in sockets:
            sock.sendall(get("/hello", "connection: close"))
        for sock in sockets:
            sock.setblocking(False)
            async with trio.SocketStream(trio.socket.from_stdlib_socket(sock)) as stream:
                assert (await read_all(stream)).startswith(b"HTTP/1.1 200 ")
        assert served.admission.statistics.accepted == 50


async def test_behind_a_wildcard_a_connection_knows_where_it_arrived() -> None:
    seen: list[str] = []

    async def note(connection: Connection, request: Request | None) -> None:
        seen.append(connection.local)

    async with serving([Route("/", upgrade=note)], listen="0.0.0.0:0", limits=LIMITS) as served:
        await ask(served.port, USUAL + CLOSE)
        assert seen == [f"127.0.0.1:{served.port}"]
        assert served.bound == [f"0.0.0.0:{served.port}"]


class Failing:
    """A listening socket whose `accept` fails with these errors before it works."""

    def __init__(self, sock: socket.socket, *errors: int) -> None:
        self._socket = sock
        self._errors = list(errors)

    def accept(self) -> tuple[socket.socket, Any]:
        if self._errors:
            raise OSError(self._errors.pop(0), "as the test wants it")
        return self._socket.accept()

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()


async def accept_one(*errors: int) -> TransportStatistics:
    """The counters of a listener that met those errors and then a connection."""
    (inner,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    listener, statistics, served = Listener(inner), TransportStatistics(), trio.Event()
    listener._socket = Failing(listener._socket, *errors)  # type: ignore[misc, assignment]
    async with trio.open_nursery() as nursery:

        def serve(stream: trio.SocketStream, addresses: tuple[str, str]) -> None:
            assert addresses == (client_address, listener.bound)
            stream.socket.close()
            served.set()

        with socket.create_connection(("127.0.0.1", int(listener.bound.rpartition(":")[2]))) as client:
            client_address = "{}:{}".format(*client.getsockname())
            nursery.start_soon(listener.accept, serve, statistics)
            await served.wait()
            nursery.cancel_scope.cancel()
    assert listener._socket.fileno() == -1
    return statistics


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EPERM, errno.EAGAIN])
async def test_a_connection_that_was_lost_before_it_was_accepted_costs_nothing(number: int) -> None:
    statistics = await accept_one(number, number)
    assert statistics[Ending.DESCRIPTORS_EXHAUSTED] == 0


async def test_where_there_is_no_room_it_is_tried_again_later(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, logger="trio_relay.http")
    begin = trio.current_time()
    statistics = await accept_one(errno.EMFILE, errno.ENOBUFS)
    assert trio.current_time() - begin == pytest.approx(0.2)
    assert statistics[Ending.DESCRIPTORS_EXHAUSTED] == 2
    assert len(caplog.records) == 2


async def test_another_error_of_a_listener_is_raised() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        await accept_one(errno.EINVAL)
    assert caught.value.subgroup(lambda error: isinstance(error, OSError) and error.errno == errno.EINVAL)


async def test_who_is_cancelled_listens_no_more_while_connections_still_end() -> None:
    done = trio.Event()

    async def linger(connection: Connection, request: Request | None) -> None:
        with trio.CancelScope(shield=True):
            await done.wait()

    async def serve(*, task_status: trio.TaskStatus[int]) -> None:
        async with serving([Route("/", upgrade=linger)], limits=LIMITS) as served:
            task_status.started(served.port)
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        port = await nursery.start(serve)
        async with await connect(port) as stream:
            await stream.send_all(USUAL)
            await stream.receive_some()
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await trio.testing.wait_all_tasks_blocked()
                with pytest.raises(OSError, match="connect"):
                    await connect(port)
                done.set()
