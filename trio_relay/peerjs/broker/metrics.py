"""What ``/metrics`` says, in Prometheus' text format; names begin with ``trio_relay_broker_``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from ...transports.admission import Admission
from .statistics import BrokerStatistics

__all__ = ["CONTENT_TYPE", "write_metrics"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX: Final = "trio_relay_broker"


def write_metrics(statistics: BrokerStatistics, admission: Admission | None = None) -> bytes:
    """The text of ``/metrics``; `admission` is of the broker's listener, None if it has none of its own."""
    registry = CollectorRegistry()
    registry.register(_Collector(statistics, admission))
    return generate_latest(registry)


class _Collector:
    """One snapshot, for prometheus_client."""

    def __init__(self, statistics: BrokerStatistics, admission: Admission | None) -> None:
        self._statistics: Final = statistics
        self._admission: Final = admission

    def collect(self) -> Iterator[Metric]:
        seen = self._statistics
        yield _gauge("start_time_seconds", "Unix time of the start", seen.start_time)
        yield _gauge("clients", "clients that are registered", seen.clients)
        yield _counter("clients_registered", "registrations since the start", seen.total_clients)
        yield _counter("messages_relayed", "messages handed to clients", seen.messages_relayed)
        yield _counter("received_bytes", "bytes received in messages", seen.bytes_in)
        yield _counter("sent_bytes", "bytes of messages that were handed to clients", seen.bytes_out)
        yield _gauge("backlog_bytes", "bytes that wait for slow clients", seen.backlog)
        yield _gauge("waiting_messages", "messages that wait for absent peers", seen.waiting_messages)
        yield _gauge("waiting_bytes", "bytes of those messages", seen.waiting_bytes)
        yield _gauge("meetings", "meetings of peers without WebRTC between them", seen.meetings)
        yield _counters("events", "refusals, drops and failures by name", seen.counts)
        if self._admission is not None:
            yield _gauge("sockets", "accepted sockets that are open", self._admission.admitted)
            yield _gauge("unproven_sockets", "those of them that belong to no client yet", self._admission.unproven)
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
