"""What ``/metrics`` says of a hub, in Prometheus' text format; names begin with ``trio_relay_hub_``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from ...transports.admission import Admission
from .statistics import HubStatistics

__all__ = ["CONTENT_TYPE", "write_metrics"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX: Final = "trio_relay_hub"


def write_metrics(statistics: HubStatistics, admission: Admission | None = None) -> bytes:
    """The text of ``/metrics``; `admission` is of the listener, None if another part of the server tells of it."""
    registry = CollectorRegistry()
    registry.register(_Collector(statistics, admission))
    return generate_latest(registry)


class _Collector:
    """One snapshot, for prometheus_client."""

    def __init__(self, statistics: HubStatistics, admission: Admission | None) -> None:
        self._statistics: Final = statistics
        self._admission: Final = admission

    def collect(self) -> Iterator[Metric]:
        seen = self._statistics
        yield _gauge("start_time_seconds", "Unix time of the start", seen.start_time)
        yield _gauge("clients", "event streams and Socket.IO sessions", seen.clients)
        yield _gauge("sessions", "Socket.IO sessions", seen.sessions)
        yield _counter("clients_admitted", "clients since the start", seen.total_clients)
        yield _gauge("topics", "topics that somebody listens to", seen.topics)
        yield _gauge("subscriptions", "subscriptions of all clients", seen.subscriptions)
        yield _counter("published", "updates", seen.published)
        yield _counter("delivered", "updates, once for each client", seen.delivered)
        yield _gauge("backlog_bytes", "bytes that wait for slow clients", seen.backlog)
        yield _counters("events", "refusals, drops and failures by name", seen.counts)
        if self._admission is not None:
            yield _gauge("sockets", "accepted sockets that are open", self._admission.admitted)
            yield _gauge("unproven_sockets", "those of them that make room for others", self._admission.unproven)
            ends = self._admission.statistics.snapshot()
            yield _counters("transport_events", "connections, requests, and endings by reason", ends)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{_PREFIX}_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"{_PREFIX}_{name}", text, value=value)


def _counters(name: str, text: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(f"{_PREFIX}_{name}", text, labels=["name"])
    for label, value in sorted(values.items()):
        family.add_metric([label], value)
    return family
