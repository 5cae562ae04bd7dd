"""What every driver is: something that carries small packets by namespace, and tells whether it can do so now."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

import trio

from ...exceptions import DriverError
from ...node.events import Events, EventStream
from ...node.services import open_services

__all__ = [
    "MAX_NAMESPACES",
    "MAX_PACKET",
    "Driver",
    "DriverActive",
    "DriverEvent",
    "DriverFailed",
    "DriverInactive",
    "Handler",
]

KIB: Final = 1024

MAX_PACKET: Final = 256 * KIB
"""Bytes of one packet: a session description with many streams is 20 KiB."""
MAX_NAMESPACES: Final = 1024
"""Of one driver; a room needs two."""
_EVENTS: Final = 64
_TIMEOUT: Final = 10.0

Handler: TypeAlias = Callable[[bytes], None]
"""Takes one packet; it does not wait."""


@dataclass(frozen=True, slots=True)
class DriverActive:
    """Packets are carried now, for every namespace that is subscribed to."""


@dataclass(frozen=True, slots=True)
class DriverInactive:
    """No packets are carried, until `DriverActive`."""

    reason: str


@dataclass(frozen=True, slots=True)
class DriverFailed:
    """Something went wrong; the driver goes on."""

    error: DriverError


DriverEvent: TypeAlias = DriverActive | DriverInactive | DriverFailed


class Driver(ABC):
    """Carries packets by namespace, over some broker; ``async with driver`` opens it, and closes it in the end.

    `open_room` opens a driver that is not open. One driver serves several rooms, if it is opened around them.
    A driver that is closed can be opened again.

    To make a kind of your own: `run` keeps the connection, calls `activate`, `deactivate`, `deliver` and `fail`, and
    `_subscribe`, `_unsubscribe` and `_publish` do what their names say. `ConnectedDriver` does more of it. Where the
    broker does not send a packet back to the driver that published it, `_publish` gives it to `deliver_own`, so that
    rooms that share the driver hear each other.

    Args:
        timeout: seconds that a broker has to confirm what it is asked for.

    Attributes:
        counts: ``driver_unsent`` (published while inactive, or refused), ``driver_oversized`` (came with more than
            `MAX_PACKET` bytes), ``driver_unwanted`` (came for a namespace that nobody subscribed to), and those of
            the kind of driver.
    """

    def __init__(self, *, timeout: float = _TIMEOUT) -> None:
        if not timeout > 0:
            raise ValueError(f"expected a positive timeout, not {timeout!r}")
        self.counts: Final[Counter[str]] = Counter()
        self._timeout: Final = timeout
        self._handlers: Final[dict[str, list[Handler]]] = {}
        self._events: Final = Events[DriverEvent](_EVENTS)
        self._changed: Final = trio.lowlevel.ParkingLot()
        self._active = False
        self._opened: AbstractAsyncContextManager[Any] | None = None
        self._lent = False
        self._why_inactive = "the driver is not open"

    def __repr__(self) -> str:
        return f"<{type(self).__name__}, {'active' if self._active else 'inactive'}>"

    # For everybody

    @property
    def active(self) -> bool:
        """Whether packets are carried now."""
        return self._active

    @property
    def is_open(self) -> bool:
        """Whether it is inside its ``async with`` block."""
        return self._opened is not None

    @property
    def why_inactive(self) -> str:
        """Why no packets are carried; empty while they are."""
        return "" if self._active else self._why_inactive

    def events(self) -> AbstractAsyncContextManager[EventStream[DriverEvent]]:
        """``async with driver.events() as events``: `DriverActive`, `DriverInactive`, `DriverFailed`, `EventsLost`."""
        return self._events.subscribe()

    async def wait_active(self) -> None:
        """Waits until packets are carried."""
        await trio.lowlevel.checkpoint()
        while not self._active:
            await self._changed.park()

    async def subscribe(self, namespace: str, handler: Handler) -> None:
        """Has a handler called with each packet of the namespace; returns when the broker has confirmed it.

        Raises:
            DriverError: it was refused, or not confirmed in time, or the driver is not open; the handler is not
                called then.
            ValueError: the namespace is empty, or one that this kind of broker can not have, or there are
                `MAX_NAMESPACES` already.
        """
        if not self.is_open:
            raise DriverError("the driver is not open")
        self.check_namespace(namespace)
        if namespace not in self._handlers and len(self._handlers) >= MAX_NAMESPACES:
            raise ValueError(f"expected at most {MAX_NAMESPACES} namespaces in one driver")
        self._handlers.setdefault(namespace, []).append(handler)
        try:
            with trio.fail_after(self._timeout):
                await self._subscribe(namespace)
        except trio.TooSlowError:
            self._forget(namespace, handler)
            why = f": {self._why_inactive}" if not self._active else ""
            raise DriverError(f"the broker did not confirm a subscription within {self._timeout:g} s{why}") from None
        except BaseException:
            self._forget(namespace, handler)
            raise

    async def unsubscribe(self, namespace: str, handler: Handler) -> None:
        """Has the handler not called any more; what the broker says to it does not matter, except to `events`."""
        if self._forget(namespace, handler) and namespace not in self._handlers and self._active:
            with trio.move_on_after(self._timeout):
                try:
                    await self._unsubscribe(namespace)
                except DriverError as error:
                    self.fail(error)

    async def publish(self, namespace: str, packet: bytes) -> None:
        """Sends a packet to whoever subscribed to the namespace.

        Raises:
            DriverError: the driver is inactive, or the broker refused the packet or did not take it in time.
            ValueError: it has more than `MAX_PACKET` bytes, or there can be no such namespace.
        """
        self.check_namespace(namespace)
        if len(packet) > MAX_PACKET:
            raise ValueError(f"expected a packet of at most {MAX_PACKET} bytes, got {len(packet)}")
        try:
            if not self._active:
                raise DriverError(f"the driver is inactive: {self._why_inactive}")
            with trio.fail_after(self._timeout):
                await self._publish(namespace, packet)
        except trio.TooSlowError:
            self.counts["driver_unsent"] += 1
            raise DriverError(f"the broker did not take a packet within {self._timeout:g} s") from None
        except DriverError:
            self.counts["driver_unsent"] += 1
            raise

    @asynccontextmanager
    async def use(self) -> AsyncIterator[None]:
        """Opens the driver for a block, unless somebody has opened it around the block: what `open_room` does.

        Raises:
            trio.BusyResourceError: another `use` has opened it, and may close it at any time.
        """
        if self._lent:
            raise trio.BusyResourceError("expected a driver that several rooms use to be opened around them")
        if self.is_open:
            yield
            return
        self._lent = True
        try:
            async with self:
                yield
        finally:
            self._lent = False

    async def __aenter__(self) -> Self:
        if self._opened is not None:
            raise trio.BusyResourceError("this driver is open already")
        self._opened = self._open()
        try:
            await self._opened.__aenter__()
        except BaseException:
            self._opened = None
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._opened is not None
        try:
            return await self._opened.__aexit__(kind, error, trace)
        finally:
            self._opened = None

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[None]:
        self._why_inactive = "the driver has just been opened"
        try:
            async with open_services() as services:
                services.start_soon(self.run)
                yield
        finally:
            self.deactivate("the driver was closed")
            self._handlers.clear()

    # For kinds of drivers

    @property
    def namespaces(self) -> tuple[str, ...]:
        """Those that are subscribed to."""
        return tuple(self._handlers)

    def check_namespace(self, namespace: str) -> None:
        """Sees to it that there can be such a namespace.

        Raises:
            ValueError: there can not.
        """
        if not namespace:
            raise ValueError("expected a namespace, not an empty text")

    @abstractmethod
    async def run(self) -> None:
        """Runs as long as the driver is open; it is cancelled in the end. It may return when nothing is to be done."""

    @abstractmethod
    async def _subscribe(self, namespace: str) -> None:
        """Returns when the broker has confirmed; several may be under way, also for one namespace.

        Raises:
            DriverError: the broker refuses.
        """

    @abstractmethod
    async def _unsubscribe(self, namespace: str) -> None:
        """Returns when the broker has been told.

        Raises:
            DriverError: it could not be.
        """

    @abstractmethod
    async def _publish(self, namespace: str, packet: bytes) -> None:
        """Returns when the broker has it, or it is on its way.

        Raises:
            DriverError: the broker refuses.
        """

    def activate(self) -> None:
        """Packets are carried from now on."""
        if not self._active:
            self._active = True
            self._changed.unpark_all()
            self._events.publish(DriverActive())

    def deactivate(self, reason: str) -> None:
        """No more packets are carried."""
        self._why_inactive = reason
        if self._active:
            self._active = False
            self._changed.unpark_all()
            self._events.publish(DriverInactive(reason))

    def fail(self, error: DriverError) -> None:
        """Tells that something went wrong."""
        self._events.publish(DriverFailed(error))

    def deliver(self, namespace: str, packet: bytes) -> None:
        """A packet has come."""
        if len(packet) > MAX_PACKET:
            self.counts["driver_oversized"] += 1
            return
        handlers = self._handlers.get(namespace, ())
        if not handlers:
            self.counts["driver_unwanted"] += 1
        for handler in tuple(handlers):
            handler(packet)

    def deliver_own(self, namespace: str, packet: bytes) -> None:
        """This driver has published a packet, and the broker will not send it back."""
        for handler in tuple(self._handlers.get(namespace, ())):
            handler(packet)

    def _dropped(self, namespace: str) -> None:  # noqa: B027 (not every kind needs it)
        """Nobody wants the namespace any more: after `unsubscribe`, or a `subscribe` that failed or was cancelled."""

    def _forget(self, namespace: str, handler: Handler) -> bool:
        handlers = self._handlers.get(namespace, [])
        if handler not in handlers:
            return False
        handlers.remove(handler)
        if not handlers:
            del self._handlers[namespace]
            self._dropped(namespace)
        return True
