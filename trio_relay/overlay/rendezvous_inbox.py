"""Frames about topics: which of them are copies, and how each is answered; pure.

A message to be confirmed is answered when it was acted upon: ACK if it was taken, BUSY if there is no room now, nothing
if it is refused for good. Copies are answered again and not acted upon.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ..wire.frame import Flag, Kind
from ..wire.ids import ID_LENGTH, NodeId
from .endpoint import Endpoint
from .rendezvous_board import Verdict
from .seen import SeenMessages
from .session.session import Arrival
from .state import State
from .table import Neighbour

__all__ = ["RendezvousInbox"]

_SEEN: Final = 16384
_SEEN_OF_SENDER: Final = 1024
_KNOWN_FLAGS: Final = Flag.CONFIRM | Flag.RENDEZVOUS
_OUTSIDE: Final = NodeId(bytes(ID_LENGTH))
"""Stands for all neighbours through which frames come that no link of the overlay brought."""

Act = Callable[[NodeId, NodeId, bytes, bool], Verdict]
"""(neighbour that brought it, source, payload, whether it is proven to be from the source)."""


class RendezvousInbox:
    """Takes the place of the mailbox for DATA with the flag RENDEZVOUS."""

    def __init__(self, state: State, endpoint: Endpoint, act: Act) -> None:
        self._state: Final = state
        self._endpoint: Final = endpoint
        self._act: Final = act
        self._seen: Final = SeenMessages(_SEEN, _SEEN_OF_SENDER, state.limits.seen_for)

    def __len__(self) -> int:
        return len(self._seen)

    def expire(self) -> None:
        """Forgets ids of which no copy can come."""
        self._seen.expire(self._state.now)

    def receive(
        self,
        via: Neighbour,
        hop_limit: int,
        attempt: int,
        flags: int,
        source: NodeId,
        message_id: bytes,
        payload: bytes,
        proven: bool,
        arrival: Arrival | None,
    ) -> bool:
        """See `Endpoint.receive_data`."""
        state, confirm = self._state, flags & Flag.CONFIRM
        if flags & ~_KNOWN_FLAGS:
            state.counts["unknown_flags"] += 1
            return True
        if confirm and self._seen.seen(source, message_id, state.now):
            state.counts["duplicates"] += 1
            verdict = Verdict.TAKEN
        elif arrival is Arrival.COPY:
            state.counts["seal_replayed"] += 1
            verdict = Verdict.REFUSED
        elif arrival is Arrival.REFUSED:
            verdict = Verdict.FULL
        else:
            verdict = self._act(_OUTSIDE if via.link is None else via.id, source, payload, proven)
            if confirm and verdict is Verdict.TAKEN:
                self._seen.add(source, message_id, state.now)
        if confirm and verdict is Verdict.TAKEN:
            self._endpoint.answer(Kind.ACK, source, message_id, bytes([hop_limit, attempt]), attempt, via)
        elif confirm and verdict is Verdict.FULL:
            self._endpoint.answer(Kind.BUSY, source, message_id, bytes([attempt]), attempt, via)
        return verdict is not Verdict.FULL
