"""Signs of life of neighbours: pings after silence, and when silence means death; pure."""

from __future__ import annotations

import heapq
from typing import Final

from ..wire.frame import Kind
from ..wire.ids import NodeId
from .state import State
from .table import Neighbour

__all__ = ["Liveness"]


class Liveness:
    """One heap of deadlines for all links; an entry is looked at again only when it is due."""

    def __init__(self, state: State) -> None:
        self._state: Final = state
        self._timers: list[tuple[float, int, NodeId]] = []
        self._count = 0

    def watch(self, neighbour: Neighbour) -> None:
        """A new neighbour; its first ping goes out at once and measures the round trip."""
        self._ping(neighbour)

    def renew(self, neighbour: Neighbour) -> None:
        """Another link carries its frames now: the silence of the old one says nothing."""
        neighbour.heard = self._state.now
        neighbour.pinged = None

    def _push(self, at: float, neighbour: Neighbour) -> None:
        self._count += 1
        neighbour.timer = self._count
        heapq.heappush(self._timers, (at, self._count, neighbour.id))

    def _ping(self, neighbour: Neighbour) -> None:
        state = self._state
        neighbour.pinged = state.now
        neighbour.ping_id = state.token()
        state.tell(neighbour, Kind.PING, message_id=neighbour.ping_id)
        self._push(state.now + min(state.limits.ping_after, state.limits.dead_after), neighbour)

    def pong(self, neighbour: Neighbour, message_id: bytes) -> None:
        """An answer to a ping."""
        if message_id == neighbour.ping_id and neighbour.pinged is not None:
            neighbour.rtt = self._state.now - neighbour.pinged
            neighbour.pinged = None

    def overdue(self) -> list[Neighbour]:
        """Pings whoever was silent, and returns whoever is dead."""
        state, timers = self._state, self._timers
        limits = state.limits
        dead: list[Neighbour] = []
        while timers and timers[0][0] <= state.now:
            _, count, node_id = heapq.heappop(timers)
            neighbour = state.table.get(node_id)
            if neighbour is None or neighbour.timer != count:
                continue
            silent_since = neighbour.heard
            if neighbour.pinged is not None and silent_since <= neighbour.pinged:
                if state.now >= neighbour.pinged + limits.dead_after:
                    dead.append(neighbour)
                else:
                    self._push(neighbour.pinged + limits.dead_after, neighbour)
            elif state.now >= silent_since + limits.ping_after:
                self._ping(neighbour)
            else:
                neighbour.pinged = None
                self._push(silent_since + limits.ping_after, neighbour)
        return dead

    def next_deadline(self) -> float:
        """When `overdue` has something to look at."""
        return self._timers[0][0] if self._timers else float("inf")
