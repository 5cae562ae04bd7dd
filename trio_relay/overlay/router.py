"""The overlay of one node as one pure state machine: inputs with their time in, actions out.

Rules of this file:

1. Every input method takes `now`, in seconds of one monotonic clock, and returns the actions it led to, in order.
   Carry them out before the next input.
2. After each input, `next_deadline` says when `handle_timeout` wants to be called if nothing else happens.
3. Whatever a peer sends, no method raises; a neighbour that breaks the protocol is closed, and only it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..exceptions import RemoteProtocolError
from ..limits import Limits
from ..wire.content import Data
from ..wire.frame import FIRST_LINK_LOCAL, Frame
from ..wire.hello import Reason
from ..wire.ids import NodeId
from ..wire.record import PeerRecord, Sign, Verify
from .actions import Action, CloseLink, LinkHandle, Preference
from .admission import EVERYBODY, Admission
from .parts import Parts
from .session.sessions import Sealing
from .state import State
from .table import Neighbour, Rank
from .topics import RouterTopics

if TYPE_CHECKING:
    import random

__all__ = ["Router"]


class Router(RouterTopics):
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
        webrtc: how many WebRTC links may be negotiated at once; 0: we make none.
        negotiation_timeout: after how long an attempt at one is reported as failed.
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
        webrtc: int = 0,
        negotiation_timeout: float = 10.0,
    ) -> None:
        state = State(
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
        super().__init__(state, Parts(state, admission, sealing, webrtc, negotiation_timeout))

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
        negotiation: bytes = b"",
        rtt: float | None = None,
    ) -> list[Action]:
        """A link whose other end has proven its id.

        Args:
            url: the address that we dialled.
            authority: the address that the other side says it dialled.
            record: its record, verified.
            group: its network range, empty for none.
            scope: how near it is (`wire.addresses.Scope`).
            negotiation: the attempt that this WebRTC link comes from, empty for another transport; whoever offered
                has dialled.
            rtt: a first round trip time, if one was measured.
        """
        self._parts.begin(now)
        rank = self._rank(link, peer, dialled, negotiation)
        if rank is None:
            return self._parts.settle()
        new = Neighbour(peer, link, self._state.now, dialled, url, record=record, group=group, scope=scope, rank=rank)
        new.rtt = rtt
        neighbour = self._parts.links.up(new)
        if neighbour is not None:
            if not dialled and rank is Rank.WEBSOCKET:
                self._parts.reachability.reached(peer, authority)
            self._parts.connecting.linked(neighbour)
            self._parts.endpoint.linked()
            if self._parts.sessions is not None:
                self._parts.sessions.linked()
        return self._parts.settle()

    def _rank(self, link: LinkHandle, peer: NodeId, dialled: bool, negotiation: bytes) -> Rank | None:
        """What kind of link came up; None: one that nobody wants any more, which closes."""
        if not negotiation:
            return Rank.WEBSOCKET
        rank = self._parts.negotiations.opened(negotiation, peer, dialled)
        self._parts.negotiated()
        if rank is None:
            self._state.counts["negotiations_late"] += 1
            self._state.do(CloseLink(link, Reason.UNWANTED))
        return rank

    def link_down(self, link: LinkHandle, reason: str, now: float, *, alive: bool = False) -> list[Action]:
        """A link ended; `alive` says that its peer is known to live on (it closed politely, or we did)."""
        self._parts.begin(now)
        self._parts.links.down(link, reason, alive)
        return self._parts.settle()

    def disconnect(self, peer: NodeId, now: float) -> list[Action]:
        """Closes the link with a peer and refuses new ones for a minute."""
        self._parts.begin(now)
        self._parts.membership.refuse(peer)
        self._parts.connecting.disconnected(peer)
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
        self._parts.negotiations.stop()
        self._parts.rendezvous.close()
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
        self._parts.begin_sending(now)
        self._parts.endpoint.send(to, payload, flags)

    def flush(self) -> list[Action]:
        """What is left to do of earlier inputs."""
        return self._parts.settle()

    def deliver(
        self, to: NodeId, payload: bytes, timeout: float, now: float, *, flags: int = 0
    ) -> tuple[bytes, list[Action]]:
        """Sends until acknowledged; ends in `Acknowledged` or `Failed` with the message id that is returned."""
        self._parts.begin_sending(now)
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

    def connect(self, peer: NodeId, now: float, prefer: Preference = "websocket") -> tuple[bool, list[Action]]:
        """Makes a direct link; False when too many are being made, else ends in `Connected`, or `NotConnected`.

        Args:
            prefer: what to try first. For ``"websocket"`` any link that is there will do; for ``"webrtc"`` a WebRTC
                link is made beside a WebSocket.
        """
        self._parts.begin(now)
        started = self._parts.connecting.connect(peer, prefer)
        return started, self._parts.settle()

    def cancel_connect(self, peer: NodeId) -> list[Action]:
        """The application stopped waiting."""
        self._parts.begin(self._state.now)
        self._parts.connecting.cancel(peer)
        return self._parts.settle()

    def described(self, negotiation: bytes, description: str, now: float) -> list[Action]:
        """Our own description for an attempt (`Negotiate`) is ready."""
        self._parts.begin(now)
        self._parts.negotiations.described(negotiation, description)
        self._parts.negotiated()
        return self._parts.settle()

    def negotiation_failed(self, negotiation: bytes, reason: str, now: float) -> list[Action]:
        """An attempt failed here; `reason` in words."""
        self._parts.begin(now)
        self._parts.negotiations.failed(negotiation, reason)
        self._parts.negotiated()
        return self._parts.settle()

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

    def set_wall_offset(self, offset: float) -> None:
        """Unix time is so much more than `now` from the next input on: the machine slept, or its clock was set."""
        self._state.wall_offset = offset

    def handle_timeout(self, now: float) -> list[Action]:
        """Does what is due: pings, retries, lookups, plans, probes, expiry."""
        self._parts.begin(now)
        self._parts.handle_timeout()
        return self._parts.settle()
