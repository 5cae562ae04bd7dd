"""Message ids that were delivered, so that a copy or a retry is delivered once; pure."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

__all__ = ["SeenMessages"]


class SeenMessages:
    """(sender, message id) pairs for a time, bounded in all and per sender.

    A sender that exceeds its share forgets its own oldest; when the whole is full, the sender that was silent
    longest is forgotten. Both are counted in `evicted`.
    """

    __slots__ = ("_capacity", "_lifetime", "_per_sender", "_senders", "_total", "evicted")

    def __init__(self, capacity: int, per_sender: int, lifetime: float) -> None:
        self._capacity: Final = capacity
        self._per_sender: Final = per_sender
        self._lifetime: Final = lifetime
        self._senders: OrderedDict[bytes, OrderedDict[bytes, float]] = OrderedDict()
        self._total = 0
        self.evicted = 0

    def __len__(self) -> int:
        return self._total

    def seen(self, sender: bytes, message_id: bytes, now: float) -> bool:
        """Whether the pair was added and is not forgotten."""
        ids = self._senders.get(sender)
        return ids is not None and ids.get(message_id, 0.0) > now

    def add(self, sender: bytes, message_id: bytes, now: float) -> None:
        """Remembers the pair."""
        ids = self._senders.get(sender)
        if ids is None:
            ids = self._senders[sender] = OrderedDict()
        else:
            self._senders.move_to_end(sender)
        if message_id not in ids:
            self._total += 1
        ids[message_id] = now + self._lifetime
        ids.move_to_end(message_id)
        while len(ids) > self._per_sender or next(iter(ids.values())) <= now:
            self._forget_oldest(ids, now)
        while self._total > self._capacity:
            silent, others = next(iter(self._senders.items()))
            if others is ids:
                self._forget_oldest(ids, now)
            else:
                self._forget_sender(silent, now)

    def _forget_oldest(self, ids: OrderedDict[bytes, float], now: float) -> None:
        _, until = ids.popitem(last=False)
        self._total -= 1
        self.evicted += until > now

    def _forget_sender(self, sender: bytes, now: float) -> None:
        ids = self._senders.pop(sender)
        self._total -= len(ids)
        self.evicted += sum(until > now for until in ids.values())

    def expire(self, now: float) -> None:
        """Forgets senders whose newest message is old; they are in that order, so the first younger one ends it."""
        while self._senders:
            sender, ids = next(iter(self._senders.items()))
            if next(reversed(ids.values())) > now:
                return
            self._forget_sender(sender, now)
