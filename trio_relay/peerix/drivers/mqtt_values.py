"""The data types, properties and reason codes of MQTT 5. Pure.

Source: MQTT Version 5.0, OASIS Standard: sections 1.5 (data types), 2.2.2 (properties), 2.4 (reason codes).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, Literal, TypeAlias

from ...exceptions import RemoteProtocolError

__all__ = [
    "PacketType",
    "Properties",
    "Property",
    "Reader",
    "describe_reason",
    "encode_bytes",
    "encode_number",
    "encode_text",
    "parse_number_untrusted",
    "parse_properties_untrusted",
]


class PacketType(IntEnum):
    """Section 2.1.2."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14
    AUTH = 15


class Property(IntEnum):
    """Those that a broker may send."""

    PAYLOAD_FORMAT = 1
    MESSAGE_EXPIRY = 2
    CONTENT_TYPE = 3
    RESPONSE_TOPIC = 8
    CORRELATION_DATA = 9
    SUBSCRIPTION_IDENTIFIER = 11
    SESSION_EXPIRY = 17
    ASSIGNED_CLIENT_ID = 18
    SERVER_KEEP_ALIVE = 19
    AUTHENTICATION_METHOD = 21
    AUTHENTICATION_DATA = 22
    RESPONSE_INFORMATION = 26
    SERVER_REFERENCE = 28
    REASON_STRING = 31
    RECEIVE_MAXIMUM = 33
    TOPIC_ALIAS_MAXIMUM = 34
    TOPIC_ALIAS = 35
    MAXIMUM_QOS = 36
    RETAIN_AVAILABLE = 37
    USER_PROPERTY = 38
    MAXIMUM_PACKET_SIZE = 39
    WILDCARD_AVAILABLE = 40
    IDENTIFIERS_AVAILABLE = 41
    SHARED_AVAILABLE = 42


Value: TypeAlias = int | str | bytes
Properties: TypeAlias = dict[Property, Value]
"""Without user properties and subscription identifiers, which may occur several times and say nothing to us."""
_Kind: TypeAlias = Literal["byte", "two", "four", "number", "text", "bytes", "pair"]

_P: Final = Property
_REASON: Final = frozenset({_P.REASON_STRING, _P.USER_PROPERTY})
_REPEATED: Final = frozenset({_P.USER_PROPERTY, _P.SUBSCRIPTION_IDENTIFIER})
_KINDS: Final[dict[Property, _Kind]] = {
    _P.PAYLOAD_FORMAT: "byte",
    _P.MESSAGE_EXPIRY: "four",
    _P.CONTENT_TYPE: "text",
    _P.RESPONSE_TOPIC: "text",
    _P.CORRELATION_DATA: "bytes",
    _P.SUBSCRIPTION_IDENTIFIER: "number",
    _P.SESSION_EXPIRY: "four",
    _P.ASSIGNED_CLIENT_ID: "text",
    _P.SERVER_KEEP_ALIVE: "two",
    _P.AUTHENTICATION_METHOD: "text",
    _P.AUTHENTICATION_DATA: "bytes",
    _P.RESPONSE_INFORMATION: "text",
    _P.SERVER_REFERENCE: "text",
    _P.REASON_STRING: "text",
    _P.RECEIVE_MAXIMUM: "two",
    _P.TOPIC_ALIAS_MAXIMUM: "two",
    _P.TOPIC_ALIAS: "two",
    _P.MAXIMUM_QOS: "byte",
    _P.RETAIN_AVAILABLE: "byte",
    _P.USER_PROPERTY: "pair",
    _P.MAXIMUM_PACKET_SIZE: "four",
    _P.WILDCARD_AVAILABLE: "byte",
    _P.IDENTIFIERS_AVAILABLE: "byte",
    _P.SHARED_AVAILABLE: "byte",
}
_ALLOWED: Final[dict[PacketType, frozenset[Property]]] = {
    PacketType.CONNACK: _REASON
    | {_P.SESSION_EXPIRY, _P.ASSIGNED_CLIENT_ID, _P.SERVER_KEEP_ALIVE, _P.AUTHENTICATION_METHOD}
    | {_P.AUTHENTICATION_DATA, _P.RESPONSE_INFORMATION, _P.SERVER_REFERENCE, _P.RECEIVE_MAXIMUM}
    | {_P.TOPIC_ALIAS_MAXIMUM, _P.MAXIMUM_QOS, _P.RETAIN_AVAILABLE, _P.MAXIMUM_PACKET_SIZE}
    | {_P.WILDCARD_AVAILABLE, _P.IDENTIFIERS_AVAILABLE, _P.SHARED_AVAILABLE},
    PacketType.PUBLISH: frozenset({_P.PAYLOAD_FORMAT, _P.MESSAGE_EXPIRY, _P.CONTENT_TYPE, _P.RESPONSE_TOPIC})
    | {_P.CORRELATION_DATA, _P.SUBSCRIPTION_IDENTIFIER, _P.TOPIC_ALIAS, _P.USER_PROPERTY},
    PacketType.PUBREL: _REASON,
    PacketType.SUBACK: _REASON,
    PacketType.UNSUBACK: _REASON,
    PacketType.DISCONNECT: _REASON | {_P.SERVER_REFERENCE},
}
"""Which property may stand where; Session Expiry in DISCONNECT is for clients alone."""

_REASONS: Final = {
    0x00: "success",
    0x04: "disconnected with the will",
    0x11: "there was no subscription",
    0x80: "unspecified error",
    0x81: "malformed packet",
    0x82: "protocol error",
    0x83: "implementation specific error",
    0x84: "unsupported protocol version",
    0x85: "client identifier not valid",
    0x86: "bad user name or password",
    0x87: "not authorized",
    0x88: "server unavailable",
    0x89: "server busy",
    0x8A: "banned",
    0x8B: "server shutting down",
    0x8C: "bad authentication method",
    0x8D: "keep alive timeout",
    0x8E: "session taken over: another client has the same client identifier",
    0x8F: "topic filter invalid",
    0x90: "topic name invalid",
    0x91: "packet identifier in use",
    0x92: "packet identifier not found",
    0x93: "receive maximum exceeded",
    0x94: "topic alias invalid",
    0x95: "packet too large",
    0x96: "message rate too high",
    0x97: "quota exceeded",
    0x98: "administrative action",
    0x99: "payload format invalid",
    0x9A: "retain not supported",
    0x9B: "QoS not supported",
    0x9C: "use another server",
    0x9D: "server moved",
    0x9E: "shared subscriptions not supported",
    0x9F: "connection rate exceeded",
    0xA0: "maximum connect time",
    0xA1: "subscription identifiers not supported",
    0xA2: "wildcard subscriptions not supported",
}
_MAX_SHOWN: Final = 200


def describe_reason(code: int, text: str = "") -> str:
    """For example ``not authorized (0x87)``, and what the broker says to it."""
    name = f"{_REASONS.get(code, 'unknown reason')} (0x{code:02x})"
    said = "".join(character if character.isprintable() else "?" for character in text[:_MAX_SHOWN])
    return f"{name}: {said}" if said else name


class Reader:
    """Reads a packet from its beginning to its end; every method raises `RemoteProtocolError` where it is too short."""

    def __init__(self, data: bytes) -> None:
        self._data: Final = data
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes that were not read."""
        return len(self._data) - self._at

    def take(self, size: int) -> bytes:
        """The next bytes."""
        if size > self.left:
            raise RemoteProtocolError(f"expected {size} more bytes in the packet, got {self.left}")
        self._at += size
        return self._data[self._at - size : self._at]

    def fixed(self, size: int) -> int:
        """A number of that many bytes."""
        return int.from_bytes(self.take(size))

    def number(self) -> int:
        """A number of one to four bytes, seven bits in each."""
        found = parse_number_untrusted(self._data, self._at)
        if found is None:
            raise RemoteProtocolError("expected the end of a number in the packet")
        self._at += found[1]
        return found[0]

    def bytes(self) -> bytes:
        """Bytes with their length."""
        return self.take(self.fixed(2))

    def text(self) -> str:
        """UTF-8 with its length; U+0000 is not allowed (section 1.5.4)."""
        try:
            text = self.bytes().decode()
        except UnicodeDecodeError:
            raise RemoteProtocolError("expected UTF-8 in the packet") from None
        if "\0" in text:
            raise RemoteProtocolError("expected a text without U+0000 in the packet")
        return text


def parse_number_untrusted(data: bytes | bytearray, start: int) -> tuple[int, int] | None:
    """A number with seven bits in each byte (section 1.5.5), and how many bytes it has; None: its end is missing.

    Raises:
        RemoteProtocolError: it has more than four bytes.
    """
    value = 0
    for size, byte in enumerate(data[start : start + 4], 1):
        value |= (byte & 127) << (7 * (size - 1))
        if byte < 128:
            return value, size
    if len(data) - start >= 4:
        raise RemoteProtocolError("expected a number of at most four bytes")
    return None


def parse_properties_untrusted(reader: Reader, packet: PacketType) -> Properties:
    """The properties in a packet.

    Raises:
        RemoteProtocolError: one is unknown, twice there, not allowed in such a packet, or cut off.
    """
    inner = Reader(reader.take(reader.number()))
    found: Properties = {}
    allowed = _ALLOWED[packet]
    while inner.left:
        number = inner.number()
        name = Property(number) if number in _KINDS else None
        if name is None or name not in allowed:
            raise RemoteProtocolError(f"expected no property {number} in {packet.name}")
        if name in found:
            raise RemoteProtocolError(f"expected the property {name.name} once in {packet.name}")
        value = _read(inner, _KINDS[name])
        if name not in _REPEATED:
            found[name] = value
    return found


def _read(reader: Reader, kind: _Kind) -> Value:
    match kind:
        case "byte":
            return reader.fixed(1)
        case "two":
            return reader.fixed(2)
        case "four":
            return reader.fixed(4)
        case "number":
            return reader.number()
        case "text":
            return reader.text()
        case "bytes":
            return reader.bytes()
        case "pair":
            return reader.text() + reader.text()


def encode_number(value: int) -> bytes:
    """Seven bits in each byte; at most 268,435,455."""
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def encode_bytes(data: bytes) -> bytes:
    """With their length; at most 65,535."""
    return len(data).to_bytes(2) + data


def encode_text(text: str) -> bytes:
    """As UTF-8 with its length."""
    return encode_bytes(text.encode())
