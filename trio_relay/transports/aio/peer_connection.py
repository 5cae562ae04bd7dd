"""One connection over aiortc, from its negotiation to its end, for Trio tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Final, TypeVar, TypeVarTuple

import aioice
import trio
from aiortc import (
    RTCConfiguration,
    RTCDataChannel,
    RTCIceServer,
    RTCIceTransport,
    RTCPeerConnection,
    RTCSctpTransport,
    RTCSessionDescription,
)
from aiortc.rtcconfiguration import RTCIceTransportPolicy

from ...exceptions import NegotiationFailed, RemoteProtocolError
from ...wire.description import Candidate, check_description_untrusted
from ..webrtc import CandidatePair, WebRTCConfig
from . import closing, internals
from .candidates import Candidates, Signalled, split_description
from .data_channel import Channel
from .fate import Fate, describe
from .loop import Loop, Owner

__all__ = ["PeerConnection"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_MAX_REFUSED: Final = 16
"""Data channels besides the one that counts, until the connection ends."""
_MAX_DATAGRAMS: Final = 2048
"""That wait to be decrypted; a sender that is far ahead loses some, and repeats them."""
_POLICIES: Final = {"all": RTCIceTransportPolicy.ALL, "relay": RTCIceTransportPolicy.RELAY}


class PeerConnection:
    """Implements `trio_relay.transports.webrtc.PeerConnection`.

    Raises:
        NegotiationFailed: the asyncio loop has ended.
    """

    def __init__(self, loop: Loop, config: WebRTCConfig, counters: Counter[str]) -> None:
        self._loop: Final = loop
        self._config: Final = config
        self._counters: Final = counters
        self._fate: Final = Fate()
        self._changed: Final = self._fate.add_lot()
        self._owner: Final = Owner(loop, self._on_fault, counters)
        self._channel: Channel | None = None
        self._agent: aioice.Connection | None = None
        self._opened = False
        self._refused = 0
        try:
            self._aio: Final[RTCPeerConnection] = loop.call(self._owner, RTCPeerConnection, _configuration(config))
        except trio.BrokenResourceError as error:
            raise NegotiationFailed(str(error)) from error
        loop.ending.add(self._on_loop_ended)
        self._candidates: Final = Candidates(partial(loop.spawn, self._owner), self._ice, counters)
        self._aio.on("connectionstatechange", self._fate.guard(self._on_state))
        self._aio.on("datachannel", self._fate.guard(self._on_data_channel))

    # Trio

    async def create_offer(self, label: str, *, protocol: str = "") -> str:
        """Trio. Makes an ordered, reliable data channel, and returns a session description with all candidates."""
        return await self._run("making an offer", self._make_offer, label, protocol)

    async def create_answer(self, offer: str) -> str:
        """Trio. Takes the other side's offer and returns the answer, with all candidates."""
        sdp, signalled = self._split_untrusted("offer", offer)
        return await self._run("taking the offer", self._make_answer, sdp, signalled)

    async def accept_answer(self, answer: str) -> None:
        """Trio. Takes the other side's answer."""
        sdp, signalled = self._split_untrusted("answer", answer)
        await self._run("taking the answer", self._take_answer, sdp, signalled)

    async def add_candidate(self, candidate: Candidate | None) -> None:
        """Trio. Takes one more address of the other side, or None; it is looked up in the background."""
        await trio.lowlevel.checkpoint()
        self._fate.check_negotiation()
        try:
            self._loop.call(self._owner, self._candidates.add, candidate)
        except trio.BrokenResourceError as error:
            raise NegotiationFailed(str(error)) from error

    async def channel(self) -> Channel:
        """Trio. Waits until our data channel, or the first of the other side, is open."""
        await trio.lowlevel.checkpoint()
        while True:
            if self._opened and not self._fate.closed:
                self._fate.raise_bug()
                assert self._channel is not None
                return self._channel
            self._fate.check_negotiation()
            await self._changed.park()

    def selected_pair(self) -> CandidatePair | None:
        """Plain. Which addresses are in use; None before it is known, and after the end."""
        return internals.selected_pair(self._aio.sctp) if self._aio.sctp is not None else None

    async def aclose(self, timeout: float) -> None:
        """Trio, shielded. Ends it; whoever waits gets `trio.ClosedResourceError`, or `NegotiationFailed`."""
        self._fate.close()
        self._loop.ending.discard(self._on_loop_ended)
        await closing.close(self._loop, self._owner, self._aio, self._agent, self._candidates.tasks, timeout)

    async def _run(self, doing: str, function: Callable[[*Ts], Coroutine[Any, Any, T]], *args: *Ts) -> T:
        """Trio. Whatever aiortc makes of what the other side sent is a failed negotiation."""
        self._fate.check_negotiation()
        try:
            return await self._loop.run(self._owner, function, *args)
        except NegotiationFailed:
            raise
        except trio.BrokenResourceError as error:
            raise NegotiationFailed(f"{doing}: {error}") from error
        except Exception as error:
            raise NegotiationFailed(f"{doing}: {describe(error)}") from error

    @staticmethod
    def _split_untrusted(kind: str, sdp: str) -> tuple[str, Signalled]:
        try:
            check_description_untrusted(sdp)
        except RemoteProtocolError as error:
            raise NegotiationFailed(f"the {kind}: {error}") from error
        return split_description(sdp)

    # asyncio

    async def _make_offer(self, label: str, protocol: str) -> str:
        self._adopt(self._aio.createDataChannel(label, protocol=protocol))
        self._prepare()
        return await self._describe(await self._aio.createOffer())

    async def _make_answer(self, sdp: str, signalled: Signalled) -> str:
        await self._aio.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
        self._prepare()
        await self._candidates.begin(signalled)
        return await self._describe(await self._aio.createAnswer())

    async def _take_answer(self, sdp: str, signalled: Signalled) -> None:
        await self._aio.setRemoteDescription(RTCSessionDescription(sdp, "answer"))
        await self._candidates.begin(signalled)

    async def _describe(self, description: RTCSessionDescription) -> str:
        """asyncio. Gathers our addresses; ICE begins when the other side's description is there, too."""
        await self._aio.setLocalDescription(description)
        if not self._ice().iceGatherer.getLocalCandidates():
            relayed = self._config.ice_transport_policy == "relay"
            where = "the TURN server gave none" if relayed else "no interface has one"
            raise NegotiationFailed(f"ICE: no address of ours: {where}")
        sdp: str = self._aio.localDescription.sdp
        return sdp

    async def _on_packet(self, take: Callable[[bytes], Awaitable[None]], packet: bytes) -> None:
        """asyncio. Around SCTP: what it fails at ends this connection, with a reason."""
        if self._fate.over:
            return
        try:
            await take(packet)
        except ConnectionError:  # how aiortc ends its pump
            raise
        except Exception as error:
            self._counters["webrtc_faults"] += 1
            self._fate.fail(f"SCTP: {describe(error)}")
        else:
            self._fate.guard(self._on_packet_taken)()

    # Plain, in asyncio context

    def _sctp(self) -> RTCSctpTransport:
        sctp = self._aio.sctp
        assert sctp is not None
        return sctp

    def _ice(self) -> RTCIceTransport:
        transport: RTCIceTransport = self._sctp().transport.transport
        return transport

    def _prepare(self) -> None:
        """Sets what aiortc has no settings for, before the transport starts."""
        timeout = self._config.negotiation_timeout
        self._agent = internals.ice_connection(self._sctp())
        internals.set_window(self._sctp(), self._config.receive_window)
        internals.set_patience(self._sctp(), gathering=timeout / 3, checking=timeout * 0.7)
        internals.bound_datagrams(self._sctp(), _MAX_DATAGRAMS, self._on_dropped)
        internals.hasten_checks(self._sctp())
        internals.on_packet(self._sctp(), self._on_packet)

    def _adopt(self, channel: RTCDataChannel) -> None:
        """This data channel is the one that counts."""
        self._channel = Channel(self._loop, self._owner, channel, self._config, self._fate)
        channel.on("open", self._fate.guard(self._on_open))
        channel.on("close", self._fate.guard(self._on_close))

    # Callbacks, in asyncio context

    def _on_fault(self, error: BaseException) -> None:
        self._fate.fail(f"aiortc failed: {describe(error)}")

    def _on_dropped(self) -> None:
        self._counters["webrtc_datagrams_dropped"] += 1

    def _on_loop_ended(self) -> None:
        self._fate.fail("the asyncio loop of WebRTC has ended")

    def _on_open(self) -> None:
        internals.bound_slow_start(self._sctp())
        self._opened = True
        self._changed.unpark_all()

    def _on_data_channel(self, channel: RTCDataChannel) -> None:
        if self._channel is None:
            if not channel.ordered or channel.maxRetransmits is not None or channel.maxPacketLifeTime is not None:
                self._fate.fail("the other side's data channel is not ordered and reliable")
                return
            self._adopt(channel)
            self._on_open()
            return
        self._counters["webrtc_channels_refused"] += 1
        self._refused += 1
        channel.close()
        if self._refused > _MAX_REFUSED:
            self._fate.fail(f"the other side opened more than {_MAX_REFUSED} data channels")

    def _on_state(self) -> None:
        state = self._aio.connectionState
        if state == "failed":
            ice = self._aio.iceConnectionState == "failed"
            self._fate.fail("ICE: no pair of addresses works" if ice else "DTLS: the handshake failed")
        elif state == "closed" and not self._opened:
            self._fate.fail(self._ending() or "DTLS: the other side closed the connection")

    def _on_close(self) -> None:
        """The channel has closed: by itself, with its association, or because the connection is gone."""
        reason = self._ending()
        if reason is not None:
            self._fate.fail(reason)
        elif not self._opened:
            self._fate.fail("SCTP: the other side closed the data channel before it was open")
        else:
            assert self._channel is not None
            self._channel.on_ended()

    def _on_packet_taken(self) -> None:
        if self._channel is not None:
            self._channel.on_packet()
        if self._sctp().state == "closed" and not self._opened:
            self._fate.fail("SCTP: the other side refused the association")

    def _ending(self) -> str | None:
        """Why there will be no more messages; None when the other side wanted it so."""
        sctp = self._sctp()
        if sctp.transport.state == "connected" or internals.remote_said_goodbye(sctp):
            return None
        if internals.ice_has_ended(sctp):
            return "ICE: the other side no longer answers"
        return "DTLS: the connection ended without a goodbye"


def _configuration(config: WebRTCConfig) -> RTCConfiguration:
    """An empty list of servers, not none: that would be a public STUN server."""
    servers = [
        RTCIceServer(server.urls, username=server.username or None, credential=server.credential or None)
        for server in config.ice_servers
    ]
    return RTCConfiguration(iceServers=servers, iceTransportPolicy=_POLICIES[config.ice_transport_policy])
