"""What the two sessions of a lasting connection say to each other, over whatever carries it. Pure.

A message of a carrier is one frame or several, one after the other; numbers are unsigned and big-endian:

```
HELLO   0  type = 0                    FRAGMENT  0  type = 1
        1  version = 1                           1  flags: 1 more follows, 2 text, 4 end
        2  round       4                         2  number      8
        6  next        8                        10  length      2   at most 16,384
       14  limit       8                        12  that many bytes

ACK     0  type = 2                    RESET     0  type = 3
        1  next        8
        9  limit       8
```

The *number* of a fragment is how many its sender sent before it; *next* is the number that is expected, so that all
before it have arrived. What a fragment *costs* is its length and 64, but nothing for one with the flag *end*, which is
empty and the last; *limit* is what all fragments together may have cost.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import Final, TypeAlias

from ...exceptions import RemoteProtocolError

__all__ = [
    "FRAGMENT_HEAD",
    "HELLO_SIZE",
    "MAX_FRAGMENT",
    "Ack",
    "Flag",
    "Fragment",
    "Frame",
    "Hello",
    "Reset",
    "encode_frame",
    "parse_frames_untrusted",
]

MAX_FRAGMENT: Final = 16 * 1024
"""Bytes in one fragment; a message of the original, whose chunks have 16,300 bytes, is one fragment."""
VERSION: Final = 1

_HELLO, _FRAGMENT, _ACK, _RESET = range(4)
_HELLO_FORM: Final = struct.Struct(">BBIQQ")
_FRAGMENT_FORM: Final = struct.Struct(">BBQH")
_ACK_FORM: Final = struct.Struct(">BQQ")

HELLO_SIZE: Final = _HELLO_FORM.size
FRAGMENT_HEAD: Final = _FRAGMENT_FORM.size


class Flag(enum.IntFlag):
    """Of a fragment."""

    MORE = 1
    TEXT = 2
    END = 4


_FLAGS: Final = frozenset({0, Flag.MORE, Flag.TEXT, Flag.MORE | Flag.TEXT, Flag.END})


@dataclass(frozen=True, slots=True)
class Hello:
    """The first frame of each side over each carrier."""

    round: int
    next: int
    limit: int


@dataclass(frozen=True, slots=True)
class Fragment:
    """A part of a message, or the end of all messages."""

    flags: int
    number: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Ack:
    """What has arrived, and what may be sent."""

    next: int
    limit: int


@dataclass(frozen=True, slots=True)
class Reset:
    """The sender has given the connection up."""


Frame: TypeAlias = Hello | Fragment | Ack | Reset


def encode_frame(frame: Frame) -> bytes:
    """A frame as it travels."""
    match frame:
        case Fragment(flags, number, payload):
            return _FRAGMENT_FORM.pack(_FRAGMENT, flags, number, len(payload)) + payload
        case Ack(following, limit):
            return _ACK_FORM.pack(_ACK, following, limit)
        case Hello(round_, following, limit):
            return _HELLO_FORM.pack(_HELLO, VERSION, round_, following, limit)
        case Reset():
            return bytes([_RESET])


def parse_frames_untrusted(message: bytes) -> list[Frame]:
    """The frames of one message; none in an empty one.

    Raises:
        RemoteProtocolError: what was expected, and what came.
    """
    frames: list[Frame] = []
    at = 0
    try:
        while at < len(message):
            frame, at = _parse_frame(message, at)
            frames.append(frame)
    except struct.error as error:
        raise RemoteProtocolError("expected whole frames, got the beginning of one") from error
    return frames


def _parse_frame(message: bytes, at: int) -> tuple[Frame, int]:
    """The frame that begins there, and where the next one does; struct.error where the message is too short."""
    match message[at]:
        case 1:
            return _parse_fragment(message, at)
        case 2:
            _, following, limit = _ACK_FORM.unpack_from(message, at)
            return Ack(following, limit), at + _ACK_FORM.size
        case 0:
            _, version, round_, following, limit = _HELLO_FORM.unpack_from(message, at)
            if version != VERSION:
                raise RemoteProtocolError(f"expected version {VERSION} of the frames of a session, got {version}")
            return Hello(round_, following, limit), at + _HELLO_FORM.size
        case 3:
            return Reset(), at + 1
        case kind:
            raise RemoteProtocolError(f"expected a frame of type 0 to 3, got {kind}")


def _parse_fragment(message: bytes, at: int) -> tuple[Fragment, int]:
    _, flags, number, length = _FRAGMENT_FORM.unpack_from(message, at)
    begin, end = at + FRAGMENT_HEAD, at + FRAGMENT_HEAD + length
    if flags not in _FLAGS:
        raise RemoteProtocolError(f"expected flags of a fragment that go together, got {flags}")
    if length > MAX_FRAGMENT or (flags == Flag.END and length):
        raise RemoteProtocolError(f"expected at most {MAX_FRAGMENT} bytes in a fragment, none in an end, got {length}")
    if end > len(message):
        raise RemoteProtocolError(f"expected {length} bytes of a fragment, got {len(message) - begin}")
    return Fragment(flags, number, message[begin:end]), end
