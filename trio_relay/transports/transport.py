"""How a node listens and dials, whatever lies below."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import NoReturn, Protocol

import trio

from ..limits import Limits
from .admission import Admission, TransportStatistics
from .connection import Connection
from .dial import AllowAddress, dial_websocket
from .http import serve_http
from .routes import Route
from .websocket import WebSocketConnection

__all__ = ["Transport", "WebSocketTransport"]


class Transport(Protocol):
    """Listens and dials; `WebSocketTransport` and `MemoryHost` are of this shape."""

    @property
    def scheme(self) -> str:
        """Of the URLs at which this side can be dialled."""
        ...

    @property
    def statistics(self) -> TransportStatistics:
        """How accepted connections ended."""
        ...

    def proven(self, connection: Connection) -> None:
        """The peer of an accepted connection proved who it is: it is not closed to make room for newer ones."""
        ...

    async def serve(
        self,
        listen: str,
        routes: Sequence[Route],
        *,
        task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
    ) -> NoReturn:
        """Serves for ever; once it listens, reports where: what follows ``scheme://`` in a URL.

        Raises:
            ValueError: `listen` or the routes are unusable.
            OSError: `listen` cannot be listened on.
        """
        ...

    async def dial(
        self,
        url: str,
        *,
        subprotocol: bool = True,
        allow_address: AllowAddress | None = None,
        max_message: int | None = None,
    ) -> Connection:
        """Opens a connection; the caller sets the deadline.

        Raises:
            ValueError: `url` is unusable.
            OSError: the host cannot be reached.
            HandshakeError: the other side, or `allow_address`, refused.
        """
        ...


class WebSocketTransport:
    """WebSockets over TCP, with TLS if wanted.

    Args:
        limits: of the node.
        tls: for listening.
        client_tls: for dialling ``wss``; default: the system's authorities.
        handler_nursery: where accepted connections live; by default they end with `serve`.

    Attributes:
        admission: over all `serve` calls of this transport; the node says there which peers are proven.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        tls: ssl.SSLContext | None = None,
        client_tls: ssl.SSLContext | None = None,
        handler_nursery: trio.Nursery | None = None,
    ) -> None:
        self.admission = Admission(limits, TransportStatistics())
        self._limits = limits
        self._tls = tls
        self._client_tls = client_tls
        self._handler_nursery = handler_nursery

    @property
    def scheme(self) -> str:
        """``ws``, or ``wss`` when listening is under TLS."""
        return "ws" if self._tls is None else "wss"

    @property
    def statistics(self) -> TransportStatistics:
        """How accepted connections ended."""
        return self.admission.statistics

    def proven(self, connection: Connection) -> None:
        """See `Transport.proven`."""
        self.admission.proven(connection)

    async def serve(
        self,
        listen: str,
        routes: Sequence[Route],
        *,
        task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
    ) -> NoReturn:
        """See `Transport.serve` and `serve_http`."""
        await serve_http(
            listen,
            routes,
            limits=self._limits,
            admission=self.admission,
            tls=self._tls,
            handler_nursery=self._handler_nursery,
            task_status=task_status,
        )

    async def dial(
        self,
        url: str,
        *,
        subprotocol: bool = True,
        allow_address: AllowAddress | None = None,
        max_message: int | None = None,
    ) -> WebSocketConnection:
        """See `Transport.dial` and `dial_websocket`."""
        return await dial_websocket(
            url,
            limits=self._limits,
            ssl_context=self._client_tls,
            subprotocol=subprotocol,
            allow_address=allow_address,
            max_message=max_message,
        )
