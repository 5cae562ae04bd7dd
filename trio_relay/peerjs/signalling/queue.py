"""Frames that wait for the broker. Pure."""

from __future__ import annotations

from collections import Counter, deque
from typing import Final

__all__ = ["MAX_BYTES", "SignalQueue"]

_MAX_FRAMES: Final = 256
MAX_BYTES: Final = 1024 * 1024
"""Of all frames that wait; so one that is longer never can."""
_BATCH_BYTES: Final = 64 * 1024


class SignalQueue:
    """In order, bounded; a frame that is older than `keep` seconds goes, counted: its receiver waits no more."""

    def __init__(self, keep: float, counts: Counter[str]) -> None:
        self._keep: Final = keep
        self._counts: Final = counts
        self._frames: Final[deque[tuple[float, bytes]]] = deque()
        self._size = 0

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, frame: bytes, now: float) -> bool:
        """Appends one; returns False if there is no room."""
        self.expire(now)
        if len(self._frames) >= _MAX_FRAMES or self._size + len(frame) > MAX_BYTES:
            self._counts["signals_full"] += 1
            return False
        self._frames.append((now + self._keep, frame))
        self._size += len(frame)
        return True

    def batch(self, now: float) -> list[bytes]:
        """The next few, which stay; none: an empty list."""
        self.expire(now)
        batch: list[bytes] = []
        size = 0
        for _, frame in self._frames:
            size += len(frame)
            if batch and size > _BATCH_BYTES:
                break
            batch.append(frame)
        return batch

    def remove(self, number: int) -> None:
        """Removes that many: those that `batch` returned, if nothing was called in between."""
        for _ in range(number):
            self._size -= len(self._frames.popleft()[1])

    def expire(self, now: float) -> None:
        """Drops what waited too long."""
        while self._frames and self._frames[0][0] <= now:
            self._size -= len(self._frames.popleft()[1])
            self._counts["signals_expired"] += 1

    def clear(self) -> None:
        """Drops all, counted."""
        if self._frames:
            self._counts["signals_unsent"] += len(self._frames)
        self._frames.clear()
        self._size = 0
