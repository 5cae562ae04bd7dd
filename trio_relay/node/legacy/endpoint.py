"""This node as an original peer-relay node would see it: what envelopes addressed to it mean, and its answers; pure.

An original counts whom it is told of, and asks for a link, as pending for ever unless a link comes about; at 15 it
stops looking for peers. So it is told of few ids, all of them alive, and asked only when our application wants it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from ...exceptions import RemoteProtocolError
from ...overlay.admission import Admission
from ...wire.body import FindPeers, FoundPeers, HandshakeAnswer, HandshakeOffer, Signal, Tunnel, User
from ...wire.content import Data
from ...wire.envelope import Envelope, parse_body_untrusted
from ...wire.frame import parse_frames_untrusted
from ...wire.ids import NodeId, distance
from .actions import GatewayAction, Introduce, OverlayView, Received, TunnelFrame
from .handshakes import Handshakes
from .introductions import Introductions
from .links import LegacyLinks
from .routing import EnvelopeRouter
from .waiting import Origin

__all__ = ["LegacyEndpoint"]

_LISTED_ORIGINALS: Final = 16
_LIST_AGAIN: Final = (2.0, 10.0)
_LISTED_OURS: Final = 3
"""Spare ways in if we go away; whoever else is listed and leaves may stay pending at the original for ever."""


class LegacyEndpoint:
    """Answers, and remembers which peers were asked for.

    Args:
        webrtc: as for `Handshakes`.

    Attributes:
        handshakes: the links that are being made.
    """

    def __init__(
        self,
        own: NodeId,
        *,
        overlay: OverlayView,
        links: LegacyLinks,
        router: EnvelopeRouter,
        handshakes: Handshakes,
        counts: Counter[str],
        webrtc: Callable[[], int],
        admission: Admission,
    ) -> None:
        self._own: Final = own
        self._overlay: Final = overlay
        self._links: Final = links
        self._router: Final = router
        self._counts: Final = counts
        self._admission: Final = admission
        self._webrtc: Final = webrtc
        self.handshakes: Final = handshakes
        self._introductions: Final = Introductions()

    @property
    def introduced(self) -> int:
        """Ids that were told who we are, or will be."""
        return len(self._introductions)

    # Envelopes for us

    def take(self, envelope: Envelope, origin: Origin, now: float) -> list[GatewayAction]:
        """What an envelope for us leads to.

        Raises:
            RemoteProtocolError: its data do not fit its type.
        """
        match parse_body_untrusted(envelope):
            case User(value):
                return self._take_message(envelope.source, value)
            case FindPeers(target):
                found = self._found(target, envelope.source)
                self._remember_list(envelope.source, found, origin, now)
                return self._router.reply(envelope, found, origin, now)
            case FoundPeers(ids):
                self._take_found(envelope.source, ids, origin, now)
            case HandshakeOffer():
                return self.handshakes.offered(envelope, origin, now)
            case HandshakeAnswer() as answer:
                return self.handshakes.answered(envelope.source, answer, origin, now)
            case Tunnel(frame):
                return self._take_tunnel(envelope.source, frame, origin, now)
            case Signal() as signal:
                return self._take_signal(envelope.source, signal, origin, now)
            case _:
                self._counts["legacy_unknown_type"] += 1
        return []

    def _take_message(self, sender: NodeId, value: Data) -> list[GatewayAction]:
        if not self._admission.messages(sender):
            self._counts["legacy_not_admitted"] += 1
            return []
        self._counts["legacy_received"] += 1
        return [Received(sender, value)]

    def _found(self, target: NodeId, asker: NodeId) -> FoundPeers:
        """Who is nearest to an id, of those that will answer: originals that have spoken, and ours that are linked."""
        ids = [e.peer for e in self._links.closest(target, _LISTED_ORIGINALS, without={asker}, spoken=True)]
        ours = [n for n in self._overlay.legacy_nodes() if n not in (asker, self._own) and self._overlay.linked(n)]
        ids += sorted(ours, key=lambda node_id: distance(node_id, target))[:_LISTED_OURS]
        return FoundPeers(tuple(sorted(ids, key=lambda node_id: distance(node_id, target))))

    def _remember_list(self, asker: NodeId, found: FoundPeers, origin: Origin, now: float) -> None:
        """An original asks once, as soon as it is linked; whoever comes a moment later would stay unknown to it."""
        entry = self._links.get(origin.link) if origin.link is not None else None
        if entry is not None and entry.peer == asker:
            entry.listed = frozenset(found.ids)
            entry.list_again = [now + pause for pause in _LIST_AGAIN]

    def _list_again(self, now: float) -> list[GatewayAction]:
        actions: list[GatewayAction] = []
        for entry in self._links.list_again(now):
            found = self._found(entry.peer, entry.peer)
            if not entry.listed.issuperset(found.ids):
                entry.listed |= frozenset(found.ids)
                actions += self._router.send(self._router.envelope(entry.peer, found), Origin(), now)
        return actions

    def _take_found(self, source: NodeId, ids: tuple[NodeId, ...], origin: Origin, now: float) -> None:
        """Only the first answer of a neighbour counts, so nobody can make us talk to ids of his choice for long."""
        entry = self._links.get(origin.link) if origin.link is not None else None
        if entry is None or entry.peer != source or entry.answered:
            self._counts["legacy_unasked"] += 1
            return
        entry.answered = True
        self._introductions.add((n for n in ids if self._may_introduce(n)), now)

    def _may_introduce(self, node_id: NodeId) -> bool:
        """Not to who knows us: those of ours that are linked with us or in reach, and originals with a link."""
        if node_id == self._own or self._links.of(node_id) is not None:
            return False
        return not (self._overlay.is_ours(node_id) and self._overlay.reaches(node_id))

    def _take_signal(self, source: NodeId, signal: Signal, origin: Origin, now: float) -> list[GatewayAction]:
        if not self._webrtc():
            self._counts["legacy_signals"] += 1
        elif self._links.of(source) is not None:
            # The last candidates come when the link is up already.
            self._counts["legacy_signals_late"] += 1
        else:
            return self.handshakes.signalling.take(source, signal, origin, now)
        return []

    def _take_tunnel(self, source: NodeId, data: bytes, origin: Origin, now: float) -> list[GatewayAction]:
        frames = parse_frames_untrusted(data)
        if len(frames) != 1 or frames[0].to != self._own or frames[0].source != source:
            raise RemoteProtocolError("expected one frame between the same ids as its envelope in a tunnel")
        # The frame may be a message, or belong to a link: the overlay asks again about what it is.
        if not self._admission.either(source):
            self._counts["legacy_not_admitted"] += 1
            return []
        self._counts["legacy_tunnel_frames"] += 1
        if self._may_introduce(source):
            self._introductions.add([source], now)
        return [TunnelFrame(data, source, origin.scope)]

    # Time

    def next_deadline(self) -> float:
        """When `handle_timeout` has something to do."""
        return min(self._introductions.next_deadline(), self.handshakes.next_deadline())

    def handle_timeout(self, now: float) -> list[GatewayAction]:
        """Gives up links that did not come about, and introduces us to the next id."""
        actions = self.handshakes.handle_timeout(now)
        actions += self._list_again(now)
        stranger = self._introductions.take(now)
        if stranger is not None and self._may_introduce(stranger):
            actions.append(Introduce(stranger, dial=not self._overlay.reaches(stranger)))
        return actions

    def expire(self, now: float) -> None:
        """Forgets what is old."""
        self._introductions.expire(now)
        self.handshakes.signalling.expire(now)
