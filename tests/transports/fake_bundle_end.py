"""How an end of `fake_bundle` stands, and when what happens there."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Final, Literal

import trio

from trio_relay.exceptions import NegotiationFailed
from trio_relay.transports.bundle import BundleState

__all__ = ["Agenda", "FakeEnd"]


class Agenda:
    """What is to happen later, in the time of Trio: those who wait make it happen, for nobody else sees it."""

    def __init__(self) -> None:
        self._items: Final[list[tuple[float, int, Callable[[], None]]]] = []
        self._numbers: Final = itertools.count()
        self._waiters: Final[dict[trio.lowlevel.ParkingLot, Callable[[], bool]]] = {}
        self._keeper: trio.lowlevel.ParkingLot | None = None

    def after(self, delay: float, do: Callable[[], None]) -> None:
        """At once when there is no delay."""
        if delay > 0:
            heapq.heappush(self._items, (trio.current_time() + delay, next(self._numbers), do))
            if self._keeper is not None:
                self._keeper.unpark_all()  # this may be earlier than what it waits for
        else:
            do()
        self.wake()

    def catch_up(self) -> None:
        while self._items and self._items[0][0] <= trio.current_time():
            heapq.heappop(self._items)[2]()
            self.wake()

    def wake(self) -> None:
        """Whoever can go on now does."""
        for lot, ready in list(self._waiters.items()):
            if ready():
                lot.unpark_all()

    async def wait(self, ready: Callable[[], bool]) -> None:
        lot = trio.lowlevel.ParkingLot()
        self._waiters[lot] = ready
        try:
            while True:
                self.catch_up()
                if ready():
                    return
                # One of those who wait looks at the clock for all.
                self._keeper = self._keeper or lot
                due = self._items[0][0] if self._items and self._keeper is lot else float("inf")
                with trio.move_on_at(due):
                    await lot.park()
        finally:
            del self._waiters[lot]
            if self._keeper is lot:
                self._keeper = next(iter(self._waiters), None)
                if self._keeper is not None:
                    self._keeper.unpark_all()


class FakeEnd:
    """The states of a `Bundle`.

    Attributes:
        closed_here: its block has ended.
    """

    def __init__(self, agenda: Agenda) -> None:
        self.agenda: Final = agenda
        self.closed_here = False
        self._state: BundleState = "new"
        self._failure = ""
        self._is_silent = False

    @property
    def is_over(self) -> bool:
        return self._state in ("closed", "failed")

    @property
    def state(self) -> BundleState:
        """See `Bundle`; so below."""
        self.agenda.catch_up()
        return self._shown()

    @property
    def is_up(self) -> bool:
        """Whether it is ``connected`` or ``disconnected``."""
        return self.state in ("connected", "disconnected")

    async def wait_state(self, than: BundleState) -> BundleState:
        await trio.lowlevel.checkpoint()
        await self.agenda.wait(lambda: self._shown() != than)
        return self._shown()

    @property
    def failure(self) -> str:
        self.agenda.catch_up()
        return self._failure

    def fail(self, reason: str) -> None:
        """This end fails, and the other notices nothing of it."""
        self.end("failed", reason)

    def set_silent(self, is_silent: bool) -> None:
        """The other end does not answer, or does again; nothing is lost."""
        self._is_silent = is_silent
        self.agenda.wake()

    def _shown(self) -> BundleState:
        return "disconnected" if self._is_silent and self._state == "connected" else self._state

    def end(self, state: Literal["closed", "failed"], reason: str) -> None:
        """The first reason stays."""
        if not self.is_over:
            self._failure = reason
            self.set_state(state)

    def set_state(self, state: BundleState) -> None:
        self._state = state
        self.agenda.wake()

    def raise_if_over(self) -> None:
        if self.closed_here:
            raise trio.ClosedResourceError("the connection was closed here")
        if self.is_over:
            raise trio.BrokenResourceError(self._failure)

    def check_negotiation(self) -> None:
        if self.is_over:
            raise NegotiationFailed(self._failure)
