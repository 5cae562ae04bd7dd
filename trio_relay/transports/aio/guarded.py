"""What all connections have in common: ICE, DTLS, their guards, their end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Final, TypeVar, TypeVarTuple

import aioice
import trio
from aiortc import RTCConfiguration, RTCDtlsTransport, RTCIceServer, RTCIceTransport
from aiortc.rtcconfiguration import RTCBundlePolicy, RTCIceTransportPolicy

from ...exceptions import NegotiationFailed, RemoteProtocolError
from ...wire.description import Candidate
from ..webrtc import CandidatePair, WebRTCConfig
from . import closing, internals
from .candidates import Candidates
from .closing import Connection
from .fate import Fate, describe
from .fragments import MAX_STREAMS, bound_fragments, keep_window_closed
from .loop import Loop, Owner
from .reassembly import bound_disorder

__all__ = ["Guarded"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_MAX_DATAGRAMS: Final = 2048
"""That wait to be decrypted; a sender that is far ahead loses some, and repeats them."""
_POLICIES: Final = {"all": RTCIceTransportPolicy.ALL, "relay": RTCIceTransportPolicy.RELAY}


class Guarded(ABC):
    """One connection over one transport.

    Raises:
        NegotiationFailed: the asyncio loop has ended.
    """

    carries_media = False
    max_streams = MAX_STREAMS

    def __init__(self, loop: Loop, config: WebRTCConfig, counters: Counter[str]) -> None:
        self._loop: Final = loop
        self._config: Final = config
        self._counters: Final = counters
        self._fate: Final = Fate()
        self._changed: Final = self._fate.add_lot()
        self._owner: Final = Owner(loop, self._on_fault, counters)
        self._agent: aioice.Connection | None = None
        try:
            self._connection: Final[Connection] = loop.call(self._owner, self._make, _configuration(config))
        except trio.BrokenResourceError as error:
            raise NegotiationFailed(str(error)) from error
        loop.ending.add(self._on_loop_ended)
        self._candidates: Final = Candidates(partial(loop.spawn, self._owner), self._ice, counters)

    # Trio

    async def add_candidate(self, candidate: Candidate | None) -> None:
        """Trio. Takes one more address of the other side, or None; it is looked up in the background."""
        await trio.lowlevel.checkpoint()
        self._fate.check_negotiation()
        try:
            self._loop.call(self._owner, self._candidates.add, candidate)
        except trio.BrokenResourceError as error:
            raise NegotiationFailed(str(error)) from error

    def selected_pair(self) -> CandidatePair | None:
        """Plain. Which addresses are in use; None before it is known, and after the end."""
        dtls = self._find_dtls()
        return internals.selected_pair(dtls) if dtls is not None else None

    async def aclose(self, timeout: float) -> None:
        """Trio, shielded. Ends it; whoever waits gets `trio.ClosedResourceError`, or `NegotiationFailed`."""
        self._fate.close()
        self._loop.ending.discard(self._on_loop_ended)
        await closing.close(self._loop, self._owner, self._connection, self._agent, self._candidates.tasks, timeout)

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
    def _check_untrusted(kind: str, sdp: str, check: Callable[[str], T]) -> T:
        try:
            return check(sdp)
        except RemoteProtocolError as error:
            raise NegotiationFailed(f"the {kind}: {error}") from error

    # asyncio

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

    def _check_addresses(self) -> None:
        """Plain, in asyncio context. Our addresses have been gathered: there is one at least."""
        if not self._ice().iceGatherer.getLocalCandidates():
            relayed = self._config.ice_transport_policy == "relay"
            where = "the TURN server gave none" if relayed else "no interface has one"
            raise NegotiationFailed(f"ICE: no address of ours: {where}")

    # Plain, in asyncio context

    @abstractmethod
    def _make(self, configuration: RTCConfiguration) -> Connection:
        """What is to be guarded."""

    @abstractmethod
    def _find_dtls(self) -> RTCDtlsTransport | None:
        """The one transport; None while there is none."""

    def _dtls(self) -> RTCDtlsTransport:
        dtls = self._find_dtls()
        assert dtls is not None
        return dtls

    def _ice(self) -> RTCIceTransport:
        transport: RTCIceTransport = self._dtls().transport
        return transport

    def _prepare(self) -> None:
        """Sets what aiortc has no settings for, before the transport starts."""
        timeout, dtls = self._config.negotiation_timeout, self._dtls()
        self._agent = internals.ice_connection(dtls)
        internals.set_patience(dtls, gathering=timeout / 3, checking=timeout * 0.7)
        internals.bound_datagrams(dtls, _MAX_DATAGRAMS, self._on_dropped, media=self.carries_media)
        internals.hasten_checks(dtls)
        sctp = self._connection.sctp
        if sctp is not None:
            internals.set_window(sctp, self._config.receive_window)
            bound_fragments(sctp, self._config.receive_window, self.max_streams)
            bound_disorder(sctp, self._on_dropped)
            keep_window_closed(sctp)
            internals.on_packet(sctp, self._on_packet)

    def _ending(self) -> str | None:
        """Why nothing more will come; None when the other side wanted it so."""
        dtls = self._dtls()
        if dtls.state == "connected" or internals.remote_said_goodbye(dtls):
            return None
        if internals.ice_has_ended(dtls):
            return "ICE: the other side no longer answers"
        return "DTLS: the connection ended without a goodbye"

    # Callbacks, in asyncio context

    @abstractmethod
    def _on_packet_taken(self) -> None:
        """Callback. SCTP took a packet."""

    def _on_fault(self, error: BaseException) -> None:
        self._fate.fail(f"aiortc failed: {describe(error)}")

    def _on_dropped(self) -> None:
        self._counters["webrtc_datagrams_dropped"] += 1

    def _on_loop_ended(self) -> None:
        self._fate.fail("the asyncio loop of WebRTC has ended")


def _configuration(config: WebRTCConfig) -> RTCConfiguration:
    """An empty list of servers, not none: that would be a public STUN server. All sections share one transport."""
    servers = [
        RTCIceServer(server.urls, username=server.username or None, credential=server.credential or None)
        for server in config.ice_servers
    ]
    return RTCConfiguration(
        iceServers=servers,
        iceTransportPolicy=_POLICIES[config.ice_transport_policy],
        bundlePolicy=RTCBundlePolicy.MAX_BUNDLE,
    )
