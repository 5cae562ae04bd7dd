"""The options of a peer: the original's under Python names, with its defaults, and what goes beyond it."""

from __future__ import annotations

import logging
import math
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from ..limits import Limits
from ..node.node import Node
from ..transports.webrtc import IceServer, WebRTCConfig
from .serialization.serializer import SerializerFactory, SerializerLimits

__all__ = ["CLOUD_CONFIG", "CLOUD_HOST", "CLOUD_PORT", "PeerLimits", "PeerOptions", "log"]

log: Final = logging.getLogger("trio_relay.peerjs")

MIB: Final = 1024 * 1024

CLOUD_HOST: Final = "0.peerjs.com"
"""The broker that `peerjs` uses where none is named; it belongs to that project."""
CLOUD_PORT: Final = 443

CLOUD_CONFIG: Final = WebRTCConfig(
    ice_servers=(
        IceServer(urls="stun:stun.l.google.com:19302"),
        IceServer(urls="turn:eu-0.turn.peerjs.com:3478", username="peerjs", credential="peerjsp"),
        IceServer(urls="turn:us-0.turn.peerjs.com:3478", username="peerjs", credential="peerjsp"),
    )
)
"""The STUN and TURN servers of `peerjs` 1.5."""

_LEVELS: Final = {0: logging.CRITICAL + 1, 1: logging.ERROR, 2: logging.WARNING, 3: logging.DEBUG}


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerLimits:
    """What a peer holds at most; times are seconds, sizes bytes.

    Attributes:
        connections: data and media connections at once, those included that are being made, of which half may be
            with one other peer; an offer beyond is dropped, counted.
        backlog: incoming connections that wait for `Peer.accept`; one more is closed, counted.
        receive_messages: received values of one connection that wait for `DataConnection.receive`; more are not read
            from the network, so the other side waits.
        receive_bytes: likewise, as they came: lists and dicts take more memory than that. One value may be larger.
        receive_total: bytes that wait in all connections together, those of values that are not complete included.
            Where there are more, a connection that gets one more message and holds more than
            ``receive_total / connections`` ends, counted.
        early_messages: answers and candidates whose connection is not known yet.
        metadata: bytes of an offer's metadata as JSON; an offer with more is dropped, counted.
        close_timeout: for a connection to send what waits, and to close.
        serializer: what a connection holds of values that are not complete.

    Raises:
        ValueError: a number is not positive.
    """

    connections: int = 256
    backlog: int = 64
    receive_messages: int = 4096
    receive_bytes: int = 8 * MIB
    receive_total: int = 512 * MIB
    early_messages: int = 512
    metadata: int = 128 * 1024
    close_timeout: float = 5.0
    serializer: SerializerLimits = field(default_factory=SerializerLimits)

    def __post_init__(self) -> None:
        for name in (
            "connections",
            "backlog",
            "receive_messages",
            "receive_bytes",
            "receive_total",
            "early_messages",
            "metadata",
            "close_timeout",
        ):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"expected a positive {name}, not {getattr(self, name)!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerOptions:
    """See `open_peer`.

    Raises:
        ValueError: an option has a value that makes no sense; the message names it.
    """

    host: str = CLOUD_HOST
    port: int = CLOUD_PORT
    path: str = "/"
    key: str = "peerjs"
    secure: bool | None = None
    token: str | None = field(default=None, repr=False)
    config: WebRTCConfig = CLOUD_CONFIG
    debug: int | None = None
    ping_interval: float = 5.0
    serializers: Mapping[str, SerializerFactory] = field(default_factory=dict)
    ssl_context: ssl.SSLContext | None = None
    reconnect: bool = True
    max_reconnect_delay: float = 30.0
    connect_timeout: float = 30.0
    fallback: Literal["relay"] | None = None
    node: Node | None = None
    limits: PeerLimits = field(default_factory=PeerLimits)
    network: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not self.host or not 0 < self.port < 65536:
            raise ValueError(f"expected a host and a port from 1 to 65535, not {self.host!r} and {self.port!r}")
        if self.debug not in (None, *_LEVELS):
            raise ValueError(f"expected debug of 0 (nothing) to 3 (everything), not {self.debug!r}")
        for name in ("ping_interval", "max_reconnect_delay", "connect_timeout"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"expected a positive {name}, not {getattr(self, name)!r}")
        if self.fallback not in (None, "relay"):
            raise ValueError(f"expected 'relay' or None as fallback, not {self.fallback!r}")
        if self.node is not None and self.fallback is None:
            raise ValueError("expected fallback='relay' where a node is given")

    @property
    def is_secure(self) -> bool:
        """Whether the broker is spoken to over TLS."""
        return self.secure if self.secure is not None else self.host == CLOUD_HOST

    def set_log_level(self) -> None:
        """Sets the level of this package's logger for PeerJS, if `debug` says so."""
        if self.debug is not None:
            log.setLevel(_LEVELS[self.debug])
