"""WebRTC links that are being negotiated: who offers, who answers, what is repeated, and what is late; pure.

Rules of this file:

1. With one peer there is at most one attempt at a time, ours or theirs. If both offer at once, one of the offers is
   used: the preferred one, of two alike that of the smaller id. The other side gives its own up and answers.
2. Offers and answers of one sender have growing sequence numbers. Whoever offers or answers has given up every
   earlier attempt with that peer; so what is older than the newest that came is late, and what is newer replaces an
   attempt that seems to go on.
3. The offerer repeats its offer until there is an answer, the answerer its answer whenever the offer comes again. Who
   ends an attempt says so once, and again when something of that attempt comes later.
4. Every attempt ends: by `opened`, a report of its failure, a signal, or its deadline.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias, assert_never

from .._bounded import TokenBucket
from ..exceptions import RemoteProtocolError
from ..wire.description import check_description_untrusted
from ..wire.frame import Kind
from ..wire.hello import Reason
from ..wire.ids import NodeId
from ..wire.signal import Answer, Offer, Over, is_offer, parse_signal_untrusted
from .actions import Answered, EndNegotiation, Negotiate
from .attempts import Attempt, Attempts, Outcome
from .session.sessions import Sessions
from .state import State
from .table import Neighbour, Rank
from .words import explain

__all__ = ["Negotiations"]

_GRACE: Final = 10.0
"""An attempt whose end was not reported in time ends so much later."""
_FIRST_REPEAT: Final = 1.0
_OFFERS_PER_SECOND: Final = 5.0
_OFFERS_BURST: Final = 20.0
"""That are taken, of strangers, and apart from them of those with whom we want a link: each opens sockets. Those beyond
that wait for their next repeat."""

Admit: TypeAlias = Callable[[NodeId, bool, bool], tuple[Reason, bytes] | None]


class Negotiations:
    """Attempts at WebRTC links.

    Args:
        admit: `Links.admit`.
        capacity: how many attempts there may be at once; a quarter is kept for links that we want.
        timeout: how long whoever carries one out may take.
    """

    def __init__(
        self, state: State, sessions: Sessions | None, admit: Admit, capacity: int, timeout: float = 10.0
    ) -> None:
        self._state: Final = state
        self._sessions: Final = sessions
        self._admit: Final = admit
        self._capacity: Final = capacity
        self._patience: Final = timeout + _GRACE
        self._attempts: Final = Attempts()
        self._offers: Final = TokenBucket(_OFFERS_PER_SECOND, _OFFERS_BURST, state.now)
        self._wished_offers: Final = TokenBucket(_OFFERS_PER_SECOND, _OFFERS_BURST, state.now)
        self._outcomes: list[Outcome] = []
        self._sequence = 0
        self._stopped = False

    def __len__(self) -> int:
        return len(self._attempts)

    @property
    def enabled(self) -> bool:
        """Whether we make WebRTC links at all."""
        return self._capacity > 0

    @property
    def remembered(self) -> int:
        """How much is remembered of attempts that are over."""
        return self._attempts.remembered

    def under_way(self, peer: NodeId) -> bool:
        """Whether there is an attempt with that peer, ours or theirs."""
        return self._attempts.of(peer) is not None

    def heard(self, peer: NodeId) -> bool:
        """Whether that peer takes part in an attempt."""
        attempt = self._attempts.of(peer)
        return attempt is not None and attempt.heard

    def take_outcomes(self) -> list[Outcome]:
        """Attempts that ended since the last call."""
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    # What we want

    def start(self, peer: NodeId, *, preferred: bool) -> bool:
        """Begins an attempt with a peer with whom none is under way; False when there is no room."""
        state = self._state
        if self._stopped or len(self._attempts) >= self._capacity:
            state.counts["negotiations_full"] += 1
            return False
        self._begin(Attempt(state.token(), peer, True, preferred, state.now + self._patience), None)
        return True

    def _begin(self, attempt: Attempt, offer: str | None) -> None:
        self._attempts.add(attempt)
        self._state.counts["negotiations"] += 1
        self._state.do(Negotiate(attempt.peer, attempt.id, offer))

    def give_up(self, peer: NodeId, reason: Reason, words: str, *, ours: bool) -> None:
        """We do not want a link with that peer; `ours`: but if the peer wants one, it goes on."""
        attempt = self._attempts.of(peer)
        if attempt is not None and (attempt.ours or not ours):
            self._end(attempt, reason)
            self._state.do(EndNegotiation(peer, attempt.id, words))

    def stop(self) -> None:
        """The node ends."""
        self._stopped = True
        for attempt in self._attempts:
            self.give_up(attempt.peer, Reason.SHUTDOWN, "the node is closing", ours=False)

    def _end(self, attempt: Attempt, reason: Reason) -> None:
        """It ends here; the other side is told, if it can know of it."""
        self._attempts.remove(attempt)
        self._attempts.ended(attempt.peer, attempt.id, reason, self._state.now)
        if attempt.signal or not attempt.ours:
            self._send(attempt.peer, attempt.id, Over(reason).to_bytes())

    def _fail(self, attempt: Attempt, reason: Reason, words: str, *, reported: bool = False) -> None:
        """It ended badly, and not because we want it no more; `reported`: by whoever carries it out."""
        self._end(attempt, reason)
        self._outcomes.append(Outcome(attempt.peer, words, False, attempt.heard, attempt.preferred))
        if not reported:
            self._state.do(EndNegotiation(attempt.peer, attempt.id, words))

    def _ended_there(self, attempt: Attempt, words: str, *, again: bool) -> None:
        """The other side has ended it."""
        self._attempts.remove(attempt)
        self._outcomes.append(Outcome(attempt.peer, words, again, True, attempt.preferred))
        self._state.do(EndNegotiation(attempt.peer, attempt.id, words))

    # What is reported

    def described(self, negotiation: bytes, description: str) -> None:
        """Our own description is ready."""
        attempt = self._attempts.get(negotiation)
        if attempt is None or attempt.signal:
            return
        try:
            check_description_untrusted(description)
        except RemoteProtocolError as error:
            self._fail(attempt, Reason.FAILED, f"our own description cannot be sent: {error}")
            return
        # Microseconds since 1970, so that they grow across restarts, too.
        self._sequence = max(self._sequence + 1, int(self._state.wall * 1_000_000))
        if attempt.ours:
            attempt.signal = Offer(self._sequence, description, attempt.preferred).to_bytes()
            attempt.repeat_at = self._state.now + _FIRST_REPEAT
        else:
            attempt.signal = Answer(self._sequence, description).to_bytes()
        self._send(attempt.peer, attempt.id, attempt.signal, copy=attempt.copy, wait=True)

    def failed(self, negotiation: bytes, words: str) -> None:
        """An attempt failed here."""
        attempt = self._attempts.get(negotiation)
        if attempt is not None:
            self._fail(attempt, Reason.FAILED, words, reported=True)

    def opened(self, negotiation: bytes, peer: NodeId, dialled: bool) -> Rank | None:
        """A link came of an attempt; returns its rank, None if that is not the link that was negotiated."""
        attempt = self._attempts.get(negotiation)
        if attempt is None:
            return None
        if attempt.peer != peer or attempt.ours != dialled:
            self._fail(attempt, Reason.FAILED, "the connection led to somebody else", reported=True)
            return None
        self._attempts.remove(attempt)
        return Rank.PREFERRED if attempt.preferred else Rank.WEBRTC

    # Signals

    def _send(
        self,
        peer: NodeId,
        negotiation: bytes,
        payload: bytes,
        *,
        copy: int = 0,
        back: Neighbour | None = None,
        wait: bool = False,
    ) -> None:
        """Sends a signal; `wait`: if there is no session, when there is one."""
        if self._sessions is None:
            sent: bool | None = self._state.send(Kind.SIGNAL, peer, negotiation, payload, attempt=copy, back=back)
        else:
            sent = self._sessions.send(Kind.SIGNAL, peer, negotiation, payload, attempt=copy, back=back)
            if sent is None and wait:
                sent = self._sessions.post(Kind.SIGNAL, peer, negotiation, payload)
        if sent is False:
            self._state.counts["no_way"] += 1

    def _say_over(
        self, peer: NodeId, negotiation: bytes, reason: Reason, copy: int = 0, back: Neighbour | None = None
    ) -> None:
        self._send(peer, negotiation, Over(reason).to_bytes(), copy=copy, back=back)

    def receive(
        self, via: Neighbour, copy: int, source: NodeId, negotiation: bytes, payload: bytes, *, wished: bool
    ) -> None:
        """A signal of that peer; `copy`: the attempt of its frame; `wished`: whether we want a link with it."""
        if not self._capacity:
            self._state.counts["signals_refused"] += 1
            if is_offer(payload):
                self._say_over(source, negotiation, Reason.NO_WEBRTC, copy, via)
            return
        try:
            signal = parse_signal_untrusted(payload)
        except RemoteProtocolError as error:
            self._malformed(via, copy, source, negotiation, payload, str(error))
            return
        match signal:
            case Offer():
                self._receive_offer(via, copy, source, negotiation, signal, wished)
            case Answer():
                self._receive_answer(via, copy, source, negotiation, signal)
            case Over():
                self._receive_over(source, negotiation, signal.reason)
            case _:
                assert_never(signal)

    def _malformed(
        self, via: Neighbour, copy: int, source: NodeId, negotiation: bytes, payload: bytes, words: str
    ) -> None:
        """Only that negotiation dies of it."""
        self._state.counts["bad_signal"] += 1
        attempt = self._attempts.of(source)
        if attempt is not None and attempt.id == negotiation:
            self._fail(attempt, Reason.PROTOCOL, f"the other side sent what cannot be used: {words}")
        elif is_offer(payload):
            self._say_over(source, negotiation, Reason.PROTOCOL, copy, via)

    def _receive_offer(
        self, via: Neighbour, copy: int, peer: NodeId, negotiation: bytes, offer: Offer, wished: bool
    ) -> None:
        state, attempts = self._state, self._attempts
        current = attempts.of(peer)
        if offer.sequence <= attempts.newest(peer, state.now):
            self._receive_copy(via, copy, peer, negotiation, current)
        elif attempts.get(negotiation) is not None:
            # Another's or our own: nobody who negotiates with us names one so.
            state.counts["bad_signal"] += 1
        elif current is not None and current.ours and not current.answered and self._wins(current, offer):
            # The other side gives its own up when ours comes; if ours ends before, this one comes again.
            state.counts["negotiations_glare"] += 1
        else:
            reason = self._refusal(peer, offer, current, wished=wished)
            offers = self._wished_offers if wished else self._offers
            if reason is None and not offers.take(state.now):
                # As if it had not come: it is repeated, and there may be time for it then.
                state.counts["offers_deferred"] += 1
                return
            attempts.came(peer, offer.sequence, state.now)
            if reason is not None:
                state.counts["signals_refused"] += 1
                attempts.ended(peer, negotiation, reason, state.now)
                self._say_over(peer, negotiation, reason, copy, via)
                return
            if current is not None:
                attempts.remove(current)
                attempts.ended(peer, current.id, Reason.UNWANTED, state.now)
                state.do(EndNegotiation(peer, current.id, "the other side began another one"))
            deadline = state.now + self._patience
            new = Attempt(negotiation, peer, False, offer.preferred, deadline, offer.sequence, copy=copy)
            self._begin(new, offer.description)

    def _receive_copy(
        self, via: Neighbour, copy: int, peer: NodeId, negotiation: bytes, current: Attempt | None
    ) -> None:
        """An offer that came before, or is older than one that did."""
        if current is not None and current.id == negotiation:
            current.copy = max(current.copy, copy)
            if current.signal:
                self._send(peer, negotiation, current.signal, copy=copy, back=via)
        else:
            self._late(via, copy, peer, negotiation)

    def _late(self, via: Neighbour, copy: int, peer: NodeId, negotiation: bytes) -> None:
        """It belongs to an attempt that is over."""
        self._state.counts["signals_late"] += 1
        reason = self._attempts.end_of(peer, negotiation, self._state.now)
        if reason is not None:
            self._say_over(peer, negotiation, reason, copy, via)

    def _wins(self, current: Attempt, offer: Offer) -> bool:
        """Whether our offer is used, and not theirs; at the other end this is the other way round."""
        if current.preferred != offer.preferred:
            return current.preferred
        return self._state.own < current.peer

    def _refusal(self, peer: NodeId, offer: Offer, current: Attempt | None, *, wished: bool) -> Reason | None:
        if self._stopped:
            return Reason.SHUTDOWN
        refused = self._admit(peer, False, False)
        if refused is not None:
            return refused[0]
        neighbour = self._state.table.get(peer)
        if neighbour is not None and not (offer.preferred and neighbour.rank is not Rank.PREFERRED):
            return Reason.DUPLICATE
        others = [attempt for attempt in self._attempts if attempt is not current]
        theirs = sum(not attempt.ours for attempt in others)
        if len(others) >= self._capacity or (not wished and theirs >= self._capacity - self._capacity // 4):
            return Reason.FULL
        return None

    def _receive_answer(self, via: Neighbour, copy: int, peer: NodeId, negotiation: bytes, answer: Answer) -> None:
        attempt = self._attempts.of(peer)
        if attempt is None or attempt.id != negotiation:
            self._late(via, copy, peer, negotiation)
            if attempt is not None and not attempt.ours and attempt.sequence < answer.sequence:
                self._ended_there(attempt, "the other side answered another one", again=True)
        elif not attempt.signal or not attempt.ours or attempt.answered:
            self._state.counts["signals_late"] += 1
        else:
            attempt.answered = True
            attempt.repeat_at = float("inf")
            self._attempts.came(peer, answer.sequence, self._state.now)
            self._state.do(Answered(peer, negotiation, answer.description))

    def _receive_over(self, peer: NodeId, negotiation: bytes, reason: int) -> None:
        attempt = self._attempts.of(peer)
        if attempt is None or attempt.id != negotiation:
            self._state.counts["signals_late"] += 1
            return
        again = reason == Reason.DUPLICATE if attempt.ours else reason != Reason.FAILED
        self._ended_there(attempt, explain(reason), again=again)

    # Time

    def handle_timeout(self) -> None:
        """Repeats offers that were not answered, and ends what was never reported."""
        now = self._state.now
        for attempt in self._attempts:
            if attempt.deadline <= now:
                self._state.counts["negotiations_expired"] += 1
                self._fail(attempt, Reason.FAILED, f"no connection after {self._patience:g} s")
            elif attempt.repeat_at <= now:
                attempt.copy += 1
                attempt.repeat_at = now + _FIRST_REPEAT * 2**attempt.copy
                self._send(attempt.peer, attempt.id, attempt.signal, copy=attempt.copy)

    def next_deadline(self) -> float:
        """When `handle_timeout` has something to do."""
        return min((min(attempt.deadline, attempt.repeat_at) for attempt in self._attempts), default=float("inf"))
