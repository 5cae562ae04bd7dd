"""A TCP socket's descriptor, read and written without Trio's stream in between.

Descriptors are reused by the operating system. Therefore the number is forgotten in the moment in which the socket
is closed, and every system call here takes the number that is known when it is made.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Self

import trio

from .connection import Buffer

__all__ = ["DIRECT_POSSIBLE", "DirectSocket", "read_now"]

DIRECT_POSSIBLE = sys.platform != "win32"
"""There sockets are not descriptors."""

IOVECS = 512
"""Buffers in one system call; Linux and macOS take 1,024. More are joined first."""


def read_now(fd: int, size: int) -> bytes | None:
    """What is there to be read, nothing at the end; None: nothing is there yet."""
    # A wait inside of `except` would keep the exception in memory for as long as the connection is idle.
    try:
        return os.read(fd, size)
    except BlockingIOError:
        return None


class DirectSocket:
    """Errors are those of the system calls; after `forget` that is EBADF, or `trio.ClosedResourceError`.

    Attributes:
        leftover: what the socket did not take of the last `write`.
    """

    __slots__ = ("_fd", "leftover")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.leftover: memoryview | None = None

    @classmethod
    def of(cls, stream: trio.abc.Stream) -> Self | None:
        """The socket of a stream; None: it is no plain one, or sockets are no descriptors here."""
        return cls(stream.socket.fileno()) if isinstance(stream, trio.SocketStream) and DIRECT_POSSIBLE else None

    def forget(self) -> None:
        """The socket is being closed."""
        self._fd = -1
        self.leftover = None

    async def read(self, size: int) -> bytes:
        """As a socket's `recv`, with fewer coroutines: every idle connection holds one of each."""
        await trio.lowlevel.checkpoint_if_cancelled()
        data = read_now(self._fd, size)
        if data is not None:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return data
        while data is None:
            await trio.lowlevel.wait_readable(self._fd)
            data = read_now(self._fd, size)
        return data

    def write(self, buffers: Sequence[Buffer]) -> bool:
        """Writes what the socket takes at once; the rest becomes the leftover. Returns whether there is none."""
        if len(buffers) > IOVECS:
            buffers = [b"".join(buffers)]
        try:
            written = os.writev(self._fd, buffers)
        except BlockingIOError:
            written = 0
        if written == sum(map(len, buffers)):
            return True
        # The pieces belong to the caller, who may change them from now on: hence the copy.
        self.leftover = memoryview(b"".join(buffers))[written:]
        return False

    def write_leftover(self) -> bool:
        """Writes what the socket takes of the leftover; returns whether nothing is left."""
        if self.leftover is None:
            return True
        try:
            written = os.write(self._fd, self.leftover)
        except BlockingIOError:
            return False
        self.leftover = self.leftover[written:] if written < len(self.leftover) else None
        return self.leftover is None

    async def wait_writable(self) -> None:
        """Waits until the socket takes more; only after a write that left something over."""
        await trio.lowlevel.wait_writable(self._fd)
