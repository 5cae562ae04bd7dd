"""Peers and the sessions with them: bounded, and whoever is active stays; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from ...wire.ids import NodeId
from .agreement import Opening
from .session import MOST_FRAMES, Session

__all__ = ["Attempt", "Relation", "Relations"]

_MOST_SESSIONS: Final = 12
"""With one peer: more than can be opened, from both sides, within the time in which both must choose the same one."""
_OTHERS: Final = 0.75
"""The share of the room for peers to which our application never sent."""
_TOGETHER: Final = 10.0
_SUSPECTED_FOR: Final = 2.0
"""So long messages wait for another session when a relay, or the peer, says that it does not know this one."""
_ACTIVE_FOR: Final = 60.0
_IDLE: Final = 300.0
_REPLACED_FOR: Final = 60.0
_EARLIER: Final = 10.0
"""Sessions are swept so often, and at other times there."""
_OVERDUE: Final = 120.0
"""How much longer than its lifetime a session is used while no new one can be opened."""


@dataclass(slots=True, eq=False)
class Attempt:
    """An opening of ours under way: OPEN until it is accepted, then our proof until it is confirmed.

    Attributes:
        number: of the next copy.
        session: what the accepter's answer led to.
        refused: answers whose proof did not hold.
        hints: reports that it went no further.
        cookie_taken: whether a cookie answered the last copy.
    """

    opening: Opening
    deadline: float
    next_at: float
    number: int = 0
    session: Session | None = None
    refused: int = 0
    hints: int = 0
    cookie_taken: bool = False


@dataclass(slots=True, eq=False)
class Relation:
    """One peer.

    Attributes:
        sessions: newest first.
        current: what we seal in.
        attempt: an opening of ours.
        opened: when the last opening began.
        used: when we last wrote to it, or it became known.
        own: whether our application ever sent to it.
        unreachable: whether the last copy of OPEN found no way.
        lost: whether frames sealed so far may have been lost, for the other side said that it knew no session.
    """

    peer: NodeId
    used: float
    sessions: list[Session] = field(default_factory=list)
    current: Session | None = None
    attempt: Attempt | None = None
    opened: float = float("-inf")
    own: bool = False
    unreachable: bool = False
    lost: bool = False

    @property
    def active(self) -> float:
        """When something was last sent or received."""
        return max([self.used, *(session.used for session in self.sessions)])

    def choose(self) -> None:
        """The newest confirmed session, else the newest; one that the other side may not know only as the last.

        Of two that were opened at once from both sides it is the same for both: the one that the smaller id opened.
        """
        known = [session for session in self.sessions if session.suspected is None]
        confirmed = [session for session in known if session.confirmed]
        if confirmed:
            together = [s for s in confirmed if s.born > confirmed[0].born - _TOGETHER]
            confirmed = [s for s in together if s.by_smaller] or together
        self.current = next(iter(confirmed or known or self.sessions), None)

    def usable(self, now: float) -> Session | None:
        """What to seal in; None while a better one is being opened, or must be."""
        session = self.current
        if session is None or session.sealed >= MOST_FRAMES:
            return None
        if session.suspected is not None and self.attempt is not None and now < session.suspected + _SUSPECTED_FOR:
            return None
        return session


class Relations:
    """By peer, and their sessions by our index for them."""

    def __init__(self, capacity: int, lifetime: float, counts: Counter[str]) -> None:
        self._capacity: Final = capacity
        self._lifetime: Final = lifetime
        self._counts: Final = counts
        self._relations: dict[NodeId, Relation] = {}
        self.by_index: Final[dict[bytes, Session]] = {}
        self._ready: dict[NodeId, bool] = {}
        self._full_until = {True: float("-inf"), False: float("-inf")}
        self._others = 0

    def __len__(self) -> int:
        return len(self._relations)

    def __iter__(self) -> Iterator[Relation]:
        return iter(self._relations.values())

    def get(self, peer: NodeId) -> Relation | None:
        """What there is with that peer."""
        return self._relations.get(peer)

    def add(self, peer: NodeId, now: float, *, own: bool) -> Relation | None:
        """The relation with a peer, a new one if there is room.

        Args:
            own: whether we want it; a quarter of the room is kept for such.
        """
        relation = self._relations.get(peer)
        if relation is None:
            within = own or self._others < self._capacity * _OTHERS
            if (len(self._relations) >= self._capacity or not within) and not self._make_room(now, own=within):
                self._counts["sessions_full"] += 1
                return None
            relation = self._relations[peer] = Relation(peer, now)
            self._others += 1
        if own:
            self.write_to(relation)
        return relation

    def write_to(self, relation: Relation) -> None:
        """Our application sends to that peer."""
        if not relation.own:
            relation.own = True
            self._others -= 1

    def _make_room(self, now: float, *, own: bool) -> bool:
        """Forgets the longest silent, a sixteenth of all at once.

        Looked for at most once a second, for it means to look at all.

        Args:
            own: also such as our application wrote to.
        """
        if now < self._full_until[own]:
            return False
        silent = now - _ACTIVE_FOR
        idle = [r for r in self if r.attempt is None and (own or not r.own) and r.active <= silent]
        gone = sorted(idle, key=lambda r: r.active)[: self._capacity // 16 + 1]
        if not gone:
            self._full_until[own] = now + 1.0
        for relation in gone:
            self._counts["sessions_evicted"] += len(relation.sessions)
            self.remove(relation)
        return bool(gone)

    def remove(self, relation: Relation) -> None:
        """Forgets a peer and its keys."""
        del self._relations[relation.peer]
        self._others -= not relation.own
        self._ready.pop(relation.peer, None)
        for session in relation.sessions:
            del self.by_index[session.index]
            session.forget_keys()

    def open(self, relation: Relation, session: Session, now: float) -> None:
        """A new session; of the others but the current one, that makes room in which nothing came for longest."""
        relation.sessions.insert(0, session)
        self.by_index[session.index] = session
        self.changed(relation, now)
        most = 2 * self._capacity
        self._trim(relation, _MOST_SESSIONS if len(self.by_index) <= most else 2)
        if len(self.by_index) > most:
            for other in self:
                self._trim(other, 2)

    def _trim(self, relation: Relation, most: int) -> None:
        kept = relation.sessions[0], relation.current, relation.attempt and relation.attempt.session
        others = [session for session in relation.sessions if session not in kept]
        others.sort(key=lambda session: session.received)
        for session in others[: max(0, len(relation.sessions) - most)]:
            self.close(relation, session)

    def has(self, session: Session) -> bool:
        """Whether a session is not forgotten."""
        return self.by_index.get(session.index) is session

    def close(self, relation: Relation, session: Session) -> None:
        """Forgets a session and its keys."""
        relation.sessions.remove(session)
        del self.by_index[session.index]
        session.forget_keys()
        relation.choose()

    # Who can be written to

    def usable(self, relation: Relation, now: float) -> Session | None:
        """What to seal in for a peer, which may already have forgotten what we are about to forget."""
        session = relation.usable(now)
        later = now + _EARLIER
        if session is None or session.used <= later - _IDLE or session.born <= later - self._lifetime - _OVERDUE:
            return None
        return session

    def changed(self, relation: Relation, now: float) -> None:
        """A session was opened, confirmed, suspected or cleared: what waits for this peer may leave."""
        relation.choose()
        if self.usable(relation, now) is not None:
            self._ready[relation.peer] = relation.lost or self._ready.get(relation.peer, False)
            relation.lost = False

    @property
    def has_ready(self) -> bool:
        """Whether `take_ready` has something."""
        return bool(self._ready)

    def take_ready(self) -> list[tuple[NodeId, bool]]:
        """Peers that `changed` since the last call, and whether frames for them may have been lost."""
        ready, self._ready = self._ready, {}
        return list(ready.items())

    def sweep(self, now: float) -> None:
        """Forgets sessions that are idle, too old, or replaced, and peers without any."""
        for relation in list(self):
            for session in list(relation.sessions):
                attempt = relation.attempt
                if attempt is not None and attempt.session is session:
                    continue
                current = relation.current
                since = session.received if current is None else max(session.received, current.born)
                replaced = session is not current and since <= now - _REPLACED_FOR
                too_old = session.born <= now - self._lifetime - _OVERDUE
                if replaced or too_old or session.used <= now - _IDLE:
                    self._counts["sessions_ended"] += 1
                    self.close(relation, session)
            if not relation.sessions and relation.attempt is None:
                self.remove(relation)
