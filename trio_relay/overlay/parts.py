"""The parts of the router, put together: which part a frame for us belongs to, and the one timer of all; pure."""

from __future__ import annotations

from typing import Final

from ..exceptions import RemoteProtocolError
from ..wire.frame import Flag, Kind
from ..wire.hello import Reason
from ..wire.ids import ID_LENGTH, NodeId
from .actions import Action, SessionReady
from .admission import Admission
from .connecting import Connecting
from .discovery import TOPICS, Discovery
from .endpoint import Endpoint
from .forwarding import Forwarder
from .links import Links
from .liveness import Liveness
from .membership import Membership
from .negotiations import Negotiations
from .reachability import Reachability
from .rendezvous import Rendezvous
from .session.session import Arrival
from .session.sessions import Sealing, Sessions
from .state import State
from .table import Neighbour

__all__ = ["Parts"]

_EXPIRE_EVERY: Final = 10.0
_SEAL_FLAGS: Final = Flag.SEALED | Flag.OPENING
_SEALED_KINDS: Final = frozenset({Kind.DATA, Kind.ACK, Kind.BUSY, Kind.CONNECT, Kind.REFUSED, Kind.SIGNAL})
"""What travels in sessions, and only there between nodes that seal; but for the CONNECT with which nodes that know each
other by original nodes only introduce themselves."""
_OF_FEW: Final = frozenset({Kind.ACK, Kind.BUSY, Kind.SESSION, Kind.UNREACHABLE, Kind.FOUND})
"""Frames that move no deadlines but those of `_some_deadlines`."""
_OF_NOBODY: Final = frozenset({Kind.FIND, Kind.STORE, Kind.PING, Kind.PONG})
"""Frames that bring no deadline nearer."""


class Parts:
    """The parts share one `State`; each knows only those that it needs, so what else one's doing means for another
    is said here."""

    def __init__(
        self,
        state: State,
        admission: Admission,
        sealing: Sealing | None,
        webrtc: int,
        negotiation_timeout: float = 10.0,
    ) -> None:
        self.state: Final = state
        self.sessions: Final = None if sealing is None else Sessions(state, sealing, admission)
        self.reachability: Final = Reachability(state)
        self.endpoint: Final = Endpoint(state, admission, self.sessions)
        self.discovery: Final = Discovery(state)
        self.membership: Final = Membership(state)
        self.links: Final = Links(state, self.reachability, self.membership, Liveness(state), admission)
        self.negotiations: Final = Negotiations(state, self.sessions, self.links.admit, webrtc, negotiation_timeout)
        self.connecting: Final = Connecting(
            state, self.discovery, self.membership, admission, self.sessions, self.negotiations
        )
        self.rendezvous: Final = Rendezvous(state, self.endpoint, self.discovery, admission)
        self.forwarder: Final = Forwarder(state, self.receive)
        self._outside: Final = Neighbour(state.own, None, state.now)
        self._expire_at = state.now + _EXPIRE_EVERY
        # Deadlines: the first one as far as it is known, and whose may have come nearer since.
        self._deadline = state.now
        self._ask_all = True
        self._ask_some = False
        self._touched = True

    def sizes(self) -> dict[str, int]:
        """How full each bounded table is."""
        return {
            "links": len(self.links),
            "relays": self.state.table.relay_count,
            "records": len(self.state.directory),
            "lookups": self.discovery.lookup_count,
            "connecting": len(self.connecting),
            "negotiations": len(self.negotiations),
            "negotiations_remembered": self.negotiations.remembered,
            "dials": self.membership.dial_count,
            "seen": self.endpoint.remembered,
            "mailbox_messages": self.endpoint.mailbox_messages,
            "mailbox_bytes": self.endpoint.mailbox_bytes,
            "unlinked": self.endpoint.unlinked_count,
            "pending_deliveries": len(self.endpoint.deliveries),
            **self.rendezvous.sizes(),
            **(self.sessions.sizes() if self.sessions is not None else {}),
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
        self._touched = True
        sessions = self.sessions
        if flags & Flag.SEALED and sessions is not None:
            self._receive_sealed(sessions, via, hop_limit, attempt, kind, flags, source, message_id, payload)
        elif sessions is not None and kind in _SEALED_KINDS and not (kind == Kind.CONNECT and via is self._outside):
            self.state.counts["unsealed"] += 1
        elif kind == Kind.DATA:
            proven = sessions is None and source == via.id
            self.endpoint.receive_data(via, hop_limit, attempt, flags, source, message_id, payload, proven=proven)
        else:
            self._receive_control(via, attempt, kind, source, message_id, payload)

    def _receive_sealed(
        self,
        sessions: Sessions,
        via: Neighbour,
        hop_limit: int,
        attempt: int,
        kind: int,
        flags: int,
        source: NodeId,
        message_id: bytes,
        sealed: bytes,
    ) -> None:
        opened = sessions.unseal(via, attempt, kind, flags, source, message_id, sealed)
        if opened is None:
            return
        payload, arrival = opened
        flags &= ~_SEAL_FLAGS
        if kind == Kind.DATA and (arrival is Arrival.NEW or flags & Flag.CONFIRM):
            if not self.endpoint.receive_data(
                via, hop_limit, attempt, flags, source, message_id, payload, proven=True, arrival=arrival
            ):
                sessions.refuse(sealed)
        elif arrival is not Arrival.NEW:
            self.state.counts["seal_replayed"] += 1
        elif kind in _SEALED_KINDS:
            self._receive_control(via, attempt, kind, source, message_id, payload)
        elif kind != Kind.SESSION:
            self.state.counts["unknown_kind"] += 1

    def _receive_control(
        self, via: Neighbour, attempt: int, kind: int, source: NodeId, message_id: bytes, payload: bytes
    ) -> None:
        """Any frame but DATA."""
        if kind in _OF_FEW:
            self._ask_some = True
        elif kind not in _OF_NOBODY:
            self._ask_all = True
        if kind in (Kind.ACK, Kind.BUSY):
            self.endpoint.receive_answer(kind, source, message_id, payload)
        elif kind == Kind.SESSION and self.sessions is not None:
            self.sessions.receive(via, attempt, source, message_id, payload)
        elif kind == Kind.UNREACHABLE:
            self._receive_unreachable(source, message_id, payload)
        elif kind == Kind.FIND:
            self.discovery.receive_find(via, source, message_id, payload)
        elif kind == Kind.FOUND:
            self.discovery.receive_found(via, source, message_id, payload)
        elif kind == Kind.STORE:
            self.discovery.receive_store(via, payload)
        elif kind == Kind.CONNECT:
            self.connecting.receive_connect(via, source, message_id, payload, answer=via is not self._outside)
        elif kind == Kind.REFUSED:
            self.connecting.receive_refused(source, message_id, payload)
        elif kind == Kind.SIGNAL:
            wished = self.connecting.wishes(source)
            self.negotiations.receive(via, attempt, source, message_id, payload, wished=wished)
            self.negotiated()
        elif source == via.id:
            self.links.receive(via, kind, message_id, payload)
        else:
            self.state.counts["unknown_kind"] += 1

    def negotiated(self) -> None:
        """Attempts at WebRTC links may have ended."""
        for outcome in self.negotiations.take_outcomes():
            self.connecting.not_negotiated(outcome)

    def _receive_unreachable(self, source: NodeId, message_id: bytes, payload: bytes) -> None:
        """A relay's hint: about a question, the opening of a session, or a message."""
        if self.discovery.query_failed(message_id):
            return
        if self.sessions is not None and self.sessions.unreachable(message_id, payload[:ID_LENGTH]):
            return
        self.endpoint.receive_answer(Kind.UNREACHABLE, source, message_id, payload)

    def broken(self, via: Neighbour, error: RemoteProtocolError) -> None:
        """A neighbour broke the protocol: it is closed, and only it."""
        self._ask_all = self._touched = True
        self.state.counts["protocol_errors"] += 1
        self.links.close(via, Reason.PROTOCOL, alive=False)

    # Time

    def begin(self, now: float) -> None:
        """An input comes that may move any deadline."""
        self.state.now = max(self.state.now, now)
        self._ask_all = self._touched = True

    def begin_sending(self, now: float) -> None:
        """An input comes that sends a message, and moves no deadlines but those of `_some_deadlines`."""
        self.state.now = max(self.state.now, now)
        self._ask_some = self._touched = True

    def next_deadline(self) -> float:
        """When the first part has something to do, at the earliest.

        A deadline that went further away is seen when it would have been due; one that may have come nearer at once.
        """
        if self._ask_all:
            self._deadline = min(
                self._some_deadlines(),
                self.links.next_deadline(),
                self.membership.next_deadline(),
                self.reachability.next_deadline(),
                self.negotiations.next_deadline(),
                self.connecting.next_deadline(),
                self._expire_at,
            )
        elif self._ask_some:
            self._deadline = min(self._deadline, self._some_deadlines())
        self._ask_all = self._ask_some = False
        return self._deadline

    def _some_deadlines(self) -> float:
        """Those that most messages move."""
        first = min(self.endpoint.next_deadline(), self.discovery.next_deadline(), self.rendezvous.next_deadline())
        return first if self.sessions is None else min(first, self.sessions.next_deadline())

    def handle_timeout(self) -> None:
        """Every part does what is due."""
        state = self.state
        self.links.handle_timeout()
        if self.sessions is not None:
            self.sessions.handle_timeout()
        self.endpoint.handle_timeout()
        self.discovery.handle_timeout()
        for neighbour in self.membership.handle_timeout():
            self.links.close(neighbour, Reason.UNWANTED)
        self.reachability.handle_timeout()
        self.negotiations.handle_timeout()
        self.negotiated()
        self.connecting.handle_timeout()
        self.rendezvous.handle_timeout()
        if self._expire_at <= state.now:
            self._expire_at = state.now + _EXPIRE_EVERY
            state.directory.expire(state.wall)
            self.rendezvous.expire()

    def settle(self) -> list[Action]:
        """The input is handled: what it means for other parts, and then all that is to be done."""
        if self._touched:
            self._touched = False
            self._tell_parts()
        return self.state.drain()

    def _tell_parts(self) -> None:
        """What the input means for other parts."""
        state, discovery, sessions, rendezvous = self.state, self.discovery, self.sessions, self.rendezvous
        if state.table.changed:
            state.table.changed = False
            self._ask_all = True
            discovery.refresh_soon()
            self.membership.plan_soon()
            rendezvous.changed()
        if discovery.changed:
            discovery.changed = False
            self._ask_all = True
            self.membership.plan_later()
            rendezvous.changed()
        if discovery.published is not state.record:
            self._ask_all = True
            discovery.publish_soon()
            rendezvous.role_changed()
        if discovery.found:
            self._ask_all = True
            for found in discovery.found:
                if found.query is TOPICS:
                    rendezvous.found(found.target)
                else:
                    self.connecting.found(found)
            discovery.found.clear()
        if sessions is not None and sessions.take_moved():
            self._ask_some = True
        if sessions is not None and sessions.has_ready:
            self._ask_some = True
            for peer, lost in sessions.take_ready():
                self.endpoint.session_ready(peer, lost)
                state.do(SessionReady(peer))
        if rendezvous.moved:
            self._ask_some = True
            rendezvous.handle_news()
