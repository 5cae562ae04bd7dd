"""Socket.IO protocol 5, which `socket.io` speaks since its version 3: the packets inside Engine.IO messages. Pure.

A packet is a digit, a namespace if it is not ``/``, a number if it is to be answered or answers, and JSON. Binary
packets, whose bytes follow in messages of their own, are refused: Peerix sends none.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Final

from ...exceptions import RemoteProtocolError
from ...wire.json import JSONValue, decode_untrusted, describe, encode

__all__ = [
    "MAX_ID",
    "MAX_NAMESPACE",
    "ROOT",
    "SocketPacket",
    "SocketType",
    "encode_ack",
    "encode_connect",
    "encode_connect_error",
    "encode_disconnect",
    "encode_event",
    "encode_packet",
    "parse_packet_untrusted",
]

ROOT: Final = "/"
"""The namespace of those who name none."""
MAX_NAMESPACE: Final = 256
"""Characters of a namespace."""
MAX_ID: Final = 2**53 - 1
"""Of a packet; the largest that JavaScript counts to."""

_HEAD: Final = re.compile(r"([0-9])(?:(/[^,]*)(?:,|\Z))?([0-9]*)")
_RESERVED: Final = frozenset(
    {"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"}
)
"""Names that no event may have."""


class SocketType(enum.IntEnum):
    """What a packet is for; the value is its digit."""

    CONNECT = 0
    DISCONNECT = 1
    EVENT = 2
    ACK = 3
    CONNECT_ERROR = 4
    BINARY_EVENT = 5
    BINARY_ACK = 6


_BINARY: Final = frozenset({SocketType.BINARY_EVENT, SocketType.BINARY_ACK})


@dataclass(frozen=True, slots=True)
class SocketPacket:
    """One packet.

    Attributes:
        type: what it is for; never a binary one.
        data: of an event its name, text or a number, and its arguments; of an ACK arguments; of CONNECT an object or
            None; of CONNECT_ERROR an object, text or None; of DISCONNECT None.
        id: of an event that is to be answered by an ACK with this number, and of the ACK; None: there is none.
    """

    type: SocketType
    data: JSONValue = None
    id: int | None = None
    namespace: str = ROOT


def encode_packet(packet: SocketPacket) -> str:
    """A packet as the text of an Engine.IO message.

    Raises:
        LocalProtocolError: its data has no JSON form.
    """
    namespace = "" if packet.namespace == ROOT else f"{packet.namespace},"
    number = "" if packet.id is None else str(packet.id)
    data = "" if packet.data is None else encode(packet.data).decode()
    return f"{int(packet.type)}{namespace}{number}{data}"


def encode_connect(auth: dict[str, JSONValue] | None = None, namespace: str = ROOT) -> str:
    """Of a client, with what it has to show; or the server's answer, ``{"sid": ...}``."""
    return encode_packet(SocketPacket(SocketType.CONNECT, auth, None, namespace))


def encode_disconnect(namespace: str = ROOT) -> str:
    """Of either side, without an answer."""
    return encode_packet(SocketPacket(SocketType.DISCONNECT, None, None, namespace))


def encode_event(name: str, *arguments: JSONValue, id: int | None = None, namespace: str = ROOT) -> str:
    """An event; with `id` the other side answers by an ACK with the same number."""
    return encode_packet(SocketPacket(SocketType.EVENT, [name, *arguments], id, namespace))


def encode_ack(id: int, *arguments: JSONValue, namespace: str = ROOT) -> str:
    """The answer to the event with this number."""
    return encode_packet(SocketPacket(SocketType.ACK, [*arguments], id, namespace))


def encode_connect_error(message: str, namespace: str = ROOT) -> str:
    """The server's answer to a client that it does not let in."""
    return encode_packet(SocketPacket(SocketType.CONNECT_ERROR, {"message": message}, None, namespace))


def parse_packet_untrusted(text: str) -> SocketPacket:
    """The packet of one Engine.IO message.

    Beyond what `socket.io-parser` refuses, an event or ACK without data is refused, and spaces in the number.

    Args:
        text: its size was bounded by the caller.

    Raises:
        RemoteProtocolError: there is no such packet, it is binary, its data does not fit to its type, or its number or
            its namespace is too long.
    """
    head = _HEAD.match(text)
    if head is None or head[1] > "6":
        raise RemoteProtocolError(f"expected a packet of socket.io, not {describe(text[:20])}")
    kind = SocketType(int(head[1]))
    if kind in _BINARY:
        raise RemoteProtocolError("expected no binary packet of socket.io")
    namespace = head[2] or ROOT
    if len(namespace) > MAX_NAMESPACE:
        raise RemoteProtocolError(f"expected a namespace of at most {MAX_NAMESPACE} characters")
    number = head[3].lstrip("0") or head[3][:1]
    if len(number) > len(str(MAX_ID)) or (number and int(number) > MAX_ID):
        raise RemoteProtocolError("expected a smaller packet number")
    rest = text[head.end() :]
    data = decode_untrusted(rest) if rest else None
    if not (_fits(kind, data) and (data is not None or not rest)):
        raise RemoteProtocolError(f"expected other data in {kind.name}, not {type(data).__name__}")
    return SocketPacket(kind, data, int(number) if number else None, namespace)


def _fits(kind: SocketType, data: JSONValue) -> bool:
    match kind:
        case SocketType.CONNECT:
            return data is None or isinstance(data, dict)
        case SocketType.DISCONNECT:
            return data is None
        case SocketType.CONNECT_ERROR:
            return data is None or isinstance(data, str | dict)
        case SocketType.EVENT:
            return isinstance(data, list) and bool(data) and _is_event_name(data[0])
        case _:
            return isinstance(data, list)


def _is_event_name(name: JSONValue) -> bool:
    return name not in _RESERVED if isinstance(name, str) else type(name) in (int, float)
