"""What callers may read of a router at any time; nothing here changes it. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ..wire.ids import NodeId
from ..wire.record import PeerRecord
from .actions import NotConnected
from .parts import Parts
from .state import State
from .table import Neighbour, RoutingTable

__all__ = ["RouterState"]


class RouterState:
    """The reading half of `Router`."""

    def __init__(self, state: State, parts: Parts) -> None:
        self._state = state
        self._parts = parts

    @property
    def table(self) -> RoutingTable:
        """Live links by id."""
        return self._state.table

    @property
    def record(self) -> PeerRecord:
        """Our own record, as neighbours have it."""
        return self._state.record

    @property
    def tunnels(self) -> bool:
        """Whether frames that have no way in the overlay become `Tunnel` actions."""
        return self._state.tunnels

    @tunnels.setter
    def tunnels(self, tunnels: bool) -> None:
        self._state.tunnels = tunnels

    def wall(self, now: float) -> float:
        """Unix time."""
        return now + self._state.wall_offset

    @property
    def relaying(self) -> bool:
        """Whether we relay for others now."""
        return self._state.relaying

    @property
    def authorities(self) -> frozenset[str]:
        """Every ``host:port`` that we advertise."""
        return self._parts.reachability.authorities

    @property
    def has_unlinked_room(self) -> bool:
        """Whether `send` may keep one more message for the first link."""
        return self._parts.endpoint.has_unlinked_room

    def has_session_room(self, to: NodeId, size: int) -> bool:
        """Whether a message of so many bytes can be sealed at once, or may wait for a session."""
        return self._parts.sessions is None or self._parts.sessions.has_room(to, size)

    def has_session(self, peer: NodeId) -> bool:
        """Whether that id proved to us that it has a key, and the session is not forgotten."""
        return self._parts.sessions is not None and self._parts.sessions.knows(peer)

    @property
    def seals(self) -> bool:
        """Whether messages leave sealed."""
        return self._parts.sessions is not None

    @property
    def awaits_sessions(self) -> bool:
        """Whether a message waits for a session with a peer to whom there seems to be a way."""
        return self._parts.sessions is not None and self._parts.sessions.awaited

    @property
    def pending_deliveries(self) -> tuple[int, int]:
        """Confirmed messages under way, and their payload bytes."""
        return len(self._parts.endpoint.deliveries), self._parts.endpoint.deliveries.bytes

    def connecting(self, peer: NodeId) -> NotConnected | None:
        """How `Router.connect` would end if its time was up now; None if no link with that peer is being made."""
        return self._parts.connecting.so_far(peer)

    def first_hop(self, to: NodeId) -> Neighbour | None:
        """The neighbour that a first attempt towards an id goes to."""
        return self._state.table.first_hop(to)

    def counts(self) -> Mapping[str, int]:
        """Drops, expiries and refusals by reason, and totals."""
        counts = self._state.counts + self._state.directory.counts
        counts["seen_evicted"] = self._parts.endpoint.forgotten
        return counts

    def sizes(self) -> Mapping[str, int]:
        """How full each bounded table is."""
        return self._parts.sizes()

    def record_of(self, node_id: NodeId) -> PeerRecord | None:
        """The record of a peer, if it is known here."""
        return self._state.directory.get(node_id, self._state.wall)

    def gateways_of(self, node_id: NodeId) -> tuple[PeerRecord, ...]:
        """Gateways that speak for an original node, as far as known here."""
        return self._state.directory.gateways(node_id, self._state.wall)

    def known_relays(self) -> list[PeerRecord]:
        """Records of relays not seen dead."""
        return [e.record for e in self._state.directory.relays(self._state.wall) if not e.suspect]
