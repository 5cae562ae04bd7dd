"""What waits for one client until somebody writes it: bounded, and a client that lets too much wait is let go."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import trio

__all__ = ["Outlet", "OutletRules"]

T = TypeVar("T", str, bytes)


@dataclass(slots=True)
class OutletRules:
    """What all outlets of a hub have in common; may be changed, for all of them at once.

    Attributes:
        messages: that may wait.
        bytes: likewise.
        counts: where drops, and clients that were too slow, are counted.
    """

    messages: int
    bytes: int
    counts: Counter[str]


class Outlet(Generic[T]):
    """One task at a time waits and takes; anybody puts.

    Args:
        overflow: called once, when more would wait than may; then the outlet is closed, and nothing waits any more.

    Attributes:
        closed: nothing more is taken in.
    """

    __slots__ = ("_event", "_items", "_overflow", "_rules", "closed", "size")

    def __init__(self, rules: OutletRules, overflow: Callable[[], None]) -> None:
        self._rules: Final = rules
        self._overflow: Final = overflow
        self._items: Final[deque[T]] = deque()
        self._event: trio.Event | None = None
        self.size = 0
        self.closed = False

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> bool:
        """Whether the item waits now."""
        if self.closed:
            self._rules.counts["client_closing"] += 1
            return False
        if len(self._items) >= self._rules.messages or self.size + len(item) > self._rules.bytes:
            self._rules.counts["slow_disconnected"] += 1
            self._rules.counts["slow_dropped"] += len(self._items) + 1
            self._items.clear()
            self.size = 0
            self.close()
            self._overflow()
            return False
        self._items.append(item)
        self.size += len(item)
        self.wake()
        return True

    def take(self, most: int) -> list[T]:
        """What waits, up to about so many bytes."""
        taken: list[T] = []
        size = 0
        while self._items and (not taken or size + len(self._items[0]) <= most):
            taken.append(item := self._items.popleft())
            size += len(item)
        self.size -= size
        return taken

    async def wait(self) -> None:
        """Returns when something waits, the outlet is closed, or somebody calls `wake`."""
        if self._items or self.closed:
            await trio.lowlevel.checkpoint()
            return
        self._event = trio.Event()
        await self._event.wait()

    def wake(self) -> None:
        """Lets the waiting task look again."""
        if self._event is not None:
            self._event.set()
            self._event = None

    def close(self) -> None:
        """Takes nothing more in; what waits can still be taken."""
        self.closed = True
        self.wake()
