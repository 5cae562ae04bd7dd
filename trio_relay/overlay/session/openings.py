"""Sessions that we open: OPEN and its repetitions, the answers, and our proof until it is confirmed; pure.

What a relay says (UNKNOWN, COOKIE, UNREACHABLE) never ends a session; it makes a new one be opened sooner.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final

from ...exceptions import RemoteProtocolError
from ...wire.frame import Kind
from ...wire.ids import NodeId
from ...wire.session import Accept, Cookie, Unknown
from ..state import State
from ..table import Neighbour
from .agreement import Opening, Self
from .relations import Attempt, Relation, Relations
from .secrets import ENTROPY
from .session import MOST_FRAMES, Session
from .waiting import WaitingMessages

__all__ = ["Openings", "send_empty"]

_FIRST_REPEAT: Final = 0.5
_AFTER_HINT: Final = 0.25
_LONGEST_SHIFT: Final = 5
_REOPEN: Final = 2.0
_ALIVE_FOR: Final = 1.0
"""A session in which something came a moment ago is not doubted."""
_MOST_REFUSED: Final = 8
"""Answers to one OPEN that are looked at, a signature check each; then the next copy has another index, and whoever saw
the first and makes answers up does not see that one unless it is on the next path too."""


def send_empty(state: State, session: Session, attempt: int = 0, back: Neighbour | None = None) -> None:
    """Sends a frame that says only that we have the session; if we opened it, with our proof."""
    if session.sealed < MOST_FRAMES:
        message_id = state.token()
        flags, sealed = session.seal(Kind.SESSION, 0, session.peer, state.own, message_id, b"")
        state.send(Kind.SESSION, session.peer, message_id, sealed, flags=flags, attempt=attempt, back=back)


class Openings:
    """Our openings under way, at most one for each peer and `Limits.session_openings` in all."""

    def __init__(
        self,
        state: State,
        own: Self,
        entropy: Callable[[int], bytes],
        relations: Relations,
        waiting: WaitingMessages,
    ) -> None:
        self._state: Final = state
        self._self: Final = own
        self._entropy: Final = entropy
        self._relations: Final = relations
        self._waiting: Final = waiting
        self._turned_away: Final[dict[NodeId, None]] = {}
        self.moved = False
        """Whether `next_deadline` may have come nearer since this was last made false."""
        self._timers: list[tuple[float, int, Relation, Attempt]] = []
        self._timer_count = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def open(self, peer: NodeId, *, renewal: bool = False) -> None:
        """Opens a session, unless that is under way or was tried a moment ago.

        Args:
            renewal: there is a good one still, so that it may be done later; half of the openings at most are such.
        """
        state, limits = self._state, self._state.limits
        relation = self._relations.get(peer)
        if relation is not None and (relation.attempt is not None or state.now < relation.opened + _REOPEN):
            return
        if renewal and self._count >= limits.session_openings // 2:
            return
        if self._count >= limits.session_openings:
            state.counts["session_openings_full"] += 1
            if len(self._turned_away) < limits.session_waiting:
                self._turned_away.setdefault(peer)
            return
        self._turned_away.pop(peer, None)
        relation = relation or self._relations.add(peer, state.now, own=True)
        if relation is not None:
            deadline = state.now + limits.session_timeout
            relation.attempt = Attempt(self._new_opening(peer), deadline, state.now)
            relation.opened = state.now
            self._count += 1
            state.counts["sessions_opening"] += 1
            self._repeat(relation, relation.attempt)

    def _new_opening(self, peer: NodeId) -> Opening:
        return Opening(self._self, peer, self._state.token(), self._entropy(ENTROPY))

    def _repeat(self, relation: Relation, attempt: Attempt) -> None:
        """Sends OPEN, or our proof in an empty frame, and sets the time of the next copy."""
        state, number = self._state, min(attempt.number, 255)
        if attempt.session is None:
            opening = attempt.opening
            left = state.send(Kind.SESSION, relation.peer, opening.index, opening.payload, attempt=number)
            relation.unreachable = not left
            attempt.cookie_taken = False
        else:
            send_empty(state, attempt.session, number)
        attempt.number += 1
        self._schedule(relation, attempt, state.now + _FIRST_REPEAT * 2 ** min(attempt.number - 1, _LONGEST_SHIFT))

    def _schedule(self, relation: Relation, attempt: Attempt, at: float) -> None:
        attempt.next_at = at = min(at, attempt.deadline)
        self._timer_count += 1
        self.moved = True
        heapq.heappush(self._timers, (at, self._timer_count, relation, attempt))

    def hurry(self) -> None:
        """There is a link again: openings that found no way are repeated at once."""
        for relation in self._relations:
            if relation.attempt is not None and relation.unreachable:
                self._repeat(relation, relation.attempt)

    def unreachable(self, message_id: bytes, target: bytes) -> bool:
        """A relay says that an OPEN went no further; whether it was one of ours."""
        relation = self._relations.get(NodeId(target))
        attempt = None if relation is None else relation.attempt
        if relation is None or attempt is None or attempt.session is not None or attempt.opening.index != message_id:
            return False
        relation.unreachable = True
        self._state.counts["unreachable_hints"] += 1
        attempt.hints += 1
        soon = self._state.now + _AFTER_HINT * 2 ** min(attempt.hints - 1, _LONGEST_SHIFT)
        if soon < attempt.next_at:
            self._schedule(relation, attempt, soon)
        return True

    # Answers

    def _attempt_of(self, source: NodeId, index: bytes) -> tuple[Relation, Attempt] | None:
        relation = self._relations.get(source)
        attempt = None if relation is None else relation.attempt
        if relation is None or attempt is None or attempt.session is not None or attempt.opening.index != index:
            self._state.counts["answers_to_nothing"] += 1
            return None
        return relation, attempt

    def receive_accept(self, source: NodeId, index: bytes, answer: Accept) -> None:
        """An answer; the first one that holds makes a session, in which our proof is sent at once."""
        found = self._attempt_of(source, index)
        if found is None:
            return
        relation, attempt = found
        try:
            session = attempt.opening.accepted(answer, self._state.now)
        except RemoteProtocolError:
            self._state.counts["session_proof"] += 1
            attempt.refused += 1
            if attempt.refused >= _MOST_REFUSED:
                attempt.opening, attempt.refused = self._new_opening(source), 0
            return
        relation.unreachable = False
        attempt.session, attempt.number = session, 0
        attempt.deadline = self._state.now + self._state.limits.session_timeout
        self._relations.open(relation, session, self._state.now)
        self._repeat(relation, attempt)

    def receive_cookie(self, source: NodeId, index: bytes, message: Cookie) -> None:
        """The other side is busy and wants to see that we get its answers; one such answer to each copy counts."""
        found = self._attempt_of(source, index)
        if found is None:
            return
        relation, attempt = found
        if attempt.cookie_taken:
            self._state.counts["session_hints_ignored"] += 1
            return
        attempt.opening.show(message.cookie)
        self._repeat(relation, attempt)
        attempt.cookie_taken = True

    def receive_unknown(self, source: NodeId, message: Unknown) -> None:
        """A hint that the other side lost a session, by a restart for example: opens another and keeps the old one."""
        state, relation = self._state, self._relations.get(source)
        session = relation and next((s for s in relation.sessions if s.remote_index == message.index), None)
        if not relation or not session:
            state.counts["answers_to_nothing"] += 1
        elif state.now < session.received + _ALIVE_FOR and session.confirmed:
            # What came may have been held back on the way since before the other side lost it.
            state.counts["session_hints_ignored"] += 1
            self.open(source)
        else:
            state.counts["session_unknown_hints"] += 1
            self.doubt(session)

    def doubt(self, session: Session) -> None:
        """The other side may have lost a session: opens another and keeps the old one."""
        state, relation = self._state, self._relations.get(session.peer)
        if relation is None or session.suspected is not None or state.now < relation.opened + _REOPEN:
            return
        current = relation.current
        session.suspected, relation.lost = state.now, True
        if session is current:
            if relation.attempt is not None:
                self._forget(relation)
            self.open(session.peer)
        self._relations.changed(relation, state.now)

    def confirmed(self, session: Session) -> None:
        """The other side has a session that we opened."""
        session.proof = b""
        self._state.counts["sessions_opened"] += 1
        relation = self._relations.get(session.peer)
        if relation is not None:
            if relation.attempt is not None and relation.attempt.session is session:
                self._forget(relation)
            self._relations.changed(relation, self._state.now)

    def _forget(self, relation: Relation) -> None:
        relation.attempt = None
        self._count -= 1
        while self._turned_away and self._count < self._state.limits.session_openings:
            # They found no room for an opening; first come, first served.
            peer = next(iter(self._turned_away))
            del self._turned_away[peer]
            self.open(peer)

    def _give_up(self, relation: Relation, attempt: Attempt) -> None:
        self._state.counts["sessions_failed"] += 1
        for session in list(relation.sessions):
            if session.confirmed:
                # Whatever was said about it, there is nothing better.
                session.suspected = None
            else:
                self._relations.close(relation, session)
        self._relations.changed(relation, self._state.now)
        # Last: what is opened in its place may displace this relation.
        self._forget(relation)
        if self._waiting.waits_for(relation.peer):
            self.open(relation.peer)

    # Time

    def handle_timeout(self) -> None:
        """Repeats what is due, and gives up what took too long."""
        now = self._state.now
        while self._timers and self._timers[0][0] <= now:
            _, _, relation, attempt = heapq.heappop(self._timers)
            if relation.attempt is not attempt or attempt.next_at > now:
                continue
            if attempt.deadline <= now:
                self._give_up(relation, attempt)
            else:
                self._repeat(relation, attempt)
                self._relations.changed(relation, now)

    def next_deadline(self) -> float:
        """When `handle_timeout` has something to do."""
        timers = self._timers
        while timers and timers[0][2].attempt is not timers[0][3]:
            heapq.heappop(timers)
        return timers[0][0] if timers else float("inf")
