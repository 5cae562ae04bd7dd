"""Finding peers: questions to the relays closest to an id, their answers, and where our own record is kept; pure."""

from __future__ import annotations

from typing import Final

from .._bounded import TokenBucket
from ..exceptions import RemoteProtocolError
from ..wire.frame import Kind
from ..wire.ids import ID_LENGTH, NodeId, bucket_index
from ..wire.record import MAX_RECORDS, PeerRecord, join_records, split_records_untrusted
from .actions import Found
from .lookup import Lookup
from .state import State
from .table import Neighbour

__all__ = ["INTERNAL", "TOPICS", "Discovery"]

INTERNAL: Final = object()
"""The `query` of lookups for a part of the router: their result goes to `Discovery.found`, not to the application."""
TOPICS: Final = object()
"""The same, for keys of topics."""

_KEPT_AT: Final = 3
"""A record is kept at the three relays closest to its id, so it survives the loss of any two."""
_REFRESH: Final = 60.0
_REFRESH_SOON: Final = 1.0
_REPUBLISH: Final = 600.0
_PUBLISH_SOON: Final = 0.2
_ANSWERS_PER_SECOND: Final = 100.0
_ANSWERS_BURST: Final = 200.0
"""For one link: an answer is larger than its question, and each record in a STORE may cost a signature check."""
_NEIGHBOURHOOD: Final = 8


class Discovery:
    """Lookups in progress, and the node's standing questions: who is close to me, who is in each range."""

    def __init__(self, state: State) -> None:
        self._state: Final = state
        self._lookups: list[Lookup] = []
        self._ranges: list[int] = []
        self._own_lookup: Lookup | None = None
        self._refresh_at = float("inf")
        self._looked = False
        self._publish_at = float("inf")
        self.changed = False
        """Whether relays became known since the router last looked."""
        self.found: list[Found] = []
        """Ended lookups that a part of the router asked for."""
        self.published: PeerRecord | None = None
        """The record of ours that was stored last."""

    # Lookups

    @property
    def lookup_count(self) -> int:
        """Lookups in progress, the router's own included."""
        return len(self._lookups)

    def lookup(self, target: NodeId, query: object, *, whole: bool = True) -> bool:
        """Starts a lookup; False when too many are in progress. Ends in a `Found`."""
        state = self._state
        if len(self._lookups) >= state.limits.lookups:
            state.counts["lookup_refused"] += 1
            return False
        self._start(Lookup(target, state.now + state.limits.lookup_timeout, query, whole))
        return True

    def _start(self, lookup: Lookup) -> None:
        state = self._state
        for neighbour in state.table.closest_relays(lookup.target, MAX_RECORDS):
            lookup.learn(neighbour.id)
        self._lookups.append(lookup)
        self._advance(lookup)

    def _advance(self, lookup: Lookup) -> None:
        """Asks whom there is to ask, or ends the lookup."""
        state = self._state
        ended = lookup.whole and self._known(lookup.target)
        while not ended:
            queries = lookup.next_queries()
            if not queries:
                break
            for relay in queries:
                message_id = state.token()
                lookup.sent(message_id, relay, state.now)
                if not state.send(Kind.FIND, relay, message_id, lookup.target):
                    lookup.failed(message_id)
        if ended or lookup.finished or lookup.deadline <= state.now:
            self._end(lookup)

    def _known(self, target: NodeId) -> bool:
        return self._state.directory.get(target, self._state.wall) is not None

    def _end(self, lookup: Lookup) -> None:
        if lookup not in self._lookups:
            return
        self._lookups.remove(lookup)
        state = self._state
        if lookup is self._own_lookup:
            self._own_lookup = None
            self._plan_ranges()
            self.publish_soon()
        elif isinstance(lookup.query, PeerRecord):
            if not state.directory.is_withdrawn(lookup.query):
                self._store_at(lookup.closest(_KEPT_AT), lookup.query)
        elif lookup.query is not None:
            record = state.directory.get(lookup.target, state.wall)
            gateways = state.directory.gateways(lookup.target, state.wall)
            found = Found(lookup.query, lookup.target, record, gateways)
            if lookup.query in (INTERNAL, TOPICS):
                self.found.append(found)
            else:
                state.do(found)
        if lookup.query is None and self._ranges and self._own_lookup is None:
            self._look_into(self._ranges.pop())

    # Standing questions

    def refresh_soon(self) -> None:
        """The neighbourhood changed: ask again within a second; for the first time at once."""
        delay = _REFRESH_SOON if self._looked else 0.0
        self._refresh_at = min(self._refresh_at, self._state.now + delay)

    def publish_soon(self) -> None:
        """Our record changed, or the relays that should keep it."""
        self._publish_at = min(self._publish_at, self._state.now + _PUBLISH_SOON)

    def publish(self, record: PeerRecord) -> None:
        """Finds the relays closest to a record's subject and stores it there; we know it from now on."""
        state = self._state
        state.directory.speak_for(record)
        self._start(Lookup(record.id, state.now + state.limits.lookup_timeout, record))

    def _look_around(self) -> None:
        """Asks for the relays closest to ourselves.

        For the first time only our neighbours: an answer finds us only once the relays closest to us are neighbours.
        """
        state = self._state
        if self._own_lookup is None and state.table.relay_count:
            deadline = state.now + state.limits.lookup_timeout
            self._own_lookup = lookup = Lookup(state.own, deadline, None, near=not self._looked)
            self._looked = True
            self._start(lookup)
        self._refresh_at = state.now + _REFRESH * state.rng.uniform(0.75, 1.25)

    def _plan_ranges(self) -> None:
        """The distance ranges beyond our neighbourhood in which we know fewer than two relays."""
        state = self._state
        self._ranges = []
        near = state.table.closest_relays(state.own, _NEIGHBOURHOOD)
        if len(near) < _NEIGHBOURHOOD or not state.relaying:
            return
        for index in range(bucket_index(state.own, near[-1].id) + 1, 8 * ID_LENGTH):
            if state.table.count_in_range(index) < 2:
                self._ranges.append(index)

    def _look_into(self, index: int) -> None:
        state = self._state
        number = int.from_bytes(state.own, "big") ^ (1 << index) ^ state.rng.getrandbits(index + 1) >> 1
        target = NodeId(number.to_bytes(ID_LENGTH, "big"))
        self._start(Lookup(target, state.now + state.limits.lookup_timeout, None))

    def _publish_own(self) -> None:
        """Stores our record at the closest relays that are not neighbours; those got it with the link."""
        state = self._state
        number = int.from_bytes(state.own, "big")
        known = {e.record.id: e.number for e in state.directory.relays(state.wall) if not e.suspect}
        known |= {n.id: n.number for n in state.table.relays}
        closest = sorted(known, key=lambda i: known[i] ^ number)[:_KEPT_AT]
        self._store_at([i for i in closest if state.table.get(i) is None], state.record)
        self.published = state.record
        self._publish_at = state.now + _REPUBLISH * state.rng.uniform(0.75, 1.25)

    def _store_at(self, relays: list[NodeId], record: PeerRecord) -> None:
        state = self._state
        for relay in relays:
            state.send(Kind.STORE, relay, state.token(), join_records([record]))
        own = int.from_bytes(record.id, "big")
        keeps = (
            state.relaying
            and sum(int.from_bytes(r, "big") ^ own < int.from_bytes(state.own, "big") ^ own for r in relays) < _KEPT_AT
        )
        if keeps and record.id != state.own:
            state.directory.add(record, state.wall, 0)

    def handle_timeout(self) -> None:
        """Does what is due now."""
        state = self._state
        if self._refresh_at <= state.now:
            self._look_around()
        if self._publish_at <= state.now:
            self._publish_own()
        for lookup in list(self._lookups):
            overdue = lookup.overdue(state.now)
            for message_id in overdue:
                state.counts["query_timeout"] += 1
                lookup.failed(message_id)
            if overdue or lookup.deadline <= state.now:
                self._advance(lookup)

    def next_deadline(self) -> float:
        """When `handle_timeout` has something to do."""
        deadline = min(self._refresh_at, self._publish_at)
        if self._lookups:
            deadline = min(deadline, *(lookup.next_deadline() for lookup in self._lookups))
        return deadline

    # Frames

    def _allowed(self, via: Neighbour) -> bool:
        if via.queries is None:
            via.queries = TokenBucket(_ANSWERS_PER_SECOND, _ANSWERS_BURST, self._state.now)
        if via.queries.take(self._state.now):
            return True
        self._state.counts["query_rate"] += 1
        return False

    def receive_find(self, via: Neighbour, source: NodeId, message_id: bytes, payload: bytes) -> None:
        """A question: answered with what the directory knows."""
        state = self._state
        if len(payload) != ID_LENGTH:
            state.counts["bad_find"] += 1
        elif self._allowed(via):
            own = state.record
            answer = state.directory.answer(payload, state.wall, own, source)
            state.send(Kind.FOUND, source, message_id, join_records(answer))

    def receive_found(self, via: Neighbour, source: NodeId, message_id: bytes, payload: bytes) -> None:
        """An answer; only one to a question of ours is looked at."""
        state = self._state
        lookup = next((x for x in self._lookups if x.answered(message_id, source)), None)
        if lookup is None:
            state.counts["answers_to_nothing"] += 1
            return
        try:
            raws = split_records_untrusted(payload)
        except RemoteProtocolError:
            state.counts["bad_found"] += 1
            raws = []
        new = state.directory.add_untrusted(raws, state.wall, via.scope)
        self.changed = self.changed or any(record.relay for record in new)
        for raw in raws:
            relay = state.directory.entry(NodeId(raw[19 : 19 + ID_LENGTH]))
            if relay is not None and relay.record.relay:
                lookup.learn(relay.record.id)
        self._advance(lookup)

    def receive_store(self, via: Neighbour, payload: bytes) -> None:
        """Records to keep, as far as the directory wants them."""
        state = self._state
        try:
            raws = split_records_untrusted(payload)
        except RemoteProtocolError:
            state.counts["bad_store"] += 1
            return
        raws = [raw for raw in raws if self._allowed(via)]
        new = state.directory.add_untrusted(raws, state.wall, via.scope)
        self.changed = self.changed or any(record.relay for record in new)

    def query_failed(self, message_id: bytes) -> bool:
        """A relay that we asked is unreachable; whether the id was one of our questions."""
        lookup = next((x for x in self._lookups if message_id in x.asked), None)
        if lookup is None:
            return False
        lookup.failed(message_id)
        self._advance(lookup)
        return True
