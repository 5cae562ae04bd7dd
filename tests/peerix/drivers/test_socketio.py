"""The Socket.IO driver against servers that do what a test says; real ones are in `tests/interop/peerix`."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

import pytest
import trio
import trio.testing

from tests.transports.support import serving
from trio_relay.exceptions import DriverError, LocalProtocolError
from trio_relay.limits import Limits
from trio_relay.peerix.drivers.driver import MAX_PACKET, DriverActive, DriverFailed, DriverInactive
from trio_relay.peerix.drivers.socketio import SocketIoDriver
from trio_relay.transports.connection import Connection
from trio_relay.transports.routes import Request, Route
from trio_relay.transports.websocket import WebSocketConnection
from trio_relay.wire.websocket import Role

Clock = trio.testing.MockClock
settled = trio.testing.wait_all_tasks_blocked

URL: Final = "http://server"
SECRET: Final = "a-secret"
OPEN: Final = {"sid": "x", "upgrades": [], "pingInterval": 25000, "pingTimeout": 20000, "maxPayload": 1_000_000}


class Server:
    """The server's end of one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection: Final = connection
        self._messages: Final[deque[bytes | str]] = deque()

    async def send(self, *messages: str | bytes) -> None:
        for message in messages:
            data = message.encode() if isinstance(message, str) else message
            await self._connection.send([data], text=isinstance(message, str))

    async def next(self) -> str:
        """The next message; raises `EOFError` at the end."""
        if not self._messages:
            self._messages.extend(await self._connection.receive())
        if not self._messages:
            raise EOFError
        message = self._messages.popleft()
        assert isinstance(message, str)
        return message

    async def greet(self, **options: Any) -> str:
        """Lets the driver in; returns what it said."""
        await self.send(f"0{json.dumps(OPEN | options)}")
        said = await self.next()
        await self.send('40{"sid":"y"}')
        return said

    async def event(self) -> tuple[str, list[Any]]:
        """The next event: its number, and its name and arguments."""
        while not (text := await self.next()).startswith("42"):
            pass
        number, _, rest = text[2:].partition("[")
        return number, json.loads(f"[{rest}")

    async def confirm(self, *arguments: Any) -> list[Any]:
        """Answers an event."""
        number, said = await self.event()
        await self.send(f"43{number}{json.dumps(arguments)}")
        return said


Script = Callable[[Server], Awaitable[object]]


async def serve(server: Server) -> None:
    """Lets the driver in and confirms everything."""
    await server.greet()
    while True:
        await server.confirm()


class Servers:
    """Plays one script for each connection, the last one for all that follow; when it ends, so does the connection."""

    def __init__(self, nursery: trio.Nursery, scripts: tuple[Script, ...]) -> None:
        self._nursery: Final = nursery
        self._scripts: Final = deque(scripts)
        self.dialled: list[str] = []
        self.options: dict[str, Any] = {}
        self.clients: list[WebSocketConnection] = []
        self.closed = 0

    async def dial(self, url: str, *, max_message: int, **options: Any) -> WebSocketConnection:
        await trio.lowlevel.checkpoint()
        self.dialled.append(url)
        self.options = options
        ours, theirs = trio.testing.memory_stream_pair()
        limits = Limits(close_timeout=0.1)
        client, server = (
            WebSocketConnection(stream, role, limits=limits, offered_subprotocol=False, max_message=max_message)
            for stream, role in ((ours, Role.CLIENT), (theirs, Role.SERVER))
        )
        self.clients.append(client)
        script = self._scripts.popleft() if len(self._scripts) > 1 else self._scripts[0]
        self._nursery.start_soon(self._play, server, script)
        return client

    async def _play(self, connection: WebSocketConnection, script: Script) -> None:
        try:
            await script(Server(connection))
        except (EOFError, trio.BrokenResourceError):
            self.closed += 1
        await connection.aclose()


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery) -> Callable[..., Servers]:
    def make(*scripts: Script) -> Servers:
        servers = Servers(nursery, scripts)
        monkeypatch.setattr("trio_relay.peerix.drivers.socketio.dial_websocket", servers.dial)
        return servers

    return make


Scripted = Callable[..., Servers]
Step = Callable[[], Awaitable[None]]


def ignore(packet: bytes) -> None:
    pass


async def test_the_conversation(scripted: Scripted, autojump_clock: Clock) -> None:
    said: list[Any] = []
    packets: list[bytes] = []

    async def script(server: Server) -> None:
        said.append(await server.greet())
        said.append(await server.confirm())
        await server.send('42["peerix:message","room",[0,1,255]]', "2", "6", '42["peerix:message","room",[]]')
        said.append(await server.next())
        said.append(await server.confirm())
        said.append(await server.confirm())
        await server.next()

    servers = scripted(script)
    driver = SocketIoDriver(f"{URL}?a=b", prefix="peerix:", auth={"token": SECRET}, headers={"X-A": "1"})
    async with driver:
        await driver.subscribe("room", packets.append)
        assert driver.active
        await settled()
        assert packets == [b"\x00\x01\xff", b""]
        await driver.publish("room", b"\x00\xff")
        await driver.unsubscribe("room", packets.append)
        await settled()
    await settled()
    assert packets == [b"\x00\x01\xff", b"", b"\x00\xff"]
    assert said == [
        f'40{{"token":"{SECRET}"}}',
        ["peerix:subscribe", "room"],
        "3",
        ["peerix:publish", "room", [0, 255]],
        ["peerix:unsubscribe", "room"],
    ]
    assert servers.dialled == ["ws://server:80/socket.io/?a=b&EIO=4&transport=websocket"]
    assert servers.options["more_headers"] == ((b"x-a", b"1"),)
    assert servers.closed == 1
    assert driver.counts == {"driver_connected": 1}


async def test_another_namespace(scripted: Scripted, autojump_clock: Clock) -> None:
    said: list[Any] = []
    packets: list[bytes] = []

    async def script(server: Server) -> None:
        await server.send(f"0{json.dumps(OPEN)}")
        said.append(await server.next())
        await server.send("40", "2ping", '42["message","room",[1]]', '44{"message":"no"}', '40/a,{"sid":"z"}')
        said.append(await server.next())
        said.append(await server.next())
        await server.send("430[]", '43/a,7["unknown"]', "43/a,0[]")
        await server.send('42["message","room",[1]]', '42/a,["message","room",[2]]', "41/b")
        await server.next()

    scripted(script)
    async with SocketIoDriver(URL, namespace="/a", path="/x") as driver:
        await driver.subscribe("room", packets.append)
        await settled()
        assert driver.active
    assert said == ["40/a,", "3ping", '42/a,0["subscribe","room"]']
    assert packets == [b"\x02"]
    assert driver.counts["driver_unwanted"] == 3


async def test_a_server_that_does_not_let_us_in(scripted: Scripted, autojump_clock: Clock) -> None:
    async def refuse(server: Server, answer: str) -> None:
        await server.send(f"0{json.dumps(OPEN)}")
        await server.next()
        await server.send(answer)
        await server.next()

    answers = ['44{"message":"bad token","data":{}}', '44"old\\nstyle"', "44", "1", "9", '0{"sid":1}']
    scripted(*(lambda server, answer=answer: refuse(server, answer) for answer in answers), serve)
    driver = SocketIoDriver(URL, auth={"token": SECRET})
    async with driver.events() as events, driver:
        await driver.wait_active()
        failures = [await events.__anext__() for _ in answers]
    texts = [str(failed.error) for failed in failures if isinstance(failed, DriverFailed)]
    assert texts[:4] == [
        "the server says: bad token",
        "the server says: old style",
        "the server says: no",
        "the server closed the session during the greeting",
    ]
    assert texts[4].startswith("expected a packet of engine.io")
    assert len(texts) == 5 or texts[5].startswith("the broker did not greet")
    assert driver.counts["driver_unreachable"] == 6


@pytest.mark.parametrize(
    ("answer", "refusal"),
    [
        (["not for you"], "not for you"),
        ([{"error": "not for you"}], "not for you"),
        ([{"name": "Error", "message": "not for you"}], "not for you"),
        ([], None),
        ([None, "fine"], None),
        ([""], None),
        ([True], None),
        ([{"ok": True}], None),
    ],
)
async def test_answers(scripted: Scripted, autojump_clock: Clock, answer: list[Any], refusal: str | None) -> None:
    async def script(server: Server) -> None:
        await server.greet()
        while True:
            await server.confirm(*answer)

    scripted(script)
    async with SocketIoDriver(URL) as driver:
        await driver.wait_active()
        steps: tuple[Step, ...] = partial(driver.subscribe, "room", ignore), partial(driver.publish, "room", b"1")
        for step in steps:
            if refusal is None:
                await step()
            else:
                with pytest.raises(DriverError, match=f"the server says: {refusal}"):
                    await step()
        assert driver.active


async def test_who_gets_no_answer(scripted: Scripted, autojump_clock: Clock) -> None:
    async def script(server: Server) -> None:
        await server.greet()
        await server.confirm()
        await server.event()
        await trio.sleep(20)
        await server.send("431[]")
        await server.confirm()
        await server.event()

    scripted(script, serve)
    async with SocketIoDriver(URL) as driver:
        await driver.subscribe("room", ignore)
        with pytest.raises(DriverError, match="did not take a packet within 10 s"):
            await driver.publish("room", b"1")
        await trio.sleep(15)
        await driver.publish("room", b"2")
        with pytest.raises(DriverError, match="the connection broke"):
            await driver.publish("room", b"3")
        await settled()
        await driver.wait_active()
    assert driver.counts == {"driver_connected": 2, "driver_lost": 1, "driver_unsent": 2}


async def test_a_server_that_does_not_ping_is_given_up(scripted: Scripted, autojump_clock: Clock) -> None:
    async def script(server: Server) -> None:
        await server.greet(pingInterval=3000, pingTimeout=2000)
        for _ in range(3):
            await trio.sleep(3)
            await server.send("2")
            assert await server.next() == "3"
        await server.next()

    scripted(script, serve)
    driver = SocketIoDriver(URL)
    async with driver.events() as events, driver:
        assert await events.__anext__() == DriverActive()
        assert await events.__anext__() == DriverInactive("the server has not pinged for 5 s")
        assert trio.current_time() == pytest.approx(14)
        await driver.wait_active()


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("41", "the server put us out"),
        ("1", "the server closed the session"),
        ("0{}", "expected no packet OPEN of engine.io"),
        ("40", "expected no packet CONNECT of socket.io"),
        ("43nonsense", "expected json"),
        ("4", "expected a packet of socket.io"),
        ("", "expected a packet of engine.io"),
        ("2" * (4 * 1024 * 1024 + 1), "expected a message of at most"),
    ],
)
async def test_what_ends_a_connection(scripted: Scripted, autojump_clock: Clock, message: str, reason: str) -> None:
    async def script(server: Server) -> None:
        await server.greet()
        await server.confirm()
        await server.send(message)
        await server.next()

    scripted(script, serve)
    async with SocketIoDriver(URL) as driver:
        await driver.subscribe("room", ignore)
        await settled()
        assert reason in driver.why_inactive
        await driver.wait_active()


async def test_nothing_that_another_client_says_ends_a_connection(scripted: Scripted, autojump_clock: Clock) -> None:
    packets: list[bytes] = []
    malformed: list[str | bytes] = [
        '42["message","room",[256]]',
        '42["message","room",[-1]]',
        '42["message","room",[1.5]]',
        '42["message","room",[true]]',
        '42["message","room","AQ=="]',
        '42["message","room"]',
        '42["message",1,[1]]',
        '42["message","room",[1],2]',
        '42["message","room",' + "[" * 100 + "]" * 100 + "]",
        '451-["message","room",{"_placeholder":true,"num":0}]',
        b"\x01",
    ]

    async def script(server: Server) -> None:
        await server.greet()
        await server.confirm()
        await server.send(*malformed)
        await server.send('42["other","room",[1]]', '42["message","another",[1]]', '42["error",{"message":"beware"}]')
        for size in (MAX_PACKET, MAX_PACKET + 1):
            await server.send('42["message","room",[' + "255," * (size - 1) + "255]]")
        await server.send('42["message","room","' + "x" * 2_000_000 + '"]')
        await server.next()

    scripted(script)
    driver = SocketIoDriver(URL)
    async with driver, driver.events() as events:
        await driver.subscribe("room", packets.append)
        await settled()
        assert driver.active
        assert [str(each.error) async for each in _so_far(events) if isinstance(each, DriverFailed)] == [
            "the server says: beware"
        ]
    assert packets == [b"\xff" * MAX_PACKET]
    assert driver.counts["driver_malformed"] == len(malformed)
    assert driver.counts["driver_oversized"] == 2
    assert driver.counts["driver_unwanted"] == 2


async def _so_far(events: Any) -> Any:
    with trio.move_on_after(1):
        while True:
            yield await events.__anext__()


async def test_a_packet_that_the_server_would_not_take(scripted: Scripted, autojump_clock: Clock) -> None:
    async def script(server: Server) -> None:
        await server.greet(maxPayload=100)
        await server.confirm()
        await server.confirm()

    scripted(script)
    async with SocketIoDriver(URL) as driver:
        await driver.subscribe("room", ignore)
        with pytest.raises(DriverError, match="messages of at most 100 bytes"):
            await driver.publish("room", bytes(100))
        await driver.publish("room", bytes(10))


async def test_publishers_wait_for_a_server_that_does_not_read(
    monkeypatch: pytest.MonkeyPatch, scripted: Scripted, autojump_clock: Clock
) -> None:
    monkeypatch.setattr("trio_relay.peerix.drivers.socketio_session._MAX_QUEUED", 100)
    send = WebSocketConnection.send
    stuck = False
    go = trio.Event()

    async def send_or_not(self: WebSocketConnection, *args: Any, **options: Any) -> None:
        if stuck and self in servers.clients:
            await trio.sleep_forever()
        await send(self, *args, **options)

    async def script(server: Server) -> None:
        await server.greet()
        await trio.sleep(3)
        await server.send("2")
        await go.wait()
        await server.send(*["2"] * 100)
        await server.next()

    async def publish() -> None:
        with pytest.raises(DriverError):
            await driver.publish("room", bytes(20))
        refused.append(trio.current_time())

    refused: list[float] = []
    monkeypatch.setattr(WebSocketConnection, "send", send_or_not)
    servers = scripted(script)
    async with SocketIoDriver(URL) as driver, trio.open_nursery() as nursery:
        await driver.wait_active()
        stuck = True
        for _ in range(5):
            nursery.start_soon(publish)
        await trio.sleep(5)
        # Had all been put into the queue, the server's first ping would have ended the connection.
        assert driver.active
        assert refused == []
        go.set()
        await settled()
        assert driver.why_inactive == "expected the server to read what it is sent"
        nursery.cancel_scope.cancel()


async def test_over_a_socket() -> None:
    asked: list[Request | None] = []

    async def accept(connection: Connection, request: Request | None) -> None:
        asked.append(request)
        with suppress(EOFError):
            await serve(Server(connection))

    packets: list[bytes] = []
    async with serving([Route("/socket.io", upgrade=accept)]) as served:
        with trio.fail_after(10):
            async with SocketIoDriver(served.url, headers={"X-A": "1", "Cookie": SECRET}) as driver:
                await driver.subscribe("room", packets.append)
                await driver.publish("room", b"1")
    assert packets == [b"1"]
    assert asked[0] is not None
    assert asked[0].query == "EIO=4&transport=websocket"
    assert (asked[0].header(b"x-a"), asked[0].header(b"cookie")) == (b"1", SECRET.encode())


@pytest.mark.parametrize(
    ("url", "options", "complaint"),
    [
        ("tcp://server", {}, "begins with http://, https://, ws://, wss://"),
        ("http://user:a-secret@server", {}, "without user and password"),
        ("http://server/admin", {}, "a URL without a path"),
        (URL, {"prefix": "ä"}, "prefix of at most 64"),
        (URL, {"path": "socket.io"}, "a path like"),
        (URL, {"path": "/x?y"}, "a path like"),
        (URL, {"namespace": "admin"}, "a namespace like"),
        (URL, {"namespace": "/a,b"}, "a namespace like"),
        (URL, {"headers": {"Upgrade": "x"}}, "another header than 'Upgrade'"),
        (URL, {"headers": {"X": "a-secret\r\n"}}, "HTTP header .* in 'X'"),
        (URL, {"timeout": 0}, "positive timeout"),
    ],
)
def test_arguments(url: str, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as caught:
        SocketIoDriver(url, **options)
    assert SECRET not in str(caught.value)


def test_what_is_shown_is_no_json() -> None:
    with pytest.raises(LocalProtocolError):
        SocketIoDriver(URL, auth={"x": object()})  # type: ignore[dict-item]


def test_nothing_shows_a_secret() -> None:
    driver = SocketIoDriver(f"{URL}?token={SECRET}", auth={"token": SECRET}, headers={"Cookie": SECRET})
    assert repr(driver) == "<SocketIoDriver http://server:80, inactive>"
