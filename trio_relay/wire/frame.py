"""The overlay frame: 56 bytes of header, then the payload (docs/protocol/overlay.md section 3).

```
 0  hop limit   changed by relays      8  to          20 bytes
 1  attempt     changed by retries    28  from        20 bytes
 2  detours     changed by relays     48  message id   8 bytes
 3  version = 1                       56  payload     `length` bytes
 4  kind        5  flags       6  length, 16 bits big-endian
```

What relays and retries change stands in front, so bytes 3-55 are one contiguous run that end-to-end sealing
authenticates. One WebSocket message carries one or more frames back to back.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import Final

from ..exceptions import LocalProtocolError, RemoteProtocolError
from .ids import NodeId

__all__ = [
    "FIRST_LINK_LOCAL",
    "HEADER",
    "HEADER_LENGTH",
    "MAX_MESSAGE",
    "MAX_PAYLOAD",
    "MESSAGE_ID_LENGTH",
    "UNCHANGED",
    "VERSION",
    "Flag",
    "Frame",
    "Kind",
    "build_frame",
    "parse_frames_untrusted",
]

VERSION: Final = 1
HEADER: Final = struct.Struct("!BBBBBBH20s20s8s")
HEADER_LENGTH: Final = HEADER.size
MESSAGE_ID_LENGTH: Final = 8
MAX_MESSAGE: Final = 128 * 1024
"""Bytes of frames in one WebSocket message: nobody sends more, everybody takes as much."""
MAX_PAYLOAD: Final = 65535
"""Bytes that the length field of a frame can tell."""
UNCHANGED: Final = slice(3, HEADER_LENGTH)
"""The bytes of a header that neither relays nor retries change, and that sealed payloads authenticate."""


class Kind(enum.IntEnum):
    """What a frame is for; numbers up to 63 travel, 64 and above never leave the link they are sent on."""

    DATA = 1
    """A message of an application."""
    ACK = 2
    """The message with this id is in the receiver's mailbox; payload: the hop limit with which it came, its attempt."""
    BUSY = 3
    """The receiver's mailbox is full; payload: the attempt that it refuses."""
    UNREACHABLE = 4
    """A relay has no way on; payload: target id, attempt. A hint: its sender proves nothing."""
    FIND = 5
    """Asks for records closest to the target id in the payload."""
    FOUND = 6
    """Answer to FIND, same message id; payload: records."""
    STORE = 7
    """Asks to keep the records in the payload."""
    CONNECT = 8
    """Asks the receiver to dial the sender; payload: the sender's record."""
    REFUSED = 9
    """Answer to CONNECT: no link will be made; payload: one reason byte."""
    SESSION = 10
    """Opens a session (`wire.session`); sealed and empty: its sender has the session."""
    SIGNAL = 11
    """Negotiates a WebRTC link (`wire.signal`); the message id names the negotiation."""

    PING = 64
    PONG = 65
    STATUS = 66
    """The neighbour's own record after a change of its role or addresses."""
    GOODBYE = 67
    """The neighbour is about to close the link; payload: one reason byte."""


FIRST_LINK_LOCAL: Final = 64


class Flag:
    """Bits of the flags byte; receivers refuse bits that they do not know, relays pass all on.

    Plain integers, for every message meets some of them: an `enum.IntFlag` takes a microsecond for each `&`.
    """

    CONFIRM: Final = 0x01
    """The sender wants an ACK (DATA only)."""
    SEALED: Final = 0x02
    """The payload is encrypted end to end (`wire.session`)."""
    LEGACY: Final = 0x04
    """The payload is an envelope of the original peer-relay, carried between two gateways or a gateway and a node."""
    OPENING: Final = 0x08
    """The opener's proof stands before the sealed payload."""
    RENDEZVOUS: Final = 0x10
    """The payload is about a topic (`wire.rendezvous`; DATA only), and not for the mailbox."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A frame as a value; the relay path works on bytes and does not build these."""

    kind: int
    to: NodeId
    source: NodeId
    message_id: bytes
    payload: bytes = b""
    flags: int = 0
    hop_limit: int = 16
    attempt: int = 0
    detours: int = 2

    def to_bytes(self) -> bytes:
        """The wire form.

        Raises:
            LocalProtocolError: a field does not fit the header.
        """
        return build_frame(
            self.kind,
            self.to,
            self.source,
            self.message_id,
            self.payload,
            flags=self.flags,
            hop_limit=self.hop_limit,
            attempt=self.attempt,
            detours=self.detours,
        )


def build_frame(
    kind: int,
    to: bytes,
    source: bytes,
    message_id: bytes,
    payload: bytes,
    *,
    flags: int = 0,
    hop_limit: int = 16,
    attempt: int = 0,
    detours: int = 2,
) -> bytes:
    """Builds one frame.

    Raises:
        LocalProtocolError: a field does not fit the header.
    """
    if not len(to) == len(source) == 20 or len(message_id) != MESSAGE_ID_LENGTH:
        raise LocalProtocolError(
            f"expected ids of 20, 20 and 8 bytes, not {len(to)}, {len(source)} and {len(message_id)}"
        )
    try:
        head = HEADER.pack(hop_limit, attempt, detours, VERSION, kind, flags, len(payload), to, source, message_id)
    except struct.error as error:
        raise LocalProtocolError(f"a frame field does not fit its header: {error}") from error
    return head + payload


def parse_frames_untrusted(data: bytes | bytearray | memoryview) -> list[Frame]:
    """Reads the frames of one WebSocket message.

    Raises:
        RemoteProtocolError: another version, or a length that does not match.
    """
    frames: list[Frame] = []
    position, end = 0, len(data)
    while position < end:
        if end - position < HEADER_LENGTH:
            raise RemoteProtocolError(
                f"expected a frame header of {HEADER_LENGTH} bytes, not the last {end - position} of a message"
            )
        hop_limit, attempt, detours, version, kind, flags, length, to, source, message_id = HEADER.unpack_from(
            data, position
        )
        if version != VERSION:
            raise RemoteProtocolError(f"expected frame version {VERSION}, not {version}")
        start = position + HEADER_LENGTH
        position = start + length
        if position > end:
            raise RemoteProtocolError(f"expected a payload of {length} bytes, not {end - start}")
        frames.append(
            Frame(
                kind=kind,
                to=NodeId(to),
                source=NodeId(source),
                message_id=message_id,
                payload=bytes(data[start:position]),
                flags=flags,
                hop_limit=hop_limit,
                attempt=attempt,
                detours=detours,
            )
        )
    return frames
