"""Engine.IO protocol 4: packets, the payloads of HTTP long polling, the opening handshake. Pure.

A packet is a digit and text. Over WebSocket each one is a text message, and a message of bytes is a binary message
without a digit. Over long polling several are in one body, and bytes are base64 there.
"""

from __future__ import annotations

import base64
import binascii
import enum
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from ...exceptions import RemoteProtocolError
from ...wire.json import JSONValue, decode_untrusted, describe, encode

__all__ = [
    "MAX_SID",
    "PROBE",
    "PROTOCOL",
    "EngineHandshake",
    "EnginePacket",
    "EngineType",
    "encode_handshake",
    "encode_packet",
    "encode_payload",
    "parse_handshake_untrusted",
    "parse_packet_untrusted",
    "parse_payload_untrusted",
]

PROTOCOL: Final = 4
"""What clients name in the query as ``EIO``."""
PROBE: Final = "probe"
"""The data of ping and pong that try a WebSocket before an upgrade."""
MAX_SID: Final = 256
"""Characters of a session's name."""

_SEPARATOR: Final = "\x1e"
_BINARY: Final = "b"
_MAX_UPGRADES: Final = 8
_MILLISECONDS: Final = 1000
_INVALID_PAYLOAD: Final = 1007


class EngineType(enum.IntEnum):
    """What a packet is for; the value is its digit."""

    OPEN = 0
    CLOSE = 1
    PING = 2
    PONG = 3
    MESSAGE = 4
    UPGRADE = 5
    NOOP = 6


_TYPES: Final = {str(int(kind)): kind for kind in EngineType}


class EnginePacket(NamedTuple):
    """One packet.

    Attributes:
        type: what it is for.
        data: text; bytes only of a message.
    """

    type: EngineType
    data: str | bytes = ""


@dataclass(frozen=True, slots=True)
class EngineHandshake:
    """What a server opens a session with.

    Attributes:
        sid: the session's name, a secret of client and server.
        upgrades: transports that the client may change to.
        ping_interval: seconds between two pings of the server.
        ping_timeout: seconds that each side waits for the other beyond that.
        max_payload: bytes that the server takes in one body.
    """

    sid: str
    upgrades: Sequence[str]
    ping_interval: float
    ping_timeout: float
    max_payload: int


def encode_packet(packet: EnginePacket) -> str:
    """A packet as text; bytes as they are in a payload. Over WebSocket, bytes are sent as they are instead."""
    if isinstance(packet.data, bytes):
        return _BINARY + base64.b64encode(packet.data).decode("ascii")
    return f"{int(packet.type)}{packet.data}"


def encode_payload(packets: Iterable[EnginePacket]) -> bytes:
    """The body of a request or response of long polling, UTF-8."""
    return _SEPARATOR.join(map(encode_packet, packets)).encode()


def parse_packet_untrusted(data: str | bytes) -> EnginePacket:
    """The packet of one WebSocket message.

    Raises:
        RemoteProtocolError: there is no such packet.
    """
    if isinstance(data, bytes):
        return EnginePacket(EngineType.MESSAGE, data)
    kind = _TYPES.get(data[:1])
    if kind is None:
        raise RemoteProtocolError(f"expected a packet of engine.io, not {describe(data[:20])}")
    return EnginePacket(kind, data[1:])


def parse_payload_untrusted(body: bytes, most: int) -> list[EnginePacket]:
    """The packets of one body of long polling, one at least.

    Args:
        body: its size was bounded by the caller.
        most: packets that it may have.

    Raises:
        RemoteProtocolError: it is no UTF-8, a packet is none, or there are more than `most`.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise RemoteProtocolError("expected a payload in utf-8", _INVALID_PAYLOAD) from None
    pieces = text.split(_SEPARATOR, most)
    if len(pieces) > most:
        raise RemoteProtocolError(f"expected at most {most} packets in one payload")
    return [_parse_piece_untrusted(piece) for piece in pieces]


def _parse_piece_untrusted(piece: str) -> EnginePacket:
    if not piece.startswith(_BINARY):
        return parse_packet_untrusted(piece)
    encoded = piece[1:]
    try:
        # Some clients leave the padding away.
        data = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise RemoteProtocolError("expected base64 in a binary packet") from None
    return EnginePacket(EngineType.MESSAGE, data)


def encode_handshake(handshake: EngineHandshake) -> EnginePacket:
    """The packet that a server opens a session with."""
    content: JSONValue = {
        "sid": handshake.sid,
        "upgrades": list(handshake.upgrades),
        "pingInterval": round(handshake.ping_interval * _MILLISECONDS),
        "pingTimeout": round(handshake.ping_timeout * _MILLISECONDS),
        "maxPayload": handshake.max_payload,
    }
    return EnginePacket(EngineType.OPEN, encode(content).decode())


def parse_handshake_untrusted(packet: EnginePacket) -> EngineHandshake:
    """What a server opened a session with.

    Raises:
        RemoteProtocolError: it is another packet, or a part of it is missing or out of range.
    """
    if packet.type is not EngineType.OPEN:
        raise RemoteProtocolError(f"expected an engine.io handshake, not {packet.type.name}")
    content = decode_untrusted(packet.data)
    if not isinstance(content, dict):
        raise RemoteProtocolError("expected an object in an engine.io handshake")
    sid, upgrades, most = content.get("sid"), content.get("upgrades"), content.get("maxPayload")
    if not (isinstance(sid, str) and 0 < len(sid) <= MAX_SID):
        raise RemoteProtocolError(f"expected a sid of at most {MAX_SID} characters in an engine.io handshake")
    if not isinstance(upgrades, list) or len(upgrades) > _MAX_UPGRADES:
        raise RemoteProtocolError("expected a list of upgrades in an engine.io handshake")
    if type(most) is not int or most <= 0:
        raise RemoteProtocolError("expected a positive maxPayload in an engine.io handshake")
    return EngineHandshake(
        sid=sid,
        upgrades=tuple(upgrade for upgrade in upgrades if isinstance(upgrade, str)),
        ping_interval=_seconds(content, "pingInterval"),
        ping_timeout=_seconds(content, "pingTimeout"),
        max_payload=most,
    )


def _seconds(content: dict[str, JSONValue], name: str) -> float:
    value = content.get(name)
    if type(value) not in (int, float) or not 0 < value < math.inf:  # type: ignore[operator]
        raise RemoteProtocolError(f"expected a positive {name} in an engine.io handshake")
    try:
        return value / _MILLISECONDS  # type: ignore[operator]
    except OverflowError:
        raise RemoteProtocolError(f"expected a smaller {name} in an engine.io handshake") from None
