"""A world without networks: rooms over one memory driver, and WebRTC that is no WebRTC."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import trio

from tests.transports.fake_bundle import FakeBundles
from trio_relay.node.events import EventStream
from trio_relay.node.values import EventsLost
from trio_relay.peerix.drivers.memory import MemoryDriver
from trio_relay.peerix.opening import open_room
from trio_relay.peerix.room import Room

__all__ = ["World", "next_event"]

E = TypeVar("E")


class World:
    """Everything that rooms of a test share."""

    def __init__(self, *, delay: float = 0.0) -> None:
        self.bundles: Final = FakeBundles()
        self.driver: Final = MemoryDriver(delay=delay)

    @asynccontextmanager
    async def room(self, id: str = "room", **options: Any) -> AsyncIterator[Room]:
        """A room over this world's driver and bundles."""
        options = {"driver": self.driver, "factory": self.bundles.factory, **options}
        async with open_room(id, **options) as room:
            yield room


async def next_event(events: EventStream[Any], kind: type[E], wanted: Callable[[E], bool] = lambda event: True) -> E:
    """The next event of a kind; fails where events were lost, or after a minute."""
    with trio.fail_after(60):
        async for event in events:
            assert not isinstance(event, EventsLost)
            if isinstance(event, kind) and wanted(event):
                return event
    raise AssertionError("the events have ended")
