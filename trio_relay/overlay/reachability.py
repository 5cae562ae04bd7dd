"""Who is reachable: proof that we are, and checks of neighbours that say they are; pure.

Rules of this file:

1. We relay while somebody has reached us at an address that we advertise, and proven keys say so; until then, and
   without a listener, we are a leaf.
2. A neighbour is a relay for us only after we ourselves reached its id at an address of its record: by dialling the
   link there, or by a probe (dial, proof, close). A neighbour's own word is not enough. We tell it whether we trust it.
3. Probes are bounded: in all, and per network range, so that a record with foreign addresses makes no scanner of us.
"""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass
from typing import Final

from ..wire.frame import Kind
from ..wire.ids import NodeId
from ..wire.record import PeerRecord, join_records
from ..wire.urls import authority
from .actions import Dial
from .rates import DialRates, networks
from .state import State
from .table import Neighbour

__all__ = ["Reachability"]

_RECHECK: Final = 600.0
_EVIDENCE_LIFETIME: Final = 1500.0
"""Two rechecks by one neighbour, with their jitter."""
_REPEAT: Final = 60.0
"""Our record and our trust are told again so often, for a link that lost a message."""
_FIRST_RETRY: Final = 5.0
_TRUST_US: Final = 1


@functools.lru_cache(maxsize=1024)
def authorities(urls: tuple[str, ...]) -> frozenset[str]:
    """The ``host:port`` of each URL; what is no URL is left out."""
    found = set()
    for url in urls:
        with contextlib.suppress(ValueError):
            found.add(authority(url))
    return frozenset(found)


@dataclass(slots=True)
class _Check:
    """The reachability check of one neighbour."""

    neighbour: Neighbour
    due: float
    failures: int = 0


class Reachability:
    """Our own role, and the roles of our neighbours."""

    def __init__(self, state: State) -> None:
        self._state: Final = state
        self._checks: dict[NodeId, _Check] = {}
        self._evidence_until = float("-inf")
        self._witnesses: set[NodeId] = set()
        self._rates: Final = DialRates(state.now)
        self._check_at: float | None = None
        self._repeat_at = state.now + _REPEAT
        self.authorities: frozenset[str] = frozenset()

    # Ourselves

    def advertise(self, urls: tuple[str, ...]) -> None:
        """Our addresses, from now on."""
        self._state.advertised = urls
        self.authorities = authorities(urls)
        if not self.authorities:
            self.update_role()
        self._announce()

    def reached(self, witness: NodeId, dialled: str) -> None:
        """A proven peer came in and says which address it dialled."""
        if dialled in self.authorities:
            if self._state.table.get(witness) is not None:
                self._witnesses.add(witness)
            self._evidence_until = self._state.now + _EVIDENCE_LIFETIME
            self.update_role()

    def update_role(self) -> None:
        """We relay while the evidence is fresh, or a link that came in that way is up."""
        state = self._state
        relaying = bool(self.authorities) and (bool(self._witnesses) or state.now < self._evidence_until)
        if relaying != state.relaying:
            state.relaying = relaying
            self._announce()

    def _announce(self) -> None:
        self._state.renew_record()
        self._tell_all()

    def _tell_all(self) -> None:
        state = self._state
        self._repeat_at = state.now + _REPEAT * state.rng.uniform(0.75, 1.25)
        for neighbour in state.table:
            self.tell(neighbour)

    def tell(self, neighbour: Neighbour) -> None:
        """Sends our record and whether we accept frames of others from that neighbour."""
        trust = bytes([_TRUST_US * neighbour.trusted])
        self._state.tell(neighbour, Kind.STATUS, trust + self._state.record.raw)

    # Neighbours

    def linked(self, neighbour: Neighbour) -> None:
        """A new link: its peer is proven reachable if we dialled an address of its record, else it is checked."""
        record = neighbour.record
        known = authorities(record.urls) if record is not None else frozenset()
        if neighbour.dialled and neighbour.url and authority(neighbour.url) in known:
            neighbour.reachable = True
        self._update(neighbour, always_tell=True)
        if known and neighbour.id not in self._checks:
            due = self._state.now + (_RECHECK if neighbour.reachable else 0.0)
            self._checks[neighbour.id] = _Check(neighbour, due)
            self._check_at = None

    def receive_status(self, neighbour: Neighbour, record: PeerRecord | None, trusts_us: bool) -> None:
        """Its record or its trust in us has changed; `record` is the newest known, new addresses are checked."""
        old, neighbour.record, neighbour.trusts_us = neighbour.record, record, trusts_us
        if record is not None and record.urls and (old is None or record.urls != old.urls):
            check = self._checks.setdefault(neighbour.id, _Check(neighbour, 0.0))
            check.due = self._state.now
            self._check_at = None
        self._update(neighbour)

    def _update(self, neighbour: Neighbour, *, always_tell: bool = False) -> None:
        record = neighbour.record
        trusted = neighbour.reachable and record is not None and record.relay
        changed = trusted != neighbour.trusted
        neighbour.trusted = trusted
        self._state.table.update(neighbour)
        if changed or always_tell:
            self.tell(neighbour)
        if trusted and changed:
            self._introduce(neighbour)

    def _introduce(self, relay: Neighbour) -> None:
        """Tells a new relay's record to every neighbour that is closer to it than to us: they will want the link."""
        state = self._state
        own = int.from_bytes(state.own, "big")
        if relay.record is None or not state.relaying:
            return
        payload = join_records([relay.record])
        for other in state.table:
            if other is not relay and other.number ^ relay.number < other.number ^ own:
                state.tell(other, Kind.STORE, payload)

    def unlinked(self, neighbour: Neighbour) -> None:
        """A neighbour left."""
        if self._checks.pop(neighbour.id, None) is not None:
            self._check_at = None
        self.unwitnessed(neighbour)

    def unwitnessed(self, neighbour: Neighbour) -> None:
        """A neighbour has no link any more by which it may have reached us at an address."""
        if neighbour.id in self._witnesses:
            self._witnesses.remove(neighbour.id)
            self._evidence_until = max(self._evidence_until, self._state.now + _EVIDENCE_LIFETIME)

    def probed(self, node_id: NodeId, success: bool) -> None:
        """How a probe ended; two failures in a row end the trust."""
        check = self._checks.get(node_id)
        if check is None:
            return
        check.failures = 0 if success else check.failures + 1
        delay = _RECHECK if success else min(_FIRST_RETRY * 2 ** min(check.failures, 10), _RECHECK)
        check.due = self._state.now + delay * self._state.rng.uniform(0.75, 1.25)
        self._check_at = None
        if success or check.failures >= 2:
            check.neighbour.reachable = success
            self._update(check.neighbour)

    def handle_timeout(self) -> None:
        """Does what is due now."""
        state = self._state
        if state.record.expiry - state.wall < state.limits.record_lifetime / 2:
            self._announce()
        if state.relaying and state.now >= self._evidence_until:
            self.update_role()
        if self._repeat_at <= state.now:
            self._tell_all()
        if self._next_check() <= state.now:
            for check in self._checks.values():
                if check.due <= state.now:
                    self._probe(check)
            self._check_at = None

    def _probe(self, check: _Check) -> None:
        state = self._state
        neighbour = check.neighbour
        record = neighbour.record
        if record is None or not record.urls:
            check.due = state.now + _RECHECK
        elif self._rates.allow({neighbour.group} | networks(record.urls), state.now):
            check.due = state.now + _RECHECK
            state.do(Dial(record.urls, neighbour.id, neighbour.scope, probe=True))
        else:
            check.due = state.now + state.rng.uniform(0.5, 1.5)
            state.counts["probe_rate"] += 1

    def _next_check(self) -> float:
        """When the first check is due; looked for anew only after one changed."""
        if self._check_at is None:
            self._check_at = min((check.due for check in self._checks.values()), default=float("inf"))
        return self._check_at

    def next_deadline(self) -> float:
        """When `handle_timeout` has something to do."""
        state = self._state
        renewal = state.record.expiry - state.limits.record_lifetime / 2 - state.wall_offset
        expires = self._evidence_until if state.relaying and not self._witnesses else float("inf")
        return min(self._next_check(), self._repeat_at, expires, renewal + 0.001)
