"""A broker inside the program, for rooms of one Trio run."""

from __future__ import annotations

import heapq
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Final

import trio

from ...exceptions import DriverError
from ...node.services import open_services
from .driver import Driver

__all__ = ["MemoryDriver", "default_memory_driver"]

_MAX_WAITING: Final = 4096
"""Packets on their way."""


class MemoryDriver(Driver):
    """A broker and its driver in one: whoever holds the same instance can hear each other.

    Any number of rooms may use it at the same time, whether or not it is opened around them. It carries packets as
    long as somebody has it open; they arrive in the order in which they were published, and also come to the room that
    published them.

    Args:
        delay: seconds on the way; every instance takes 75 to 125 % of it, and keeps to that.

    Attributes:
        counts: ``driver_overflow`` (packets that found too many on their way), and those of `Driver`.
    """

    def __init__(self, delay: float = 0.0, *, random: Callable[[], float] = random.random) -> None:
        super().__init__()
        if not 0 <= delay < float("inf"):
            raise ValueError(f"expected a delay of 0 or more seconds, not {delay!r}")
        self._delay: Final = delay * (0.75 + random() / 2)
        self._users = 0
        self._running: Final = trio.Lock()
        self._waiting: Final[list[tuple[float, int, str, bytes]]] = []
        self._numbers: Final = count()
        self._put = trio.Event()

    @property
    def delay(self) -> float:
        """Seconds that a packet is on its way."""
        return self._delay

    @property
    def is_open(self) -> bool:
        """Whether somebody uses it."""
        return self._users > 0

    @asynccontextmanager
    async def use(self) -> AsyncIterator[None]:
        """Uses it for a block; any number of blocks may overlap."""
        async with self._open():
            yield

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[None]:
        self._users += 1
        try:
            async with open_services() as services:
                services.start_soon(self.run)
                self.activate()
                yield
        finally:
            self._users -= 1
            if not self._users:
                self.deactivate("nobody uses the driver")
                self._handlers.clear()
                while self._waiting:
                    self._waiting.pop()
                    self.counts["driver_unsent"] += 1

    async def run(self) -> None:
        """Hands packets out when their time has come; of the users' tasks one does so, and the next one after it."""
        async with self._running:
            while True:
                self._put = trio.Event()
                deadline = self._hand_out(trio.current_time())
                with trio.move_on_at(deadline):
                    await self._put.wait()

    def _hand_out(self, now: float) -> float:
        """Hands out what is due; returns when the next packet is."""
        while self._waiting and self._waiting[0][0] <= now:
            _, _, namespace, packet = heapq.heappop(self._waiting)
            self.deliver_own(namespace, packet)
        return self._waiting[0][0] if self._waiting else float("inf")

    async def _subscribe(self, namespace: str) -> None:
        await trio.lowlevel.checkpoint()

    async def _unsubscribe(self, namespace: str) -> None:
        await trio.lowlevel.checkpoint()

    async def _publish(self, namespace: str, packet: bytes) -> None:
        await trio.lowlevel.checkpoint()
        if len(self._waiting) >= _MAX_WAITING:
            self.counts["driver_overflow"] += 1
            raise DriverError(f"more than {_MAX_WAITING} packets are on their way")
        heapq.heappush(self._waiting, (trio.current_time() + self._delay, next(self._numbers), namespace, packet))
        self._put.set()


_default: Final = trio.lowlevel.RunVar[MemoryDriver]("default_memory_driver")


def default_memory_driver() -> MemoryDriver:
    """The driver of rooms that are given none: one in each Trio run.

    Raises:
        RuntimeError: this is not inside Trio.
    """
    try:
        return _default.get()
    except LookupError:
        driver = MemoryDriver()
        _default.set(driver)
        return driver
