"""Sessions that we accepted and whose opener has not proven itself yet: bounded, no link can fill the table; pure."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Final

from ...wire.ids import NodeId
from .agreement import HalfOpen

__all__ = ["HALF_OPEN_FOR", "HalfOpenTable"]

HALF_OPEN_FOR: Final = 10.0
_REPEAT_EVERY: Final = 0.25


class HalfOpenTable:
    """By our index, in the order of their end. When it is full, the oldest of the link that has most makes room."""

    def __init__(self, capacity: int, counts: Counter[str]) -> None:
        self._capacity: Final = capacity
        self._counts: Final = counts
        self._entries: OrderedDict[bytes, tuple[HalfOpen, float, NodeId]] = OrderedDict()
        self._by_opener: dict[tuple[NodeId, bytes], HalfOpen] = {}
        self._repeat_at: dict[bytes, float] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, half: HalfOpen, via: NodeId, now: float) -> None:
        """Keeps one; `via` is the neighbour that its OPEN came from."""
        if len(self._entries) >= self._capacity:
            self._counts["half_open_full"] += 1
            [(most, _)] = Counter(v for _, _, v in self._entries.values()).most_common(1)
            self.pop(next(index for index, (_, _, v) in self._entries.items() if v == most))
        self._entries[half.index] = half, now + HALF_OPEN_FOR, via
        self._by_opener[half.opener, half.opener_index] = half

    def get(self, index: bytes) -> HalfOpen | None:
        """The one that we gave that index."""
        entry = self._entries.get(index)
        return None if entry is None else entry[0]

    def of(self, opener: NodeId, opener_index: bytes) -> HalfOpen | None:
        """The one that an opener gave that index."""
        return self._by_opener.get((opener, opener_index))

    def may_repeat(self, half: HalfOpen, now: float) -> bool:
        """Whether its answer may be sent again; not too often, because an answer is larger than its question."""
        if now < self._repeat_at.get(half.index, half.made + _REPEAT_EVERY):
            return False
        self._repeat_at[half.index] = now + _REPEAT_EVERY
        return True

    def pop(self, index: bytes) -> None:
        """Forgets one."""
        half, _, _ = self._entries.pop(index)
        self._repeat_at.pop(index, None)
        if self._by_opener.get((half.opener, half.opener_index)) is half:
            del self._by_opener[half.opener, half.opener_index]

    def expire(self, now: float) -> None:
        """Forgets those whose opener was silent too long, counted."""
        while self._entries:
            index, (_, until, _) = next(iter(self._entries.items()))
            if until > now:
                return
            self.pop(index)
            self._counts["half_open_expired"] += 1

    def next_deadline(self) -> float:
        """When `expire` has something to do."""
        return next(iter(self._entries.values()))[1] if self._entries else float("inf")
