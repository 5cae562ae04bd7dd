"""How long a client waits between attempts to connect. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

__all__ = ["Backoff"]


class Backoff:
    """How long to wait before the next attempt: random up to a ceiling that doubles each time ("full jitter").

    Args:
        maximum: seconds, the highest ceiling.
        random: gives numbers from 0 up to 1.
    """

    FIRST: Final = 1.0
    """Seconds, the first ceiling."""

    def __init__(self, maximum: float, random: Callable[[], float]) -> None:
        self._maximum: Final = maximum
        self._random: Final = random
        self._ceiling = min(self.FIRST, maximum)

    def next(self) -> float:
        """Seconds to wait now."""
        delay = self._random() * self._ceiling
        self._ceiling = min(2 * self._ceiling, self._maximum)
        return delay

    def reset(self) -> None:
        """A connection was stable: the next failure is a first one again."""
        self._ceiling = min(self.FIRST, self._maximum)
