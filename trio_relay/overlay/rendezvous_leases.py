"""One subscription of ours, and how it stands at each relay that was asked to keep it; pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from ..wire.ids import NodeId
from .actions import Subscribed

__all__ = ["FULL_AGAIN_AFTER", "Interest", "Lease"]

FULL_AGAIN_AFTER: Final = 10.0
"""A relay that has no room is asked again so much later."""
_MISSED_AFTER: Final = 2.0
_ASKED_AGAIN_AFTER: Final = 5.0


@dataclass(slots=True, eq=False)
class Lease:
    """A subscription at one relay.

    Attributes:
        message_id: of the question that is under way, empty for none.
        confirmed: whether the relay keeps it.
        refused: why it does not, in words.
        asked: when it was asked last.
        until: when what it brings is not taken any more; infinite while it is one of the closest.
        missed: since when it owes us a publication that another relay brought.
    """

    message_id: bytes = b""
    confirmed: bool = False
    refused: str = ""
    asked: float = -float("inf")
    until: float = float("inf")
    missed: float = float("inf")

    def is_due(self, now: float) -> bool:
        """Whether it is to be asked, and not only because a minute is over."""
        return not self.confirmed and (not self.refused or self.asked + FULL_AGAIN_AFTER <= now)

    @property
    def suspected_at(self) -> float:
        """When it is asked whether it still keeps the subscription."""
        return max(self.missed + _MISSED_AFTER, self.asked + _ASKED_AGAIN_AFTER)


@dataclass(slots=True, eq=False)
class Interest:
    """A key that we subscribed to.

    Attributes:
        settled: whether it was complete once.
        look_at: when the relays closest to it are looked for again.
        told: what the last `Subscribed` said.
        moved: how often a relay began to keep it after it was complete for the first time.
    """

    key: NodeId
    look_at: float
    renewed: float
    looked: float = -float("inf")
    leases: dict[NodeId, Lease] = field(default_factory=dict)
    targets: list[NodeId] = field(default_factory=list)
    told: Subscribed | None = None
    settled: bool = False
    moved: int = 0
