"""Unix time beside Trio's clock, which stands still while the machine sleeps."""

from __future__ import annotations

import time
from typing import Final

import trio

__all__ = ["WallClock"]

_NOTICED: Final = 1.0
"""Seconds; less is how clocks are kept right."""


class WallClock:
    """How far Unix time is ahead of Trio's clock.

    A machine that slept, or whose clock was set, has another Unix time than was to be expected. Signed records and
    publications are judged by it, so the node must not go on with the old one.

    Attributes:
        offset: in seconds, as it was at the last `look`.
    """

    def __init__(self) -> None:
        self._first: Final = time.time() - trio.current_time()
        self._apart: Final = time.time() - time.monotonic()
        self.offset = self._first

    def look(self) -> bool:
        """Looks at the machine's clocks; whether `offset` is another one now."""
        offset = self._first + (time.time() - time.monotonic()) - self._apart
        if abs(offset - self.offset) < _NOTICED:
            return False
        self.offset = offset
        return True
