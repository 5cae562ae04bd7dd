"""The two fast loops of the WebSocket codec, one for each role: many small messages out of one read.

A loop takes frames as long as each is a whole message that is plainly in order: FIN set, no reserved bit, text
or binary, masked as the role wants it, a 7-bit or a minimal 16-bit length, within the limit, complete in `data`.
That is nearly all traffic, and for such a frame nothing need be looked at but its head: two index operations,
one or two slices, the masker. The first frame that is anything else, right or wrong, ends the loop, and the
codec's general path judges it; so no error is decided here and none can be missed.

They are plain functions with local names because a method call and an attribute per frame would cost as much
as the rest. They must not be called while a fragmented message is in progress.
"""

from __future__ import annotations

from .masking import apply_mask

__all__ = ["take_masked", "take_plain"]

WHOLE_TEXT = 0x81
WHOLE_BINARY = 0x82


def take_masked(data: bytes, position: int, limit: int, messages: list[bytearray | str]) -> int:
    """Appends the messages of the frames at `position` (server role); returns where it stopped.

    At six bytes the head of the shortest frame is whole, and reading a 16-bit length stays inside `data`.
    """
    append, unmask = messages.append, apply_mask
    end = len(data)
    try:
        while end - position >= 6:
            first = data[position]
            if first != WHOLE_BINARY and first != WHOLE_TEXT:
                break
            length = data[position + 1] - 0x80
            start = position + 6
            if not 0 <= length < 126:
                if length != 126:
                    break
                length = data[position + 2] << 8 | data[position + 3]
                if length < 126:
                    break
                start = position + 8
            stop = start + length
            if stop > end or length > limit:
                break
            payload = unmask(data[start:stop], data[start - 4 : start])
            append(bytearray(payload) if first == WHOLE_BINARY else payload.decode())
            position = stop
    except UnicodeDecodeError:
        pass  # the general path refuses this frame with its close code
    return position


def take_plain(data: bytes, position: int, limit: int, messages: list[bytearray | str]) -> int:
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
            append(bytearray(payload) if first == WHOLE_BINARY else payload.decode())
            position = stop
    except UnicodeDecodeError:
        pass  # the general path refuses this frame with its close code
    return position
