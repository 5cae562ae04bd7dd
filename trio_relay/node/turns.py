"""When a call that need not wait lets other tasks have their turn."""

from __future__ import annotations

from typing import Final

import trio

__all__ = ["Turns"]

_CALLS: Final = 32
_SECONDS: Final = 0.001


class Turns:
    """Checkpoints for a call that is made for every message.

    A turn of Trio's loop costs as much as a message. So a call is always a point of cancellation, but other tasks have
    their turn only if the last one is a millisecond or 32 calls ago.
    """

    __slots__ = ("_calls", "_until")

    def __init__(self) -> None:
        self._calls = 0
        self._until = -float("inf")

    async def give_way(self) -> None:
        """A checkpoint of that kind."""
        self._calls += 1
        if self._calls < _CALLS and trio.current_time() < self._until:
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            await trio.lowlevel.checkpoint()
            self._calls = 0
            self._until = trio.current_time() + _SECONDS
