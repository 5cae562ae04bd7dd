"""What a broker tells about itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["BrokerStatistics"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerStatistics:
    """A snapshot of a broker.

    Attributes:
        start_time: Unix time in seconds.
        uptime: seconds.
        clients: that are registered.
        total_clients: registrations since the start; a client that came back on another socket counts again.
        messages_relayed: handed to clients.
        bytes_in: received in messages.
        bytes_out: of the messages that were handed to clients.
        backlog: bytes that wait for slow clients.
        waiting_messages: for peers that are not there; `waiting_bytes`: theirs, and 512 for each.
        meetings: of peers that can not reach each other by WebRTC, now.
        counts: refusals, drops and failures by name.
    """

    start_time: float
    uptime: float
    clients: int
    total_clients: int
    messages_relayed: int
    bytes_in: int
    bytes_out: int
    backlog: int
    waiting_messages: int
    waiting_bytes: int
    meetings: int
    counts: Mapping[str, int]
