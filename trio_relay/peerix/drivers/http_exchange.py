"""Connections to brokers that are spoken to by requests: dialled, and kept for the next request.

Proxies of the environment are not looked for.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import trio

from ...exceptions import DriverError, HandshakeError, RemoteProtocolError
from ...limits import Limits
from ...transports.dial import dial_stream
from ...transports.http_client import HttpConnection, socket_beneath
from .broker_url import BrokerUrl
from .connected import explain

__all__ = ["HTTP_FAILURES", "LIMITS", "HttpPool", "dial_http"]

LIMITS: Final = Limits(read_size=16 * 1024, http_head=16 * 1024)
HTTP_FAILURES: Final = (RemoteProtocolError, trio.BrokenResourceError, trio.ClosedResourceError)
"""How a request can fail."""
_IDLE: Final = 4.0
"""Seconds that an idle connection is kept; many servers close it after 5."""
_PROBES: Final = {"TCP_KEEPIDLE": 20, "TCP_KEEPALIVE": 20, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}
"""A host that is gone is noticed after some 40 s, where the system can do so; TCP_KEEPALIVE is the idle time there
where TCP_KEEPIDLE does not exist."""


async def dial_http(url: BrokerUrl, ssl_context: ssl.SSLContext | None) -> HttpConnection:
    """Opens a connection to a server. The caller sets the deadline; a cancelled call leaves no socket behind.

    Raises:
        DriverError: the server can not be reached, or TLS failed.
    """
    try:
        stream = await dial_stream(url.target, limits=LIMITS, ssl_context=ssl_context)
    except (OSError, HandshakeError, UnicodeError) as error:
        raise DriverError(getattr(error, "strerror", None) or str(error) or type(error).__name__) from error
    beneath = socket_beneath(stream)
    if beneath is not None:
        beneath.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _PROBES.items():
            if hasattr(socket, name):
                beneath.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return HttpConnection(stream, url.target.host_header, LIMITS)


class HttpPool:
    """Connections to one server for short requests; `most` at once, further requests wait.

    Args:
        url, ssl_context: see `dial_http`.
    """

    def __init__(self, url: BrokerUrl, ssl_context: ssl.SSLContext | None, most: int) -> None:
        self._url: Final = url
        self._ssl_context: Final = ssl_context
        self._places: Final = trio.Semaphore(most)
        self._idle: Final[list[tuple[float, HttpConnection]]] = []
        self._closed = False

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[HttpConnection]:
        """A connection for one request; if that ends well, another one can use it later.

        Raises:
            DriverError: see `dial_http`; also for what fails in the block.
        """
        async with self._places:
            connection = self._take_idle() or await dial_http(self._url, self._ssl_context)
            reusable = False
            try:
                yield connection
                with suppress(*HTTP_FAILURES):
                    reusable = await connection.drain() and not self._closed
            except HTTP_FAILURES as failure:
                raise DriverError(explain(failure)) from failure
            finally:
                if reusable:
                    self._idle.append((trio.current_time(), connection))
                else:
                    connection.close()

    def _take_idle(self) -> HttpConnection | None:
        found: HttpConnection | None = None
        oldest = trio.current_time() - _IDLE
        while self._idle and found is None:
            since, connection = self._idle.pop()
            if since >= oldest and not connection.stale:
                found = connection
            else:
                connection.close()
        return found

    def close(self) -> None:
        """Closes those that are idle; those in use are closed by their users."""
        self._closed = True
        while self._idle:
            self._idle.pop()[1].close()
