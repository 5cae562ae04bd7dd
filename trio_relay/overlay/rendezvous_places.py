"""Where the subscribers and publishers of a key meet: the relays closest to it, as far as they answer; pure."""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Collection, Sequence
from typing import Final

from .._bounded import BoundedMap
from ..wire.ids import ID_LENGTH, NodeId
from .directory import Directory, Entry
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


class _Keepers:
    """The relays of a directory that keep subscriptions and are not suspected, sorted by id."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._version = -1

    def sorted(self, directory: Directory) -> Sequence[Entry]:
        """Collected anew only after the directory has changed; some may have expired since."""
        if self._version != directory.version:
            self._version = directory.version
            keepers = [e for e in directory.relays(0.0) if e.record.rendezvous and not e.suspect]
            self._entries = sorted(keepers, key=_number)
        return self._entries


def _number(entry: Entry) -> int:
    return entry.number


def _around(entries: Sequence[Entry], number: int, count: int) -> Sequence[Entry]:
    """Those closest to a number, so many at least, if there are; `entries` are sorted by id.

    Ids that begin alike stand together, and are closer to each other than to all others.
    """
    low, high = 0, len(entries)
    for bit in reversed(range(8 * ID_LENGTH)):
        if high - low <= count:
            break
        middle = bisect_left(entries, (number >> bit | 1) << bit, low, high, key=_number)
        near = (middle, high) if number >> bit & 1 else (low, middle)
        if near[1] - near[0] < count:
            break
        low, high = near
    return entries[low:high]


class Places:
    """Lookups of keys, and which relays did not answer of late.

    Attributes:
        ended: keys whose lookup ended, or could not begin.
    """

    def __init__(self, state: State, discovery: Discovery) -> None:
        self._state: Final = state
        self._discovery: Final = discovery
        self._keepers: Final = _Keepers()
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
        keepers = self._keepers.sorted(state.directory)
        if state.relaying or (state.advertised and not keepers):
            # A node that others may dial, and nobody has yet, is a network of its own.
            own = [(int.from_bytes(state.own, "big") ^ number, state.own)]
        else:
            own = []
        count = 2 * PLACES + len(without)
        while True:
            block = _around(keepers, number, count)
            known = own + [
                (entry.number ^ number, entry.record.id) for entry in block if entry.record.expiry > state.wall
            ]
            known = [pair for pair in known if pair[1] not in without]
            usable = [pair for pair in known if self._avoided.get(pair[1], state.now) is None]
            if len(usable) >= PLACES or len(block) == len(keepers):
                break
            count *= 4
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
