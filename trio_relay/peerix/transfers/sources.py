"""What can be sent as a message: a value, a file, an asynchronous stream of bytes.

A source is read by one reader for each member that it goes to. One that can be read again at any place (a value in
memory, a seekable file) lets each reader go at its own pace. One that can be read only once goes through a window:
see `window`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

import trio

from ..packets.transfer import PayloadType

__all__ = ["Buffer", "MemorySource", "Reader", "Source", "SourceFailed"]

Buffer: TypeAlias = bytes | bytearray | memoryview


class SourceFailed(Exception):
    """A source could not be read; ``__cause__`` tells why."""


class Reader(Protocol):
    """A source as one member gets it."""

    async def read(self, most: int) -> tuple[Buffer, bool]:
        """The next bytes, and whether they are the last ones; waits for at least one, unless there are no more.

        Raises:
            SourceFailed: the source could not be read.
        """
        ...

    def close(self) -> None:
        """Plain. Nothing more is read. Idempotent."""
        ...


class Source(Protocol):
    """What is sent."""

    @property
    def type(self) -> PayloadType:
        """Of the message."""
        ...

    @property
    def total(self) -> int | None:
        """Bytes; None while that is not known."""
        ...

    @property
    def runs(self) -> bool:
        """Whether a task has to run `run` while it is read."""
        ...

    def reader(self, exclude: Callable[[], None]) -> Reader:
        """Plain. A new reader, at the beginning; all are made before the first one reads.

        Args:
            exclude: called when this reader has kept the others waiting for too long; then it gets no more.
        """
        ...

    async def run(self) -> None:
        """Feeds the readers until the source is at its end, or cancelled.

        Raises:
            SourceFailed: it could not be read.
        """
        ...

    def close(self) -> None:
        """Plain. Nobody reads any more. Idempotent."""
        ...


class MemorySource:
    """A value that is there as a whole. Implements `Source`."""

    runs: Final = False

    def __init__(self, type: PayloadType, data: bytes) -> None:
        self.type: Final = type
        self._data: Final = data

    @property
    def total(self) -> int:
        """Bytes."""
        return len(self._data)

    def reader(self, exclude: Callable[[], None]) -> MemoryReader:
        """See `Source`; so below."""
        return MemoryReader(self._data)

    async def run(self) -> None:
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        pass


class MemoryReader:
    """Implements `Reader`; it never waits, and copies nothing."""

    __slots__ = ("_at", "_size", "_view")

    def __init__(self, data: bytes) -> None:
        self._view: Final = memoryview(data)
        self._size: Final = len(data)
        self._at = 0

    async def read(self, most: int) -> tuple[Buffer, bool]:
        """See `Reader`; so below."""
        start = self._at
        self._at = min(start + most, self._size)
        return self._view[start : self._at], self._at == self._size

    def close(self) -> None:
        pass
