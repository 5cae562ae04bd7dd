"""What ``/metrics`` says, in Prometheus' text format. No access key is in it: traffic by key is on ``/stats``.

Names begin with ``trio_relay_ws_``, so that a node on the same port can have metrics, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from ...transports.admission import Admission
from ..statistics import RelayStatistics
from ..stores.blobs import BlobStatistics

__all__ = ["CONTENT_TYPE", "write_metrics"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX: Final = "trio_relay_ws"


def write_metrics(
    statistics: RelayStatistics, blobs: BlobStatistics | None = None, admission: Admission | None = None
) -> bytes:
    """The text of ``/metrics``.

    Args:
        statistics: what it is about.
        blobs: of the blob store; None: there is none, or it could not tell.
        admission: of the relay's listener; None: it has none of its own.
    """
    registry = CollectorRegistry()
    registry.register(_Collector(statistics, blobs, admission))
    return generate_latest(registry)


class _Collector:
    """One snapshot, for prometheus_client."""

    def __init__(self, statistics: RelayStatistics, blobs: BlobStatistics | None, admission: Admission | None) -> None:
        self._statistics: Final = statistics
        self._blobs: Final = blobs
        self._admission: Final = admission

    def collect(self) -> Iterator[Metric]:
        seen = self._statistics
        yield _gauge("start_time_seconds", "Unix time of the start", seen.start_time)
        yield _gauge("peers", "peers that are connected", seen.connections)
        yield _counter("peers_registered", "peers registered since the start", seen.total_connections)
        yield _counter("messages_relayed", "routed messages handed to connected peers", seen.messages_relayed)
        yield _counter("received_bytes", "bytes received in messages", seen.bytes_in)
        yield _counter("sent_bytes", "bytes of routed messages that were sent", seen.bytes_out)
        yield _gauge("watches", "watches of all peers", seen.watches)
        yield _gauge("backlog_bytes", "bytes that wait for slow clients", seen.backlog)
        yield from self._channels()
        yield _counters("events", "refusals, drops and failures by name", seen.counts)
        if self._blobs is not None:
            yield from _describe_blobs(self._blobs)
        if self._admission is not None:
            yield from _sockets(self._admission)

    def _channels(self) -> Iterator[Metric]:
        active = GaugeMetricFamily(f"{_PREFIX}_channel_peers", "peers of a channel", labels=["channel"])
        peak = GaugeMetricFamily(f"{_PREFIX}_channel_peers_peak", "most peers of a channel at once", labels=["channel"])
        for name, channel in sorted(self._statistics.channels.items()):
            active.add_metric([name], channel.active)
            peak.add_metric([name], channel.peak)
        yield active
        yield peak


def _describe_blobs(blobs: BlobStatistics) -> Iterator[Metric]:
    yield _gauge("blobs", "blobs in the store", blobs.entries)
    yield _gauge("blob_bytes", "bytes of those blobs", blobs.bytes)
    ends = {"expired": blobs.expired, "evicted": blobs.evicted, "refused": blobs.refused}
    yield _counters("blob_events", "blobs that expired, made room, or found none", ends)


def _sockets(admission: Admission) -> Iterator[Metric]:
    yield _gauge("sockets", "accepted sockets that are open", admission.admitted)
    yield _gauge("unproven_sockets", "those of them that belong to no peer yet", admission.unproven)
    ends = admission.statistics.snapshot()
    yield _counters("transport_events", "connections accepted and upgraded, requests, and endings by reason", ends)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{_PREFIX}_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"{_PREFIX}_{name}", text, value=value)


def _counters(name: str, text: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(f"{_PREFIX}_{name}", text, labels=["name"])
    for label, value in sorted(values.items()):
        family.add_metric([label], value)
    return family
