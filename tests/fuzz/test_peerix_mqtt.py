"""The parser of what an MQTT broker says, on whatever may come, in any pieces."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_relay.exceptions import RemoteProtocolError
from trio_relay.peerix.drivers import mqtt_packets, mqtt_values
from trio_relay.peerix.drivers.mqtt_packets import (
    ConnAck,
    Disconnect,
    MqttEvent,
    MqttParser,
    PingResp,
    Publish,
    PubRel,
    SubAck,
    UnsubAck,
    encode_publish,
    is_topic,
    parse_packet_untrusted,
)
from trio_relay.peerix.drivers.mqtt_values import (
    PacketType,
    Reader,
    describe_reason,
    encode_bytes,
    encode_number,
    encode_text,
    parse_number_untrusted,
    parse_properties_untrusted,
)

MOST = 300
"""Bytes of a packet, here."""

ids = st.integers(1, 65535)
reasons = st.integers(0, 255)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
topics = texts.filter(is_topic)
pairs = st.builds(lambda one, two: b"\x26" + encode_text(one) + encode_text(two), texts, texts)


def packet(head: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return bytes((head,)) + encode_number(len(body)) + body


def with_length(properties: list[bytes]) -> bytes:
    data = b"".join(properties)
    return encode_number(len(data)) + data


@st.composite
def said(draw: st.DrawFn) -> tuple[bytes, MqttEvent]:
    """A packet, and what it means."""
    more, text, number, reason = draw(st.lists(pairs, max_size=2)), draw(texts), draw(ids), draw(reasons)
    explained = with_length([*more, b"\x1f" + encode_text(text)])
    two = number.to_bytes(2)
    match draw(st.integers(0, 6)):
        case 0:
            about = with_length([b"\x13" + two, b"\x27\0\0" + two, b"\x1f" + encode_text(text), *more, b"\x24\1"])
            return packet(0x20, b"\1", bytes((reason,)), about), ConnAck(True, reason, text, number, number)
        case 1:
            topic, payload, qos = draw(topics), draw(st.binary(max_size=30)), draw(st.integers(0, 2))
            duplicate, retained = bool(qos and draw(st.booleans())), draw(st.booleans())
            about = with_length([b"\x0b\x07", b"\x0b\x80\x01", b"\x01\1", b"\x09" + encode_bytes(payload), *more])
            head = 0x30 | duplicate << 3 | qos << 1 | retained
            event = Publish(topic, payload, qos, number if qos else 0, duplicate, retained)
            return packet(head, encode_text(topic), two if qos else b"", about, payload), event
        case 2:
            tail = draw(st.sampled_from([b"", b"\x92", b"\0" + explained]))
            return packet(0x62, two, tail), PubRel(number)
        case 3:
            return packet(0x90, two, explained, bytes((reason,))), SubAck(number, (reason,), text)
        case 4:
            return packet(0xB0, two, explained, bytes((reason, 0))), UnsubAck(number, (reason, 0), text)
        case 5:
            return packet(0xD0), PingResp()
        case _:
            if draw(st.booleans()):
                return packet(0xE0, bytes((reason,)), explained), Disconnect(reason, text)
            return packet(0xE0, draw(st.sampled_from([b"", b"\0"]))), Disconnect(0)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted(place % (len(data) + 1) for place in places)
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


def outcome(pieces: list[bytes]) -> tuple[list[MqttEvent], str]:
    """All events, or why there are none."""
    parser, events = MqttParser(MOST), []
    try:
        for piece in pieces:
            events += parser.parse_untrusted(piece)
            assert parser.buffered <= MOST
    except RemoteProtocolError as error:
        return [], str(error)
    return events, ""


@given(packets=st.lists(said(), max_size=5), places=st.lists(st.integers(0, 10_000), max_size=8))
def test_whole_packets_in_any_pieces(packets: list[tuple[bytes, MqttEvent]], places: list[int]) -> None:
    data = b"".join(data for data, _ in packets)
    wanted = ([event for _, event in packets], "")
    assert outcome([data]) == outcome(cut(data, places)) == wanted
    assert outcome([data[at : at + 1] for at in range(len(data))]) == wanted


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """Packets of which parts were cut out or replaced."""
    data = b"".join(data for data, _ in draw(st.lists(said(), min_size=1, max_size=3)))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        piece = draw(
            st.sampled_from([b"", b"\xff\xff\xff\xff", b"\0", b"\0\0", b"\x23\0\1", b"\x1f"]) | st.binary(max_size=2)
        )
        data = data[:start] + piece + data[start + draw(st.sampled_from([0, 1, 2, 100])) :]
    return data


@given(data=st.binary(max_size=100) | spoilt(), places=st.lists(st.integers(0, 10_000), max_size=4))
def test_anything_else_raises_the_documented_error_alone(data: bytes, places: list[int]) -> None:
    """However it is cut into pieces."""
    whole = outcome([data])
    assert outcome(cut(data, places)) == whole
    assert outcome([data[at : at + 1] for at in range(len(data))]) == whole


@given(head=st.integers(0, 255), body=st.binary(max_size=40))
def test_one_packet_raises_the_documented_error_alone(head: int, body: bytes) -> None:
    with suppress(RemoteProtocolError):
        event = parse_packet_untrusted(head, body)
        assert not isinstance(event, Publish) or event.topic


@given(data=st.binary(max_size=40), kind=st.sampled_from([PacketType.CONNACK, PacketType.PUBLISH, PacketType.PUBREL]))
def test_properties_raise_the_documented_error_alone(data: bytes, kind: PacketType) -> None:
    reader = Reader(data)
    with suppress(RemoteProtocolError):
        assert len(parse_properties_untrusted(reader, kind)) <= len(data) // 2
        assert reader.left < len(data)


@given(st.integers(0, 2**28 - 1), st.binary(max_size=3))
def test_numbers(value: int, rest: bytes) -> None:
    encoded = encode_number(value)
    assert parse_number_untrusted(encoded + rest, 0) == (value, len(encoded))
    assert parse_number_untrusted(encoded[:-1], 0) is None


@pytest.mark.parametrize("data", ["80 80 80 80", "ff ff ff ff 7f"])
def test_a_number_that_does_not_end(data: str) -> None:
    with pytest.raises(RemoteProtocolError, match="at most four bytes"):
        parse_number_untrusted(bytes.fromhex(data), 0)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("36 04 0001 61 00", "flags that make sense"),  # QoS 3
        ("38 04 0001 61 00", "flags that make sense"),  # a duplicate with QoS 0
        ("32 06 0001 61 0000 00", "not 0"),
        ("30 04 0001 2b 00", "without wildcards"),
        ("30 04 0001 00 00", r"U\+0000"),
        ("30 04 0001 ff 00", "UTF-8"),
        ("30 08 0001 61 04 01 00 01 00", "PAYLOAD_FORMAT once"),
        ("30 06 0001 61 02 24 00", "no property 36 in PUBLISH"),
        ("30 06 0001 61 02 7f 00", "no property 127"),
        ("30 05 0001 61 02 01", "more bytes in the packet"),
        ("d0 01 00", "end of a packet"),
        ("00 00", "no packet of type 0"),
        ("10 00", "no CONNECT"),
        ("60 02 0001", "begins with 0x60"),
        ("90 03 0001 00", "SUBACK with a reason"),
        ("30 ad 02", "at most 300 bytes, got 304"),
    ],
)
def test_packets_that_break_a_rule(data: str, why: str) -> None:
    with pytest.raises(RemoteProtocolError, match=why):
        MqttParser(MOST).parse_untrusted(bytes.fromhex(data))


def test_no_parser_is_forgotten() -> None:
    holders = (mqtt_packets, mqtt_values, MqttParser)
    found = {name for holder in holders for name in vars(holder) if name.endswith("_untrusted")}
    ours = {"parse_untrusted", "parse_packet_untrusted", "parse_number_untrusted", "parse_properties_untrusted"}
    assert found == ours


def test_what_mosquitto_2_0_11_says() -> None:
    """Recorded: ``max_packet_size 5000``, ``max_keepalive 20``, a message that we send to ourselves with QoS 2."""
    recorded = bytes.fromhex(
        "203d00003a22000a130014120029"
        "6175746f2d39333737333446362d363036332d314339432d353646342d364637334236443838464236"
        "2700001388210014 90040001000 2 3407000161000100 78 62020001 b00400020000 b00400030011 d000 e00181".replace(
            " ", ""
        )
    )
    assert MqttParser().parse_untrusted(recorded) == [
        ConnAck(False, 0, keepalive=20, max_packet=5000),
        SubAck(1, (2,)),
        Publish("a", b"x", 2, 1),
        PubRel(1),
        UnsubAck(2, (0,)),
        UnsubAck(3, (0x11,)),
        PingResp(),
        Disconnect(0x81),
    ]


def test_the_largest_packet() -> None:
    data = b"\x30\xa9\x02\0\x01a\0" + bytes(293)
    assert len(data) == MOST
    assert MqttParser(MOST).parse_untrusted(data) == [Publish("a", bytes(293))]


@given(topics, st.binary(max_size=20))
def test_what_we_publish_is_what_a_broker_would(topic: str, payload: bytes) -> None:
    assert MqttParser(MOST).parse_untrusted(encode_publish(topic, payload)) == [Publish(topic, payload)]


@given(reasons, st.text(max_size=300))
def test_reasons_are_one_line(code: int, text: str) -> None:
    assert describe_reason(code, text).isprintable()
    assert len(describe_reason(code, text)) < 300
