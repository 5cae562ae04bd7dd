"""The routing table: live links by id, relays by distance range, and the next hop towards an id; pure.

Rules of this file:

1. At most one neighbour per id.
2. Only relays are next hops; a leaf is reached over its own link and carries nothing further. Our own frames may
   travel through every relay that we trust, frames of others only through one that trusts us too: others would be
   taken for forgeries there.
3. The caches of next hops are emptied by every change of the table, so they are never stale.
"""

from __future__ import annotations

import enum
import heapq
from collections.abc import Iterable, Iterator, KeysView
from dataclasses import dataclass, field
from typing import Final

from .._bounded import TokenBucket
from ..wire.ids import NodeId, short
from ..wire.record import PeerRecord
from .actions import LinkHandle

__all__ = ["Neighbour", "Rank", "RoutingTable"]

_ID_BITS: Final = 160
_CACHE_SIZE: Final = 16384


class Rank(enum.IntEnum):
    """Which of two links with one peer is used: the one of the higher rank. Both ends know it."""

    WEBRTC = 0
    WEBSOCKET = 1
    PREFERRED = 2
    """WebRTC, whose offer said so."""


@dataclass(slots=True, eq=False)
class Neighbour:
    """One peer that we have a live link with, and what we know about it.

    Attributes:
        link: the link that its frames leave over.
        since: when that link came up.
        dialled: whether we dialled it.
        url: the address that we dialled, empty otherwise.
        rank: what kind of link it is.
        record: its own signed record, the newest seen.
        reachable: whether its id was proven to us at an address of its record.
        trusted: whether we accept frames of others from it: it says that it relays, and it is reachable.
        trusts_us: whether it accepts frames of others from us.
        relay: whether frames of ours may travel through it; kept by the table.
        transit: whether frames of others may; kept by the table.
        group: network range for diversity limits, empty for none.
        scope: how near the other end is (`wire.addresses.Scope`).
        wanted: whether the application asked for this link.
        heard: when something last came from it.
        pinged: when it was asked for a sign of life, None while no answer is outstanding.
        timer: the number of its one entry in the heap of `Liveness`.
        rtt: newest round trip time in seconds, None before the first.
        queries: how much more it may ask and store.
    """

    id: NodeId
    link: LinkHandle
    since: float
    dialled: bool = False
    url: str = ""
    record: PeerRecord | None = None
    reachable: bool = False
    trusted: bool = False
    trusts_us: bool = False
    relay: bool = False
    transit: bool = False
    group: str = ""
    scope: int = 0
    wanted: bool = False
    heard: float = 0.0
    pinged: float | None = None
    timer: int = 0
    ping_id: bytes = b""
    rtt: float | None = None
    queries: TokenBucket | None = None
    rank: Rank = Rank.WEBSOCKET
    number: int = field(init=False)

    def __post_init__(self) -> None:
        self.number = int.from_bytes(self.id, "big")
        self.heard = self.since

    def __repr__(self) -> str:
        return f"<Neighbour {short(self.id)} {'relay' if self.relay else 'leaf'}>"


class RoutingTable:
    """Neighbours of one node, and greedy next hops among them (XOR metric).

    Attributes:
        next_hops: the cache of `next_hop`, for the hot loop to look into; never replaced.
    """

    __slots__ = ("_buckets", "_first_hops", "_neighbours", "_own", "_relays", "changed", "next_hops", "own")

    def __init__(self, own: NodeId) -> None:
        self.own: Final = own
        self._own: Final = int.from_bytes(own, "big")
        self._neighbours: dict[bytes, Neighbour] = {}
        self._relays: dict[bytes, Neighbour] = {}
        self._buckets: list[tuple[Neighbour, ...]] = [()] * _ID_BITS
        self.next_hops: Final[dict[bytes, Neighbour | None]] = {}
        self._first_hops: dict[bytes, Neighbour | None] = {}
        self.changed = False
        """Whether neighbours came or went, or began or ceased to relay, since the router last looked."""

    def __len__(self) -> int:
        return len(self._neighbours)

    def __iter__(self) -> Iterator[Neighbour]:
        return iter(self._neighbours.values())

    def get(self, node_id: bytes) -> Neighbour | None:
        """The neighbour with that id."""
        return self._neighbours.get(node_id)

    @property
    def ids(self) -> KeysView[bytes]:
        """Of all neighbours, now and whenever it is looked at."""
        return self._neighbours.keys()

    @property
    def relays(self) -> Iterable[Neighbour]:
        """Neighbours through which frames of ours may travel."""
        return self._relays.values()

    @property
    def relay_count(self) -> int:
        return len(self._relays)

    @property
    def leaf_count(self) -> int:
        return len(self._neighbours) - len(self._relays)

    # Changes

    def add(self, neighbour: Neighbour) -> None:
        """Adds a neighbour whose id is not in the table and is not our own."""
        self._neighbours[neighbour.id] = neighbour
        self.changed = True
        self.update(neighbour)

    def remove(self, neighbour: Neighbour) -> None:
        """Removes a neighbour of this table."""
        del self._neighbours[neighbour.id]
        self._list(neighbour, False, False)
        self.changed = True
        self._forget_hops()

    def update(self, neighbour: Neighbour) -> None:
        """Takes over what has become of `trusted` and `trusts_us`."""
        self.changed = self.changed or neighbour.relay != neighbour.trusted
        self._list(neighbour, neighbour.trusted, neighbour.trusted and neighbour.trusts_us)
        self._forget_hops()

    def _list(self, neighbour: Neighbour, relay: bool, transit: bool) -> None:
        if relay:
            self._relays[neighbour.id] = neighbour
        else:
            self._relays.pop(neighbour.id, None)
        if transit != neighbour.transit:
            index = (self._own ^ neighbour.number).bit_length() - 1
            others = tuple(n for n in self._buckets[index] if n is not neighbour)
            self._buckets[index] = (*others, neighbour) if transit else others
        neighbour.relay, neighbour.transit = relay, transit

    def _forget_hops(self) -> None:
        self.next_hops.clear()
        self._first_hops.clear()

    # Frames of others

    def direct(self, target: bytes) -> Neighbour | None:
        """The neighbour with that id, if it accepts frames of others from us."""
        neighbour = self._neighbours.get(target)
        return neighbour if neighbour is not None and neighbour.trusts_us else None

    def next_hop(self, target: bytes) -> Neighbour | None:
        """`direct`, else the transit relay closest to `target` and closer than we are, else None."""
        cache = self.next_hops
        try:
            return cache[target]
        except KeyError:
            pass
        if len(cache) >= _CACHE_SIZE:
            cache.clear()
        hop = self.direct(target) or self._closest_transit(int.from_bytes(target, "big"))
        cache[bytes(target)] = hop
        return hop

    def _closest_transit(self, target: int) -> Neighbour | None:
        """Walks distance ranges instead of the whole table.

        Flipping bit j of our distance to the target (by going to a relay whose highest difference from us is j)
        brings us closer exactly when that bit is set in the distance; the highest such range wins.
        """
        remaining = self._own ^ target
        while remaining:
            index = remaining.bit_length() - 1
            bucket = self._buckets[index]
            if bucket:
                return min(bucket, key=lambda n: n.number ^ target)
            remaining ^= 1 << index
        return None

    def progress(self, target: bytes, count: int) -> list[Neighbour]:
        """Up to `count` transit relays closer to the target than we are, the closest first."""
        number = int.from_bytes(target, "big")
        bound = self._own ^ number
        closer = (n for n in self._relays.values() if n.transit and n.number ^ number < bound)
        return heapq.nsmallest(count, closer, key=lambda n: n.number ^ number)

    def closest_transit(self, target: bytes, count: int) -> list[Neighbour]:
        """The `count` transit relays closest to the target, whether closer than we are or not."""
        number = int.from_bytes(target, "big")
        passing = (n for n in self._relays.values() if n.transit)
        return heapq.nsmallest(count, passing, key=lambda n: n.number ^ number)

    # Frames of our own

    def first_hop(self, target: bytes) -> Neighbour | None:
        """The neighbour itself, else the relay closest to `target`, even if it is farther than we are."""
        cache = self._first_hops
        try:
            return cache[target]
        except KeyError:
            pass
        if len(cache) >= _CACHE_SIZE:
            cache.clear()
        number = int.from_bytes(target, "big")
        hop = self.get(target) or min(self._relays.values(), key=lambda n: n.number ^ number, default=None)
        cache[bytes(target)] = hop
        return hop

    def closest_relays(self, target: bytes, count: int) -> list[Neighbour]:
        """The `count` relay neighbours closest to the target, whether closer than we are or not."""
        number = int.from_bytes(target, "big")
        return heapq.nsmallest(count, self._relays.values(), key=lambda n: n.number ^ number)

    def count_in_range(self, index: int) -> int:
        """Transit relays in one distance range, 0 (nearest) to 159 (the far half)."""
        return len(self._buckets[index])
