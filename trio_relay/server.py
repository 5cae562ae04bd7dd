"""One port for everything: the overlay's node and the relay server behind one listener.

Rules of this file:

1. Each part brings its routes; a path that two of them own is served by a route that says what both have to say.
2. The relay's tasks outlive the node: connections are served by the node's listener, and need them to the end.
3. What can not be changed while clients are connected stays as it was, and whoever asked is told its name.
"""

from __future__ import annotations

import dataclasses
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import trio

from .identity import Identity
from .limits import Limits
from .node.admit import Admit, Guests
from .node.node import Node
from .node.opening import open_node
from .node.pages import Mounting, NodePages
from .node.services import Services, open_services, raise_alone
from .transports.routes import Request, Responder, Response, Route, header_value
from .transports.webrtc import WebRTCConfig
from .wire.addresses import parse_listen
from .wire.json import decode_untrusted, encode
from .wsrelay.config import RelayConfig
from .wsrelay.serving import Relay, serve_relay
from .wsrelay.stores.key_files import FileKeyStore

__all__ = ["NodeSettings", "Reloaded", "Server", "ServerConfig", "open_server"]

_log: Final = logging.getLogger("trio_relay.server")

_FIXED: Final = frozenset({"key_store", "blob_store", "max_message", "stats_window", "stats_history"})
"""What a relay keeps while it runs."""
_OF_SERVER: Final = frozenset({"listen", "tls", "limits"})
"""What a relay is told by the server that it is mounted in."""


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
        overlay: the node of the overlay, at ``/``; None: there is none.
        relay: the relay server, at every path that nobody else owns; None: there is none. Where it listens, its TLS
            context and its limits are those of this server.
        limits: of sockets, of HTTP, and of the node.

    Raises:
        ValueError: nothing is served, an address is none, or the relay has a listener of its own.
    """

    listen: str | Sequence[str] = "0.0.0.0:8080"
    tls: ssl.SSLContext | None = None
    overlay: NodeSettings | None = field(default_factory=NodeSettings)
    relay: RelayConfig | None = None
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.overlay is None and self.relay is None:
            raise ValueError("expected an overlay node, a relay server, or both, to serve")
        if not self.listen_addresses:
            raise ValueError("expected at least one address to listen on")
        for address in self.listen_addresses:
            parse_listen(address)
        if self.relay is not None and (self.relay.listen is not None or self.relay.tls is not None):
            raise ValueError("expected a relay with listen=None and tls=None: the server listens for it")

    @property
    def listen_addresses(self) -> list[str]:
        """Where to listen, as a list."""
        return [self.listen] if isinstance(self.listen, str) else list(self.listen)


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What `Server.reload` did, as names of options like ``relay.rate_limit_window``; values are never among them.

    Attributes:
        changed: in force now.
        kept: can not be changed while the server runs; they are as they were.
    """

    changed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


class Server:
    """A server that is running; made by `open_server`.

    Attributes:
        node: of the overlay, or None.
        relay: the relay server, or None.
        urls: ``ws://host:port`` or ``wss://host:port`` of each listener, without a path.
    """

    def __init__(
        self, config: ServerConfig, node: Node | None, relay: tuple[Relay, RelayConfig] | None, urls: Sequence[str]
    ) -> None:
        """For `open_server`; `relay` is with the configuration that it has."""
        self._config = config
        self.node: Final = node
        self.relay: Final = relay[0] if relay is not None else None
        self._relay_config = relay[1] if relay is not None else None
        self.urls: Final = tuple(urls)
        self._drained = False

    def __repr__(self) -> str:
        return f"<Server at {', '.join(self.urls)}>"

    async def reload(self, config: ServerConfig) -> Reloaded:
        """Goes by another configuration from now on, as far as that is possible while clients stay connected.

        Everything of `RelayConfig` but its stores, `max_message` and the windows of statistics can be changed. A key
        file is read again; if it is bad, the old keys stay, and the log says so.

        Raises:
            ValueError: the new configuration does not fit to what can not be changed; nothing was changed.
        """
        changed, kept = list[str](), self._differences(config)
        running = self._relay_config
        if self.relay is not None and running is not None and config.relay is not None:
            mixed = replace(config.relay, **{name: getattr(running, name) for name in _FIXED | _OF_SERVER})
            differing = _differing(running, config.relay, _OF_SERVER)
            changed = [f"relay.{name}" for name in differing if name not in _FIXED]
            kept += [f"relay.{name}" for name in differing if name in _FIXED]
            self.relay.configure(mixed)
            self._relay_config = mixed
        if running is not None and isinstance(running.key_store, FileKeyStore):
            await running.key_store.refresh()
        return Reloaded(tuple(changed), tuple(kept))

    def _differences(self, config: ServerConfig) -> list[str]:
        """What differs outside of the relay; none of it can be changed."""
        mine = self._config
        found = [name for name in ("listen", "tls") if getattr(mine, name) != getattr(config, name)]
        found += [f"limits.{name}" for name in _differing(mine.limits, config.limits)]
        if (mine.overlay is None) != (config.overlay is None):
            found.append("overlay")
        elif mine.overlay is not None and config.overlay is not None:
            found += [f"overlay.{name}" for name in _differing(mine.overlay, config.overlay)]
        if (mine.relay is None) != (config.relay is None):
            found.append("relay")
        return found

    async def aclose(self) -> None:
        """Drains the relay server (see `Relay.aclose`); idempotent. The end of the block ends the node as well."""
        if self._drained:
            await trio.lowlevel.checkpoint()
            return
        self._drained = True
        peers = len(self.relay.registry) if self.relay is not None else 0
        links = len(self.node.links) if self.node is not None else 0
        detail = {"event": "draining", "peers": peers, "links": links}
        _log.info("draining: %d clients, %d links", peers, links, extra=detail)
        if self.relay is not None:
            await self.relay.aclose()


def _differing(mine: object, other: object, but: frozenset[str] = frozenset()) -> list[str]:
    """The names of the fields in which two dataclass values differ."""
    names = [item.name for item in dataclasses.fields(mine) if item.name not in but]  # type: ignore[arg-type]
    return [name for name in names if getattr(mine, name) != getattr(other, name)]


@asynccontextmanager
async def open_server(config: ServerConfig) -> AsyncIterator[Server]:
    """Serves for as long as the block; then the relay server drains, and the node says goodbye.

    Cancelled, it ends without draining.

    Raises:
        ValueError: an address or URL is not one.
        OSError: an address can't be listened on, or the file of blobs not be opened.
        ImportError: WebRTC is wanted, and what it needs is not installed.
        BlobStoreError: the blob store can not be opened.
    """
    async with open_services() as services:
        opened = _open_alone(config, services) if config.overlay is None else _open_beside_node(config, services)
        async with opened as server:
            detail = {"event": "listening", "urls": list(server.urls)}
            if server.node is not None:
                detail["overlay"] = server.node.id.hex()
            _log.info("listening on %s", ", ".join(server.urls), extra=detail)
            yield server
            await server.aclose()
    _log.info("closed", extra={"event": "closed"})


@asynccontextmanager
async def _open_alone(config: ServerConfig, services: Services) -> AsyncIterator[Server]:
    """A relay server with its own listener."""
    assert config.relay is not None
    own = replace(config.relay, listen=config.listen, tls=config.tls, limits=config.limits)
    try:
        relay: Relay = await services.start(serve_relay, own)
    except BaseExceptionGroup as group:
        raise_alone(group)
    yield Server(config, None, (relay, own), relay.urls)


@asynccontextmanager
async def _open_beside_node(config: ServerConfig, services: Services) -> AsyncIterator[Server]:
    """A node, whose listener serves the relay's paths, too."""
    settings = config.overlay
    assert settings is not None
    relay: tuple[Relay, RelayConfig] | None = None
    mounting: Mounting | None = None

    async def mount(given: Mounting) -> Sequence[Route]:
        nonlocal relay, mounting
        mounting = given
        if config.relay is None:
            return given.routes
        own = replace(config.relay, limits=config.limits)
        started: Relay = await services.start(partial(serve_relay, own, admission=given.admission))
        relay = started, own
        return combine(given, started.routes())

    async with open_node(
        config.listen_addresses,
        settings.bootstrap,
        identity=settings.identity,
        advertise=settings.advertise,
        tls=config.tls,
        client_tls=settings.client_tls,
        webrtc=settings.webrtc,
        legacy=settings.legacy,
        admit=settings.admit,
        limits=config.limits,
        mount=mount,
    ) as node:
        assert mounting is not None
        yield Server(config, node, relay, mounting.urls)


def combine(mounting: Mounting, relayed: Sequence[Route]) -> list[Route]:
    """The node's routes and the relay's: ``/`` alone is the node's, and ``/health`` and ``/metrics`` tell of both."""
    pages: dict[str, Callable[[Responder, NodePages], Responder]] = {"/health": _health, "/metrics": _metrics}
    rest = next(route for route in relayed if route.prefix == "/" and route.subtree)
    routes = list(relayed)
    for route in mounting.routes:
        if route.prefix not in pages:
            routes.append(route)
            continue
        own = next((other for other in relayed if other.prefix == route.prefix), None)
        base = own if own is not None else replace(rest, prefix=route.prefix, subtree=False)
        assert base.respond is not None
        if own is not None:
            routes.remove(own)
        # A client that asks for a WebSocket there is refused by the relay, in its own words.
        routes.append(replace(base, respond=pages[route.prefix](base.respond, mounting.pages)))
    return routes


def _health(respond: Responder, pages: NodePages) -> Responder:
    def join(body: bytes) -> bytes:
        health = decode_untrusted(body)
        assert isinstance(health, dict)
        return encode({**health, "overlay": pages.overlay()})

    return partial(_extended, Route("/health", respond), b"application/json", join)


def _metrics(respond: Responder, pages: NodePages) -> Responder:
    def join(body: bytes) -> bytes:
        return body + pages.exposition()

    return partial(_extended, Route("/metrics", respond), b"text/plain; version=", join)


async def _extended(page: Route, content_type: bytes, join: Callable[[bytes], bytes], request: Request) -> Response:
    """What the relay answers, with what the node has to add if that is the page, not a refusal or a hook's answer."""
    assert page.respond is not None
    response = await page.respond(request)
    given = header_value(response.headers, b"content-type") or b""
    if request.path != page.prefix or response.status != 200 or not given.startswith(content_type):
        return response
    return replace(response, body=join(response.body))
