"""What a hub tells about itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["HubStatistics"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HubStatistics:
    """A snapshot of a hub.

    Attributes:
        start_time: Unix time in seconds.
        uptime: seconds.
        clients: event streams and Socket.IO sessions.
        sessions: the latter of them.
        total_clients: since the start.
        topics: that somebody listens to.
        subscriptions: to those, of all clients.
        published: updates.
        delivered: updates, once for each client that was to get it.
        backlog: bytes that wait for slow clients.
        counts: refusals, drops and failures by name.
    """

    start_time: float
    uptime: float
    clients: int
    sessions: int
    total_clients: int
    topics: int
    subscriptions: int
    published: int
    delivered: int
    backlog: int
    counts: Mapping[str, int]
