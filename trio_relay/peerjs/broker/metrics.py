"""What ``/metrics`` says, in Prometheus' text format; names begin with ``trio_relay_broker_``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import Metric

from ...serving.exposition import Families, write_families
from ...transports.admission import Admission
from .statistics import BrokerStatistics

__all__ = ["write_metrics"]

_OF: Final = Families("trio_relay_broker")


def write_metrics(statistics: BrokerStatistics, admission: Admission | None = None) -> bytes:
    """The text of ``/metrics``; `admission` is of the broker's listener, None if it has none of its own."""
    return write_families(_describe(statistics, admission))


def _describe(seen: BrokerStatistics, admission: Admission | None) -> Iterator[Metric]:
    yield _OF.gauge("start_time_seconds", "Unix time of the start", seen.start_time)
    yield _OF.gauge("clients", "clients that are registered", seen.clients)
    yield _OF.counter("clients_registered", "registrations since the start", seen.total_clients)
    yield _OF.counter("messages_relayed", "messages handed to clients", seen.messages_relayed)
    yield _OF.counter("received_bytes", "bytes received in messages", seen.bytes_in)
    yield _OF.counter("sent_bytes", "bytes of messages that were handed to clients", seen.bytes_out)
    yield _OF.gauge("backlog_bytes", "bytes that wait for slow clients", seen.backlog)
    yield _OF.gauge("waiting_messages", "messages that wait for absent peers", seen.waiting_messages)
    yield _OF.gauge("waiting_bytes", "bytes of those messages", seen.waiting_bytes)
    yield _OF.gauge("meetings", "meetings of peers without WebRTC between them", seen.meetings)
    yield _OF.counters("events", "refusals, drops and failures by name", seen.counts)
    yield from _OF.sockets(admission, "those of them that belong to no client yet")
