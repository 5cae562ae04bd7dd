"""What the broker answers to plain HTTP requests, as `peer` 1.0: who it is, new ids, all ids; with CORS headers.

Besides those, ``/health`` and ``/metrics`` where the broker has a listener of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from ...serving.client_address import parse_networks
from ...serving.exposition import CONTENT_TYPE
from ...serving.operator import is_at_this_machine
from ...transports.admission import Admission
from ...transports.routes import Headers, Request, Response
from ...wire.json import JSONValue, encode
from .metrics import write_metrics

if TYPE_CHECKING:
    from .broker import BrokerCore

__all__ = ["Pages"]

_JSON: Final = "application/json; charset=utf-8"
_ABOUT: Final = Response.typed(
    200,
    encode(
        {
            "name": "PeerJS Server",
            "description": "A server side element to broker connections between PeerJS clients.",
            "website": "https://peerjs.com/",
        }
    ),
    _JSON,
)
_NOT_FOUND: Final = Response.text(404, "Not Found")
_UNAUTHORIZED: Final = Response.text(401, "Unauthorized")
_STRANGER: Final = Response.text(403, "Only for the operator: ask from this machine, at an IP address or localhost\n")
_METHODS: Final = b"GET,HEAD,PUT,PATCH,POST,DELETE"
_TRIES: Final = 10


class Pages:
    """The pages of one broker.

    Args:
        core: the broker.
        admission: of its listener, for ``/metrics``.
        alone: whether it has a listener of its own.
    """

    def __init__(self, core: BrokerCore, admission: Admission | None, *, alone: bool) -> None:
        self._core: Final = core
        self._admission: Final = admission
        self._prefix: Final = core.config.prefix
        self._trusted: Final = parse_networks(core.config.trusted_proxies)
        self._alone: Final = alone
        self._began: Final = trio.current_time()

    async def respond(self, request: Request) -> Response:
        """The answer to any request; a `Responder`."""
        if self._alone and request.path in ("/health", "/metrics") and request.method in ("GET", "HEAD"):
            return self._health() if request.path == "/health" else self._metrics(request)
        if request.path != self._prefix and not request.path.startswith(f"{self._prefix}/"):
            return _NOT_FOUND
        if request.method == "OPTIONS":
            return Response(204, b"", self._preflight(request))
        response = self._answer(request)
        return Response(response.status, response.body, (*response.headers, *self._cors(request), (b"vary", b"Origin")))

    def exposition(self) -> bytes:
        """The counters in Prometheus' text format, for whoever may see them."""
        return write_metrics(self._core.statistics(), self._admission if self._alone else None)

    def health(self) -> dict[str, JSONValue]:
        """The broker's state in a few numbers."""
        meetings = self._core.meetings
        return {
            "clients": len(self._core.tables.members),
            "meetings": meetings.meetings if meetings is not None else 0,
        }

    def _answer(self, request: Request) -> Response:
        """As Express: a slash more at the end, or other letter case, makes no difference."""
        parts = request.path.removeprefix(self._prefix).removesuffix("/").split("/")
        if request.method not in ("GET", "HEAD"):
            return _NOT_FOUND
        if parts == [""]:
            return _ABOUT
        if len(parts) != 3 or parts[0] or not parts[1]:
            return _NOT_FOUND
        if parts[2].lower() == "id":
            return Response.typed(200, self._new_id().encode(), "text/html; charset=utf-8")
        if parts[2].lower() == "peers":
            if not self._core.config.allow_discovery:
                return _UNAUTHORIZED
            return Response.typed(200, encode(list(self._core.tables.members)), _JSON)
        return _NOT_FOUND

    def _new_id(self) -> str:
        """An id that nobody has.

        Raises:
            RuntimeError: the application made none.
        """
        for _ in range(_TRIES):
            if (id := self._core.config.generate_client_id()) not in self._core.tables.members:
                return id
        raise RuntimeError(f"generate_client_id made {_TRIES} ids, all of them in use")

    # CORS, as the package `cors` with its defaults and `origin: true`, or a list of origins

    def _cors(self, request: Request) -> Headers:
        origin, allowed = request.header(b"origin"), self._core.config.cors_origins
        if origin is None or not (allowed is None or origin.decode("latin-1") in allowed):
            return ()
        return ((b"access-control-allow-origin", origin),)

    def _preflight(self, request: Request) -> Headers:
        wanted = request.header(b"access-control-request-headers")
        return (
            *self._cors(request),
            (b"vary", b"Origin, Access-Control-Request-Headers"),
            (b"access-control-allow-methods", _METHODS),
            *(((b"access-control-allow-headers", wanted),) if wanted else ()),
        )

    # For the operator

    def _health(self) -> Response:
        uptime = round((trio.current_time() - self._began) * 1000)
        return Response.typed(200, encode({"status": "ok", "uptime": uptime, **self.health()}), _JSON)

    def _metrics(self, request: Request) -> Response:
        if not (self._core.config.open_metrics or is_at_this_machine(request, self._trusted)):
            self._core.counts["refused_metrics"] += 1
            return _STRANGER
        return Response.typed(200, self.exposition(), CONTENT_TYPE)
