"""The parts of the router, put together: which part a frame for us belongs to, and the one timer of all; pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ..exceptions import RemoteProtocolError
from ..wire.frame import Kind
from ..wire.hello import Reason
from ..wire.ids import NodeId
from .actions import Action
from .connecting import Connecting
from .discovery import Discovery
from .endpoint import Endpoint
from .forwarding import Forwarder
from .links import Links
from .liveness import Liveness
from .membership import Membership
from .reachability import Reachability
from .state import State
from .table import Neighbour

__all__ = ["Parts"]

_EXPIRE_EVERY: Final = 10.0


class Parts:
    """The parts share one `State`; each knows only those that it needs, so what else one's doing means for another
    is said here."""

    def __init__(self, state: State, admits: Callable[[NodeId], bool]) -> None:
        self.state: Final = state
        self.reachability: Final = Reachability(state)
        self.endpoint: Final = Endpoint(state, admits)
        self.discovery: Final = Discovery(state)
        self.membership: Final = Membership(state)
        self.links: Final = Links(state, self.reachability, self.membership, Liveness(state), admits)
        self.connecting: Final = Connecting(state, self.discovery, self.membership)
        self.forwarder: Final = Forwarder(state, self.receive)
        self._outside: Final = Neighbour(state.own, None, state.now)
        self._expire_at = state.now + _EXPIRE_EVERY
        self._deadline: float | None = None

    def sizes(self) -> dict[str, int]:
        """How full each bounded table is."""
        return {
            "links": len(self.links),
            "relays": self.state.table.relay_count,
            "records": len(self.state.directory),
            "lookups": self.discovery.lookup_count,
            "connecting": len(self.connecting),
            "dials": self.membership.dial_count,
            "seen": self.endpoint.remembered,
            "mailbox_messages": self.endpoint.mailbox_messages,
            "mailbox_bytes": self.endpoint.mailbox_bytes,
            "unlinked": self.endpoint.unlinked_count,
            "pending_deliveries": len(self.endpoint.deliveries),
        }

    # Frames

    def outside(self, scope: int) -> Neighbour:
        """Stands for whoever frames and records come from that came over no link of the overlay; one for all, so
        that their rate is bounded together."""
        self._outside.scope = scope
        return self._outside

    def receive(
        self,
        via: Neighbour,
        hop_limit: int,
        attempt: int,
        kind: int,
        flags: int,
        source: NodeId,
        message_id: bytes,
        payload: bytes,
    ) -> None:
        """A frame addressed to us."""
        if kind == Kind.DATA:
            self.endpoint.receive_data(via, hop_limit, attempt, flags, source, message_id, payload)
            return
        self._deadline = None
        if kind == Kind.UNREACHABLE and self.discovery.query_failed(message_id):
            return
        if kind in (Kind.ACK, Kind.BUSY, Kind.UNREACHABLE):
            self.endpoint.receive_answer(kind, source, attempt, message_id, payload)
        elif kind == Kind.FIND:
            self.discovery.receive_find(via, source, message_id, payload)
        elif kind == Kind.FOUND:
            self.discovery.receive_found(via, source, message_id, payload)
        elif kind == Kind.STORE:
            self.discovery.receive_store(via, payload)
        elif kind == Kind.CONNECT:
            self.connecting.receive_connect(via, source, message_id, payload)
        elif kind == Kind.REFUSED:
            self.connecting.receive_refused(source, payload)
        elif source == via.id:
            self.links.receive(via, kind, message_id, payload)
        else:
            self.state.counts["unknown_kind"] += 1

    def broken(self, via: Neighbour, error: RemoteProtocolError) -> None:
        """A neighbour broke the protocol: it is closed, and only it."""
        self._deadline = None
        self.state.counts["protocol_errors"] += 1
        self.links.close(via, Reason.PROTOCOL, alive=False)

    # Time

    def begin(self, now: float) -> None:
        """An input comes that may move deadlines."""
        self.state.now = max(self.state.now, now)
        self._deadline = None

    def next_deadline(self) -> float:
        """When the first part has something to do."""
        if self._deadline is None:
            self._deadline = min(
                self.links.next_deadline(),
                self.endpoint.next_deadline(),
                self.discovery.next_deadline(),
                self.membership.next_deadline(),
                self.reachability.next_deadline(),
                self.connecting.next_deadline(),
                self._expire_at,
            )
        return self._deadline

    def handle_timeout(self) -> None:
        """Every part does what is due."""
        state = self.state
        self.links.handle_timeout()
        self.endpoint.handle_timeout()
        self.discovery.handle_timeout()
        for neighbour in self.membership.handle_timeout():
            self.links.close(neighbour, Reason.UNWANTED)
        self.reachability.handle_timeout()
        self.connecting.handle_timeout()
        if self._expire_at <= state.now:
            self._expire_at = state.now + _EXPIRE_EVERY
            state.directory.expire(state.wall)

    def settle(self) -> list[Action]:
        """The input is handled: what it means for other parts, and then all that is to be done."""
        state, discovery = self.state, self.discovery
        if state.table.changed:
            state.table.changed = False
            self._deadline = None
            discovery.refresh_soon()
            self.membership.plan_soon()
        if discovery.changed:
            discovery.changed = False
            self._deadline = None
            self.membership.plan_later()
        if discovery.published is not state.record:
            self._deadline = None
            discovery.publish_soon()
        if discovery.found:
            for found in discovery.found:
                self.connecting.found(found)
            discovery.found.clear()
        return state.drain()
