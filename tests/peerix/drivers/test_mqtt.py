"""The MQTT driver against brokers that do what a test says; real ones are in `tests/interop/peerix`."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any, Final

import pytest
import trio
import trio.testing

from tests.peerix.drivers.wires import Wire, Wires, scripted
from trio_relay.exceptions import DriverError
from trio_relay.peerix.drivers.driver import MAX_PACKET, DriverFailed, DriverInactive
from trio_relay.peerix.drivers.mqtt import MqttDriver
from trio_relay.peerix.drivers.mqtt_packets import MAX_MQTT_PACKET
from trio_relay.peerix.drivers.mqtt_session import RECEIVE_MAXIMUM

Clock = trio.testing.MockClock
Scripted = Callable[..., Wires]
settled = trio.testing.wait_all_tasks_blocked

URL: Final = "mqtt://broker"
WELCOME: Final = bytes.fromhex("20 03 00 00 00")
PINGRESP: Final = bytes.fromhex("d0 00")
SUBACK: Final = 0x90
UNSUBACK: Final = 0xB0


@pytest.fixture
def brokers(monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery) -> Scripted:
    return lambda *scripts: scripted(monkeypatch, "mqtt", nursery, *scripts)


async def packet(wire: Wire) -> tuple[int, bytes]:
    """The first byte and what stands behind the length."""
    head = await wire.read(1)
    if not head:
        raise EOFError
    length = shift = 0
    while True:
        (byte,) = await wire.read(1)
        length |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return head[0], await wire.read(length)


async def greet(wire: Wire, answer: bytes = WELCOME) -> bytes:
    head, body = await packet(wire)
    assert head == 0x10
    await wire.send(answer)
    return body


async def confirm(wire: Wire, reason: int = 0) -> bytes:
    """Answers a SUBSCRIBE or UNSUBSCRIBE; returns its topic and what follows it."""
    head, body = await packet(wire)
    assert head in (0x82, 0xA2)
    await wire.send(bytes((SUBACK if head == 0x82 else UNSUBACK, 4)), body[:2], bytes((0, reason)))
    assert body[2] == 0
    return body[5:]


async def serve(wire: Wire) -> None:
    """Lets the driver in and confirms everything."""
    await greet(wire)
    while True:
        head, body = await packet(wire)
        if head == 0xC0:
            await wire.send(PINGRESP)
        elif head in (0x82, 0xA2):
            await wire.send(bytes((SUBACK if head == 0x82 else UNSUBACK, 4)), body[:2], b"\0\0")


def publish(topic: bytes, payload: bytes, *, flags: int = 0, number: bytes = b"", properties: bytes = b"\0") -> bytes:
    body = len(topic).to_bytes(2) + topic + number + properties + payload
    assert len(body) < 128
    return bytes((0x30 | flags, len(body))) + body


def ignore(packet: bytes) -> None:
    pass


async def test_the_conversation(brokers: Scripted, autojump_clock: Clock) -> None:
    said: list[object] = []

    async def script(wire: Wire) -> None:
        said.append(await greet(wire))
        said.append(await confirm(wire))
        await wire.send(publish(b"x/room", b"hello") + publish(b"x/room", b"old", flags=1) + publish(b"y", b""))
        said.append(await packet(wire))
        said.append(await confirm(wire))
        await wire.send(publish(b"x/room", b"late"))
        said.append(await packet(wire))
        said.append(await wire.rest())

    wires = brokers(script)
    packets: list[bytes] = []
    driver = MqttDriver(URL, prefix="x/", client_id="me")
    async with driver:
        await driver.subscribe("room", packets.append)
        await driver.publish("other", b"\0packet")
        await driver.unsubscribe("room", packets.append)
        await settled()
    await settled()
    assert packets == [b"hello"]
    assert said == [
        # clean start; 40 seconds; receive maximum; maximum packet size; client identifier
        b"\0\x04MQTT\x05\x02\0\x28\x08\x21\0\x40\x27" + MAX_MQTT_PACKET.to_bytes(4) + b"\0\x02me",
        b"x/room\x24",  # no local, nothing retained, QoS 0
        (0x30, b"\0\x07x/other\0\0packet"),
        b"x/room",
        (0xE0, b""),
        b"",
    ]
    assert driver.counts == {"driver_connected": 1, "driver_retained": 1, "driver_unwanted": 2}
    assert wires.dialled[0][1] == "mqtt"


async def test_rooms_that_share_the_driver_hear_each_other(brokers: Scripted, autojump_clock: Clock) -> None:
    brokers(serve)
    rooms: list[list[bytes]] = [[], []]
    driver = MqttDriver(URL)
    async with driver:
        for room in rooms:
            await driver.subscribe("room", room.append)
        await driver.publish("room", b"1")
    assert rooms == [[b"1"], [b"1"]]


async def test_messages_with_qos_1_and_2_are_answered_and_delivered_once(
    brokers: Scripted, autojump_clock: Clock
) -> None:
    answers: list[object] = []

    async def script(wire: Wire) -> None:
        await greet(wire)
        await confirm(wire)
        await wire.send(publish(b"room", b"1", flags=2, number=b"\0\x07"))
        answers.append(await packet(wire))
        for flags in (4, 12):
            await wire.send(publish(b"room", b"2", flags=flags, number=b"\0\x08"))
            answers.append(await packet(wire))
        for _ in range(2):
            await wire.send(bytes.fromhex("62 02 0008"))
            answers.append(await packet(wire))
        await wire.send(publish(b"room", b"3", flags=4, number=b"\0\x08"))
        answers.append(await packet(wire))
        await wire.rest()

    brokers(script)
    packets: list[bytes] = []
    driver = MqttDriver(URL)
    async with driver:
        await driver.subscribe("room", packets.append)
        await settled()
    assert packets == [b"1", b"2", b"3"]
    rec, comp = (0x50, b"\0\x08"), (0x70, b"\0\x08")
    assert answers == [(0x40, b"\0\x07"), rec, rec, comp, (0x70, b"\0\x08\x92"), rec]


@pytest.mark.parametrize(
    ("given", "flags", "sent"),
    [
        ({"username": "me", "password": "a secret"}, 0xC2, b"\0\x02me\0\x08a secret"),
        ({"username": "me"}, 0x82, b"\0\x02me"),
        ({"password": "a secret"}, 0x42, b"\0\x08a secret"),
    ],
)
async def test_credentials(
    brokers: Scripted, autojump_clock: Clock, given: dict[str, str], flags: int, sent: bytes
) -> None:
    said: list[bytes] = []

    async def script(wire: Wire) -> None:
        said.append(await greet(wire))
        await wire.rest()

    brokers(script)
    driver = MqttDriver(URL, client_id="c", **given)  # type: ignore[arg-type]
    async with driver:
        await driver.wait_active()
    assert said[0][7] == flags
    assert said[0].endswith(b"\0\x01c" + sent)
    assert "secret" not in repr(driver)


async def test_every_connection_has_a_client_identifier_of_its_own(brokers: Scripted, autojump_clock: Clock) -> None:
    said: list[bytes] = []

    async def script(wire: Wire) -> None:
        said.append(await greet(wire))

    brokers(script)
    driver = MqttDriver(URL)
    async with driver:
        await trio.sleep(20)
    assert len({greeting[-23:] for greeting in said}) == len(said) > 2
    assert all(greeting[-23:].startswith(b"trio_relay-") for greeting in said)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("20 03 00 87 00", r"the broker says: not authorized \(0x87\)$"),
        ("20 0b 00 86 08 1f 0004 77726f6e 00", "expected no property 0"),
        ("20 0a 00 86 07 1f 0004 6e 6f 0a 21", r"bad user name or password \(0x86\): no\?!"),
        ("20 03 00 f0 00", r"unknown reason \(0xf0\)"),
        ("20 02 00 01", "MQTT 5, got the answer of an older one"),
        ("20 03 01 00 00", "expected a new session"),
        ("20 03 02 00 00", "expected the flag for a session"),
        ("20 06 00 00 03 21 0000", "bounds that are not 0"),
        ("d0 00", "expected CONNACK, got PingResp"),
        ("f0 00", "expected no AUTH"),
        ("", "does it speak MQTT 5"),
    ],
)
async def test_greetings_that_fail(brokers: Scripted, autojump_clock: Clock, answer: str, why: str) -> None:
    async def script(wire: Wire) -> None:
        await greet(wire, bytes.fromhex(answer))
        if answer:
            await trio.sleep(1)

    wires = brokers(script)
    driver = MqttDriver(URL, timeout=2.0)
    async with driver:
        with pytest.raises(DriverError, match=why):
            await driver.subscribe("room", ignore)
    assert driver.counts["driver_unreachable"] == len(wires.wires) > 0


@pytest.mark.parametrize(("wanted", "keepalive"), [("", 20.0), ("20 06 00 00 03 13 0005", 5.0)])
async def test_a_silent_broker_is_given_up(
    brokers: Scripted, autojump_clock: Clock, wanted: str, keepalive: float
) -> None:
    async def silent(wire: Wire) -> None:
        await greet(wire, bytes.fromhex(wanted) or WELCOME)
        assert await packet(wire) == (0xC0, b"")
        await wire.rest()

    brokers(silent, serve)
    driver = MqttDriver(URL, keepalive=20.0, timeout=4.0)
    async with driver.events() as events, driver:
        await driver.wait_active()
        began = trio.current_time()
        await events.__anext__()
        lost = await events.__anext__()
        assert trio.current_time() - began == pytest.approx(keepalive + 4)
        assert isinstance(lost, DriverInactive)
        assert "said nothing for 4 s" in lost.reason
        await driver.wait_active()
        await trio.sleep(300)
        assert driver.counts["driver_lost"] == 1


async def test_a_refused_subscription(brokers: Scripted, autojump_clock: Clock) -> None:
    async def script(wire: Wire) -> None:
        await greet(wire)
        assert (await confirm(wire, 0x87))[:-1] == b"no"
        assert (await confirm(wire))[:-1] == b"yes"
        assert await confirm(wire, 0x80) == b"yes"
        await wire.rest()

    brokers(script)
    driver = MqttDriver(URL)
    async with driver.events() as events, driver:
        with pytest.raises(DriverError, match="not authorized"):
            await driver.subscribe("no", ignore)
        await driver.subscribe("yes", ignore)
        await driver.unsubscribe("yes", ignore)
        await settled()
        assert driver.active
        told = [str(await events.__anext__()) for _ in range(2)]
    assert "unspecified error (0x80)" in told[1]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("e0 00", "the broker says: success (0x00)"),
        ("e0 02 8e 00", "another client has the same client identifier"),
        ("20 03 00 00 00", "expected CONNACK once"),
        ("90 04 0009 00 00", "expected no SubAck without a request"),
        ("b0 04 0001 00 00", "expected no UnsubAck without a request"),
        ("40 02 0001", "expected no PUBACK"),
        ("82 00", "one that begins with 0x82"),
        ("30 ff ff 7f", f"expected a packet of at most {MAX_MQTT_PACKET} bytes"),
        ("30 06 0000 03 23 0001", "expected no topic alias"),
        ("30 04 0000 00 00", "topic without wildcards"),
        ("", "the broker closed the connection"),
    ],
)
async def test_what_ends_a_connection(brokers: Scripted, autojump_clock: Clock, said: str, why: str) -> None:
    async def script(wire: Wire) -> None:
        await greet(wire)
        await confirm(wire)
        if said:
            await wire.send(bytes.fromhex(said))
            await trio.sleep(1)

    brokers(script, serve)
    driver = MqttDriver(URL)
    async with driver.events() as events, driver:
        await driver.subscribe("room", ignore)
        await events.__anext__()
        lost = await events.__anext__()
        assert isinstance(lost, DriverInactive)
        assert why in lost.reason
        await driver.wait_active()


async def test_an_answer_of_another_kind(brokers: Scripted, autojump_clock: Clock) -> None:
    async def script(wire: Wire) -> None:
        await greet(wire)
        head, body = await packet(wire)
        assert head == 0x82
        await wire.send(bytes((UNSUBACK, 4)), body[:2], b"\0\0")
        await wire.rest()

    brokers(script, serve)
    driver = MqttDriver(URL)
    async with driver.events() as events, driver:
        await driver.wait_active()
        await driver.subscribe("room", ignore)
        told = [str(await events.__anext__()) for _ in range(3)]
    assert any("expected no UnsubAck without a request" in each for each in told)


async def test_what_follows_the_greeting_at_once_is_heard(brokers: Scripted, autojump_clock: Clock) -> None:
    async def script(wire: Wire) -> None:
        await greet(wire, WELCOME + bytes.fromhex("e0 01 8b"))

    brokers(script, serve)
    driver = MqttDriver(URL)
    async with driver.events() as events, driver:
        told = await events.__anext__()
        if not isinstance(told, DriverFailed):
            told = await events.__anext__()
        assert "server shutting down" in str(told)


async def test_messages_that_are_never_released_are_bounded(brokers: Scripted, autojump_clock: Clock) -> None:
    async def script(wire: Wire) -> None:
        await greet(wire)
        await confirm(wire)
        for number in range(1, RECEIVE_MAXIMUM + 2):
            await wire.send(publish(b"room", b"", flags=4, number=number.to_bytes(2)))
        await wire.rest()

    brokers(script, serve)
    packets: list[bytes] = []
    driver = MqttDriver(URL)
    async with driver.events() as events, driver:
        await driver.subscribe("room", packets.append)
        await events.__anext__()
        lost = await events.__anext__()
        assert isinstance(lost, DriverInactive)
        assert "messages that were not released" in lost.reason
    assert len(packets) == RECEIVE_MAXIMUM


async def test_packets_that_are_too_long(brokers: Scripted, autojump_clock: Clock) -> None:
    async def script(wire: Wire) -> None:
        await greet(wire, bytes.fromhex("20 08 00 00 05 27 00000020"))
        await confirm(wire)
        body = b"\0\x04room\0" + bytes(MAX_PACKET + 1)
        await wire.send(bytes((0x30, len(body) & 127 | 128, len(body) >> 7 & 127 | 128, len(body) >> 14)), body)
        await wire.rest()

    brokers(script)
    driver = MqttDriver(URL)
    async with driver:
        await driver.subscribe("room", ignore)
        await settled()
        await driver.publish("room", bytes(32 - 9))
        with pytest.raises(DriverError, match="at most 32 bytes, not 33"):
            await driver.publish("room", bytes(32 - 8))
        assert driver.active
    assert driver.counts["driver_oversized"] == 1


@pytest.mark.parametrize(
    ("url", "target", "secure"),
    [
        ("mqtt://[::1]", "[::1]:1883", False),
        ("mqtts://Host", "host:8883", True),
        ("ws://host:8080/mqtt?key=a%20secret", "host:8080", False),
        ("wss://host/mqtt", "host:443", True),
    ],
)
async def test_urls(brokers: Scripted, autojump_clock: Clock, url: str, target: str, secure: bool) -> None:
    wires = brokers(serve)
    driver = MqttDriver(url)
    async with driver:
        await settled()
    dialled = wires.dialled[0][0].target
    assert (dialled.authority, dialled.secure) == (target, secure)
    assert "secret" not in repr(driver)


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("mqtt://me:a secret@host", {}),
        ("mqtt://host/a%20secret", {}),
        ("nats://host", {}),
        (URL, {"prefix": "a/#/"}),
        (URL, {"prefix": "+"}),
        (URL, {"prefix": "$share/a/"}),
        (URL, {"prefix": "x" * 1024}),
        (URL, {"prefix": "\ud800"}),
        (URL, {"username": "a secret\0"}),
        (URL, {"password": "a secret" * 9000}),
        (URL, {"client_id": "\ud800"}),
        (URL, {"tls": ssl.create_default_context()}),
        (URL, {"keepalive": 0}),
    ],
)
def test_options_that_can_not_be(url: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected a") as caught:
        MqttDriver(url, **options)
    assert "secret" not in str(caught.value)


async def test_namespaces_that_can_not_be(brokers: Scripted, autojump_clock: Clock) -> None:
    brokers(serve)
    driver = MqttDriver(URL)
    async with driver:
        for name in ("", "#", "a/+", "\0", "x" * 2000):
            with pytest.raises(ValueError, match="expected a namespace"):
                await driver.subscribe(name, ignore)
