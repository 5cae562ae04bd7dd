"""What an HTML standard event source reads: the parser of ``text/event-stream`` (its section 9.2.6). Pure.

Everything is legal there, so nothing is an error. Beyond the standard: an event whose lines are longer than a bound is
skipped and told of, and an id longer than `MAX_EVENT_ID` is not kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, TypeAlias

__all__ = ["MAX_EVENT_ID", "SseEvent", "SseItem", "SseParser", "SseRetry", "SseSkipped"]

MAX_EVENT_ID: Final = 1024
"""Bytes of an id that is kept; a client sends it with its next request."""

_MARK: Final = b"\xef\xbb\xbf"
_ENDS: Final = re.compile(rb"\r\n?|\n")
_MESSAGE: Final = "message"
_MAX_DIGITS: Final = 15


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One event.

    Attributes:
        data: text; lines are separated by LF.
        type: ``message``, if the server gives it no name.
        id: the last one that the server gave to any event; may be empty.
    """

    data: str
    type: str = _MESSAGE
    id: str = ""


@dataclass(frozen=True, slots=True)
class SseRetry:
    """The server wants clients to wait so long before they connect again.

    Attributes:
        delay: seconds.
    """

    delay: float


@dataclass(frozen=True, slots=True)
class SseSkipped:
    """An event that was larger than the bound."""


SseItem: TypeAlias = SseEvent | SseRetry | SseSkipped


class SseParser:
    """Takes the bytes of one stream in any pieces. It holds about twice `most` bytes at most.

    Args:
        most: bytes of one line, and of the data of one event.
        last_id: the id that the last stream ended with, which this one goes on with.

    Attributes:
        last_id: of the last event that is complete.
    """

    def __init__(self, most: int, last_id: str = "") -> None:
        self._most: Final = most
        self.last_id = last_id
        self._id = last_id
        self._line: Final = bytearray()
        self._cut = False  # the line is longer than the bound, and only its beginning is here
        self._after_cr = False
        self._head: bytes | None = b""  # of the stream, while it may be a part of a byte order mark
        self._data: Final = bytearray()
        self._type = ""
        self._skip = False

    def parse_untrusted(self, data: bytes) -> list[SseItem]:
        """What these bytes complete. The caller bounds how many there are at once."""
        data = self._strip_mark(data)
        if self._after_cr and data:
            self._after_cr = False
            data = data.removeprefix(b"\n")
        if not data:
            return []
        self._after_cr = data.endswith(b"\r")
        *whole, rest = _ENDS.split(data)
        items: list[SseItem] = []
        for piece in whole:
            self._extend(piece)
            item = self._take_line()
            if item is not None:
                items.append(item)
        self._extend(rest)
        return items

    def _strip_mark(self, data: bytes) -> bytes:
        if self._head is None:
            return data
        head = self._head + data
        if len(head) < len(_MARK) and _MARK.startswith(head):
            self._head = head
            return b""
        self._head = None
        return head.removeprefix(_MARK)

    def _extend(self, piece: bytes) -> None:
        room = self._most - len(self._line)
        self._cut |= len(piece) > room
        self._line.extend(piece[:room])

    def _take_line(self) -> SseItem | None:
        line, cut = bytes(self._line), self._cut
        self._line.clear()
        self._cut = False
        if not line:
            return self._dispatch()
        if cut:
            self._skip |= not line.startswith(b":")
            return None
        name, _, value = line.partition(b":")
        return self._take_field(name, value.removeprefix(b" "))

    def _take_field(self, name: bytes, value: bytes) -> SseItem | None:
        if name == b"data":
            self._skip |= len(self._data) + len(value) > self._most
            if not self._skip:
                self._data.extend(value + b"\n")
        elif name == b"event":
            self._type = value.decode(errors="replace")
        elif name == b"id" and b"\0" not in value and len(value) <= MAX_EVENT_ID:
            self._id = value.decode(errors="replace")
        elif name == b"retry" and value.isdigit() and len(value) <= _MAX_DIGITS:
            return SseRetry(int(value) / 1000)
        return None

    def _dispatch(self) -> SseItem | None:
        self.last_id = self._id
        data, type, skip = bytes(self._data), self._type, self._skip
        self._data.clear()
        self._type, self._skip = "", False
        if skip:
            return SseSkipped()
        if not data:
            return None
        return SseEvent(data[:-1].decode(errors="replace"), type or _MESSAGE, self.last_id)
