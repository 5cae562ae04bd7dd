"""Engine.IO packets and payloads: what `engine.io-parser` 5.2 writes and refuses."""

from __future__ import annotations

import pytest

from trio_relay.exceptions import RemoteProtocolError
from trio_relay.peerix.socketio.engineio import (
    EngineHandshake,
    EnginePacket,
    EngineType,
    encode_handshake,
    encode_packet,
    encode_payload,
    parse_handshake_untrusted,
    parse_packet_untrusted,
    parse_payload_untrusted,
)

E = EngineType
PACKETS = [
    EnginePacket(E.OPEN, '{"sid":"x"}'),
    EnginePacket(E.MESSAGE, "hé€"),
    EnginePacket(E.MESSAGE, b"\x01\x02\x03\x04"),
    EnginePacket(E.PING),
    EnginePacket(E.PONG, "probe"),
    EnginePacket(E.NOOP),
    EnginePacket(E.CLOSE),
    EnginePacket(E.UPGRADE),
]
PAYLOAD = '0{"sid":"x"}\x1e4hé€\x1ebAQIDBA==\x1e2\x1e3probe\x1e6\x1e1\x1e5'
"""What its `encodePayload` makes of them."""


def test_payload_of_the_original() -> None:
    assert encode_payload(PACKETS).decode() == PAYLOAD
    assert parse_payload_untrusted(PAYLOAD.encode(), 8) == PACKETS


def test_messages_of_a_websocket() -> None:
    assert [encode_packet(packet) for packet in PACKETS] == PAYLOAD.split("\x1e")
    assert parse_packet_untrusted("3probe") == EnginePacket(E.PONG, "probe")
    assert parse_packet_untrusted(b"4a") == EnginePacket(E.MESSAGE, b"4a")
    # One packet a message: a separator is a part of it.
    assert parse_packet_untrusted("4a\x1e4b") == EnginePacket(E.MESSAGE, "a\x1e4b")


def test_padding_may_be_missing() -> None:
    assert parse_payload_untrusted(b"bAQ\x1ebAQI\x1eb", 3) == [
        EnginePacket(E.MESSAGE, b"\x01"),
        EnginePacket(E.MESSAGE, b"\x01\x02"),
        EnginePacket(E.MESSAGE, b""),
    ]


@pytest.mark.parametrize(
    "body",
    [b"", b"\x1e", b"4a\x1e", b"8", b"2probe\x1e\x1e3", b"a\x1e4", b"b$$", "bÄ".encode(), b"4\xff", b"4\x1e4\x1e4"],
)
def test_payloads_that_are_refused(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_payload_untrusted(body, 2)


@pytest.mark.parametrize("data", ["", "x", "7", "bAQ==", "\u0664"])
def test_websocket_messages_that_are_refused(data: str) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_packet_untrusted(data)


def test_handshake() -> None:
    handshake = EngineHandshake("lv_VI97HAXpY6yYWAAAC", ("websocket",), 25.0, 20.0, 1_000_000)
    packet = encode_handshake(handshake)
    # The example of the protocol's description.
    assert encode_packet(packet) == (
        '0{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,'
        '"maxPayload":1000000}'
    )
    assert parse_handshake_untrusted(packet) == handshake


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"sid":"s"', '"sid":""'),
        ('"sid":"s"', '"sid":1'),
        ('"sid":"s"', f'"sid":"{"s" * 257}"'),
        ("[]", "{}"),
        ("[]", '["websocket","a","b","c","d","e","f","g","h"]'),
        ("25000", "0"),
        ("25000", "true"),
        ("25000", "1e999"),
        ("25000", f"1{'0' * 400}"),
        ("20000", '"20000"'),
        ("1000000", "1.5"),
        ("1000000", "-1"),
        ("{", "["),
        ("{", '[{"a":'),
        ("}", ""),
    ],
)
def test_handshakes_that_are_refused(old: str, new: str) -> None:
    good = '{"sid":"s","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}'
    assert parse_handshake_untrusted(EnginePacket(E.OPEN, good)).sid == "s"
    with pytest.raises(RemoteProtocolError):
        parse_handshake_untrusted(EnginePacket(E.OPEN, good.replace(old, new)))


def test_another_packet_is_no_handshake() -> None:
    with pytest.raises(RemoteProtocolError, match="not MESSAGE"):
        parse_handshake_untrusted(EnginePacket(E.MESSAGE, "{}"))
