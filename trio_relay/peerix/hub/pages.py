"""``/health`` and ``/metrics`` of a hub, where no other part of the server has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ...serving.exposition import CONTENT_TYPE
from ...serving.operator import is_at_this_machine
from ...transports.admission import Admission
from ...transports.routes import Request, Response
from ...wire.json import JSONValue, encode
from .core import HubCore
from .metrics import write_metrics
from .statistics import HubStatistics

__all__ = ["Pages"]

_STRANGER: Final = Response.text(403, "Only for the operator: ask from this machine, at an IP address or localhost\n")
_NOT_ALLOWED: Final = Response.text(405, "expected GET\n", ((b"allow", b"GET, HEAD"),))
_READING: Final = ("GET", "HEAD")


class Pages:
    """The pages of one hub.

    Args:
        admission: of the listener that the hub is at; None: another part of the server tells of it.
    """

    def __init__(self, core: HubCore, statistics: Callable[[], HubStatistics], admission: Admission | None) -> None:
        self._core: Final = core
        self._statistics: Final = statistics
        self._admission: Final = admission

    def health(self) -> dict[str, JSONValue]:
        """The hub's state in a few numbers."""
        seen = self._statistics()
        return {"clients": seen.clients, "topics": seen.topics}

    def exposition(self) -> bytes:
        """The counters in Prometheus' text format, for whoever may see them."""
        return write_metrics(self._statistics(), self._admission)

    async def answer_health(self, request: Request) -> Response:
        """The page ``/health``; a `Responder`."""
        if request.method not in _READING:
            return _NOT_ALLOWED
        uptime = round(self._statistics().uptime * 1000)
        return Response.typed(200, encode({"status": "ok", "uptime": uptime, "hub": self.health()}), "application/json")

    async def answer_metrics(self, request: Request) -> Response:
        """The page ``/metrics``; a `Responder`."""
        if request.method not in _READING:
            return _NOT_ALLOWED
        if not (self._core.config.open_metrics or is_at_this_machine(request, self._core.access.networks)):
            self._core.counts["refused_metrics"] += 1
            return _STRANGER
        return Response.typed(200, self.exposition(), CONTENT_TYPE)
