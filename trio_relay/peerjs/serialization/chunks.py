"""Packed values that are too large for one message: cut into chunks, and put together again. Pure.

A chunk is itself a packed value: the number of its set, its own, a slice of the large value, how many there are. The
rules of `Assembler`, which the originals lack: a slice comes once, is not empty, and agrees with the others of its set
about how many there are; sets, slices and bytes that wait for others are bounded, by what has come and not by what is
announced.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from ...exceptions import RemoteProtocolError
from .binarypack import pack
from .control import KEY
from .serializer import SerializerLimits
from .values import Part, slices

__all__ = ["SLICE", "Assembler", "split"]

SLICE: Final = 16300
"""Bytes; a value that is not larger is not cut. The originals' `chunkedMTU`."""

_TINY: Final = 256
"""Slices of fewer bytes cost more to keep than they hold."""
_SOME: Final = 64
_TOO_BIG: Final = 1009
"""Close code of RFC 6455 section 7.4.1."""


def split(parts: Sequence[Part], set_id: int) -> Iterator[bytes]:
    """The chunks of a packed value, made as they are taken; `parts` must not change until then."""
    total = -(-sum(map(len, parts)) // SLICE)
    before = b"\x84" + b"".join(pack(KEY) + pack(set_id) + pack("n"))
    after = b"".join(pack("total") + pack(total))
    data = b"".join(pack("data"))
    for index, views in enumerate(slices(parts, SLICE)):
        length = sum(map(len, views))
        head = bytes((0xA0 + length,)) if length < 16 else b"\xda" + length.to_bytes(2, "big")
        yield b"".join((before, *pack(index), data, head, *views, after))


class _Set:
    """The slices of one value that have come."""

    __slots__ = ("size", "slices", "total")

    def __init__(self, total: int) -> None:
        self.total: Final = total
        self.slices: Final[dict[int, bytes]] = {}
        self.size = 0


class Assembler:
    """The unfinished sets of one connection."""

    def __init__(self, limits: SerializerLimits) -> None:
        self._limits: Final = limits
        self._most_slices: Final = limits.max_value // _TINY + _SOME
        self._sets: Final[dict[int, _Set]] = {}
        self._slices = 0
        self._held = 0

    @property
    def held(self) -> int:
        """Bytes of the slices that wait for others."""
        return self._held

    def add_untrusted(self, chunk: dict[str, Any]) -> list[bytes] | None:
        """Takes a chunk; returns all slices of its set in their order once they are there.

        Raises:
            RemoteProtocolError: it breaks a rule; there must not be another call.
        """
        set_id, index, total, data = (chunk.get(name) for name in (KEY, "n", "total", "data"))
        if type(set_id) is not int or type(index) is not int or type(total) is not int or type(data) is not bytes:
            raise RemoteProtocolError("expected a chunk with the numbers of its set, its own and their total, and data")
        if not 0 <= index < total or not data:
            raise RemoteProtocolError(f"expected a slice of 1 byte or more below {total}, got {len(data)} at {index}")
        found = self._sets.get(set_id)
        if found is None:
            if len(self._sets) >= self._limits.max_unfinished:
                raise RemoteProtocolError(f"expected at most {self._limits.max_unfinished} unfinished values, got more")
            found = self._sets[set_id] = _Set(total)
        if found.total != total:
            raise RemoteProtocolError(f"expected {found.total} slices in all, as announced before, got {total}")
        if index in found.slices:
            raise RemoteProtocolError(f"expected each slice once, got number {index} again")
        self._keep(found, index, data)
        if len(found.slices) < total:
            return None
        del self._sets[set_id]
        self._slices -= total
        self._held -= found.size
        return [found.slices.pop(number) for number in range(total)]

    def _keep(self, found: _Set, index: int, data: bytes) -> None:
        found.slices[index] = data
        found.size += len(data)
        self._slices += 1
        self._held += len(data)
        to_come = found.total - len(found.slices)
        # Each slice that is to come has at least one byte.
        if self._held + to_come > self._limits.max_value or self._slices + to_come > self._most_slices:
            wanted = f"at most {self._limits.max_value} bytes in unfinished values, {self._most_slices} slices of them"
            raise RemoteProtocolError(f"expected {wanted}, got more", _TOO_BIG)
