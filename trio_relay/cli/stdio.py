"""Lines on standard input and output without holding up the node.

Reading and writing wait in threads, on the bare descriptors: a thread that still waits when the program ends would
keep the lock of `sys.stdin` or `sys.stdout`, without which the interpreter can't shut down.
"""

from __future__ import annotations

import os
import select
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

from .options import UsageError

__all__ = ["LineReader", "LineSplitter", "Out", "open_output", "wait_reader_gone"]

_READ_SIZE: Final = 64 * 1024
_LINES: Final = 64
"""Lines that wait to be written; then whoever writes one waits."""
_LAST_WORDS: Final = 5.0
"""Seconds for the output that is left at the end: its reader may have stopped reading."""

Out = trio.MemorySendChannel[bytes]


class LineSplitter:
    """Cuts a stream of bytes into lines; keeps at most one line of `size` bytes.

    A line is returned without its end; one that is longer than `size` is returned as None.
    """

    def __init__(self, size: int) -> None:
        self._size: Final = size
        self._start: Final = bytearray()
        self._too_long = False

    def feed(self, data: bytes) -> list[bytes | None]:
        """The lines that end in `data`."""
        *ends, start = data.split(b"\n")
        lines = [self._end(end) for end in ends]
        self._add(start)
        return lines

    def finish(self) -> list[bytes | None]:
        """The line that the end of the stream ends, if there is one."""
        return [self._end(b"")] if self._start or self._too_long else []

    def _add(self, part: bytes) -> None:
        if len(self._start) + len(part) > self._size:
            self._too_long = True
            self._start.clear()
        elif not self._too_long:
            self._start.extend(part)

    def _end(self, part: bytes) -> bytes | None:
        self._add(part)
        line = None if self._too_long else bytes(self._start)
        self._start.clear()
        self._too_long = False
        return line


class LineReader:
    """The lines of standard input, as `LineSplitter` returns them."""

    def __init__(self, size: int) -> None:
        self._splitter: Final = LineSplitter(size)
        # A descriptor that was closed when the program started may be something else by now.
        self._ended = sys.stdin is None

    async def receive(self) -> list[bytes | None]:
        """Waits for at least one line; none: the input ended.

        Raises:
            OSError: standard input can't be read.
        """
        lines: list[bytes | None] = []
        while not lines and not self._ended:
            data = await trio.to_thread.run_sync(_read, sys.stdin.fileno(), abandon_on_cancel=True)
            lines = self._splitter.feed(data) if data else self._splitter.finish()
            self._ended = not data
        return lines


def _read(descriptor: int) -> bytes:
    while True:
        try:
            return os.read(descriptor, _READ_SIZE)
        except BlockingIOError:  # whoever shares the descriptor made it non-blocking
            select.select([descriptor], [], [])


@asynccontextmanager
async def open_output() -> AsyncIterator[tuple[Out, trio.Nursery]]:
    """A channel of lines to standard output, and a nursery for tasks that write to it.

    They may outlive the block by a few seconds: until they ended, closed their clones, and all is written.

    Raises:
        OSError: standard output can't be written; `BrokenPipeError` if its reader is gone.
        UsageError: there is no standard output.
    """
    if sys.stdout is None:
        raise UsageError("expected an open standard output")
    out, lines = trio.open_memory_channel[bytes](_LINES)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_write_lines, lines, sys.stdout.fileno())
        async with out:
            yield out, nursery
        nursery.cancel_scope.deadline = trio.current_time() + _LAST_WORDS


async def _write_lines(lines: trio.MemoryReceiveChannel[bytes], descriptor: int) -> None:
    async for line in lines:
        batch = [line]
        while lines.statistics().current_buffer_used:
            batch.append(lines.receive_nowait())
        data = b"\n".join(batch) + b"\n"
        await trio.to_thread.run_sync(_write, descriptor, data, abandon_on_cancel=True)


def _write(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(descriptor, left) :]
        except BlockingIOError:
            select.select([], [descriptor], [])


async def wait_reader_gone() -> None:
    """Raises `BrokenPipeError` when nobody can read standard output any more; for pipes on Linux, else waits for ever.

    Otherwise ``trio-relay node | head -1`` would go on until it has something to say.
    """
    descriptor = sys.stdout.fileno()
    if sys.platform != "linux" or not _is_write_end(descriptor):
        await trio.sleep_forever()
    # The write end of a pipe never is readable; it is reported as such when the read end is closed (pipe(7), epoll(7)).
    await trio.lowlevel.wait_readable(descriptor)
    raise BrokenPipeError("nobody reads standard output")


def _is_write_end(descriptor: int) -> bool:
    import fcntl  # not on Windows

    is_pipe = stat.S_ISFIFO(os.fstat(descriptor).st_mode)
    return is_pipe and fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
