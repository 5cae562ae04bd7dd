"""The client's side of MQTT 5: bytes in, packets out, and the other way round. Pure.

Source: MQTT Version 5.0, OASIS Standard, chapter 3. We publish with QoS 0 alone, and announce that we take no topic
aliases and no authentication beyond user name and password; a broker that uses them breaks the protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from ...exceptions import RemoteProtocolError
from .driver import MAX_PACKET
from .mqtt_values import (
    PacketType,
    Property,
    Reader,
    encode_number,
    encode_text,
    parse_number_untrusted,
    parse_properties_untrusted,
)

__all__ = [
    "DISCONNECT",
    "MAX_MQTT_PACKET",
    "MAX_TOPIC",
    "PINGREQ",
    "ConnAck",
    "Disconnect",
    "MqttEvent",
    "MqttParser",
    "PingResp",
    "PubRel",
    "Publish",
    "SubAck",
    "UnsubAck",
    "encode_connect",
    "encode_puback",
    "encode_pubcomp",
    "encode_publish",
    "encode_pubrec",
    "encode_subscribe",
    "encode_unsubscribe",
    "is_topic",
    "parse_packet_untrusted",
]

MAX_MQTT_PACKET: Final = MAX_PACKET + 16 * 1024
"""Bytes of one packet of MQTT, which we announce: the largest payload, a topic, and properties."""
MAX_TOPIC: Final = 1024
"""Bytes of one that we use."""
PINGREQ: Final = b"\xc0\x00"
DISCONNECT: Final = b"\xe0\x00"
"""With the reason 0: a normal end."""

_NOT_FOUND: Final = 0x92
_CLEAN_START: Final = 0x02
_USER: Final = 0x80
_PASSWORD: Final = 0x40
_SUBSCRIPTION: Final = 0x24
"""QoS 0, no local (nothing comes back that we publish), and nothing that was retained."""


@dataclass(frozen=True, slots=True)
class ConnAck:
    """The answer to CONNECT.

    Attributes:
        reason: 0: we are in.
        text: what the broker says to it.
        keepalive: seconds that we have to use instead of ours; None: ours.
        max_packet: bytes of one packet that the broker takes; None: any.
    """

    session_present: bool
    reason: int
    text: str = ""
    keepalive: int | None = None
    max_packet: int | None = None


@dataclass(frozen=True, slots=True)
class Publish:
    """A message; `packet_id` is 0 with QoS 0."""

    topic: str
    payload: bytes
    qos: int = 0
    packet_id: int = 0
    duplicate: bool = False
    retained: bool = False


@dataclass(frozen=True, slots=True)
class PubRel:
    """The sender of a message with QoS 2 will not send it again."""

    packet_id: int


@dataclass(frozen=True, slots=True)
class SubAck:
    """The answer to SUBSCRIBE: a reason for each topic, from 0x80 on a refusal."""

    packet_id: int
    reasons: tuple[int, ...]
    text: str = ""


@dataclass(frozen=True, slots=True)
class UnsubAck:
    """The answer to UNSUBSCRIBE, in the same way."""

    packet_id: int
    reasons: tuple[int, ...]
    text: str = ""


@dataclass(frozen=True, slots=True)
class PingResp:
    """The answer to PINGREQ."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """The broker ends the connection."""

    reason: int
    text: str = ""


MqttEvent: TypeAlias = ConnAck | Publish | PubRel | SubAck | UnsubAck | PingResp | Disconnect


class MqttParser:
    """Makes packets of the broker's bytes, however they are cut into pieces.

    Args:
        max_packet: bytes of one, which the broker was told.
    """

    def __init__(self, max_packet: int = MAX_MQTT_PACKET) -> None:
        self._max_packet: Final = max_packet
        self._buffer: Final = bytearray()

    @property
    def buffered(self) -> int:
        """Bytes that are no whole packet yet."""
        return len(self._buffer)

    def parse_untrusted(self, data: bytes) -> list[MqttEvent]:
        """Takes bytes; returns what they complete.

        Raises:
            RemoteProtocolError: a rule was broken; nothing more can be parsed.
        """
        self._buffer.extend(data)
        events: list[MqttEvent] = []
        while len(self._buffer) > 1 and (found := parse_number_untrusted(self._buffer, 1)) is not None:
            length, size = found
            end = 1 + size + length
            if end > self._max_packet:
                raise RemoteProtocolError(f"expected a packet of at most {self._max_packet} bytes, got {end}")
            if len(self._buffer) < end:
                break
            events.append(parse_packet_untrusted(self._buffer[0], bytes(self._buffer[1 + size : end])))
            del self._buffer[:end]
        return events


def parse_packet_untrusted(head: int, body: bytes) -> MqttEvent:
    """One packet.

    Args:
        head: the first byte: type and flags.
        body: what stands behind the length.

    Raises:
        RemoteProtocolError: it is none that a broker may send to us, or not what its type says.
    """
    flags = head & 15
    reader = Reader(body)
    if head >> 4 == PacketType.PUBLISH:
        return _parse_publish(flags, reader)
    if flags != (2 if head >> 4 == PacketType.PUBREL else 0):
        raise RemoteProtocolError(f"expected a packet of MQTT, got one that begins with 0x{head:02x}")
    match head >> 4:
        case PacketType.CONNACK:
            event: MqttEvent = _parse_connack(reader)
        case PacketType.SUBACK:
            event = SubAck(*_parse_acknowledgement(reader, PacketType.SUBACK))
        case PacketType.UNSUBACK:
            event = UnsubAck(*_parse_acknowledgement(reader, PacketType.UNSUBACK))
        case PacketType.PUBREL:
            event = PubRel(_packet_id(reader))
            _parse_reason(reader, PacketType.PUBREL)
        case PacketType.PINGRESP:
            event = PingResp()
        case PacketType.DISCONNECT:
            event = Disconnect(*_parse_reason(reader, PacketType.DISCONNECT))
        case _:
            name = PacketType(head >> 4).name if head >> 4 else "packet of type 0"
            raise RemoteProtocolError(f"expected no {name} from the broker")
    if reader.left:
        raise RemoteProtocolError(f"expected the end of a packet, got {reader.left} more bytes")
    return event


def _parse_connack(reader: Reader) -> ConnAck:
    flags, reason = reader.fixed(1), reader.fixed(1)
    if not reader.left:
        raise RemoteProtocolError("expected a broker that speaks MQTT 5, got the answer of an older one")
    if flags > 1:
        raise RemoteProtocolError(f"expected the flag for a session in CONNACK, got 0x{flags:02x}")
    found = parse_properties_untrusted(reader, PacketType.CONNACK)
    text = found.get(Property.REASON_STRING, "")
    keepalive = found.get(Property.SERVER_KEEP_ALIVE)
    most = found.get(Property.MAXIMUM_PACKET_SIZE)
    assert isinstance(text, str)
    assert keepalive is None or isinstance(keepalive, int)
    assert most is None or isinstance(most, int)
    if most == 0 or found.get(Property.RECEIVE_MAXIMUM) == 0:
        raise RemoteProtocolError("expected bounds that are not 0 in CONNACK")
    return ConnAck(bool(flags), reason, text, keepalive, most)


def _parse_publish(flags: int, reader: Reader) -> Publish:
    duplicate, qos, retained = bool(flags & 8), flags >> 1 & 3, bool(flags & 1)
    if qos == 3 or (duplicate and not qos):
        raise RemoteProtocolError(f"expected PUBLISH with flags that make sense, got 0x{flags:x}")
    topic = reader.text()
    packet_id = _packet_id(reader) if qos else 0
    found = parse_properties_untrusted(reader, PacketType.PUBLISH)
    if Property.TOPIC_ALIAS in found:
        raise RemoteProtocolError("expected no topic alias")
    if not topic or "+" in topic or "#" in topic:
        raise RemoteProtocolError("expected PUBLISH with a topic without wildcards")
    return Publish(topic, reader.take(reader.left), qos, packet_id, duplicate, retained)


def _parse_acknowledgement(reader: Reader, packet: PacketType) -> tuple[int, tuple[int, ...], str]:
    packet_id = _packet_id(reader)
    text = parse_properties_untrusted(reader, packet).get(Property.REASON_STRING, "")
    assert isinstance(text, str)
    if not reader.left:
        raise RemoteProtocolError(f"expected {packet.name} with a reason")
    return packet_id, tuple(reader.take(reader.left)), text


def _parse_reason(reader: Reader, packet: PacketType) -> tuple[int, str]:
    """A reason and properties, each of which may be left out."""
    reason = reader.fixed(1) if reader.left else 0
    text = parse_properties_untrusted(reader, packet).get(Property.REASON_STRING, "") if reader.left else ""
    assert isinstance(text, str)
    return reason, text


def _packet_id(reader: Reader) -> int:
    found = reader.fixed(2)
    if not found:
        raise RemoteProtocolError("expected a packet identifier that is not 0")
    return found


def is_topic(text: str) -> bool:
    """Whether it can be published to and subscribed to: no wildcards, not reserved, not too long."""
    if not text or text.startswith("$") or any(character in "+#\0" for character in text):
        return False
    try:
        return len(text.encode()) <= MAX_TOPIC
    except UnicodeEncodeError:
        return False


def encode_connect(client_id: str, user: str | None, password: str | None, *, keepalive: int, receive: int) -> bytes:
    """The greeting.

    Args:
        keepalive: seconds within which the broker hears from us; 0: it need not.
        receive: messages with QoS 1 or 2 that we take before we have answered.
    """
    flags = _CLEAN_START | (_USER if user is not None else 0) | (_PASSWORD if password is not None else 0)
    properties = b"%c%b" % (Property.RECEIVE_MAXIMUM, receive.to_bytes(2))
    properties += b"%c%b" % (Property.MAXIMUM_PACKET_SIZE, MAX_MQTT_PACKET.to_bytes(4))
    credentials = b"".join(encode_text(text) for text in (user, password) if text is not None)
    return _packet(
        PacketType.CONNECT << 4,
        encode_text("MQTT") + bytes((5, flags)) + keepalive.to_bytes(2),
        encode_number(len(properties)) + properties,
        encode_text(client_id) + credentials,
    )


def encode_publish(topic: str, payload: bytes) -> bytes:
    """A message with QoS 0 that is not retained."""
    return _packet(PacketType.PUBLISH << 4, encode_text(topic), b"\0", payload)


def encode_puback(packet_id: int) -> bytes:
    """The answer to a message with QoS 1."""
    return _packet(PacketType.PUBACK << 4, packet_id.to_bytes(2))


def encode_pubrec(packet_id: int) -> bytes:
    """The answer to a message with QoS 2."""
    return _packet(PacketType.PUBREC << 4, packet_id.to_bytes(2))


def encode_pubcomp(packet_id: int, *, known: bool) -> bytes:
    """The answer to PUBREL."""
    return _packet(PacketType.PUBCOMP << 4, packet_id.to_bytes(2), b"" if known else bytes((_NOT_FOUND,)))


def encode_subscribe(packet_id: int, topic: str) -> bytes:
    """A subscription to one topic."""
    return _packet(
        PacketType.SUBSCRIBE << 4 | 2, packet_id.to_bytes(2), b"\0", encode_text(topic), bytes((_SUBSCRIPTION,))
    )


def encode_unsubscribe(packet_id: int, topic: str) -> bytes:
    """Ends one."""
    return _packet(PacketType.UNSUBSCRIBE << 4 | 2, packet_id.to_bytes(2), b"\0", encode_text(topic))


def _packet(head: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return bytes((head,)) + encode_number(len(body)) + body
