"""A driver whose broker does what a test says."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

from trio_relay.exceptions import DriverError
from trio_relay.peerix.drivers.connected import BrokerSession, ConnectedDriver


class ScriptedSession:
    """One connection. All names in lists are in the order of the calls.

    Attributes:
        asked: namespaces that were subscribed to.
        dropped: namespaces that were unsubscribed from.
        published: packets that were taken.
        refuses: namespaces that it refuses.
        hold: the next subscriptions are confirmed when this is set.
        stuck: the next packets are taken when this is set.
    """

    def __init__(self, driver: ScriptedDriver) -> None:
        self._driver: Final = driver
        self.asked: list[str] = []
        self.dropped: list[str] = []
        self.published: list[tuple[str, bytes]] = []
        self.refuses: set[str] = set(driver.refuses)
        self.hold = driver.hold
        self.stuck: trio.Event | None = None
        self.subscribed: set[str] = set()
        self._end = trio.Event()
        self._error: Exception | None = None
        self.closed = False

    def end(self, error: Exception | None = None) -> None:
        self._error = error
        self._end.set()

    def bring(self, namespace: str, packet: bytes) -> None:
        if namespace in self.subscribed:
            self._driver.deliver(namespace, packet)

    async def run(self) -> None:
        await self._end.wait()
        if self._error is not None:
            raise self._error

    async def _checkpoint(self) -> None:
        await trio.lowlevel.checkpoint()
        if self._end.is_set():
            raise trio.BrokenResourceError

    async def subscribe(self, namespace: str) -> None:
        self.asked.append(namespace)
        if self.hold is not None:
            await self.hold.wait()
        await self._checkpoint()
        if namespace in self.refuses:
            raise DriverError(f"{namespace} is not for you")
        self.subscribed.add(namespace)

    async def unsubscribe(self, namespace: str) -> None:
        await self._checkpoint()
        self.dropped.append(namespace)
        self.subscribed.discard(namespace)
        if namespace in self.refuses:
            raise DriverError(f"{namespace} stays")

    async def publish(self, namespace: str, packet: bytes) -> None:
        if self.stuck is not None:
            await self.stuck.wait()
        await self._checkpoint()
        if namespace in self.refuses:
            raise DriverError(f"{namespace} is not for you")
        self.published.append((namespace, packet))


class ScriptedDriver(ConnectedDriver):
    """See `ScriptedSession`.

    Attributes:
        sessions: all so far.
        attempts: when it dialled.
        failures: what the next attempts raise; None: one that never gets an answer.
    """

    def __init__(self, *, timeout: float = 10.0, max_reconnect_delay: float = 30.0) -> None:
        # The longest waits there are: 1, 2, 4, … seconds.
        super().__init__(timeout=timeout, max_reconnect_delay=max_reconnect_delay, random=lambda: 1.0)
        self.sessions: list[ScriptedSession] = []
        self.attempts: list[float] = []
        self.failures: deque[Exception | None] = deque()
        self.refuses: set[str] = set()
        self.hold: trio.Event | None = None
        self.slow_close = 0.0

    @property
    def session(self) -> ScriptedSession:
        return self.sessions[-1]

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[BrokerSession]:
        self.attempts.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if self.failures:
            error = self.failures.popleft()
            if error is None:
                await trio.sleep_forever()
            else:
                raise error
        session = ScriptedSession(self)
        self.sessions.append(session)
        try:
            yield session
        finally:
            session.closed = True
            with trio.CancelScope(shield=True):
                await trio.sleep(self.slow_close)
