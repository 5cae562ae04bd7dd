"""`open_peer`."""

from __future__ import annotations

import secrets
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from random import random
from typing import Final, Literal, Protocol

import trio

from ..limits import Limits
from ..node.events import Events
from ..node.negotiation import WebRTC
from ..node.node import Node
from ..node.services import Services, open_services
from ..transports.webrtc import Factory, MediaFactory, WebRTCConfig
from ..transports.webrtc_implementation import load, load_media
from .connections.host import Fallback
from .events import PeerEvent
from .fallback.overlay_pipe import OverlayHub
from .fallback.relays import Relays
from .fallback.rounds import Timing
from .options import CLOUD_CONFIG, CLOUD_HOST, CLOUD_PORT, PeerLimits, PeerOptions
from .peer import Peer
from .registration import Registration, Signals
from .serialization.builtin import Serializers
from .serialization.serializer import SerializerFactory
from .signalling.address import BrokerAddress, check_id, random_token
from .signalling.desk import Desk
from .signalling.signaller import Signaller
from .switchboard import Switchboard

__all__ = ["build_peer", "open_peer"]


@asynccontextmanager
async def open_peer(
    id: str | None = None,
    *,
    host: str = CLOUD_HOST,
    port: int = CLOUD_PORT,
    path: str = "/",
    key: str = "peerjs",
    secure: bool | None = None,
    token: str | None = None,
    config: WebRTCConfig = CLOUD_CONFIG,
    debug: int | None = None,
    ping_interval: float = 5.0,
    serializers: Mapping[str, SerializerFactory] | None = None,
    ssl_context: ssl.SSLContext | None = None,
    reconnect: bool = True,
    max_reconnect_delay: float = 30.0,
    connect_timeout: float = 30.0,
    fallback: Literal["relay"] | None = None,
    node: Node | None = None,
    limits: PeerLimits | None = None,
    network: Limits | None = None,
) -> AsyncIterator[Peer]:
    """Registers a peer at a broker (PeerServer), wire-compatible with `peerjs` 1.5; the block begins when that is done.

    The end of the block destroys the peer: its connections are closed when what they sent has left, within
    `PeerLimits.close_timeout`. A block that is cancelled closes them at once.

    Args:
        id: letters and digits, and between them single spaces, ``-`` and ``_``; None: the broker gives one.
        host, port, path, key: where the broker is, and what it was told as ``path`` and ``key``. The default is the
            broker of the PeerJS project.
        secure: whether the broker is spoken to over TLS; None: only if it is the default one.
        token: a secret that lets a peer come back under its id; default: a random one.
        config: of WebRTC: STUN and TURN servers, timeouts. The default has the servers of the PeerJS project.
        debug: sets the level of the logger ``trio_relay.peerjs``: 0 nothing, 1 errors, 2 warnings, 3 everything; None
            leaves it.
        ping_interval: seconds between the signs of life that the broker wants.
        serializers: further serializations by name; see `Serializer`.
        ssl_context: for TLS to the broker.
        reconnect: whether a lost connection to the broker is tried again. Connections to peers live on meanwhile.
        max_reconnect_delay: seconds; between attempts.
        connect_timeout: seconds; for the broker to register the peer, and for `Peer.connect` and `Peer.call`.
        fallback: ``"relay"``: data connections to peers that were opened with it, too, go on without WebRTC, sealed,
            over `node` or a broker of this package.
        node: in the overlay, for `fallback`; nobody else may receive from it.
        limits: of this peer.
        network: of its connection to the broker.

    Raises:
        PeerError: ``invalid-id``; ``unavailable-id``: somebody has it; ``invalid-key``, ``server-error``,
            ``socket-error``, ``ssl-unavailable``: the broker can not be reached, or refuses the peer.
        ValueError: an option has a value that makes no sense.
        ImportError: what WebRTC needs is not installed: ``pip install 'trio-relay[webrtc]'``.
    """
    options = PeerOptions(
        host=host,
        port=port,
        path=path,
        key=key,
        secure=secure,
        token=token,
        config=config,
        debug=debug,
        ping_interval=ping_interval,
        serializers=dict(serializers or {}),
        ssl_context=ssl_context,
        reconnect=reconnect,
        max_reconnect_delay=max_reconnect_delay,
        connect_timeout=connect_timeout,
        fallback=fallback,
        node=node,
        limits=limits or PeerLimits(),
        network=network or Limits(),
    )
    async with _open(id, options) as peer:
        yield peer


@asynccontextmanager
async def _open(id: str | None, options: PeerOptions) -> AsyncIterator[Peer]:
    if id is not None:
        check_id(id)
    options.set_log_level()
    counts = Counter[str]()
    async with AsyncExitStack() as stack:
        factory, media = await _enter_factories(stack, options, counts)
        services = await stack.enter_async_context(open_services())
        webrtc, broker = WebRTC(factory, options.config), _Broker(options, counts)
        peer, registration = build_peer(options, services, webrtc, media, broker, counts, id)
        await registration.connect()
        try:
            yield peer
            await peer.destroy()
        finally:
            peer.abandon()


async def _enter_factories(
    stack: AsyncExitStack, options: PeerOptions, counts: Counter[str]
) -> tuple[Factory, MediaFactory]:
    """What makes connections, for as long as `stack` lasts."""
    timeout = options.limits.close_timeout
    media = await stack.enter_async_context(load_media()(close_timeout=timeout, counters=counts))
    if options.config.factory is not None:
        return options.config.factory, media
    return await stack.enter_async_context(load()(close_timeout=timeout, counters=counts)), media


class Broker(Protocol):
    """Where the peer is registered; `_Broker` is one."""

    def make_signaller(self, id: str | None, known: bool, desk: Desk) -> Signals:
        """See `MakeSignaller`."""
        ...

    def meeting_url(self, id: str, peer: str, meeting: str) -> str:
        """Where two peers meet at it."""
        ...


class _Broker:
    """A PeerServer, as its options tell."""

    def __init__(self, options: PeerOptions, counts: Counter[str]) -> None:
        self.address: Final = BrokerAddress(
            host=options.host,
            port=options.port,
            path=options.path,
            key=options.key,
            secure=options.is_secure,
            ssl_context=options.ssl_context,
        )
        self._token: Final = options.token if options.token is not None else random_token()
        self._options: Final = options
        self._counts: Final = counts

    def make_signaller(self, id: str | None, known: bool, desk: Desk) -> Signaller:
        """See `MakeSignaller`."""
        options = self._options
        return Signaller(
            self.address,
            id=id,
            token=self._token,
            ping_interval=options.ping_interval,
            reconnect=options.reconnect,
            max_reconnect_delay=options.max_reconnect_delay,
            connect_timeout=options.connect_timeout,
            limits=options.network,
            counts=self._counts,
            desk=desk,
            random=random,
            relayed=options.fallback is not None,
            known=known,
        )

    def meeting_url(self, id: str, peer: str, meeting: str) -> str:
        """Where two peers meet at it."""
        return str(self.address.meeting_url(id, self._token, peer, meeting))


def build_peer(
    options: PeerOptions,
    services: Services,
    webrtc: WebRTC,
    media: MediaFactory,
    broker: Broker,
    counts: Counter[str],
    id: str | None,
) -> tuple[Peer, Registration]:
    """The parts of a peer, put together; none of them does anything yet, but for receiving from its node."""
    events = Events[PeerEvent](options.network.event_buffer)
    serializers = Serializers(options.serializers)
    changed = trio.lowlevel.ParkingLot()
    timing = Timing(close_timeout=options.limits.close_timeout)
    impatient = replace(webrtc.config, negotiation_timeout=min(webrtc.config.negotiation_timeout, timing.patience))
    hub = None
    if options.node is not None:
        hub = OverlayHub(options.node, counts)
        services.start_soon(hub.run)

    def fallback() -> Fallback:
        own_id = registration.id or ""
        relays = Relays(
            hub=hub,
            meeting_url=partial(broker.meeting_url, own_id) if registration.relayed else None,
            limits=options.network,
            ssl_context=options.ssl_context,
            counts=counts,
        )
        node = hub.node.id if hub is not None else None
        quick = WebRTC(webrtc.factory, impatient)
        return Fallback(relays=relays, relayed=registration.relayed, node=node, webrtc=quick, timing=timing)

    board = Switchboard(
        services,
        webrtc,
        media,
        options.limits,
        serializers,
        events,
        counts,
        changed,
        fallback if options.fallback is not None else None,
    )
    registration = Registration(services, broker.make_signaller, board.take, events, id, changed)
    board.join(registration)
    return Peer(options, services, registration, board, events, partial(secrets.token_hex, 6)), registration
