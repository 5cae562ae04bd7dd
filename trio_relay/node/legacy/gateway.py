"""The gateway between our overlay and original peer-relay nodes (npm peer-relay 0.0.2) as a pure state machine.

Rules of this file:

1. Towards an original we are an original: id frame, `findPeers`, envelopes. Nothing is written that ends its process.
2. Whatever an original (or who says that it is one) sends, no method raises, every table is bounded, and at most three
   envelopes leave for one that came.
3. An original speaks for no id that has a key: such an envelope is not accepted, and such a link not made.
4. An original ends a good link when a second one with the same id closes. So a second WebSocket is refused before the
   other side has got our id; until then it has not noticed the link. From then on no WebRTC link is made.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from ...exceptions import LocalProtocolError, RemoteProtocolError
from ...limits import Limits
from ...overlay.actions import LinkHandle, Preference
from ...overlay.admission import EVERYBODY, Admission
from ...overlay.seen import SeenMessages
from ...wire.body import FindPeers, HandshakeOffer, User
from ...wire.content import Data
from ...wire.envelope import Envelope, build_envelope, build_id_frame, parse_envelope_untrusted
from ...wire.hello import Reason
from ...wire.ids import NodeId
from .actions import (
    CloseLegacy,
    ConnectFailed,
    GatewayAction,
    LegacyLinked,
    LegacyUnlinked,
    OverlayView,
    Publish,
)
from .carriage import parse_carried_untrusted
from .endpoint import LegacyEndpoint
from .handshakes import Handshakes
from .links import LegacyLink, LegacyLinks
from .refusals import Refusals
from .routing import EnvelopeRouter
from .waiting import Origin

__all__ = ["Gateway"]

_EXPIRE_EVERY: Final = 30.0


class Gateway:
    """One node's side of the network of originals.

    How a WebSocket link is made: the other side's id frame is read first, by dialler and acceptor alike; `refusal`
    decides; only then is `id_frame` sent, after `begin_greeting`, and `link_up` called, after `end_greeting`.

    Args:
        rng: for nonces; a stranger who can guess them can suppress messages.
        url: our address for an original to dial, None when there is none.
        reachable: whether somebody has proven that it can be dialled.
        webrtc: how many WebRTC connections may be made at once; 0: we don't do WebRTC.
        admission: who may link with us, and send to our application.

    Attributes:
        counts: drops and refusals by reason, and totals.
        handshakes: the links that are being made; the node reports there what came of `DialLegacy` and
            `NegotiateLegacy`.
    """

    def __init__(
        self,
        own: NodeId,
        *,
        limits: Limits,
        rng: random.Random,
        now: float,
        overlay: OverlayView,
        url: Callable[[], str | None],
        admission: Admission = EVERYBODY,
        reachable: Callable[[], bool] = lambda: False,
        webrtc: Callable[[], int] = lambda: 0,
    ) -> None:
        self._own: Final = own
        self._limits: Final = limits
        self._overlay: Final = overlay
        self._admission: Final = admission
        self.counts: Final = Counter[str]()
        self._links: Final = LegacyLinks()
        self._seen: Final = SeenMessages(limits.seen_messages, limits.seen_messages_per_sender, limits.seen_for)
        self._router: Final = EnvelopeRouter(
            own, limits=limits, rng=rng, now=now, overlay=overlay, links=self._links, counts=self.counts
        )
        self._refusals: Final = Refusals(own, limits=limits, overlay=overlay, links=self._links, admission=admission)
        self.handshakes: Final = Handshakes(
            own,
            limits=limits,
            links=self._links,
            router=self._router,
            counts=self.counts,
            url=url,
            reachable=reachable,
            webrtc=webrtc,
            refusal=self._refusals.reason,
            now=now,
        )
        self._endpoint: Final = LegacyEndpoint(
            own,
            overlay=overlay,
            links=self._links,
            router=self._router,
            handshakes=self.handshakes,
            counts=self.counts,
            webrtc=webrtc,
            admission=admission,
        )
        self._expire_at = now + _EXPIRE_EVERY

    # What callers may read

    def link_of(self, peer: NodeId) -> LinkHandle | None:
        """The link with an original, None when there is none."""
        entry = self._links.of(peer)
        return None if entry is None else entry.link

    def carrier_of(self, to: NodeId, now: float) -> NodeId | None:
        """Which of our nodes a message of our application for an original is given to first, None if to none."""
        return self._router.carrier_of(to, now)

    def has_room(self, to: NodeId, now: float) -> bool:
        """Whether `send` would not drop a message because too many wait for lookups."""
        return self._router.has_room(to, now)

    def is_keyless(self, node_id: NodeId, now: float) -> bool:
        """Whether it was asked a moment ago if the id has a key, in vain."""
        return self._router.waiting.is_keyless(node_id, now)

    def is_original(self, node_id: NodeId, now: float) -> bool:
        """Whether the id is an original's, as far as known here: linked with us or another gateway, or heard of."""
        return self._router.knows(node_id, now)

    def sizes(self) -> Mapping[str, int]:
        """How full each bounded table is."""
        return {
            "legacy_links": len(self._links),
            "legacy_seen": len(self._seen),
            "legacy_waiting": self._router.waiting.messages,
            "legacy_waiting_bytes": self._router.waiting.bytes,
            "legacy_wishes": self.handshakes.wishes,
            "legacy_handshakes": self.handshakes.remembered,
            "legacy_remembered": self._router.remembered + self._endpoint.introduced + len(self._refusals),
        }

    # Links

    def id_frame(self) -> bytes:
        """Our first message on a link."""
        return build_id_frame(self._own)

    def refusal(self, peer: NodeId) -> Reason | None:
        """Why no link may be made with who calls itself `peer`; None if one may."""
        return self._refusals.reason(peer)

    def begin_greeting(self, peer: NodeId) -> list[GatewayAction]:
        """Our id is about to be sent over a WebSocket: this will be the link with that original, and no other."""
        self._refusals.begin_greeting(peer)
        return self.handshakes.signalling.end(peer, "a WebSocket came first")

    def end_greeting(self, peer: NodeId) -> None:
        """It was sent, or that failed."""
        self._refusals.end_greeting(peer)

    def link_up(
        self,
        link: LinkHandle,
        peer: NodeId,
        now: float,
        *,
        dialled: bool,
        scope: int = 0,
        negotiation: int | None = None,
    ) -> list[GatewayAction]:
        """A link on which both id frames were sent, or a WebRTC link, which has none.

        Args:
            scope: how near its other end is (`wire.addresses.Scope`).
            negotiation: the attempt that led to it.
        """
        reason = self.refusal(peer)
        if reason is not None:
            name = reason.name.lower()
            self.counts[f"legacy_refused_{name}"] += 1
            failed = [] if negotiation is None else self.handshakes.negotiation_failed(negotiation, name, now)
            return [CloseLegacy(link, reason), *failed]
        self._links.add(link, peer, now, dialled=dialled, scope=scope)
        ended = self.handshakes.forget(peer, "another link came first", unless=negotiation)
        self.counts["legacy_links_made"] += 1
        question = self._router.envelope(peer, FindPeers(self._own))
        return [*ended, LegacyLinked(peer, link), Publish(peer), *self._send_own(question, now)]

    def link_down(self, link: LinkHandle, reason: str, now: float) -> list[GatewayAction]:
        """A link ended."""
        entry = self._links.get(link)
        return [] if entry is None else [self._remove(entry, reason)]

    def _remove(self, entry: LegacyLink, reason: str) -> LegacyUnlinked:
        self._links.remove(entry)
        return LegacyUnlinked(entry.peer, entry.link, reason)

    def _close(self, entry: LegacyLink, reason: Reason) -> list[GatewayAction]:
        name = reason.name.lower()
        self.counts[f"legacy_closed_{name}"] += 1
        return [self._remove(entry, name.replace("_", " ")), CloseLegacy(entry.link, reason)]

    def disconnect(self, peer: NodeId, now: float) -> list[GatewayAction]:
        """Closes the link with an original, if there is one, and refuses new ones for a minute."""
        ended = self.handshakes.forget(peer, "disconnected")
        self._refusals.disconnected(peer, now)
        entry = self._links.of(peer)
        return ended if entry is None else [*ended, *self._close(entry, Reason.DISCONNECTED)]

    def overlay_changed(self, now: float) -> None:
        """A link of our own protocol came up: the relays that keep our records may be others now."""
        self._links.publish_soon(now)

    # The application

    def send(self, to: NodeId, data: Data, now: float) -> list[GatewayAction]:
        """Sends to an id, whoever has it; meant for those that are not known to be ours. The caller bounds the size.

        Raises:
            LocalProtocolError: neither bytes nor a JSON value.
        """
        if isinstance(data, (bytes, bytearray, memoryview)):
            data = bytes(data)
        envelope = self._router.envelope(to, User(data))
        self.counts["legacy_sent"] += 1
        return self._send_own(envelope, now)

    def _send_own(self, envelope: Envelope, now: float) -> list[GatewayAction]:
        self._seen.add(self._own, envelope.nonce.encode(), now)
        return self._router.send(envelope, Origin(size=len(build_envelope(envelope))), now)

    def tunnel(self, frame: bytes, to: NodeId, now: float) -> list[GatewayAction]:
        """Sends one whole overlay frame of ours through originals, for when the overlay has no way."""
        actions = self._router.tunnel(frame, to, now)
        self.counts["legacy_tunnelled" if actions else "legacy_no_tunnel"] += 1
        return actions

    def connect(self, to: NodeId, now: float, prefer: Preference = "websocket") -> list[GatewayAction]:
        """Asks an original for a direct link: `LegacyLinked` follows, or `ConnectFailed`.

        Whatever the reason why it does not come about, the original counts us as pending for ever.
        """
        self._refusals.wanted(to)
        if self._links.of(to) is not None or self.handshakes.wished(to):
            return []
        if not self.handshakes.wish(to, prefer, now):
            return [ConnectFailed(to, "too many links are being made")]
        return self._send_own(self._router.envelope(to, HandshakeOffer()), now)

    # What the node reports

    def looked_up(self, target: NodeId, now: float, *, asked: bool = True) -> list[GatewayAction]:
        """A lookup ended. `asked`: it was really made, so that an id without a trace is unknown to the overlay."""
        if asked and not self._overlay.is_ours(target):
            self._router.waiting.remember_keyless(target, now, unknown=not self._overlay.gateways_of(target))
        return self._router.looked_up(target, now)

    def carry_failed(self, to: NodeId, payload: bytes, now: float) -> list[GatewayAction]:
        """One of our nodes did not confirm what `SendCarried` gave it: it is avoided for a while, another is tried."""
        self.counts["legacy_carry_failed"] += 1
        try:
            envelope = parse_carried_untrusted(payload)
        except RemoteProtocolError:
            return []
        return self._router.carry_failed(envelope, to, now)

    # Envelopes

    def receive(self, link: LinkHandle, text: str | bytes, now: float) -> list[GatewayAction]:
        """One message of an original, any after its id frame."""
        entry = self._links.get(link)
        if entry is None:
            self.counts["legacy_link_gone"] += 1
            return []
        try:
            envelope = parse_envelope_untrusted(text)
        except RemoteProtocolError:
            self.counts["legacy_invalid"] += 1
            return []
        entry.spoken = True
        return self._receive(envelope, Origin(link, None, entry.scope, len(text)), now)

    def receive_carried(self, payload: bytes, carrier: NodeId, now: float, *, scope: int = 0) -> list[GatewayAction]:
        """The payload of a DATA frame with `Flag.LEGACY` from one of our nodes.

        Args:
            scope: the nearest address that may be dialled for it: that of the link it came over.
        """
        try:
            envelope = parse_carried_untrusted(payload)
        except RemoteProtocolError:
            self.counts["legacy_invalid"] += 1
            return []
        self.counts["legacy_carried"] += 1
        return self._receive(envelope, Origin(None, carrier, scope, len(payload)), now)

    def _receive(self, envelope: Envelope, origin: Origin, now: float) -> list[GatewayAction]:
        nonce = envelope.nonce.encode()
        if self._seen.seen(envelope.source, nonce, now):
            self.counts["legacy_duplicates"] += 1
            return []
        if self._is_forged(envelope):
            self.counts["legacy_spoofed"] += 1
            return []
        self._seen.add(envelope.source, nonce, now)
        self._router.learn(envelope, origin, now)
        try:
            if envelope.to == self._own:
                return self._endpoint.take(envelope, origin, now)
            return self._router.forward(envelope, origin, now)
        except RemoteProtocolError:
            self.counts["legacy_invalid"] += 1
        except LocalProtocolError:
            self.counts["legacy_unsafe"] += 1
        return []

    def _is_forged(self, envelope: Envelope) -> bool:
        """Two ids with keys do not talk in envelopes; a frame in a tunnel speaks for itself."""
        overlay = self._overlay
        if envelope.source == self._own:
            return True
        return envelope.body_type != "trio-relay" and overlay.is_ours(envelope.source) and overlay.is_ours(envelope.to)

    # Time

    def next_deadline(self) -> float:
        """When `handle_timeout` has something to do."""
        return min(
            self._links.next_deadline(),
            self._refusals.next_deadline(),
            self._router.waiting.next_deadline(),
            self._endpoint.next_deadline(),
            self._expire_at if any(self.sizes().values()) else float("inf"),
        )

    def handle_timeout(self, now: float) -> list[GatewayAction]:
        """Does what is due: publications, introductions, expiries."""
        actions: list[GatewayAction] = [Publish(peer) for peer in self._links.take_publications(now)]
        for target in self._router.waiting.overdue(now):
            self.counts["legacy_lookups_lost"] += 1
            actions += self._router.looked_up(target, now)
        actions += self._endpoint.handle_timeout(now)
        for entry in self._links.deaf(now):
            actions += self._close(entry, Reason.UNWANTED)
        self._refusals.expire(now)
        if self._expire_at <= now:
            self._expire_at = now + _EXPIRE_EVERY
            self._seen.expire(now)
            self._router.expire(now)
            self._endpoint.expire(now)
            for entry in [e for e in self._links if self._overlay.is_ours(e.peer)]:
                actions += self._close(entry, Reason.BAD_PROOF)
        return actions
