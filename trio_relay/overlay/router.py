"""The overlay of one node as one pure state machine: inputs with their time in, actions out.

Rules of this file:

1. Every input method takes `now`, in seconds of one monotonic clock, and returns the actions it led to, in order.
   Carry them out before the next input.
2. After each input, `next_deadline` says when `handle_timeout` wants to be called if nothing else happens.
3. Whatever a peer sends, no method raises; a neighbour that breaks the protocol is closed, and only it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from ..exceptions import RemoteProtocolError
from ..limits import Limits
from ..wire.content import Data
from ..wire.frame import FIRST_LINK_LOCAL, Frame
from ..wire.hello import Reason
from ..wire.ids import NodeId
from ..wire.record import PeerRecord, Sign, Verify
from .actions import Action, LinkHandle
from .admission import EVERYBODY, Admission
from .parts import Parts
from .session.sessions import Sealing
from .state import State
from .table import Neighbour, RoutingTable

if TYPE_CHECKING:
    import random

__all__ = ["Router"]


class Router:
    """One peer's overlay.

    Args:
        own: our id, the hash of `public_key`.
        sign: signs bytes with our key.
        verify: checks a signature; a simulator may give one that trusts.
        rng: for jitter and random choices; a seed repeats a run exactly.
        token: 8 unpredictable bytes per call, for message ids.
        wall_offset: Unix time minus `now`.
        legacy: whether our record says that we admit original peer-relay nodes.
        admission: who may link with us, and send to our application.
        sealing: how messages are sealed; None: they are plain, and `proven` only over their sender's own link.
    """

    def __init__(
        self,
        own: NodeId,
        public_key: bytes,
        *,
        sign: Sign,
        verify: Verify,
        rng: random.Random,
        token: Callable[[], bytes],
        now: float,
        wall_offset: float,
        limits: Limits,
        legacy: bool = False,
        admission: Admission = EVERYBODY,
        sealing: Sealing | None = None,
    ) -> None:
        self._state: Final = State(
            own,
            public_key,
            sign=sign,
            verify=verify,
            limits=limits,
            rng=rng,
            token=token,
            now=now,
            wall_offset=wall_offset,
            legacy=legacy,
        )
        self._parts: Final = Parts(self._state, admission, sealing)

    # What callers may read

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

    # Links

    def advertise(self, urls: Sequence[str], now: float) -> list[Action]:
        """Our addresses, from now on; at most four."""
        self._parts.begin(now)
        self._parts.reachability.advertise(tuple(urls))
        return self._parts.settle()

    def admit(self, node_id: NodeId, probe: bool, claims_relay: bool, now: float) -> tuple[Reason, bytes] | None:
        """Whether a proven dialler may link with us: None, or the reason and, when full, relays to try instead."""
        self._state.now = max(self._state.now, now)
        return self._parts.links.admit(node_id, probe, claims_relay)

    def link_up(
        self,
        link: LinkHandle,
        peer: NodeId,
        now: float,
        *,
        dialled: bool,
        url: str = "",
        authority: str = "",
        record: PeerRecord | None = None,
        group: str = "",
        scope: int = 0,
    ) -> list[Action]:
        """A link whose other end has proven its id.

        Args:
            url: the address that we dialled.
            authority: the address that the other side says it dialled.
            record: its record, verified.
            group: its network range, empty for none.
            scope: how near it is (`wire.addresses.Scope`).
        """
        self._parts.begin(now)
        neighbour = self._parts.links.up(
            Neighbour(peer, link, self._state.now, dialled, url, record=record, group=group, scope=scope)
        )
        if neighbour is not None:
            if not dialled:
                self._parts.reachability.reached(peer, authority)
            self._parts.connecting.linked(neighbour)
            self._parts.endpoint.linked()
            if self._parts.sessions is not None:
                self._parts.sessions.linked()
        return self._parts.settle()

    def link_down(self, link: LinkHandle, reason: str, now: float, *, alive: bool = False) -> list[Action]:
        """A link ended; `alive` says that its peer is known to live on (it closed politely, or we did)."""
        self._parts.begin(now)
        self._parts.links.down(link, reason, alive)
        return self._parts.settle()

    def disconnect(self, peer: NodeId, now: float) -> list[Action]:
        """Closes the link with a peer and refuses new ones for a minute."""
        self._parts.begin(now)
        self._parts.membership.refuse(peer)
        self._parts.connecting.cancel(peer)
        neighbour = self._state.table.get(peer)
        if neighbour is not None:
            self._parts.links.close(neighbour, Reason.DISCONNECTED)
        return self._parts.settle()

    def take_no_more(self) -> None:
        """The node is about to end: its application gets no more messages, so none is acknowledged."""
        self._parts.endpoint.closed = True

    def goodbye(self, now: float) -> list[Action]:
        """The node ends: tells every neighbour, drops what still waits; links stay until they are closed."""
        self._parts.begin(now)
        self._parts.links.goodbye()
        self._parts.endpoint.close()
        if self._parts.sessions is not None:
            self._parts.sessions.close()
        return self._parts.settle()

    # Dials

    def dial_failed(self, peer: NodeId, now: float, *, records: bytes = b"", scope: int = 0) -> list[Action]:
        """A `Dial` ended without a link; `records` are relays named by a full one."""
        self._parts.begin(now)
        self._parts.membership.dialled(peer, False)
        self._learn(records, scope)
        self._parts.connecting.dial_failed(peer)
        return self._parts.settle()

    def learn(self, records: bytes, scope: int, now: float) -> list[Action]:
        """Joined records from outside the overlay, for example from a bootstrap address that is full."""
        self._parts.begin(now)
        self._learn(records, scope)
        return self._parts.settle()

    def _learn(self, records: bytes, scope: int) -> None:
        if records:
            self._parts.discovery.receive_store(self._parts.outside(scope), records)

    def probe_ended(self, peer: NodeId, success: bool, now: float) -> list[Action]:
        """A `Dial` with `probe` proved the id, or did not."""
        self._parts.begin(now)
        self._parts.reachability.probed(peer, success)
        return self._parts.settle()

    def reached(self, peer: NodeId, authority: str, now: float) -> list[Action]:
        """A proven peer probed us at an address."""
        self._parts.begin(now)
        self._parts.reachability.reached(peer, authority)
        return self._parts.settle()

    # The application

    def send(self, to: NodeId, payload: bytes, now: float, *, flags: int = 0) -> list[Action]:
        """Sends a datagram: at most once, unordered. The payload is a content (`wire.content`)."""
        self.post(to, payload, now, flags=flags)
        return self.flush()

    def post(self, to: NodeId, payload: bytes, now: float, *, flags: int = 0) -> None:
        """`send`, whose actions come with those of the next input, or of `flush`: frames for one link leave joined."""
        self._parts.begin(now)
        self._parts.endpoint.send(to, payload, flags)

    def flush(self) -> list[Action]:
        """What is left to do of earlier inputs."""
        return self._parts.settle()

    def deliver(
        self, to: NodeId, payload: bytes, timeout: float, now: float, *, flags: int = 0
    ) -> tuple[bytes, list[Action]]:
        """Sends until acknowledged; ends in `Acknowledged` or `Failed` with the message id that is returned."""
        self._parts.begin(now)
        message_id = self._parts.endpoint.deliver(to, payload, timeout, flags)
        return message_id, self._parts.settle()

    def cancel_delivery(self, message_id: bytes) -> None:
        """The application stopped waiting."""
        self._parts.endpoint.cancel(message_id)

    def put(self, data: Data, sender: NodeId, length: int, now: float) -> list[Action]:
        """A message of so many bytes from an original node: `Deliver` follows, or it is counted."""
        self._parts.begin(now)
        self._parts.endpoint.put(data, sender, length)
        return self._parts.settle()

    def taken(self, size: int) -> None:
        """The application took a message of that size (`Deliver.size`) out of the mailbox."""
        self._parts.endpoint.taken(size)

    def lookup(self, target: NodeId, query: object, now: float) -> tuple[bool, list[Action]]:
        """Looks for a peer's record; False when too many lookups are under way, else ends in `Found`."""
        self._parts.begin(now)
        started = self._parts.discovery.lookup(target, query)
        return started, self._parts.settle()

    def publish(self, record: PeerRecord, now: float) -> list[Action]:
        """Stores a record of ours about another peer (a gateway's) at the relays closest to its subject."""
        self._parts.begin(now)
        self._parts.discovery.publish(record)
        return self._parts.settle()

    def withdraw(self, original: NodeId) -> None:
        """We are no gateway of that original any more; relays that keep our record learn it by its expiry."""
        self._state.directory.withdraw(original)

    def connect(self, peer: NodeId, now: float) -> tuple[bool, list[Action]]:
        """Makes a direct link; False when too many are being made. `Linked` follows, or `LinkRefused`, or nothing."""
        self._parts.begin(now)
        started = self._parts.connecting.connect(peer)
        return started, self._parts.settle()

    def cancel_connect(self, peer: NodeId) -> bool:
        """The application stopped waiting; returns whether the peer's record had been found."""
        return self._parts.connecting.cancel(peer)

    # Frames and time

    def receive(self, link: LinkHandle, messages: Sequence[bytes | str], now: float) -> list[Action]:
        """The WebSocket messages of one read from a link."""
        parts, state = self._parts, self._state
        state.now = max(state.now, now)
        neighbour = parts.links.get(link)
        if neighbour is None:
            state.counts["link_gone"] += len(messages)
            return []
        neighbour.heard = state.now
        try:
            parts.forwarder.receive(messages, neighbour)
        except RemoteProtocolError as error:
            parts.broken(neighbour, error)
        return parts.settle()

    def receive_tunnelled(self, frame: Frame, scope: int, now: float) -> list[Action]:
        """A frame for us that original nodes carried, over a link of that scope; nothing about its source is proven."""
        parts = self._parts
        parts.begin(now)
        if frame.to != self._state.own or frame.source == frame.to or frame.kind >= FIRST_LINK_LOCAL:
            self._state.counts["tunnel_refused"] += 1
        else:
            header = frame.hop_limit, frame.attempt, frame.kind, frame.flags
            parts.receive(parts.outside(scope), *header, frame.source, frame.message_id, frame.payload)
        return parts.settle()

    def next_deadline(self) -> float:
        """When `handle_timeout` has something to do."""
        return self._parts.next_deadline()

    def handle_timeout(self, now: float) -> list[Action]:
        """Does what is due: pings, retries, lookups, plans, probes, expiry."""
        self._parts.begin(now)
        self._parts.handle_timeout()
        return self._parts.settle()
