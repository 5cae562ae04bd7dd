"""Telling the ids that originals know who we are, so that our nodes find each other through originals; pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from ..._bounded import BoundedMap
from ...wire.ids import NodeId

__all__ = ["Introductions"]

_EVERY: Final = 0.25
_QUEUE: Final = 64
_KNOWN: Final = 1024
_KNOWN_FOR: Final = 600.0


class Introductions:
    """Each id is told once in ten minutes, four ids a second."""

    def __init__(self) -> None:
        self._queue: Final = deque[NodeId](maxlen=_QUEUE)
        self._known: Final = BoundedMap[NodeId, bool](_KNOWN, _KNOWN_FOR)
        self._next_at = float("-inf")

    def __len__(self) -> int:
        return len(self._known)

    def add(self, node_ids: Iterable[NodeId], now: float) -> None:
        """Notes ids to be told; those that were already are left out."""
        for node_id in node_ids:
            if self._known.get(node_id, now) is None:
                self._known.set(node_id, True, now)
                self._queue.append(node_id)
        self._next_at = max(self._next_at, now)

    def take(self, now: float) -> NodeId | None:
        """The next id to be told, if its time has come."""
        if not self._queue or self._next_at > now:
            return None
        self._next_at = now + _EVERY
        return self._queue.popleft()

    def expire(self, now: float) -> None:
        """Forgets whom it told long ago."""
        self._known.expire(now)

    def next_deadline(self) -> float:
        """When `take` has something."""
        return self._next_at if self._queue else float("inf")
