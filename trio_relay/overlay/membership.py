"""Which links this node wants, whom it dials, and which links it lets go; pure.

Rules of this file:

1. A relay keeps the 8 relays closest to its own id and two per distance range; a leaf its 8 closest and 2 others.
2. Ids can be ground, so closeness alone earns no trust: at most 2 of the closest and 1 per range come from one
   /24 or /64 (not counted on loopback), and a live link is not given up for a newer one of the same kind.
3. Whoever wants a link dials it and lets it go; a link that the application asked for stays. Only a relay with too
   many relays lets go of links that others dialled.
4. A relay that can't be reached is tried again later and later, at most a minute apart, for as long as its record
   lives: so the halves of a divided network find each other again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from .._bounded import BoundedMap
from ..wire.ids import NodeId
from ..wire.record import PeerRecord
from .actions import Dial
from .directory import Entry
from .rates import DialRates, networks
from .state import State
from .table import Neighbour

__all__ = ["Membership"]

_CLOSEST: Final = 8
_PER_RANGE: Final = 2
_RANDOM: Final = 2
_CLOSEST_PER_GROUP: Final = 2
_RANGE_PER_GROUP: Final = 1
_PLAN_EVERY: Final = 30.0
_PLAN_SOON: Final = 0.05
_PLAN_GAP: Final = 0.25
"""Between two plans, however much changes: a plan costs a look at every relay known."""
_PLAN_EVERY_CHANGE: Final = 1.0
_FIRST_BACKOFF: Final = 1.0
_LAST_BACKOFF: Final = 60.0
_REMEMBERED: Final = 4096
_GRACE: Final = 60.0
"""A link that nobody wants any more is kept so long, in case the neighbourhood changes back."""
_SLACK: Final = 4
"""So many links that nobody wants are kept, and so many are let go at once, then no more for a while."""
_PART_EVERY: Final = 20.0
_NEAR: Final = 2
"""Among so many times the candidates that are wanted, a live link is not displaced by a newer one of its range."""
_RATE_PAUSE: Final = 1.0
_DIAL_TIMEOUT: Final = 20.0
"""After this a dial that was never reported counts as failed, so that none blocks its place for ever."""


@dataclass(slots=True)
class _Backoff:
    until: float
    failures: int


class Membership:
    """The node's links as it wants them; a plan compares that with what there is."""

    def __init__(self, state: State) -> None:
        self._state: Final = state
        self._rates: Final = DialRates(state.now)
        self._dialling: dict[NodeId, float] = {}
        self._backoff: BoundedMap[NodeId, _Backoff] = BoundedMap(_REMEMBERED, 600.0)
        self._plan_at = float("inf")
        self._planned = float("-inf")
        self._stopped = False
        self._part_at = float("-inf")
        self._refused: BoundedMap[NodeId, bool] = BoundedMap(_REMEMBERED, 60.0)

    def stop(self) -> None:
        """The node ends: no more plans and dials."""
        self._stopped = True
        self._plan_at = float("inf")

    def plan_soon(self) -> None:
        """A link or a dial ended; several changes share one plan."""
        self._plan_within(_PLAN_GAP)

    def plan_later(self) -> None:
        """More relays are known: a plan soon, unless there was one just now."""
        self._plan_within(_PLAN_EVERY_CHANGE)

    def _plan_within(self, gap: float) -> None:
        if not self._stopped:
            self._plan_at = min(self._plan_at, max(self._state.now + _PLAN_SOON, self._planned + gap))

    def refuse(self, node_id: NodeId) -> None:
        """The application disconnected that peer: remembered for a minute."""
        self._refused.set(node_id, True, self._state.now)

    def allow(self, node_id: NodeId) -> None:
        """The application wants that peer again."""
        self._refused.pop(node_id)

    def is_refused(self, node_id: NodeId) -> bool:
        """Whether the application disconnected that peer within the last minute."""
        return self._refused.get(node_id, self._state.now) is not None

    # Dials

    @property
    def dial_count(self) -> int:
        """Dials under way, probes not counted."""
        return len(self._dialling)

    def dialling(self, node_id: NodeId) -> bool:
        """Whether a dial to that id is under way."""
        return node_id in self._dialling

    def dial(self, record: PeerRecord, scope: int) -> bool:
        """Dials a peer at the addresses of its record; False when too many dials are under way, or we end."""
        state = self._state
        if self._stopped or len(self._dialling) >= state.limits.dials:
            return False
        self._dialling[record.id] = state.now
        state.counts["dials"] += 1
        state.do(Dial(record.urls, record.id, scope))
        return True

    def dialled(self, node_id: NodeId, success: bool) -> None:
        """How a dial ended."""
        self._dialling.pop(node_id, None)
        if success:
            self._backoff.pop(node_id)
        else:
            self._state.counts["dials_failed"] += 1
            self.back_off(node_id)
        self.plan_soon()

    def back_off(self, node_id: NodeId) -> None:
        """A dial failed, or whom we dialled let us go: the next dial comes later and later."""
        state = self._state
        old = self._backoff.get(node_id, state.now)
        failures = old.failures + 1 if old else 1
        delay = min(_FIRST_BACKOFF * 2 ** min(failures - 1, 10), _LAST_BACKOFF) * state.rng.uniform(0.5, 1.0)
        self._backoff.set(node_id, _Backoff(state.now + delay, failures), state.now)

    # Planning

    def handle_timeout(self) -> list[Neighbour]:
        """Plans when it is time; returns the neighbours to part with."""
        state = self._state
        if self._plan_at > state.now:
            return []
        for node_id in [i for i, since in self._dialling.items() if state.now - since > _DIAL_TIMEOUT]:
            self.dialled(node_id, False)
        self._planned = state.now
        self._plan_at = state.now + _PLAN_EVERY * state.rng.uniform(0.75, 1.25)
        wanted = self._wanted()
        self._dial_missing(wanted)
        return self._surplus({entry.record.id for entry in wanted})

    def next_deadline(self) -> float:
        """When `handle_timeout` has something to do."""
        return self._plan_at

    def _dial_missing(self, wanted: list[Entry]) -> None:
        state = self._state
        for entry in wanted:
            node_id = entry.record.id
            if node_id in self._dialling or state.table.get(node_id) is not None:
                continue
            backoff = self._backoff.get(node_id, state.now)
            if backoff is not None and backoff.until > state.now:
                self._plan_at = min(self._plan_at, backoff.until)
            elif not self._rates.allow(networks(entry.record.urls), state.now):
                state.counts["dial_rate"] += 1
                self._plan_at = min(self._plan_at, state.now + _RATE_PAUSE)
            elif not self.dial(entry.record, entry.scope):
                return

    def _wanted(self) -> list[Entry]:
        """The relays that we want links with, among those in the directory."""
        own = int.from_bytes(self._state.own, "big")
        candidates = sorted(self._candidates(), key=lambda entry: entry.number ^ own)
        closest = self._spread(candidates, _CLOSEST, _CLOSEST_PER_GROUP)
        picked = {id(entry) for entry in closest}
        rest = [entry for entry in candidates if id(entry) not in picked]
        if not self._state.relaying:
            return closest + self._some(rest, _RANDOM)
        ranges: dict[int, list[Entry]] = {}
        for entry in rest:
            ranges.setdefault((entry.number ^ own).bit_length(), []).append(entry)
        return closest + [entry for members in ranges.values() for entry in self._some(members, _PER_RANGE)]

    def _candidates(self) -> Iterator[Entry]:
        """Relays that we are linked with, and those that may be dialled.

        Without those that failed twice in a row lately: they keep no better one out, and are tried in turn.
        """
        state, now = self._state, self._state.now
        out = {i for i, backoff in self._backoff.items(now) if backoff.failures >= 2 and backoff.until > now}
        out |= {i for i, _ in self._refused.items(now)}
        linked = {neighbour.id for neighbour in state.table}
        for entry in state.directory.relays(state.wall):
            record = entry.record
            if record.id in linked or (record.urls and record.id not in out):
                yield entry

    def _some(self, members: list[Entry], count: int) -> list[Entry]:
        """So many of them, those that we are linked with first, the others by lot."""
        table = self._state.table
        linked = [entry for entry in members if table.get(entry.record.id) is not None]
        chosen = self._spread(linked, count, _RANGE_PER_GROUP)
        if len(chosen) == count:
            return chosen
        fresh = [entry for entry in members if table.get(entry.record.id) is None]
        self._state.rng.shuffle(fresh)
        return self._spread(linked + fresh, count, _RANGE_PER_GROUP)

    def _spread(self, candidates: Sequence[Entry], count: int, per_group: int) -> list[Entry]:
        """The first `count` with at most `per_group` of one network range, where live links keep their places.

        The range of a neighbour is that of its connection, which it can't choose as it can choose its URLs.
        """
        kept = self._live_groups(candidates[: count * _NEAR], per_group)
        chosen: list[Entry] = []
        groups: Counter[str] = Counter()
        for entry in candidates:
            if len(chosen) == count:
                break
            neighbour = self._state.table.get(entry.record.id)
            if neighbour is not None:
                group, free = neighbour.group, per_group - groups[neighbour.group]
            else:
                group = entry.group
                free = per_group - groups[group] - kept[group]
            if group and free <= 0:
                continue
            groups[group] += 1
            if neighbour is not None:
                kept[group] -= kept[group] > 0
            chosen.append(entry)
        return chosen

    def _live_groups(self, candidates: Sequence[Entry], per_group: int) -> Counter[str]:
        """How many places of each network range are kept for neighbours that come further down the list."""
        kept: Counter[str] = Counter()
        for entry in candidates:
            neighbour = self._state.table.get(entry.record.id)
            if neighbour is not None and kept[neighbour.group] < per_group:
                kept[neighbour.group] += 1
        return kept

    def _surplus(self, wanted: set[NodeId]) -> list[Neighbour]:
        """Relays that we dialled and no longer want, the farthest first, a few at a time; more if we have too many."""
        state = self._state
        own = int.from_bytes(state.own, "big")
        others = [n for n in state.table.relays if not n.wanted and n.id not in wanted]
        ours = [n for n in others if n.dialled and state.now - n.since > _GRACE]
        ours.sort(key=lambda n: n.number ^ own)
        surplus = ours[_SLACK:][-_SLACK:] if state.now >= self._part_at else []
        if surplus:
            self._part_at = state.now + _PART_EVERY
        excess = state.table.relay_count - len(surplus) - state.limits.relay_links
        if excess > 0:
            rest = sorted((n for n in others if n not in surplus), key=lambda n: n.number ^ own)
            surplus += rest[-excess:]
        return surplus
