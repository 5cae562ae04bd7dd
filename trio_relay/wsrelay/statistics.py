"""What a relay server tells about itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .metering import KeyTraffic
from .registry import ChannelStatistics

__all__ = ["RelayStatistics", "with_unix_times"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayStatistics:
    """A snapshot of a relay server.

    Attributes:
        start_time: Unix time in seconds.
        uptime: seconds.
        connections: peers that are connected.
        total_connections: peers registered since the start.
        messages_relayed: routed messages handed to connected peers.
        bytes_in: received in messages.
        bytes_out: routed messages that were sent.
        watches: of all peers.
        backlog: bytes that wait for slow clients.
        channels: those that have had a peer.
        keys: traffic by access key, whole; window starts are Unix times in seconds. Empty on a relay without keys.
        counts: refusals, drops and failures by name.
    """

    start_time: float
    uptime: float
    connections: int
    total_connections: int
    messages_relayed: int
    bytes_in: int
    bytes_out: int
    watches: int
    backlog: int
    channels: Mapping[str, ChannelStatistics]
    keys: Mapping[str, KeyTraffic] = field(repr=False)
    counts: Mapping[str, int]


def with_unix_times(keys: Mapping[str, KeyTraffic], zero: float) -> dict[str, KeyTraffic]:
    """The same traffic, its windows' starts on the clock of Unix time instead of the meter's.

    Args:
        zero: Unix time when the meter's clock shows 0.
    """
    return {
        key: KeyTraffic(
            connections,
            current._replace(start=zero + current.start),
            tuple(window._replace(start=zero + window.start) for window in history),
        )
        for key, (connections, current, history) in keys.items()
    }
