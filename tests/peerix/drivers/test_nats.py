"""The NATS driver against servers that do what a test says; real ones are in `tests/interop/peerix`."""

from __future__ import annotations

import base64
import binascii
import json
import ssl
from collections.abc import Callable
from typing import Any, Final

import pytest
import trio
import trio.testing

from tests.peerix.drivers.wires import Wire, Wires, scripted
from trio_relay.exceptions import DriverError
from trio_relay.peerix.drivers.driver import MAX_PACKET, DriverFailed, DriverInactive
from trio_relay.peerix.drivers.nats import NatsDriver

Clock = trio.testing.MockClock
Scripted = Callable[..., Wires]
settled = trio.testing.wait_all_tasks_blocked

INFO: Final = b'INFO {"server_id":"x","version":"2.9.10","max_payload":1048576,"headers":true,"proto":1}\r\n'
URL: Final = "nats://broker:4222"
SECRETS: Final = ("a secret", "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY")
SEED: Final = SECRETS[1]
PUBLIC: Final = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery) -> Scripted:
    return lambda *scripts: scripted(monkeypatch, "nats", nursery, *scripts)


async def greet(wire: Wire, info: bytes = INFO) -> dict[str, Any]:
    """Lets the driver in; returns what it said in CONNECT."""
    await wire.send(info)
    line = await wire.line()
    assert line.startswith(b"CONNECT ")
    assert await wire.line() == b"PING"
    await wire.send(b"PONG\r\n")
    options = json.loads(line.removeprefix(b"CONNECT "))
    assert isinstance(options, dict)
    return options


async def confirm(wire: Wire) -> bytes:
    """Confirms a subscription."""
    line = await wire.line()
    assert await wire.line() == b"PING"
    await wire.send(b"PONG\r\n")
    return line


async def serve(wire: Wire) -> None:
    """Lets the driver in and confirms everything."""
    await greet(wire)
    while True:
        if await wire.line() == b"PING":
            await wire.send(b"PONG\r\n")


def ignore(packet: bytes) -> None:
    pass


async def test_the_conversation(servers: Scripted, autojump_clock: Clock) -> None:
    said: list[object] = []

    async def script(wire: Wire) -> None:
        said.append(await greet(wire))
        said.append(await confirm(wire))
        await wire.send(
            b"PING\r\nMSG x.room 1 5\r\nhello\r\n", b"HMSG x.room 1 _INBOX.1 12 15\r\nNATS/1.0\r\n\r\nabc\r\n"
        )
        said.append(await wire.line())
        said.append(await wire.read(len(b"PUB x.other 3\r\n\x00\r\n\r\n")))
        said.append(await wire.line())
        await wire.send(b"MSG x.room 1 2\r\n12\r\n")
        said.append(await wire.rest())

    servers(script)
    packets: list[bytes] = []
    driver = NatsDriver(URL, prefix="x.")
    async with driver:
        await driver.subscribe("room", packets.append)
        await driver.publish("other", b"\x00\r\n")
        await driver.unsubscribe("room", packets.append)
        await settled()
    await settled()
    assert packets == [b"hello", b"abc"]
    options = said[0]
    assert isinstance(options, dict)
    wanted = {"verbose": False, "pedantic": False, "echo": False, "headers": False, "protocol": 1, "lang": "python"}
    assert wanted.items() <= options.items()
    assert not {"user", "pass", "auth_token", "nkey", "jwt"} & set(options)
    assert said[1:] == [b"SUB x.room 1", b"PONG", b"PUB x.other 3\r\n\x00\r\n\r\n", b"UNSUB 1", b""]
    assert driver.counts == {"driver_connected": 1, "driver_unwanted": 1}


async def test_what_follows_the_greeting_at_once_is_heard(servers: Scripted, autojump_clock: Clock) -> None:
    said: list[bytes] = []

    async def script(wire: Wire) -> None:
        await wire.send(INFO)
        await wire.line()
        await wire.line()
        await wire.send(b"PONG\r\nPING\r\n")
        said.append(await wire.line())
        await wire.rest()

    servers(script)
    async with NatsDriver(URL) as driver:
        await driver.wait_active()
        await settled()
    assert said == [b"PONG"]


async def test_rooms_that_share_the_driver_hear_each_other(servers: Scripted, autojump_clock: Clock) -> None:
    servers(serve)
    rooms: list[list[bytes]] = [[], []]
    driver = NatsDriver(URL)
    async with driver:
        for room in rooms:
            await driver.subscribe("room", room.append)
        await driver.publish("room", b"1")
    assert rooms == [[b"1"], [b"1"]]


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"user": "me", "password": SECRETS[0]}, {"user": "me", "pass": SECRETS[0]}),
        ({"user": "me"}, {"user": "me"}),
        ({"token": SECRETS[0]}, {"auth_token": SECRETS[0]}),
        ({"nkey_seed": SEED}, {"nkey": PUBLIC}),
    ],
)
async def test_credentials(
    servers: Scripted, autojump_clock: Clock, given: dict[str, str], sent: dict[str, str]
) -> None:
    said: list[dict[str, Any]] = []

    async def script(wire: Wire) -> None:
        said.append(await greet(wire, b'INFO {"nonce":"PXoWU7zWAMt75FY"}\r\n'))
        await wire.rest()

    servers(script)
    driver = NatsDriver(URL, **given)  # type: ignore[arg-type]
    async with driver:
        await driver.wait_active()
    assert sent.items() <= said[0].items()
    assert ("sig" in said[0]) == ("nkey" in sent)
    assert not any(secret in repr(driver) or secret in repr(vars(driver)["_key"]) for secret in SECRETS)


@pytest.mark.parametrize(
    ("info", "options", "why"),
    [
        (b"-ERR 'Too Many Connections'\r\n", {}, "the server says: Too Many Connections"),
        (b"PING\r\n", {}, "expected INFO"),
        (b"INFO []\r\n", {}, "expected INFO with an object"),
        (b"HTTP/1.1 400 Bad Request\r\n", {}, "one that begins with 'HTTP/1.1'"),
        (b"", {}, "closed the connection during the greeting"),
        (INFO, {"tls": ssl.create_default_context()}, "broker:4222 does not offer TLS"),
        (INFO, {"nkey_seed": SEED}, "knows no users by key"),
        (b'INFO {"tls_required":true}\r\nPING\r\n', {}, "nothing more from the server before TLS"),
        (b'INFO {"tls_required":true}\r\nP', {}, "nothing more from the server before TLS"),
        (INFO + b"-ERR 'Authorization Violation'\r\n", {"token": "x"}, "Authorization Violation$"),
        (b'INFO {"nonce":"x"}\r\n-ERR \'Authorization Violation\'\r\n', {}, "Violation .*the argument nkey_seed"),
    ],
)
async def test_greetings_that_fail(
    servers: Scripted, autojump_clock: Clock, info: bytes, options: dict[str, Any], why: str
) -> None:
    async def script(wire: Wire) -> None:
        if info:
            await wire.send(info)
            await trio.sleep(1)

    wires = servers(script)
    driver = NatsDriver(URL, timeout=2.0, **options)
    async with driver:
        with pytest.raises(DriverError, match=why):
            await driver.subscribe("room", ignore)
    assert driver.counts["driver_unreachable"] == len(wires.wires) > 0


async def test_a_silent_server_is_given_up(servers: Scripted, autojump_clock: Clock) -> None:
    async def silent(wire: Wire) -> None:
        await greet(wire)
        assert await wire.line() == b"PING"
        await wire.rest()

    servers(silent, serve)
    driver = NatsDriver(URL, keepalive=20.0, timeout=4.0)
    async with driver.events() as events, driver:
        await driver.wait_active()
        began = trio.current_time()
        await events.__anext__()
        lost = await events.__anext__()
        assert trio.current_time() - began == pytest.approx(24.0)
        assert isinstance(lost, DriverInactive)
        assert "said nothing for 4 s" in lost.reason
        await driver.wait_active()
        await trio.sleep(300)
        assert driver.counts["driver_lost"] == 1


async def test_a_refused_subscription(servers: Scripted, autojump_clock: Clock) -> None:
    async def script(wire: Wire) -> None:
        await greet(wire)
        assert await wire.line() == b"SUB x.no 1"
        await wire.send(b"-ERR 'Permissions Violation for Subscription to \"x.no\"'\r\nPONG\r\n")
        assert await wire.line() == b"PING"
        assert await confirm(wire) == b"SUB x.yes 2"
        assert await wire.line() == b"SUB x.more 3"
        await wire.send(b"-ERR 'maximum subscriptions exceeded'\r\nPONG\r\n")
        await wire.rest()

    servers(script)
    driver = NatsDriver(URL, prefix="x.")
    async with driver:
        with pytest.raises(DriverError, match="Permissions Violation"):
            await driver.subscribe("no", ignore)
        await driver.subscribe("yes", ignore)
        with pytest.raises(DriverError, match="maximum subscriptions"):
            await driver.subscribe("more", ignore)
        assert driver.namespaces == ("yes",)


async def test_a_refused_packet_is_told(servers: Scripted, autojump_clock: Clock) -> None:
    async def script(wire: Wire) -> None:
        await greet(wire)
        await wire.line()
        await wire.send(b"-ERR 'Permissions Violation for Publish to \"no\"'\r\n")
        await wire.rest()

    servers(script)
    driver = NatsDriver(URL)
    async with driver.events() as events, driver:
        await driver.wait_active()
        await driver.publish("no", b"1")
        await events.__anext__()
        failed = await events.__anext__()
        assert isinstance(failed, DriverFailed)
        assert "Publish" in str(failed.error)
        assert driver.active
    assert driver.counts["driver_refused"] == 1


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"-ERR 'Stale Connection'\r\n", "the server says: Stale Connection"),
        (b"-ERR 'Permissions Violation for Subscription to \"room\"'\r\n", "Permissions Violation"),
        (b"-ERR 'Permissions Violation for Subscription to \"x\"'\r\nPONG\r\n", "Permissions Violation"),
        (b"PONG\r\n", "expected no PONG"),
        (b"MSG room 1 1048577\r\n", "expected a message of at most 1048576 bytes"),
        (b"MSG room 1 1\r\n123\r\n", "expected CR LF behind the payload"),
        (b"", "the broker closed the connection"),
    ],
)
async def test_what_ends_a_connection(servers: Scripted, autojump_clock: Clock, said: bytes, why: str) -> None:
    async def script(wire: Wire) -> None:
        await greet(wire)
        await confirm(wire)
        if said:
            await wire.send(said)
            await trio.sleep(1)

    servers(script, serve)
    driver = NatsDriver(URL)
    async with driver.events() as events, driver:
        await driver.subscribe("room", ignore)
        await events.__anext__()
        lost = await events.__anext__()
        assert isinstance(lost, DriverInactive)
        assert why in lost.reason
        await driver.wait_active()


async def test_packets_that_are_too_long(servers: Scripted, autojump_clock: Clock) -> None:
    """Those of others are skipped without being stored, ours are refused before the server closes the connection."""

    async def script(wire: Wire) -> None:
        await greet(wire, b'INFO {"max_payload":400000}\r\n')
        await confirm(wire)
        await wire.send(b"MSG room 1 400000\r\n", bytes(400_000), b"\r\nMSG room 1 1\r\n1\r\n")
        await wire.send(b'INFO {"max_payload":10}\r\n')
        await wire.rest()

    servers(script)
    packets: list[bytes] = []
    driver = NatsDriver(URL)
    async with driver:
        await driver.subscribe("room", packets.append)
        await settled()
        assert packets == [b"1"]
        with pytest.raises(DriverError, match="at most 10 bytes"):
            await driver.publish("room", bytes(11))
        await driver.publish("room", bytes(10))
    assert driver.counts["driver_oversized"] == 1


async def test_who_publishes_waits_for_a_slow_server_and_can_be_cancelled(
    servers: Scripted, autojump_clock: Clock
) -> None:
    read = trio.Event()
    received: list[bytes] = []

    async def script(wire: Wire) -> None:
        await greet(wire)
        await read.wait()
        received.append(await wire.rest())

    servers(script)
    driver = NatsDriver(URL, keepalive=1000.0)
    async with driver:
        await driver.wait_active()
        # What is in the stream in memory has no bound; the one that is being written has left the queue.
        session = driver._session
        assert session is not None
        blocked = trio.Event()

        async def block(data: bytes) -> None:
            await blocked.wait()
            received.append(data)

        session._stream.send = block  # type: ignore[attr-defined]
        taken = await _fill(driver)
        with trio.move_on_after(1) as scope:
            await driver.publish("room", bytes(MAX_PACKET))
        assert scope.cancelled_caught
        blocked.set()
        await driver.publish("room", b"after")
        await settled()
    data = b"".join(received)
    assert 3 <= taken <= 5
    assert data == b"PUB room %d\r\n%b\r\n" % (MAX_PACKET, bytes(MAX_PACKET)) * taken + b"PUB room 5\r\nafter\r\n"


async def _fill(driver: NatsDriver) -> int:
    """Publishes until that fails; returns how many packets were taken."""
    taken = 0
    while True:
        try:
            await driver.publish("room", bytes(MAX_PACKET))
        except DriverError as error:
            assert "did not take a packet within 10 s" in str(error)
            return taken
        taken += 1


@pytest.mark.parametrize(
    ("url", "port", "secure", "websocket"),
    [
        ("nats://[::1]", 4222, False, False),
        ("NATS://host:1", 1, False, False),
        ("tls://host", 4222, False, False),  # the server speaks first, in plain text
        ("ws://host/nats?key=a%20secret", 80, False, True),
        ("wss://host", 443, True, True),
    ],
)
async def test_urls(
    servers: Scripted, autojump_clock: Clock, url: str, port: int, secure: bool, websocket: bool
) -> None:
    wires = servers(serve)
    driver = NatsDriver(url)
    async with driver:
        await settled()
    dialled, subprotocol = wires.dialled[0]
    assert (dialled.target.port, dialled.target.secure, dialled.scheme.websocket) == (port, secure, websocket)
    assert subprotocol is False
    assert "secret" not in repr(driver)


def test_the_seed_of_another_kind_of_key() -> None:
    raw = b"\x90\0" + bytes(32)  # of an account
    seed = base64.b32encode(raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")).decode().rstrip("=")
    assert seed.startswith("SA")
    with pytest.raises(ValueError, match="user's NKey"):
        NatsDriver(URL, nkey_seed=seed)


async def test_tls_may_begin_before_the_server_says_anything(servers: Scripted, autojump_clock: Clock) -> None:
    wires = servers(serve)
    async with NatsDriver("tls://host", handshake_first=True) as driver:
        await driver.wait_active()
    assert wires.dialled[0][0].target.secure


@pytest.mark.parametrize(
    "url",
    ["nats://me:a secret@host", "http://host", "host:4222", "nats://host:0", "nats://host/a secret", "nats://a secret"],
)
def test_urls_that_can_not_be_are_not_shown(url: str) -> None:
    with pytest.raises(ValueError, match="expected a URL") as caught:
        NatsDriver(url)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "options",
    [
        {"prefix": "a b"},
        {"prefix": "a.*."},
        {"prefix": ".a"},
        {"prefix": "a.>"},
        {"prefix": "x" * 1024},
        {"password": "a secret"},
        {"user": "me", "token": "a secret"},
        {"token": "a secret", "nkey_seed": SEED},
        {"nkey_seed": "a secret"},
        {"nkey_seed": SEED[:-1] + "A"},
        {"nkey_seed": "SA" + SEED[2:]},
        {"keepalive": 0},
        {"url": "ws://host", "tls": ssl.create_default_context()},
    ],
)
def test_options_that_can_not_be(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected a") as caught:
        NatsDriver(**{"url": URL, **options})
    assert not any(secret in str(caught.value) for secret in SECRETS)


async def test_namespaces_that_can_not_be(servers: Scripted, autojump_clock: Clock) -> None:
    servers(serve)
    driver = NatsDriver(URL, prefix="a.")
    async with driver:
        for name in ("", "a room", "*", "a.>", "a..b", "a\r\nPUB x 0"):
            with pytest.raises(ValueError, match="expected a namespace"):
                await driver.subscribe(name, ignore)
            with pytest.raises(ValueError, match="expected a namespace"):
                await driver.publish(name, b"")
