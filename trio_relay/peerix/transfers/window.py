"""A source that can be read only once, for several members.

Rules of this file:

1. What was read from the source and not by all readers is held, `TransferLimits.window` bytes at most. While that is
   full, the source waits: so it is read at the pace of its readers.
2. A reader *keeps others waiting* while the window is full because of what it has not read, and another reader has
   read all there is. One that has done so for `TransferLimits.ack_timeout` seconds in all is excluded. Readers that
   are all equally slow keep nobody waiting, and one that is alone does not, either.
3. A block that is too large for the window goes into it in parts; it is held besides.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from contextlib import suppress
from typing import Any, Final

import trio

from ...node.turns import Turns
from ..packets.transfer import PayloadType
from .limits import TransferLimits
from .sources import Buffer, SourceFailed

__all__ = ["WindowSource"]

_STEPS: Final = 64
"""What everybody has read is let go in parts of the window, so many: the source is not woken for each piece."""


class WindowSource:
    """Implements `Source`.

    Args:
        blocks: bytes-like, of any size; a generator is closed at the end.
    """

    total: Final = None
    runs: Final = True

    def __init__(self, type: PayloadType, blocks: AsyncIterable[Any], limits: TransferLimits) -> None:
        self.type: Final = type
        self._blocks: Final = blocks
        self._size: Final = limits.window
        self._step: Final = -(-limits.window // _STEPS)
        self._patience: Final = limits.ack_timeout
        self._held: Final = bytearray()
        self._base = 0  # of what is held, from the beginning of the source
        self._ended = False
        self._readers: Final[list[WindowReader]] = []
        self._room: Final = trio.lowlevel.ParkingLot()
        self._data: Final = trio.lowlevel.ParkingLot()
        self._turns: Final = Turns()

    @property
    def held(self) -> int:
        """Bytes."""
        return len(self._held)

    def reader(self, exclude: Callable[[], None]) -> WindowReader:
        """See `Source`; so below."""
        reader = WindowReader(self, exclude)
        self._readers.append(reader)
        return reader

    def close(self) -> None:
        self._held.clear()
        self._readers.clear()

    async def run(self) -> None:
        blocks = _begin(self._blocks)
        try:
            while (block := await _next_of(blocks)) is not None:
                with block:  # its owner may use the memory again after that
                    await self._take(block)
        finally:
            await _close(blocks)
        self._ended = True
        self._data.unpark_all()

    async def _take(self, block: memoryview) -> None:
        await self._turns.give_way()  # a source may never wait
        at = 0
        while at < len(block):
            await self._wait_room()
            room = self._size - len(self._held)
            with block[at : at + room] as part:
                self._held.extend(part)
                at += len(part)
            self._data.unpark_all()

    async def _wait_room(self) -> None:
        if len(self._held) < self._size:
            return
        while self._trim() < self._step:
            slow = [reader for reader in self._readers if reader.at - self._base < self._step]
            patience = self._patience - max(reader.delayed for reader in slow)
            are_delayed = any(reader.waits for reader in self._readers)
            then = trio.current_time()
            with trio.move_on_after(patience if are_delayed else math.inf):
                await self._room.park()
            delay = trio.current_time() - then if are_delayed else 0.0
            for reader in slow:
                reader.delayed += delay
                if reader.delayed >= self._patience and reader in self._readers:
                    self.leave(reader)
                    reader.exclude()

    def _trim(self) -> int:
        """Lets go what everybody has read, and returns how much room there is."""
        least = min((reader.at for reader in self._readers), default=self._base + len(self._held))
        del self._held[: least - self._base]
        self._base = least
        return self._size - len(self._held)

    # For its readers

    async def read(self, reader: WindowReader, most: int) -> tuple[Buffer, bool]:
        """What is there, at most so much; waits until there is something."""
        while (start := reader.at - self._base) == len(self._held) and not self._ended:
            reader.waits = True
            self._room.unpark_all()
            try:
                await self._data.park()
            finally:
                reader.waits = False
        chunk = self._held[start : start + most]
        reader.at += len(chunk)
        if start < self._step:
            self._room.unpark_all()
        return chunk, self._ended and start + len(chunk) == len(self._held)

    def leave(self, reader: WindowReader) -> None:
        """It reads no more."""
        if reader in self._readers:
            self._readers.remove(reader)
            self._room.unpark_all()


class WindowReader:
    """Implements `Reader`.

    Attributes:
        at: how much it has read, from the beginning of the source.
        waits: for more than there is.
        delayed: seconds for which it has kept others waiting.
        exclude: tells whoever reads that it gets no more.
    """

    __slots__ = ("_source", "at", "delayed", "exclude", "waits")

    def __init__(self, source: WindowSource, exclude: Callable[[], None]) -> None:
        self._source: Final = source
        self.exclude: Final = exclude
        self.at = 0
        self.waits = False
        self.delayed = 0.0

    async def read(self, most: int) -> tuple[Buffer, bool]:
        """See `Reader`; so below."""
        return await self._source.read(self, most)

    def close(self) -> None:
        self._source.leave(self)


def _begin(blocks: AsyncIterable[Any]) -> AsyncIterator[Any]:
    try:
        return aiter(blocks)
    except Exception as error:  # of whatever the application gave us; so below
        raise SourceFailed(f"the source failed: {error!r}") from error


async def _close(blocks: AsyncIterator[Any]) -> None:
    """Has a generator clean up; if that fails, it concerns nobody who gets the message."""
    if isinstance(blocks, AsyncGenerator):
        with suppress(Exception):
            await blocks.aclose()


async def _next_of(blocks: AsyncIterator[Any]) -> memoryview | None:
    """The next block, None at the end."""
    try:
        return memoryview(await anext(blocks)).cast("B")
    except StopAsyncIteration:
        return None
    except Exception as error:
        raise SourceFailed(f"the source failed: {error!r}") from error
