"""One WebSocket frame (RFC 6455 sections 5.2, 5.5 and 7.4): opcodes, heads, close payloads; no state."""

from __future__ import annotations

import enum
import struct

from ..exceptions import LocalProtocolError, RemoteProtocolError

__all__ = [
    "FIN",
    "INVALID_UTF8",
    "MAX_CONTROL",
    "Opcode",
    "check_head_untrusted",
    "encode_close",
    "encode_head",
    "is_sendable_close_code",
    "parse_close_untrusted",
    "parse_length_untrusted",
]

MAX_CONTROL = 125
"""Longest payload of a control frame (RFC 6455 section 5.5)."""

FIN = 0x80
RESERVED_BITS = 0x70
MASKED = 0x80
LENGTH_16 = 126
LENGTH_64 = 127
NO_STATUS = 1005
INVALID_UTF8 = 1007

_HEAD = struct.Struct("!BB")
_HEAD_16 = struct.Struct("!BBH")
_HEAD_64 = struct.Struct("!BBQ")


class Opcode(enum.IntEnum):
    """What a frame is (RFC 6455 section 5.2); from `CLOSE` on they are control frames."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


_OPCODES = frozenset(Opcode)


def encode_head(opcode: int, length: int, mask: bytes) -> bytes:
    """Everything of an unfragmented frame that precedes its payload of `length` bytes.

    An empty `mask` means an unmasked frame.
    """
    masked = MASKED if mask else 0
    if length < LENGTH_16:
        return _HEAD.pack(FIN | opcode, masked | length) + mask
    if length <= 0xFFFF:
        return _HEAD_16.pack(FIN | opcode, masked | LENGTH_16, length) + mask
    return _HEAD_64.pack(FIN | opcode, masked | LENGTH_64, length) + mask


def check_head_untrusted(first: int, second: int, masked: bool) -> None:
    """Checks the first two bytes of a frame, which must be `masked` or must not.

    Raises:
        RemoteProtocolError: a reserved bit (no extension is ever negotiated) or an unknown opcode, the wrong
            masking, a control frame that is fragmented or longer than 125 bytes; all 1002.
    """
    opcode = first & 0x0F
    if first & RESERVED_BITS:
        raise RemoteProtocolError(f"expected reserved bits to be 0, got 0x{first & RESERVED_BITS:02x}")
    if opcode not in _OPCODES:
        raise RemoteProtocolError(f"expected a known opcode, got 0x{opcode:x}")
    if masked and second < MASKED:
        raise RemoteProtocolError("expected a masked frame from a client, got an unmasked one")
    if not masked and second >= MASKED:
        raise RemoteProtocolError("expected an unmasked frame from a server, got a masked one")
    if opcode >= Opcode.CLOSE:
        if first < FIN:
            raise RemoteProtocolError("expected a whole control frame, got a fragment")
        if second & 0x7F > MAX_CONTROL:
            raise RemoteProtocolError("expected a one-byte length in a control frame, got a longer one")


def parse_length_untrusted(data: bytes, position: int) -> tuple[int, int] | None:
    """Payload length of the frame whose head begins at `position`, and where its length field ends.

    The first two bytes must be there; None when the rest of the length field is not.

    Raises:
        RemoteProtocolError: the length is not encoded in the fewest bytes possible (1002), or its most
            significant bit is set (1002).
    """
    length = data[position + 1] & 0x7F
    end = position + 2
    if length < LENGTH_16:
        return length, end
    width, least = (2, LENGTH_16) if length == LENGTH_16 else (8, 0x10000)
    end += width
    if len(data) < end:
        return None
    length = int.from_bytes(data[position + 2 : end], "big")
    if length < least:
        raise RemoteProtocolError(f"expected the shortest encoding of length {length}, got {width} bytes")
    if length >> 63:
        raise RemoteProtocolError("expected a length below 2**63, got its top bit set")
    return length, end


def is_sendable_close_code(code: int) -> bool:
    """Whether `code` may stand in a close frame (RFC 6455 section 7.4 and the registry it opened)."""
    return (1000 <= code <= 1014 and code not in (1004, NO_STATUS, 1006)) or 3000 <= code <= 4999


def encode_close(code: int, reason: str) -> bytes:
    """The payload of a close frame; a reason that is too long is cut at a character.

    The code 1005 without a reason, which is how a peer sees it, gives an empty payload.

    Raises:
        LocalProtocolError: `code` must not be sent.
    """
    if code == NO_STATUS and not reason:
        return b""
    if not is_sendable_close_code(code):
        raise LocalProtocolError(f"expected a close code that may be sent, not {code}")
    text = reason.encode("utf-8", "replace")[: MAX_CONTROL - 2]
    # Only the end can be incomplete, and "ignore" drops just that.
    return code.to_bytes(2, "big") + text.decode("utf-8", "ignore").encode()


def parse_close_untrusted(payload: bytes) -> tuple[int, str]:
    """Code and reason of a close frame's payload; code 1005 when it is empty.

    Raises:
        RemoteProtocolError: one byte only, or a code that must not be sent (1002), or a reason that is not
            UTF-8 (1007).
    """
    if not payload:
        return NO_STATUS, ""
    if len(payload) == 1:
        raise RemoteProtocolError("expected a close code of 2 bytes, got 1 byte")
    code = int.from_bytes(payload[:2], "big")
    if not is_sendable_close_code(code):
        raise RemoteProtocolError(f"expected a close code that may be sent, got {code}")
    try:
        return code, payload[2:].decode()
    except UnicodeDecodeError:
        raise RemoteProtocolError("expected UTF-8 in a close reason", INVALID_UTF8) from None
