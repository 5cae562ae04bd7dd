"""Iterative lookups: ask the closest relays known, learn closer ones, until none is closer; pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from ..wire.ids import NodeId

__all__ = ["Lookup"]

_PARALLEL: Final = 3
_CLOSEST: Final = 3
"""The lookup ends when the three closest live relays have answered: they are where records are kept."""
_QUERY_TIMEOUT: Final = 1.5
_MAX_SHORTLIST: Final = 64


@dataclass(slots=True)
class Lookup:
    """One lookup in progress.

    Attributes:
        target: the id looked for.
        deadline: when it ends whatever happens.
        query: what the caller wants to be told with the result, None for nothing.
        whole: whether to stop as soon as the target's own record is found.
        near: whether to ask nobody but the relays that were learned before the first answer.
        asked: query message id -> (relay asked, when its time is up).
    """

    target: NodeId
    deadline: float
    query: object
    whole: bool = False
    near: bool = False
    asked: dict[bytes, tuple[NodeId, float]] = field(default_factory=dict)
    _number: int = field(init=False)
    _shortlist: dict[NodeId, int] = field(default_factory=dict)
    _done: set[NodeId] = field(default_factory=set)
    _dead: set[NodeId] = field(default_factory=set)
    _in_flight: set[NodeId] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._number = int.from_bytes(self.target, "big")

    def learn(self, relay: NodeId) -> None:
        """Adds a relay that may be asked; the farthest is forgotten when there are too many."""
        if relay in self._shortlist or relay in self._dead or (self.near and self._done):
            return
        self._shortlist[relay] = int.from_bytes(relay, "big") ^ self._number
        if len(self._shortlist) > _MAX_SHORTLIST:
            del self._shortlist[max(self._shortlist, key=self._shortlist.__getitem__)]

    def next_queries(self) -> list[NodeId]:
        """Whom to ask now; report each by `sent`. Empty while enough are in flight or all is known."""
        ordered = sorted((i for i in self._shortlist if i not in self._dead), key=self._shortlist.__getitem__)
        wanted: list[NodeId] = []
        for relay in ordered[: max(_CLOSEST, _PARALLEL)]:
            if len(self._in_flight) + len(wanted) >= _PARALLEL:
                break
            if relay not in self._done and relay not in self._in_flight:
                wanted.append(relay)
        return wanted

    def sent(self, message_id: bytes, relay: NodeId, now: float) -> None:
        """A query is on its way."""
        self.asked[message_id] = (relay, now + _QUERY_TIMEOUT)
        self._in_flight.add(relay)

    def answered(self, message_id: bytes, sender: NodeId) -> bool:
        """Whether this answers a query of ours; closes that query."""
        relay, _ = self.asked.get(message_id, (None, 0.0))
        if relay != sender:
            return False
        del self.asked[message_id]
        self._in_flight.discard(sender)
        self._done.add(sender)
        return True

    def failed(self, message_id: bytes) -> None:
        """A query came back as unreachable, or its time is up: that relay counts as dead for this lookup."""
        entry = self.asked.pop(message_id, None)
        if entry is not None:
            self._in_flight.discard(entry[0])
            self._dead.add(entry[0])
            self._shortlist.pop(entry[0], None)

    def overdue(self, now: float) -> list[bytes]:
        """Queries whose time is up."""
        return [message_id for message_id, (_, until) in self.asked.items() if until <= now]

    def closest(self, count: int) -> list[NodeId]:
        """The closest relays that answered."""
        return sorted(self._done, key=lambda i: int.from_bytes(i, "big") ^ self._number)[:count]

    @property
    def finished(self) -> bool:
        """Whether nobody is left to ask."""
        return not self._in_flight and not self.next_queries()

    def next_deadline(self) -> float:
        """When `overdue` or `deadline` next matters."""
        return min((until for _, until in self.asked.values()), default=self.deadline)
