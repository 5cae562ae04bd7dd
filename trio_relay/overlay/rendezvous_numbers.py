"""Which publications came before: by publisher and number, for as long as a repeated one could pass for new; pure."""

from __future__ import annotations

import heapq
from typing import Final

from .._bounded import BoundedMap
from ..wire.ids import NodeId
from ..wire.rendezvous import Publication

__all__ = ["MAX_AGE", "Numbers", "is_timely"]

MAX_AGE: Final = 300.0
"""Seconds by which the number of a publication may differ from our clock."""
_REMEMBERED: Final = 128
"""Numbers of one publisher under one key; of more than that, the smallest count as known."""
_MICRO: Final = 1_000_000


def is_timely(publication: Publication, wall: float) -> bool:
    """Whether its number, a time, is near enough to the present."""
    return abs(publication.number / _MICRO - wall) <= MAX_AGE


class _Window:
    """Numbers of one publisher under one key."""

    __slots__ = ("floor", "heap", "known")

    def __init__(self) -> None:
        self.floor = -1
        self.heap: list[int] = []
        self.known: set[int] = set()

    def has(self, number: int) -> bool:
        return number <= self.floor or number in self.known

    def add(self, number: int) -> None:
        heapq.heappush(self.heap, number)
        self.known.add(number)
        if len(self.heap) > _REMEMBERED:
            self.floor = heapq.heappop(self.heap)
            self.known.discard(self.floor)


class Numbers:
    """Windows by key and publisher.

    A window is kept until none of its numbers is timely any more. If there are more than `capacity`, the one that was
    written to longest ago goes, and what its publisher published in the last minutes would be taken again.
    """

    def __init__(self, capacity: int) -> None:
        self._windows: Final = BoundedMap[tuple[NodeId, bytes], _Window](capacity, 2 * MAX_AGE)

    def __len__(self) -> int:
        return len(self._windows)

    def seen(self, publication: Publication, now: float) -> bool:
        """Whether it came before, or is older than those that are remembered."""
        window = self._windows.get((publication.key, publication.public_key), now)
        return window is not None and window.has(publication.number)

    def add(self, publication: Publication, now: float) -> None:
        """It has come now."""
        name = publication.key, publication.public_key
        window = self._windows.get(name, now) or _Window()
        window.add(publication.number)
        self._windows.set(name, window, now)

    def expire(self, now: float) -> None:
        """Forgets what can not be repeated any more."""
        self._windows.expire(now)
