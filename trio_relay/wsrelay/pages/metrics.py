"""What ``/metrics`` says, in Prometheus' text format. No access key is in it: traffic by key is on ``/stats``.

Names begin with ``trio_relay_ws_``, so that a node on the same port can have metrics, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import Metric

from ...serving.exposition import Families, write_families
from ...transports.admission import Admission
from ..statistics import RelayStatistics
from ..stores.blobs import BlobStatistics

__all__ = ["write_metrics"]

_OF: Final = Families("trio_relay_ws")


def write_metrics(
    statistics: RelayStatistics, blobs: BlobStatistics | None = None, admission: Admission | None = None
) -> bytes:
    """The text of ``/metrics``.

    Args:
        statistics: what it is about.
        blobs: of the blob store; None: there is none, or it could not tell.
        admission: of the relay's listener; None: it has none of its own.
    """
    return write_families(_describe(statistics, blobs, admission))


def _describe(seen: RelayStatistics, blobs: BlobStatistics | None, admission: Admission | None) -> Iterator[Metric]:
    yield _OF.gauge("start_time_seconds", "Unix time of the start", seen.start_time)
    yield _OF.gauge("peers", "peers that are connected", seen.connections)
    yield _OF.counter("peers_registered", "peers registered since the start", seen.total_connections)
    yield _OF.counter("messages_relayed", "routed messages handed to connected peers", seen.messages_relayed)
    yield _OF.counter("received_bytes", "bytes received in messages", seen.bytes_in)
    yield _OF.counter("sent_bytes", "bytes of routed messages that were sent", seen.bytes_out)
    yield _OF.gauge("watches", "watches of all peers", seen.watches)
    yield _OF.gauge("backlog_bytes", "bytes that wait for slow clients", seen.backlog)
    active = {name: channel.active for name, channel in seen.channels.items()}
    peak = {name: channel.peak for name, channel in seen.channels.items()}
    yield _OF.gauges("channel_peers", "peers of a channel", "channel", active)
    yield _OF.gauges("channel_peers_peak", "most peers of a channel at once", "channel", peak)
    yield _OF.counters("events", "refusals, drops and failures by name", seen.counts)
    if blobs is not None:
        yield from _describe_blobs(blobs)
    yield from _OF.sockets(admission, "those of them that belong to no peer yet")


def _describe_blobs(blobs: BlobStatistics) -> Iterator[Metric]:
    yield _OF.gauge("blobs", "blobs in the store", blobs.entries)
    yield _OF.gauge("blob_bytes", "bytes of those blobs", blobs.bytes)
    ends = {"expired": blobs.expired, "evicted": blobs.evicted, "refused": blobs.refused}
    yield _OF.counters("blob_events", "blobs that expired, made room, or found none", ends)
