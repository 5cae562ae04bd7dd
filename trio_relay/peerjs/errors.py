"""The names of PeerJS' errors, and which of them end a peer.

Source: the enumerations of `peerjs` 1.5, and the older names that its documentation has had.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

__all__ = ["FATAL", "PEER_ERROR_TYPES", "PeerErrorType"]

PeerErrorType: TypeAlias = Literal[
    # of a peer
    "browser-incompatible",
    "disconnected",
    "invalid-id",
    "invalid-key",
    "network",
    "peer-destroyed",
    "peer-unavailable",
    "server-error",
    "socket-closed",
    "socket-error",
    "ssl-unavailable",
    "unavailable-id",
    "webrtc",
    # of any connection
    "connection-closed",
    "negotiation-failed",
    # of a data connection
    "message-too-big",
    "not-open-yet",
]
"""What `PeerError.type` can be."""

PEER_ERROR_TYPES: Final[frozenset[str]] = frozenset(get_args(PeerErrorType))

FATAL: Final[frozenset[str]] = frozenset(
    {
        "browser-incompatible",
        "invalid-id",
        "invalid-key",
        "server-error",
        "socket-closed",
        "socket-error",
        "ssl-unavailable",
        "unavailable-id",
    }
)
"""Trying again would not help: a peer that never was open is destroyed, one that was is disconnected."""
