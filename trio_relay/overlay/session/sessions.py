"""End-to-end sessions of one node: seals what leaves, opens what comes, has sessions made when they are wanted; pure.

Nothing is sealed for an id before that id has proven itself, and nothing is taken from one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, assert_never

from ...exceptions import RemoteProtocolError
from ...wire.frame import Flag, Kind
from ...wire.ids import NodeId
from ...wire.session import (
    INDEX_LENGTH,
    SEALED_HEAD,
    TAG_LENGTH,
    Accept,
    Cookie,
    Open,
    Unknown,
    parse_session_message_untrusted,
)
from ..admission import Admission
from ..state import State
from ..table import Neighbour
from .accepting import Accepting
from .agreement import Self
from .copies import Copy
from .openings import Openings, send_empty
from .relations import Relations
from .session import RENEW_FRAMES, Arrival, Session
from .waiting import WaitingMessage, WaitingMessages
from .window import WINDOW

__all__ = ["Sealing", "Sessions"]

_CONFIRM_EVERY: Final = 0.25
_DOUBT_AFTER: Final = 3
"""Copies of a confirmed message that are not answered; if nothing else came in their session, another one is opened."""
_BEFORE_IDLE: Final = 240.0
_LATER: Final = 60.0
"""So much later than its opener the accepter renews a session."""
_SWEEP: Final = 10.0
_SHORTEST: Final = SEALED_HEAD.size + TAG_LENGTH


@dataclass(frozen=True, slots=True)
class Sealing:
    """How a node seals.

    Attributes:
        entropy: unpredictable bytes, as many as asked for.
        ciphers: the bits of `wire.session.Cipher` that are fast here; ChaCha20-Poly1305 among them.
        kem: whether to use ML-KEM-768 with whoever has it too.
    """

    entropy: Callable[[int], bytes]
    ciphers: int
    kem: bool


class Sessions:
    """What the endpoint seals with."""

    def __init__(self, state: State, sealing: Sealing, admission: Admission) -> None:
        limits = state.limits
        own = Self(state.own, state.public_key, state.sign, state.verify, sealing.ciphers, sealing.kem)
        self._state: Final = state
        self._waiting: Final = WaitingMessages(limits, state.counts)
        self._relations: Final = Relations(limits.sessions, limits.session_lifetime, state.counts)
        self._accepting: Final = Accepting(state, own, sealing.entropy, admission, self._relations)
        self._openings: Final = Openings(state, own, sealing.entropy, self._relations, self._waiting)
        self._sweep_at = state.now + _SWEEP

    # What callers may read

    def sizes(self) -> dict[str, int]:
        """How full each bounded table is."""
        return {
            "sessions": len(self._relations.by_index),
            "session_peers": len(self._relations),
            "session_openings": len(self._openings),
            "session_half_open": len(self._accepting),
            "session_waiting": len(self._waiting),
            "session_waiting_bytes": self._waiting.bytes,
        }

    def has_room(self, to: NodeId, size: int) -> bool:
        """Whether a message of so many bytes can be sealed at once, or may wait."""
        relation = self._relations.get(to)
        usable = relation is not None and self._relations.usable(relation, self._state.now) is not None
        return usable or self._waiting.has_room(to, size)

    def knows(self, peer: NodeId) -> bool:
        """Whether that id proved to us that it has a key, and the session is not forgotten."""
        relation = self._relations.get(peer)
        return relation is not None and bool(relation.sessions)

    def is_unreachable(self, to: NodeId) -> bool:
        """Whether the last copy of OPEN to that id found no way."""
        relation = self._relations.get(to)
        return relation is not None and relation.unreachable

    @property
    def awaited(self) -> bool:
        """Whether a message waits for a session with a peer to whom there seems to be a way."""
        return any(not self.is_unreachable(peer) for peer in self._waiting.receivers)

    # Sealing

    def send(
        self,
        kind: Kind,
        to: NodeId,
        message_id: bytes,
        payload: bytes,
        *,
        flags: int = 0,
        attempt: int = 0,
        back: Neighbour | None = None,
    ) -> bool | None:
        """Seals a frame and sends it, as `State.send` does; None if there is no session yet, but soon."""
        state = self._state
        session = self._session_for(to, kind)
        if session is None:
            return None
        flags, sealed = session.seal(kind, flags, to, state.own, message_id, payload)
        return state.send(kind, to, message_id, sealed, flags=flags, attempt=attempt, back=back)

    def send_copy(
        self,
        to: NodeId,
        message_id: bytes,
        payload: bytes,
        *,
        flags: int,
        attempt: int,
        before: Iterable[Copy],
        since: float,
    ) -> tuple[bool | None, Copy | None]:
        """Like `send` for a confirmed message, whose copies in one session are the same bytes.

        They are not any more once so much else was sealed that the receiver would take them for repeated: who takes the
        new one has moved its window past the old ones.

        Args:
            before: how its copies were sealed so far, in every session.
            since: when the first of them left.

        Returns:
            What `send` does, and how this copy was sealed.
        """
        state, kind = self._state, Kind.DATA
        copies = [copy for copy in before if self._is_good(copy)]
        first = None
        if attempt < _DOUBT_AFTER:
            first = next((copy for copy in copies if copy.session.suspected is None), None)
        else:
            for copy in copies:
                if copy.session.received < since:
                    self._openings.doubt(copy.session)
        if first is None:
            session = self._session_for(to, kind)
            if session is None:
                return None, None
            first = next((copy for copy in copies if copy.session is session), None)
            if first is None:
                first = Copy(session, session.sealed, 0)
                first.flags, content = session.seal(kind, flags, to, state.own, message_id, payload)
                return state.send(kind, to, message_id, content, flags=first.flags, attempt=attempt), first
        flags = first.flags
        content = first.session.seal_again(first.counter, kind, flags, to, state.own, message_id, payload)
        return state.send(kind, to, message_id, content, flags=flags, attempt=attempt), first

    def _is_good(self, copy: Copy) -> bool:
        """Whether the receiver may still take one more such copy."""
        session = copy.session
        return not copy.refused and self._relations.has(session) and session.sealed - copy.counter <= WINDOW

    def _session_for(self, to: NodeId, kind: Kind) -> Session | None:
        """What to seal in now; asks for a new session when that is due."""
        now = self._state.now
        relation = self._relations.get(to)
        session = None if relation is None else self._relations.usable(relation, now)
        if relation is None or session is None:
            self._openings.open(to)
            return None
        if session.sealed >= RENEW_FRAMES or now >= self._renew_at(session):
            self._openings.open(to, renewal=True)
        session.used = relation.used = now
        if kind is Kind.DATA:
            self._relations.write_to(relation)
        return session

    def post(self, kind: Kind, to: NodeId, message_id: bytes, payload: bytes, *, flags: int = 0) -> bool:
        """Like `send`, but what has no session waits for it; False when there is a session and no way."""
        sent = self.send(kind, to, message_id, payload, flags=flags)
        if sent is None:
            until = self._state.now + self._state.limits.session_timeout
            self._waiting.add(WaitingMessage(kind, to, message_id, payload, flags, until))
        return sent is not False

    def _renew_at(self, session: Session) -> float:
        born_at = session.born if session.opener else session.born + _LATER
        return min(born_at + self._state.limits.session_lifetime, session.used + _BEFORE_IDLE)

    def close(self) -> None:
        """The node ends: nothing waits any more."""
        self._waiting.clear()

    def linked(self) -> None:
        """A link came up."""
        self._openings.hurry()

    def take_ready(self) -> list[tuple[NodeId, bool]]:
        """Peers with whom something can be sealed since the last call, and whether frames may have been lost; what
        waited for them has left."""
        ready = self._relations.take_ready()
        for peer, _ in ready:
            self._send_waiting(peer)
        return ready

    def _send_waiting(self, peer: NodeId) -> None:
        for message in self._waiting.take(peer):
            sent = self.send(message.kind, peer, message.message_id, message.payload, flags=message.flags)
            if sent is None:
                # What was ready a moment ago is not any more.
                self._waiting.add(message)
            elif not sent:
                self._state.counts["no_way"] += 1

    def take_moved(self) -> bool:
        """Whether `next_deadline` may have come nearer since the last call."""
        moved, self._openings.moved = self._openings.moved, False
        return moved

    @property
    def has_ready(self) -> bool:
        """Whether `take_ready` has something."""
        return self._relations.has_ready

    # Frames for us

    def receive(self, via: Neighbour, attempt: int, source: NodeId, message_id: bytes, payload: bytes) -> None:
        """A plain SESSION frame."""
        try:
            message = parse_session_message_untrusted(payload)
        except RemoteProtocolError:
            self._state.counts["bad_session"] += 1
            return
        match message:
            case Open():
                self._accepting.receive_open(via, attempt, source, message_id, message)
            case Accept():
                self._openings.receive_accept(source, message_id, message)
            case Cookie():
                self._openings.receive_cookie(source, message_id, message)
            case Unknown():
                self._openings.receive_unknown(source, message)
            case _:
                assert_never(message)

    def unreachable(self, message_id: bytes, target: bytes) -> bool:
        """A relay says that a frame of ours went no further; whether it was an OPEN."""
        return self._openings.unreachable(message_id, target)

    def unseal(
        self,
        via: Neighbour,
        attempt: int,
        kind: int,
        flags: int,
        source: NodeId,
        message_id: bytes,
        payload: bytes,
    ) -> tuple[bytes, Arrival] | None:
        """The payload of a sealed frame, proven to be from `source`, and whether it comes for the first time.

        None if it is not to be taken, counted.
        """
        state = self._state
        if len(payload) < _SHORTEST:
            state.counts["seal_broken"] += 1
            return None
        session = self._relations.by_index.get(payload[:INDEX_LENGTH])
        if session is None:
            session = self._accepting.confirm(source, payload) if flags & Flag.OPENING else None
            if session is None:
                self._accepting.say_unknown(via, attempt, source, message_id, payload)
                return None
        if session.peer != source:
            state.counts["seal_broken"] += 1
            return None
        plain, arrival = session.unseal(kind, flags, state.own, source, message_id, payload)
        if plain is None:
            state.counts["seal_broken"] += 1
            return None
        if arrival is Arrival.NEW:
            session.received = session.used = state.now
            if session.proof or session.suspected is not None or flags & Flag.OPENING:
                self._heard(session, via, attempt, flags)
        return plain, arrival

    def refuse(self, payload: bytes) -> None:
        """A sealed frame that was just opened was not taken, for want of room."""
        session = self._relations.by_index.get(payload[:INDEX_LENGTH])
        if session is not None:
            session.refuse(payload)

    def _heard(self, session: Session, via: Neighbour, attempt: int, flags: int) -> None:
        """Something came in a session that was not confirmed, or suspected, or whose opener waits for a sign."""
        if session.suspected is not None:
            session.suspected = None
            relation = self._relations.get(session.peer)
            if relation is not None:
                self._relations.changed(relation, self._state.now)
        if session.proof:
            self._openings.confirmed(session)
        elif flags & Flag.OPENING and self._state.now >= session.confirm_at:
            session.confirm_at = self._state.now + _CONFIRM_EVERY
            send_empty(self._state, session, attempt, back=via)

    # Time

    def handle_timeout(self) -> None:
        """Does what is due now."""
        now = self._state.now
        # First: nothing is opened for what is given up.
        self._waiting.expire(now)
        self._openings.handle_timeout()
        self._accepting.handle_timeout()
        if self._sweep_at <= now:
            self._sweep_at = now + _SWEEP
            self._relations.sweep(now)

    def next_deadline(self) -> float:
        """When `handle_timeout` has something to do."""
        deadline = min(self._openings.next_deadline(), self._accepting.next_deadline(), self._waiting.next_deadline())
        return min(deadline, self._sweep_at) if len(self._relations) else deadline
