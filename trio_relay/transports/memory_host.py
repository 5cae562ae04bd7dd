"""One host of a `MemoryNetwork`: it listens under its name and dials others."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, NoReturn

import trio

from ..exceptions import HandshakeError
from .admission import EXPECTED_FAILURES, TransportStatistics, ending_of
from .routes import Handler, RouteTable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .connection import Connection
    from .memory import MemoryNetwork
    from .memory_connection import MemoryConnection
    from .routes import Route

__all__ = ["MemoryHost"]

SCHEME = "memory://"


class MemoryHost:
    """A `Transport`; made by `MemoryNetwork.host`.

    Attributes:
        handler_nursery: where accepted connections live; None: they end with `serve`.
    """

    def __init__(self, network: MemoryNetwork, name: str) -> None:
        self.name = name
        self.handler_nursery: trio.Nursery | None = None
        self._statistics = TransportStatistics()
        self._network = network
        self._table: RouteTable | None = None
        self._backlog: trio.MemorySendChannel[tuple[Handler, MemoryConnection]] | None = None

    def __repr__(self) -> str:
        return f"<MemoryHost {self.name}, {'listening' if self._backlog else 'not listening'}>"

    @property
    def scheme(self) -> str:
        """``memory``."""
        return "memory"

    @property
    def statistics(self) -> TransportStatistics:
        """How accepted connections ended."""
        return self._statistics

    def proven(self, connection: Connection) -> None:
        """See `Transport.proven`; nothing is evicted here."""

    async def serve(
        self,
        listen: str,
        routes: Sequence[Route],
        *,
        task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
    ) -> NoReturn:
        """Accepts connections for ever; reports its name when it listens. Handlers get no request.

        Raises:
            ValueError: `listen` is not this host's name or URL.
            OSError: the host listens already.
        """
        if listen.removeprefix(SCHEME) != self.name:
            raise ValueError(f"expected {self.name} to listen on, not {listen!r}")
        if self._backlog is not None:
            raise OSError(errno.EADDRINUSE, f"memory host {self.name} listens already")
        backlog: trio.MemorySendChannel[tuple[Handler, MemoryConnection]]
        backlog, arrivals = trio.open_memory_channel(self._network.limits.unproven_connections)
        self._backlog, self._table = backlog, RouteTable(routes)
        try:
            async with trio.open_nursery() as nursery:
                task_status.started([self.name])
                while True:
                    handler, connection = await arrivals.receive()
                    (self.handler_nursery or nursery).start_soon(self._run, handler, connection)
        finally:
            self._backlog = None
            backlog.close()
            while arrivals.statistics().current_buffer_used:
                arrivals.receive_nowait()[1].abort()
        raise AssertionError("unreachable")

    async def dial(
        self,
        url: str,
        *,
        subprotocol: bool = True,
        allow_address: Callable[[str], bool] | None = None,
        max_message: int | None = None,
    ) -> MemoryConnection:
        """Opens a connection to ``memory://NAME`` or ``memory://NAME/path``; takes one round trip.

        Args:
            url: where to.
            subprotocol: what `offered_subprotocol` is at both ends.
            allow_address: asked for the name.
            max_message: without meaning here.

        Raises:
            ValueError: `url` is not of that form.
            OSError: nobody listens there, or a partition is in between.
            HandshakeError: the address is not allowed, or no route there takes connections.
        """
        name, slash, path = url.removeprefix(SCHEME).partition("/")
        if not url.startswith(SCHEME) or not name:
            raise ValueError(f"expected a URL like memory://NAME, not {url!r}")
        if allow_address is not None and not allow_address(name):
            raise HandshakeError(f"dialling {name} is not allowed")
        await trio.sleep(2 * self._network.faults.latency)
        return self._network.host(name).accept(self.name, slash + path or "/", subprotocol=subprotocol)

    def accept(self, dialler: str, path: str, *, subprotocol: bool) -> MemoryConnection:
        """The dialler's end of a new connection to this host; errors as those of `dial`."""
        if self._backlog is None or self._table is None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"memory host {self.name} does not listen")
        route = self._table.find(path)
        if route is None or route.upgrade is None or (route.guard or route.check) is not None:
            raise HandshakeError(f"no connections are taken at {path} of memory host {self.name}")
        theirs, ours = self._network.connect(dialler, self.name, subprotocol=subprotocol)
        try:
            self._backlog.send_nowait((route.upgrade, ours))
        except trio.WouldBlock:
            ours.abort()
            theirs.abort()
            raise ConnectionRefusedError(
                errno.ECONNREFUSED, f"the backlog of memory host {self.name} is full"
            ) from None
        return theirs

    async def _run(self, handler: Handler, connection: MemoryConnection) -> None:
        self._statistics.accepted += 1
        try:
            await handler(connection, None)
            await connection.aclose()
        except* EXPECTED_FAILURES as failures:
            self._statistics.count(ending_of(failures))
        finally:
            connection.abort()
