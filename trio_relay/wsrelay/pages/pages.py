"""What the relay answers to plain HTTP requests, in the order of `@sumicom/ws-relay` 0.1.2.

CORS headers on every answer, OPTIONS, the application's hook, ``/health``, ``/stats``, ``/metrics``, ``/ui``, pages
that were added, blobs, 404. Unlike there, a query does not hide a page, a wrong method is told so with 405, and
``/stats`` is for the operator.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final

import trio

from ...serving.exposition import CONTENT_TYPE
from ...serving.hook_calls import HookFailed, call_hook
from ...transports.admission import Admission
from ...transports.routes import BodyIncomplete, BodyTooLarge, Headers, Request, Response
from ...wire.json import JSONValue
from ..config import BlobConfig, RelayConfig
from ..metering import KeyTraffic, Window
from ..registry import ChannelStatistics
from .admin import mask_key, refuse_stranger
from .blob_pages import BlobPages, blob_statistics, json_response
from .metrics import write_metrics
from .ui import LivePage

if TYPE_CHECKING:
    from ..relay import RelayCore

__all__ = ["Pages"]

_log: Final = logging.getLogger("trio_relay.wsrelay")

_NOT_FOUND: Final = Response(404, b"Not Found")
_FAILED: Final = Response.text(500, "Internal Server Error")
_NOT_ALLOWED: Final = Response.text(405, "Method Not Allowed", ((b"allow", b"GET, HEAD, OPTIONS"),))


class Pages:
    """The pages of one relay.

    Args:
        core: the relay.
        admission: of its listener, for ``/metrics``; None: it has none of its own.

    Attributes:
        extra: further pages by path. Each decides itself about methods and about who may see it
            (`admin.refuse_stranger`); CORS headers are added to what it answers.
    """

    def __init__(self, core: RelayCore, admission: Admission | None = None) -> None:
        self._core: Final = core
        self._admission: Final = admission
        self._began: Final = trio.current_time()
        self._blobs: Final = BlobPages(core)
        self._live: Final = LivePage(core)
        self._own: Final[dict[str, Callable[[Request], Awaitable[Response]]]] = {
            "/health": self._health,
            "/stats": self._stats,
            "/metrics": self._metrics,
        }

    async def respond(self, request: Request) -> Response:
        """The answer to any request; a `Responder`."""
        with self._core.answering():
            response = await self._answer(request)
        cors = _cors(self._core.config)
        if not cors:
            return response
        there = {name.lower() for name, _ in response.headers}
        added = tuple(header for header in cors if header[0] not in there)
        return Response(response.status, response.body, (*response.headers, *added))

    async def _answer(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(204)
        hook = self._core.config.hooks.on_http_request
        if hook is not None and (answer := await self._ask_hook(hook, request)) is not None:
            return answer
        own = self._own.get(request.path)
        if own is not None:
            return await own(request) if request.method in ("GET", "HEAD") else _NOT_ALLOWED
        if (live := await self._live.respond(request)) is not None:
            return live
        return await self._blobs.respond(request) or _NOT_FOUND

    async def _ask_hook(self, hook: Callable[[Request], object], request: Request) -> Response | None:
        """What the application answers; None: it leaves the request to the relay.

        Raises:
            BodyTooLarge, BodyIncomplete: the application read the body, and let this pass.
        """

        async def ask() -> object:
            try:
                answer = hook(request)
                return await answer if inspect.isawaitable(answer) else answer
            except (BodyTooLarge, BodyIncomplete) as fault:
                return fault  # the client's, not the hook's

        counts = self._core.counts
        try:
            answer = await call_hook("on_http_request", counts, self._core.config.hook_timeout, ask)
        except HookFailed:
            return _FAILED
        if isinstance(answer, BodyTooLarge | BodyIncomplete):
            raise answer
        if answer is None or isinstance(answer, Response):
            return answer
        counts["hook_failed"] += 1
        _log.error("hook on_http_request returned %s, not a Response or None", type(answer).__name__)
        return _FAILED

    # The relay's own pages; for GET and HEAD

    async def _health(self, request: Request) -> Response:
        """For load balancers; nothing that could wait."""
        channels = self._core.registry.get_stats().channels
        uptime = _milliseconds(trio.current_time() - self._began)
        return json_response(200, {"status": "ok", "connections": _channels(channels), "uptime": uptime})

    async def _stats(self, request: Request) -> Response:
        config = self._core.config
        if (refusal := self._refuse(request)) is not None:
            return refusal
        seen = self._core.statistics()
        body: dict[str, JSONValue] = {
            "totalConnections": seen.total_connections,
            "messagesRelayed": seen.messages_relayed,
            "startTime": _milliseconds(seen.start_time),
            "channels": _channels(seen.channels),
            "uptime": _milliseconds(seen.uptime),
        }
        blobs = await blob_statistics(self._core.blobs, self._core.counts)
        if blobs is not None:
            body["blobStore"] = {"entries": blobs.entries}
        if config.key_store is not False:
            name = str if config.show_keys else mask_key
            body["keys"] = {name(key): _traffic(traffic) for key, traffic in seen.keys.items()}
        return json_response(200, body)

    async def _metrics(self, request: Request) -> Response:
        if (refusal := self._refuse(request)) is not None:
            return refusal
        blobs = await blob_statistics(self._core.blobs, self._core.counts)
        text = write_metrics(self._core.statistics(busiest=0), blobs, self._admission)
        return Response.typed(200, text, CONTENT_TYPE)

    def _refuse(self, request: Request) -> Response | None:
        """What somebody is answered who may not see ``/stats`` and ``/metrics``; None: he may."""
        config = self._core.config
        return None if config.open_stats else refuse_stranger(request, config, self._core.counts)


def _cors(config: RelayConfig) -> Headers:
    """The original's headers; with Authorization, which browsers ask for, where a key may be in it."""
    if config.cors is False or config.cors == "":
        return ()
    origin = "*" if config.cors is True else config.cors
    blobs = config.blob_store
    keyed = config.admin_key is not None or (isinstance(blobs, BlobConfig) and blobs.access_key is not None)
    return (
        (b"access-control-allow-origin", origin.encode("ascii")),
        (b"access-control-allow-methods", b"GET, PUT, DELETE, OPTIONS"),
        (b"access-control-allow-headers", b"Content-Type, Authorization" if keyed else b"Content-Type"),
    )


def _channels(channels: Mapping[str, ChannelStatistics]) -> dict[str, JSONValue]:
    return {name: {"active": channel.active, "peak": channel.peak} for name, channel in channels.items()}


def _traffic(traffic: KeyTraffic) -> dict[str, JSONValue]:
    return {
        "connections": traffic.connections,
        "current": _window(traffic.current),
        "history": [_window(window) for window in traffic.history],
    }


def _window(window: Window) -> dict[str, JSONValue]:
    return {
        "bytesIn": window.bytes_in,
        "bytesOut": window.bytes_out,
        "windowStart": _milliseconds(window.start),
    }


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
