"""Answers and candidates that come before the connection that they belong to. Pure."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Final, TypeAlias

from ..messages import Answer, CandidateMessage

__all__ = ["EarlyMessages", "Key"]

Key: TypeAlias = tuple[str, str]
"""The other peer's id, and the connection's: ids of connections are chosen by strangers."""

_LIFETIME: Final = 30.0
_EACH: Final = 64
"""Of one connection; an honest peer has a dozen candidates."""


class EarlyMessages:
    """Keeps them for 30 s; where there is no room, those of the oldest connection go, counted.

    Args:
        capacity: messages in all.
    """

    def __init__(self, capacity: int, counts: Counter[str]) -> None:
        self._capacity: Final = capacity
        self._counts: Final = counts
        self._kept: Final[OrderedDict[Key, tuple[float, list[Answer | CandidateMessage]]]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def keep(self, key: Key, message: Answer | CandidateMessage, now: float) -> None:
        """Keeps one until `take`."""
        self._forget(now)
        _, messages = self._kept.setdefault(key, (now + _LIFETIME, []))
        if len(messages) >= _EACH:
            self._counts["early_messages_full"] += 1
            return
        messages.append(message)
        self._size += 1
        while self._size > self._capacity:
            self._counts["early_messages_full"] += self._drop_oldest()

    def take(self, key: Key, now: float) -> list[Answer | CandidateMessage]:
        """Those of one connection, in their order."""
        self._forget(now)
        _, messages = self._kept.pop(key, (0.0, []))
        self._size -= len(messages)
        return messages

    def _forget(self, now: float) -> None:
        while self._kept and next(iter(self._kept.values()))[0] <= now:
            self._counts["early_messages_expired"] += self._drop_oldest()

    def _drop_oldest(self) -> int:
        _, (_, messages) = self._kept.popitem(last=False)
        self._size -= len(messages)
        return len(messages)
