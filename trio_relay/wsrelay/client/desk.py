"""What a client's connections share with the application: both queues, watches, events, and the state it is in."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from typing import Final

import trio

from ...node.events import Events
from .core import RelayMessage
from .events import ClientEvent
from .watches import Watches

__all__ = ["Desk", "Inbox", "Outbox", "Signal"]

_BATCH: Final = 64 * 1024
"""Bytes given to the socket at once, if they are more than one message."""


class Signal:
    """Wakes whoever waits; costs nothing while nobody does."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event: trio.Event | None = None

    def set(self) -> None:
        """Wakes all that wait now."""
        if self._event is not None:
            self._event.set()
            self._event = None

    async def wait(self) -> None:
        """Returns after the next `set`."""
        if self._event is None:
            self._event = trio.Event()
        await self._event.wait()


class Outbox:
    """Messages that wait for the connection; a message leaves the queue when the socket has taken all of it.

    Attributes:
        work: set when a message came.
        room: set when messages left.
        taken: how many left so far.
    """

    def __init__(self, messages: int, size: int) -> None:
        self._messages: Final = messages
        self._size: Final = size
        self._frames: Final = deque[bytes]()
        self.bytes = 0
        self.taken = 0
        self.work: Final = Signal()
        self.room: Final = Signal()

    def __len__(self) -> int:
        return len(self._frames)

    def has_room(self, size: int) -> bool:
        """Whether a frame of so many bytes can be put."""
        return len(self._frames) < self._messages and self.bytes + size <= self._size

    def put(self, frame: bytes) -> None:
        """Adds a frame; whoever calls has asked `has_room`."""
        self._frames.append(frame)
        self.bytes += len(frame)
        self.work.set()

    def batch(self) -> list[bytes]:
        """The oldest frames, as many as are written at once; they stay in the queue until `remove`."""
        batch: list[bytes] = []
        size = 0
        for frame in self._frames:
            size += len(frame)
            if batch and size > _BATCH:
                break
            batch.append(frame)
        return batch

    def remove(self, frames: int) -> None:
        """The oldest ones are gone."""
        for _ in range(frames):
            self.bytes -= len(self._frames.popleft())
        self.taken += frames
        self.room.set()


class Inbox:
    """Messages for the application, bounded by number and by bytes; one that is larger than that comes alone.

    Attributes:
        room: set when a message was taken, when the inbox is closed, and when nobody should wait for room any more.
    """

    def __init__(self, messages: int, size: int) -> None:
        self._messages: Final = messages
        self._size: Final = size
        self._in, self._out = trio.open_memory_channel[tuple[RelayMessage, int]](math.inf)
        self._held = 0
        self._closed = False
        self.room: Final = Signal()
        self.bytes = 0

    def __len__(self) -> int:
        return self._held

    @property
    def exceeded(self) -> bool:
        """Whether more is in it than its bounds."""
        return self._held > self._messages or (self._held > 1 and self.bytes > self._size)

    def put_nowait(self, message: RelayMessage, size: int, *, beyond: bool = False) -> bool:
        """Adds a message, or returns False if there is no room, which does not matter with `beyond`.

        Raises:
            trio.ClosedResourceError: it is closed.
        """
        if self._closed:
            raise trio.ClosedResourceError("the client was closed")
        if not beyond and (self._held >= self._messages or (self.bytes and self.bytes + size > self._size)):
            return False
        self._in.send_nowait((message, size))
        self._held += 1
        self.bytes += size
        return True

    def get_nowait(self) -> RelayMessage | None:
        """The next message, if there is one.

        Raises:
            trio.EndOfChannel: it is closed and empty.
        """
        try:
            return self._taken(*self._out.receive_nowait())
        except trio.WouldBlock:
            return None

    async def get(self) -> RelayMessage:
        """Waits for the next message; raises as `get_nowait`."""
        return self._taken(*await self._out.receive())

    def _taken(self, message: RelayMessage, size: int) -> RelayMessage:
        self._held -= 1
        self.bytes -= size
        self.room.set()
        return message

    def close(self) -> None:
        """No more messages; those that are there can still be taken."""
        self._closed = True
        self._in.close()
        self.room.set()


class Desk:
    """The meeting place of the application and of the task that keeps the client connected.

    Attributes:
        address: the client's own.
        keeps: whether messages wait in the outbox while there is no connection.
        connected: whether the server has taken the client in.
        changed: set whenever `connected` or `over` changes.
        over: what the application is told once the client is done: makes a new error each time.
    """

    def __init__(self, address: str, outbox: Outbox, inbox: Inbox, events: Events[ClientEvent], *, keeps: bool) -> None:
        self.address: Final = address
        self.keeps: Final = keeps
        self.outbox: Final = outbox
        self.inbox: Final = inbox
        self.events: Final = events
        self.watches: Final = Watches(address)
        self.counts: Final = Counter[str]()
        self.connected = False
        self.changed: Final = Signal()
        self.over: Callable[[], Exception] | None = None
        self._closed = False

    def check_open(self) -> None:
        """Raises why the client is done, if it is."""
        if self.over is not None:
            raise self.over()

    def check_ending(self) -> None:
        """Raises why the client is done, unless the application closed it."""
        if not self._closed:
            self.check_open()

    def check_sendable(self) -> None:
        """Raises why nothing can be sent, not even later."""
        self.check_open()
        if not (self.connected or self.keeps):
            raise trio.BrokenResourceError("not connected to the relay server now")

    def connect(self) -> None:
        """The server took us in; too late for a client that is done."""
        self.connected = self.over is None
        self._wake()

    def part(self) -> None:
        """The connection is about to end: nobody starts to rely on it."""
        self.connected = False

    def disconnect(self) -> None:
        """The connection ended."""
        self.connected = False
        self.watches.forget()
        if not self.keeps:
            self._drop("unsent_disconnected")
        self._wake()

    def close(self) -> None:
        """The application closes the client."""
        self._closed = self.over is None
        self.finish(partial(trio.ClosedResourceError, "the client was closed"))

    def finish(self, over: Callable[[], Exception]) -> None:
        """The client is done; the first reason counts."""
        if self.over is not None:
            return
        self.over = over
        self.connected = False
        self.watches.forget()
        self._drop("unsent_at_end")
        self.inbox.close()
        self.events.close()
        self._wake()

    def _drop(self, reason: str) -> None:
        if self.outbox:
            self.counts[reason] += len(self.outbox)
            self.outbox.remove(len(self.outbox))

    def _wake(self) -> None:
        self.changed.set()
        self.outbox.room.set()
