"""What comes from the broker finds the connection that it is for, and offers become connections."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final
from weakref import WeakValueDictionary

import trio

from ..exceptions import PeerError, RemoteProtocolError
from ..node.events import Events
from ..node.negotiation import WebRTC
from ..node.services import Services
from ..transports.webrtc import MediaFactory
from ..wire.json import encode
from .connections.data_link import DataLink
from .connections.early import EarlyMessages, Key
from .connections.held import Held
from .connections.host import Fallback, Link
from .connections.lasting_link import LastingLink
from .connections.media_link import MediaLink
from .connections.table import AnyConnection, LinkTable
from .events import ConnectionFailed, PeerEvent
from .messages import (
    Answer,
    CandidateMessage,
    Offer,
    ServerMessage,
    _NoMetadata,
    parse_answer_untrusted,
    parse_candidate_message_untrusted,
    parse_offer_untrusted,
)
from .options import PeerLimits, log
from .registration import Registration
from .serialization.builtin import Serializers
from .serialization.serializer import Serializer
from .signalling.endings import printable

__all__ = ["Switchboard"]


class Switchboard:
    """Implements `connections.host.Host`.

    Args:
        fallback: tells what there is instead of WebRTC; None: this peer has nothing.

    Attributes:
        links: all connections, those included that are being made.
        accepting: incoming connections that wait to be accepted.
        changed: woken when one more waits, or when none may come any more.
    """

    def __init__(
        self,
        services: Services,
        webrtc: WebRTC,
        media: MediaFactory,
        limits: PeerLimits,
        serializers: Serializers,
        events: Events[PeerEvent],
        counts: Counter[str],
        changed: trio.lowlevel.ParkingLot,
        fallback: Callable[[], Fallback] | None,
    ) -> None:
        self.webrtc: Final = WebRTC(webrtc.factory, replace(webrtc.config, negotiations=2 * webrtc.config.negotiations))
        self.media: Final = media
        self._registration: Registration | None = None
        self._fallback: Final = fallback
        self.limits: Final = limits
        self.held: Final = Held(limits.receive_total, limits.connections)
        self.counts: Final = counts
        self.offering: Final = trio.CapacityLimiter(webrtc.config.negotiations)
        self.answering: Final = trio.CapacityLimiter(webrtc.config.negotiations)
        self._answering_to: Final = WeakValueDictionary[str, trio.CapacityLimiter]()
        self.serializers: Final = serializers
        self.links: Final = LinkTable()
        self.accepting: Final[deque[AnyConnection]] = deque()
        self.changed: Final = changed
        self._services: Final = services
        self._events: Final = events
        self._early: Final = EarlyMessages(limits.early_messages, counts)

    def join(self, registration: Registration) -> None:
        """Through which it sends; once, before anything comes from there."""
        self._registration = registration

    @property
    def id(self) -> str:
        """This peer's, as the broker knows it; `""` before that."""
        assert self._registration is not None
        return self._registration.id or ""

    def answering_to(self, peer: str) -> trio.CapacityLimiter:
        """See `Host.answering_to`."""
        limiter = self._answering_to.get(peer)
        if limiter is None:
            # It lasts as long as somebody holds it.
            limiter = self._answering_to[peer] = trio.CapacityLimiter(-(-self.answering.total_tokens // 2))
        return limiter

    def signal(self, frame: bytes) -> None:
        """Sends a frame to the broker; see `Host.signal`."""
        assert self._registration is not None
        self._registration.send(frame)

    def arrived(self, connection: AnyConnection) -> bool:
        """An incoming connection can be accepted; False when too many wait for that already."""
        if len(self.accepting) >= self.limits.backlog:
            return False
        self.accepting.append(connection)
        self.changed.unpark_all()
        return True

    # From the broker

    def take(self, message: ServerMessage) -> None:
        """One message; whatever is in it, it does not raise."""
        try:
            match message.type:
                case "OFFER":
                    self._on_offer(message.src, self._check(parse_offer_untrusted(message.payload)))
                case "ANSWER":
                    self._on_signal(message.src, parse_answer_untrusted(message.payload))
                case "CANDIDATE":
                    self._on_signal(message.src, parse_candidate_message_untrusted(message.payload))
                case "EXPIRE" | "LEAVE":
                    self._on_unavailable(message.src)
                case _:
                    self.counts["signals_unknown"] += 1
        except RemoteProtocolError as error:
            self.counts["signals_bad"] += 1
            log.warning("%s from %s refused: %s", message.type, printable(message.src), error)

    def _check(self, offer: Offer) -> Offer:
        """Sees to it that what a stranger has kept here, before anything is negotiated, is not too large."""
        if not isinstance(offer.metadata, _NoMetadata):
            size = len(encode(offer.metadata, non_finite_as_null=True))
            if size > self.limits.metadata:
                raise RemoteProtocolError(f"expected metadata of at most {self.limits.metadata} bytes, got {size}")
        return offer

    def _on_offer(self, peer: str, offer: Offer) -> None:
        key = peer, offer.connection_id
        link = self.links.get(key)
        if link is not None and link.on_offer(offer):
            return
        if link is None and self._is_full(peer):
            self.counts["connections_full"] += 1
            log.warning("offer of %s dropped: there are %d connections", printable(peer), len(self.links))
            return
        made = self._incoming(peer, offer)
        self.links.add(made)
        self._replay(key, made)
        self._services.start_soon(self._run_incoming, made)

    def _is_full(self, peer: str) -> bool:
        """Whether there is no place for an offer of this peer; half of all may be in the making with one."""
        most = self.limits.connections
        making = sum(not link.connection.open for link in self.links.of_peer(peer))
        return len(self.links) >= most or making >= -(-most // 2)

    def _incoming(self, peer: str, offer: Offer) -> DataLink | MediaLink:
        if offer.kind == "media":
            return MediaLink(self, peer, offer, incoming=True)
        serializer = self.serializers.offered_untrusted(offer.serialization)(self.limits.serializer)
        return self.make_link(peer, offer, serializer, incoming=True)

    def make_link(self, peer: str, offer: Offer, serializer: Serializer, *, incoming: bool) -> DataLink:
        """A data connection that can go on without WebRTC, if this peer can, and an offer of the other side asks so."""
        if self._fallback is None or (incoming and offer.relay is None):
            return DataLink(self, peer, offer, serializer, incoming=incoming)
        return LastingLink(self, self._fallback(), peer, offer, serializer, incoming=incoming)

    async def _run_incoming(self, link: DataLink | MediaLink) -> None:
        peer, connection_id = link.key
        try:
            await link.run()
        except PeerError as error:
            self.counts["connections_failed"] += 1
            log.warning("connection of %s failed: %s", printable(peer), printable(str(error)))
            self._events.publish(ConnectionFailed(peer, connection_id, error))
        finally:
            self.links.remove(link)
            if isinstance(link, MediaLink):
                with suppress(ValueError):  # accepted, or never on its way there
                    self.accepting.remove(link.connection)

    def _on_signal(self, peer: str, message: Answer | CandidateMessage) -> None:
        key = peer, message.connection_id
        link = self.links.get(key)
        if link is None:
            self._early.keep(key, message, trio.current_time())
        else:
            _hand_over(link, message)

    def _on_unavailable(self, peer: str) -> None:
        for link in self.links.of_peer(peer):
            link.on_unavailable(PeerError("peer-unavailable", f"could not connect to peer {peer}"))

    def _replay(self, key: Key, link: Link) -> None:
        for message in self._early.take(key, trio.current_time()):
            _hand_over(link, message)


def _hand_over(link: Link, message: Answer | CandidateMessage) -> None:
    if isinstance(message, Answer):
        link.on_answer(message)
    else:
        link.on_candidate(message)
