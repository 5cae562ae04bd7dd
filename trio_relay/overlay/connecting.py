"""Direct links that the application asks for: dial the peer, ask it to dial us, offer it a WebRTC link; pure.

Rules of this file:

1. Both kinds of link are tried: the preferred one at once, the other when that seems to fail, or after a while. What
   has begun goes on beside the other.
2. The first link that comes up is what the application asked for, and ends the attempt at a WebRTC link that was
   made for it. But who prefers WebRTC has asked for no WebSocket link before WebRTC had its time.
3. Callers who wish for a link with the same peer share one wish. If some of them prefer WebRTC, it does; the others
   are content with a WebSocket as soon as there is one.
4. Every wish ends in `Connected` or `NotConnected`, or is cancelled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .._bounded import TokenBucket
from ..exceptions import RemoteProtocolError
from ..wire.frame import Kind
from ..wire.hello import Reason
from ..wire.ids import NodeId
from ..wire.record import join_records, split_records_untrusted
from .actions import Connected, Found, NotConnected, Preference
from .admission import Admission
from .attempts import Outcome
from .discovery import INTERNAL, Discovery
from .membership import Membership
from .negotiations import Negotiations
from .session.sessions import Sessions
from .state import State
from .table import Neighbour, Rank
from .words import explain

__all__ = ["Connecting"]

_DIAL_BACKS_PER_SECOND: Final = 5.0
_DIAL_BACKS_BURST: Final = 20.0
_REPEAT: Final = 2.0
_PATIENCE: Final = 3.0
"""So long a WebSocket link alone is tried, if nothing says that it will not come."""
_NEVER: Final = float("inf")


@dataclass(slots=True)
class _Wish:
    """A link that the application waits for.

    Attributes:
        prefers_webrtc: whether a WebRTC link is wanted rather than a WebSocket.
        shared: whether somebody waits, too, who does not prefer WebRTC.
        dial_at: when a WebSocket link is tried next.
        offer_at: when a WebRTC link is offered next.
        yield_at: from when on a WebSocket link will do.
        beside: whether the WebRTC link is to be made beside a link that is up.
        asked: id of the message that asked the other side to dial us, empty if none did.
        known: whether the peer's record was found, or it answered.
        offered: whether a WebRTC link was offered.
        no_socket: why there will be no WebSocket link, empty as long as there may be one.
        no_webrtc: the same for WebRTC.
    """

    deadline: float
    prefers_webrtc: bool
    dial_at: float
    offer_at: float
    yield_at: float
    shared: bool = False
    beside: bool = False
    asked: bytes = b""
    known: bool = False
    offered: bool = False
    no_socket: str = ""
    no_webrtc: str = ""


class Connecting:
    """Wishes for direct links, by id; the number of wishes is bounded by `Limits.lookups`."""

    def __init__(
        self,
        state: State,
        discovery: Discovery,
        membership: Membership,
        admission: Admission,
        sessions: Sessions | None,
        negotiations: Negotiations,
    ) -> None:
        self._state: Final = state
        self._sessions: Final = sessions
        self._discovery: Final = discovery
        self._membership: Final = membership
        self._admission: Final = admission
        self._negotiations: Final = negotiations
        self._wishes: dict[NodeId, _Wish] = {}
        self._dial_backs: Final = TokenBucket(_DIAL_BACKS_PER_SECOND, _DIAL_BACKS_BURST, state.now)

    def __len__(self) -> int:
        return len(self._wishes)

    def wishes(self, node_id: NodeId) -> bool:
        """Whether a link with that peer is waited for."""
        return node_id in self._wishes

    def connect(self, node_id: NodeId, prefer: Preference) -> bool:
        """Starts making a link; False when too many are being made."""
        state = self._state
        self._membership.allow(node_id)
        neighbour = state.table.get(node_id)
        webrtc = prefer == "webrtc" and self._negotiations.enabled
        old = self._wishes.get(node_id)
        if neighbour is not None and not (webrtc and neighbour.rank is Rank.WEBSOCKET):
            self._content(neighbour, None if old is None else "websocket")
            return True
        if old is None and len(self._wishes) >= state.limits.lookups:
            state.counts["connect_refused"] += 1
            return False
        wish = self._new_wish(webrtc=webrtc or (old is not None and old.prefers_webrtc))
        wish.beside = wish.known = neighbour is not None
        if old is not None:
            wish.known = wish.known or old.known
            wish.shared = old.shared or webrtc != old.prefers_webrtc
            if wish.shared:
                wish.dial_at = state.now
            if old.prefers_webrtc:
                wish.yield_at = min(wish.yield_at, old.yield_at)
        self._wishes[node_id] = wish
        self._advance(node_id, wish)
        return True

    def _new_wish(self, *, webrtc: bool) -> _Wish:
        now, timeout = self._state.now, self._state.limits.connect_timeout
        if webrtc:
            return _Wish(now + timeout, True, now + timeout / 2, now, now + timeout / 2)
        return _Wish(now + timeout, False, now, now + _PATIENCE if self._negotiations.enabled else _NEVER, now)

    def cancel(self, node_id: NodeId) -> None:
        """The application stopped waiting."""
        if self._wishes.pop(node_id, None) is not None:
            self._negotiations.give_up(node_id, Reason.UNWANTED, "cancelled", ours=True)

    def so_far(self, node_id: NodeId) -> NotConnected | None:
        """How a wish would end if its time was up now; None if there is none."""
        wish = self._wishes.get(node_id)
        return None if wish is None else self._too_late(node_id, wish)

    def _too_late(self, node_id: NodeId, wish: _Wish) -> NotConnected:
        late = f"no link after {self._state.limits.connect_timeout:g} s"
        return self._not_connected(node_id, wish, wish.no_socket, wish.no_webrtc, late)

    def _not_connected(self, node_id: NodeId, wish: _Wish, *reasons: str) -> NotConnected:
        proven = self._sessions is not None and self._sessions.knows(node_id)
        known = wish.known or proven or self._negotiations.heard(node_id)
        return NotConnected(node_id, "; ".join(filter(None, reasons)), known)

    def disconnected(self, node_id: NodeId) -> None:
        """The application wants no link with that peer any more."""
        wish = self._wishes.get(node_id)
        if wish is not None:
            self._fail(self._not_connected(node_id, wish, "disconnected"))
        self._negotiations.give_up(node_id, Reason.DISCONNECTED, "disconnected", ours=False)

    # What happens to a wish

    def linked(self, neighbour: Neighbour) -> None:
        """A link came up; it may be one that was wished for."""
        wish = self._wishes.get(neighbour.id)
        if wish is None or self._fulfil(neighbour, wish):
            return
        if wish.shared:
            wish.shared = False
            self._content(neighbour, "websocket")
        if not self._negotiations.under_way(neighbour.id):
            # Of the attempt that was under way came a link that is not used.
            wish.offer_at = min(wish.offer_at, self._state.now + _REPEAT)

    def _content(self, neighbour: Neighbour, only: Preference | None) -> None:
        neighbour.wanted = True
        self._state.do(Connected(neighbour.id, only))

    def _fulfil(self, neighbour: Neighbour, wish: _Wish) -> bool:
        """Whether the link that is up is what was wished for; the wish is over then."""
        will_do = not wish.beside and wish.yield_at <= self._state.now
        if neighbour.rank is Rank.WEBSOCKET and not will_do:
            return False
        del self._wishes[neighbour.id]
        self._content(neighbour, None)
        self._negotiations.give_up(neighbour.id, Reason.UNWANTED, "another link came up", ours=True)
        return True

    def _fail(self, outcome: NotConnected) -> None:
        del self._wishes[outcome.id]
        self._state.do(outcome)
        self._negotiations.give_up(outcome.id, Reason.UNWANTED, "no link was made in time", ours=True)

    def _advance(self, node_id: NodeId, wish: _Wish) -> None:
        """Does what is due for a wish, and ends it when it is fulfilled, or nothing is left to try."""
        now = self._state.now
        neighbour = self._state.table.get(node_id)
        if neighbour is not None:
            if self._fulfil(neighbour, wish):
                return
        else:
            wish.beside = False
        if wish.dial_at <= now:
            wish.dial_at = _NEVER if wish.no_socket else now + _REPEAT
            if neighbour is None and not wish.no_socket:
                wish.asked = b""
                self._try(node_id, wish)
        if wish.offer_at <= now:
            self._offer(node_id, wish)
        no_webrtc = wish.no_webrtc or not self._negotiations.enabled
        if no_webrtc and (wish.no_socket or wish.beside):
            self._fail(self._not_connected(node_id, wish, wish.no_socket, wish.no_webrtc))

    def _try(self, node_id: NodeId, wish: _Wish) -> None:
        state = self._state
        if state.directory.get(node_id, state.wall) is not None:
            wish.known = True
            self._dial(node_id, wish)
        else:
            self._discovery.lookup(node_id, INTERNAL)

    def found(self, action: Found) -> None:
        """The lookup for a wish ended."""
        node_id = action.target
        wish = self._wishes.get(node_id)
        if wish is None:
            return
        if action.record is None:
            self._hurry(wish)
        else:
            wish.known = True
            self._dial(node_id, wish)
        self._advance(node_id, wish)

    def _dial(self, node_id: NodeId, wish: _Wish) -> None:
        entry = self._state.directory.entry(node_id)
        if entry is None or not entry.record.urls:
            self._ask(node_id, wish, "neither side has an address")
        elif not self._membership.dialling(node_id):
            self._membership.dial(entry.record, entry.scope)

    def dial_failed(self, node_id: NodeId) -> None:
        """Our dial did not work: the other side may reach us."""
        wish = self._wishes.get(node_id)
        if wish is not None:
            self._ask(node_id, wish, "it could not be dialled, and we have no address")
            self._advance(node_id, wish)

    def _ask(self, node_id: NodeId, wish: _Wish, otherwise: str) -> None:
        """Asks the peer to dial us, if we have an address."""
        state = self._state
        if not state.advertised:
            self._give_up_socket(wish, otherwise)
        elif not wish.asked:
            record = join_records([state.record])
            sender, message_id = state.send if self._sessions is None else self._sessions.post, state.token()
            if sender(Kind.CONNECT, node_id, message_id, record):
                wish.asked = message_id

    def _give_up_socket(self, wish: _Wish, why: str) -> None:
        wish.no_socket = why
        self._hurry(wish)

    def _hurry(self, wish: _Wish) -> None:
        """No WebSocket link is on its way: nothing is gained by waiting for it."""
        if not wish.offered and self._negotiations.enabled:
            wish.offer_at = min(wish.offer_at, self._state.now)

    def _offer(self, node_id: NodeId, wish: _Wish) -> None:
        negotiations = self._negotiations
        if negotiations.under_way(node_id) or negotiations.start(node_id, preferred=wish.prefers_webrtc):
            wish.offered = True
            wish.offer_at = _NEVER
        else:
            wish.offer_at = self._state.now + _REPEAT

    def not_negotiated(self, outcome: Outcome) -> None:
        """An attempt at a WebRTC link ended without one."""
        wish = self._wishes.get(outcome.peer)
        if wish is None:
            return
        wish.known = wish.known or outcome.known
        now = self._state.now
        wish.offered = True
        if outcome.again or (wish.prefers_webrtc and not outcome.preferred):
            wish.offer_at = now + _REPEAT
        else:
            wish.no_webrtc, wish.offer_at, wish.yield_at = outcome.reason, _NEVER, now
            wish.dial_at = min(wish.dial_at, now) if wish.prefers_webrtc else wish.dial_at
        self._advance(outcome.peer, wish)

    # Time

    def handle_timeout(self) -> None:
        """Tries again what did not work yet, and forgets what is past its deadline."""
        now = self._state.now
        for node_id, wish in list(self._wishes.items()):
            if wish.deadline <= now:
                self._fail(self._too_late(node_id, wish))
            elif min(wish.dial_at, wish.offer_at) <= now:
                self._advance(node_id, wish)

    def next_deadline(self) -> float:
        """When `handle_timeout` has something to do."""
        return min((min(w.deadline, w.dial_at, w.offer_at) for w in self._wishes.values()), default=_NEVER)

    # Frames

    def receive_connect(
        self, via: Neighbour, source: NodeId, message_id: bytes, payload: bytes, *, answer: bool
    ) -> None:
        """Somebody asks us to dial it: done if its record allows, else refused with the reason, if `answer`."""
        state = self._state
        reason = self._refusal(via, source, payload)
        if reason is not None:
            state.counts["connect_requests_refused"] += 1
            sender = state.send if self._sessions is None else self._sessions.send
            if answer and not sender(Kind.REFUSED, source, message_id, bytes([reason])):
                state.counts["no_way"] += 1

    def _refusal(self, via: Neighbour, source: NodeId, payload: bytes) -> Reason | None:
        state = self._state
        if state.table.get(source) is not None or self._membership.dialling(source):
            return None
        if not self._admission.links(source):
            return Reason.NOT_ADMITTED
        if self._membership.is_refused(source):
            return Reason.DISCONNECTED
        try:
            raws = split_records_untrusted(payload)
        except RemoteProtocolError:
            return Reason.PROTOCOL
        if not self._dial_backs.take(state.now):
            return Reason.FULL
        state.directory.add_untrusted(raws[:1], state.wall, via.scope)
        entry = state.directory.entry(source)
        if entry is None or not entry.record.urls:
            return Reason.NO_ADDRESS
        return None if self._membership.dial(entry.record, entry.scope) else Reason.FULL

    def receive_refused(self, source: NodeId, message_id: bytes, payload: bytes) -> None:
        """The other side will not dial us, as we asked it to."""
        wish = self._wishes.get(source)
        if wish is None or wish.asked != message_id or len(payload) != 1:
            self._state.counts["answers_to_nothing"] += 1
        else:
            wish.known = True
            self._give_up_socket(wish, f"it does not dial us: {explain(payload[0])}")
            self._advance(source, wish)
