"""The serialization "raw": text and bytes as they are. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from ...exceptions import LocalProtocolError, RemoteProtocolError
from .javascript import well_formed
from .serializer import SerializerLimits
from .values import BytesLike, as_bytes

__all__ = ["RawSerializer"]

_TOO_BIG: Final = 1009


class RawSerializer:
    """A str is a text message (lone surrogates become U+FFFD), what is bytes-like a binary one, in both directions."""

    name: Final = "raw"
    is_stream: Final = False
    unfinished: Final = 0
    """Each message is a value."""

    def __init__(self, limits: SerializerLimits) -> None:
        self._limits: Final = limits

    def encode(self, value: Any) -> Iterable[bytes | str]:
        """See `Serializer.encode`: one message."""
        if isinstance(value, str):
            return (str.__str__(value) if value.isascii() else well_formed(value),)
        if isinstance(value, BytesLike):
            return (bytes(as_bytes(value)),)
        raise LocalProtocolError(f"expected str or bytes on a raw connection, not {type(value).__name__}")

    def encode_close(self) -> None:
        """There is no such message."""
        return

    def decode(self, message: bytes | str) -> list[Any]:
        """See `Serializer.decode`."""
        if len(message) > self._limits.max_value:
            most = self._limits.max_value
            raise RemoteProtocolError(f"expected at most {most} bytes in a value, got {len(message)}", _TOO_BIG)
        return [message]
