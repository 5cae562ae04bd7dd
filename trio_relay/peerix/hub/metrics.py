"""What ``/metrics`` says of a hub, in Prometheus' text format; names begin with ``trio_relay_hub_``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import Metric

from ...serving.exposition import Families, write_families
from ...transports.admission import Admission
from .statistics import HubStatistics

__all__ = ["write_metrics"]

_OF: Final = Families("trio_relay_hub")


def write_metrics(statistics: HubStatistics, admission: Admission | None = None) -> bytes:
    """The text of ``/metrics``; `admission` is of the listener, None if another part of the server tells of it."""
    return write_families(_describe(statistics, admission))


def _describe(seen: HubStatistics, admission: Admission | None) -> Iterator[Metric]:
    yield _OF.gauge("start_time_seconds", "Unix time of the start", seen.start_time)
    yield _OF.gauge("clients", "event streams and Socket.IO sessions", seen.clients)
    yield _OF.gauge("sessions", "Socket.IO sessions", seen.sessions)
    yield _OF.counter("clients_admitted", "clients since the start", seen.total_clients)
    yield _OF.gauge("topics", "topics that somebody listens to", seen.topics)
    yield _OF.gauge("subscriptions", "subscriptions of all clients", seen.subscriptions)
    yield _OF.counter("published", "updates", seen.published)
    yield _OF.counter("delivered", "updates, once for each client", seen.delivered)
    yield _OF.gauge("backlog_bytes", "bytes that wait for slow clients", seen.backlog)
    yield _OF.counters("events", "refusals, drops and failures by name", seen.counts)
    yield from _OF.sockets(admission, "those of them that make room for others")
