"""One port: listens, admits, secures and converses, and hands WebSocket connections to their routes."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Sequence
from functools import partial
from typing import NoReturn

import trio

from ..exceptions import RemoteProtocolError
from ..limits import Limits
from ..wire.addresses import parse_listen
from ..wire.websocket import Role
from .admission import EXPECTED_FAILURES, Admission, Ending, Ticket, ending_of
from .conversation import Conversation, Upgrade, upgrade_at_once
from .direct import DIRECT_POSSIBLE, read_now
from .listening import Addresses, Listener
from .routes import Route, RouteTable
from .streams import check_tls, close_now, stream_addresses
from .websocket import WebSocketConnection

__all__ = ["HttpServer", "serve_http"]


async def serve_http(
    listen: str | Sequence[str],
    routes: Sequence[Route],
    *,
    limits: Limits,
    admission: Admission,
    tls: ssl.SSLContext | None = None,
    handler_nursery: trio.Nursery | None = None,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> NoReturn:
    """Serves HTTP/1.1 and WebSockets for ever; reports the bound ``host:port`` of every listener when it listens.

    When the process is out of descriptors, accepting goes on as soon as there are some again.

    Args:
        listen: like ``127.0.0.1:0``, ``[::1]:0``, ``localhost:8000``, or several of them.
        routes: who serves which paths.
        limits: the bounds on heads, times, messages.
        admission: bounds the accepted sockets, over all servers of one node.
        tls: for TLS from version 1.2 on.
        handler_nursery: where connections live; by default they end with this call.

    Raises:
        ValueError: an address, the routes or the TLS context are unusable.
        OSError: an address cannot be listened on.
    """
    endpoints = [parse_listen(text) for text in ([listen] if isinstance(listen, str) else listen)]
    server = HttpServer(RouteTable(routes), limits=limits, admission=admission, tls=tls)
    listeners: list[Listener] = []
    try:
        for endpoint in endpoints:
            listeners += map(Listener, await trio.open_tcp_listeners(endpoint.port, host=endpoint.host))
        async with trio.open_nursery() as nursery:
            handlers = nursery if handler_nursery is None else handler_nursery

            def serve(stream: trio.SocketStream, addresses: Addresses) -> None:
                handlers.start_soon(server.serve_stream, stream, addresses)

            for listener in listeners:
                nursery.start_soon(listener.accept, serve, admission.statistics)
            task_status.started([listener.bound for listener in listeners])
    finally:
        for listener in listeners:
            listener.close()
    raise AssertionError("a listener stopped")


class HttpServer:
    """What `serve_http` does with each accepted stream; of use without a listener, for example in tests.

    Raises:
        ValueError: the TLS context would speak less than TLS 1.2.
    """

    def __init__(
        self, table: RouteTable, *, limits: Limits, admission: Admission, tls: ssl.SSLContext | None = None
    ) -> None:
        if tls is not None:
            check_tls(tls)
        self._table = table
        self._limits = limits
        self._admission = admission
        self._tls = tls

    async def serve_stream(self, stream: trio.abc.Stream, addresses: Addresses | None = None) -> None:
        """Serves one client to the end and closes the stream. Expected failures are counted, not raised.

        Args:
            addresses: default: those of the stream.
        """
        ticket = self._admission.admit(partial(close_now, stream))
        if ticket is None:
            close_now(stream)
            return
        try:
            accepted = await self._accept(stream, ticket, addresses)
            if accepted is None:
                return
            connection, running = accepted
            del accepted, addresses
            # Here an idle connection waits: what it took to accept it is off the stack.
            try:
                await running
                await connection.aclose()
            except RemoteProtocolError as violation:
                await connection.aclose(violation.close_code)
                raise
            finally:
                connection.abort()
        except* EXPECTED_FAILURES as failures:
            if not ticket.evicted:
                self._admission.statistics.count(ending_of(failures))
        finally:
            self._admission.release(ticket)
            close_now(stream)

    async def _accept(
        self, stream: trio.abc.Stream, ticket: Ticket, addresses: Addresses | None
    ) -> tuple[WebSocketConnection, Awaitable[None]] | None:
        """The WebSocket that one client asked for and what its route does with it; None when the client is done."""
        since = trio.current_time()
        addresses = addresses or stream_addresses(stream)
        if self._tls is not None:
            secured = await self._secure(stream, self._tls)
            if secured is None:
                return None
            stream = secured
        upgrade = await self._converse(stream, addresses, since, ticket)
        if upgrade is None:
            with trio.move_on_after(self._limits.close_timeout):  # TLS says goodbye
                await stream.aclose()
            return None
        connection = WebSocketConnection(
            stream,
            Role.SERVER,
            limits=self._limits,
            offered_subprotocol=upgrade.offered_subprotocol,
            received=upgrade.received,
            max_message=upgrade.route.max_message,
            raw=upgrade.route.raw,
            addresses=addresses,
        )
        if upgrade.answer:
            connection.lead_with(upgrade.answer, wait=upgrade.route.speaks_first)
        self._admission.upgraded(ticket, connection)
        return connection, upgrade.handler(connection, upgrade.request)

    async def _converse(
        self, stream: trio.abc.Stream, addresses: Addresses, since: float, ticket: Ticket
    ) -> Upgrade | None:
        """The upgrade that the client asked for, usually with the first that it says; None when it is done."""
        received: bytes | None = None
        if isinstance(stream, trio.SocketStream) and DIRECT_POSSIBLE:
            received = await self._read_first(stream, since)
            upgrade = upgrade_at_once(received or b"", self._table, self._limits, addresses, since)
            if upgrade is not None:
                self._admission.statistics.requests += 1
                return upgrade
        return await Conversation(
            stream,
            self._table,
            limits=self._limits,
            statistics=self._admission.statistics,
            secure=self._tls is not None,
            since=since,
            addresses=addresses,
            received=received,
            held=partial(self._admission.held, ticket),
        ).run()

    async def _read_first(self, stream: trio.SocketStream, since: float) -> bytes | None:
        """What the client sends first, nothing at the end of the stream; None: it sends nothing in time.

        Raises:
            OSError: the connection broke.
            trio.ClosedResourceError: it was closed on our side.
        """
        data = read_now(stream.socket.fileno(), self._limits.http_head)
        if data is None:
            with trio.move_on_at(since + self._limits.http_timeout):
                await trio.lowlevel.wait_readable(stream.socket.fileno())
                data = read_now(stream.socket.fileno(), self._limits.http_head)
        return data

    async def _secure(self, stream: trio.abc.Stream, context: ssl.SSLContext) -> trio.abc.Stream | None:
        """The stream under TLS; None when the handshake failed or took too long."""
        secured = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        ending = Ending.TLS_TIMEOUT
        with trio.move_on_after(self._limits.handshake_timeout):
            try:
                await secured.do_handshake()
                return secured
            except trio.BrokenResourceError:
                ending = Ending.TLS_FAILED
        self._admission.statistics.count(ending)
        return None
