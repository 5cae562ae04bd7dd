"""Drivers over one connection to a broker: dialled, kept, dialled again, and subscribed anew.

Rules of this file:

1. One task makes the broker's subscriptions those that are wanted; `subscribe` and `unsubscribe` only say what is
   wanted. So a call that is cancelled leaves nothing behind, and calls about one namespace can not overtake each other.
2. The driver is active when the broker has confirmed all that is wanted, until the connection ends.
3. A namespace that the broker refuses is the problem of who asks for it. If it was confirmed earlier, on another
   connection, there is nobody to tell: then the connection is given up, and tried again later.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

import trio

from ...exceptions import DriverError, HandshakeError, RemoteProtocolError
from ...transports.backoff import Backoff
from .driver import Driver

__all__ = ["BrokerSession", "ConnectedDriver", "explain"]

_STABLE_AFTER: Final = 10.0
"""Seconds after which a connection counts as stable: the back-off begins anew."""
_AT_ONCE: Final = 64
"""Subscriptions that wait for their confirmation side by side."""
_ENDS: Final = (
    DriverError,
    HandshakeError,
    RemoteProtocolError,
    OSError,
    UnicodeError,  # a name that has no form in the DNS
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    trio.EndOfChannel,
)
"""How connections end; anything else is a bug."""


class BrokerSession(Protocol):
    """One connection to a broker that has greeted us. Its methods may be called by several tasks at once.

    What ends the connection is raised by `run`; the others then raise `trio.BrokenResourceError` or
    `trio.ClosedResourceError`, or wait until they are cancelled.
    """

    async def run(self) -> None:
        """Reads, delivers packets to the driver, and keeps the connection alive, until it ends.

        Raises:
            DriverError, RemoteProtocolError: why it ended; a plain return is an end, too.
            trio.BrokenResourceError, trio.ClosedResourceError: likewise.
        """
        ...

    async def subscribe(self, namespace: str) -> None:
        """Returns when the broker has confirmed.

        Raises:
            DriverError: it refuses.
        """
        ...

    async def unsubscribe(self, namespace: str) -> None:
        """Returns when the broker has been told.

        Raises:
            DriverError: it refuses.
        """
        ...

    async def publish(self, namespace: str, packet: bytes) -> None:
        """Returns when the packet is on its way.

        Raises:
            DriverError: the broker refuses.
        """
        ...


@dataclass(slots=True)
class _Wait:
    """Those who wait for the confirmation of one namespace."""

    done: trio.Event = field(default_factory=trio.Event)
    refusal: str = ""


class ConnectedDriver(Driver):
    """Keeps one connection to its broker; a lost one is made again after a growing, random wait.

    Args:
        max_reconnect_delay: seconds between attempts, at most.
        timeout: seconds for one attempt, and for each confirmation by the broker.

    Attributes:
        counts: ``driver_connected``, ``driver_lost``, ``driver_unreachable`` (attempts that failed), and those of
            `Driver`.
    """

    def __init__(
        self,
        *,
        timeout: float = 10.0,
        max_reconnect_delay: float = 30.0,
        random: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(timeout=timeout)
        if not max_reconnect_delay > 0:
            raise ValueError(f"expected a positive max_reconnect_delay, not {max_reconnect_delay!r}")
        self._backoff: Final = Backoff(max_reconnect_delay, random)
        self._session: BrokerSession | None = None
        self._confirmed: Final[set[str]] = set()
        self._known: Final[set[str]] = set()  # of the namespaces that are wanted, those that were confirmed once
        self._waits: Final[dict[str, _Wait]] = {}
        self._refused: Final[set[str]] = set()  # until those who asked have been told
        self._wanted_changed = trio.Event()

    @abstractmethod
    def connect(self) -> AbstractAsyncContextManager[BrokerSession]:
        """Dials the broker and greets it; the end of the block closes the connection, within a bounded time.

        Raises:
            HandshakeError, DriverError, RemoteProtocolError, OSError: it can not be had.
        """

    async def run(self) -> None:
        """Connects, again and again."""
        self._backoff.reset()
        try:
            while True:
                self._why_inactive = await self._converse()
                self.fail(DriverError(self._why_inactive))
                await trio.sleep(self._backoff.next())
        finally:
            self._known.clear()
            while self._waits:
                self._settle_wait(next(iter(self._waits)), "the driver was closed")

    async def _converse(self) -> str:
        """One connection, from its beginning to its end; returns why it ended."""
        began: float | None = None
        reason = ""
        try:
            with trio.fail_after(self._timeout) as patience:
                async with self.connect() as session:
                    patience.deadline = float("inf")
                    began = trio.current_time()
                    reason = await self._serve(session)
        except trio.TooSlowError:
            reason = f"the broker did not greet within {self._timeout:g} s"
        except _ENDS as error:
            reason = reason or explain(error)
        if began is None:
            self.counts["driver_unreachable"] += 1
        else:
            self.counts["driver_lost"] += 1
            if trio.current_time() - began >= _STABLE_AFTER:
                self._backoff.reset()
        return reason

    async def _serve(self, session: BrokerSession) -> str:
        """Uses a connection until it ends; returns why it did."""
        self.counts["driver_connected"] += 1
        reasons: list[str] = []
        try:
            async with trio.open_nursery() as nursery:

                async def part(function: Callable[[], Awaitable[None]]) -> None:
                    try:
                        await function()
                        reasons.append("the broker closed the connection")
                    except _ENDS as error:
                        reasons.append(explain(error))
                    nursery.cancel_scope.cancel()

                nursery.start_soon(part, session.run)
                nursery.start_soon(part, partial(self._keep_subscribed, session))
        finally:
            self._session = None
            self._confirmed.clear()
            self.deactivate(reasons[0] if reasons else "the driver was closed")
        return reasons[0]

    async def _keep_subscribed(self, session: BrokerSession) -> None:
        """Sees to it that the broker has those subscriptions that are wanted, and no others; never returns."""
        while True:
            self._wanted_changed = trio.Event()
            wanted = self.namespaces
            self._known.intersection_update(wanted)
            surplus = self._confirmed.difference(wanted)
            missing = [name for name in wanted if name not in self._confirmed and name not in self._refused]
            if surplus or missing:
                self._confirmed.difference_update(surplus)
                steps = [partial(self._withdraw, session, name) for name in surplus]
                steps += [partial(self._confirm, session, name) for name in missing]
                await self._all(steps)
            else:
                self._session = session
                self.activate()
                await self._wanted_changed.wait()

    async def _all(self, steps: Sequence[Callable[[], Awaitable[None]]]) -> None:
        """Takes all these steps; one that fails ends the connection."""
        failures: list[Exception] = []

        async def take(step: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
            try:
                await step()
            except _ENDS as error:
                failures.append(error)
                scope.cancel()

        with trio.move_on_after(self._timeout) as patience:
            for start in range(0, len(steps), _AT_ONCE):
                async with trio.open_nursery() as nursery:
                    for step in steps[start : start + _AT_ONCE]:
                        nursery.start_soon(take, step, nursery.cancel_scope)
                if failures:
                    raise failures[0]
        if patience.cancelled_caught:
            raise DriverError("the broker did not confirm the subscriptions in time")

    async def _confirm(self, session: BrokerSession, namespace: str) -> None:
        try:
            await session.subscribe(namespace)
        except DriverError as error:
            if namespace in self._known:
                raise
            self._refused.add(namespace)
            self._settle_wait(namespace, str(error))
        else:
            self._confirmed.add(namespace)
            self._known.add(namespace)
            self._settle_wait(namespace)

    async def _withdraw(self, session: BrokerSession, namespace: str) -> None:
        try:
            await session.unsubscribe(namespace)
        except DriverError as error:
            self.fail(error)

    def _settle_wait(self, namespace: str, refusal: str = "") -> None:
        wait = self._waits.pop(namespace, None)
        if wait is not None:
            wait.refusal = refusal
            wait.done.set()

    async def _subscribe(self, namespace: str) -> None:
        if namespace not in self._confirmed:
            self._refused.discard(namespace)
            wait = self._waits.setdefault(namespace, _Wait())
            self._wanted_changed.set()
            await wait.done.wait()
            if wait.refusal:
                raise DriverError(wait.refusal)
        await self.wait_active()

    def _dropped(self, namespace: str) -> None:
        self._waits.pop(namespace, None)
        self._refused.discard(namespace)
        self._known.discard(namespace)
        self._wanted_changed.set()

    async def _unsubscribe(self, namespace: str) -> None:
        """The broker is told soon."""
        await trio.lowlevel.checkpoint()

    async def _publish(self, namespace: str, packet: bytes) -> None:
        session = self._session
        if session is None:
            raise DriverError(f"the driver is inactive: {self._why_inactive}")
        try:
            await session.publish(namespace, packet)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise DriverError(explain(error)) from error


def explain(error: Exception) -> str:
    """Why a connection ended, in words."""
    text = str(error)
    if isinstance(error, trio.BrokenResourceError | trio.ClosedResourceError | trio.EndOfChannel):
        return f"the connection broke: {text}" if text else "the connection broke"
    return (isinstance(error, OSError) and error.strerror) or text or type(error).__name__
