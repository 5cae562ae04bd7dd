"""The task that negotiates one member's connection: descriptions and candidates in and out, one thing at a time."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeAlias

import trio

from ...exceptions import NegotiationFailed, RoomError
from ...transports.bundle import Bundle
from ..packets.candidates import IceCandidate
from ..signalling.negotiation import Negotiation

__all__ = ["MemberAnswer", "MemberCandidate", "MemberOffer", "MemberSignal", "Negotiator"]

MAX_SIGNALS: Final = 256
"""Of the member, that wait to be taken."""
MAX_HELD: Final = 100
"""Candidates that wait for the description that they belong to; the oldest goes."""
_PATIENCE: Final = 15.0
"""Seconds that an offer of ours may stay without an answer, and `_MAX_UNANSWERED` of them in a row."""
_MAX_UNANSWERED: Final = 3
_PACE: Final = 0.1
"""Seconds between two offers of a member in the long run, `_BURST` at once: each costs milliseconds."""
_BURST: Final = 20

_FRAGMENT: Final = re.compile(r"^a=ice-ufrag:(\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class MemberOffer:
    """A description of the member; `labels` are those of its streams, None where it does not say."""

    sdp: str
    labels: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class MemberAnswer:
    """The description that answers ours."""

    sdp: str


@dataclass(frozen=True, slots=True)
class MemberCandidate:
    """An address of the member.

    Attributes:
        strict: it belongs to the description whose ICE user name it has, and waits for that one.
    """

    candidate: IceCandidate
    strict: bool


MemberSignal: TypeAlias = MemberOffer | MemberAnswer | MemberCandidate


class Negotiator:
    """Run it once. `take` may be called by everybody, and does not wait.

    Args:
        send_offer, send_answer: take a description to the member, by the best way there is; they do not wait.
        on_labels: called with the labels of the member's streams, before the offer that came with them is taken.
        on_described: called after a description of the member was taken.
        on_error: called with what went wrong; the connection goes on.
        counts: ``offers_ignored``, ``answers_ignored``, ``candidates_ignored``, ``candidates_dropped``,
            ``descriptions_refused``, ``offers_unanswered`` and ``member_signals_overflowed``.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        polite: bool,
        send_offer: Callable[[str], None],
        send_answer: Callable[[str], None],
        on_labels: Callable[[Mapping[str, str]], None],
        on_described: Callable[[], None],
        on_error: Callable[[RoomError], None],
        counts: Counter[str],
    ) -> None:
        self.rules: Final = Negotiation(polite=polite)
        self._bundle: Final = bundle
        self._send_offer: Final = send_offer
        self._send_answer: Final = send_answer
        self._on_labels: Final = on_labels
        self._on_described: Final = on_described
        self._on_error: Final = on_error
        self._counts: Final = counts
        self._signals: Final[deque[MemberSignal]] = deque()
        self._held: Final[deque[IceCandidate]] = deque()
        self._wake: Final = trio.lowlevel.ParkingLot()
        self._settled: Final = trio.lowlevel.ParkingLot()
        self._room: Final = trio.lowlevel.ParkingLot()
        self._answer_by = float("inf")
        self._unanswered = 0
        self._again = False
        self._fragment: str | None = None
        self._credit = float(_BURST)
        self._credited = trio.current_time()

    # Plain

    def take(self, signal: MemberSignal) -> None:
        """One more of the member; where too many wait, it is dropped, counted."""
        if len(self._signals) >= MAX_SIGNALS:
            self._counts["member_signals_overflowed"] += 1
            return
        self._signals.append(signal)
        self._wake.unpark_all()

    def is_of_another(self, sdp: str) -> bool:
        """Whether a description has another ICE user name than those that were taken."""
        return self._fragment is not None and _find_fragment(sdp) != self._fragment

    def unclaimed(self) -> list[IceCandidate]:
        """Candidates that belong to no description that has come."""
        return list(self._held)

    # Tasks

    async def wait_room(self) -> None:
        """Waits until not many signals wait: for those who can make the member wait."""
        while len(self._signals) >= MAX_SIGNALS // 2:
            await self._room.park()

    async def run(self) -> str:
        """Negotiates until that is of no use any more, and returns why."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            while self._unanswered < _MAX_UNANSWERED:
                await self._step()
                self._settled.unpark_all()
            nursery.cancel_scope.cancel()
        return f"the member has not answered {_MAX_UNANSWERED} offers"

    async def _watch(self) -> None:
        """Wakes the negotiation when there is something to be negotiated, as long as the connection lasts."""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while True:
                await self._bundle.wait_negotiation_needed()
                self._wake.unpark_all()
                await self._settled.park()

    async def _step(self) -> None:
        """One thing, when there is one."""
        try:
            if self._signals:
                signal = self._signals.popleft()
                self._room.unpark_all()
                await self._follow(signal)
            elif (self._bundle.needs_negotiation or self._again) and self.rules.may_offer:
                await self._offer()
            elif trio.current_time() >= self._answer_by:
                self._give_up()
            else:
                with trio.move_on_at(self._answer_by):
                    await self._wake.park()
        except NegotiationFailed as error:
            self._counts["descriptions_refused"] += 1
            self._on_error(RoomError("NEGOTIATION_ERROR", str(error)))
            await trio.sleep(_PACE)

    async def _offer(self) -> None:
        try:
            sdp = await self._bundle.create_offer()
        except NegotiationFailed:
            self._unanswered += 1
            raise
        # What came meanwhile may change everything.
        self._again = bool(self._signals)
        if self._again:
            return
        self.rules.offer()
        self._answer_by = trio.current_time() + _PATIENCE
        self._send_offer(sdp)

    def _give_up(self) -> None:
        self._counts["offers_unanswered"] += 1
        self._unanswered += 1
        self._answer_by = float("inf")
        self._again = True
        self.rules.give_up()

    async def _follow(self, signal: MemberSignal) -> None:
        match signal:
            case MemberOffer(sdp, labels):
                await self._take_offer(sdp, labels)
            case MemberAnswer(sdp):
                await self._take_answer(sdp)
            case MemberCandidate(candidate, strict):
                await self._take_candidate(candidate, strict)

    async def _take_offer(self, sdp: str, labels: Mapping[str, str] | None) -> None:
        had_offered = not self.rules.may_offer
        if not self.rules.take_offer():
            self._counts["offers_ignored"] += 1
            return
        await self._keep_pace()
        self._answer_by = float("inf")
        if labels is not None:
            self._on_labels(labels)
        self._again = self._again or had_offered  # ours is void, and if this one is refused, the bundle does not tell
        answer = await self._bundle.accept_offer(sdp)
        self._again = False
        self._send_answer(answer)
        await self._described(sdp)

    async def _take_answer(self, sdp: str) -> None:
        if not self.rules.take_answer():
            self._counts["answers_ignored"] += 1
            return
        self._answer_by = float("inf")
        await self._bundle.accept_answer(sdp)
        self._unanswered = 0
        await self._described(sdp)

    async def _described(self, sdp: str) -> None:
        """The member's description is known: what waited for it can be used."""
        self._fragment = _find_fragment(sdp)
        self._on_described()
        held = list(self._held)
        self._held.clear()
        for candidate in held:
            await self._take_candidate(candidate, True)

    async def _take_candidate(self, candidate: IceCandidate, strict: bool) -> None:
        if strict and (self._fragment is None or candidate.fragment not in (None, self._fragment)):
            if len(self._held) >= MAX_HELD:
                self._held.popleft()
                self._counts["candidates_dropped"] += 1
            self._held.append(candidate)
        elif not self.rules.take_candidate():
            self._counts["candidates_ignored"] += 1
        elif (address := candidate.address) is not None:
            await self._bundle.add_candidate(address)

    async def _keep_pace(self) -> None:
        now = trio.current_time()
        self._credit = min(_BURST, self._credit + (now - self._credited) / _PACE) - 1
        self._credited = now
        if self._credit < 0:
            await trio.sleep(-self._credit * _PACE)


def _find_fragment(sdp: str) -> str:
    found = _FRAGMENT.search(sdp)
    return found[1] if found is not None else ""
