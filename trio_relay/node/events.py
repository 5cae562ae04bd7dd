"""Events for the application: each subscriber has its own bounded buffer and is told what it missed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Generic, TypeVar

import trio

from .values import EventsLost

__all__ = ["EventStream", "Events"]

E = TypeVar("E")


class EventStream(Generic[E]):
    """An async iterator over events of some kind, and `EventsLost`; it ends when there are no more of them."""

    def __init__(self, capacity: int) -> None:
        # One place more, so that the loss can always be told, also at the end.
        self._send, self._receive = trio.open_memory_channel[E | EventsLost](capacity + 1)
        self._capacity: Final = capacity
        self._lost = 0

    def put(self, event: E) -> None:
        """Adds an event, or counts it as lost."""
        used = self._send.statistics().current_buffer_used
        if used + bool(self._lost) >= self._capacity:
            self._lost += 1
            return
        self._tell_loss()
        self._send.send_nowait(event)

    def _tell_loss(self) -> None:
        if self._lost:
            self._send.send_nowait(EventsLost(self._lost))
            self._lost = 0

    def close(self) -> None:
        """No more events; those in the buffer can still be read."""
        self._tell_loss()
        self._send.close()

    def __aiter__(self) -> EventStream[E]:
        return self

    async def __anext__(self) -> E | EventsLost:
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None


class Events(Generic[E]):
    """The subscribers of one node, or of one client."""

    def __init__(self, capacity: int) -> None:
        self._capacity: Final = capacity
        self._streams: set[EventStream[E]] = set()
        self._closed = False

    def publish(self, event: E) -> None:
        """Tells every subscriber."""
        for stream in self._streams:
            stream.put(event)

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[EventStream[E]]:
        """A subscription that lasts as long as the block."""
        stream = EventStream[E](self._capacity)
        if self._closed:
            stream.close()
        else:
            self._streams.add(stream)
        try:
            yield stream
        finally:
            if stream in self._streams:
                self._streams.discard(stream)
                stream.close()

    def close(self) -> None:
        """Ends all subscriptions; there are no events any more."""
        self._closed = True
        while self._streams:
            self._streams.pop().close()
