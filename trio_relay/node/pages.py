"""What the node's own paths answer: ``/``, ``/health`` and ``/metrics``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final, TypeAlias

import trio
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from ..transports.admission import Admission
from ..transports.routes import Handler, Request, Response, Route
from ..wire.addresses import Scope, scope, split_host_port
from ..wire.json import JSONValue, encode
from .runtime import Runtime
from .values import NodeStatistics

__all__ = ["Mount", "Mounting", "NodePages", "routes"]

_CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Mounting:
    """The listener of a node that serves more than the node; see the argument `mount` of `open_node`.

    Attributes:
        routes: of the node alone.
        pages: what they answer.
        admission: of all connections; who serves others says there which of them have proven themselves.
        urls: where it listens; empty before it does.
    """

    def __init__(self, routes: Sequence[Route], pages: NodePages, admission: Admission) -> None:
        self.routes: Final = routes
        self.pages: Final = pages
        self.admission: Final = admission
        self.urls: tuple[str, ...] = ()


Mount: TypeAlias = Callable[[Mounting], Awaitable[Sequence[Route]]]
"""Is told what a listener would serve, before it listens, and says what it is to serve instead."""


def routes(runtime: Runtime, pages: NodePages, accept: Handler) -> list[Route]:
    """The routes of one node; `accept` takes WebSocket connections at ``/``."""
    limit = runtime.limits.websocket_message if runtime.legacy is None else runtime.limits.legacy_message
    return [
        Route("/", upgrade=accept, max_message=limit),
        Route("/health", respond=pages.health),
        Route("/metrics", respond=pages.metrics),
    ]


class NodePages:
    """What a node tells about itself over HTTP."""

    def __init__(self, runtime: Runtime, statistics: Callable[[], NodeStatistics]) -> None:
        self._runtime: Final = runtime
        self._statistics: Final = statistics
        self._start: Final = trio.current_time()
        self._registry: Final = CollectorRegistry()
        self._registry.register(self)

    async def health(self, request: Request) -> Response:
        """JSON for load balancers: ``status``, ``uptime`` (ms), ``connections`` by channel, and the overlay's state."""
        if request.method not in ("GET", "HEAD"):
            return _not_allowed()
        body: JSONValue = {
            "status": "ok",
            "uptime": round((trio.current_time() - self._start) * 1000),
            "connections": {},
            "overlay": self.overlay(),
        }
        return Response.typed(200, encode(body), "application/json")

    def overlay(self) -> JSONValue:
        """The overlay's state, as ``/health`` has it."""
        statistics = self._statistics()
        return {
            "id": self._runtime.identity.id.hex(),
            "links": statistics.links,
            "relaying": statistics.relaying,
        }

    async def metrics(self, request: Request) -> Response:
        """The counters in Prometheus' text format, for this machine only."""
        if request.method not in ("GET", "HEAD"):
            return _not_allowed()
        remote = split_host_port(request.remote)
        if remote is None or scope(remote[0]) is not Scope.LOOPBACK:
            return Response.text(403, "metrics are served to this machine only\n")
        return Response.typed(200, self.exposition(), _CONTENT_TYPE)

    def exposition(self) -> bytes:
        """The counters in Prometheus' text format, for whoever may see them."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus_client."""
        statistics = self._statistics()
        events = CounterMetricFamily(
            "trio_relay_events", "drops, refusals, expiries and totals by name", labels=["name"]
        )
        for name, value in sorted(statistics.counts.items()):
            events.add_metric([name], value)
        yield events
        sizes = GaugeMetricFamily("trio_relay_size", "how full each bounded table is", labels=["table"])
        for name, value in sorted(statistics.sizes.items()):
            sizes.add_metric([name], value)
        yield sizes
        yield GaugeMetricFamily("trio_relay_links", "live links", value=statistics.links)
        transports = GaugeMetricFamily("trio_relay_links_by_transport", "the same by transport", labels=["transport"])
        for transport, number in sorted(Counter(info.transport for info in statistics.neighbours).items()):
            transports.add_metric([transport], number)
        yield transports
        yield GaugeMetricFamily("trio_relay_relaying", "whether this node relays", value=statistics.relaying)
        yield GaugeMetricFamily("trio_relay_backlog_bytes", "bytes waiting for links", value=statistics.backlog)


def _not_allowed() -> Response:
    return Response.text(405, "expected GET\n", ((b"allow", b"GET, HEAD"),))
