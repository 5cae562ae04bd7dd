"""The serialization "binary": BinaryPack, in chunks where it is large. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from ...exceptions import RemoteProtocolError
from .binarypack import pack, unpack_slices_untrusted, unpack_untrusted
from .chunks import SLICE, Assembler, split
from .control import CLOSE_VALUE, KEY, asks_to_close, require_not_control
from .javascript import truthy
from .serializer import CLOSE, SerializerLimits

__all__ = ["BinarySerializer"]

_TOO_BIG: Final = 1009
_BYTES_PER_STRUCTURE: Final = 2
"""Bytes that a value may have for each byte of memory that its lists and dicts may take: a value of them alone would
take seconds to read, in which nobody is served."""
_LEAST_STRUCTURE: Final = 1 << 20


class BinarySerializer:
    """BinaryPack; see `binarypack.pack` for what it takes.

    Attributes:
        ignored: control values of a kind that is not known here, which came and were passed over.
    """

    name: Final = "binary"
    is_stream: Final = False

    def __init__(self, limits: SerializerLimits) -> None:
        self._limits: Final = limits
        self._max_structure: Final = max(limits.max_value // _BYTES_PER_STRUCTURE, _LEAST_STRUCTURE)
        self._assembler: Final = Assembler(limits)
        self._sets_sent = 0
        self.ignored = 0

    def encode(self, value: Any) -> Iterable[bytes]:
        """See `Serializer.encode`: one message, or chunks."""
        require_not_control(value)
        parts = pack(value, max_depth=self._limits.max_depth)
        if sum(map(len, parts)) <= SLICE:
            return (b"".join(parts),)
        self._sets_sent += 1
        return split(parts, self._sets_sent)

    def encode_close(self) -> bytes:
        """See `Serializer.encode_close`."""
        return b"".join(pack(CLOSE_VALUE))

    def decode(self, message: bytes | str) -> list[Any]:
        """See `Serializer.decode`."""
        if isinstance(message, str):
            raise RemoteProtocolError("expected binary messages, got text")
        if len(message) > self._limits.max_value:
            most = self._limits.max_value
            raise RemoteProtocolError(f"expected at most {most} bytes in a value, got {len(message)}", _TOO_BIG)
        value = unpack_untrusted(message, max_depth=self._limits.max_depth, max_structure=self._max_structure)
        if type(value) is not dict or not truthy(value.get(KEY)):
            return [value]
        if type(value[KEY]) is dict:
            return self._obey(value)
        slices = self._assembler.add_untrusted(value)
        return [] if slices is None else self._decode_whole(slices)

    def _decode_whole(self, slices: list[bytes]) -> list[Any]:
        depth, structure = self._limits.max_depth, self._max_structure
        value = unpack_slices_untrusted(slices, max_depth=depth, max_structure=structure)
        if type(value) is not dict or not truthy(value.get(KEY)):
            return [value]
        if type(value[KEY]) is dict:
            return self._obey(value)
        raise RemoteProtocolError("expected a value in chunks, got a chunk in them")

    def _obey(self, value: dict[str, Any]) -> list[Any]:
        if asks_to_close(value):
            return [CLOSE]
        self.ignored += 1
        return []

    @property
    def unfinished(self) -> int:
        """Bytes of chunks that wait for others."""
        return self._assembler.held
