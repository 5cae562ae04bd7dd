"""Offers of direct links between originals and us, their answers, and which way a link is tried; pure.

How two originals do it: one sends a `handshake-offer`, the other answers with its address and whether it does WebRTC;
the first then dials, or offers over WebRTC, which it prefers. Rules of this file:

1. A WebSocket is better: it costs less, and an original notices its end. So an original that asks is told only of our
   address if it is a proven one, and of WebRTC when no link came of that in a while.
2. An address is dialled, and an attempt at WebRTC begun, only for a link that our application asked for.
3. Originals take an answer to which there was no offer. One that does not answer an offer may be waiting for us since
   an attempt that failed, so it is told how to begin itself.
4. When two offers cross, that of the smaller id counts (lib/client.js `_onHandshakeOffer`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ...limits import Limits
from ...overlay.actions import Preference
from ...wire.body import HandshakeAnswer
from ...wire.envelope import Envelope
from ...wire.hello import Reason
from ...wire.ids import NodeId
from .actions import ConnectFailed, DialLegacy, GatewayAction
from .links import LegacyLinks
from .routing import EnvelopeRouter
from .signalling import Signalling
from .waiting import Origin

__all__ = ["Handshakes"]

PATIENCE: Final = 3.0
"""Seconds for a WebSocket link, where WebRTC is the other way."""
_UNANSWERED: Final = 5.0
"""Seconds without an answer to our offer; few enough to leave time for what comes of our own."""
_FRESH: Final = 5.0
"""Seconds in which one that was told that we do WebRTC begins, if it ever does."""
_LATE_ANSWERS: Final = 64
_MARGIN: Final = 0.05
"""Before the application's own patience ends, so that it learns the reason."""


@dataclass(slots=True, eq=False)
class _Wish:
    """A link that the application waits for.

    Attributes:
        patience: so long the application waits; `until`: when it is told that there is no link.
        remind_at: when the other side is told to begin itself, unless it has answered.
        ws: its address, None when it has none or was dialled.
        wrtc: whether our attempt at WebRTC is still to come.
        reasons: why what was tried failed.
    """

    patience: float
    until: float
    prefer: Preference
    remind_at: float
    answered: bool = False
    ws: str | None = None
    wrtc: bool = False
    origin: Origin = field(default_factory=Origin)
    reasons: list[str] = field(default_factory=list)

    def settle(self) -> None:
        """It is known who begins."""
        self.answered, self.remind_at = True, float("inf")
        self.tell_before_the_end()

    def tell_before_the_end(self) -> None:
        """The application is to learn from here why there is no link, and not that it waited in vain."""
        self.until = self.patience - _MARGIN

    def next_deadline(self) -> float:
        """When something is due."""
        return min(self.until, self.remind_at)


class Handshakes:
    """What the application wishes, and what strangers ask.

    Args:
        url: our address for an original to dial, None when there is none.
        reachable: whether somebody has proven that it can be dialled.
        webrtc: how many WebRTC connections may be made at once; 0: we don't do WebRTC.
        refusal: why no link may be made with an id, None if one may.
    """

    def __init__(
        self,
        own: NodeId,
        *,
        limits: Limits,
        links: LegacyLinks,
        router: EnvelopeRouter,
        counts: Counter[str],
        url: Callable[[], str | None],
        reachable: Callable[[], bool],
        webrtc: Callable[[], int],
        refusal: Callable[[NodeId], Reason | None],
        now: float,
    ) -> None:
        self._own: Final = own
        self._limits: Final = limits
        self._links: Final = links
        self._router: Final = router
        self._counts: Final = counts
        self._url: Final = url
        self._reachable: Final = reachable
        self._webrtc: Final = webrtc
        self._refusal: Final = refusal
        self.signalling: Final = Signalling(router=router, counts=counts, refusal=refusal, webrtc=webrtc, now=now)
        self._wishes: Final = dict[NodeId, _Wish]()
        self._late: Final = dict[NodeId, tuple[float, Origin]]()

    @property
    def wishes(self) -> int:
        """Links that the application waits for."""
        return len(self._wishes)

    @property
    def remembered(self) -> int:
        """Ids with which a handshake is under way."""
        return len(self.signalling) + len(self._late)

    # Links that the application wants

    def wish(self, to: NodeId, prefer: Preference, now: float) -> bool:
        """Notes that a link is wanted; False when too many are."""
        if to not in self._wishes and len(self._wishes) >= self._limits.lookups:
            return False
        remind_at = now + _UNANSWERED if self._webrtc() else float("inf")
        patience = now + self._limits.connect_timeout
        self._wishes[to] = wish = _Wish(patience, patience, prefer, remind_at)
        if self._router.knows(to, now):
            wish.tell_before_the_end()
        return True

    def wished(self, to: NodeId) -> bool:
        """Whether a link with an id is wanted."""
        return to in self._wishes

    def unwish(self, to: NodeId) -> list[GatewayAction]:
        """Nobody waits for it any more."""
        wish = self._wishes.pop(to, None)
        return [] if wish is None else self.signalling.withdraw(to, "nobody waits for it any more")

    def forget(self, peer: NodeId, reason: str, *, unless: int | None = None) -> list[GatewayAction]:
        """There is a link with that id, or there must be none: whatever else was to lead to one ends.

        Args:
            unless: the attempt that has become the link.
        """
        self._wishes.pop(peer, None)
        self._late.pop(peer, None)
        return self.signalling.end(peer, reason, unless=unless)

    # Offers

    def offered(self, envelope: Envelope, origin: Origin, now: float) -> list[GatewayAction]:
        """An original asks for a link."""
        peer = envelope.source
        if self._links.of(peer) is not None:
            return []
        if self._refusal(peer) is not None:
            return self._router.reply(envelope, HandshakeAnswer(ws=None, wrtc=False), origin, now)
        if not self._webrtc():
            return self._router.reply(envelope, HandshakeAnswer(ws=self._url(), wrtc=False), origin, now)
        wish = self._wishes.get(peer)
        if self.signalling.is_busy(peer) or (wish is not None and self._is_ours_first(peer, wish, now)):
            self._counts["legacy_handshakes_crossed"] += 1
            return []
        if wish is not None:
            # Either it does not answer our offer, or it takes this for the answer to its own.
            wish.settle()
        answer = self._answer(peer, "websocket" if wish is None else wish.prefer, origin, now)
        return self._router.reply(envelope, answer, origin, now)

    def _is_ours_first(self, peer: NodeId, wish: _Wish, now: float) -> bool:
        """Whether the other side will answer our own offer, or has done so."""
        return wish.answered or (self._own < peer and now < wish.remind_at)

    def _answer(self, peer: NodeId, prefer: Preference, origin: Origin, now: float) -> HandshakeAnswer:
        """How we can be reached; an original that does WebRTC takes that if it is told of both ways."""
        url = self._url()
        self._late.pop(peer, None)
        later = url is not None and prefer == "websocket" and self._reachable() and len(self._late) < _LATE_ANSWERS
        if later:
            self._late[peer] = now + PATIENCE, origin
        else:
            self.signalling.expect(peer, origin, now)
        return HandshakeAnswer(ws=url, wrtc=not later)

    # Answers

    def answered(self, peer: NodeId, answer: HandshakeAnswer, origin: Origin, now: float) -> list[GatewayAction]:
        """An original says how it can be reached."""
        wish = self._wishes.get(peer)
        if wish is None or wish.answered:
            self._counts["legacy_unasked"] += 1
            return []
        wish.settle()
        wish.ws, wish.origin = answer.ws, origin
        wish.wrtc = answer.wrtc and self._webrtc() > 0 and not self._is_theirs(peer, now)
        if answer.ws is None and not wish.wrtc:
            only = answer.wrtc and not self._webrtc()
            wish.reasons.append("the peer has no websocket address" + (", and WebRTC is off here" if only else ""))
        return self._try_next(peer, wish, now)

    def _is_theirs(self, peer: NodeId, now: float) -> bool:
        """Whether the other side is about to begin."""
        return peer in self._late or self.signalling.is_theirs(peer, now, within=_FRESH)

    def _try_next(self, peer: NodeId, wish: _Wish, now: float) -> list[GatewayAction]:
        if wish.wrtc and (wish.ws is None or wish.prefer == "webrtc"):
            wish.wrtc = False
            return self.signalling.offer(peer, wish.origin, now)
        if wish.ws is not None:
            url, wish.ws = wish.ws, None
            return [DialLegacy(url, peer, wish.origin.scope, PATIENCE if wish.wrtc else None)]
        if not wish.answered or self._is_theirs(peer, now):
            return []
        del self._wishes[peer]
        return [ConnectFailed(peer, "; ".join(wish.reasons))]

    def dial_failed(self, peer: NodeId, reason: str, now: float) -> list[GatewayAction]:
        """The address of an original did not lead to it."""
        return self._failed(peer, reason, now)

    def described(self, number: int, sdp: str, now: float) -> list[GatewayAction]:
        """Our own description in an attempt at WebRTC, with all its candidates."""
        return self.signalling.described(number, sdp, now)

    def negotiation_failed(self, number: int, reason: str, now: float) -> list[GatewayAction]:
        """An attempt at WebRTC came to nothing."""
        peer = self.signalling.failed(number)
        return [] if peer is None else self._failed(peer, f"WebRTC: {reason}", now)

    def _failed(self, peer: NodeId, reason: str, now: float) -> list[GatewayAction]:
        wish = self._wishes.get(peer)
        if wish is None:
            return []
        wish.reasons.append(reason)
        return self._try_next(peer, wish, now)

    # Time

    def next_deadline(self) -> float:
        """When `handle_timeout` has something to do."""
        late = next(iter(self._late.values()), None)
        wishes = min((wish.next_deadline() for wish in self._wishes.values()), default=float("inf"))
        return min(wishes, self.signalling.next_deadline(), float("inf") if late is None else late[0])

    def handle_timeout(self, now: float) -> list[GatewayAction]:
        """Gives up links that did not come about, and tells again how we can be reached."""
        actions = self.signalling.handle_timeout(now)
        for peer, wish in [(p, w) for p, w in self._wishes.items() if w.next_deadline() <= now]:
            actions += self._give_up(peer, wish) if wish.until <= now else self._remind(peer, wish, now)
        for peer, (_, origin) in [(p, late) for p, late in self._late.items() if late[0] <= now]:
            del self._late[peer]
            if self._refusal(peer) is None and not self.signalling.is_busy(peer):
                self.signalling.expect(peer, origin, now)
                actions += self._router.send_back(peer, HandshakeAnswer(ws=None, wrtc=True), origin, now)
        return actions

    def _give_up(self, peer: NodeId, wish: _Wish) -> list[GatewayAction]:
        del self._wishes[peer]
        stage = "there was no link in time" if wish.answered else "the peer did not answer"
        failed = ConnectFailed(peer, "; ".join([*wish.reasons, stage]))
        return [failed, *self.signalling.withdraw(peer, stage)]

    def _remind(self, peer: NodeId, wish: _Wish, now: float) -> list[GatewayAction]:
        wish.remind_at = float("inf")
        if self._refusal(peer) is not None or self.signalling.is_busy(peer):
            return []
        return self._router.send_back(peer, self._answer(peer, wish.prefer, Origin(), now), Origin(), now)
