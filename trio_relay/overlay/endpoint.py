"""Messages of this node's application: sending, confirming, the mailbox and its bounds; pure.

Rules of this file:

1. An acknowledgement leaves at the moment its message takes its place in the mailbox, never before.
2. A message is delivered once; a copy of a confirmed one is acknowledged again.
3. A full mailbox refuses: a confirmed message is answered "busy", any other is counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ..exceptions import MailboxFull, RemoteProtocolError
from ..wire.content import Data, decode_content_untrusted
from ..wire.frame import Flag, Kind
from ..wire.ids import NodeId
from .actions import Acknowledged, Deliver, DeliverLegacy, Failed
from .admission import Admission
from .deliveries import Deliveries, Pending
from .seen import SeenMessages
from .session.session import Arrival
from .session.sessions import Sessions
from .state import State
from .table import Neighbour

__all__ = ["Endpoint"]

_COPIES: Final = (Arrival.COPY, Arrival.REFUSED)
_KNOWN_FLAGS: Final = Flag.CONFIRM | Flag.LEGACY
_OVERHEAD: Final = 128
"""What one message costs the mailbox beside its payload, so that empty ones are bounded too."""


@dataclass(frozen=True, slots=True)
class _Unlinked:
    """A message that waits for the first link."""

    to: NodeId
    message_id: bytes
    payload: bytes = field(repr=False)
    flags: int
    until: float


class Endpoint:
    """This node as sender and receiver of DATA, ACK, BUSY and UNREACHABLE frames.

    Args:
        admission: who may send to our application, and make us carry originals' messages.
        sessions: seals what leaves; without it, everything is plain.
    """

    def __init__(self, state: State, admission: Admission, sessions: Sessions | None) -> None:
        limits = state.limits
        self._state: Final = state
        self._admission: Final = admission
        self._sessions: Final = sessions
        self._seen: Final = SeenMessages(limits.seen_messages, limits.seen_messages_per_sender, limits.seen_for)
        self._seen_confirmed: Final = SeenMessages(
            limits.seen_messages, limits.seen_messages_per_sender, limits.seen_for
        )
        self._unlinked: deque[_Unlinked] = deque()
        self.deliveries: Final = Deliveries()
        self.receive_rendezvous: Callable[[Neighbour, int, int, int, NodeId, bytes, bytes, bool, Arrival | None], bool]
        """Like `receive_data`, for messages with other flags than those of the mailbox."""
        self.settle_rendezvous: Callable[[Acknowledged | Failed], None]
        self._rendezvous: Final = set[bytes]()  # confirmed messages of the part for topics, which sets these two
        self.closed = False
        """Nobody will take a message any more: none is accepted, and so none is acknowledged."""
        self.mailbox_messages = 0
        self.mailbox_bytes = 0

    # Sending

    @property
    def unlinked_count(self) -> int:
        """Messages that wait for the first link."""
        return len(self._unlinked)

    @property
    def has_unlinked_room(self) -> bool:
        """Whether one more message may wait for the first link."""
        return len(self._unlinked) < self._state.limits.unlinked_messages

    def send(self, to: NodeId, payload: bytes, flags: int = 0) -> None:
        """Sends a datagram, or keeps it for a while when there is no link at all."""
        state = self._state
        message_id = state.token()
        state.counts["messages_sent"] += 1
        if to == state.own:
            self._accept(to, message_id, payload, flags, None, proven=True)
        elif len(state.table) or state.tunnels:
            self._send_now(to, message_id, payload, flags)
        elif self.has_unlinked_room:
            until = state.now + state.limits.unlinked_wait
            self._unlinked.append(_Unlinked(to, message_id, payload, flags, until))
        else:
            state.counts["unlinked_full"] += 1

    def _send_now(self, to: NodeId, message_id: bytes, payload: bytes, flags: int) -> None:
        sender = self._state.send if self._sessions is None else self._sessions.post
        if not sender(Kind.DATA, to, message_id, payload, flags=flags):
            self._state.counts["no_way"] += 1

    def deliver(self, to: NodeId, payload: bytes, timeout: float, flags: int = 0) -> bytes:
        """Sends a message until it is acknowledged or `timeout` seconds have passed; returns its id."""
        state = self._state
        message_id = state.token()
        state.counts["messages_sent"] += 1
        flags |= Flag.CONFIRM
        if to == state.own:
            if not self._accept(to, message_id, payload, flags, None, proven=True):
                state.do(Failed(message_id, MailboxFull("this node's own mailbox is full", "not_delivered")))
            return message_id
        self.deliveries.add(message_id, to, payload, flags, state.now + timeout, state.now)
        if flags & Flag.RENDEZVOUS:
            self._rendezvous.add(message_id)
        self.send_due()
        return message_id

    def _settle(self, result: Acknowledged | Failed) -> None:
        if result.message_id in self._rendezvous:
            self._rendezvous.discard(result.message_id)
            self.settle_rendezvous(result)
        else:
            self._state.do(result)

    def cancel(self, message_id: bytes) -> None:
        """The application stopped waiting."""
        self.deliveries.remove(message_id)
        self._rendezvous.discard(message_id)

    def linked(self) -> None:
        """A link came up: what waited for it leaves."""
        while self._unlinked:
            waiting = self._unlinked.popleft()
            if waiting.until > self._state.now:
                self._send_now(waiting.to, waiting.message_id, waiting.payload, waiting.flags)
            else:
                self._state.counts["unlinked_expired"] += 1
        self.deliveries.hurry(self._state.now)
        self.send_due()

    def close(self) -> None:
        """The node ends: nothing waits for a link any more."""
        self.closed = True
        self._state.counts["unlinked_closed"] += len(self._unlinked)
        self._unlinked.clear()

    def session_ready(self, peer: NodeId, lost: bool) -> None:
        """Messages for that peer can be sealed now; `lost`: those that left before may not have been understood."""
        self.deliveries.hurry(self._state.now, peer, lost=lost)
        self.send_due()

    def send_due(self) -> None:
        """Sends what is due for its first attempt or the next, and gives up what is past its deadline."""
        state, sessions, deliveries = self._state, self._sessions, self.deliveries
        for message_id, pending in deliveries.due(state.now):
            if pending.deadline <= state.now:
                deliveries.remove(message_id)
                state.counts["deliveries_failed"] += 1
                unreachable = sessions is not None and not pending.sent and sessions.is_unreachable(pending.to)
                self._settle(Failed(message_id, deliveries.error(pending, unreachable=unreachable)))
                continue
            attempt = min(pending.attempt + 1, 255)
            left = self._send_attempt(message_id, pending, attempt)
            if left is None:
                deliveries.waits(message_id, pending, state.now)
            else:
                state.counts["retries"] += attempt > 0
                deliveries.attempted(message_id, pending, left, state.now)

    def _send_attempt(self, message_id: bytes, pending: Pending, attempt: int) -> bool | None:
        """Sends one more copy; None while there is no session."""
        to, payload, flags = pending.to, pending.payload, pending.flags
        if self._sessions is None:
            return self._state.send(Kind.DATA, to, message_id, payload, flags=flags, attempt=attempt)
        before, since = pending.copies.values(), min(pending.sent.values(), default=self._state.now)
        left, copy = self._sessions.send_copy(
            to, message_id, payload, flags=flags, attempt=attempt, before=before, since=since
        )
        if copy is not None:
            pending.copies[attempt] = copy
        return left

    def handle_timeout(self) -> None:
        """Does what is due now."""
        now = self._state.now
        while self._unlinked and self._unlinked[0].until <= now:
            self._unlinked.popleft()
            self._state.counts["unlinked_expired"] += 1
        self._seen.expire(now)
        self._seen_confirmed.expire(now)
        self.send_due()

    def next_deadline(self) -> float:
        """When `handle_timeout` has something to do."""
        first = self._unlinked[0].until if self._unlinked else float("inf")
        return min(first, self.deliveries.next_deadline())

    # Receiving

    def receive_data(
        self,
        via: Neighbour,
        hop_limit: int,
        attempt: int,
        flags: int,
        source: NodeId,
        message_id: bytes,
        payload: bytes,
        *,
        proven: bool,
        arrival: Arrival | None = None,
    ) -> bool:
        """A message for our application; False if there was no room and it may come again.

        Args:
            proven: `source` did send it.
            arrival: what the counter of a sealed frame says: a copy is answered again, but not delivered.
        """
        state = self._state
        if self.closed:
            state.counts["closing"] += 1
        elif flags & ~_KNOWN_FLAGS:
            return self.receive_rendezvous(via, hop_limit, attempt, flags, source, message_id, payload, proven, arrival)
        elif not (self._admission.either(source) if flags & Flag.LEGACY else self._admission.messages(source)):
            state.counts["not_admitted"] += 1
        elif arrival is Arrival.NEW and not flags:
            # Sealed once and sent once: nothing else need be remembered of it.
            self._put_content(source, payload, proven)
        elif arrival in _COPIES and not self._seen_confirmed.seen(source, message_id, state.now):
            if arrival is Arrival.REFUSED:
                self.answer(Kind.BUSY, source, message_id, bytes([attempt]), attempt, via)
            else:
                state.counts["seal_replayed"] += 1
        elif self._accept(source, message_id, payload, flags, via, proven=proven):
            if flags & Flag.CONFIRM:
                self.answer(Kind.ACK, source, message_id, bytes([hop_limit, attempt]), attempt, via)
        elif flags & Flag.CONFIRM and self.mailbox_full(len(payload)):
            self.answer(Kind.BUSY, source, message_id, bytes([attempt]), attempt, via)
            return False
        return True

    def answer(self, kind: Kind, to: NodeId, message_id: bytes, payload: bytes, attempt: int, back: Neighbour) -> None:
        """Sends ACK or BUSY for a message that came over `back`."""
        sender = self._state.send if self._sessions is None else self._sessions.send
        if not sender(kind, to, message_id, payload, attempt=attempt, back=back):
            self._state.counts["no_way"] += 1

    def _accept(
        self, source: NodeId, message_id: bytes, payload: bytes, flags: int, via: Neighbour | None, *, proven: bool
    ) -> bool:
        """Puts a message into the mailbox; whether it is there now (or was before). `via` is None for our own."""
        state = self._state
        if flags & Flag.LEGACY and not state.legacy:
            state.counts["legacy_refused"] += 1
            return False
        seen = self._seen_confirmed if flags & Flag.CONFIRM else self._seen
        if seen.seen(source, message_id, state.now):
            state.counts["duplicates"] += 1
            return True
        if flags & Flag.LEGACY:
            seen.add(source, message_id, state.now)
            state.do(DeliverLegacy(payload, source, message_id, 0 if via is None else via.scope))
            return True
        if not self._put_content(source, payload, proven):
            return False
        seen.add(source, message_id, state.now)
        if via is None and flags & Flag.CONFIRM:
            state.do(Acknowledged(message_id, 0.0, 0))
        return True

    def _put_content(self, source: NodeId, payload: bytes, proven: bool) -> bool:
        """Puts what a payload holds into the mailbox; False if there is no room, or it is no content."""
        counts = self._state.counts
        if self.mailbox_full(len(payload)):
            counts["mailbox_full"] += 1
            return False
        try:
            data = decode_content_untrusted(payload)
        except RemoteProtocolError:
            counts["bad_content"] += 1
            return False
        self._put(data, source, len(payload), proven)
        return True

    def _put(self, data: Data, source: NodeId, length: int, proven: bool) -> None:
        """Takes a place in the mailbox."""
        size = length + _OVERHEAD
        self.mailbox_messages += 1
        self.mailbox_bytes += size
        self._state.counts["messages_received"] += 1
        self._state.do(Deliver(data, source, proven, size))

    def put(self, data: Data, source: NodeId, length: int) -> None:
        """A message that came by other ways than a frame of ours; it is not proven."""
        if self.mailbox_full(length):
            self._state.counts["mailbox_full"] += 1
        else:
            self._put(data, source, length, proven=False)

    def mailbox_full(self, length: int) -> bool:
        """Whether a payload of so many bytes finds no room."""
        limits = self._state.limits
        return (
            self.mailbox_messages >= limits.mailbox_messages
            or self.mailbox_bytes + length + _OVERHEAD > limits.mailbox_bytes
        )

    def taken(self, size: int) -> None:
        """The application took a message out of the mailbox."""
        self.mailbox_messages -= 1
        self.mailbox_bytes -= size

    def receive_answer(self, kind: int, source: NodeId, message_id: bytes, payload: bytes) -> None:
        """ACK, BUSY or UNREACHABLE; what answers nothing of ours is counted."""
        state = self._state
        if kind == Kind.ACK and len(payload) == 2:
            hops = max(1, state.limits.hops - payload[0] + 1)
            done = self.deliveries.acknowledged(message_id, source, payload[1], hops, state.now)
            if done is not None:
                state.counts["acknowledged"] += 1
                self._settle(done)
                return
        elif kind == Kind.BUSY and len(payload) == 1:
            if self.deliveries.busy(message_id, source, payload[0], state.now):
                return
        elif kind != Kind.UNREACHABLE:
            pass
        elif len(payload) == 21 and self.deliveries.unreachable(message_id, payload[:20], payload[20], state.now):
            state.counts["unreachable_hints"] += 1
            return
        state.counts["answers_to_nothing"] += 1

    @property
    def remembered(self) -> int:
        """Message ids in memory."""
        return len(self._seen) + len(self._seen_confirmed)

    @property
    def forgotten(self) -> int:
        """Message ids that were forgotten for want of room: a copy of such a message would be delivered again."""
        return self._seen.evicted + self._seen_confirmed.evicted
