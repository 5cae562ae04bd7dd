"""The serialization "MsgPack": a stream of MessagePack values, whose messages end anywhere. Pure.

Why values are not read by one of the packages for it: `msgspec`, which writes them, reads no streams, and `msgpack`
bounds neither the depth of a value nor the memory that its containers take together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from ...exceptions import LocalProtocolError, RemoteProtocolError
from .control import CLOSE_VALUE, asks_to_close, require_not_control
from .javascript import in_zone
from .msgpack_stream import MsgPackStream
from .serializer import CLOSE, SerializerLimits
from .values import BytesLike, Part, as_bytes, at_its_path, plain, slices

__all__ = ["PIECE", "MsgPackSerializer"]

PIECE: Final = 32 * 1024
"""Bytes in one message, at most, as of the original."""

_SCALARS: Final[frozenset[type]] = frozenset({str, int, float, bool, type(None), bytes, bytearray})
_KEYS: Final = frozenset({str, int})
_MAX_BINARY: Final = (1 << 32) - 1
_encode: Final = msgspec.msgpack.Encoder().encode


class MsgPackSerializer:
    """MessagePack; the connection must deliver messages in order.

    Takes None, bool, int, float, str, bytes-like objects, list, tuple, dict and datetime (as a timestamp; one without
    an offset is in local time). Gives back timestamps as datetimes in UTC, in whole microseconds.
    """

    name: Final = "MsgPack"
    is_stream: Final = True

    def __init__(self, limits: SerializerLimits) -> None:
        self._limits: Final = limits
        self._stream: Final = MsgPackStream(limits)

    def encode(self, value: Any) -> Iterable[bytes]:
        """See `Serializer.encode`: the pieces of it."""
        require_not_control(value)
        if isinstance(value, BytesLike) and PIECE < memoryview(value).nbytes <= _MAX_BINARY:
            data = as_bytes(value)
            return _pieces((b"\xc6" + len(data).to_bytes(4, "big"), data))
        try:
            encoded = self._encode(value)
        except LocalProtocolError as error:
            raise at_its_path(error, value, self._encode, self._limits.max_depth) from None
        return (encoded,) if len(encoded) <= PIECE else _pieces((encoded,))

    def _encode(self, value: Any) -> bytes:
        value = plain(value, _SCALARS, _KEYS, _leaf, self._limits.max_depth)
        try:
            return _encode(value)
        except OverflowError:
            raise LocalProtocolError("expected integers from -2**63 to 2**64 - 1, got one outside") from None
        except UnicodeEncodeError:
            raise LocalProtocolError("expected text without lone surrogates, got one") from None
        except ValueError as error:
            raise LocalProtocolError(f"expected lengths below 2**32: {error}") from None

    def encode_close(self) -> bytes:
        """See `Serializer.encode_close`."""
        return _encode(CLOSE_VALUE)

    def decode(self, message: bytes | str) -> list[Any]:
        """See `Serializer.decode`."""
        if isinstance(message, str):
            raise RemoteProtocolError("expected binary messages, got text")
        return [CLOSE if asks_to_close(value) else value for value in self._stream.feed_untrusted(message)]

    @property
    def unfinished(self) -> int:
        """Bytes of the value whose end has not come."""
        return self._stream.held


def _pieces(parts: Sequence[Part]) -> Iterator[bytes]:
    return map(b"".join, slices(parts, PIECE))


def _leaf(value: Any) -> Any:
    if isinstance(value, BytesLike):
        return bytes(as_bytes(value))
    if isinstance(value, datetime):
        return value if value.utcoffset() is not None else in_zone(value, None)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    raise LocalProtocolError(
        f"expected None, bool, int, float, str, bytes, list, tuple, dict or datetime, not {type(value).__name__}"
    )
