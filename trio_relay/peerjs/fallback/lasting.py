"""The pipe of a data connection that outlives its data channel.

`rounds` has the rules by which one carrier follows another, `session` what makes nothing be lost by that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio

from ..pipe import Transport
from .rounds import Negotiate, OpenRelay, Rounds, Timing
from .rules import SessionRules
from .sealing import Role
from .session import ResumableSession

__all__ = ["LastingPipe"]

_FAREWELL: Final = 1.0
"""Seconds in which the other side is told that we gave up."""


class LastingPipe:
    """Implements `Pipe`; `run` is its task.

    Messages have at most 1 MiB. About 1 MiB waits here until the other side has it, and 1.5 MiB until it is received.

    Args:
        role: whose offer it was.
        negotiate: makes the data channel of a round.
        open_relay: opens the relay of a round.
        counts: see `Rounds`.
    """

    says_goodbye: Final = True

    def __init__(
        self,
        role: Role,
        negotiate: Negotiate,
        open_relay: OpenRelay,
        *,
        timing: Timing | None = None,
        rules: SessionRules | None = None,
        counts: Counter[str],
    ) -> None:
        self._timing: Final = timing or Timing()
        self._session: Final = ResumableSession(rules)
        self._rounds: Final = Rounds(self._session, role, negotiate, open_relay, self._timing, counts)
        self._sending = False
        self._receiving = False
        self._closing = False
        self.run: Final = self._rounds.run
        self.offer_came: Final = self._rounds.offer_came

    def __repr__(self) -> str:
        state = "over" if self._rounds.over else "open" if self._rounds.carrier is not None else "between carriers"
        return f"<LastingPipe over {self.transport}, round {self._session.round}, {state}>"

    @property
    def transport(self) -> Transport:
        """How messages travel now; between two carriers, how they did."""
        return self._rounds.transport

    @property
    def max_message(self) -> int:
        """Bytes in one message."""
        return self._session.rules.max_message

    @property
    def buffered_amount(self) -> int:
        """Bytes given to `send` that have not been sent yet, or have to be sent again."""
        carrier = self._rounds.carrier
        return self._session.unsent + (carrier.buffered_amount if carrier is not None else 0)

    async def wait_open(self) -> None:
        """Returns when there was a carrier.

        Raises:
            PeerError: there was none in time.
            trio.ClosedResourceError: the pipe was closed.
        """
        await trio.lowlevel.checkpoint()
        while not self._rounds.opened:
            if self._rounds.failure is not None:
                raise self._rounds.failure
            self._check_open()
            await self._rounds.moved.park()

    async def receive(self) -> list[bytes | str]:
        """See `Pipe`."""
        session = self._session
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving from this connection")
        self._receiving = True
        try:
            await trio.lowlevel.checkpoint()
            while not session.has_messages:
                if self._closing:
                    raise trio.ClosedResourceError("this connection was closed")
                if session.ended:
                    return []
                self._check_open()
                await self._rounds.changed.park()
            messages = session.take()
            if session.owes:
                self._rounds.due.unpark_all()
            return messages
        finally:
            self._receiving = False

    async def send(self, message: bytes | str) -> None:
        """See `Pipe`: waits while about 1 MiB has not arrived at the other side.

        Raises:
            ValueError: it is larger than `max_message`, or text with half a character.
        """
        with self._only_sender():
            await trio.lowlevel.checkpoint()
            self._check_sendable()
            while not self._session.has_room:
                await self._rounds.changed.park()
                self._check_sendable()
            self._session.send(message)
            self._rounds.due.unpark_all()

    async def drain(self) -> None:
        """See `Pipe`; what is lost with a carrier later is sent again all the same."""
        await trio.lowlevel.checkpoint()
        rounds = self._rounds
        while rounds.carrier is None or self._session.pending or rounds.writing:
            self._check_sendable()
            await rounds.changed.park()
        try:
            await rounds.carrier.drain()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._check_sendable()

    async def aclose(self) -> None:
        """Ends the connection when the other side has everything; never raises, idempotent.

        Takes `Timing.close_timeout` and a second at most: then what has not arrived is given up, and the other side,
        if it can be reached, fails.
        """
        rounds, session = self._rounds, self._session
        if rounds.started and not (self._closing or rounds.over):
            self._closing = True
            session.finish()
            rounds.due.unpark_all()
            rounds.changed.unpark_all()
            with trio.move_on_after(self._timing.close_timeout, shield=True):
                while not (session.finished or rounds.over):
                    await rounds.changed.park()
            if not (session.finished or rounds.over):
                session.give_up()
                rounds.due.unpark_all()
                with trio.move_on_after(_FAREWELL, shield=True):
                    while (session.owes_answer or rounds.writing) and not rounds.over:
                        await rounds.changed.park()
        self._closing = True
        rounds.stop()
        await trio.lowlevel.cancel_shielded_checkpoint()

    def _check_sendable(self) -> None:
        if self._session.ended and not self._closing:
            raise trio.BrokenResourceError("the other side closed the connection")
        self._check_open()

    def _check_open(self) -> None:
        failure = self._rounds.failure
        if failure is not None and not self._closing:
            raise trio.BrokenResourceError(str(failure)) from failure
        if self._closing or self._rounds.over:
            raise trio.ClosedResourceError("this connection was closed")

    @contextmanager
    def _only_sender(self) -> Iterator[None]:
        if self._sending:
            raise trio.BusyResourceError("another task is sending over this connection")
        self._sending = True
        try:
            yield
        finally:
            self._sending = False
