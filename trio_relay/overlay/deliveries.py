"""Confirmed messages of ours that wait for their acknowledgement: retries, and what is known when one fails; pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from ..exceptions import DeliveryError, MailboxFull, NoAcknowledgement, Outcome, PeerUnreachable, SessionTimeout
from ..wire.ids import NodeId, short
from .actions import Acknowledged
from .session.copies import Copy

__all__ = ["Deliveries", "Pending"]

_FIRST_RETRY: Final = 1.0
_LAST_RETRY: Final = 8.0
_AFTER_HINT: Final = 0.25
_RETRY_FOR: Final = 100.0
"""The receiver knows a message again for 120 s; a copy sent so long after the first could come after that."""
_MAX_ATTEMPT: Final = 255


@dataclass(slots=True)
class Pending:
    """One message under way.

    Attributes:
        attempt: number of the newest attempt, -1 before the first.
        retry_until: no attempt is made later; known once the first attempt left.
        sent: when each attempt left us; absent for one that found no way.
        open: attempts that left and were not answered "busy" by the receiver: any of them may have arrived.
        copies: how each attempt was sealed.
        last_answer: ``"unreachable"``, ``"busy"``, ``"no session"`` or nothing.
    """

    to: NodeId
    payload: bytes = field(repr=False)
    flags: int
    deadline: float
    retry_at: float
    retry_until: float = float("inf")
    attempt: int = -1
    sent: dict[int, float] = field(default_factory=dict)
    open: set[int] = field(default_factory=set)
    last_answer: str = ""
    hints: int = 0
    copies: dict[int, Copy] = field(default_factory=dict)


class Deliveries:
    """The table of pending messages by message id; its bounds are kept by whoever adds."""

    def __init__(self, retry_for: float = _RETRY_FOR) -> None:
        self._retry_for = retry_for
        self._pending: dict[bytes, Pending] = {}
        self._timers: list[tuple[float, bytes]] = []
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, message_id: bytes, to: NodeId, payload: bytes, flags: int, deadline: float, now: float) -> None:
        """A new message; it is due at once."""
        self._pending[message_id] = Pending(to, payload, flags, deadline, now)
        self.bytes += len(payload)
        heapq.heappush(self._timers, (now, message_id))

    def remove(self, message_id: bytes) -> Pending | None:
        """Ends a message whatever its state."""
        pending = self._pending.pop(message_id, None)
        if pending is not None:
            self.bytes -= len(pending.payload)
        return pending

    def due(self, now: float) -> Iterator[tuple[bytes, Pending]]:
        """Messages to send (again) or, past their deadline, to give up; report by `attempted` or `remove`."""
        timers = self._timers
        while timers and timers[0][0] <= now:
            _, message_id = heapq.heappop(timers)
            pending = self._pending.get(message_id)
            if pending is not None and min(pending.retry_at, pending.deadline) <= now:
                yield message_id, pending

    def attempted(self, message_id: bytes, pending: Pending, left: bool, now: float) -> None:
        """The newest attempt left this node, or found no way out of it."""
        pending.attempt = min(pending.attempt + 1, _MAX_ATTEMPT)
        if pending.last_answer == "no session":
            pending.last_answer = ""
        if left:
            if not pending.sent:
                pending.retry_until = now + self._retry_for
                pending.deadline = min(pending.deadline, pending.retry_until + _LAST_RETRY)
            pending.sent[pending.attempt] = now
            pending.open.add(pending.attempt)
        else:
            pending.last_answer = "unreachable"
        self._schedule(message_id, pending, now + min(_FIRST_RETRY * 2**pending.attempt, _LAST_RETRY))

    def waits(self, message_id: bytes, pending: Pending, now: float) -> None:
        """There is no session with the receiver yet; `hurry` says when there is."""
        pending.last_answer = "no session"
        self._schedule(message_id, pending, now + _FIRST_RETRY)

    def _schedule(self, message_id: bytes, pending: Pending, at: float) -> None:
        pending.retry_at = at = at if at < pending.retry_until else float("inf")
        heapq.heappush(self._timers, (min(at, pending.deadline), message_id))

    def hurry(self, now: float, to: NodeId | None = None, *, lost: bool = False) -> None:
        """There is a way now, to everybody or to one: what has not left this node yet is due at once.

        Args:
            lost: what left may not have been understood, so that it is due as well.
        """
        for message_id, pending in self._pending.items():
            if to not in (None, pending.to) or pending.retry_at <= now:
                continue
            if lost or not pending.sent or pending.last_answer == "no session":
                self._schedule(message_id, pending, now)

    def next_deadline(self) -> float:
        """When `due` next yields, at the earliest."""
        timers = self._timers
        while timers and timers[0][1] not in self._pending:
            heapq.heappop(timers)
        return timers[0][0] if timers else float("inf")

    def acknowledged(
        self, message_id: bytes, source: NodeId, attempt: int, hops: int, now: float
    ) -> Acknowledged | None:
        """The receiver has it in its mailbox; None when this answers nothing of ours."""
        pending = self._pending.get(message_id)
        if pending is None or pending.to != source or attempt not in pending.sent:
            return None
        self.remove(message_id)
        return Acknowledged(message_id, now - pending.sent[attempt], hops)

    def busy(self, message_id: bytes, source: NodeId, attempt: int, now: float) -> bool:
        """The receiver refused one attempt; the next follows later.

        Of a sealed one it takes no other copy either, since they are the same bytes; of a plain one it may.
        """
        pending = self._pending.get(message_id)
        if pending is None or pending.to != source or attempt not in pending.sent:
            return False
        if attempt not in pending.open:
            return True
        if attempt in pending.copies:
            pending.open.discard(attempt)
            pending.copies[attempt].refused = True
        pending.last_answer = "busy"
        self._schedule(message_id, pending, now + min(_FIRST_RETRY * 2**pending.attempt, _LAST_RETRY) / 2)
        return True

    def unreachable(self, message_id: bytes, target: bytes, attempt: int, now: float) -> bool:
        """A relay says that an attempt went no further: a hint, so only the next attempt comes sooner."""
        pending = self._pending.get(message_id)
        if pending is None or pending.to != target or attempt != pending.attempt or attempt not in pending.sent:
            return False
        pending.last_answer = "unreachable"
        pending.hints += 1
        soon = now + min(_AFTER_HINT * 2**pending.attempt, _LAST_RETRY)
        if soon < pending.retry_at:
            self._schedule(message_id, pending, soon)
        return True

    @staticmethod
    def error(pending: Pending, *, unreachable: bool = False) -> DeliveryError:
        """What to raise for a message that was given up; `unreachable`: no way was found to open a session.

        The outcome is ``not_delivered`` only when no attempt can have arrived: none left this node, or the receiver
        itself refused each. A relay's word that it had no way does not count as proof.
        """
        outcome: Outcome = "unknown" if pending.open else "not_delivered"
        name = short(pending.to)
        if pending.last_answer == "busy":
            return MailboxFull(f"the mailbox of {name} is full", outcome)
        if pending.last_answer == "no session" and not pending.sent and not unreachable:
            return SessionTimeout(f"{name} did not answer to the opening of a session", outcome)
        if pending.last_answer == "unreachable" or unreachable:
            return PeerUnreachable(f"no way to {name} was found in {pending.attempt + 1} attempts", outcome)
        return NoAcknowledgement(f"{name} did not acknowledge {pending.attempt + 1} attempts", outcome)
