"""The live links with original nodes, by handle and by id; pure."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Final

from ...overlay.actions import LinkHandle
from ...wire.ids import NodeId

__all__ = ["LegacyLink", "LegacyLinks"]

PUBLISH_EVERY: Final = 20 * 60.0
"""Seconds; a record lives for an hour at most, so two publications may be lost."""
_PUBLISH_SOON: Final = 1.0
"""Changes of the overlay come in bursts."""
DEAF_AFTER: Final = 30.0
"""An original asks for peers as soon as it is linked. One whose bucket for us is full keeps our link open and never
reads it (lib/client.js `_onConnection`); somebody who only occupies a place is silent as well."""


@dataclass(slots=True, eq=False)
class LegacyLink:
    """One link.

    Attributes:
        link: the handle by which the node knows it.
        scope: how near the other end is (`wire.addresses.Scope`).
        publish_at: when its record is to be published next.
        deaf_at: when it is given up unless it has said something.
        spoken: whether any envelope came over it.
        answered: whether it answered our question for peers.
        listed: the ids that it was told of when it asked for peers.
        list_again: when it is told of those that came since, in turn.
    """

    link: LinkHandle
    peer: NodeId
    dialled: bool
    scope: int
    publish_at: float
    deaf_at: float
    spoken: bool = False
    answered: bool = False
    listed: frozenset[NodeId] = frozenset()
    list_again: list[float] = field(default_factory=list)
    number: int = field(init=False)

    def __post_init__(self) -> None:
        self.number = int.from_bytes(self.peer, "big")

    def next_deadline(self) -> float:
        """When something is due."""
        deadline = self.publish_at if self.spoken else min(self.publish_at, self.deaf_at)
        return min(deadline, self.list_again[0]) if self.list_again else deadline


class LegacyLinks:
    """At most one link per id: what an original does with a second one ends the first."""

    def __init__(self) -> None:
        self._by_link: dict[LinkHandle, LegacyLink] = {}
        self._by_peer: dict[NodeId, LegacyLink] = {}

    def __len__(self) -> int:
        return len(self._by_link)

    def __iter__(self) -> Iterator[LegacyLink]:
        return iter(self._by_link.values())

    def add(self, link: LinkHandle, peer: NodeId, now: float, *, dialled: bool, scope: int) -> LegacyLink:
        """Adds a link with an id that has none."""
        entry = LegacyLink(link, peer, dialled, scope, now + PUBLISH_EVERY, now + DEAF_AFTER)
        self._by_link[link] = self._by_peer[peer] = entry
        return entry

    def remove(self, entry: LegacyLink) -> None:
        """Forgets a link."""
        del self._by_link[entry.link]
        del self._by_peer[entry.peer]

    def get(self, link: LinkHandle) -> LegacyLink | None:
        """The link with a handle."""
        return self._by_link.get(link)

    def of(self, peer: NodeId) -> LegacyLink | None:
        """The link with an id."""
        return self._by_peer.get(peer)

    def closest(
        self, target: NodeId, count: int, *, without: Collection[NodeId], spoken: bool = False
    ) -> list[LegacyLink]:
        """The links closest to an id, nearest first, without those in `without`; `spoken`: only those that spoke."""
        number = int.from_bytes(target, "big")
        usable = (e for e in self._by_link.values() if e.peer not in without and (e.spoken or not spoken))
        return heapq.nsmallest(count, usable, key=lambda entry: entry.number ^ number)

    # Time

    def publish_soon(self, now: float) -> None:
        """The relays that should keep our records changed."""
        for entry in self:
            entry.publish_at = min(entry.publish_at, now + _PUBLISH_SOON)

    def take_publications(self, now: float) -> list[NodeId]:
        """The ids whose records are due."""
        due = [entry for entry in self if entry.publish_at <= now]
        for entry in due:
            entry.publish_at = now + PUBLISH_EVERY
        return [entry.peer for entry in due]

    def deaf(self, now: float) -> list[LegacyLink]:
        """Links that never said anything."""
        return [entry for entry in self if not entry.spoken and entry.deaf_at <= now]

    def list_again(self, now: float) -> list[LegacyLink]:
        """Links over which it is time to tell again of peers."""
        due = [entry for entry in self if entry.list_again and entry.list_again[0] <= now]
        for entry in due:
            del entry.list_again[0]
        return due

    def next_deadline(self) -> float:
        """When one of these has something."""
        return min((e.next_deadline() for e in self), default=float("inf"))
