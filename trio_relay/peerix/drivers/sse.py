"""The driver for hubs of server-sent events, such as Mercure hubs and the hub of this package."""

from __future__ import annotations

import base64
import binascii
import random
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Final
from urllib.parse import quote_plus

import trio

from ...exceptions import DriverError
from ...transports.streams import check_tls
from .broker_url import Scheme, parse_broker_url
from .driver import Driver
from .http_exchange import HttpPool, dial_http
from .http_headers import make_headers
from .sse_source import STREAM_TYPE, SseSource, describe_status

__all__ = ["SseDriver"]

_SCHEMES: Final = {
    # What may follow the port of a WebSocket may follow it here.
    "http": Scheme(80, websocket=True),
    "https": Scheme(443, secure=True, websocket=True),
}
_FOR_STREAMS: Final = {"accept": STREAM_TYPE, "accept-encoding": "identity", "cache-control": "no-store"}
_FOR_POSTS: Final = {"accept-encoding": "identity", "content-type": "application/x-www-form-urlencoded"}
_POSTS: Final = 8
"""Packets on their way side by side; more wait."""
_PATTERN: Final = frozenset("*{}")


class SseDriver(Driver):
    """Carries packets over a hub of server-sent events: topic = namespace, data = packet as base64.

    Every namespace takes one request that stays open, as in browsers; packets are published by one short request each,
    over connections that are kept for the next one, eight at the same time. HTTP/1.1 only. Redirects are not
    followed, so that headers go nowhere else; proxies of the environment are not used; cookies are not kept.

    The driver is active unless one of its streams could not be opened or was lost. The hub sends packets also to who
    published them; `Room` ignores its own.

    A stream that says nothing is not given up by itself, since hubs need not send comments: TCP's own keep-alive finds
    out within a minute that a host is gone. Where the hub is known to send comments (this package's every 20 s, that of
    Mercure every 40 s), `max_silence` also finds out about a hub, or a proxy before it, that hangs.

    Args:
        url: ``http://host/path`` or ``https://host/path``, for example of the hub ``/.well-known/mercure``; a query is
            kept, and ``topic=…`` appended to it.
        subscriber: headers of the requests for streams.
        publisher: headers of the requests that publish.
        token: sent as ``Authorization: Bearer …`` with both; in plain text without TLS.
        tls: for ``https``; None: the system's authorities.
        timeout: seconds until a stream is open, and until a packet is taken.
        max_silence: seconds after which a stream that says nothing, not even a comment, is lost; None: never.
        max_reconnect_delay: seconds between attempts to open a stream, at most; so long is waited, too, if the hub
            wants more (``retry:``, ``Retry-After``), or refuses a stream that it has given before.

    Attributes:
        counts: ``driver_connected`` (streams that were opened), ``driver_lost``, ``driver_unreachable`` (attempts that
            failed), ``driver_malformed`` (events whose data are no base64), and those of `Driver`;
            ``driver_unwanted`` also counts events of other types than ``message``.

    Raises:
        ValueError: the URL can not be, a header is none, or there are two Authorization headers; or a TLS context that
            would speak less than TLS 1.2.
    """

    def __init__(
        self,
        url: str,
        *,
        subscriber: Mapping[str, str] | None = None,
        publisher: Mapping[str, str] | None = None,
        token: str | None = None,
        tls: ssl.SSLContext | None = None,
        timeout: float = 10.0,
        max_silence: float | None = None,
        max_reconnect_delay: float = 30.0,
        random: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(timeout=timeout)
        for name, value in (("max_reconnect_delay", max_reconnect_delay), ("max_silence", max_silence)):
            if value is not None and not value > 0:
                raise ValueError(f"expected a positive {name}, not {value!r}")
        if tls is not None:
            check_tls(tls)
        self._url: Final = parse_broker_url(url, _SCHEMES)
        self._tls: Final = tls
        self._stream_headers: Final = make_headers(_FOR_STREAMS, subscriber, token)
        self._post_headers: Final = make_headers(_FOR_POSTS, publisher, token)
        self._max_silence: Final = max_silence
        self._longest: Final = max_reconnect_delay
        self._random: Final = random
        self._sources: Final[dict[str, SseSource]] = {}
        self._new: Final[list[SseSource]] = []  # of those, the ones that do not run yet
        self._wanted_changed = trio.Event()
        self._pool: HttpPool | None = None

    def __repr__(self) -> str:
        return f"<SseDriver {self._url.shown}, {'active' if self.active else 'inactive'}>"

    def check_namespace(self, namespace: str) -> None:
        """See `Driver`."""
        super().check_namespace(namespace)
        if not namespace.isprintable() or not _PATTERN.isdisjoint(namespace):
            raise ValueError(f"expected a printable namespace that is no pattern of Mercure, not {namespace!r}")

    async def run(self) -> None:
        """See `Driver`."""
        self._pool = HttpPool(self._url, self._tls, _POSTS)
        try:
            async with trio.open_nursery() as nursery:
                while True:
                    self._wanted_changed = trio.Event()
                    while self._new:
                        nursery.start_soon(self._new.pop().run)
                    self._look()
                    await self._wanted_changed.wait()
        finally:
            self._pool.close()
            self._pool = None
            self._new.clear()
            for source in self._sources.values():
                source.settle("the driver was closed")
            self._sources.clear()

    def _look(self) -> None:
        """Sees whether packets are carried."""
        reason = next((source.reason for source in self._sources.values() if source.reason), "")
        if reason:
            self.deactivate(reason)
        else:
            self.activate()

    def _target(self, namespace: str) -> str:
        target = self._url.target.target
        return f"{target}{'&' if '?' in target else '?'}topic={quote_plus(namespace)}"

    def _open_source(self, namespace: str) -> SseSource:
        source = self._sources[namespace] = SseSource(
            self._target(namespace),
            partial(dial_http, self._url, self._tls),
            self._stream_headers,
            random=self._random,
            longest=self._longest,
            timeout=self._timeout,
            max_silence=self._max_silence,
            counts=self.counts,
            on_data=partial(self._receive, namespace),
            on_change=self._look,
            on_error=self.fail,
        )
        self._new.append(source)
        self._wanted_changed.set()
        return source

    async def _subscribe(self, namespace: str) -> None:
        await trio.lowlevel.checkpoint()
        source = self._sources.get(namespace)
        if source is None or source.refusal:
            source = self._open_source(namespace)
        while not source.up:
            if source.refusal:
                raise DriverError(source.refusal)
            await source.changed.park()

    def _dropped(self, namespace: str) -> None:
        source = self._sources.pop(namespace, None)
        if source is not None:
            source.scope.cancel()
            # Not at once: who gives up a stream that could not be opened is told why the driver is inactive.
            self._wanted_changed.set()

    async def _unsubscribe(self, namespace: str) -> None:
        await trio.lowlevel.checkpoint()

    def _receive(self, namespace: str, data: str) -> None:
        packet: bytes | None = None
        with suppress(binascii.Error, ValueError):
            packet = base64.b64decode(data, validate=True)
        if packet is None:
            self.counts["driver_malformed"] += 1
        else:
            self.deliver(namespace, packet)

    async def _publish(self, namespace: str, packet: bytes) -> None:
        if self._pool is None:
            raise DriverError(f"the driver is inactive: {self._why_inactive}")
        form = f"topic={quote_plus(namespace)}&data={quote_plus(base64.b64encode(packet))}".encode("ascii")
        status = 0
        async with self._pool.connection() as connection:
            answer = await connection.request("POST", self._target(namespace), self._post_headers, form)
            status = answer.status
        if not 200 <= status < 300:
            raise DriverError(describe_status(status))
