"""The serialization "json". Pure.

Version 1.5 of the original sends UTF-8 in binary messages, and throws when it gets text; 1.4 and older do the opposite.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from ...exceptions import LocalProtocolError, PayloadTooLarge, RemoteProtocolError
from ...wire.json import decode_untrusted, encode
from .control import CLOSE_VALUE, asks_to_close, require_not_control
from .javascript import iso_text
from .serializer import CLOSE, SerializerLimits
from .values import BytesLike, at_its_path, plain

__all__ = ["MAX_ENCODED", "JSONSerializer"]

MAX_ENCODED: Final = 16300 - 1
"""Bytes; the originals send no more in one message, and do not cut JSON."""

_TOO_BIG: Final = 1009
_SCALARS: Final[frozenset[type]] = frozenset({str, int, float, bool, type(None)})
_KEYS: Final = frozenset({str})


class JSONSerializer:
    """What JSON can hold; datetimes become text as `Date.prototype.toISOString` has it, infinity and NaN null.

    Attributes:
        as_text: send text messages, as 1.4 and older do; becomes true when one arrives.
    """

    name: Final = "json"
    is_stream: Final = False
    unfinished: Final = 0
    """Each message is a value."""

    def __init__(self, limits: SerializerLimits) -> None:
        self._limits: Final = limits
        self.as_text = False

    def encode(self, value: Any) -> Iterable[bytes | str]:
        """See `Serializer.encode`: one message."""
        require_not_control(value)
        try:
            data = self._encode(value)
        except LocalProtocolError as error:
            raise at_its_path(error, value, self._encode, self._limits.max_depth) from None
        if len(data) > MAX_ENCODED:
            raise PayloadTooLarge(f"expected at most {MAX_ENCODED} bytes of json, got {len(data)}: 'binary' takes more")
        return (data.decode() if self.as_text else data,)

    def _encode(self, value: Any) -> bytes:
        depth = self._limits.max_depth
        try:
            return encode(value, max_depth=depth, non_finite_as_null=True)
        except LocalProtocolError:
            # It may hold datetimes or keys that are int, or the error says what else there is.
            value = plain(value, _SCALARS, _KEYS, _leaf, depth)
            return encode(value, max_depth=depth, non_finite_as_null=True)

    def encode_close(self) -> bytes | str:
        """See `Serializer.encode_close`."""
        data = encode(CLOSE_VALUE)
        return data.decode() if self.as_text else data

    def decode(self, message: bytes | str) -> list[Any]:
        """See `Serializer.decode`."""
        if len(message) > self._limits.max_value:
            most = self._limits.max_value
            raise RemoteProtocolError(f"expected at most {most} bytes in a value, got {len(message)}", _TOO_BIG)
        value = decode_untrusted(message, max_depth=self._limits.max_depth)
        if isinstance(message, str):
            self.as_text = True
        return [CLOSE if asks_to_close(value) else value]


def _leaf(value: Any) -> Any:
    if isinstance(value, datetime):
        return iso_text(value)
    if isinstance(value, str | int | float):
        return value
    hint = "; the serializations 'binary' and 'MsgPack' take bytes" if isinstance(value, BytesLike) else ""
    raise LocalProtocolError(f"expected a json value or a datetime, not {type(value).__name__}{hint}")
