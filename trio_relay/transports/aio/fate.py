"""How a connection stands: what its callbacks tell those who wait, in other tasks, for something to happen."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVarTuple
from weakref import WeakSet

import trio

from ...exceptions import NegotiationFailed

__all__ = ["Fate", "describe"]

Ts = TypeVarTuple("Ts")


class Fate:
    """Plain functions, for both sides; they set something and wake all who wait.

    Attributes:
        failure: why the connection is at its end; the first reason stays.
        closed: we have closed it.
    """

    def __init__(self) -> None:
        self.failure: str | None = None
        self.closed = False
        self._bug: Exception | None = None
        self._lots: WeakSet[trio.lowlevel.ParkingLot] = WeakSet()

    @property
    def over(self) -> bool:
        """Whether nothing that still comes from the other side counts."""
        return self.closed or self.failure is not None or self._bug is not None

    def add_lot(self) -> trio.lowlevel.ParkingLot:
        """A place to wait at: it is woken at every change here, and by whom it is told to.

        It is forgotten with whoever has it.
        """
        lot = trio.lowlevel.ParkingLot()
        self._lots.add(lot)
        return lot

    def fail(self, reason: str) -> None:
        """The connection is at its end."""
        if self.failure is None:
            self.failure = reason
        self._wake()

    def close(self) -> None:
        """We close it."""
        self.closed = True
        self._wake()

    def guard(self, callback: Callable[[*Ts], None]) -> Callable[[*Ts], None]:
        """The callback, whose exceptions are kept for whoever waits next: in aiortc, they would end something else."""

        def guarded(*args: *Ts) -> None:
            try:
                callback(*args)
            except Exception as error:
                self._bug = self._bug or error
                self._wake()

        return guarded

    def raise_bug(self) -> None:
        """Raises what a callback raised."""
        if self._bug is not None:
            raise self._bug

    def check_open(self) -> None:
        """Raises how it has ended, if it has, for those who do not negotiate."""
        self.raise_bug()
        if self.closed:
            raise trio.ClosedResourceError("the connection was closed here")
        if self.failure is not None:
            raise trio.BrokenResourceError(self.failure)

    def check_negotiation(self) -> None:
        """Raises what the negotiation has come to, if it has come to an end."""
        self.raise_bug()
        if self.closed:
            raise NegotiationFailed("the connection was closed")
        if self.failure is not None:
            raise NegotiationFailed(self.failure)

    def _wake(self) -> None:
        for lot in tuple(self._lots):
            lot.unpark_all()


def describe(error: BaseException) -> str:
    """One line for a reason; what strangers sent may be quoted in it."""
    text = str(error)
    shown = text if text.isprintable() and len(text) <= 200 else f"{text[:200]!r}"
    return f"{type(error).__name__}: {shown}" if shown else type(error).__name__
