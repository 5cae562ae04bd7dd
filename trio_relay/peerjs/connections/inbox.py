"""Received values that wait for the application."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

import trio

from ...node.turns import Turns

__all__ = ["Inbox"]


class Inbox:
    """A queue that its writer asks for room, since what comes must not be dropped; several tasks may read.

    Args:
        most: values.
        most_bytes: of the messages that they came in.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most: Final = most
        self._most_bytes: Final = most_bytes
        self._values: Final[deque[tuple[Any, int]]] = deque()
        self._bytes = 0
        self._ended = self._closed = False
        self._readers: Final = trio.lowlevel.ParkingLot()
        self._writer: Final = trio.lowlevel.ParkingLot()
        self._turns: Final = Turns()

    def __len__(self) -> int:
        return len(self._values)

    @property
    def bytes(self) -> int:
        """Of what waits."""
        return self._bytes

    @property
    def full(self) -> bool:
        """Whether the writer should wait."""
        return len(self._values) >= self._most or self._bytes >= self._most_bytes

    def put(self, value: Any, size: int) -> None:
        """Adds a value; whether there is room for it, `wait_room` has said before. After `close` it is dropped."""
        if self._closed:
            return
        self._values.append((value, size))
        self._bytes += size
        self._readers.unpark()

    async def wait_room(self) -> None:
        """Returns when it is not full; at once if it is so now, without a checkpoint."""
        while self.full and not self._ended:
            await self._writer.park()

    def end(self) -> None:
        """There are no more values; those that wait can still be taken."""
        self._ended = True
        self._readers.unpark_all()
        self._writer.unpark_all()

    def close(self) -> None:
        """Nobody will take a value any more: those that wait and those that come are dropped."""
        self._closed = True
        self._values.clear()
        self._bytes = 0
        self.end()

    async def get(self) -> Any:
        """The next value.

        Raises:
            trio.EndOfChannel: there are no more.
        """
        await self._turns.give_way()
        while not self._values:
            if self._ended:
                raise trio.EndOfChannel
            await self._readers.park()
        value, size = self._values.popleft()
        self._bytes -= size
        if not self.full:
            self._writer.unpark_all()
        return value
