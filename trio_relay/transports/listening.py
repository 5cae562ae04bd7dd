"""Accepting TCP connections for ever."""

from __future__ import annotations

import errno
import logging
import select
import socket
import sys
from collections.abc import Callable
from typing import Final, NoReturn, TypeAlias

import trio

from ..wire.addresses import join_host_port
from .admission import Ending, TransportStatistics

__all__ = ["Addresses", "Listener"]

logger = logging.getLogger("trio_relay.http")

Addresses: TypeAlias = tuple[str, str]
"""The remote and the local ``host:port`` of a connection."""

Serve: TypeAlias = Callable[[trio.SocketStream, Addresses], object]

_AT_ONCE: Final = 4
"""Connections that one listener accepts in one turn of Trio's loop."""
_PAUSE: Final = 0.1
"""Seconds until it is tried again where there was no room for a socket."""
_NO_ROOM: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
_PASSING: Final = frozenset(
    getattr(errno, name)
    for name in (
        "ECONNABORTED",
        "EHOSTDOWN",
        "EHOSTUNREACH",
        "ENETDOWN",
        "ENETUNREACH",
        "ENONET",
        "ENOPROTOOPT",
        "EOPNOTSUPP",
        "EPERM",
        "EPROTO",
        "ETIMEDOUT",
    )
    if hasattr(errno, name)
)
"""Of a connection that was lost before it was accepted (Linux's accept(2)); the next one may be good."""


class Listener:
    """A listening TCP socket.

    Args:
        listener: belongs to this object from now on.

    Attributes:
        bound: its ``host:port``.
    """

    def __init__(self, listener: trio.SocketListener) -> None:
        self._socket: Final = socket.socket(fileno=listener.socket.detach())
        self._socket.setblocking(False)
        self._poll: Final = select.poll() if sys.platform != "win32" else None
        if self._poll is not None:
            self._poll.register(self._socket, select.POLLIN)
        self.bound: Final = join_host_port(*self._socket.getsockname()[:2])

    async def accept(self, serve: Serve, statistics: TransportStatistics) -> NoReturn:
        """Calls `serve` with each connection, for ever; when it is cancelled, it does not listen any more.

        Raises:
            OSError: the socket can not be listened on any more.
        """
        try:
            while True:
                await trio.lowlevel.wait_readable(self._socket)
                try:
                    self._accept_some(serve)
                except OSError as error:
                    if error.errno in _PASSING:
                        continue
                    statistics.count(Ending.DESCRIPTORS_EXHAUSTED)
                    if error.errno not in _NO_ROOM:
                        raise
                    logger.error("could not accept a connection: %s; trying again in %g s", error, _PAUSE)
                    await trio.sleep(_PAUSE)
        finally:
            self.close()

    def _accept_some(self, serve: Serve) -> None:
        """Those that are there, up to `_AT_ONCE`."""
        for _ in range(_AT_ONCE):
            try:
                accepted, address = self._socket.accept()
            except BlockingIOError:
                return
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(accepted))
            local = sys.intern(join_host_port(*accepted.getsockname()[:2]))
            serve(stream, (join_host_port(*address[:2]), local))
            # Asking costs much less than to try in vain.
            if self._poll is not None and not self._poll.poll(0):
                return

    def close(self) -> None:
        """Stops listening; idempotent."""
        if self._socket.fileno() != -1:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
