"""The live page: ``/ui``, which holds no data, and ``/ui/data``, what it asks for every second.

The page is one answer: the files in ``ui_page/`` put together, with the digests of its style and script in the
Content-Security-Policy, so that no other script runs and nothing is asked of another server. The data is for the
operator. It is made once a second at most, for all who look.
"""

from __future__ import annotations

import base64
import hashlib
import math
import time
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final

import trio

from ...transports.routes import Headers, Request, Response
from ...wire.json import JSONValue, encode
from ..metering import KeyTraffic
from ..stores.blobs import BlobStatistics
from .admin import mask_key, refuse_stranger
from .blob_pages import blob_statistics

if TYPE_CHECKING:
    from ..relay import RelayCore

__all__ = ["LivePage"]

_PERIOD: Final = 1.0
"""Seconds for which all get the same data."""
_MOST_KEYS: Final = 10
_BLOB_TIMEOUT: Final = 1.0
"""Seconds for the blob store; after them its numbers are missing, and the others are shown."""

_HEADERS: Final[Headers] = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)
_NOT_ALLOWED: Final = Response.text(405, "Method Not Allowed", ((b"allow", b"GET, HEAD, OPTIONS"),))
_HERE: Final = Response(308, b"", ((b"location", b"../ui"),))


class LivePage:
    """The live page of one relay."""

    def __init__(self, core: RelayCore) -> None:
        self._core: Final = core
        self._data = b""
        self._stale_at = -math.inf
        self._making: Final = trio.Lock()

    async def respond(self, request: Request) -> Response | None:
        """The answer; None if the page is off, or is not at the path."""
        if not self._core.config.ui or request.path not in ("/ui", "/ui/", "/ui/data"):
            return None
        if request.method not in ("GET", "HEAD"):
            return _NOT_ALLOWED
        if request.path == "/ui":
            return _page()
        if request.path == "/ui/":
            return _HERE
        refusal = refuse_stranger(request, self._core.config, self._core.counts)
        if refusal is not None:
            return Response(refusal.status, refusal.body, (*refusal.headers, *_HEADERS))
        return Response.typed(200, await self._newest(), "application/json", _HEADERS)

    async def _newest(self) -> bytes:
        """Data that is not older than `_PERIOD`; who comes while it is being made waits for it."""
        async with self._making:
            if trio.current_time() >= self._stale_at:
                self._data = encode(await self._look())
                self._stale_at = trio.current_time() + _PERIOD
            return self._data

    async def _look(self) -> dict[str, JSONValue]:
        """What the page shows. Times are Unix times and durations in seconds, sizes are bytes."""
        core = self._core
        seen = core.statistics(busiest=_MOST_KEYS)
        data: dict[str, JSONValue] = {
            "time": time.time(),
            "start_time": seen.start_time,
            "uptime": seen.uptime,
            "connections": seen.connections,
            "total_connections": seen.total_connections,
            "channels": {name: {"active": each.active, "peak": each.peak} for name, each in seen.channels.items()},
            "totals": {
                "messages_relayed": seen.messages_relayed,
                "bytes_in": seen.bytes_in,
                "bytes_out": seen.bytes_out,
            },
            "backlog": seen.backlog,
            "watches": seen.watches,
            "counts": dict(seen.counts),
            "keys": None if core.config.key_store is False else _masked(seen.keys),
        }
        if core.blobs is not None:
            blobs: BlobStatistics | None = None
            with trio.move_on_after(_BLOB_TIMEOUT):
                blobs = await blob_statistics(core.blobs, core.counts)
            data["blobs"] = None if blobs is None else {"entries": blobs.entries, "bytes": blobs.bytes}
        return data


def _masked(keys: Mapping[str, KeyTraffic]) -> list[JSONValue]:
    """Whatever `RelayConfig.show_keys` says: a page is on a screen, which others see."""
    return [
        {
            "key": mask_key(key),
            "connections": traffic.connections,
            "bytes_in": traffic.current.bytes_in,
            "bytes_out": traffic.current.bytes_out,
        }
        for key, traffic in keys.items()
    ]


@cache
def _page() -> Response:
    """The page, read from the package once."""
    folder = files(__package__) / "ui_page"
    html, style, script = ((folder / name).read_text("utf-8") for name in ("page.html", "page.css", "page.js"))
    policy = (
        f"default-src 'none'; script-src {_digest(script)}; style-src {_digest(style)}; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    html = html.replace("></style>", f">{style}</style>").replace("></script>", f">{script}</script>")
    headers = ((b"content-security-policy", policy.encode("ascii")), *_HEADERS)
    return Response.typed(200, html.encode(), "text/html; charset=utf-8", headers)


def _digest(text: str) -> str:
    """A source of CSP that allows an element with this text alone."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"
