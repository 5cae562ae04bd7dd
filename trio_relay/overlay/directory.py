"""Signed records of peers, and who is closest to an id; pure.

Rules of this file:

1. Nothing unsigned, stale or expired gets in; each refusal is counted by reason.
2. A record signed by an id's own key always wins over gateways' words about that id, and is remembered.
3. Bounded: when full, the record farthest from our own id goes. Neighbours' stay, and are not counted.
"""

from __future__ import annotations

import functools
import heapq
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ..exceptions import RemoteProtocolError
from ..wire.addresses import network_group
from ..wire.ids import NodeId
from ..wire.record import MAX_RECORDS, PeerRecord, RecordKind, Verify, parse_record_untrusted
from ..wire.urls import host

__all__ = ["Directory", "Entry"]

_CLOCK_SKEW: Final = 300.0
"""Seconds by which a peer's clock may be ahead of ours."""
_MAX_GATEWAYS: Final = 4
"""Gateways remembered for one original node."""


@dataclass(slots=True)
class Entry:
    """A record and how we came by it.

    Attributes:
        scope: the nearest scope of the links over which it was learned: bounds which addresses may be dialled.
        group: the network range of its first address, empty for none.
        suspect: whether its peer was seen dead since; it is not handed on until it is heard of anew.
    """

    record: PeerRecord
    number: int
    scope: int
    group: str
    suspect: bool = False


@functools.lru_cache(maxsize=1024)
def _group(urls: tuple[str, ...]) -> str:
    try:
        return network_group(host(urls[0])) if urls else ""
    except ValueError:
        return ""


class Directory:
    """Records by id. Expiry is judged with wall-clock seconds, given as `wall`.

    Args:
        capacity: records beside one for each neighbour.
        neighbours: ids, as they are at each moment.
    """

    def __init__(
        self, own: NodeId, *, capacity: int, lifetime: float, verify: Verify, neighbours: Collection[bytes]
    ) -> None:
        self._own: Final = int.from_bytes(own, "big")
        self._own_id: Final = own
        self._capacity: Final = capacity
        self._lifetime: Final = lifetime
        self._verify: Final = verify
        self._neighbours: Final = neighbours
        self._peers: dict[NodeId, Entry] = {}
        self._relays: dict[NodeId, Entry] = {}
        self._gateways: dict[NodeId, dict[NodeId, PeerRecord]] = {}
        self._spoken_for: dict[NodeId, PeerRecord] = {}  # bounded by our links with originals
        self.counts: Counter[str] = Counter()
        self.version = 0
        """Grows whenever a relay is another one, has another record, or is suspected or not."""

    def __len__(self) -> int:
        """Ids with a record; an original node's id has at most four."""
        return len(self._peers) + len(self._gateways)

    def get(self, node_id: bytes, wall: float) -> PeerRecord | None:
        """The record that the id's own key signed, if it is valid."""
        entry = self._peers.get(NodeId(node_id))
        return entry.record if entry is not None and entry.record.expiry > wall else None

    def entry(self, node_id: NodeId) -> Entry | None:
        return self._peers.get(node_id)

    def gateways(self, node_id: bytes, wall: float) -> tuple[PeerRecord, ...]:
        """Valid records of gateways for an original node, none if the id has a key of its own."""
        if node_id in self._peers:
            return ()
        own = self._spoken_for.get(NodeId(node_id))
        records = self._gateways.get(NodeId(node_id), {}).values()
        return tuple(r for r in (*((own,) if own is not None else ()), *records) if r.expiry > wall)

    def speak_for(self, record: PeerRecord) -> None:
        """We are the gateway of an original, as this record says, until `withdraw`."""
        self._spoken_for[record.id] = record

    def withdraw(self, original: NodeId) -> None:
        """We are its gateway no more, whatever others still keep."""
        self._spoken_for.pop(original, None)

    def is_withdrawn(self, record: PeerRecord) -> bool:
        """Whether it is ours about an original, and holds no more."""
        return record.gateway == self._own_id != record.id and record.id not in self._spoken_for

    def add_untrusted(self, raws: Iterable[bytes], wall: float, scope: int) -> list[PeerRecord]:
        """Verifies and keeps records; returns those that are new or newer."""
        added: list[PeerRecord] = []
        for raw in raws:
            record = self._known(raw)
            if record is None:
                try:
                    record = parse_record_untrusted(raw, self._verify)
                except RemoteProtocolError:
                    self.counts["record_invalid"] += 1
                    continue
            if self.add(record, wall, scope):
                added.append(record)
        return added

    def _known(self, raw: bytes) -> PeerRecord | None:
        """The same bytes were verified before: signatures are the dearest part of a record."""
        if len(raw) < 39:
            return None
        entry = self._peers.get(NodeId(raw[19:39]))
        return entry.record if entry is not None and entry.record.raw == raw else None

    def add(self, record: PeerRecord, wall: float, scope: int) -> bool:
        """Keeps a verified record; returns whether it is new or newer than the known one."""
        if not wall < record.expiry <= wall + self._lifetime + _CLOCK_SKEW:
            self.counts["record_expired"] += 1
            return False
        if record.id == self._own_id:
            return False
        if record.kind is RecordKind.LEGACY:
            return self._add_gateway(record, wall)
        entry = self._peers.get(record.id)
        if entry is not None:
            entry.scope = max(entry.scope, scope)
            if entry.record.sequence >= record.sequence:
                self.counts["record_stale"] += entry.record.sequence > record.sequence
                return False
            entry.record, entry.suspect, entry.group = record, False, _group(record.urls)
        else:
            entry = Entry(record, int.from_bytes(record.id, "big"), scope, _group(record.urls))
            self._peers[record.id] = entry
            self._gateways.pop(record.id, None)
        if record.relay:
            self._relays[record.id] = entry
            self.version += 1
        elif self._relays.pop(record.id, None) is not None:
            self.version += 1
        self._make_room(wall)
        return record.id in self._peers

    def _add_gateway(self, record: PeerRecord, wall: float) -> bool:
        if record.id in self._peers:
            self.counts["record_gateway_for_key"] += 1
            return False
        if record.gateway == self._own_id:
            return False
        known = self._gateways.setdefault(record.id, {})
        old = known.get(record.gateway)
        if old is not None and old.sequence >= record.sequence:
            self.counts["record_stale"] += old.sequence > record.sequence
            return False
        known.pop(record.gateway, None)
        known[record.gateway] = record
        if len(known) > _MAX_GATEWAYS:
            del known[next(iter(known))]
        self._make_room(wall)
        return True

    def _make_room(self, wall: float) -> None:
        """Frees a sixteenth at once when full, so that a flood of records does not sort the table for each."""
        if len(self) <= self._capacity + len(self._neighbours):
            return
        self.expire(wall)
        size = len(self) - len(self._neighbours)
        if size <= self._capacity:
            return
        candidates = [(e.number ^ self._own, i) for i, e in self._peers.items() if i not in self._neighbours]
        candidates += [(int.from_bytes(i, "big") ^ self._own, i) for i in self._gateways]
        candidates.sort(reverse=True)
        for _, node_id in candidates[: size - self._capacity + self._capacity // 16]:
            self._forget(node_id)
            self.counts["record_evicted"] += 1

    def _forget(self, node_id: NodeId) -> None:
        self._peers.pop(node_id, None)
        if self._relays.pop(node_id, None) is not None:
            self.version += 1
        self._gateways.pop(node_id, None)

    def expire(self, wall: float) -> None:
        """Forgets expired records, counted."""
        for node_id in [i for i, e in self._peers.items() if e.record.expiry <= wall]:
            self._forget(node_id)
            self.counts["record_expired"] += 1
        for node_id, known in list(self._gateways.items()):
            for gateway in [g for g, record in known.items() if record.expiry <= wall]:
                del known[gateway]
            if not known:
                del self._gateways[node_id]

    def suspect(self, node_id: NodeId) -> None:
        """The peer was seen dead: its record is not handed on until a newer one, or a link, says otherwise."""
        entry = self._peers.get(node_id)
        if entry is not None and not entry.suspect:
            entry.suspect = True
            self.version += 1

    def trust(self, node_id: NodeId) -> None:
        """The peer was seen alive."""
        entry = self._peers.get(node_id)
        if entry is not None and entry.suspect:
            entry.suspect = False
            self.version += 1

    def relays(self, wall: float) -> list[Entry]:
        """Every valid record of a peer that says it relays, suspects included."""
        return [entry for entry in self._relays.values() if entry.record.expiry > wall]

    def answer(self, target: bytes, wall: float, own: PeerRecord | None, asker: NodeId) -> Sequence[PeerRecord]:
        """What FOUND says about a target: its record or gateways, then the relays closest to it, at most 16."""
        number = int.from_bytes(target, "big")
        first: list[PeerRecord] = []
        record = own if own is not None and own.id == target else self.get(target, wall)
        if record is not None:
            first.append(record)
        else:
            first.extend(self.gateways(target, wall))
        usable = [
            (e.number ^ number, e.record)
            for e in self._relays.values()
            if not e.suspect and e.record.expiry > wall and e.record.id not in (target, asker)
        ]
        if own is not None and own.relay and own.id != target:
            usable.append((self._own ^ number, own))
        nearest = heapq.nsmallest(MAX_RECORDS - len(first), usable, key=lambda pair: pair[0])
        return first + [record for _, record in nearest]
