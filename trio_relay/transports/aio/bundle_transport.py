"""ICE, DTLS, SCTP and the media of one connection, of aiortc's parts but without its negotiation.

aiortc's ``RTCPeerConnection`` can neither take an offer back nor end one of its tracks; it takes places that the other
side offers for tracks of ours, keeps every place for ever, and gives all tracks the same stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, Literal, TypeAlias

from aiortc import (
    RTCCertificate,
    RTCConfiguration,
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCDtlsTransport,
    RTCIceCandidate,
    RTCIceGatherer,
    RTCIceParameters,
    RTCIceTransport,
    RTCRtpReceiver,
    RTCRtpSender,
    RTCSctpCapabilities,
    RTCSctpTransport,
)
from aiortc.rtcrtpparameters import RTCRtpReceiveParameters, RTCRtpSendParameters

from .bundle_flow import SendWindow
from .bundle_internals import forget_sources, route_repeats, set_controlling, set_roles

__all__ = ["BundleTransport", "Progress", "Role"]

Progress: TypeAlias = Literal["new", "connecting", "connected", "failed", "closed"]
Role: TypeAlias = Literal["client", "server"]


class BundleTransport:
    """One connection. Everything is called in asyncio context; what is not said to be asyncio's does not wait.

    Attributes:
        progress: ``failed`` before it was connected, ``closed`` after that.
        on_progress: callback.
    """

    def __init__(self, configuration: RTCConfiguration) -> None:
        self._gatherer: Final = RTCIceGatherer(
            iceServers=configuration.iceServers, iceTransportPolicy=configuration.iceTransportPolicy
        )
        self.ice: Final = RTCIceTransport(self._gatherer)
        self.dtls: Final = RTCDtlsTransport(self.ice, [RTCCertificate.generateCertificate()])
        self.sctp: Final = RTCSctpTransport(self.dtls)
        self._send_window: Final = SendWindow(self.sctp)
        self.progress: Progress = "new"
        self.on_progress: Callable[[], None] = _do_nothing
        self._media: Final[set[RTCRtpSender | RTCRtpReceiver]] = set()
        self._waiting: Final[dict[object, Callable[[], Coroutine[Any, Any, None]]]] = {}
        self._tasks: Final[set[asyncio.Task[None]]] = set()
        self._gathering: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self.ice.on("statechange", self._on_change)
        self.dtls.on("statechange", self._on_change)

    # What descriptions say of it

    @property
    def ice_parameters(self) -> RTCIceParameters:
        return self._gatherer.getLocalParameters()

    @property
    def candidates(self) -> list[RTCIceCandidate]:
        return self._gatherer.getLocalCandidates()

    @property
    def fingerprints(self) -> list[RTCDtlsFingerprint]:
        """One, as browsers have it: each section says it again."""
        return [known for known in self.dtls.getLocalParameters().fingerprints if known.algorithm == "sha-256"]

    # Its course

    async def gather(self) -> None:
        """asyncio. Waits until our addresses are known; the search goes on when this is cancelled."""
        if self._gathering is None:
            self._gathering = asyncio.ensure_future(self._gatherer.gather())
        await asyncio.shield(self._gathering)

    def offer(self) -> None:
        """An offer is on its way: the other side's checks may come before its answer, and expect us to be controlling.

        Otherwise aioice finds a conflict of roles, and half of the time does not get out of it.
        """
        if self.progress == "new":
            set_controlling(self.ice, True)

    def connect(self, ice: RTCIceParameters, dtls: RTCDtlsParameters, role: Role, *, offered: bool) -> None:
        """Once, when the other side's parameters are known.

        Args:
            role: ours in DTLS.
            offered: the offer was ours.
        """
        set_roles(self.ice, self.dtls, role, controlling=offered)
        self.progress = "connecting"
        self._spawn(self._connect(ice, dtls))
        self.on_progress()

    def start_channels(self, capabilities: RTCSctpCapabilities | None, port: int) -> None:
        """Now, or when it is connected."""
        self._when_connected(self.sctp, partial(self.sctp.start, capabilities, port))

    async def close(self) -> None:
        """asyncio. Ends it, with a goodbye; a second call waits for the first."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    # Its media

    def add(self, media: RTCRtpSender | RTCRtpReceiver) -> None:
        """It is to be stopped at the end, or before."""
        self._media.add(media)

    def send(self, sender: RTCRtpSender, parameters: RTCRtpSendParameters) -> None:
        """Now, or when it is connected; once."""
        self._when_connected(sender, partial(sender.send, parameters))

    def receive(self, receiver: RTCRtpReceiver, parameters: RTCRtpReceiveParameters) -> None:
        """Likewise."""
        self._when_connected(receiver, partial(self._receive, receiver, parameters))

    def stop(self, media: RTCRtpSender | RTCRtpReceiver) -> None:
        """In the background."""
        if media in self._media:
            self._media.discard(media)
            self._waiting.pop(media, None)
            self._spawn(self._stop(media))

    # For `closing.close`

    def getReceivers(self) -> list[RTCRtpReceiver]:
        return [media for media in self._media if isinstance(media, RTCRtpReceiver)]

    def remove_all_listeners(self) -> None:
        self.on_progress = _do_nothing

    # Within

    async def _connect(self, ice: RTCIceParameters, dtls: RTCDtlsParameters) -> None:
        await self.ice.start(ice)
        if self.ice.state == "completed" and self._closing is None:
            await self.dtls.start(dtls)

    async def _close(self) -> None:
        self._waiting.clear()
        self._on_change()
        for media in tuple(self._media):
            await self._stop(media)
        self._send_window.stop()
        await self.sctp.stop()
        await self.dtls.stop()
        await self.ice.stop()

    async def _begin(self, what: object, begin: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if what is self.sctp or what in self._media:  # it has not been stopped since
            await begin()

    async def _receive(self, receiver: RTCRtpReceiver, parameters: RTCRtpReceiveParameters) -> None:
        await receiver.receive(parameters)
        route_repeats(self.dtls, receiver, parameters)

    async def _stop(self, media: RTCRtpSender | RTCRtpReceiver) -> None:
        await media.stop()
        forget_sources(self.dtls, media)

    def _when_connected(self, what: object, begin: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if self.dtls.state == "connected":
            self._spawn(self._begin(what, begin))
        elif self.progress in ("new", "connecting"):
            self._waiting[what] = begin

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _on_change(self) -> None:
        """Callback."""
        progress = self._find_progress()
        if progress == self.progress:
            return
        self.progress = progress
        self.on_progress()
        if progress == "connected":
            for what, begin in self._waiting.items():
                self._spawn(self._begin(what, begin))
            self._waiting.clear()
        elif progress in ("closed", "failed") and self._closing is None:
            self._closing = asyncio.ensure_future(self._close())

    def _find_progress(self) -> Progress:
        if self._closing is not None:
            return "failed" if self.progress == "failed" else "closed"
        if self.dtls.state == "connected" and self.ice.state == "completed":
            return "connected"
        if self.progress == "connected":
            return "closed"
        if "failed" in (self.ice.state, self.dtls.state) or "closed" in (self.ice.state, self.dtls.state):
            return "failed"
        return self.progress


def _do_nothing() -> None:
    pass
