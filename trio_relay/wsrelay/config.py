"""What a relay server may be told: every option, its unit, its default, and the reason for the default."""

from __future__ import annotations

import math
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from ..limits import KIB, MIB, Limits
from ..serving.client_address import parse_networks
from ..serving.origins import require_origin
from ..serving.outbox import SlowConsumer
from ..wire.addresses import parse_listen
from .addresses import Channel, ChannelTable
from .hooks import Hooks
from .stores.blobs import BlobStore
from .stores.keys import KeyStore, is_key_format

__all__ = ["BlobConfig", "RelayConfig"]


_SLOW: Final = ("pause", "drop-newest", "drop-oldest", "disconnect")
_PREFIX: Final = re.compile(r"(/[A-Za-z0-9._~-]+)+")
_PAGES: Final = ("/health", "/stats", "/metrics", "/ui")
_UNDECIDED: Final = "undecided"


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobConfig:
    """The built-in blob store, and what its pages take. Sizes are bytes, times are seconds.

    Attributes:
        max_blob_size: one blob, inclusive; the original counts UTF-16 units.
        max_blobs: blobs in all; the original has no bound.
        max_bytes: bytes in all.
        max_share: blobs of one IP address (IPv6: of one /64), so that nobody fills the store for others; default: a
            quarter of `max_blobs`, or, with a `store`, as many as it takes.
        time_to_live: how long a blob is kept; None: until it is deleted, as in the original.
        route_prefix: below which path blobs are, without a slash at the end.
        file: of an SQLite database that survives restarts; None: memory.
        store: a store of the application's in place of the built-in one, whose bounds are its own then.
        access_key: who reads or writes blobs must send it (``Authorization: Bearer KEY``, or ``?key=KEY``); None:
            everybody may, as in the original.
    """

    max_blob_size: int = 8 * KIB
    max_blobs: int = 4096
    max_bytes: int = 16 * MIB
    max_share: int | None = None
    time_to_live: float | None = 86400.0
    route_prefix: str = "/blob"
    file: str | None = None
    store: BlobStore | None = None
    access_key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in ("max_blob_size", "max_blobs", "max_bytes"):
            _require_positive(f"blob_store.{name}", getattr(self, name))
            _require_whole(f"blob_store.{name}", getattr(self, name))
        for name in ("time_to_live", "max_share"):
            if getattr(self, name) is not None:
                _require_positive(f"blob_store.{name}", getattr(self, name))
        if self.max_blob_size > self.max_bytes:
            raise ValueError(f"expected a blob_store.max_blob_size of at most max_bytes, not {self.max_blob_size}")
        prefix = self.route_prefix
        if _PREFIX.fullmatch(prefix) is None or prefix in _PAGES:
            raise ValueError(f"expected a blob_store.route_prefix like /blob, not {prefix!r}")
        if self.access_key is not None and not is_key_format(self.access_key):
            raise ValueError("expected a blob_store.access_key of 8 to 64 characters of A-Z a-z 0-9 _ -")


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayConfig:
    """Everything that a relay server can be told; the first block is the original's, with its defaults.

    Times are seconds, sizes are bytes.

    Attributes:
        channels: at least one; a name alone is a `Channel` with its defaults.
        key_store: who may connect: a store of access keys, or False for everybody. There is no default: a relay
            that is open to everybody must be somebody's decision.
        listen: ``host:port`` or several; None: no listener of its own (see `Relay.routes`).
        heartbeat_interval: between pings; a client that was silent for a whole interval after one is dropped.
        rate_limit_window: of the message counter.
        rate_limit_max_connections: of one IP address (IPv6: of one /64) at the same time.
        rate_limit_max_messages: frames of one connection in a window.
        on_invalid_key: refuse a bad key after the WebSocket has opened, or before, with HTTP 403.
        stats_window: of the traffic counters of a key.
        stats_history: past windows that are kept.
        cors: True: any origin may read the HTTP pages; a string: that origin; False: no header.
        blob_store: settings of the built-in store, a store of the application's, or False for none.
        hooks: code of the application.

        tls: for listening with ``wss``.
        origins: values of the Origin header that may open WebSockets (requests without one may); None: any.
        trusted_proxies: networks whose ``X-Forwarded-For`` is believed.
        max_bytes_per_second_per_key: received from all connections of a key together; None: no limit. What exceeds it
            is refused like too many messages.
        burst_bytes_per_key: what may come at once; default: a tenfold of the rate, `max_message` at least.
        max_bytes_per_second_per_ip: the same for an IP address (IPv6: for a /64).
        burst_bytes_per_ip: likewise.
        max_message: one received message; a longer one closes its connection with 1009. The original takes 100 MiB.
        max_watches: addresses that one peer may watch.
        slow_consumer: what happens when a client's queue is above `queue_bytes` or `queue_messages`. ``pause``: reading
            from who sends to it stops until the queue is half empty, for `slow_consumer_timeout` at most, then the
            slow client is disconnected; ``drop-newest``, ``drop-oldest``: messages are dropped, counted;
            ``disconnect``: it is disconnected at once.
        slow_consumer_timeout: see there.
        queue_bytes: of one client's queue.
        queue_messages: of one client's queue.
        verify_timeout: for the key store and `Hooks.verify_peer` together, while a client waits to be let in; under
            ``reject-upgrade`` the key store has `Limits.handshake_timeout` at most.
        hook_timeout: for any other asynchronous hook.
        key_check_interval: how often the keys of live connections are validated again; one that became invalid closes
            its connections. None: never.
        drain_timeout: how long `Relay.aclose` waits for clients to leave by themselves before it closes them.
        show_keys: whether ``/stats`` shows access keys whole; otherwise their first and last two characters, and a
            digest that tells them apart until the relay ends.
        admin_key: who sends it (``Authorization: Bearer KEY``, or ``?key=KEY``) is served ``/stats``, ``/metrics`` and
            ``/ui``. Without it they are served to programs on this machine only: to requests from loopback, to a host
            that is an address or ``localhost``, without a proxy's headers and without an Origin.
        open_stats: serve ``/stats`` and ``/metrics`` to everybody, as the original does.
        ui: serve the live page at ``/ui``; needs `admin_key`.
        limits: of HTTP and of sockets: `connections`, `http_head`, `http_timeout`, `close_timeout` and others.

    Raises:
        ValueError: an option has a value that makes no sense; the message names it.
    """

    channels: Sequence[Channel | str]
    key_store: KeyStore | Literal[False] | Literal["undecided"] = _UNDECIDED
    listen: str | Sequence[str] | None = "0.0.0.0:8080"
    heartbeat_interval: float = 30.0
    rate_limit_window: float = 60.0
    rate_limit_max_connections: int = 30
    rate_limit_max_messages: int = 100
    on_invalid_key: Literal["close-after-connect", "reject-upgrade"] = "close-after-connect"
    stats_window: float = 3600.0
    stats_history: int = 24
    cors: bool | str = True
    blob_store: BlobConfig | BlobStore | Literal[False] = field(default_factory=BlobConfig)
    hooks: Hooks = field(default_factory=Hooks)

    tls: ssl.SSLContext | None = None
    origins: Sequence[str] | None = None
    trusted_proxies: Sequence[str] = ()
    max_bytes_per_second_per_key: float | None = None
    burst_bytes_per_key: float | None = None
    max_bytes_per_second_per_ip: float | None = None
    burst_bytes_per_ip: float | None = None
    max_message: int = 1 * MIB
    max_watches: int = 1024
    slow_consumer: SlowConsumer = "pause"
    slow_consumer_timeout: float = 10.0
    queue_bytes: int = 1 * MIB
    queue_messages: int = 8192
    verify_timeout: float = 10.0
    hook_timeout: float = 10.0
    key_check_interval: float | None = 1.0
    drain_timeout: float = 5.0
    show_keys: bool = False
    admin_key: str | None = field(default=None, repr=False)
    open_stats: bool = False
    ui: bool = False
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.key_store == _UNDECIDED or self.key_store is None:
            raise ValueError(
                "key_store is required: give a store of access keys, or False to let everybody in without a key"
            )
        ChannelTable(self.channel_list)
        self._check_paths()
        for address in self.listen_addresses:
            parse_listen(address)
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None:
                _require_positive(name, value)
        for name in _WHOLE:
            _require_whole(name, getattr(self, name))
        if not isinstance(self.stats_history, int) or self.stats_history < 0:
            raise ValueError(f"expected a stats_history of 0 or more windows, not {self.stats_history!r}")
        if self.on_invalid_key not in ("close-after-connect", "reject-upgrade"):
            raise ValueError(f"expected close-after-connect or reject-upgrade, not {self.on_invalid_key!r}")
        if self.slow_consumer not in _SLOW:
            raise ValueError(f"expected a slow_consumer of {', '.join(_SLOW)}, not {self.slow_consumer!r}")
        for name in ("burst_bytes_per_key", "burst_bytes_per_ip"):
            burst = getattr(self, name)
            if burst is not None and burst < self.max_message:
                raise ValueError(f"expected {name} of at least max_message, {self.max_message}, not {burst}")
        if self.queue_bytes < self.max_message:
            most = self.max_message
            raise ValueError(f"expected queue_bytes of at least max_message, {most}, not {self.queue_bytes}")
        if self.ui and self.admin_key is None:
            raise ValueError("ui needs an admin_key: the live page shows who is connected")
        if self.admin_key is not None and not is_key_format(self.admin_key):
            raise ValueError("expected an admin_key of 8 to 64 characters of A-Z a-z 0-9 _ -")
        parse_networks(self.trusted_proxies)
        if isinstance(self.cors, str) and self.cors not in ("*", ""):
            require_origin("cors", self.cors)
        for origin in self.origins or ():
            require_origin("origins", origin)

    @property
    def channel_list(self) -> list[Channel]:
        """The channels, names made into channels."""
        return [Channel(name=channel) if isinstance(channel, str) else channel for channel in self.channels]

    def _check_paths(self) -> None:
        """Raises ValueError if a client of a channel could ask for the path of a page."""
        owned = list(_PAGES)
        if self.blob_store is not False:
            owned.append(self.blob_store.route_prefix if isinstance(self.blob_store, BlobConfig) else "/blob")
        for channel in self.channel_list:
            path = f"/{channel.name}"
            for page in owned:
                if f"{path}/".startswith(f"{page}/") or page.rpartition("/")[0] == path:
                    raise ValueError(f"two owners of one path: channel {channel.name!r} and the page {page}")

    @property
    def keys(self) -> KeyStore:
        """The key store of a relay that has one."""
        assert self.key_store is not False
        assert not isinstance(self.key_store, str)
        return self.key_store

    @property
    def listen_addresses(self) -> list[str]:
        """Where to listen, as a list."""
        if self.listen is None:
            return []
        return [self.listen] if isinstance(self.listen, str) else list(self.listen)


_WHOLE: Final = (
    "rate_limit_max_connections",
    "rate_limit_max_messages",
    "max_message",
    "max_watches",
    "queue_bytes",
    "queue_messages",
)
_POSITIVE: Final = (
    "heartbeat_interval",
    "rate_limit_window",
    "rate_limit_max_connections",
    "rate_limit_max_messages",
    "stats_window",
    "max_bytes_per_second_per_key",
    "burst_bytes_per_key",
    "max_bytes_per_second_per_ip",
    "burst_bytes_per_ip",
    "max_message",
    "max_watches",
    "slow_consumer_timeout",
    "queue_bytes",
    "queue_messages",
    "verify_timeout",
    "hook_timeout",
    "key_check_interval",
    "drain_timeout",
)


def _require_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"expected a positive {name}, not {value!r}")


def _require_whole(name: str, value: float) -> None:
    if not isinstance(value, int):
        raise ValueError(f"expected a whole number as {name}, not {value!r}")
