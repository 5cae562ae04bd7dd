"""What a client tells the application besides messages: events, each subscriber with its own bounded buffer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from ...node.values import EventsLost

__all__ = [
    "ClientEvent",
    "ClientStatistics",
    "ConnectFailed",
    "Connected",
    "Disconnected",
    "EventsLost",
    "PresenceChanged",
    "ServerError",
    "Undelivered",
]


@dataclass(frozen=True, slots=True)
class Connected:
    """The server took this client in: from now on peers reach it."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection ended after `Connected`; every peer's presence is unknown from now on.

    Attributes:
        reason: what ended it, in words.
        code: the server's close code; 1005 without one, 1006 without a close frame.
        retry_in: seconds until the next attempt, None if there is none.
    """

    reason: str
    code: int | None
    retry_in: float | None


@dataclass(frozen=True, slots=True)
class ConnectFailed:
    """An attempt to be connected failed: nobody answered, or the server refused.

    Attributes:
        reason: why, in words.
        code: the server's close code, None if there was no WebSocket.
        retry_in: seconds until the next attempt, None if there is none.
    """

    reason: str
    code: int | None
    retry_in: float | None


@dataclass(frozen=True, slots=True)
class PresenceChanged:
    """A watched peer came or went, or the server said for the first time on this connection which it is.

    Attributes:
        address: the peer's.
        online: whether it is there now.
    """

    address: str
    online: bool


@dataclass(frozen=True, slots=True)
class ServerError:
    """The server sent an error; the connection stays as it is, unless `Disconnected` follows.

    Attributes:
        code: for programs, like ``"RATE_LIMITED"``: then it dropped what was sent.
        message: for people.
    """

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Undelivered:
    """A message did not reach its peer; only with ``reports=True``, from servers that know such reports.

    Attributes:
        to: the peer's address.
        reason: ``"offline"``, ``"slow"`` (it does not read fast enough) or ``"blocked"`` (by the server's application);
            or another server's words.
    """

    to: str
    reason: str


ClientEvent: TypeAlias = (
    Connected | Disconnected | ConnectFailed | PresenceChanged | ServerError | Undelivered | EventsLost
)


@dataclass(frozen=True, slots=True)
class ClientStatistics:
    """A client's counters at one moment.

    Attributes:
        counts: since the start, by name: what was sent and received, and every loss and failure by its reason.
        sizes: how full each bounded table is now.
        connected: whether the server has taken the client in.
    """

    counts: Mapping[str, int]
    sizes: Mapping[str, int]
    connected: bool
