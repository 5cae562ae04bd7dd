"""The life of one server: the listener of its own, if it has one, and its polite end."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from typing import Final

import trio

from ..limits import Limits
from ..transports.admission import Admission, TransportStatistics
from ..transports.http import serve_http
from ..transports.routes import Route

__all__ = ["Life", "make_admission", "require_unchanged"]


class Life:
    """Of a server that runs in a nursery; its handle has one.

    Args:
        nursery: of the server; cancelled at its end.
        ended: set by the server's task when everything has ended.

    Attributes:
        addresses: the ``host:port`` of each listener; empty if it has none of its own.
    """

    def __init__(self, nursery: trio.Nursery, ended: trio.Event) -> None:
        self._nursery: Final = nursery
        self._ended: Final = ended
        self._listening: Final = trio.CancelScope()
        self.addresses: tuple[str, ...] = ()

    async def listen(
        self,
        addresses: Sequence[str],
        routes: Sequence[Route],
        *,
        limits: Limits,
        admission: Admission,
        tls: ssl.SSLContext | None,
    ) -> None:
        """Listens until `close`; returns when it does.

        Raises:
            OSError: it can not.
        """

        async def serve(*, task_status: trio.TaskStatus[list[str]]) -> None:
            with self._listening:
                await serve_http(
                    addresses,
                    routes,
                    limits=limits,
                    admission=admission,
                    tls=tls,
                    handler_nursery=self._nursery,
                    task_status=task_status,
                )

        self.addresses = tuple(await self._nursery.start(serve))

    async def close(self, drain: Callable[[], Awaitable[None]]) -> None:
        """Stops listening, drains, ends the server, and returns when it has ended; idempotent."""
        self._listening.cancel()
        try:
            await drain()
        finally:
            self._nursery.cancel_scope.cancel()
        await self._ended.wait()


def make_admission(limits: Limits, sockets: int = 0) -> Admission:
    """For a listener of a server's own, with room for so many sockets, and strangers, unless somebody chose."""
    if sockets and limits.connections == Limits().connections:
        limits = replace(limits, connections=max(limits.connections, sockets + limits.unproven_connections))
    return Admission(limits, TransportStatistics())


def require_unchanged(server: str, fixed: Collection[str], before: object, after: object) -> None:
    """Sees to it that a new configuration keeps the options that can not be changed.

    Raises:
        ValueError: it does not; the message names the option.
    """
    for name in sorted(fixed):
        if getattr(after, name) != getattr(before, name):
            raise ValueError(f"expected the {name} that the {server} was started with: it can not be changed")
