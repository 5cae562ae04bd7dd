"""Every option of a signalling hub. Times are seconds, sizes bytes."""

from __future__ import annotations

import math
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from ...limits import Limits
from ...serving.client_address import parse_networks
from ...serving.origins import require_origin
from ...wire.addresses import parse_listen

__all__ = ["ALGORITHMS", "HubConfig", "JwtConfig"]

KIB: Final = 1024
MIB: Final = 1024 * KIB

ALGORITHMS: Final = ("HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA")
"""Of signatures under JSON Web Tokens; the first three have a secret, the others a public key."""

_PATH: Final = re.compile(r"(?:/[A-Za-z0-9._~-]+)+")
_PREFIX: Final = re.compile(r"[ -~]{0,64}")
_SECRET_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}
"""RFC 7518 section 3.2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtConfig:
    """Whose JSON Web Tokens let clients in; needs PyJWT, the extra ``jwt``.

    A token says in its claim ``mercure`` what may be done: ``{"publish": [...], "subscribe": [...]}``, topics or ``*``
    for all. The claims ``exp`` and ``nbf`` are checked.

    Attributes:
        key: the secret, of at least 32 bytes (HS384: 48, HS512: 64), or the public key in PEM form.
        algorithm: of the signature, one of `ALGORITHMS`; a token can not choose another one.

    Raises:
        ValueError: there is no such algorithm, or the key does not fit to it.
    """

    key: str = field(repr=False)
    algorithm: str = "HS256"

    def __post_init__(self) -> None:
        if self.algorithm not in ALGORITHMS:
            raise ValueError(f"expected one of {', '.join(ALGORITHMS)} as algorithm, not {self.algorithm!r}")
        is_public = "-----BEGIN PUBLIC KEY-----" in self.key
        if self.algorithm.startswith("HS"):
            least = _SECRET_BYTES[self.algorithm]
            if is_public or len(self.key.encode()) < least:
                raise ValueError(f"expected a secret of at least {least} bytes for {self.algorithm}")
        elif not is_public:
            raise ValueError(f"expected a public key in PEM form for {self.algorithm}")


@dataclass(frozen=True, slots=True, kw_only=True)
class HubConfig:
    """The options of `serve_hub`.

    Attributes:
        listen: ``host:port`` or several; None: a larger server mounts it.
        tls: for listening with ``https`` and ``wss``.
        mercure_path: where the Mercure door is; None: there is none.
        socketio_path: where the Socket.IO door is; None: there is none.
        prefixes: of the names of Socket.IO events; the original's driver has ``""``, its examples ``"peerix:"``.
        access_keys: each lets its bearer publish and subscribe to everything; with neither keys nor `jwt`, everybody
            may.
        jwt: whose tokens let clients in.
        allow_wildcard: whether event streams with the selector ``*`` are served, to those who have a key, or a token
            for all topics. They see the topics of all rooms, and a name is all that keeps others out of a room.
        origins: origins whose pages may use the hub, as browsers name them; None: all.
        trusted_proxies: addresses and networks whose X-Forwarded-For is believed.
        max_clients: event streams and Socket.IO sessions at once.
        max_clients_per_ip: of one IP address (IPv6: of a /64).
        max_topics: that somebody listens to.
        max_subscribers: of one topic.
        max_subscriptions: topics of one event stream or session.
        max_topic: characters of the name of a topic.
        max_packet: bytes of one packet, before base64 or JSON.
        bytes_per_second: that the clients of one IP address publish on average; each request takes 256 bytes beside
            its own, and counts once for each of its topics. What exceeds it is refused; None: no limit.
        burst_bytes: likewise, at once.
        slow_messages: that wait for one client that does not read; then it is disconnected.
        slow_bytes: likewise.
        keepalive: how often a silent event stream gets a comment.
        retry: after which browsers connect again to an event stream that ended.
        ping_interval: between two pings to a Socket.IO client.
        ping_timeout: that it has to answer.
        connect_timeout: that a Socket.IO client has to say who it is, and to finish the change to a WebSocket.
        drain_timeout: how long `Hub.aclose` waits for clients to read what is left for them.
        open_metrics: serve ``/metrics`` to everybody, not only to this machine.
        limits: of HTTP and of sockets. With a listener of its own, a hub has room for `max_clients` sockets, unless
            `Limits.connections` is another number than its default.

    Raises:
        ValueError: an option has a value that makes no sense; the message names it, and no key.
    """

    listen: str | Sequence[str] | None = "0.0.0.0:8080"
    tls: ssl.SSLContext | None = None
    mercure_path: str | None = "/.well-known/mercure"
    socketio_path: str | None = "/socket.io"
    prefixes: Sequence[str] = ("peerix:", "")
    access_keys: Sequence[str] = field(default=(), repr=False)
    jwt: JwtConfig | None = None
    allow_wildcard: bool = False
    origins: Sequence[str] | None = None
    trusted_proxies: Sequence[str] = ()

    max_clients: int = 5000
    max_clients_per_ip: int = 500
    max_topics: int = 20_000
    max_subscribers: int = 1000
    max_subscriptions: int = 64
    max_topic: int = 256
    max_packet: int = 64 * KIB
    bytes_per_second: float | None = 256 * KIB
    burst_bytes: int = 4 * MIB
    slow_messages: int = 1024
    slow_bytes: int = 1 * MIB
    keepalive: float = 20.0
    retry: float = 2.0
    ping_interval: float = 25.0
    ping_timeout: float = 20.0
    connect_timeout: float = 10.0
    drain_timeout: float = 5.0
    open_metrics: bool = False
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        for address in self.listen_addresses:
            parse_listen(address)
        _check_paths(self.mercure_path, self.socketio_path)
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"expected a positive {name}, not {value!r}")
        if self.burst_bytes < self.max_publication:
            raise ValueError(f"expected burst_bytes of at least {self.max_publication}: one packet has to fit")
        if not self.prefixes or isinstance(self.prefixes, str):
            raise ValueError("expected at least one of prefixes, in a list")
        for prefix in self.prefixes:
            if _PREFIX.fullmatch(prefix) is None:
                raise ValueError(f"expected prefixes of at most 64 printable characters, not {prefix!r}")
        if isinstance(self.access_keys, str) or not all(self.access_keys):
            raise ValueError("expected access_keys as a list, and none of them empty")
        parse_networks(self.trusted_proxies)
        for origin in self.origins or ():
            require_origin("origins", origin)

    @property
    def max_payload(self) -> int:
        """Bytes of one message, body or form: a packet as JSON takes up to four times its size. More ends a session."""
        return 6 * self.max_packet + 4 * KIB

    @property
    def max_publication(self) -> int:
        """Bytes of one form or message, with what it takes beside its own."""
        return self.max_payload + REQUEST_COST

    @property
    def listen_addresses(self) -> list[str]:
        """Where to listen, as a list."""
        if self.listen is None:
            return []
        return [self.listen] if isinstance(self.listen, str) else list(self.listen)


REQUEST_COST: Final = 256
"""Bytes that one request takes beside its own, of what a client may publish."""
_POSITIVE: Final = (
    "max_clients",
    "max_clients_per_ip",
    "max_topics",
    "max_subscribers",
    "max_subscriptions",
    "max_topic",
    "max_packet",
    "bytes_per_second",
    "burst_bytes",
    "slow_messages",
    "slow_bytes",
    "keepalive",
    "retry",
    "ping_interval",
    "ping_timeout",
    "connect_timeout",
    "drain_timeout",
)


def _check_paths(mercure: str | None, socketio: str | None) -> None:
    paths = [path for path in (mercure, socketio) if path is not None]
    if not paths:
        raise ValueError("expected a mercure_path, a socketio_path or both")
    for path in paths:
        if _PATH.fullmatch(path) is None:
            raise ValueError(f"expected a path like /socket.io, not {path!r}")
    if mercure is not None and socketio is not None:
        one, other = f"{mercure}/", f"{socketio}/"
        if one.startswith(other) or other.startswith(one):
            raise ValueError(f"two owners of one path: mercure_path {mercure} and socketio_path {socketio}")
