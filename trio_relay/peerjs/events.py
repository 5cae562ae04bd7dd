"""What a peer tells the application, besides the connections that it accepts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from ..exceptions import PeerError

__all__ = ["ConnectionFailed", "PeerEvent", "PeerLost", "PeerOpened"]


@dataclass(frozen=True, slots=True)
class PeerOpened:
    """The broker has registered this peer: at first, and after each loss.

    Attributes:
        id: as which.
    """

    id: str


@dataclass(frozen=True, slots=True)
class PeerLost:
    """The connection to the broker is lost; connections to peers live on.

    Attributes:
        error: why.
        final: whether it is not tried again: `Peer.reconnect` may.
    """

    error: PeerError
    final: bool


@dataclass(frozen=True, slots=True)
class ConnectionFailed:
    """An incoming connection, or a call, did not come about.

    Attributes:
        peer: who wanted it.
        connection_id: which.
        error: why.
    """

    peer: str
    connection_id: str
    error: PeerError


PeerEvent: TypeAlias = PeerOpened | PeerLost | ConnectionFailed
