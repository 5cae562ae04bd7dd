"""Attempts at WebRTC links: those under way, by peer and by id, and what is remembered of the others; pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from .._bounded import BoundedMap
from ..wire.hello import Reason
from ..wire.ids import NodeId

__all__ = ["Attempt", "Attempts", "Outcome"]

_REMEMBERED: Final = 4096
_REMEMBERED_FOR: Final = 60.0
"""Longer than an attempt, and any copy of a signal that is still under way."""


@dataclass(slots=True, eq=False)
class Attempt:
    """One negotiation with one peer.

    Attributes:
        ours: whether we offer.
        sequence: of the offer, if it is theirs.
        signal: what we repeat, our offer or answer; empty before our description is ready.
        answered: whether the answer to our offer came.
        copy: how often our offer was repeated; of theirs, the number of the newest copy that came.
    """

    id: bytes
    peer: NodeId
    ours: bool
    preferred: bool
    deadline: float
    sequence: int = 0
    signal: bytes = b""
    answered: bool = False
    copy: int = 0
    repeat_at: float = float("inf")

    @property
    def heard(self) -> bool:
        """Whether the peer takes part."""
        return self.answered or not self.ours


@dataclass(frozen=True, slots=True)
class Outcome:
    """An attempt ended without a link, and not because we gave it up.

    Attributes:
        again: whether another one may fare better: the other side did not want that one.
        known: whether the peer was heard of.
        preferred: whether the link would have been used before a WebSocket.
    """

    peer: NodeId
    reason: str
    again: bool
    known: bool
    preferred: bool


class Attempts:
    """At most one attempt per peer; the caller bounds their number."""

    def __init__(self) -> None:
        self._by_peer: dict[NodeId, Attempt] = {}
        self._by_id: dict[bytes, Attempt] = {}
        self._sequences: Final = BoundedMap[NodeId, int](_REMEMBERED, _REMEMBERED_FOR)
        self._ended: Final = BoundedMap[bytes, tuple[NodeId, Reason]](_REMEMBERED, _REMEMBERED_FOR)

    def __len__(self) -> int:
        return len(self._by_peer)

    def __iter__(self) -> Iterator[Attempt]:
        return iter(list(self._by_peer.values()))

    @property
    def remembered(self) -> int:
        """Entries about attempts that are over."""
        return max(len(self._sequences), len(self._ended))

    def of(self, peer: NodeId) -> Attempt | None:
        """The attempt with that peer."""
        return self._by_peer.get(peer)

    def get(self, negotiation: bytes) -> Attempt | None:
        """The attempt with that id."""
        return self._by_id.get(negotiation)

    def add(self, attempt: Attempt) -> None:
        """Neither its id nor its peer has another one."""
        self._by_peer[attempt.peer] = self._by_id[attempt.id] = attempt

    def remove(self, attempt: Attempt) -> None:
        """It is over."""
        del self._by_peer[attempt.peer]
        del self._by_id[attempt.id]

    # Memory

    def newest(self, peer: NodeId, now: float) -> int:
        """The largest sequence number that came from that peer, -1 if none did lately."""
        sequence = self._sequences.get(peer, now)
        return -1 if sequence is None else sequence

    def came(self, peer: NodeId, sequence: int, now: float) -> None:
        """An offer or answer with that sequence number was taken, or refused."""
        self._sequences.set(peer, max(sequence, self.newest(peer, now)), now)

    def ended(self, peer: NodeId, negotiation: bytes, reason: Reason, now: float) -> None:
        """We refused that negotiation, or ended it."""
        self._ended.set(negotiation, (peer, reason), now)

    def end_of(self, peer: NodeId, negotiation: bytes, now: float) -> Reason | None:
        """Why we refused or ended a negotiation with that peer, None if we did not."""
        entry = self._ended.get(negotiation, now)
        return None if entry is None or entry[0] != peer else entry[1]
