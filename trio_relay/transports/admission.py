"""Which accepted sockets may stay, and how connections ended.

A socket is admitted when it was accepted and is unproven until the node says otherwise. Silent strangers
therefore push out one another, oldest first, and never a peer that proved who it is.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import trio

from ..exceptions import RemoteProtocolError
from ..limits import Limits
from .connection import Connection

__all__ = ["EXPECTED_FAILURES", "Admission", "Ending", "Ticket", "TransportStatistics", "ending_of"]


class Ending(enum.StrEnum):
    """Why an accepted connection, or the attempt to accept one, ended before its time."""

    DESCRIPTORS_EXHAUSTED = "descriptors_exhausted"
    """The process or the machine had no room for a socket; accepting goes on a moment later."""
    CONNECTIONS_FULL = "connections_full"
    UNPROVEN_EVICTED = "unproven_evicted"
    TLS_FAILED = "tls_failed"
    TLS_TIMEOUT = "tls_timeout"
    HTTP_TIMEOUT = "http_timeout"
    """No complete request in time, or its response was not read in time."""
    HTTP_REFUSED = "http_refused"
    """Not HTTP/1.1, or too large."""
    UPGRADE_REFUSED = "upgrade_refused"
    RESPONDER_FAILED = "responder_failed"
    """An exception in what a route answers requests with, or guards upgrades with; a connection may go on."""
    PROTOCOL_ERROR = "protocol_error"
    BROKEN = "broken"
    CLOSED = "closed"
    """Closed on our side while it was in use."""
    TIMEOUT = "timeout"
    """A deadline of the code above the transport."""


_ENDINGS: Final[dict[type[Exception], Ending]] = {
    RemoteProtocolError: Ending.PROTOCOL_ERROR,
    trio.BrokenResourceError: Ending.BROKEN,
    trio.ClosedResourceError: Ending.CLOSED,
    trio.TooSlowError: Ending.TIMEOUT,
    OSError: Ending.BROKEN,
}
EXPECTED_FAILURES: Final = tuple(_ENDINGS)
"""What may end one connection and nothing else."""


def ending_of(failures: BaseExceptionGroup[Exception]) -> Ending:
    """Why a connection ended, from a group of `EXPECTED_FAILURES`; of several the first in their order."""
    return next(ending for kind, ending in _ENDINGS.items() if failures.subgroup(kind) is not None)


class TransportStatistics:
    """How often each `Ending` occurred, and how many connections were accepted and upgraded."""

    def __init__(self) -> None:
        self.accepted = 0
        self.upgraded = 0
        self.requests = 0
        self._endings: Counter[Ending] = Counter()

    def count(self, ending: Ending) -> None:
        """Records one ending."""
        self._endings[ending] += 1

    def __getitem__(self, ending: Ending) -> int:
        return self._endings[ending]

    def snapshot(self) -> dict[str, int]:
        """All counts by name; endings that never occurred are left out."""
        counts = {"accepted": self.accepted, "upgraded": self.upgraded, "requests": self.requests}
        return counts | {ending.value: count for ending, count in self._endings.items()}

    def __repr__(self) -> str:
        return f"<TransportStatistics {self.snapshot()}>"


class Ticket:
    """The place of one accepted socket.

    Attributes:
        evicted: whether the socket had to make room for a newer one and was closed.
    """

    __slots__ = ("_close", "connection", "evicted")

    def __init__(self, close: Callable[[], None]) -> None:
        self._close: Final = close
        self.connection: Connection | None = None
        self.evicted = False

    def evict(self) -> None:
        """Closes the socket at once."""
        self.evicted = True
        if self.connection is None:
            self._close()
        else:
            self.connection.abort()


class Admission:
    """The accepted sockets of one node, over all of its listeners.

    Args:
        limits: `connections` and `unproven_connections` are read.
        statistics: where refusals and evictions are counted; an attribute, too.
    """

    def __init__(self, limits: Limits, statistics: TransportStatistics) -> None:
        self._limits = limits
        self.statistics = statistics
        self._admitted = 0
        # Insertion order is age.
        self._unproven: dict[Ticket, None] = {}
        self._tickets: dict[Connection, Ticket] = {}

    @property
    def admitted(self) -> int:
        """Accepted sockets that are open."""
        return self._admitted

    @property
    def unproven(self) -> int:
        """Those of them whose peer has proven nothing yet."""
        return len(self._unproven)

    def admit(self, close: Callable[[], None]) -> Ticket | None:
        """Takes in a socket that `close` closes at once; None when there is no room for it.

        May evict the oldest unproven socket.
        """
        if self._admitted >= self._limits.connections:
            self.statistics.count(Ending.CONNECTIONS_FULL)
            return None
        while len(self._unproven) >= self._limits.unproven_connections:
            oldest = next(iter(self._unproven))
            del self._unproven[oldest]
            self.statistics.count(Ending.UNPROVEN_EVICTED)
            oldest.evict()
        self._admitted += 1
        self.statistics.accepted += 1
        ticket = Ticket(close)
        self._unproven[ticket] = None
        return ticket

    def upgraded(self, ticket: Ticket, connection: Connection) -> None:
        """The socket of `ticket` became `connection`."""
        self.statistics.upgraded += 1
        ticket.connection = connection
        self._tickets[connection] = ticket

    def proven(self, connection: Connection) -> None:
        """The peer of `connection` proved who it is: the connection is no longer evicted.

        Does nothing for connections that were not accepted here, or are proven or closed already.
        """
        ticket = self._tickets.pop(connection, None)
        if ticket is not None:
            self._unproven.pop(ticket, None)
            ticket.connection = None

    @contextmanager
    def held(self, ticket: Ticket) -> Iterator[None]:
        """For the time of the block the socket has not to make room; then it counts as the newest of strangers."""
        self._unproven.pop(ticket, None)
        try:
            yield
        finally:
            if not ticket.evicted:
                self._unproven[ticket] = None

    def release(self, ticket: Ticket) -> None:
        """The socket of `ticket` is closed; every ticket is released once."""
        self._admitted -= 1
        self._unproven.pop(ticket, None)
        if ticket.connection is not None:
            self._tickets.pop(ticket.connection, None)
