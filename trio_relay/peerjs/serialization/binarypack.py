"""BinaryPack 2.1.0, the format of npm `peerjs-js-binarypack`: one value as bytes, big-endian. Pure.

It is like MessagePack and is not: strings and binary have other tags. Where the original is right, these are its bytes.
Where it is not:

- 2**63 (and integers that a double rounds to it) is a uint64 here; the original writes an int64 and reads -2**63.
- Floats are IEEE doubles. The original corrupts subnormal ones, some powers of two and NaN (which it reads as
  infinity), and refuses infinity and whole numbers above 2**64, all of which it reads well as doubles.
- Integers below -2**31 are exact here; the original reads them through doubles, and most of them wrong.
"""

from __future__ import annotations

import gc
import struct
from collections.abc import Iterator
from datetime import datetime
from itertools import chain
from typing import Any, Final, TypeAlias

from ...exceptions import LocalProtocolError, PayloadTooLarge, RemoteProtocolError
from .javascript import date_text, in_key_order, number_text, well_formed
from .values import BytesLike, Part, as_bytes, at_its_path, with_text_keys

__all__ = ["MAX_STRUCTURE", "pack", "unpack_slices_untrusted", "unpack_untrusted"]

MAX_STRUCTURE: Final = 1 << 30
"""Bytes of memory, about, that the lists and dicts of one decoded value may take; two bytes can announce 64 of them."""

_LARGE: Final = 4096
_MAX_LENGTH: Final = (1 << 32) - 1
_INVALID_PAYLOAD: Final = 1007
"""Close code for data that is not what its type says, here UTF-8 (RFC 6455 section 7.4.1)."""
_TOO_DEEP: Final = "expected a value that is less deeply nested"

# Tags: those with the length in their low four bits; the ones with it in 2 bytes, and, next to these, in 4.
_MAP, _ARRAY, _BINARY, _STRING = 0x80, 0x90, 0xA0, 0xB0
_LONG: Final = {_STRING: 0xD8, _BINARY: 0xDA, _ARRAY: 0xDC, _MAP: 0xDE}

_double: Final = struct.Struct(">Bd").pack
_with_2: Final = struct.Struct(">BH").pack
_with_4: Final = struct.Struct(">BI").pack
_with_8: Final = struct.Struct(">BQ").pack
_signed_2: Final = struct.Struct(">Bh").pack
_signed_4: Final = struct.Struct(">Bi").pack
_signed_8: Final = struct.Struct(">Bq").pack

_LAST_INT64: Final = (1 << 63) - 1024
"""The double before 2**63."""


def pack(value: Any, *, max_depth: int = 64) -> list[Part]:
    """The packed form of a value; large bytes-like objects in it stand among the parts as they are, not copied.

    None, bool, int, float (a whole number is written as an integer, -0.0 as 0), str (lone surrogates become U+FFFD),
    bytes, bytearray, memoryview, `array.array` (all binary), list, tuple, dict (int keys become text, and keys are
    written in the order that JavaScript would use), datetime (a string, see `javascript.date_text`), and subclasses.

    Args:
        max_depth: how deep lists and dicts may be nested; a scalar has depth 0.

    Raises:
        LocalProtocolError: something in it has no such form, an integer is not from -2**63 to 2**64 - 1, or it is
            nested too deep (as a value that contains itself is).
        PayloadTooLarge: a string, binary or container in it has a length above 2**32 - 1.
    """
    try:
        return [part for part in _pack(value, max_depth) if part]
    except LocalProtocolError as error:
        raise at_its_path(error, value, lambda inner: _pack(inner, max_depth), max_depth) from None


def _pack(value: Any, max_depth: int) -> list[Part]:
    parts: list[Any] = [bytearray()]
    out = parts[-1]
    items: Iterator[Any] = iter((value,))
    outer: list[Iterator[Any]] = []
    while True:
        for item in items:
            kind = type(item)
            if kind is str:
                data = item.encode() if item.isascii() else _utf8(item)
                if (length := len(data)) < 16:
                    out.append(_STRING + length)
                    out += data
                else:
                    out = _put(parts, _STRING, data)
            elif kind is int:
                if -33 < item < 128:
                    out.append(item & 255)
                else:
                    out += _integer(item)
            elif kind is float:
                out += _float(item)
            elif item is None or kind is bool:
                out.append(0xC3 if item else 0xC0 if item is None else 0xC2)
            elif kind is dict or kind is list or kind is tuple:
                outer.append(items)
                if len(outer) > max_depth:
                    raise LocalProtocolError(_TOO_DEEP)
                out += _head(_MAP if kind is dict else _ARRAY, len(item))
                items = _keys_and_values(item) if kind is dict else iter(item)
                break
            elif isinstance(item, BytesLike):
                out = _put(parts, _BINARY, as_bytes(item))
            else:
                items = chain((_plain(item),), items)
                break
        else:
            if not outer:
                return parts
            items = outer.pop()


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        return well_formed(text).encode()


def _put(parts: list[Any], tag: int, data: bytes | memoryview) -> Any:
    """Adds a string or binary; returns the bytearray at the end of the parts."""
    parts[-1] += _head(tag, len(data))
    if len(data) < _LARGE:
        parts[-1] += data
    else:
        parts += (data, bytearray())
    return parts[-1]


def _head(tag: int, length: int) -> bytes:
    if length < 16:
        return bytes((tag + length,))
    if length < 1 << 16:
        return _with_2(_LONG[tag], length)
    if length > _MAX_LENGTH:
        raise PayloadTooLarge(f"expected lengths of at most {_MAX_LENGTH}, got {length}")
    return _with_4(_LONG[tag] + 1, length)


def _integer(number: int) -> bytes:
    """One that does not fit into its tag."""
    if 0 <= number < 1 << 32:
        if number < 1 << 8:
            return bytes((0xCC, number))
        return _with_2(0xCD, number) if number < 1 << 16 else _with_4(0xCE, number)
    if -(1 << 31) <= number < 0:
        if number >= -(1 << 7):
            return bytes((0xD0, number & 255))
        return _signed_2(0xD1, number) if number >= -(1 << 15) else _signed_4(0xD2, number)
    if -(1 << 63) <= number <= _LAST_INT64:
        return _signed_8(0xD3, number)
    if 0 <= number < 1 << 64:
        return _with_8(0xCF, number)
    raise LocalProtocolError("expected integers from -2**63 to 2**64 - 1, got one outside; a float may do")


def _float(number: float) -> bytes:
    if number.is_integer() and -(2.0**63) <= number < 2.0**64:
        whole = int(number)
        return bytes((whole & 255,)) if -33 < whole < 128 else _integer(whole)
    return _double(0xCB, number)


def _keys_and_values(value: dict[Any, Any]) -> Iterator[Any]:
    """The first key, its value, the second key, and so on, in the order of JavaScript."""
    try:
        plain = not any(map(str.isdigit, value))
    except TypeError:
        plain = False
    if not plain:
        value = with_text_keys(value)
        value = {key: value[key] for key in in_key_order(value)}
    return chain.from_iterable(value.items())


_PLAIN_TYPES: Final[tuple[Any, ...]] = (int, float, dict, list, tuple)


def _plain(value: Any) -> Any:
    """A value of a type that is not met often as one that is."""
    if isinstance(value, str):
        return str.__str__(value)  # not what an enumeration makes of it
    for plain in _PLAIN_TYPES:
        if isinstance(value, plain):
            return plain(value)
    if isinstance(value, datetime):
        return date_text(value)
    raise LocalProtocolError(
        f"expected None, bool, int, float, str, bytes, list, tuple, dict or datetime, not {type(value).__name__}"
    )


# Decoding. Each tag from 0x80 to 0xdf: what it is, and either its value or length, or how that is read.

_VALUE, _IS_STRING, _IS_BINARY, _IS_ARRAY, _IS_MAP = range(5)
_Tag: TypeAlias = tuple[int, Any, Any, int]
_STRUCTURE: Final = {_IS_ARRAY: (64, 8), _IS_MAP: (64, 96)}
"""Bytes of memory, about: of an empty container, and for each item."""
_PLAIN_KEYS: Final = frozenset({str})
_GARBAGE: Final = 16 * 1024


def _tag_table() -> list[_Tag]:
    kinds = {_MAP: _IS_MAP, _ARRAY: _IS_ARRAY, _BINARY: _IS_BINARY, _STRING: _IS_STRING}
    table: list[_Tag] = [(kinds[tag & 0xF0], tag & 15, None, 0) for tag in range(0x80, 0xC0)]
    table += [(_VALUE, None, None, 0)] * 32  # 0xc0, 0xc1 and the tags that mean nothing: undefined
    table[0xC2 - 0x80] = (_VALUE, False, None, 0)
    table[0xC3 - 0x80] = (_VALUE, True, None, 0)
    for offset, code in enumerate("fdBHIQbhiq"):
        number = struct.Struct(f">{code}")
        table[0xCA - 0x80 + offset] = (_VALUE, None, number.unpack_from, number.size)
    for short, tag in _LONG.items():
        for offset, code in enumerate("HI"):
            length = struct.Struct(f">{code}")
            table[tag + offset - 0x80] = (kinds[short], None, length.unpack_from, length.size)
    return table


_TAGS: Final = _tag_table()


def unpack_untrusted(data: bytes, *, max_depth: int = 64, max_structure: int = MAX_STRUCTURE) -> Any:
    """The value at the start of `data`, whose size the caller bounds; what follows it is ignored, as the original does.

    Undefined is None, binary is bytes, dates are the strings that they were sent as. Numbers, null, undefined, true
    and false as keys of a map become their text, as JavaScript has it; of equal keys the last counts.

    Args:
        max_depth: how deep lists and dicts may be nested; a scalar has depth 0.
        max_structure: bytes of memory, about, that lists and dicts may take, without the scalars in them.

    Raises:
        RemoteProtocolError: it is empty or truncated, announces more than there is, is nested too deep or holds too
            many items, a string is not UTF-8 (close code 1007), or a key is binary or a container.
    """
    # A decoder makes many containers and no garbage; looking for some would take most of the time.
    pause = len(data) > _GARBAGE and gc.isenabled()
    if pause:
        gc.disable()
    try:
        items, _ = _Reader(data, max_structure).read(0, 1, max_depth)
        return items[0]
    except (IndexError, struct.error):
        raise RemoteProtocolError(f"expected a whole value, got {len(data)} bytes that end amid one") from None
    except RecursionError:
        raise RemoteProtocolError(_TOO_DEEP) from None
    except UnicodeDecodeError as error:
        raise RemoteProtocolError(f"expected utf-8, not {error.reason}", _INVALID_PAYLOAD) from None
    finally:
        if pause:
            gc.enable()


def unpack_slices_untrusted(slices: list[bytes], *, max_depth: int = 64, max_structure: int = MAX_STRUCTURE) -> Any:
    """As `unpack_untrusted` of the slices joined; takes them out of the list, so that they are not kept meanwhile.

    A value that is one large binary is joined once and not copied again.
    """
    head = slices[0][:5] if slices else b""
    width = {0xDA: 2, 0xDB: 4}.get(head[0]) if head else None
    if width is not None and len(head) > width:
        length = int.from_bytes(head[1 : 1 + width], "big")
        if 1 + width + length == sum(map(len, slices)):
            views: list[Part] = [memoryview(slices[0])[1 + width :], *slices[1:]]
            slices.clear()
            return b"".join(views)
    data = b"".join(slices)
    slices.clear()
    return unpack_untrusted(data, max_depth=max_depth, max_structure=max_structure)


class _Reader:
    """Reads items of one message."""

    __slots__ = ("_data", "_structure_left")

    def __init__(self, data: bytes, max_structure: int) -> None:
        self._data: Final = data
        self._structure_left = max_structure

    def read(self, position: int, count: int, depth_left: int) -> tuple[list[Any], int]:
        """So many items from a position on, and where they end. May raise all that `unpack_untrusted` handles."""
        data = self._data
        size = len(data)
        items = list[Any]()
        append = items.append
        for _ in range(count):
            tag = data[position]
            position += 1
            if tag < 0x80:
                append(tag)
                continue
            if tag > 0xDF:
                append(tag - 256)
                continue
            kind, value, read, width = _TAGS[tag - 0x80]
            if read is not None:
                (value,) = read(data, position)
                position += width
            if kind == _VALUE:
                append(value)
            elif kind > _IS_BINARY:
                inner, position = self._read_container(kind, position, value, depth_left)
                append(inner)
            else:
                end = position + value
                if end > size:
                    raise IndexError
                if kind == _IS_BINARY:
                    append(data[position:end])
                elif value < _LARGE:
                    append(data[position:end].decode())
                else:
                    append(str(memoryview(data)[position:end], "utf-8"))
                position = end
        return items, position

    def _read_container(self, kind: int, position: int, length: int, depth_left: int) -> tuple[Any, int]:
        empty, each = _STRUCTURE[kind]
        self._structure_left -= empty + each * length
        count = length if kind == _IS_ARRAY else 2 * length
        if count > len(self._data) - position:
            raise IndexError
        if depth_left == 0:
            raise RemoteProtocolError(_TOO_DEEP)
        if self._structure_left < 0:
            raise RemoteProtocolError("expected a value with fewer items and containers in it")
        items, position = self.read(position, count, depth_left - 1)
        if kind == _IS_ARRAY:
            return items, position
        keys = items[::2]
        if not _PLAIN_KEYS.issuperset(map(type, keys)):
            keys = list(map(_key_text, keys))
        return dict(zip(keys, items[1::2], strict=True)), position


def _key_text(key: Any) -> str:
    if isinstance(key, str):
        return key
    if key is None or isinstance(key, bool):
        return {None: "null", True: "true", False: "false"}[key]
    if isinstance(key, int | float):
        return number_text(key)
    raise RemoteProtocolError(f"expected keys that are strings or simple, got {type(key).__name__}")
