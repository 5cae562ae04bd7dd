"""WebRTC attempts with originals, as far as their signals go: whose are taken, and what they lead to; pure.

Rules of this file:

1. Anybody can sign an envelope with any id. A signal is taken only from an id with which we have just exchanged a
   handshake; what is wrong with it is counted and changes nothing else.
2. One attempt for each id, a bounded number for those who asked us. In each, one side offers, and keeps to that.
3. A signal ends an original that can't do WebRTC: ours leave only for those that said they can (`EnvelopeRouter`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ..._bounded import TokenBucket
from ...exceptions import RemoteProtocolError
from ...wire.body import Signal
from ...wire.description import Candidate
from ...wire.hello import Reason
from ...wire.ids import NodeId
from .actions import AnsweredLegacy, CandidateLegacy, EndLegacyNegotiation, GatewayAction, NegotiateLegacy
from .routing import EnvelopeRouter
from .simple_peer import Description, build_signal, parse_signal_untrusted
from .waiting import Origin

__all__ = ["Signalling"]

_SIGNALS_FOR: Final = 30.0
"""Seconds after a handshake in which the other side's signals are taken."""
_TALKS: Final = 128
_EARLY: Final = 32
"""Candidates that may come before the offer, over another way."""
_RATE: Final = 2.0
_BURST: Final = 16.0
"""Attempts that others begin, in a second and at once: each costs sockets and a certificate. More of them wait, for
originals do not repeat an offer."""
_WAIT: Final = 0.5
"""Until offers that wait are looked at again."""


@dataclass(slots=True, eq=False)
class _Talk:
    """A handshake with one id, and the attempt that it led to.

    Attributes:
        offering: whether it is our part to offer.
        origin: the way by which its last envelope came.
        until: so long its signals are taken.
        number: of the attempt, None before the other side's offer.
        answered: whether the attempt has both descriptions, as far as the other side has to give them.
        waiting: an offer that came while others began too many attempts.
        early: candidates that came before the attempt began.
    """

    peer: NodeId
    offering: bool
    origin: Origin
    since: float
    until: float
    number: int | None = None
    answered: bool = False
    waiting: str = ""
    early: list[Candidate | None] = field(default_factory=list)


class Signalling:
    """The attempts, by id.

    Args:
        refusal: why no link may be made with an id, None if one may.
        webrtc: how many connections may be made at once; others may begin half of them.
    """

    def __init__(
        self,
        *,
        router: EnvelopeRouter,
        counts: Counter[str],
        refusal: Callable[[NodeId], Reason | None],
        webrtc: Callable[[], int],
        now: float,
    ) -> None:
        self._router: Final = router
        self._counts: Final = counts
        self._refusal: Final = refusal
        self._webrtc: Final = webrtc
        self._rate: Final = TokenBucket(_RATE, _BURST, now)
        self._talks: Final = dict[NodeId, _Talk]()
        self._by_number: Final = dict[int, _Talk]()
        self._last_number = 0
        self._look_at = float("inf")

    def __len__(self) -> int:
        return len(self._talks)

    # Who does what

    def is_busy(self, peer: NodeId) -> bool:
        """Whether an attempt with that id is under way."""
        talk = self._talks.get(peer)
        return talk is not None and talk.number is not None

    def is_theirs(self, peer: NodeId, now: float, *, within: float) -> bool:
        """Whether the other side offers: it has begun to, or it was told within so many seconds that it may."""
        talk = self._talks.get(peer)
        return talk is not None and not talk.offering and (talk.number is not None or now - talk.since < within)

    def expect(self, peer: NodeId, origin: Origin, now: float) -> None:
        """We told an id that we do WebRTC: its offer is taken."""
        if not self.is_busy(peer):
            self._open(_Talk(peer, False, origin, now, now + _SIGNALS_FOR), now)

    def offer(self, peer: NodeId, origin: Origin, now: float) -> list[GatewayAction]:
        """An id told us that it does WebRTC, and we want a link."""
        if self.is_busy(peer):
            return []
        talk = _Talk(peer, True, origin, now, now + _SIGNALS_FOR)
        self._open(talk, now)
        return [self._begin(talk, None)]

    def _open(self, talk: _Talk, now: float) -> None:
        """In the place of an old one with that id, or of the oldest that waits for an offer."""
        self._talks.pop(talk.peer, None)
        if len(self._talks) >= _TALKS:
            self.expire(now)
        if len(self._talks) >= _TALKS:
            oldest = next((other.peer for other in self._talks.values() if other.number is None), None)
            if oldest is not None:
                del self._talks[oldest]
                self._counts["legacy_handshakes_forgotten"] += 1
        self._talks[talk.peer] = talk

    def _begin(self, talk: _Talk, offer: str | None) -> NegotiateLegacy:
        self._last_number += 1
        talk.number = self._last_number
        self._by_number[talk.number] = talk
        self._counts["legacy_negotiations"] += 1
        early, talk.early = tuple(talk.early), []
        return NegotiateLegacy(talk.number, talk.peer, offer, early)

    # Signals

    def take(self, peer: NodeId, signal: Signal, origin: Origin, now: float) -> list[GatewayAction]:
        """A signal for us, from an id without a link."""
        talk = self._talks.get(peer)
        if talk is None or talk.until <= now:
            self._counts["legacy_signals_unasked"] += 1
            return []
        try:
            content = parse_signal_untrusted(signal.value)
        except RemoteProtocolError:
            self._counts["legacy_signals_invalid"] += 1
            return []
        talk.origin = origin
        actions: list[GatewayAction] = []
        for candidate in content.candidates:
            actions += self._take_candidate(talk, candidate)
        if content.description is not None:
            actions += self._take_description(talk, content.description, now)
        elif not content.candidates:
            self._counts["legacy_signals_ignored"] += 1
        return actions

    def _take_candidate(self, talk: _Talk, candidate: Candidate | None) -> list[GatewayAction]:
        if talk.number is not None:
            return [CandidateLegacy(talk.number, candidate)]
        if len(talk.early) < _EARLY:
            talk.early.append(candidate)
        else:
            self._counts["legacy_signals_dropped"] += 1
        return []

    def _take_description(self, talk: _Talk, description: Description, now: float) -> list[GatewayAction]:
        expected = "answer" if talk.offering else "offer"
        if talk.answered or description.role != expected:
            # One that came twice, or that would change a connection that is being made.
            self._counts["legacy_signals_ignored"] += 1
            return []
        if talk.number is not None:
            talk.answered = True
            return [AnsweredLegacy(talk.number, description.sdp)]
        return self._take_offer(talk, description.sdp, now)

    def _take_offer(self, talk: _Talk, offer: str, now: float) -> list[GatewayAction]:
        reason = self._refusal(talk.peer)
        if reason is not None:
            self._counts[f"legacy_refused_{reason.name.lower()}"] += 1
            return []
        talk.answered = True
        if not self._may_begin(now):
            self._counts["legacy_negotiations_deferred"] += 1
            talk.waiting = offer
            self._look_at = min(self._look_at, now + _WAIT)
            return []
        return [self._begin(talk, offer)]

    def _may_begin(self, now: float) -> bool:
        theirs = sum(not other.offering for other in self._by_number.values())
        return 2 * theirs < self._webrtc() and self._rate.take(now)

    def next_deadline(self) -> float:
        """When `handle_timeout` has something to do."""
        return self._look_at

    def handle_timeout(self, now: float) -> list[GatewayAction]:
        """Begins attempts whose offers waited, the oldest first."""
        if now < self._look_at:
            return []
        self.expire(now)
        actions: list[GatewayAction] = []
        waiting = [talk for talk in self._talks.values() if talk.waiting]
        while waiting and self._may_begin(now):
            talk = waiting.pop(0)
            offer, talk.waiting = talk.waiting, ""
            if self._refusal(talk.peer) is None:
                actions.append(self._begin(talk, offer))
        self._look_at = now + _WAIT if waiting else float("inf")
        return actions

    def described(self, number: int, sdp: str, now: float) -> list[GatewayAction]:
        """Our own description is ready: it goes to the other side."""
        talk = self._by_number.get(number)
        if talk is None:
            return []
        signal = build_signal("offer" if talk.offering else "answer", sdp)
        actions = self._router.send_back(talk.peer, signal, talk.origin, now)
        return actions or [EndLegacyNegotiation(number, "there was no way to tell the other side of it")]

    # The end

    def failed(self, number: int) -> NodeId | None:
        """An attempt came to nothing; with whom it was, None if that was known."""
        talk = self._by_number.pop(number, None)
        if talk is None:
            return None
        self._talks.pop(talk.peer, None)
        self._counts["legacy_negotiations_failed"] += 1
        return talk.peer

    def end(self, peer: NodeId, reason: str, *, unless: int | None = None) -> list[GatewayAction]:
        """Forgets an id, and ends the attempt with it.

        Args:
            unless: the attempt that has become a link.
        """
        talk = self._talks.pop(peer, None)
        if talk is None or talk.number is None:
            return []
        del self._by_number[talk.number]
        return [EndLegacyNegotiation(talk.number, reason)] if talk.number != unless else []

    def withdraw(self, peer: NodeId, reason: str) -> list[GatewayAction]:
        """Ends our own attempt; the other side's goes on."""
        talk = self._talks.get(peer)
        return self.end(peer, reason) if talk is not None and talk.offering else []

    def expire(self, now: float) -> None:
        """Forgets ids from which no offer came."""
        for talk in [t for t in self._talks.values() if t.number is None and t.until <= now]:
            del self._talks[talk.peer]
            self._counts["legacy_handshakes_forgotten"] += bool(talk.waiting)
