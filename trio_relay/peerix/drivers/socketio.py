"""The driver for Socket.IO servers."""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

from ...limits import Limits
from ...transports.dial import dial_websocket
from ...transports.streams import check_tls
from ...wire.json import JSONValue
from ..socketio.packets import MAX_NAMESPACE, ROOT, encode_connect
from .broker_url import Scheme, parse_broker_url
from .connected import BrokerSession, ConnectedDriver
from .http_headers import make_headers
from .socketio_session import MAX_MESSAGE, SocketIoSession

__all__ = ["SocketIoDriver"]

_SCHEMES: Final = {
    "http": Scheme(80, websocket=True),
    "https": Scheme(443, secure=True, websocket=True),
    "ws": Scheme(80, websocket=True),
    "wss": Scheme(443, secure=True, websocket=True),
}
_PREFIX: Final = re.compile(r"[ -~]{0,64}")
_PATH: Final = re.compile(r"/[!-~]*")
_LIMITS: Final = Limits(read_size=16 * 1024, close_timeout=1.0)


class SocketIoDriver(ConnectedDriver):
    """Carries packets over a Socket.IO server (version 3 or later) that knows the events of Peerix.

    These are, behind `prefix`: ``subscribe``, ``unsubscribe`` and ``publish``, which the server answers, and
    ``message``, which it sends to all others that have subscribed. The hub of this package is such a server. An answer
    without arguments is a yes; text, or an object with the text ``message`` or ``error``, as its first argument is a
    refusal; anything else is a yes.

    Only WebSockets are spoken: a server that allows nothing but long polling can not be used. A connection is given up
    when the server has not pinged in the time that it has announced.

    Args:
        url: ``http://host:port``, ``https://host:port``, or with ``ws`` and ``wss``; with a query, if the server wants
            one.
        prefix: put before the names of events, without a separator; the hub of this package, and the examples of
            Peerix, have ``peerix:``.
        path: where the server is.
        namespace: of Socket.IO.
        auth: an object that the server is shown; in plain text without TLS.
        headers: of the request for the WebSocket.
        tls: for TLS; None: the system's authorities.
        timeout, max_reconnect_delay: see `ConnectedDriver`.

    Attributes:
        counts: ``driver_malformed`` (messages in which there is no packet), and those of `ConnectedDriver`;
            ``driver_unwanted`` also counts events of other names and namespaces.

    Raises:
        ValueError: the URL, the prefix, the path, the namespace, or a header can not be; or a TLS context that would
            speak less than TLS 1.2.
        LocalProtocolError: `auth` has no JSON form.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "",
        path: str = "/socket.io/",
        namespace: str = ROOT,
        auth: Mapping[str, JSONValue] | None = None,
        headers: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        timeout: float = 10.0,
        max_reconnect_delay: float = 30.0,
    ) -> None:
        super().__init__(timeout=timeout, max_reconnect_delay=max_reconnect_delay)
        parsed = parse_broker_url(url, _SCHEMES)
        in_url, _, query = parsed.target.target.partition("?")
        if in_url != "/":
            raise ValueError("expected a URL without a path: path and namespace are arguments of their own")
        if _PREFIX.fullmatch(prefix) is None:
            raise ValueError(f"expected a prefix of at most 64 printable characters, not {prefix!r}")
        if _PATH.fullmatch(path) is None or not {"?", "#"}.isdisjoint(path):
            raise ValueError(f"expected a path like /socket.io/, not {path!r}")
        if not namespace.startswith("/") or len(namespace) > MAX_NAMESPACE or not {",", "?"}.isdisjoint(namespace):
            raise ValueError(f"expected a namespace like /name, not {namespace!r}")
        if tls is not None:
            check_tls(tls)
        target = f"{path}?{query}{'&' if query else ''}EIO=4&transport=websocket"
        self._shown: Final = parsed.shown
        self._url: Final = str(replace(parsed.target, target=target))
        self._prefix: Final = prefix
        self._namespace: Final = namespace
        self._auth: Final = None if auth is None else dict(auth)
        encode_connect(self._auth)
        self._headers: Final = make_headers({}, headers)
        self._tls: Final = tls

    def __repr__(self) -> str:
        return f"<SocketIoDriver {self._shown}, {'active' if self.active else 'inactive'}>"

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[BrokerSession]:
        """See `ConnectedDriver`."""
        connection = await dial_websocket(
            self._url,
            limits=_LIMITS,
            ssl_context=self._tls,
            subprotocol=False,
            max_message=MAX_MESSAGE,
            more_headers=self._headers,
        )
        session = SocketIoSession(self, connection, self._prefix, self._namespace)
        try:
            await session.greet(self._auth)
            yield session
        finally:
            await session.aclose()

    async def _publish(self, namespace: str, packet: bytes) -> None:
        await super()._publish(namespace, packet)
        self.deliver_own(namespace, packet)
