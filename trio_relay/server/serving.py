"""A server that is running: its parts are started, reloaded, and let go in order.

Rules of this file:

1. The tasks of relay server, broker and hub outlive the listener and the node: connections need them to the end.
2. What can not be changed while clients are connected stays as it was, and whoever asked is told its name.
3. Clients go first, those of all parts at the same time; then the node says goodbye.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, cast

import trio

from ..node.node import Node
from ..node.opening import open_node
from ..node.pages import Mounting
from ..node.services import Services, open_services
from ..peerix.hub.serving import FIXED as FIXED_OF_HUB
from ..peerix.hub.serving import Hub, serve_hub
from ..peerjs.broker.serving import FIXED as FIXED_OF_BROKER
from ..peerjs.broker.serving import Broker, serve_broker
from ..transports.admission import Admission, TransportStatistics
from ..transports.http import serve_http
from ..transports.routes import Route
from ..wsrelay.serving import Relay, serve_relay
from ..wsrelay.stores.key_files import FileKeyStore
from .combining import Parts, combine
from .config import ServerConfig

__all__ = ["Reloaded", "Server", "open_server"]

_log: Final = logging.getLogger("trio_relay.server")

_FIXED_OF_RELAY: Final = frozenset({"key_store", "blob_store", "max_message", "stats_window", "stats_history"})
"""What a relay keeps while it runs."""
_OF_SERVER: Final = frozenset({"listen", "tls", "limits"})
"""What a part is told by the server that it is mounted in."""


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
        broker: the PeerJS broker, or None.
        hub: the signalling hub, or None.
        urls: ``ws://host:port`` or ``wss://host:port`` of each listener, without a path.
    """

    def __init__(
        self,
        config: ServerConfig,
        node: Node | None,
        parts: Parts,
        urls: Sequence[str],
        listening: trio.CancelScope | None,
    ) -> None:
        """For `open_server`; `listening` ends listeners that are no node's."""
        self._config = config
        self.node: Final = node
        self.relay: Final = parts.relay
        self.broker: Final = parts.broker
        self.hub: Final = parts.hub
        self.urls: Final = tuple(urls)
        self._listening: Final = listening
        self._drained = False

    def __repr__(self) -> str:
        return f"<Server at {', '.join(self.urls)}>"

    async def reload(self, config: ServerConfig) -> Reloaded:
        """Goes by another configuration from now on, as far as that is possible while clients stay connected.

        Everything of `RelayConfig` but its stores, `max_message` and the windows of statistics can be changed; of
        `BrokerConfig` and `HubConfig` what `Broker.configure` and `Hub.configure` change. A key file is read again; if
        it is bad, the old keys stay, and the log says so.

        Raises:
            ValueError: the new configuration does not fit to what can not be changed; nothing was changed.
            ImportError: a hub with tokens is wanted, and what it needs is not installed; likewise.
        """
        changed, kept, new = list[str](), self._differences(config), self._config
        for part, fixed in (("relay", _FIXED_OF_RELAY), ("peerjs", FIXED_OF_BROKER), ("hub", FIXED_OF_HUB)):
            mine, other = getattr(self._config, part), getattr(config, part)
            if mine is not None and other is not None:
                differing = _differing(mine, other, _OF_SERVER)
                changed += [f"{part}.{name}" for name in differing if name not in fixed]
                kept += [f"{part}.{name}" for name in differing if name in fixed]
                mixed = replace(other, **{name: getattr(mine, name) for name in fixed | _OF_SERVER})
                # Says whether channels are where the broker is.
                new = replace(new, **{part: mixed})
        # First: a key of tokens may be none, and then nothing is changed.
        if self.hub is not None and new.hub is not None:
            mounted = self.hub.config
            self.hub.configure(replace(new.hub, **{name: getattr(mounted, name) for name in _OF_SERVER}))
        if self.relay is not None and new.relay is not None:
            self.relay.configure(replace(new.relay, limits=self._config.limits))
        if self.broker is not None and new.peerjs is not None:
            running = self.broker.config
            self.broker.configure(replace(new.peerjs, **{name: getattr(running, name) for name in _OF_SERVER}))
        self._config = new
        if new.relay is not None and isinstance(new.relay.key_store, FileKeyStore):
            await new.relay.key_store.refresh()
        return Reloaded(tuple(changed), tuple(kept))

    def _differences(self, config: ServerConfig) -> list[str]:
        """What differs outside of relay, broker and hub; none of it can be changed."""
        mine = self._config
        found = [name for name in ("listen", "tls") if getattr(mine, name) != getattr(config, name)]
        found += [f"limits.{name}" for name in _differing(mine.limits, config.limits)]
        for name in ("overlay", "peerjs", "relay", "hub"):
            one, other = getattr(mine, name), getattr(config, name)
            if (one is None) != (other is None):
                found.append(name)
            elif one is not None and name == "overlay":
                found += [f"{name}.{option}" for option in _differing(one, other, _OF_SERVER)]
        return found

    async def aclose(self) -> None:
        """Drains all parts but the node (see `Relay.aclose`, `Broker.aclose`, `Hub.aclose`); idempotent.

        The end of the block ends the node as well.
        """
        if self._drained:
            await trio.lowlevel.checkpoint()
            return
        self._drained = True
        if self._listening is not None:
            self._listening.cancel()
        peers = len(self.relay.registry) if self.relay is not None else 0
        clients = self.broker.statistics().clients if self.broker is not None else 0
        members = self.hub.statistics().clients if self.hub is not None else 0
        links = len(self.node.links) if self.node is not None else 0
        detail = {"event": "draining", "peers": peers, "peerjs": clients, "hub": members, "links": links}
        _log.info("draining: %d clients, %d links", peers + clients + members, links, extra=detail)
        async with trio.open_nursery() as nursery:
            for part in (self.relay, self.broker, self.hub):
                if part is not None:
                    nursery.start_soon(part.aclose)


def _differing(mine: object, other: object, but: frozenset[str] = frozenset()) -> list[str]:
    """The names of the fields in which two dataclass values differ."""
    names = [item.name for item in dataclasses.fields(mine) if item.name not in but]  # type: ignore[arg-type]
    return [name for name in names if getattr(mine, name) != getattr(other, name)]


@asynccontextmanager
async def open_server(config: ServerConfig) -> AsyncIterator[Server]:
    """Serves for as long as the block; then relay server, broker and hub drain, and the node says goodbye.

    Cancelled, it ends without draining.

    Raises:
        ValueError: an address or URL is not one.
        OSError: an address can't be listened on, or the file of blobs not be opened.
        ImportError: WebRTC, or a hub with tokens, is wanted, and what it needs is not installed.
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


async def _start(config: ServerConfig, services: Services, admission: Admission, node: Mounting | None) -> Parts:
    """Starts relay server, broker and hub, without listeners."""
    relay: Relay | None = None
    broker: Broker | None = None
    hub: Hub | None = None
    if config.relay is not None:
        own = replace(config.relay, limits=config.limits)
        relay = await services.start(partial(serve_relay, own, admission=admission))
    if config.peerjs is not None:
        mounted = replace(config.peerjs, limits=config.limits)
        broker = await services.start(partial(serve_broker, mounted, admission=admission))
    if config.hub is not None:
        own_hub = replace(config.hub, limits=config.limits)
        hub = await services.start(partial(serve_hub, own_hub, admission=admission))
    return Parts(node, relay, broker, config.peerjs.prefix if config.peerjs is not None else "", hub)


@asynccontextmanager
async def _open_alone(config: ServerConfig, services: Services) -> AsyncIterator[Server]:
    """Relay server, broker, hub, or several of them, without a node."""
    scheme = "ws" if config.tls is None else "wss"
    if config.relay is None and (config.peerjs is None or config.hub is None):
        parts, addresses = await _start_one(config, services)
        yield Server(config, None, parts, [f"{scheme}://{place}" for place in addresses], None)
        return
    admission = Admission(config.limits, TransportStatistics())
    parts = await _start(config, services, admission, None)
    listening = trio.CancelScope()
    bound = await services.start(partial(_listen, config, combine(parts), admission, services, listening))
    yield Server(config, None, parts, [f"{scheme}://{place}" for place in bound], listening)


async def _start_one(config: ServerConfig, services: Services) -> tuple[Parts, Sequence[str]]:
    """Starts a broker or hub, which has a listener and pages of its own where it is alone; where it listens."""
    if config.peerjs is not None:
        alone = replace(config.peerjs, listen=config.listen, tls=config.tls, limits=config.limits)
        broker: Broker = await services.start(serve_broker, alone)
        return Parts(broker=broker), broker.addresses
    assert config.hub is not None
    own = replace(config.hub, listen=config.listen, tls=config.tls, limits=config.limits)
    hub: Hub = await services.start(serve_hub, own)
    return Parts(hub=hub), hub.addresses


async def _listen(
    config: ServerConfig,
    routes: Sequence[Route],
    admission: Admission,
    services: Services,
    scope: trio.CancelScope,
    *,
    task_status: trio.TaskStatus[list[str]],
) -> None:
    with scope:
        await serve_http(
            config.listen_addresses,
            routes,
            limits=config.limits,
            admission=admission,
            tls=config.tls,
            # Of it is asked only that it starts tasks; as services, connections outlive the listener.
            handler_nursery=cast(trio.Nursery, services),
            task_status=task_status,
        )


@asynccontextmanager
async def _open_beside_node(config: ServerConfig, services: Services) -> AsyncIterator[Server]:
    """A node, whose listener serves the paths of the others, too."""
    settings = config.overlay
    assert settings is not None
    parts = Parts()

    async def mount(given: Mounting) -> Sequence[Route]:
        nonlocal parts
        parts = await _start(config, services, given.admission, given)
        return combine(parts)

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
        assert parts.node is not None
        yield Server(config, node, parts, parts.node.urls, None)
