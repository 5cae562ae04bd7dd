"""Where the subscribers and publishers of a key meet: the relays closest to it, as far as they answer; pure."""

from __future__ import annotations

import heapq
from collections.abc import Collection
from typing import Final

from .._bounded import BoundedMap
from ..wire.ids import NodeId
from .discovery import TOPICS, Discovery
from .state import State

__all__ = ["PLACES", "REFRESH", "Places"]

PLACES: Final = 3
"""So many relays keep the subscriptions of a key: it survives the loss of any two."""
REFRESH: Final = 60.0
"""Seconds for which the answer to a lookup is good, and after which a subscription is renewed."""

_AVOIDED_FOR: Final = 60.0
_TRIED_AGAIN_AFTER: Final = 4.0
"""When no other relay is left, one that did not answer is asked again so much later."""
_REMEMBERED: Final = 1024


class Places:
    """Lookups of keys, and which relays did not answer of late.

    Attributes:
        ended: keys whose lookup ended, or could not begin.
    """

    def __init__(self, state: State, discovery: Discovery) -> None:
        self._state: Final = state
        self._discovery: Final = discovery
        self._avoided: Final = BoundedMap[NodeId, float](_REMEMBERED, _AVOIDED_FOR)
        self._looked: Final = BoundedMap[NodeId, bool](_REMEMBERED, REFRESH)
        self._looking: Final = set[NodeId]()
        self.ended: Final = list[NodeId]()

    @property
    def serves(self) -> bool:
        """Whether this node keeps subscriptions for others."""
        return self._state.relaying

    def closest(self, key: NodeId, without: Collection[NodeId] = ()) -> list[NodeId]:
        """The relays that keep subscriptions to the key, the closest first; may be ourselves.

        Args:
            without: relays that are passed over.
        """
        state, number = self._state, int.from_bytes(key, "big")
        known = [
            (entry.number ^ number, entry.record.id)
            for entry in state.directory.relays(state.wall)
            if entry.record.rendezvous and not entry.suspect
        ]
        if state.relaying or (state.advertised and not known):
            # A node that others may dial, and nobody has yet, is a network of its own.
            known.append((int.from_bytes(state.own, "big") ^ number, state.own))
        known = [pair for pair in known if pair[1] not in without]
        usable = [pair for pair in known if self._avoided.get(pair[1], state.now) is None]
        if not usable:
            usable = [pair for pair in known if self._may_be_tried_again(pair[1])]
        return [relay for _, relay in heapq.nsmallest(PLACES, usable)]

    def _may_be_tried_again(self, relay: NodeId) -> bool:
        since = self._avoided.get(relay, self._state.now)
        return since is None or since + _TRIED_AGAIN_AFTER <= self._state.now

    def avoid(self, relay: NodeId) -> None:
        """It did not answer, or keeps nothing any more."""
        self._state.counts["rendezvous_avoided"] += 1
        self._avoided.set(relay, self._state.now, self._state.now)

    def trust(self, relay: NodeId) -> None:
        """It has answered."""
        self._avoided.pop(relay)

    def is_fresh(self, key: NodeId) -> bool:
        """Whether the relays closest to the key were looked for of late, or we are the only one."""
        state = self._state
        return self._looked.get(key, state.now) is not None or (state.relaying and not state.table.relay_count)

    def look(self, key: NodeId) -> None:
        """Looks for the relays closest to the key, if that is not under way; it ends in `ended`."""
        if key in self._looking:
            return
        self._looking.add(key)
        if not self._state.table.relay_count or not self._discovery.lookup(key, TOPICS, whole=False):
            self.found(key, complete=False)

    def found(self, key: NodeId, *, complete: bool = True) -> None:
        """A lookup has ended."""
        self._looking.discard(key)
        self.ended.append(key)
        if complete:
            self._looked.set(key, True, self._state.now)
