"""Add-ons of a room: something that is attached to it, uses it, and has events of its own."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Final

from ..node.events import Events, EventStream

if TYPE_CHECKING:
    from .room import Room

__all__ = ["Addon"]

_EVENTS: Final = 256


class Addon:
    """The base of add-ons. `Room.attach` calls `attach`, `Room.detach` and the end of the room `detach`.

    What an add-on does in the background it does in tasks of its own, for example in a nursery that it opens in its
    user's block.
    """

    def __init__(self) -> None:
        self._events: Final = Events[Any](_EVENTS)

    async def attach(self, room: Room) -> None:
        """It is attached to a room; an exception here leaves it unattached."""

    async def detach(self, room: Room) -> None:
        """It is detached."""

    def emit(self, event: Any) -> None:
        """Tells its subscribers something."""
        self._events.publish(event)

    def events(self) -> AbstractAsyncContextManager[EventStream[Any]]:
        """``async with addon.events() as events``: what it emits, and `EventsLost`."""
        return self._events.subscribe()
