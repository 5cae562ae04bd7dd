"""This node as an original peer-relay node would see it: what envelopes addressed to it mean, and its answers; pure.

Rules of this file:

1. An address is dialled only for a link that our application asked for.
2. An original counts whom it is told of, and asks for a link, as pending for ever unless a link comes about; at 15 it
   stops looking for peers. So it is told of few ids, all of them alive, and asked only when our application wants it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from ...exceptions import RemoteProtocolError
from ...limits import Limits
from ...overlay.admission import Admission
from ...wire.body import FindPeers, FoundPeers, HandshakeAnswer, HandshakeOffer, Signal, Tunnel, User
from ...wire.content import Data
from ...wire.envelope import Envelope, parse_body_untrusted
from ...wire.frame import parse_frames_untrusted
from ...wire.hello import Reason
from ...wire.ids import NodeId, distance
from .actions import (
    ConnectFailed,
    DialLegacy,
    GatewayAction,
    Introduce,
    OverlayView,
    Received,
    TunnelFrame,
)
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
    """Answers, and remembers which links and which peers were asked for.

    Args:
        refusal: why no link may be made with an id, None if one may.
    """

    def __init__(
        self,
        own: NodeId,
        *,
        limits: Limits,
        overlay: OverlayView,
        links: LegacyLinks,
        router: EnvelopeRouter,
        counts: Counter[str],
        url: Callable[[], str | None],
        admission: Admission,
        refusal: Callable[[NodeId], Reason | None],
    ) -> None:
        self._own: Final = own
        self._limits: Final = limits
        self._overlay: Final = overlay
        self._links: Final = links
        self._router: Final = router
        self._counts: Final = counts
        self._url: Final = url
        self._admission: Final = admission
        self._refusal: Final = refusal
        self._wishes: dict[NodeId, float] = {}
        self._introductions: Final = Introductions()

    @property
    def wishes(self) -> int:
        """Links that the application waits for."""
        return len(self._wishes)

    @property
    def introduced(self) -> int:
        """Ids that were told who we are, or will be."""
        return len(self._introductions)

    # Links that the application wants

    def wish(self, to: NodeId, now: float) -> bool:
        """Notes that a link is wanted; False when too many are."""
        if to not in self._wishes and len(self._wishes) >= self._limits.lookups:
            return False
        self._wishes[to] = now + self._limits.connect_timeout
        return True

    def wished(self, to: NodeId) -> bool:
        """Whether a link with an id is wanted."""
        return to in self._wishes

    def unwish(self, to: NodeId) -> None:
        """It is up, or nobody waits for it any more."""
        self._wishes.pop(to, None)

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
                return self._answer_offer(envelope, origin, now)
            case HandshakeAnswer(ws):
                return self._take_answer(envelope.source, ws, origin)
            case Tunnel(frame):
                return self._take_tunnel(envelope.source, frame, origin, now)
            case Signal():
                self._counts["legacy_signals"] += 1
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

    def _answer_offer(self, envelope: Envelope, origin: Origin, now: float) -> list[GatewayAction]:
        if self._links.of(envelope.source) is not None:
            return []
        url = self._url() if self._refusal(envelope.source) is None else None
        return self._router.reply(envelope, HandshakeAnswer(ws=url, wrtc=False), origin, now)

    def _take_answer(self, source: NodeId, ws: str | None, origin: Origin) -> list[GatewayAction]:
        if self._wishes.pop(source, None) is None:
            self._counts["legacy_unasked"] += 1
            return []
        if ws is None:
            return [ConnectFailed(source, "the peer has no websocket address")]
        return [DialLegacy(ws, source, origin.scope)]

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
        return min(self._introductions.next_deadline(), min(self._wishes.values(), default=float("inf")))

    def handle_timeout(self, now: float) -> list[GatewayAction]:
        """Gives up links that did not come about, and introduces us to the next id."""
        actions: list[GatewayAction] = []
        for peer in [p for p, deadline in self._wishes.items() if deadline <= now]:
            del self._wishes[peer]
            actions.append(ConnectFailed(peer, "the peer did not answer"))
        actions += self._list_again(now)
        stranger = self._introductions.take(now)
        if stranger is not None and self._may_introduce(stranger):
            actions.append(Introduce(stranger, dial=not self._overlay.reaches(stranger)))
        return actions

    def expire(self, now: float) -> None:
        """Forgets what is old."""
        self._introductions.expire(now)
