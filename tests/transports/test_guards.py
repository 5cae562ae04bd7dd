"""What decides on an upgrade before it is answered."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.transports.support import echo, hello
from tests.transports.talking import UPGRADE, get, talking
from trio_relay.transports.admission import Ending
from trio_relay.transports.connection import Connection
from trio_relay.transports.routes import Guard, Request, Response, Route

KEYED = UPGRADE.replace(b"GET / ", b"GET /?key=secret ") + b"\r\n"


async def want_key(request: Request) -> Response | None:
    return None if request.query == "key=secret" else Response.typed(403, b"Invalid key", "text/html")


def guarded(guard: Guard) -> tuple[Route, ...]:
    return (Route("/", upgrade=echo, respond=hello, guard=guard),)


async def test_a_guard_refuses_with_its_response() -> None:
    async with talking(guarded(want_key)) as client:
        head, _, body = (await client.ask(UPGRADE + b"\r\n")).partition("\r\n\r\n")
        status, *headers = head.split("\r\n")
        assert status.startswith("HTTP/1.1 403 ")
        assert {line for line in headers if not line.lower().startswith("date: ")} == {
            "content-type: text/html",
            "connection: close",
            "content-length: 11",
        }
        assert body == "Invalid key"
        assert client.statistics.snapshot() == {"accepted": 1, "upgraded": 0, "requests": 1, "upgrade_refused": 1}


async def test_a_guard_lets_pass_and_nothing_that_followed_is_lost() -> None:
    seen: list[bytes] = []

    async def pause(request: Request) -> None:
        await trio.lowlevel.checkpoint()

    async def note(connection: Connection, request: Request | None) -> None:
        seen.extend(bytes(message) for message in await connection.receive() if not isinstance(message, str))

    async with talking((Route("/", upgrade=note, guard=pause),)) as client:
        answer = await client.ask(KEYED + b"\x82\x83\0\0\0\0abc" + b"\x88\x80\0\0\0\0")
        assert answer.startswith("HTTP/1.1 101 ")
        assert client.statistics.upgraded == 1
    assert seen == [b"abc"]


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [(get("/", "connection: close"), 200), (UPGRADE.replace(b"version: 13", b"version: 8") + b"\r\n", 426)],
    ids=["no upgrade", "a bad one"],
)
async def test_a_guard_is_asked_about_good_upgrades_only(request_bytes: bytes, status: int) -> None:
    async def guard(request: Request) -> None:
        raise AssertionError("asked in vain")

    async with talking(guarded(guard)) as client:
        assert await client.ask_status(request_bytes) == status
        assert client.statistics[Ending.RESPONDER_FAILED] == 0


@pytest.mark.parametrize("late", [0, 4])
async def test_a_guard_has_the_time_of_the_handshake(late: float, autojump_clock: MockClock) -> None:
    async def undecided(request: Request) -> None:
        await trio.sleep_forever()

    async with talking(guarded(undecided)) as client:
        begin = trio.current_time()
        await trio.sleep(late)
        answer = await client.ask(KEYED)
        assert trio.current_time() - begin == pytest.approx(5.0)
        assert answer.startswith("HTTP/1.1 503 ")
        assert "connection: close" in answer
        assert client.statistics[Ending.UPGRADE_REFUSED] == 1


async def test_a_guard_that_raises_lets_nobody_pass(caplog: pytest.LogCaptureFixture) -> None:
    async def faulty(request: Request) -> None:
        raise ZeroDivisionError

    async with talking(guarded(faulty)) as client:
        answer = await client.ask(KEYED)
        assert answer.startswith("HTTP/1.1 500 ")
        assert "connection: close" in answer
        assert client.statistics[Ending.RESPONDER_FAILED] == client.statistics[Ending.UPGRADE_REFUSED] == 1
    assert [record.getMessage() for record in caplog.records] == ["could not answer GET /"]
    assert "secret" not in caplog.text


async def test_a_client_that_goes_away_while_the_guard_decides(caplog: pytest.LogCaptureFixture) -> None:
    decided = trio.Event()

    async def guard(request: Request) -> None:
        await decided.wait()

    async with talking(guarded(guard)) as client:
        await client.stream.send_all(KEYED)
        await wait_all_tasks_blocked()
        await client.stream.aclose()
        decided.set()
    assert client.statistics[Ending.BROKEN] == 1
    assert caplog.records == []
