"""The SSE driver against hubs that do what a test says; real ones are in `tests/interop/peerix`."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import pytest
import trio
import trio.testing

from tests.peerix.drivers.hubs import Asked, Hubs, HubWire, hubs
from trio_relay.exceptions import DriverError
from trio_relay.peerix.drivers.driver import MAX_PACKET, DriverActive, DriverFailed, DriverInactive
from trio_relay.peerix.drivers.sse import SseDriver
from trio_relay.peerix.drivers.sse_source import MAX_DATA

Clock = trio.testing.MockClock
Scripted = Callable[..., Hubs]
settled = trio.testing.wait_all_tasks_blocked

URL = "http://hub.example/.well-known/mercure"
SECRET = "a-secret"


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery) -> Scripted:
    return lambda *scripts: hubs(monkeypatch, nursery, *scripts)


def ignore(packet: bytes) -> None:
    pass


def event(packet: bytes, more: str = "") -> bytes:
    return f"{more}data: {base64.b64encode(packet).decode()}\n\n".encode()


def opened(url: str = URL, **options: Any) -> SseDriver:
    """A driver that waits as long as it may."""
    return SseDriver(url, random=lambda: 1.0, **options)


async def stay(wire: HubWire) -> None:
    """A stream that says nothing until the client goes; its end is not waited for by anybody."""
    await wire.rest()
    raise EOFError


async def quiet(wire: HubWire) -> None:
    """Opens a stream."""
    await wire.request()
    await wire.begin()
    await stay(wire)


async def take(wire: HubWire) -> None:
    """Takes whatever is published."""
    while True:
        await wire.request()
        await wire.answer(200)


async def test_the_conversation(scripted: Scripted, autojump_clock: Clock) -> None:
    asked: list[Asked] = []
    packets: list[bytes] = []

    async def stream(wire: HubWire) -> None:
        asked.append(await wire.request())
        await wire.begin(b":hello\n\nretry: 9\n", event(b"1"), event(b"\xff\xfe", "id: 5\nevent: message\n"))
        await stay(wire)

    async def post(wire: HubWire) -> None:
        for _ in range(2):
            asked.append(await wire.request())
            await wire.answer(200, body=b"urn:uuid:1")
        await stay(wire)

    found = scripted(stream, post)
    driver = opened(f"{URL}?a=b", token=SECRET, subscriber={"X-A": "1"}, publisher={"X-B": "2"})
    async with driver:
        await driver.subscribe("a room", packets.append)
        assert driver.active
        await driver.publish("other", b"\xfb\xff\x00")
        await driver.publish("other", b"")
        await settled()
    await settled()
    assert packets == [b"1", b"\xff\xfe"]
    get, first, second = asked
    assert (get.method, get.target) == ("GET", "/.well-known/mercure?a=b&topic=a+room")
    assert get.headers == {
        "host": "hub.example",
        "accept": "text/event-stream",
        "accept-encoding": "identity",
        "cache-control": "no-store",
        "authorization": f"Bearer {SECRET}",
        "x-a": "1",
    }
    assert (first.method, first.target) == ("POST", "/.well-known/mercure?a=b&topic=other")
    assert first.headers["content-type"] == "application/x-www-form-urlencoded"
    assert first.headers["authorization"] == f"Bearer {SECRET}"
    assert first.headers["x-b"] == "2"
    assert parse_qs(first.body.decode()) == {"topic": ["other"], "data": ["+/8A"]}
    assert second.body == b"topic=other&data="
    assert found.closed == 2
    assert driver.counts == {"driver_connected": 1}


async def test_every_namespace_has_a_stream_and_all_its_handlers_share_it(
    scripted: Scripted, autojump_clock: Clock
) -> None:
    targets: list[str] = []
    packets: list[bytes] = []

    async def stream(wire: HubWire) -> None:
        targets.append((await wire.request()).target[-1])
        await wire.begin(event(targets[-1].encode()))
        await stay(wire)

    found = scripted(stream)
    async with opened() as driver:
        async with trio.open_nursery() as nursery:
            for name, handler in (("x", packets.append), ("x", packets.append), ("y", packets.append)):
                nursery.start_soon(driver.subscribe, name, handler)
        assert sorted(targets) == ["x", "y"]
        await settled()
        assert sorted(packets) == [b"x", b"x", b"y"]
        await driver.unsubscribe("x", packets.append)
        await settled()
        assert found.closed == 0
        await driver.unsubscribe("x", packets.append)
        await settled()
        assert found.closed == 1
        assert driver.active
    await settled()
    assert found.closed == 2


async def test_a_lost_stream_is_opened_again_from_where_it_ended(scripted: Scripted, autojump_clock: Clock) -> None:
    ids: list[str | None] = []
    packets: list[bytes] = []

    async def lost(wire: HubWire) -> None:
        ids.append((await wire.request()).headers.get("last-event-id"))
        await wire.begin(event(b"1", "id: ä1\n"), b"retry: 3000\n\n", event(b"2", "id: ä2\n"), b"id: 3\ndata: Mw")
        await trio.sleep(1)

    async def stream(wire: HubWire) -> None:
        ids.append((await wire.request()).headers.get("last-event-id"))
        await wire.begin(event(b"4"))
        await stay(wire)

    found = scripted(lost, stream)
    driver = opened()
    async with driver, driver.events() as events:
        await driver.subscribe("room", packets.append)
        await settled()
        assert packets == [b"1", b"2"]
        assert await events.__anext__() == DriverActive()
        inactive = await events.__anext__()
        assert isinstance(inactive, DriverInactive)
        assert inactive.reason == "expected an HTTP response, got the end of the stream"
        with pytest.raises(DriverError, match="inactive: expected an HTTP response"):
            await driver.publish("room", b"")
        await driver.wait_active()
        await settled()
    assert packets == [b"1", b"2", b"4"]
    assert ids == [None, "ä2"]
    # The wait of the broker, and the longest of the back-off's first round.
    assert found.dials[1] - found.dials[0] == pytest.approx(1 + 3 + 1)
    assert driver.counts == {"driver_connected": 2, "driver_lost": 1, "driver_unsent": 1}


@pytest.mark.parametrize("id", [" x", "x ", "a\tb", "\x7f"])
async def test_an_id_that_no_header_can_hold_is_not_sent(scripted: Scripted, autojump_clock: Clock, id: str) -> None:
    asked: list[Asked] = []

    async def stream(wire: HubWire) -> None:
        asked.append(await wire.request())
        await wire.begin(event(b"1", f"id:  {id}\n"))
        await wire.finish()

    scripted(stream)
    async with opened() as driver:
        await driver.subscribe("room", ignore)
        await trio.sleep(2)
    assert len(asked) == 2
    assert "last-event-id" not in asked[1].headers


async def test_it_is_active_when_all_streams_are_open(scripted: Scripted, autojump_clock: Clock) -> None:
    end = trio.Event()

    async def lost(wire: HubWire) -> None:
        await wire.request()
        await wire.begin()
        await end.wait()
        await wire.finish()

    async def slow(wire: HubWire) -> None:
        await wire.request()
        await trio.sleep(5)
        await wire.begin()
        await stay(wire)

    scripted(lost, slow)
    async with opened() as driver:
        await settled()
        assert driver.active
        await driver.subscribe("a", ignore)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(driver.subscribe, "b", ignore)
            await trio.sleep(4)
            assert driver.why_inactive == ""
            end.set()
            await trio.sleep(2)
            assert driver.why_inactive == "the broker ended the stream"
            await driver.wait_active()
            assert trio.current_time() == pytest.approx(4 + 1 + 5)


async def test_unsubscribing_from_what_is_lost_makes_it_active(scripted: Scripted, autojump_clock: Clock) -> None:
    async def lost(wire: HubWire) -> None:
        await wire.request()
        await wire.begin()
        await wire.finish()

    scripted(quiet, lost)
    async with opened() as driver:
        await driver.subscribe("a", ignore)
        await driver.subscribe("b", ignore)
        await settled()
        assert not driver.active
        await driver.unsubscribe("b", ignore)
        await settled()
        assert driver.active


@pytest.mark.parametrize(
    ("status", "headers", "reason"),
    [
        (204, {}, "answered 204 No Content: it does not want clients to ask again"),
        (301, {"Location": "http://other.example/"}, "answered 301 Moved Permanently, and redirects are not followed"),
        (401, {}, "answered 401 Unauthorized: it wants a token, or another one"),
        (403, {}, "answered 403 Forbidden"),
        (404, {}, "answered 404 Not Found"),
        (499, {}, "answered 499$"),
        (200, {"Content-Type": "text/html; charset=utf-8"}, "expected text/event-stream from the broker, not 'text/h"),
        (200, {}, "expected text/event-stream from the broker, not ''"),
        (200, {"Content-Type": "text/event-stream", "Content-Encoding": "gzip"}, "no content-encoding .* got 'gzip'"),
    ],
)
async def test_a_refused_stream_is_the_problem_of_who_asks(
    scripted: Scripted, autojump_clock: Clock, status: int, headers: dict[str, str], reason: str
) -> None:
    async def refuse(wire: HubWire) -> None:
        await wire.request()
        await wire.answer(status, headers)
        await stay(wire)

    found = scripted(quiet, refuse, refuse, quiet)
    async with opened(token=SECRET) as driver:
        await driver.subscribe("room", ignore)
        for _ in range(2):
            with pytest.raises(DriverError, match=reason):
                await driver.subscribe("secret", ignore)
        await settled()
        assert driver.namespaces == ("room",)
        assert driver.active
        await driver.subscribe("secret", ignore)
    assert trio.current_time() < 1
    assert len(found.dials) == 4
    assert driver.counts == {"driver_connected": 2, "driver_unreachable": 2}


async def test_who_asks_again_does_not_hear_what_others_were_told(scripted: Scripted, autojump_clock: Clock) -> None:
    async def refuse(wire: HubWire) -> None:
        await wire.request()
        await wire.answer(403)

    async def insist() -> None:
        with pytest.raises(DriverError, match="403"):
            await driver.subscribe("room", ignore)
        await driver.subscribe("room", ignore)

    scripted(refuse, quiet)
    async with opened() as driver, trio.open_nursery() as nursery:
        nursery.start_soon(insist)
        nursery.start_soon(insist)
    assert driver.counts == {"driver_unreachable": 1, "driver_connected": 1}


async def test_a_type_with_parameters_is_good(scripted: Scripted, autojump_clock: Clock) -> None:
    async def stream(wire: HubWire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await wire.begin(kind="Text/Event-Stream ; charset=utf-8")
        await stay(wire)

    scripted(stream)
    async with opened() as driver:
        await driver.subscribe("room", ignore)
        assert driver.counts == {"driver_connected": 1}


async def test_who_is_refused_later_asks_again_after_the_longest_wait(
    scripted: Scripted, autojump_clock: Clock
) -> None:
    async def lost(wire: HubWire) -> None:
        await wire.request()
        await wire.begin()
        await wire.finish()

    async def refuse(wire: HubWire) -> None:
        await wire.request()
        await wire.answer(401)

    found = scripted(lost, refuse, quiet)
    driver = opened(max_reconnect_delay=50.0)
    async with driver, driver.events() as events:
        await driver.subscribe("room", ignore)
        await trio.sleep(2)
        await driver.wait_active()
        failures = [each.error.args[0] async for each in _so_far(events) if isinstance(each, DriverFailed)]
    assert failures == [
        "the broker ended the stream",
        "the broker answered 401 Unauthorized: it wants a token, or another one",
    ]
    assert found.dials[2] - found.dials[1] == pytest.approx(50)


async def _so_far(events: Any) -> Any:
    with trio.move_on_after(1):
        while True:
            yield await events.__anext__()


async def test_a_broker_that_is_busy_is_asked_again(scripted: Scripted, autojump_clock: Clock) -> None:
    async def busy(wire: HubWire) -> None:
        await wire.request()
        await wire.answer(503, {"Retry-After": "5"})

    async def later(wire: HubWire) -> None:
        await wire.request()
        await wire.answer(429, {"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"})

    found = scripted(busy, later, quiet)
    found.failures.extend([DriverError("down")])
    async with opened(timeout=60.0) as driver:
        await driver.subscribe("room", ignore)
    waits = [later - earlier for earlier, later in zip(found.dials, found.dials[1:], strict=False)]
    assert waits == [pytest.approx(1), pytest.approx(7), pytest.approx(4)]
    assert driver.counts == {"driver_unreachable": 3, "driver_connected": 1}


async def test_who_waits_in_vain_is_told_why(scripted: Scripted, autojump_clock: Clock) -> None:
    found = scripted(quiet)
    found.failures.extend([DriverError("no such host")] * 9)
    async with opened(timeout=2.5) as driver:
        with pytest.raises(DriverError, match=r"did not confirm .* no such host"):
            await driver.subscribe("room", ignore)
        await settled()
        assert driver.active
        assert driver.namespaces == ()
    assert len(found.dials) == 2


async def test_a_broker_that_does_not_answer_is_given_up(scripted: Scripted, autojump_clock: Clock) -> None:
    async def silent(wire: HubWire) -> None:
        await wire.request()
        await stay(wire)

    found = scripted(quiet, silent, quiet)
    async with opened(timeout=4.0) as driver:
        await driver.subscribe("room", ignore)
        with pytest.raises(DriverError, match="did not confirm a subscription within 4 s"):
            await driver.subscribe("other", ignore)
        await driver.wait_active()
        await settled()
        found.failures.append(None)
        with pytest.raises(DriverError, match="did not take a packet within 4 s"):
            await driver.publish("room", b"")
        await settled()
        assert found.closed == 1
    assert driver.counts["driver_unsent"] == 1


async def test_a_silent_stream_is_lost_only_if_that_is_wanted(scripted: Scripted, autojump_clock: Clock) -> None:
    async def stream(wire: HubWire) -> None:
        await wire.request()
        await wire.begin()
        for _ in range(3):
            await trio.sleep(40)
            await wire.piece(b":\n")
        await stay(wire)

    scripted(stream)
    patient, careful = opened(), opened(max_silence=45.0)
    async with patient, careful:
        await patient.subscribe("room", ignore)
        await careful.subscribe("room", ignore)
        await trio.sleep(164)
        assert careful.active
        await trio.sleep(1.5)
        assert patient.active
        assert careful.why_inactive == "the broker has said nothing for 45 s"
        await careful.wait_active()


async def test_what_is_no_packet_is_counted(scripted: Scripted, autojump_clock: Clock) -> None:
    packets: list[bytes] = []

    async def stream(wire: HubWire) -> None:
        await wire.request()
        await wire.begin(
            b"data: no base64!\n\ndata: ab\n\n",
            b"data: \xc3\xa4\n\n",
            event(b"x", "event: other\n"),
            b"data: " + b"A" * MAX_DATA + b"\n\n",
            event(bytes(MAX_PACKET + 1)),
            event(bytes(MAX_PACKET)),
            event(b"last"),
        )
        await stay(wire)

    scripted(stream)
    async with opened() as driver:
        await driver.subscribe("room", packets.append)
        await settled()
    assert packets == [bytes(MAX_PACKET), b"last"]
    assert driver.counts == {
        "driver_connected": 1,
        "driver_malformed": 3,
        "driver_unwanted": 1,
        "driver_oversized": 2,
    }


@pytest.mark.parametrize("status", [302, 400, 401, 413, 500])
async def test_a_packet_that_is_refused(scripted: Scripted, autojump_clock: Clock, status: int) -> None:
    async def refuse(wire: HubWire) -> None:
        await wire.request()
        await wire.answer(status, {"Location": "http://other.example/", "Set-Cookie": "a=b"}, b"x" * 1000)
        assert "cookie" not in (await wire.request()).headers
        await wire.answer(201)

    found = scripted(refuse)
    async with opened() as driver:
        await driver.wait_active()
        with pytest.raises(DriverError, match=f"the broker answered {status} "):
            await driver.publish("room", b"1")
        await driver.publish("room", b"2")
        assert driver.active
    assert len(found.dials) == 1
    assert driver.counts == {"driver_unsent": 1}


async def test_connections_for_packets_are_used_again_and_not_for_long(
    scripted: Scripted, autojump_clock: Clock
) -> None:
    found = scripted(take)
    async with opened() as driver:
        await driver.wait_active()
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(driver.publish, "room", b"")
        assert len(found.dials) == 8
        await trio.sleep(3)
        await driver.publish("room", b"")
        assert len(found.dials) == 8
        await trio.sleep(5)
        await driver.publish("room", b"")
        await settled()
        assert len(found.dials) == 9
        assert found.closed == 8
    await settled()
    assert found.closed == 9


async def test_a_connection_is_not_used_again_after_a_bad_end(scripted: Scripted, autojump_clock: Clock) -> None:
    async def no_length(wire: HubWire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 200 OK\r\n\r\n")

    async def endless(wire: HubWire) -> None:
        await wire.request()
        await wire.begin(bytes(40_000), bytes(40_000))
        await stay(wire)

    async def more(wire: HubWire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n")
        await stay(wire)

    async def nonsense(wire: HubWire) -> None:
        await wire.request()
        await wire.send(b"SSH-2.0-OpenSSH\r\n\r\n")

    async def long(wire: HubWire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 17_000)
        await stay(wire)

    async def early(wire: HubWire) -> None:
        await wire.line()
        await wire.answer(413, {"Connection": "close"})

    found = scripted(no_length, endless, more, nonsense, long, early, take)
    async with opened() as driver:
        await driver.wait_active()
        for _ in range(3):
            await driver.publish("room", b"")
        for reason in ("expected an HTTP response", "expected an HTTP response", "answered 413"):
            with pytest.raises(DriverError, match=reason):
                await driver.publish("room", bytes(1000))
        await driver.publish("room", b"")
    assert len(found.dials) == 7


async def test_the_end_frees_those_who_wait_and_it_can_be_opened_again(
    scripted: Scripted, autojump_clock: Clock
) -> None:
    async def silent(wire: HubWire) -> None:
        await wire.request()
        await stay(wire)

    refused: list[str] = []

    async def ask(step: Callable[[], Any]) -> None:
        with pytest.raises(DriverError) as caught:
            await step()
        refused.append(str(caught.value))

    scripted(silent, silent, quiet)
    driver = opened()
    async with trio.open_nursery() as nursery:
        async with driver:
            await driver.wait_active()
            nursery.start_soon(ask, lambda: driver.subscribe("room", ignore))
            await settled()
            nursery.start_soon(ask, lambda: driver.publish("room", b""))
            await settled()
        await settled()
        assert refused[0] == "the driver was closed"
        assert trio.current_time() < 1
        async with driver:
            await driver.subscribe("room", ignore)
            assert driver.active
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("url", "options", "complaint"),
    [
        ("ws://hub", {}, "begins with http://, https://"),
        ("http://user:a-secret@hub/", {}, "without user and password"),
        ("http://", {}, "expected a URL like http://host:port"),
        ("http://hub/#a-secret", {}, "expected a URL like http"),
        (URL, {"token": SECRET, "publisher": {"authorization": SECRET}}, "a token or an Authorization header"),
        (URL, {"token": "a-secret\r\nX: 1"}, "token of printable ASCII"),
        (URL, {"token": ""}, "token of printable ASCII"),
        (URL, {"subscriber": {"X": "a-secret\n"}}, "HTTP header .* in 'X'"),
        (URL, {"subscriber": {"X Y": SECRET}}, "HTTP header .* in 'X Y'"),
        (URL, {"publisher": {"Content-Length": "1"}}, "expected another header than 'Content-Length'"),
        (URL, {"publisher": {"X": "1", "x": "2"}}, "expected another header than 'x'"),
        (URL, {"max_silence": 0}, "positive max_silence"),
        (URL, {"max_reconnect_delay": 0}, "positive max_reconnect_delay"),
    ],
)
def test_arguments(url: str, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as caught:
        SseDriver(url, **options)
    assert SECRET not in str(caught.value)


def test_a_tls_context_of_old() -> None:
    context = ssl.create_default_context()
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.raises(ValueError, match=r"1\.2"):
        SseDriver(URL, tls=context)


def test_nothing_shows_a_secret() -> None:
    driver = SseDriver(f"{URL}?authorization={SECRET}", token=SECRET)
    assert repr(driver) == "<SseDriver http://hub.example:80, inactive>"


@pytest.mark.parametrize("namespace", ["", "*", "rooms/{id}", "a\nb"])
def test_namespaces_that_a_hub_would_take_for_something_else(namespace: str) -> None:
    with pytest.raises(ValueError, match="expected a"):
        SseDriver(URL).check_namespace(namespace)
