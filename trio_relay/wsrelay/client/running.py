"""The task that keeps a client connected: dials, converses, waits, and knows when to give up."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import trio

from ...exceptions import HandshakeError
from ...limits import Limits
from ...transports.backoff import Backoff
from ...transports.dial import dial_websocket
from .core import Target, printable
from .desk import Desk
from .endings import Ending, refusal
from .events import ConnectFailed, Disconnected
from .pace import Pace
from .session import Session

__all__ = ["Plan", "Runner"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a runner is told to do.

    Attributes:
        target: where, and as whom.
        reports: whether the target's URL asks for reports of undelivered messages.
        reconnect: whether it tries again after a connection ended, or could not be made.
        stable_after: seconds after which a connection counts as stable: the back-off begins anew.
        connect_timeout: seconds until an attempt to dial is given up.
        max_message: bytes in one received message.
        pace: of each connection.
    """

    target: Target
    ssl_context: ssl.SSLContext | None
    reports: bool
    reconnect: bool
    stable_after: float
    connect_timeout: float
    max_message: int
    pace: Pace


class Runner:
    """Run it once, as a task of its own."""

    def __init__(self, desk: Desk, plan: Plan, backoff: Backoff, limits: Limits) -> None:
        self._desk: Final = desk
        self._plan: Final = plan
        self._backoff: Final = backoff
        self._limits: Final = limits
        self._session: Session | None = None
        self._unknown = 0
        self._scope: Final = trio.CancelScope()
        self._closing = False
        self._closed: Final = trio.Event()

    async def run(self) -> None:
        """Keeps the client connected until it is refused for good, or closed."""
        with self._scope:
            while True:
                retry_in = self._settle(await self._attempt())
                if retry_in is None:
                    return
                await trio.sleep(retry_in)

    async def close(self, reason: str) -> None:
        """Lets messages that wait leave, for as long as a goodbye may take, says goodbye, and ends the task."""
        desk = self._desk
        with trio.CancelScope(shield=True):
            await trio.lowlevel.checkpoint()
            if self._closing:
                await self._closed.wait()
                return
            self._closing = True
            with trio.move_on_after(self._plan.pace.close):
                while desk.outbox and desk.over is None:
                    await desk.outbox.room.wait()
            desk.close()
            if self._session is not None:
                await self._session.say_goodbye(1000, reason)
        self._scope.cancel()
        self._closed.set()

    async def _attempt(self) -> Ending:
        """Connects and converses until that is over; returns how it ended."""
        plan = self._plan
        try:
            with trio.fail_after(plan.connect_timeout):
                connection = await dial_websocket(
                    plan.target.url,
                    limits=self._limits,
                    ssl_context=plan.ssl_context,
                    subprotocol=False,
                    max_message=plan.max_message,
                )
        except trio.TooSlowError:
            return Ending(f"no answer to the upgrade request within {plan.connect_timeout:g} s")
        except HandshakeError as error:
            return Ending(str(error), status=error.status)
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that has no form in the DNS
            return Ending(getattr(error, "strerror", None) or str(error))
        self._session = Session(self._desk, connection, plan.pace, reports=plan.reports)
        try:
            ending = await self._session.run()
        finally:
            self._session = None
        self._unknown = self._unknown + 1 if ending.unknown else 0
        return replace(ending, unknown=self._unknown)

    def _settle(self, ending: Ending) -> float | None:
        """Tells the application; returns the seconds until the next attempt, None if there is none."""
        desk, plan = self._desk, self._plan
        if desk.over is not None:
            return None
        if ending.accepted_for is not None and ending.accepted_for >= plan.stable_after:
            self._backoff.reset()
        reason = printable(ending.reason)
        over: Callable[[], Exception] | None = None
        if (refused := refusal(ending)) is not None:
            desk.counts["refused"] += 1
            over = partial(type(refused), refused.code, refused.reason)
        elif not plan.reconnect:
            over = partial(trio.BrokenResourceError, reason)
        retry_in = None if over is not None else self._backoff.next()
        event = ConnectFailed if ending.accepted_for is None else Disconnected
        desk.counts["connect_failed" if ending.accepted_for is None else "disconnected"] += 1
        desk.disconnect()
        desk.events.publish(event(reason, ending.code, retry_in))
        if over is not None:
            desk.finish(over)
        return retry_in
