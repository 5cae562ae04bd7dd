"""Files as sources of messages; they are read in threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

import trio

from ..packets.transfer import PayloadType
from .sources import Buffer, SourceFailed

__all__ = ["FileSource", "PipeBlocks"]

_BLOCK: Final = 256 * 1024
"""Bytes that are read at once, and held for each member: a turn of a thread costs about as much as reading them."""


class FileSource:
    """A file that can be read at any place. Implements `Source`.

    What is sent is what the file had, from its position on, when the first member began to read. A path is opened by
    that, and closed at the end.

    Args:
        file: of a regular file; or an open binary file that is seekable, which nobody else reads meanwhile.
    """

    type: Final = PayloadType.BLOB
    runs: Final = False

    def __init__(self, file: Path | IO[bytes]) -> None:
        self._path: Final = file if isinstance(file, Path) else None
        self._file: IO[bytes] | None = None if isinstance(file, Path) else file
        self._start = 0
        self._total: int | None = None
        self._closed = False
        self._lock: Final = threading.Lock()
        self._alone: Final = trio.CapacityLimiter(1)

    @property
    def total(self) -> int | None:
        """Bytes; None before it was opened."""
        return self._total

    def reader(self, exclude: Callable[[], None]) -> FileReader:
        """See `Source`; so below."""
        return FileReader(self)

    async def run(self) -> None:
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        self._closed = True
        if self._lock.acquire(blocking=False):  # else a thread reads, and does it
            try:
                self._close()
            finally:
                self._lock.release()

    async def read_at(self, offset: int) -> bytes:
        """One block; empty at the end.

        Raises:
            SourceFailed: the file could not be read.
        """
        try:
            return await trio.to_thread.run_sync(self._read_at, offset, abandon_on_cancel=True, limiter=self._alone)
        except Exception as error:  # of whatever kind of file this is
            raise SourceFailed(f"the file could not be read: {error!r}") from error

    def _read_at(self, offset: int) -> bytes:
        """In a thread."""
        with self._lock:
            try:
                file, total = self._open()
                file.seek(self._start + offset)
                return _read_exactly(file, min(_BLOCK, total - offset))
            finally:
                if self._closed:
                    self._close()

    def _open(self) -> tuple[IO[bytes], int]:
        """The file, and how much of it is sent."""
        if self._closed:
            raise ValueError("nobody reads it any more")
        if self._file is None:
            assert self._path is not None
            self._file = self._path.open("rb", buffering=0)
        if self._total is None:
            self._start = self._file.tell()
            self._total = max(0, self._file.seek(0, os.SEEK_END) - self._start)
        return self._file, self._total

    def _close(self) -> None:
        if self._path is not None and self._file is not None:
            with suppress(OSError):  # nothing was written
                self._file.close()
            self._file = None


class FileReader:
    """Implements `Reader`."""

    def __init__(self, source: FileSource) -> None:
        self._source: Final = source
        self._at = 0
        self._block = memoryview(b"")

    async def read(self, most: int) -> tuple[Buffer, bool]:
        """See `Reader`; so below."""
        if not self._block and self._at != self._source.total:
            self._block = memoryview(await self._source.read_at(self._at))
        chunk = self._block[:most]
        self._block = self._block[most:]
        self._at += len(chunk)
        return chunk, self._at == self._source.total

    def close(self) -> None:
        self._block = memoryview(b"")


class PipeBlocks:
    """What a binary file has that can be read only once: an asynchronous iterator of blocks."""

    def __init__(self, file: IO[bytes]) -> None:
        # read1 returns what is there; read would wait for a whole block.
        self._read: Final = getattr(file, "read1", file.read)

    def __aiter__(self) -> PipeBlocks:
        return self

    async def __anext__(self) -> bytes:
        block: bytes = await trio.to_thread.run_sync(self._read, _BLOCK, abandon_on_cancel=True)
        if not block:
            raise StopAsyncIteration
        return block


def _read_exactly(file: IO[bytes], size: int) -> bytes:
    block = file.read(size)
    while len(block) < size:
        more = file.read(size - len(block))
        if not more:
            raise EOFError("it has become shorter")
        block += more
    return block
