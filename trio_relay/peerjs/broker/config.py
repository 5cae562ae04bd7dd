"""Every option of a broker: the original's under Python names, with its defaults, and what goes beyond it.

Times are seconds, sizes bytes.
"""

from __future__ import annotations

import math
import re
import ssl
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from ...limits import Limits
from ...serving.client_address import parse_networks
from ...serving.origins import require_origin
from ...wire.addresses import parse_listen
from .hooks import BrokerHooks

__all__ = ["BrokerConfig", "RelayedConfig"]

KIB: Final = 1024
MIB: Final = 1024 * KIB

_PATH: Final = re.compile(r"/(?:[A-Za-z0-9._~-]+/?)*")
_KEY: Final = re.compile(r"[A-Za-z0-9._~-]{1,64}")


def _random_id() -> str:
    return str(uuid.uuid4())


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayedConfig:
    """How much of connections that can not go on by WebRTC the broker carries; see `BrokerConfig.relayed`.

    Attributes:
        meetings: at once; one more is refused.
        meetings_per_ip: of one IP address (IPv6: of a /64).
        wait: for the other peer.
        idle: without a byte from either side.
        bytes_per_second: of one direction of one meeting; None: no limit. What exceeds it waits.
        queue_bytes: of one direction of one meeting; a side that does not read stops the other side.

    Raises:
        ValueError: a number is not positive.
    """

    meetings: int = 256
    meetings_per_ip: int = 16
    wait: float = 20.0
    idle: float = 120.0
    bytes_per_second: float | None = None
    queue_bytes: int = 256 * KIB

    def __post_init__(self) -> None:
        for name in ("meetings", "meetings_per_ip", "wait", "idle", "bytes_per_second", "queue_bytes"):
            _require_positive(name, getattr(self, name))


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerConfig:
    """The options of `serve_broker`.

    Attributes:
        listen: ``host:port`` or several; None: a larger server mounts it. The original's ``host`` and ``port``.
        path: prefix of all routes, with or without a slash at the end.
        key: what clients have to name; see `docs/protocol/peerjs.md`. No secret.
        expire_timeout: how long messages wait for a peer that is not there; then each sender is told, once.
        alive_timeout: a client that sends no HEARTBEAT for so long is closed; nothing else counts as a sign of life.
        concurrent_limit: clients at once; who comes back under its id is not counted twice.
        cleanup_interval: how often waiting messages are looked through; the original's ``cleanup_out_msgs``.
        allow_discovery: whether ``GET {path}/{key}/peers`` lists the ids of all clients.
        trusted_proxies: addresses and networks whose X-Forwarded-For is believed; the original's ``proxied``, which
            believes everybody.
        tls: for listening with ``wss`` and ``https``; the original's ``ssl``.
        cors_origins: origins whose pages may read answers, as browsers name them; None: all. The original's
            ``corsOptions``.
        generate_client_id: makes ids; called again while the id is in use, ten times at most.
        hooks: the application's functions.
        max_connections_per_ip: WebSockets of clients of one IP address (IPv6: of a /64), without those of meetings.
        max_messages_per_second: of one client, on average; None: no limit. What exceeds it is dropped and counted; the
            client is not told, for an original client that gets an ERROR gives up.
        burst_messages: of one client, at once.
        max_message: of one received frame; a longer one closes its connection with 1009.
        max_id: characters of an id or a token; longer ones are refused.
        queue_messages: that wait for one peer that is not there, half of them from one IP address (IPv6: a /64); one
            more is refused: its sender is told at once, by EXPIRE.
        queue_bytes: likewise; a message takes 512 bytes beside its own.
        queued_messages: that wait for all absent peers together, a quarter of them from one IP address; likewise.
        queued_bytes: likewise.
        slow_messages: that wait for one client that does not read; it is disconnected then, and who sent what did not
            fit is told by EXPIRE.
        slow_bytes: likewise.
        hook_timeout: for an asynchronous hook.
        drain_timeout: how long `Broker.aclose` waits for clients to read what is left for them and to say goodbye, and
            for `BrokerHooks.on_disconnect`; two close timeouts (`Limits.close_timeout`) are enough for the clients.
        relayed: what the broker carries for peers that can not reach each other by WebRTC; None: nothing.
        open_metrics: serve ``/metrics`` to everybody, not only to this machine.
        limits: of HTTP and of sockets. With a listener of its own, a broker has room for `concurrent_limit` sockets and
            those of meetings, unless `Limits.connections` is another number than its default.

    Raises:
        ValueError: an option has a value that makes no sense; the message names it.
    """

    listen: str | Sequence[str] | None = "0.0.0.0:9000"
    path: str = "/"
    key: str = "peerjs"
    expire_timeout: float = 5.0
    alive_timeout: float = 90.0
    concurrent_limit: int = 5000
    cleanup_interval: float = 1.0
    allow_discovery: bool = False
    trusted_proxies: Sequence[str] = ()
    tls: ssl.SSLContext | None = None
    cors_origins: Sequence[str] | None = None
    generate_client_id: Callable[[], str] = _random_id
    hooks: BrokerHooks = field(default_factory=BrokerHooks)

    max_connections_per_ip: int = 1000
    max_messages_per_second: float | None = None
    burst_messages: int = 1000
    max_message: int = 1 * MIB
    max_id: int = 256
    queue_messages: int = 1024
    queue_bytes: int = 512 * KIB
    queued_messages: int = 65536
    queued_bytes: int = 64 * MIB
    slow_messages: int = 1024
    slow_bytes: int = 1 * MIB
    hook_timeout: float = 10.0
    drain_timeout: float = 5.0
    relayed: RelayedConfig | None = field(default_factory=RelayedConfig)
    open_metrics: bool = False
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        for address in self.listen_addresses:
            parse_listen(address)
        if _PATH.fullmatch(self.path) is None:
            raise ValueError(f"expected a path like / or /myapp, not {self.path!r}")
        if _KEY.fullmatch(self.key) is None:
            raise ValueError(f"expected a key of 1 to 64 letters, digits and . _ ~ -, not {self.key!r}")
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None:
                _require_positive(name, value)
        parse_networks(self.trusted_proxies)
        for origin in self.cors_origins or ():
            require_origin("cors_origins", origin)

    @property
    def sockets(self) -> int:
        """That it needs for all clients and all ends of meetings."""
        return self.concurrent_limit + (2 * self.relayed.meetings if self.relayed is not None else 0)

    @property
    def prefix(self) -> str:
        """`path` without a slash at its end: ``""`` or ``/myapp``."""
        return self.path.rstrip("/")

    @property
    def listen_addresses(self) -> list[str]:
        """Where to listen, as a list."""
        if self.listen is None:
            return []
        return [self.listen] if isinstance(self.listen, str) else list(self.listen)


_POSITIVE: Final = (
    "expire_timeout",
    "alive_timeout",
    "concurrent_limit",
    "cleanup_interval",
    "max_connections_per_ip",
    "max_messages_per_second",
    "burst_messages",
    "max_message",
    "max_id",
    "queue_messages",
    "queue_bytes",
    "queued_messages",
    "queued_bytes",
    "slow_messages",
    "slow_bytes",
    "hook_timeout",
    "drain_timeout",
)


def _require_positive(name: str, value: float | None) -> None:
    if value is not None and not 0 < value < math.inf:
        raise ValueError(f"expected a positive {name}, not {value!r}")
