"""What one port serves, and whether two of its parts would own one path."""

from __future__ import annotations

import itertools
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from ..identity import Identity
from ..limits import Limits
from ..node.admit import Admit, Guests
from ..peerix.hub.config import HubConfig
from ..peerjs.broker.config import BrokerConfig
from ..transports.webrtc import WebRTCConfig
from ..wire.addresses import parse_listen
from ..wsrelay.config import BlobConfig, RelayConfig

__all__ = ["NodeSettings", "ServerConfig"]

_PAGES: Final = ("/health", "/metrics")
"""Of every server."""
_PAGES_OF_RELAY: Final = ("/stats", "/ui")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """The arguments of `open_node` that are the node's alone."""

    bootstrap: Sequence[str] = ()
    identity: Identity | None = None
    advertise: Sequence[str] | None = None
    client_tls: ssl.SSLContext | None = None
    webrtc: bool | WebRTCConfig = False
    legacy: bool = False
    admit: Admit | Guests | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """What one port serves.

    Attributes:
        listen: ``host:port`` or several.
        tls: for listening with ``wss`` and ``https``.
        overlay: the node of the overlay, which takes WebSockets at ``/``; None: there is none.
        relay: the relay server, at every path that nobody else owns; None: there is none. Where it listens, its TLS
            context and its limits are those of this server.
        peerjs: the PeerJS broker, at the paths below its own; None: there is none. The same goes for it.
        hub: the signalling hub of Peerix, at its two paths; None: there is none. The same goes for it.
        limits: of sockets, of HTTP, and of the node.

    Raises:
        ValueError: nothing is served, an address is none, a part has a listener of its own, or two parts own one path.
    """

    listen: str | Sequence[str] = "0.0.0.0:8080"
    tls: ssl.SSLContext | None = None
    overlay: NodeSettings | None = field(default_factory=NodeSettings)
    relay: RelayConfig | None = None
    peerjs: BrokerConfig | None = None
    hub: HubConfig | None = None
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.overlay is None and self.relay is None and self.peerjs is None and self.hub is None:
            raise ValueError("expected an overlay node, a relay server, a PeerJS broker or a hub to serve")
        if not self.listen_addresses:
            raise ValueError("expected at least one address to listen on")
        for address in self.listen_addresses:
            parse_listen(address)
        parts: tuple[tuple[str, RelayConfig | BrokerConfig | HubConfig | None], ...] = (
            ("relay", self.relay),
            ("PeerJS broker", self.peerjs),
            ("hub", self.hub),
        )
        for name, part in parts:
            if part is not None and (part.listen is not None or part.tls is not None):
                raise ValueError(f"expected a {name} with listen=None and tls=None: the server listens for it")
        broker = _broker_paths(self.peerjs) if self.peerjs is not None else ()
        _check_paths("PeerJS broker", broker, self.relay)
        if self.hub is not None:
            paths = _hub_paths(self.hub)
            _check_paths("hub", paths, self.relay)
            for path, other in itertools.product(paths, broker):
                if _overlap(path, other):
                    raise ValueError(f"two owners of one path: {path} of the hub and {other} of the PeerJS broker")

    @property
    def listen_addresses(self) -> list[str]:
        """Where to listen, as a list."""
        return [self.listen] if isinstance(self.listen, str) else list(self.listen)


def _broker_paths(config: BrokerConfig) -> tuple[str, ...]:
    """What a broker owns, with all that is below, as `Broker.routes` has it."""
    if config.prefix:
        return (config.prefix,)
    return ("/peerjs",) if config.key == "peerjs" else ("/peerjs", f"/{config.key}")


def _hub_paths(config: HubConfig) -> tuple[str, ...]:
    """What a hub owns, with all that is below, as `Hub.routes` has it."""
    return tuple(path for path in (config.mercure_path, config.socketio_path) if path is not None)


def _overlap(path: str, other: str) -> bool:
    return f"{path}/".startswith(f"{other}/") or f"{other}/".startswith(f"{path}/")


def _check_paths(part: str, paths: Sequence[str], relay: RelayConfig | None) -> None:
    """Raises ValueError if a page, or a client of a channel, could ask for a path of this part."""
    for path in paths:
        for page in _pages(relay):
            if _overlap(path, page):
                raise ValueError(f"two owners of one path: {path} of the {part} and the page {page}")
        for channel in relay.channel_list if relay is not None else ():
            # Its clients ask for the channel's path and one more segment.
            if f"/{channel.name}/".startswith(f"{path}/") or path.rpartition("/")[0] == f"/{channel.name}":
                raise ValueError(
                    f"two owners of one path: {path} of the {part} and channel {channel.name!r} of the relay"
                )


def _pages(relay: RelayConfig | None) -> Iterator[str]:
    yield from _PAGES
    if relay is None:
        return
    yield from _PAGES_OF_RELAY
    if relay.blob_store is not False:
        yield relay.blob_store.route_prefix if isinstance(relay.blob_store, BlobConfig) else "/blob"
