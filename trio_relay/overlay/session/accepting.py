"""Sessions that others open with us: a stranger costs what `Guard` allows, and a place in a bounded table; pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ...exceptions import RemoteProtocolError
from ...wire.frame import Kind
from ...wire.ids import NodeId
from ...wire.session import (
    BOX_LENGTH,
    INDEX_LENGTH,
    SEALED_HEAD,
    TAG_LENGTH,
    Cookie,
    Open,
    Unknown,
    build_cookie,
    build_unknown,
)
from ..admission import Admission
from ..state import State
from ..table import Neighbour
from .agreement import HalfOpen, Self
from .guard import Guard
from .half_open import HalfOpenTable
from .proof import WrongProof
from .relations import Relations
from .secrets import ENTROPY
from .session import Session

__all__ = ["Accepting"]


class Accepting:
    """Answers OPEN, and takes the proof that comes with the first sealed frame."""

    def __init__(
        self,
        state: State,
        own: Self,
        entropy: Callable[[int], bytes],
        admission: Admission,
        relations: Relations,
    ) -> None:
        self._state: Final = state
        self._self: Final = own
        self._entropy: Final = entropy
        self._admission: Final = admission
        self._relations: Final = relations
        self._guard: Final = Guard(entropy, state.now)
        self._half_open: Final = HalfOpenTable(state.limits.half_open, state.counts)

    def __len__(self) -> int:
        return len(self._half_open)

    def receive_open(self, via: Neighbour, attempt: int, source: NodeId, index: bytes, message: Open) -> None:
        """OPEN: answered, the same one with the same answer."""
        state = self._state
        half = self._half_open.of(source, index)
        if half is not None and half.message == message.without_cookie():
            if self._half_open.may_repeat(half, state.now):
                state.send(Kind.SESSION, source, index, half.payload, attempt=attempt, back=via)
            else:
                state.counts["session_rate"] += 1
        elif self._is_open(source, index):
            state.counts["session_late"] += 1
        elif not self._admission.either(source):
            state.counts["not_admitted"] += 1
        elif self._guard.allows(via.id, source, index, message, state.now):
            self._answer(via, attempt, source, index, message)
        else:
            self._ask_for_cookie(via, attempt, source, index, message)

    def _is_open(self, source: NodeId, index: bytes) -> bool:
        relation = self._relations.get(source)
        return relation is not None and any(s.remote_index == index and not s.opener for s in relation.sessions)

    def _answer(self, via: Neighbour, attempt: int, source: NodeId, index: bytes, message: Open) -> None:
        state = self._state
        try:
            half = HalfOpen.answer(self._self, source, index, message, state.token(), self._entropy(ENTROPY), state.now)
        except RemoteProtocolError:
            state.counts["bad_session"] += 1
            return
        self._half_open.add(half, via.id, state.now)
        state.send(Kind.SESSION, source, index, half.payload, attempt=attempt, back=via)

    def _ask_for_cookie(self, via: Neighbour, attempt: int, source: NodeId, index: bytes, message: Open) -> None:
        state = self._state
        state.counts["session_rate"] += 1
        if self._guard.may_reply(via.id, source, state.now):
            cookie = build_cookie(Cookie(self._guard.cookie(source, index, message, state.now)))
            state.send(Kind.SESSION, source, index, cookie, attempt=attempt, back=via)

    def confirm(self, source: NodeId, payload: bytes) -> Session | None:
        """The first sealed frame of an opener: its proof makes a half-open session a session."""
        state = self._state
        half = self._half_open.get(payload[:INDEX_LENGTH])
        if half is None or half.opener != source or len(payload) < SEALED_HEAD.size + BOX_LENGTH + TAG_LENGTH:
            return None
        try:
            session = half.confirmed(payload[SEALED_HEAD.size : SEALED_HEAD.size + BOX_LENGTH], state.now)
        except RemoteProtocolError as error:
            state.counts["session_proof"] += 1
            if isinstance(error, WrongProof):
                self._half_open.pop(half.index)
            return None
        self._half_open.pop(half.index)
        relation = self._relations.add(source, state.now, own=False)
        if relation is None:
            return None
        self._relations.open(relation, session, state.now)
        state.counts["sessions_accepted"] += 1
        return session

    def say_unknown(self, via: Neighbour, attempt: int, source: NodeId, message_id: bytes, payload: bytes) -> None:
        """A sealed frame with an index that means nothing here: a hint for its sender."""
        state = self._state
        state.counts["session_unknown"] += 1
        if self._guard.may_reply(via.id, source, state.now):
            hint = build_unknown(Unknown(payload[:INDEX_LENGTH]))
            # Like the answer to a retry: there may be none that brings a second one.
            state.send(Kind.SESSION, source, message_id, hint, attempt=max(attempt, 1), back=via)

    def handle_timeout(self) -> None:
        """Forgets openers that did not go on."""
        self._half_open.expire(self._state.now)

    def next_deadline(self) -> float:
        """When `handle_timeout` has something to do."""
        return self._half_open.next_deadline()
