"""What peers say to each other through a broker, before they are connected. Pure.

A packet is one message of a driver. Its receiver does this, in this order:

1. `parse_packet_untrusted`: whose it is; one's own packets come back from some brokers, and are left.
2. With encryption on, the pair key of the sender, which should be kept: `Keys.agree_untrusted(packet.sender)`.
3. `open_signal_untrusted`: the payload is opened, then inflated, then read.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeAlias

from ...exceptions import PayloadTooLarge, RemoteProtocolError
from ...wire.json import JSONValue, decode_untrusted, describe, encode
from . import compression
from .candidates import (
    IceCandidate,
    candidate_to_json,
    description_to_json,
    parse_candidate_untrusted,
    parse_description_untrusted,
)
from .protobuf import Field, Kind, Message
from .sealing import ID_SIZE, PairKey

__all__ = [
    "SIGNAL_LIMITS",
    "Announce",
    "Answer",
    "Candidates",
    "IceCandidate",
    "Invoke",
    "Offer",
    "Packet",
    "PacketType",
    "Signal",
    "SignalLimits",
    "encode_packet",
    "encode_signal",
    "open_signal_untrusted",
    "parse_packet_untrusted",
    "parse_signal_untrusted",
    "seal_signal",
]


class PacketType(IntEnum):
    """What a packet is for."""

    ANNOUNCE = 1
    INVOKE = 2
    OFFER = 3
    ANSWER = 4
    CANDIDATES = 5


_TYPES: Final = {type.value: type for type in PacketType}
_PACKET: Final = Message(
    Field(1, "type", Kind.UINT32),
    Field(2, "flags", Kind.UINT32),
    Field(3, "sender", Kind.BYTES),
    Field(4, "payload", Kind.BYTES),
)
_COMPRESSED, _ENCRYPTED = 1, 2
_TOO_BIG: Final = 1009
"""Close code of RFC 6455 section 7.4.1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalLimits:
    """The bounds of one packet from a stranger.

    Attributes:
        packet: bytes of a packet as it comes from a driver: the longest description, not compressed, and as much
            again for metadata. Brokers take 1 MiB at most, if nobody tells them otherwise.
        payload: bytes of its payload when it was opened and inflated. For a moment JSON takes up to twenty times as
            much memory.
        candidates: in one packet.
    """

    packet: int = 256 * 1024
    payload: int = 512 * 1024
    candidates: int = 256


SIGNAL_LIMITS: Final = SignalLimits()


@dataclass(frozen=True, slots=True)
class Packet:
    """One message of a driver.

    Attributes:
        sender: the id of the peer that it says it is from: 33 bytes, its public key where packets are sealed.
        payload: compressed, and then encrypted, as the flags say. They mean nothing if it is empty.
    """

    type: PacketType
    sender: bytes
    payload: bytes
    compressed: bool = False
    encrypted: bool = False


@dataclass(frozen=True, slots=True)
class Announce:
    """To everybody in the room: the sender is there. Who gets it answers with an `Invoke`."""


@dataclass(frozen=True, slots=True)
class Invoke:
    """To one peer: the sender is in the room and waits for an `Offer`.

    Attributes:
        metadata: of the sender, any JSON value; None if it has none.
    """

    metadata: JSONValue = None


@dataclass(frozen=True, slots=True)
class Offer:
    """To one peer: a session description, and the sender's metadata (None if it has none)."""

    sdp: str
    metadata: JSONValue = None


@dataclass(frozen=True, slots=True)
class Answer:
    """To one peer: the session description that answers its offer."""

    sdp: str


@dataclass(frozen=True, slots=True)
class Candidates:
    """To one peer: more addresses of the sender."""

    candidates: tuple[IceCandidate, ...]


Signal: TypeAlias = Announce | Invoke | Offer | Answer | Candidates


def encode_packet(packet: Packet) -> bytes:
    """Writes one message of a driver.

    Raises:
        ValueError: the sender's id has not `ID_SIZE` bytes.
    """
    if len(packet.sender) != ID_SIZE:
        raise ValueError(f"expected a sender of {ID_SIZE} bytes, not {len(packet.sender)}")
    flags = _COMPRESSED * packet.compressed | _ENCRYPTED * packet.encrypted
    return _PACKET.encode(
        {"type": packet.type, "flags": flags, "sender": packet.sender, "payload": packet.payload},
    )


def parse_packet_untrusted(data: bytes, *, limits: SignalLimits = SIGNAL_LIMITS) -> Packet:
    """Reads one message of a driver; its payload stays closed.

    Raises:
        RemoteProtocolError: it is none, or too large.
    """
    if len(data) > limits.packet:
        raise RemoteProtocolError(f"expected a packet of at most {limits.packet} bytes, got {len(data)}", _TOO_BIG)
    values = _PACKET.decode_untrusted(data)
    kind, sender, payload = values.get("type"), values.get("sender"), values.get("payload")
    if kind not in _TYPES:
        raise RemoteProtocolError(f"expected a type from 1 to {len(_TYPES)}, got {kind}")
    if sender is None or len(sender) != ID_SIZE:
        raise RemoteProtocolError(f"expected a sender of {ID_SIZE} bytes")
    if payload is None:
        raise RemoteProtocolError("expected a payload, empty if there is none")
    flags = values.get("flags", 0)
    return Packet(_TYPES[kind], sender, payload, bool(flags & _COMPRESSED), bool(flags & _ENCRYPTED))


def encode_signal(signal: Signal) -> bytes:
    """The payload of a signal: empty, or a JSON array in UTF-8.

    Raises:
        LocalProtocolError: metadata are no JSON value.
    """
    match signal:
        case Announce() | Invoke(None):
            return b""
        case Invoke(metadata):
            return encode([metadata])
        case Offer(sdp, metadata):
            return encode([description_to_json("offer", sdp), metadata])
        case Answer(sdp):
            return encode([description_to_json("answer", sdp)])
        case Candidates(candidates):
            return encode([candidate_to_json(candidate) for candidate in candidates])


def parse_signal_untrusted(type: PacketType, payload: bytes, *, limits: SignalLimits = SIGNAL_LIMITS) -> Signal:
    """Reads a payload that was opened and inflated.

    Raises:
        RemoteProtocolError: it is none of this type.
    """
    if len(payload) > limits.payload:
        raise RemoteProtocolError(f"expected a payload of at most {limits.payload} bytes, got more", _TOO_BIG)
    items = decode_untrusted(payload) if payload else []
    if not isinstance(items, list):
        raise RemoteProtocolError(f"expected a payload that is an array, got {describe(items)}")
    first, second = (*items[:2], None, None)[:2]
    match type:
        case PacketType.ANNOUNCE:
            return Announce()
        case PacketType.INVOKE:
            return Invoke(first)
        case PacketType.OFFER:
            return Offer(parse_description_untrusted(first, "offer"), second)
        case PacketType.ANSWER:
            return Answer(parse_description_untrusted(first, "answer"))
        case PacketType.CANDIDATES:
            if len(items) > limits.candidates:
                raise RemoteProtocolError(f"expected at most {limits.candidates} candidates, got {len(items)}")
            return Candidates(tuple(map(parse_candidate_untrusted, items)))


def seal_signal(signal: Signal, sender: bytes, pair: PairKey | None, *, nonce: bytes, compress: bool) -> bytes:
    """The whole packet of a signal: its payload is compressed, and then sealed.

    Args:
        sender: the `ID_SIZE` bytes of the sender's own id (`Keys.public`).
        pair: the sender's key with the receiver; None where encryption is off, and for an `Announce`.
        nonce: `NONCE_SIZE` random bytes, never used before; not used without a `pair` or without a payload.
        compress: whether the payload may be compressed, which is done if it gets smaller by that.

    Raises:
        LocalProtocolError: metadata are no JSON value.
        PayloadTooLarge: the packet is larger than `SIGNAL_LIMITS` allow.
    """
    payload = encode_signal(signal)
    if len(payload) > SIGNAL_LIMITS.payload:
        raise PayloadTooLarge(f"expected a payload of at most {SIGNAL_LIMITS.payload} bytes, not {len(payload)}")
    smaller = compression.compress(payload) if compress and payload else None
    payload = payload if smaller is None else smaller
    sealed = pair is not None and payload != b""
    if pair is not None and payload:
        payload = pair.seal(payload, nonce)
    packet = encode_packet(Packet(_type_of(signal), sender, payload, smaller is not None, sealed))
    if len(packet) > SIGNAL_LIMITS.packet:
        raise PayloadTooLarge(f"expected a packet of at most {SIGNAL_LIMITS.packet} bytes, not {len(packet)}")
    return packet


def open_signal_untrusted(packet: Packet, pair: PairKey | None, *, limits: SignalLimits = SIGNAL_LIMITS) -> Signal:
    """The signal in a packet.

    Args:
        pair: the receiver's key with the packet's sender; None where encryption is off.

    Raises:
        RemoteProtocolError: the payload is not sealed although encryption is on, or is although it is off; it does
            not open or inflate, is too large, or not what the packet's type says.
    """
    payload = packet.payload
    if payload:
        if packet.encrypted != (pair is not None):
            wanted = ("not ", "off") if pair is None else ("", "on")
            raise RemoteProtocolError("expected a payload that is {}sealed, as encryption is {} here".format(*wanted))
        if pair is not None:
            payload = pair.open_untrusted(payload)
        if packet.compressed:
            payload = compression.inflate_untrusted(payload, limits.payload)
    return parse_signal_untrusted(packet.type, payload, limits=limits)


def _type_of(signal: Signal) -> PacketType:
    match signal:
        case Announce():
            return PacketType.ANNOUNCE
        case Invoke():
            return PacketType.INVOKE
        case Offer():
            return PacketType.OFFER
        case Answer():
            return PacketType.ANSWER
        case Candidates():
            return PacketType.CANDIDATES
