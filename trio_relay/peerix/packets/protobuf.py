"""The part of Protocol Buffers that Peerix uses; not what a library for proto3 writes. Pure.

- Fields are written in the order of their schema. Zero, false and empty values are written, too: readers need them.
- A negative `INT32` takes five bytes, not ten.
- Unknown fields of wire types 0, 1, 2 and 5 are skipped, groups (3, 4) are refused. The last of repeated fields counts.
- A known field of another wire type, field number 0, a truncated or too long varint refuse the whole message.

A message has at most `MAX_FIELDS` fields, known or not: without a bound a message of two-byte fields costs its receiver
a hundred times what other messages of its size cost. The caller bounds the size of a message.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from ...exceptions import LocalProtocolError, RemoteProtocolError

__all__ = ["MAX_FIELDS", "Field", "Kind", "Message", "encode_varint", "read_varint_untrusted"]

MAX_FIELDS: Final = 64
"""Of one message: eight times what the largest has."""
_MAX_VARINT: Final = 5
_MOST: Final = 0xFFFF_FFFF
_FLOAT: Final = struct.Struct("<f")
_VARINT, _FIXED64, _SIZED, _FIXED32 = 0, 1, 2, 5


class Kind(Enum):
    """What a field holds."""

    BOOL = "bool"
    INT32 = "int32"
    UINT32 = "uint32"
    FLOAT = "float"
    STRING = "string"
    BYTES = "bytes"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a kind of message; its number is from 1 to 15, so that its tag is one byte."""

    number: int
    name: str
    kind: Kind


class Message:
    """One kind of message.

    Args:
        fields: in the order in which they are written.
    """

    __slots__ = ("_numbers", "_readers", "_writers")

    def __init__(self, *fields: Field) -> None:
        self._writers: Final = {
            field.name: (bytes((field.number << 3 | _WIRE_TYPES[field.kind],)), _WRITERS[field.kind])
            for field in fields
        }
        self._readers: Final = {
            field.number << 3 | _WIRE_TYPES[field.kind]: (
                field.name,
                _WIRE_TYPES[field.kind],
                _READERS.get(field.kind),
            )
            for field in fields
        }
        self._numbers: Final = {field.number: field.name for field in fields}

    def encode(self, values: Mapping[str, Any]) -> bytes:
        """Writes the fields that `values` has by name; a field that is missing or None is left out.

        Raises:
            LocalProtocolError: a value is too large for its kind.
        """
        written: list[bytes] = []
        for name, (tag, write) in self._writers.items():
            value = values.get(name)
            if value is not None:
                written += (tag, write(value))
        return b"".join(written)

    def decode_untrusted(self, data: bytes) -> dict[str, Any]:
        """The fields by name, those that are missing left out; each has the type of its kind.

        Raises:
            RemoteProtocolError: it is no such message.
        """
        values: dict[str, Any] = {}
        at, end = 0, len(data)
        for _ in range(MAX_FIELDS):
            if at == end:
                return values
            tag = data[at]
            at += 1
            if tag >= 0x80:
                tag, at = read_varint_untrusted(data, at - 1)
            reader = self._readers.get(tag)
            if reader is None:
                at = self._skip_untrusted(data, at, tag)
                continue
            name, wire_type, read = reader
            value, at = _read_untrusted(data, at, wire_type)
            values[name] = value if read is None else read(value)
        if at == end:
            return values
        raise RemoteProtocolError(f"expected at most {MAX_FIELDS} fields, got more")

    def _skip_untrusted(self, data: bytes, start: int, tag: int) -> int:
        """Where a field that is not known ends."""
        number, wire_type = tag >> 3, tag & 7
        if number == 0:
            raise RemoteProtocolError("expected field numbers from 1, got 0")
        if number in self._numbers:
            raise RemoteProtocolError(f"expected {self._numbers[number]} as another wire type than {wire_type}")
        return _read_untrusted(data, start, wire_type)[1]


def encode_varint(number: int) -> bytes:
    """An integer from 0 to 2**32 - 1 in one to five bytes.

    Raises:
        LocalProtocolError: it is smaller or larger.
    """
    if 0 <= number < 0x80:
        return _SMALL[number]
    if not 0 <= number <= _MOST:
        raise LocalProtocolError(f"expected an integer from 0 to {_MOST}, not {number}")
    written = bytearray()
    while number >= 0x80:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)


def read_varint_untrusted(data: bytes, start: int) -> tuple[int, int]:
    """The integer that begins at `start`, and where it ends.

    Raises:
        RemoteProtocolError: it is truncated, longer than five bytes, or above 2**32 - 1.
    """
    number = shift = 0
    for at, byte in enumerate(data[start : start + _MAX_VARINT], start + 1):
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            if number > _MOST:
                raise RemoteProtocolError("expected a varint of at most 32 bits, got a larger one")
            return number, at
        shift += 7
    raise RemoteProtocolError(f"expected a varint of at most {_MAX_VARINT} bytes, got a longer or truncated one")


def _read_untrusted(data: bytes, start: int, wire_type: int) -> tuple[Any, int]:
    """The value of a field as its wire type has it, an integer or bytes, and where it ends."""
    if wire_type in _FIXED:
        length = _FIXED[wire_type]
    elif wire_type in (_VARINT, _SIZED):
        # Most are one byte; this is the path of everything that goes over data channels.
        length = data[start] if start < len(data) else 0x80
        if length < 0x80:
            start += 1
        else:
            length, start = read_varint_untrusted(data, start)
        if wire_type == _VARINT:
            return length, start
    else:
        raise RemoteProtocolError(f"expected wire types 0, 1, 2 or 5, got {wire_type}")
    end = start + length
    if end > len(data):
        raise RemoteProtocolError(f"expected a field of {length} bytes, got {len(data) - start}")
    return data[start:end], end


def _write_int32(number: int) -> bytes:
    if not -(2**31) <= number < 2**31:
        raise LocalProtocolError(f"expected an integer of 32 bits, not {number}")
    return encode_varint(number & _MOST)


def _write_sized(data: bytes) -> bytes:
    return encode_varint(len(data)) + data


def _read_bool(number: int) -> bool:
    if number > 1:
        raise RemoteProtocolError(f"expected a bool as 0 or 1, got {number}")
    return number == 1


def _read_string(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise RemoteProtocolError("expected a string in utf-8") from None


_SMALL: Final = tuple(bytes((number,)) for number in range(0x80))
_FIXED: Final = {_FIXED64: 8, _FIXED32: 4}
_WIRE_TYPES: Final = {
    Kind.BOOL: _VARINT,
    Kind.INT32: _VARINT,
    Kind.UINT32: _VARINT,
    Kind.FLOAT: _FIXED32,
    Kind.STRING: _SIZED,
    Kind.BYTES: _SIZED,
}
_WRITERS: Final[dict[Kind, Callable[[Any], bytes]]] = {
    Kind.BOOL: encode_varint,
    Kind.INT32: _write_int32,
    Kind.UINT32: encode_varint,
    Kind.FLOAT: _FLOAT.pack,
    Kind.STRING: lambda text: _write_sized(text.encode()),
    Kind.BYTES: _write_sized,
}
_READERS: Final[dict[Kind, Callable[[Any], Any]]] = {
    Kind.BOOL: _read_bool,
    Kind.INT32: lambda number: number - ((number & 0x8000_0000) << 1),
    Kind.FLOAT: lambda data: _FLOAT.unpack(data)[0],
    Kind.STRING: _read_string,
}
