"""Metrics of one server in Prometheus' text format: one snapshot, families made by short calls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from ..transports.admission import Admission

__all__ = ["CONTENT_TYPE", "Families", "write_families"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Families:
    """Makes families whose names begin with a prefix and an underscore."""

    def __init__(self, prefix: str) -> None:
        self._prefix: Final = prefix

    def gauge(self, name: str, text: str, value: float) -> Metric:
        """What goes up and down."""
        return GaugeMetricFamily(f"{self._prefix}_{name}", text, value=value)

    def gauges(self, name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
        """One for each value of a label."""
        family = GaugeMetricFamily(f"{self._prefix}_{name}", text, labels=[label])
        for key, value in sorted(values.items()):
            family.add_metric([key], value)
        return family

    def counter(self, name: str, text: str, value: float) -> Metric:
        """What goes up."""
        return CounterMetricFamily(f"{self._prefix}_{name}", text, value=value)

    def counters(self, name: str, text: str, values: Mapping[str, int]) -> Metric:
        """One for each value of the label ``name``."""
        family = CounterMetricFamily(f"{self._prefix}_{name}", text, labels=["name"])
        for key, value in sorted(values.items()):
            family.add_metric([key], value)
        return family

    def sockets(self, admission: Admission | None, unproven: str) -> Iterator[Metric]:
        """Those of the server's own listener; None: it has none.

        Args:
            unproven: what the sockets are that make room for others.
        """
        if admission is not None:
            yield self.gauge("sockets", "accepted sockets that are open", admission.admitted)
            yield self.gauge("unproven_sockets", unproven, admission.unproven)
            ends = admission.statistics.snapshot()
            text = "connections accepted and upgraded, requests, and endings by reason"
            yield self.counters("transport_events", text, ends)


def write_families(families: Iterable[Metric]) -> bytes:
    """The text of ``/metrics``."""
    registry = CollectorRegistry()
    registry.register(_Snapshot(families))
    return generate_latest(registry)


class _Snapshot:
    """For prometheus_client, which asks twice."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families: Final = list(families)

    def collect(self) -> Iterator[Metric]:
        return iter(self._families)
