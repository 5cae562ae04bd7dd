"""The names of PeerJS' errors.

Source: the enumerations of `peerjs` 1.5, and the older names that its documentation has had. Nothing here raises
``browser-incompatible`` (there is no browser), ``socket-closed`` (it is ``network``) and ``webrtc`` (it is
``negotiation-failed``); an application may.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

__all__ = ["PEER_ERROR_TYPES", "PeerErrorType"]

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
