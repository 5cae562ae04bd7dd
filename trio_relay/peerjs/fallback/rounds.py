"""The rounds of a lasting connection: one carrier after the other, until one side has closed or none is found.

Which carrier is used, by both sides:

1. A round begins with an OFFER; the originator alone sends it. Round 0 is the first. As soon as the answerer has the
   OFFER of a later round, it leaves the round that it is in, and with it that round's carrier, whatever it thinks of
   it; OFFERs of earlier rounds, or of this one, are ignored.
2. A round has two carriers in turn: the data channel, then the relay. Nobody goes back from the second to the first.
3. A carrier counts when the other side's HELLO has come over it, not before: it must be there `Timing.patience` seconds
   after the round began, `Timing.relay_patience` seconds after the relay was asked for. A carrier that does not come so
   far is closed, so that the other side, if it came further, finds its own end broken.
4. When a data channel that has counted breaks, the originator begins the next round at once. The answerer goes to the
   relay of the same round and waits there: if the data channel never counted for the originator, it comes, too, and
   otherwise its next OFFER does.
5. Where there is no relay in common, and no carrier has ever counted, the originator gives up after the first round.
6. A carrier over which nothing came for `Timing.silence` seconds is broken; each side says something every
   `Timing.keepalive` seconds.

So each side uses one carrier at a time, and both only ever move on, in the same order. What was sent over a carrier
that only one of them used is sent again: the sessions see to it that nothing is lost or doubled.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, TypeAlias

import trio

from ...exceptions import PeerError, RelayError, RemoteProtocolError
from ...transports.webrtc import DataChannel
from ..errors import PeerErrorType
from ..pipe import Transport
from .carrier import Carrier, ChannelCarrier
from .sealing import Role
from .session import ResumableSession

__all__ = ["Negotiate", "OpenRelay", "Rounds", "Timing"]

Negotiate: TypeAlias = Callable[[int], AbstractAsyncContextManager[DataChannel]]
"""Makes the data channel of a round, ordered and reliable, for the block. The originator's sends the OFFER; the
answerer's is called when the OFFER is there. Raises `NegotiationFailed`; the caller has a deadline."""
OpenRelay: TypeAlias = Callable[[int], AbstractAsyncContextManager[Carrier] | None]
"""Opens the relay of a round, for the block; None: both sides have none in common. It may raise what networks raise;
the caller has a deadline."""

_OVER: Final = (trio.BrokenResourceError, trio.ClosedResourceError, RelayError, OSError, trio.TooSlowError)
"""How a carrier ends, or is not found."""
_PAUSES: Final = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds before the originator's next round."""
_REST: Final = 1.0
"""Seconds in which the rest is received from a carrier to which nothing can be sent any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds; see the rules of this file.

    Attributes:
        patience: for the data channel of a round.
        relay_patience: for the relay of a round: longer than the difference between both sides' patience for WebRTC.
        give_up: without a carrier, until the connection fails.
        keepalive: without anything to say.
        silence: of the other side.
        close_timeout: for what waits, and for the other side's acknowledgement, when the connection is closed.
        stable: a carrier that lasted so long was a good one: the next round begins at once.
    """

    patience: float = 10.0
    relay_patience: float = 20.0
    give_up: float = 60.0
    keepalive: float = 5.0
    silence: float = 15.0
    close_timeout: float = 5.0
    stable: float = 30.0


class Rounds:
    """Runs the carriers of one session.

    Args:
        counts: ``lasting_webrtc_failed``, ``lasting_relay_failed``: carriers that never counted; ``lasting_broken``:
            those that broke; ``lasting_old_offers``: offers of rounds that are over; ``lasting_violations``.

    Attributes:
        carrier: that counts; None: there is none now.
        transport: of the carrier that counts, or counted last.
        opened: how many carriers have counted.
        failure: why it failed.
        started: the task runs, or has run; `over`: it has ended.
        writing: a message is being given to the carrier.
        changed: something that an application waits for may have come about.
        due: there may be something to send.
        moved: a carrier counts, or does not any more.
    """

    def __init__(
        self,
        session: ResumableSession,
        role: Role,
        negotiate: Negotiate,
        open_relay: OpenRelay,
        timing: Timing,
        counts: Counter[str],
    ) -> None:
        self.carrier: Carrier | None = None
        self.transport: Transport = "webrtc"
        self.opened = 0
        self.failure: PeerError | None = None
        self.started = False
        self.over = False
        self.writing = False
        self.changed: Final = trio.lowlevel.ParkingLot()
        self.due: Final = trio.lowlevel.ParkingLot()
        self.moved: Final = trio.lowlevel.ParkingLot()
        self._session: Final = session
        self._role: Final = role
        self._negotiate: Final = negotiate
        self._open_relay: Final = open_relay
        self._timing: Final = timing
        self._counts: Final = counts
        self._scope: Final = trio.CancelScope()
        self._round_scope: trio.CancelScope | None = None
        self._offered = 0
        self._since = trio.current_time()
        """When the carrier began to count, or ceased to."""
        self._lasted = 0.0
        self._reason = "no data channel and no relay"

    # From outside

    def offer_came(self, round_: int) -> None:
        """The answerer has the OFFER of a round; `negotiate` will be called if it is a new one."""
        if round_ <= self._offered:
            self._counts["lasting_old_offers"] += 1
            return
        self._offered = round_
        if self._round_scope is not None:
            self._round_scope.cancel()
        self.moved.unpark_all()

    def stop(self) -> None:
        """Ends the task."""
        self._scope.cancel()

    def fail(self, type_: PeerErrorType, message: str) -> None:
        """Ends the task with an error."""
        self.failure = self.failure or PeerError(type_, message)
        self._scope.cancel()

    # The task

    async def run(self) -> None:
        """Until either side has closed.

        Raises:
            PeerError: ``negotiation-failed``: no carrier was ever found; ``connection-closed``: none could be found
                again, or the other side gave up or broke the rules.
        """
        self.started = True
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._watch)
                    await (self._originate() if self._role == "originator" else self._answer())
                    nursery.cancel_scope.cancel()
        finally:
            self.over = True
            for lot in (self.changed, self.due, self.moved):
                lot.unpark_all()
        if self.failure is not None:
            raise self.failure

    async def _watch(self) -> None:
        """Gives up when there is no carrier for too long."""
        timing = self._timing
        while True:
            until = math.inf if self.carrier is not None else self._since + timing.give_up
            with trio.move_on_at(until) as waiting:
                await self.moved.park()
            if waiting.cancelled_caught and self.carrier is None:
                kind: PeerErrorType = "connection-closed" if self.opened else "negotiation-failed"
                self.fail(kind, f"no connection for {timing.give_up:g} s: {self._reason}")
                return

    async def _originate(self) -> None:
        round_, failures = 0, 0
        while True:
            await self._round(round_)
            if self._session.ended:
                return
            failures = 0 if self._lasted >= self._timing.stable else min(failures + 1, len(_PAUSES) - 1)
            first = failures == 1 and self._lasted > 0
            await trio.sleep(0 if first else _PAUSES[failures])
            round_ += 1

    async def _answer(self) -> None:
        while True:
            round_ = self._offered
            with trio.CancelScope() as self._round_scope:
                await self._round(round_)
            if self._session.ended and self._offered == round_:
                return
            while self._offered == round_:
                await self.moved.park()

    async def _round(self, round_: int) -> None:
        self._lasted = 0.0
        if await self._over_webrtc(round_) and self._role == "originator":
            return
        if not self._session.ended:
            await self._over_relay(round_)

    async def _over_webrtc(self, round_: int) -> bool:
        """Uses the data channel of the round; whether it ever counted."""
        opened = self.opened
        with trio.move_on_after(self._timing.patience) as scope:
            try:
                async with self._negotiate(round_) as channel:
                    await self._serve(ChannelCarrier(channel), round_, scope)
            except _OVER as error:
                self._reason = str(error)
        if self.opened == opened:
            self._counts["lasting_webrtc_failed"] += 1
        return self.opened > opened

    async def _over_relay(self, round_: int) -> None:
        """Uses the relay of the round."""
        opening, opened = self._open_relay(round_), self.opened
        if opening is None:
            if self._role == "originator" and not self.opened:
                self.fail("negotiation-failed", f"no relay in common, and no WebRTC: {self._reason}")
            return
        with trio.move_on_after(self._timing.relay_patience) as scope:
            try:
                async with opening as carrier:
                    await self._serve(carrier, round_, scope)
            except _OVER as error:
                self._reason = str(error)
        if self.opened == opened:
            self._counts["lasting_relay_failed"] += 1

    # One carrier

    async def _serve(self, carrier: Carrier, round_: int, scope: trio.CancelScope) -> None:
        """Uses a carrier until it breaks; the deadline of `scope` goes when it counts."""
        self._session.attach(round_)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, carrier, nursery.cancel_scope)
                await self._read(carrier, scope)
                nursery.cancel_scope.cancel()
            if self.carrier is carrier and not self._session.ended:
                self._counts["lasting_broken"] += 1
        finally:
            self.writing = False
            if self.carrier is carrier:
                self.carrier = None
                now = trio.current_time()
                self._lasted, self._since = now - self._since, now
            for lot in (self.changed, self.moved):
                lot.unpark_all()

    async def _read(self, carrier: Carrier, scope: trio.CancelScope) -> None:
        """Until the carrier is over; fails the connection if the other side breaks the rules of sessions."""
        session = self._session
        try:
            while True:
                with trio.fail_after(self._timing.silence):
                    messages = await carrier.receive()
                if not messages:
                    self._reason = "the other side ended the carrier"
                    return
                if not self._feed(messages):
                    return
                if self.carrier is None and session.resumed:
                    scope.deadline = math.inf
                    self._count_in(carrier)
                self.changed.unpark_all()
                if session.owes:
                    self.due.unpark_all()
        except trio.TooSlowError:
            self._reason = f"nothing came for {self._timing.silence:g} s"
        except _OVER as error:
            self._reason = str(error)

    def _feed(self, messages: list[bytes]) -> bool:
        session = self._session
        try:
            for message in messages:
                session.feed(message)
        except RemoteProtocolError as error:
            self._counts["lasting_violations"] += 1
            self.fail("connection-closed", f"the other side broke the protocol: {error}")
            return False
        if session.reset:
            self.fail("connection-closed", "the other side gave the connection up")
        return not session.reset

    def _count_in(self, carrier: Carrier) -> None:
        self.carrier, self.transport = carrier, carrier.transport
        self.opened += 1
        self._since = trio.current_time()
        self.moved.unpark_all()

    async def _write(self, carrier: Carrier, scope: trio.CancelScope) -> None:
        session = self._session
        try:
            while True:
                message = session.produce(carrier.max_message)
                if message:
                    self.writing = True
                    await carrier.send(message)
                    self.writing = False
                    if not session.pending:
                        self.changed.unpark_all()
                    continue
                with trio.move_on_after(self._timing.keepalive) as quiet:
                    await self.due.park()
                if quiet.cancelled_caught:
                    session.ack_soon()
        except _OVER as error:
            self._reason = str(error)
            scope.deadline = trio.current_time() + _REST
