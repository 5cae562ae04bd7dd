"""The fast loops of the WebSocket codec: small messages out of one read, a loop for each role, and into one write.

A loop that reads takes frames as long as each is a whole message that is plainly in order: FIN set, no reserved bit,
text or binary, masked as the role wants it, a 7-bit or a minimal 16-bit length, within the limit, complete in `data`.
That is nearly all traffic, and for such a frame nothing need be looked at but its head: one unpacked struct, one
slice, the masker. The first frame that is anything else, right or wrong, ends the loop, and the
codec's general path judges it; so no error is decided here and none can be missed.

They are plain functions with local names because a method call and an attribute per frame would cost as much
as the rest. They must not be called while a fragmented message is in progress.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from .masking import Buffer, apply_mask

__all__ = ["NONE_DECODED", "WHOLE_TEXT", "frame_plain", "take_masked", "take_plain"]

WHOLE_TEXT = 0x81
NONE_DECODED = -1
WHOLE_BINARY = 0x82
MASKED = 0x80
MASKED_16 = MASKED | 126
SHORTEST_16 = 126
_LONG_HEAD = struct.Struct("!BBH4s")
LONG_HEAD = _LONG_HEAD.size
"""A masked frame with a 16-bit length: first byte, second, length, mask."""
_MEDIUM_HEAD = struct.Struct("!BBH")
_LARGE_HEAD = struct.Struct("!BBQ")
_SHORT_HEADS = {first: [bytes((first, n)) for n in range(SHORTEST_16)] for first in (WHOLE_TEXT, WHOLE_BINARY)}


def take_masked(data: bytes, position: int, limit: int, decoded: int, messages: list[bytes | str]) -> int:
    """Appends the messages of the frames at `position` (server role); returns where it stopped.

    A head is read as if it had a 16-bit length, which most have; a shorter one is shifted by two bytes.

    Args:
        decoded: the first byte of the frames whose payload becomes a string: `WHOLE_TEXT`, or `NONE_DECODED`.
    """
    append, unmask, read_head = messages.append, apply_mask, _LONG_HEAD.unpack_from
    end = len(data)
    try:
        while end - position >= LONG_HEAD:
            first, second, length, mask = read_head(data, position)
            start = position + LONG_HEAD
            if second != MASKED_16 or length < SHORTEST_16:
                length = second - MASKED
                if not 0 <= length < SHORTEST_16:
                    break
                start -= 2
                mask = data[start - 4 : start]
            stop = start + length
            if (first != WHOLE_BINARY and first != WHOLE_TEXT) or stop > end or length > limit:
                break
            payload = unmask(data[start:stop], mask)
            append(payload.decode() if first == decoded else payload)
            position = stop
    except UnicodeDecodeError:
        pass  # the general path refuses this frame with its close code
    return position


def take_plain(data: bytes, position: int, limit: int, decoded: int, messages: list[bytes | str]) -> int:
    """As `take_masked`, for frames without a mask (client role)."""
    append = messages.append
    end = len(data)
    try:
        while end - position >= 4:
            first = data[position]
            if first != WHOLE_BINARY and first != WHOLE_TEXT:
                break
            length = data[position + 1]
            start = position + 2
            if length >= 126:
                if length != 126:
                    break
                length = data[position + 2] << 8 | data[position + 3]
                if length < 126:
                    break
                start = position + 4
            stop = start + length
            if stop > end or length > limit:
                break
            payload = data[start:stop]
            append(payload.decode() if first == decoded else payload)
            position = stop
    except UnicodeDecodeError:
        pass  # the general path refuses this frame with its close code
    return position


def frame_plain(first: int, payloads: Sequence[Buffer]) -> list[Buffer]:
    """Each payload as a whole unmasked frame whose first byte is `first` (server role): a head before each."""
    frames: list[Buffer] = []
    append, short, pack = frames.append, _SHORT_HEADS[first], _MEDIUM_HEAD.pack
    for payload in payloads:
        length = len(payload)
        if length < SHORTEST_16:
            append(short[length])
        elif length <= 0xFFFF:
            append(pack(first, SHORTEST_16, length))
        else:
            append(_LARGE_HEAD.pack(first, 127, length))
        append(payload)
    return frames
