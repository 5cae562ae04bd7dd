"""Direct links that the application asks for: find the address, dial it, or ask the other side to dial us; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .._bounded import TokenBucket
from ..exceptions import RemoteProtocolError
from ..wire.frame import Kind
from ..wire.hello import Reason
from ..wire.ids import NodeId
from ..wire.record import join_records, split_records_untrusted
from .actions import Found, LinkRefused
from .admission import Admission
from .discovery import INTERNAL, Discovery
from .membership import Membership
from .session.sessions import Sessions
from .state import State
from .table import Neighbour

__all__ = ["Connecting"]

_DIAL_BACKS_PER_SECOND: Final = 5.0
_DIAL_BACKS_BURST: Final = 20.0
_REPEAT: Final = 2.0


@dataclass(slots=True)
class _Wish:
    """A link that the application waits for.

    Attributes:
        asked: id of the message that asked the other side to dial us, empty if none did.
        known: whether its record was found.
    """

    deadline: float
    repeat_at: float
    asked: bytes = b""
    known: bool = False


class Connecting:
    """Wishes for direct links, by id; the number of wishes is bounded by `Limits.lookups`."""

    def __init__(
        self,
        state: State,
        discovery: Discovery,
        membership: Membership,
        admission: Admission,
        sessions: Sessions | None,
    ) -> None:
        self._state: Final = state
        self._sessions: Final = sessions
        self._discovery: Final = discovery
        self._membership: Final = membership
        self._admission: Final = admission
        self._wishes: dict[NodeId, _Wish] = {}
        self._dial_backs: Final = TokenBucket(_DIAL_BACKS_PER_SECOND, _DIAL_BACKS_BURST, state.now)

    def __len__(self) -> int:
        return len(self._wishes)

    def connect(self, node_id: NodeId) -> bool:
        """Starts making a link; False when too many are being made. Ends in `Linked`, or in nothing."""
        state = self._state
        self._membership.allow(node_id)
        neighbour = state.table.get(node_id)
        if neighbour is not None:
            neighbour.wanted = True
            return True
        if node_id not in self._wishes and len(self._wishes) >= state.limits.lookups:
            state.counts["connect_refused"] += 1
            return False
        self._wishes[node_id] = wish = _Wish(state.now + state.limits.connect_timeout, state.now)
        self._try(node_id, wish)
        return True

    def cancel(self, node_id: NodeId) -> bool:
        """The application stopped waiting; returns whether the peer's record had been found."""
        wish = self._wishes.pop(node_id, None)
        return wish is not None and wish.known

    def linked(self, neighbour: Neighbour) -> None:
        """A link came up; it may be one that was wished for."""
        if self._wishes.pop(neighbour.id, None) is not None:
            neighbour.wanted = True

    def found(self, action: Found) -> None:
        """The lookup for a wish ended."""
        wish = self._wishes.get(action.target)
        if wish is not None and action.record is not None:
            wish.known = True
            self._dial(action.target, wish)

    def dial_failed(self, node_id: NodeId) -> None:
        """Our dial did not work: the other side may reach us."""
        wish = self._wishes.get(node_id)
        if wish is not None:
            self._ask(node_id, wish)

    def _try(self, node_id: NodeId, wish: _Wish) -> None:
        state = self._state
        wish.repeat_at = state.now + _REPEAT
        if state.directory.get(node_id, state.wall) is not None:
            wish.known = True
            self._dial(node_id, wish)
        else:
            self._discovery.lookup(node_id, INTERNAL)

    def _dial(self, node_id: NodeId, wish: _Wish) -> None:
        entry = self._state.directory.entry(node_id)
        if entry is None or not entry.record.urls:
            self._ask(node_id, wish)
        elif not self._membership.dialling(node_id):
            self._membership.dial(entry.record, entry.scope)

    def _ask(self, node_id: NodeId, wish: _Wish) -> None:
        state = self._state
        if state.advertised and not wish.asked:
            record = join_records([state.record])
            sender, message_id = state.send if self._sessions is None else self._sessions.post, state.token()
            if sender(Kind.CONNECT, node_id, message_id, record):
                wish.asked = message_id

    def handle_timeout(self) -> None:
        """Tries again what did not work yet, and forgets what is past its deadline."""
        now = self._state.now
        for node_id, wish in list(self._wishes.items()):
            if wish.deadline <= now:
                del self._wishes[node_id]
            elif wish.repeat_at <= now:
                wish.asked = b""
                self._try(node_id, wish)

    def next_deadline(self) -> float:
        """When `handle_timeout` has something to do."""
        if not self._wishes:
            return float("inf")
        return min(min(wish.deadline, wish.repeat_at) for wish in self._wishes.values())

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
        if wish is not None and wish.asked == message_id and len(payload) == 1:
            self._state.do(LinkRefused(source, payload[0]))
        else:
            self._state.counts["answers_to_nothing"] += 1
