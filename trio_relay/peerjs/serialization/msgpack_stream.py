"""Reads MessagePack values from a stream of bytes, in memory that is bounded by what has come. Pure.

The rules of this file: a token (a scalar, or the head of a container) is read at once or not at all; what is read of
an unfinished value lies in `_items` and `_outer`, so nothing is read twice; lengths are believed only as far as the
value may still grow.
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

from ...exceptions import RemoteProtocolError
from .serializer import SerializerLimits

__all__ = ["MsgPackStream"]

_VALUE, _STRING, _BINARY, _EXTENSION, _ARRAY, _MAP = range(6)
_Tag: TypeAlias = tuple[int, Any, Any, int]
_MEMORY: Final = {_ARRAY: (64, 8), _MAP: (64, 96)}
"""Bytes of memory, about: of an empty container, and for each item."""
_MEMORY_PER_BYTE: Final = 4
_LEAST_MEMORY: Final = 1 << 20
_TIMESTAMP: Final = 255
"""The extension type -1."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_BILLION: Final = 10**9
_KEY_TYPES: Final = (str, int, float, bytes, type(None))
_INVALID_PAYLOAD: Final = 1007
_TOO_BIG: Final = 1009


def _tag_table() -> list[_Tag | None]:
    """For each tag: what it is, and either its value or length, or how that is read; None: not a tag."""
    table: list[_Tag | None] = [(_VALUE, tag, None, 0) for tag in range(0x80)]
    table += [(kind, length, None, 0) for kind in (_MAP, _ARRAY) for length in range(16)]
    table += [(_STRING, length, None, 0) for length in range(32)]
    table += [(_VALUE, None, None, 0), None, (_VALUE, False, None, 0), (_VALUE, True, None, 0)]
    for kind, codes in (
        *((_BINARY, "BHI"), (_EXTENSION, "BHI"), (_VALUE, "fdBHIQbhiq")),
        *((_EXTENSION, "12345"), (_STRING, "BHI"), (_ARRAY, "HI"), (_MAP, "HI")),
    ):
        for code in codes:
            if code.isdecimal():
                table.append((kind, 1 << (int(code) - 1), None, 0))
            else:
                number = struct.Struct(f">{code}")
                table.append((kind, None, number.unpack_from, number.size))
    return table + [(_VALUE, tag, None, 0) for tag in range(-32, 0)]


_TAGS: Final = _tag_table()


class _Incomplete(Exception):
    """A token is not all there: so many bytes are needed."""


class MsgPackStream:
    """The values of one stream, one after the other."""

    __slots__ = (
        "_buffer",
        "_consumed",
        "_items",
        "_limits",
        "_memory",
        "_missing",
        "_most_memory",
        "_needed",
        "_outer",
    )

    def __init__(self, limits: SerializerLimits) -> None:
        self._limits: Final = limits
        self._most_memory: Final = max(_MEMORY_PER_BYTE * limits.max_value, _LEAST_MEMORY)
        self._buffer = bytearray()
        """Bytes of which no token was read."""
        self._needed = 1
        """Bytes that must be in the buffer for the next token."""
        self._consumed = 0
        """Bytes of the unfinished value that were read."""
        self._memory = 0
        self._items = list[Any]()
        """Of the innermost unfinished container."""
        self._missing = 0
        """How many more items it has; without one, below 0."""
        self._outer = list[tuple[list[Any], int, int]]()
        """Of each unfinished container: the items of the one around it, how many these miss, and what it is."""

    @property
    def held(self) -> int:
        """Bytes of the value whose end has not come."""
        return self._consumed + len(self._buffer)

    def feed_untrusted(self, data: bytes) -> list[Any]:
        """Takes the next bytes; returns the values that they complete. Keys of maps are any scalars.

        Raises:
            RemoteProtocolError: a value is longer than it may be, or nested deeper, or holds more; it has an
                extension type that is not known here or a key that is a container; a string is not UTF-8 (1007); a
                byte is not a tag. There must not be another call; values that stand before it in `data` are lost.
        """
        self._buffer += data
        if len(self._buffer) < self._needed:
            return []
        values = list[Any]()
        position = 0
        try:
            while True:
                kind, value, end = self._token(position)
                self._consumed += end - position
                position = end
                if kind >= _ARRAY:
                    self._open(kind, value)
                else:
                    self._items.append(value)
                    self._missing -= 1
                if not self._missing:
                    self._close_full()
                if not self._outer:
                    values.append(self._items.pop())
                    self._consumed = self._memory = 0
        except _Incomplete as missing:
            self._needed = missing.args[0]
        del self._buffer[:position]
        return values

    def _token(self, position: int) -> tuple[int, Any, int]:
        """What it is, its value or length, and where it ends."""
        data = self._buffer
        here = len(data) - position
        if not here:
            raise _Incomplete(1)
        tag = _TAGS[data[position]]
        if tag is None:
            raise RemoteProtocolError("expected a tag of MessagePack, got c1")
        kind, value, read, width = tag
        if here <= width:
            raise _Incomplete(1 + width)
        position += 1
        if read is not None:
            (value,) = read(data, position)
            position += width
        if kind == _VALUE:
            return kind, value, position
        length = value + 1 if kind == _EXTENSION else value
        if self._consumed + 1 + width + length > self._limits.max_value:
            most = self._limits.max_value
            raise RemoteProtocolError(f"expected at most {most} bytes in a value, got one that needs more", _TOO_BIG)
        if kind >= _ARRAY:
            return kind, value, position
        if position + length > len(data):
            raise _Incomplete(1 + width + length)
        return kind, self._content(kind, position, length), position + length

    def _content(self, kind: int, position: int, length: int) -> Any:
        # The views end before the buffer changes.
        with memoryview(self._buffer) as whole, whole[position : position + length] as view:
            if kind != _STRING:
                return bytes(view) if kind == _BINARY else _timestamp(bytes(view))
            try:
                return str(view, "utf-8", "surrogatepass")
            except UnicodeDecodeError as error:
                reason = error.reason
        raise RemoteProtocolError(f"expected utf-8, not {reason}", _INVALID_PAYLOAD) from None

    def _open(self, kind: int, length: int) -> None:
        if len(self._outer) >= self._limits.max_depth:
            raise RemoteProtocolError("expected a value that is less deeply nested")
        empty, each = _MEMORY[kind]
        self._memory += empty + each * length
        if self._memory > self._most_memory:
            raise RemoteProtocolError("expected a value with fewer items and containers in it", _TOO_BIG)
        self._outer.append((self._items, self._missing - 1, kind))
        self._items = []
        self._missing = length if kind == _ARRAY else 2 * length

    def _close_full(self) -> None:
        """Puts each container that has all of its items into the one around it."""
        while self._outer and not self._missing:
            value: Any = self._items
            self._items, self._missing, kind = self._outer.pop()
            if kind == _MAP:
                keys = value[::2]
                if not all(isinstance(key, _KEY_TYPES) for key in keys):
                    raise RemoteProtocolError("expected keys of a map that are strings, binary or numbers")
                value = dict(zip(keys, value[1::2], strict=True))
            self._items.append(value)


def _timestamp(data: bytes) -> datetime:
    """Of the type and the content of an extension."""
    length = len(data) - 1
    if data[0] != _TIMESTAMP or length not in (4, 8, 12):
        raise RemoteProtocolError(f"expected no extensions but timestamps, got type {data[0]} with {length} bytes")
    if length == 12:
        nanoseconds, seconds = int.from_bytes(data[1:5], "big"), int.from_bytes(data[5:], "big", signed=True)
    else:
        nanoseconds, seconds = divmod(int.from_bytes(data[1:], "big"), 1 << 34) if length == 8 else (0, 0)
        seconds = seconds if length == 8 else int.from_bytes(data[1:], "big")
    if nanoseconds >= _BILLION:
        raise RemoteProtocolError(f"expected nanoseconds below {_BILLION}, got {nanoseconds}")
    try:
        return _EPOCH + timedelta(seconds=seconds, microseconds=nanoseconds // 1000)
    except OverflowError:
        raise RemoteProtocolError(f"expected a timestamp of the years 1 to 9999, got {seconds} s") from None
