"""`open_node`: one function whose nesting is the order of shutdown.

Listeners and dials stop first; a goodbye is queued on every link; backlogs drain or time is up; links close; last the
router ends. docs/architecture.md has the table of tasks.
"""

from __future__ import annotations

import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, cast

import trio

from ..identity import Identity
from ..limits import Limits
from ..transports import webrtc_implementation
from ..transports.routes import Route
from ..transports.transport import Transport, WebSocketTransport
from ..transports.webrtc import Factory, WebRTCConfig
from ..wire.addresses import join_host_port, split_host_port
from ..wire.frame import MAX_MESSAGE, MAX_PAYLOAD
from ..wire.hello import Reason
from ..wire.record import MAX_URLS
from ..wire.session import MAX_SEALING
from ..wire.urls import authority, parse_ws_url
from .admit import Admit, Guests, make_admission
from .application import Application
from .dialler import Dialler
from .gatekeeper import Gatekeeper
from .negotiation import WebRTC
from .negotiator import Negotiator
from .node import Node
from .pages import Mount, Mounting, NodePages, routes
from .runtime import Runtime
from .sealing import make_sealing
from .services import Services, open_services

if TYPE_CHECKING:
    from ..transports.memory import MemoryNetwork

__all__ = ["open_node"]

_BYTE: Final = 255
_READ_SIZE: Final = 1024 * 1024


@asynccontextmanager
async def open_node(
    listen: str | Sequence[str] | None = "127.0.0.1:0",
    bootstrap: Sequence[str] = (),
    *,
    identity: Identity | None = None,
    advertise: Sequence[str] | None = None,
    tls: ssl.SSLContext | None = None,
    client_tls: ssl.SSLContext | None = None,
    webrtc: bool | WebRTCConfig = False,
    legacy: bool = False,
    admit: Admit | Guests | None = None,
    limits: Limits | None = None,
    sealed: bool = True,
    post_quantum: bool = True,
    network: MemoryNetwork | None = None,
    mount: Mount | None = None,
) -> AsyncIterator[Node]:
    """Runs one peer of the overlay for as long as the block.

    Args:
        listen: ``host:port`` to listen on, several of them, or None for a peer without a listener.
        bootstrap: ``ws://`` or ``wss://`` URLs of peers; each is tried for ever, quietly.
        identity: the key pair; default: a new one.
        advertise: URLs, at most four, at which other peers are told to dial; default: the addresses that are bound.
            Behind a proxy or a NAT, say here what reaches this node.
        tls: for listening with ``wss``.
        client_tls: for dialling ``wss``; default: the system's authorities.
        webrtc: make and take WebRTC links, with peers that have no address to dial: see `Node.connect`. Needs the extra
            ``trio-relay[webrtc]``. A `WebRTCConfig` names STUN and TURN servers.
        legacy: admit original peer-relay nodes, and speak for them. They prove nothing: see `Message.proven`.
        admit: who may link with this node and send to it: ids, a function of an id, or an `Admit`; default: everybody.
        limits: every bound; default: `Limits()`.
        sealed: encrypt messages end to end. False is for measurements and tests: what such a node sends is plain, and
            nodes that seal and those that do not understand nothing of each other's messages.
        post_quantum: use ML-KEM-768 beside X25519 in sessions with whoever has it too: who records them and has a
            quantum computer one day reads nothing. ``python -m benchmarks session`` says what it costs.
        network: a `trio_relay.testing.MemoryNetwork` instead of sockets; then `listen` and URLs name its hosts.
        mount: serves more than this node on its port; of use to `trio_relay.server`.

    Raises:
        ValueError: an address or URL is not one, or more than four are advertised.
        OSError: an address can't be listened on.
        ImportError: what WebRTC needs is not installed, or can't be imported; the message says what to do.
    """
    addresses = [listen] if isinstance(listen, str) else list(listen or ())
    limits = limits or Limits()
    _check_urls(bootstrap, advertise or (), network is not None)
    _check_limits(limits)
    sealing = make_sealing(post_quantum=post_quantum) if sealed else None
    counts = Counter[str]()
    admission = make_admission(admit, counts)
    config = WebRTCConfig() if webrtc is True else webrtc or None
    async with _open_factory(config, limits, counts) as factory, open_services() as services:
        transport = _transport(network, addresses, limits, tls, client_tls, services)
        me = identity or Identity.generate()
        maker = None if config is None or factory is None else WebRTC(factory, config)
        runtime = Runtime(me, limits, services, counts, legacy, admission, sealing, maker)
        if maker is not None:
            runtime.negotiate = Negotiator(runtime, maker).act
        services.start_soon(runtime.route)
        if legacy:
            runtime.legacy = keeper = Gatekeeper(runtime, transport)
            services.start_soon(keeper.keep_time)
        listeners: list[_Listener] = []
        try:
            yield await _start(runtime, transport, listeners, addresses, bootstrap, advertise, mount)
        finally:
            with trio.CancelScope(shield=True):
                await _shut_down(runtime, listeners)


@asynccontextmanager
async def _open_factory(
    config: WebRTCConfig | None, limits: Limits, counts: Counter[str]
) -> AsyncIterator[Factory | None]:
    """What makes WebRTC connections, None without a configuration; what it made is closed before the block ends."""
    if config is None or config.factory is not None:
        yield None if config is None else config.factory
        return
    async with webrtc_implementation.load()(close_timeout=limits.close_timeout, counters=counts) as factory:
        yield factory


def _check_urls(bootstrap: Sequence[str], advertise: Sequence[str], memory: bool) -> None:
    for url in (*bootstrap, *advertise):
        authority(url) if memory else parse_ws_url(url)
    if len(advertise) > MAX_URLS:
        raise ValueError(f"expected at most {MAX_URLS} URLs to advertise, not {len(advertise)}")


def _check_limits(limits: Limits) -> None:
    if limits.websocket_message < MAX_MESSAGE:
        raise ValueError(f"limits.websocket_message must be at least {MAX_MESSAGE}: other nodes send as much")
    most = MAX_PAYLOAD - MAX_SEALING - 1
    if limits.payload > most:
        raise ValueError(f"limits.payload must be at most {most}: a sealed frame holds no more")
    for name in ("hops", "detours"):
        if getattr(limits, name) > _BYTE:
            raise ValueError(f"limits.{name} must be at most {_BYTE}: a frame has one byte for it")
    if limits.read_size > _READ_SIZE:
        raise ValueError(f"limits.read_size must be at most {_READ_SIZE}: as much is set aside for each read")


async def _start(
    runtime: Runtime,
    transport: Transport,
    listeners: list[_Listener],
    addresses: Sequence[str],
    bootstrap: Sequence[str],
    advertise: Sequence[str] | None,
    mount: Mount | None,
) -> Node:
    """Listens (adding to `listeners`), advertises, and starts to dial."""
    application, dialler = Application(runtime, transport.statistics), Dialler(runtime, transport)
    pages = NodePages(runtime, application.statistics)
    served: Sequence[Route] = routes(runtime, pages, dialler.accept)
    mounting = None
    if mount is not None:
        if not isinstance(transport, WebSocketTransport):
            raise ValueError("expected sockets to mount more than the node, not a memory network")
        mounting = Mounting(served, pages, transport.admission)
        served = await mount(mounting)
    for address in addresses:
        listeners.append(await _listen(runtime.services, transport, served, address))
    bound = [url for listener in listeners for url in listener.urls]
    if mounting is not None:
        mounting.urls = tuple(bound)
    urls = tuple(advertise if advertise is not None else bound)[:MAX_URLS]
    if urls:
        runtime.act(runtime.router.advertise(urls, trio.current_time()))
    for url in bootstrap:
        runtime.services.start_soon(dialler.bootstrap, url)
    return Node(runtime, application, dialler, urls)


def _transport(
    network: MemoryNetwork | None,
    addresses: Sequence[str],
    limits: Limits,
    tls: ssl.SSLContext | None,
    client_tls: ssl.SSLContext | None,
    services: Services,
) -> Transport:
    # Trio asks of the nursery that handles connections only that it starts tasks; as services those outlive the
    # listener, so that links can say goodbye.
    nursery = cast(trio.Nursery, services)
    if network is None:
        return WebSocketTransport(limits, tls=tls, client_tls=client_tls, handler_nursery=nursery)
    if len(addresses) > 1:
        raise ValueError(f"expected at most one memory host to listen on, not {len(addresses)}")
    host = network.host(addresses[0] if addresses else network.new_name())
    host.handler_nursery = nursery
    return host


class _Listener:
    """One listening task; cancelling `scope` ends it and leaves its connections."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.scope = trio.CancelScope()
        self.urls: tuple[str, ...] = ()

    async def serve(self, address: str, pages: Sequence[Route], *, task_status: trio.TaskStatus[list[str]]) -> None:
        with self.scope:
            await self._transport.serve(address, pages, task_status=task_status)


async def _listen(services: Services, transport: Transport, pages: Sequence[Route], address: str) -> _Listener:
    listener = _Listener(transport)
    bound = await services.start(listener.serve, address, pages)
    listener.urls = tuple(f"{transport.scheme}://{_dialable(place)}" for place in bound)
    return listener


def _dialable(bound: str) -> str:
    """What to advertise for a bound ``host:port``: for the unspecified address, this machine's own."""
    found = split_host_port(bound)
    if found is None or found[1] is None or found[0] not in ("0.0.0.0", "::"):
        return bound
    family, somewhere, loopback = socket.AF_INET, "192.0.2.1", "127.0.0.1"
    if found[0] == "::":
        family, somewhere, loopback = socket.AF_INET6, "2001:db8::1", "::1"
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            # Connecting a datagram socket sends nothing; it asks the system which address it would use.
            probe.connect((somewhere, 9))
            return join_host_port(probe.getsockname()[0], found[1])
    except OSError:
        return join_host_port(loopback, found[1])


def _has_last_words(runtime: Runtime) -> bool:
    """Whether anything waits to leave: for a session, or, for originals, for a lookup or a gateway's confirmation."""
    if runtime.router.awaits_sessions:
        return True
    legacy, (carried, _) = runtime.legacy, runtime.router.pending_deliveries
    return legacy is not None and (carried > 0 or legacy.sizes["legacy_waiting"] > 0)


async def _shut_down(runtime: Runtime, listeners: Sequence[_Listener]) -> None:
    """Stops what comes in, says goodbye, lets backlogs drain, closes links; bounded by four close timeouts."""
    for listener in listeners:
        listener.scope.cancel()
    runtime.desk.begin_closing()
    runtime.router.take_no_more()
    with trio.move_on_after(runtime.limits.close_timeout):
        # What was sent a moment ago leaves with the answer to a lookup or to the opening of a session.
        while _has_last_words(runtime):
            await runtime.desk.next_change()
    runtime.act(runtime.router.goodbye(trio.current_time()))
    links = list(runtime.links)
    with trio.move_on_after(runtime.limits.close_timeout):
        # Each neighbour's answer to the goodbye is its last frame: until then we may still have to relay.
        while len(runtime.router.table):
            await runtime.desk.next_change()
        for link in links:
            await link.wait_drained()
    for link in links:
        link.close_soon(Reason.SHUTDOWN)
    with trio.move_on_after(2 * runtime.limits.close_timeout):
        for link in links:
            await link.wait_closed()
    runtime.desk.close()
