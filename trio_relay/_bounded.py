"""A map with a capacity and an expiry; the oldest entry makes room. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Generic, TypeVar

__all__ = ["BoundedMap", "TokenBucket"]

K = TypeVar("K")
V = TypeVar("V")


class BoundedMap(Generic[K, V]):
    """Insertion-ordered; setting a key again renews it. All times are seconds of one clock, given as `now`.

    Attributes:
        evicted: how many live entries were pushed out by newer ones.
    """

    __slots__ = ("_capacity", "_entries", "_lifetime", "evicted")

    def __init__(self, capacity: int, lifetime: float) -> None:
        self._capacity = capacity
        self._lifetime = lifetime
        self._entries: OrderedDict[K, tuple[float, V]] = OrderedDict()
        self.evicted = 0

    def get(self, key: K, now: float) -> V | None:
        """The value, or None when it is absent or expired."""
        entry = self._entries.get(key)
        return entry[1] if entry is not None and entry[0] > now else None

    def set(self, key: K, value: V, now: float) -> None:
        """Stores the value for the map's lifetime; may push out the oldest entry."""
        entries = self._entries
        entries.pop(key, None)
        entries[key] = (now + self._lifetime, value)
        if len(entries) > self._capacity:
            self.expire(now)
            if len(entries) > self._capacity:
                entries.popitem(last=False)
                self.evicted += 1

    def pop(self, key: K) -> V | None:
        """Removes and returns, None when absent."""
        entry = self._entries.pop(key, None)
        return None if entry is None else entry[1]

    def expire(self, now: float) -> None:
        """Forgets what is expired."""
        entries = self._entries
        while entries:
            key = next(iter(entries))
            if entries[key][0] > now:
                return
            del entries[key]

    def items(self, now: float) -> Iterator[tuple[K, V]]:
        """The live entries, oldest first."""
        return ((key, value) for key, (until, value) in self._entries.items() if until > now)

    def __len__(self) -> int:
        return len(self._entries)


class TokenBucket:
    """Allows `rate` events a second on average and `burst` at once."""

    __slots__ = ("_burst", "_level", "_rate", "_then")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self._burst, self._level, self._then = rate, burst, burst, now

    def level(self, now: float) -> float:
        """How much is allowed now."""
        self._level = min(self._burst, self._level + (now - self._then) * self._rate)
        self._then = now
        return self._level

    def take(self, now: float, amount: float = 1.0) -> bool:
        """Whether `amount` more is allowed now; takes it if so."""
        self._level = min(self._burst, self._level + (now - self._then) * self._rate)
        self._then = now
        if self._level < amount:
            return False
        self._level -= amount
        return True
