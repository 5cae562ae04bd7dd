"""Whose blobs are in the store, so that one client can not fill it for everybody. Pure.

A blob belongs to whoever put it last. What is remembered is as bounded as the store, and forgotten when a blob's time
is over; of a store with a file nothing is known of the blobs from before its start.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from typing import Final

__all__ = ["BlobShares"]


class BlobShares:
    """How many blobs each owner has.

    Args:
        most: blobs of one owner.
        capacity: blobs that are remembered; the oldest go first.
        lifetime: seconds after which a blob is gone; None: never.
    """

    def __init__(self, most: int, capacity: int, lifetime: float | None) -> None:
        self._most: Final = most
        self._capacity: Final = capacity
        self._lifetime: Final = math.inf if lifetime is None else lifetime
        self._owners: Final[OrderedDict[str, tuple[str, float]]] = OrderedDict()  # key -> owner, end; oldest put first
        self._counts: Final[Counter[str]] = Counter()

    def allows(self, key: str, owner: str, now: float) -> bool:
        """Whether an owner may put a blob: one of its own again, or one more."""
        while self._owners:
            oldest, (_, end) = next(iter(self._owners.items()))
            if end > now:
                break
            self.forget(oldest)
        return self._counts[owner] < self._most or self._owners.get(key, ("", 0.0))[0] == owner

    def put(self, key: str, owner: str, now: float) -> None:
        """The owner has put a blob."""
        self.forget(key)
        self._owners[key] = owner, now + self._lifetime
        self._counts[owner] += 1
        if len(self._owners) > self._capacity:
            self.forget(next(iter(self._owners)))

    def forget(self, key: str) -> None:
        """The blob is gone; nothing if it is unknown."""
        owner = self._owners.pop(key, None)
        if owner is not None:
            self._counts[owner[0]] -= 1
            if not self._counts[owner[0]]:
                del self._counts[owner[0]]

    def __len__(self) -> int:
        """Blobs that are remembered."""
        return len(self._owners)
