"""The packets of messages that go over a data channel in pieces. Pure.

They are for channels that are ordered and have no protocol. A sender numbers its transfers from 1 to 65,535 and then
from 1 again, for each channel; both sides of a channel count by themselves. The pieces of one transfer
go out after those of another; acknowledgements may come later.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeAlias

from ...exceptions import PayloadTooLarge, RemoteProtocolError
from .protobuf import Field, Kind, Message, encode_varint

__all__ = [
    "CHUNK",
    "MAX_PACKET",
    "MAX_TRANSFER_ID",
    "Acknowledgement",
    "PayloadType",
    "Piece",
    "ReceiverAbort",
    "SenderAbort",
    "TransferPacket",
    "encode_ack",
    "encode_piece",
    "encode_receiver_abort",
    "encode_sender_abort",
    "first_chunk",
    "next_transfer_id",
    "parse_transfer_untrusted",
]

CHUNK: Final = 16320
"""Bytes in one piece; in the first one together with the info."""
MAX_PACKET: Final = 256 * 1024
"""Bytes in a packet from a stranger: originals send less than 16,384, who sends larger pieces is understood."""
MAX_TRANSFER_ID: Final = 0xFFFF


class PayloadType(IntEnum):
    """What the pieces of a transfer are together."""

    TEXT = 1
    JSON = 2
    BLOB = 3
    BYTES = 4


_TYPES: Final = {type.value: type for type in PayloadType}
_PACKET: Final = Message(
    Field(1, "id", Kind.UINT32),
    Field(2, "ask", Kind.BOOL),
    Field(3, "index", Kind.UINT32),
    Field(4, "type", Kind.UINT32),
    Field(5, "abort", Kind.BOOL),
    Field(6, "done", Kind.BOOL),
    Field(7, "info", Kind.BYTES),
    Field(8, "chunk", Kind.BYTES),
)


@dataclass(frozen=True, slots=True)
class Piece:
    """One piece of a message.

    Attributes:
        id: of the transfer.
        index: 0 for the first piece, then one more for each.
        chunk: its bytes; at most `CHUNK` less the info, and empty only if the message is.
        done: whether it is the last one.
        type: of the message, in the piece that begins it (index 0); None in the others.
        info: JSON in UTF-8 that goes with the message, in the piece that begins it; None: nothing.
    """

    id: int
    index: int
    chunk: bytes
    done: bool
    type: PayloadType | None = None
    info: bytes | None = None


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """From the receiver: the last piece has come."""

    id: int


@dataclass(frozen=True, slots=True)
class ReceiverAbort:
    """From the receiver: it takes no more of this message. What originals send when they abort a message of their
    own looks the same: whoever gets it can be meant as its sender or as its receiver."""

    id: int


@dataclass(frozen=True, slots=True)
class SenderAbort:
    """From the sender: the rest of this message does not come."""

    id: int


TransferPacket: TypeAlias = Piece | Acknowledgement | ReceiverAbort | SenderAbort


def first_chunk(info: bytes | None) -> int:
    """How many bytes of a message fit in its first piece, beside the info.

    Raises:
        PayloadTooLarge: the info has `CHUNK` bytes or more.
    """
    size = CHUNK - len(info or b"")
    if size <= 0:
        raise PayloadTooLarge(f"expected info of less than {CHUNK} bytes, not {CHUNK - size}")
    return size


def next_transfer_id(id: int) -> int:
    """The number of the transfer after this one; of the first one after 0."""
    return id + 1 if id < MAX_TRANSFER_ID else 1


def encode_piece(
    id: int,
    index: int,
    chunk: bytes | bytearray | memoryview,
    *,
    done: bool,
    type: PayloadType | None = None,
    info: bytes | None = None,
) -> bytes:
    """Writes a `Piece`; sizes are the caller's business. A `memoryview` must be of bytes."""
    head = b"\x08%b\x18%b" % (encode_varint(id), encode_varint(index))
    if type is not None:
        head += b"\x20%c" % type
    head += b"\x30\x01" if done else b"\x30\x00"
    if info is not None:
        head += b"\x3a%b%b" % (encode_varint(len(info)), info)
    return b"".join((head, b"\x42", encode_varint(len(chunk)), chunk))


def encode_ack(id: int) -> bytes:
    """Writes an `Acknowledgement`."""
    return _PACKET.encode({"id": id, "ask": True, "done": True})


def encode_receiver_abort(id: int) -> bytes:
    """Writes a `ReceiverAbort`."""
    return _PACKET.encode({"id": id, "ask": True, "abort": True})


def encode_sender_abort(id: int) -> bytes:
    """Writes a `SenderAbort`, in the form that originals understand (they send another one)."""
    return _PACKET.encode({"id": id, "abort": True})


def parse_transfer_untrusted(data: bytes) -> TransferPacket | None:
    """Reads one packet; None if it is an answer that says nothing, which is to be ignored.

    Raises:
        RemoteProtocolError: it is none.
    """
    if len(data) > MAX_PACKET:
        raise RemoteProtocolError(f"expected a packet of at most {MAX_PACKET} bytes, got {len(data)}")
    values = _PACKET.decode_untrusted(data)
    id = values.get("id", 0)
    if not 0 < id <= MAX_TRANSFER_ID:
        raise RemoteProtocolError(f"expected a transfer from 1 to {MAX_TRANSFER_ID}, got {id}")
    if values.get("ask"):
        if values.get("abort"):
            return ReceiverAbort(id)
        return Acknowledgement(id) if values.get("done") else None
    if values.get("abort"):
        return SenderAbort(id)
    index, chunk = values.get("index"), values.get("chunk")
    if index is None or chunk is None:
        raise RemoteProtocolError("expected a piece with an index and a chunk")
    type = values.get("type")
    if index or not type:
        return Piece(id, index, chunk, values.get("done", False))
    return Piece(id, 0, chunk, values.get("done", False), _TYPES.get(type, PayloadType.BYTES), values.get("info"))
