"""A conversation with a broker over a stream of bytes: what NATS and MQTT have in common.

Rules of this file:

1. One task reads and one writes; who has something to say puts it into a bounded queue. So a call that is cancelled
   never leaves half a packet in the stream.
2. A full queue makes those who publish wait. Answers to the broker do not wait: a broker that asks and does not read
   is given up.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import trio

from ...exceptions import DriverError, RemoteProtocolError
from .byte_stream import ByteStream

__all__ = ["ByteSession"]

_MAX_QUEUED: Final = 1024 * 1024
"""Bytes that wait to be written; one packet always fits an empty queue."""
_MAX_ANSWERS: Final = 2 * _MAX_QUEUED
_FAREWELL: Final = 1.0
"""Seconds in which what waits is written at the end, and the goodbye."""


class ByteSession(ABC):
    """One connection that is past its greeting.

    Args:
        stream: belongs to the session from now on.
        keepalive: seconds between pings.
        timeout: seconds that the broker has to say anything after a ping.
    """

    def __init__(self, stream: ByteStream, *, keepalive: float, timeout: float) -> None:
        self._stream: Final = stream
        self._keepalive = keepalive
        self._timeout: Final = timeout
        self._queue: Final[deque[bytes]] = deque()
        self._queued = 0
        self._more: Final = trio.lowlevel.ParkingLot()
        self._less: Final = trio.lowlevel.ParkingLot()
        self._heard = trio.Event()
        self._failure: Exception | None = None
        self._ended = False
        self._whole = False  # whether what was written ends with a packet; not before the greeting is over
        self._writer = trio.CancelScope()

    @abstractmethod
    def received(self, data: bytes) -> None:
        """Bytes have come.

        Raises:
            DriverError, RemoteProtocolError: that is the end.
        """

    @abstractmethod
    def ping(self) -> bytes:
        """Something that the broker has to answer."""

    @abstractmethod
    def goodbye(self) -> bytes:
        """The last words; none: there are none in this protocol."""

    async def run(self) -> None:
        """Reads, writes and pings until the connection ends. See `BrokerSession`."""
        self._whole = True
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hurry)
                for part in (self._read, self._write, self._ping):
                    nursery.start_soon(self._take, part, nursery.cancel_scope)
        finally:
            self._ended = True
            self._less.unpark_all()
        if self._failure is not None:
            raise self._failure

    async def _take(self, part: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
        """The first part that ends says why; the others often fail for that reason, too."""
        try:
            await part()
        except (DriverError, RemoteProtocolError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            if not scope.cancel_called:
                self._failure = error
        scope.cancel()

    async def _read(self) -> None:
        while data := await self._stream.receive():
            self._heard.set()
            self.received(data)

    async def _write(self) -> None:
        while True:
            while not self._queue:
                await self._more.park()
            await trio.lowlevel.checkpoint_if_cancelled()
            with trio.CancelScope(shield=True) as self._writer:  # see `_hurry`
                await self._write_queue()

    async def _hurry(self) -> None:
        """When the others are cancelled, what is being written may come to its end, but soon."""
        try:
            await trio.sleep_forever()
        finally:
            self._writer.deadline = trio.current_time() + _FAREWELL if self._failure is None else -float("inf")

    async def _write_queue(self) -> None:
        data = b"".join(self._queue)
        self._queue.clear()
        self._whole = False
        await self._stream.send(data)
        self._whole = True
        self._queued -= len(data)
        self._less.unpark_all()

    async def _ping(self) -> None:
        while True:
            await trio.sleep(self._keepalive)
            self._heard = trio.Event()
            self.answer(self.ping())
            with trio.move_on_after(self._timeout):
                await self._heard.wait()
                continue
            raise DriverError(f"the broker has said nothing for {self._timeout:g} s after it was asked")

    async def write(self, data: bytes) -> None:
        """Puts bytes into the queue, once there is room.

        Raises:
            trio.BrokenResourceError: the connection has ended.
        """
        await trio.lowlevel.checkpoint()
        while not self._ended and self._queued and self._queued + len(data) > _MAX_QUEUED:
            await self._less.park()
        if self._ended:
            raise trio.BrokenResourceError("it has ended")
        self._put(data)

    def answer(self, data: bytes) -> None:
        """Puts what the broker asked for into the queue, at once.

        Raises:
            RemoteProtocolError: the broker asks, but does not read.
        """
        if self._queued + len(data) > _MAX_ANSWERS:
            raise RemoteProtocolError("expected the broker to read what it is sent")
        self._put(data)

    def _put(self, data: bytes) -> None:
        self._queue.append(data)
        self._queued += len(data)
        self._more.unpark_all()

    async def aclose(self) -> None:
        """Writes what waits, says goodbye, and closes the stream, within a few seconds, also when it is cancelled."""
        self._ended = True
        if self._failure is None and self._whole:
            broken = RemoteProtocolError, trio.BrokenResourceError, trio.ClosedResourceError
            with trio.move_on_after(_FAREWELL, shield=True), suppress(*broken):
                if goodbye := self.goodbye():
                    self._put(goodbye)
                if self._queue:
                    await self._write_queue()
        await self._stream.aclose()
