"""Messages that wait for a session with their receiver: bounded in all and for each receiver; pure."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, KeysView
from dataclasses import dataclass, field
from typing import Final

from ...limits import Limits
from ...wire.frame import Kind
from ...wire.ids import NodeId

__all__ = ["WaitingMessage", "WaitingMessages"]

_OVERHEAD: Final = 128
_SHARES: Final = 4
"""One receiver, who may be unreachable, takes a quarter of the room at most."""


@dataclass(frozen=True, slots=True)
class WaitingMessage:
    """A frame to be, as its sender gave it."""

    kind: Kind
    to: NodeId
    message_id: bytes
    payload: bytes = field(repr=False)
    flags: int
    until: float

    @property
    def size(self) -> int:
        """What it takes of the room."""
        return len(self.payload) + _OVERHEAD


class WaitingMessages:
    """In the order in which they came; what does not fit, or waits too long, is counted."""

    def __init__(self, limits: Limits, counts: Counter[str]) -> None:
        self._limits: Final = limits
        self._counts: Final = counts
        self._all: OrderedDict[int, WaitingMessage] = OrderedDict()
        self._by_receiver: dict[NodeId, dict[int, int]] = {}
        self._number = 0
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._all)

    @property
    def receivers(self) -> KeysView[NodeId]:
        """Whom something waits for."""
        return self._by_receiver.keys()

    def waits_for(self, to: NodeId) -> bool:
        """Whether anything waits for a session with that id."""
        return to in self._by_receiver

    def has_room(self, to: NodeId, size: int) -> bool:
        """Whether one more payload of so many bytes for that id may wait."""
        limits = self._limits
        size += _OVERHEAD
        own = self._by_receiver.get(to, {})
        return (
            len(self._all) < limits.session_waiting
            and self.bytes + size <= limits.session_waiting_bytes
            and len(own) < max(1, limits.session_waiting // _SHARES)
            and sum(own.values()) + size <= max(size, limits.session_waiting_bytes // _SHARES)
        )

    def add(self, message: WaitingMessage) -> None:
        """Lets a message wait, or counts it."""
        if not self.has_room(message.to, len(message.payload)):
            self._counts["session_waiting_full"] += 1
            return
        self._number += 1
        self._all[self._number] = message
        self._by_receiver.setdefault(message.to, {})[self._number] = message.size
        self.bytes += message.size

    def take(self, to: NodeId) -> Iterator[WaitingMessage]:
        """Everything that waits for that id, in order."""
        for number in self._by_receiver.pop(to, {}):
            message = self._all.pop(number)
            self.bytes -= message.size
            yield message

    def clear(self) -> None:
        """Drops everything: the node ends."""
        self._counts["session_waiting_closed"] += len(self._all)
        self._all.clear()
        self._by_receiver.clear()
        self.bytes = 0

    def expire(self, now: float) -> None:
        """Drops what waits too long."""
        while self._all:
            number, message = next(iter(self._all.items()))
            if message.until > now:
                return
            del self._all[number]
            self.bytes -= message.size
            own = self._by_receiver[message.to]
            del own[number]
            if not own:
                del self._by_receiver[message.to]
            self._counts["session_waiting_expired"] += 1

    def next_deadline(self) -> float:
        """When `expire` has something to do."""
        return next(iter(self._all.values())).until if self._all else float("inf")
