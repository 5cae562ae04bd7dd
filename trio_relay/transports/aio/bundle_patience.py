"""The end of the other side's candidates, told to ICE only when really none comes any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from .loop import Loop

__all__ = ["LateEnd"]


class LateEnd:
    """That there are no more may have been said of an offer that was given up since: more is waited for.

    In asyncio context. However often the end is told, there is one timer.

    Args:
        patience: seconds from when the end was told last.
        tell: callback; the time is over.
    """

    def __init__(self, loop: Loop, patience: float, tell: Callable[[], None]) -> None:
        self._loop: Final = loop
        self._patience: Final = patience
        self._tell: Final = tell
        self._told = 0
        self._timer: asyncio.TimerHandle | None = None

    async def note(self) -> None:
        """asyncio. The other side has told it."""
        self._told += 1
        if self._timer is None:
            self._begin()

    def stop(self) -> None:
        """At the end of the connection."""
        if self._timer is not None:
            self._timer.cancel()

    def _begin(self) -> None:
        self._timer = self._loop.aio.call_later(self._patience, self._on_time, self._told)

    def _on_time(self, told: int) -> None:
        """Callback."""
        self._timer = None
        if told == self._told:
            self._tell()
        else:
            self._begin()
