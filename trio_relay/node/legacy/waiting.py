"""Envelopes that wait until it is known who speaks for their target, and what was found out; pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

from ..._bounded import BoundedMap, TokenBucket
from ...limits import Limits
from ...overlay.actions import LinkHandle
from ...wire.envelope import Envelope
from ...wire.ids import NodeId

__all__ = ["Origin", "WaitingRoom"]

_LOOKUPS_PER_SECOND: Final = 20.0
_LOOKUPS_BURST: Final = 60.0
"""For strangers' envelopes: each unknown target costs the overlay a lookup."""
_UNKNOWN_FOR: Final = 15.0
_KEYLESS_FOR: Final = 60.0
"""So long our own messages for an id leave without asking again whether it has a key."""
_UNKNOWN_IDS: Final = 4096
_GRACE: Final = 1.0
"""Beyond `Limits.lookup_timeout`, in case nobody reports the end of a lookup."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an envelope came from; neither link nor carrier for our own.

    Attributes:
        link: the link with an original.
        carrier: the node of ours that carried it.
        scope: of the link that it came over.
        size: bytes in which it came.
    """

    link: LinkHandle | None = None
    carrier: NodeId | None = None
    scope: int = 0
    size: int = 0

    @property
    def own(self) -> bool:
        """Whether our application sent it."""
        return self.link is None and self.carrier is None


@dataclass(frozen=True, slots=True)
class Waiting:
    """One envelope."""

    envelope: Envelope
    origin: Origin


@dataclass(slots=True)
class _Question:
    """A lookup under way and who waits for it."""

    deadline: float
    waiting: list[Waiting]


class WaitingRoom:
    """Bounded by `Limits.unlinked_messages`, `backlog_bytes` and `lookups`; strangers get half of the lookups."""

    def __init__(self, limits: Limits, counts: Counter[str], now: float) -> None:
        self._limits: Final = limits
        self._counts: Final = counts
        self._questions: dict[NodeId, _Question] = {}
        self._unknown: Final = BoundedMap[NodeId, bool](_UNKNOWN_IDS, _UNKNOWN_FOR)
        self._keyless: Final = BoundedMap[NodeId, bool](_UNKNOWN_IDS, _KEYLESS_FOR)
        self._rate: Final = TokenBucket(_LOOKUPS_PER_SECOND, _LOOKUPS_BURST, now)
        self.messages = 0
        self.bytes = 0

    @property
    def has_room(self) -> bool:
        """Whether one more message of our own may wait."""
        limits = self._limits
        fits = self.bytes + limits.legacy_message <= limits.backlog_bytes
        return not self.messages or (fits and self.messages < limits.unlinked_messages)

    @property
    def unknown_ids(self) -> int:
        """How many targets are remembered as unknown."""
        return len(self._unknown) + len(self._keyless)

    def is_unknown(self, target: NodeId, now: float) -> bool:
        """Whether a lookup ended without a trace of this id a moment ago."""
        return self._unknown.get(target, now) is not None

    def is_keyless(self, target: NodeId, now: float) -> bool:
        """Whether a lookup ended without a key of this id a moment ago."""
        return self._keyless.get(target, now) is not None

    def remember_keyless(self, target: NodeId, now: float, *, unknown: bool) -> None:
        """A lookup found no key; `unknown`: nor any other trace."""
        self._keyless.set(target, True, now)
        if unknown:
            self._unknown.set(target, True, now)

    def add(self, waiting: Waiting, now: float) -> tuple[bool, bool]:
        """Lets an envelope wait.

        Returns:
            Whether it waits, and whether a lookup must be started for that.
        """
        limits = self._limits
        if self.messages >= limits.unlinked_messages or self.bytes + waiting.origin.size > limits.backlog_bytes:
            self._counts["legacy_waiting_full"] += 1
            return False, False
        question = self._questions.get(waiting.envelope.to)
        started = question is None
        if question is None:
            own = waiting.origin.own
            room = limits.lookups if own else limits.lookups // 2
            if len(self._questions) >= room or not (own or self._rate.take(now)):
                self._counts["legacy_lookup_refused"] += 1
                return False, False
            question = _Question(now + limits.lookup_timeout + _GRACE, [])
            self._questions[waiting.envelope.to] = question
        question.waiting.append(waiting)
        self.messages += 1
        self.bytes += waiting.origin.size
        return True, started

    def take(self, target: NodeId) -> list[Waiting]:
        """The lookup ended: who waited for it, in order."""
        question = self._questions.pop(target, None)
        if question is None:
            return []
        self.messages -= len(question.waiting)
        self.bytes -= sum(waiting.origin.size for waiting in question.waiting)
        return question.waiting

    def overdue(self, now: float) -> list[NodeId]:
        """Targets whose lookup nobody reported; forgets old results."""
        self._unknown.expire(now)
        self._keyless.expire(now)
        return [target for target, question in self._questions.items() if question.deadline <= now]

    def next_deadline(self) -> float:
        """When `overdue` has something."""
        return min((question.deadline for question in self._questions.values()), default=float("inf"))
