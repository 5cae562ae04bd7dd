"""One connection with a data channel over aiortc, from its negotiation to its end, for Trio tasks."""

from __future__ import annotations

from collections import Counter
from typing import Final

import trio
from aiortc import RTCDataChannel, RTCDtlsTransport, RTCSctpTransport, RTCSessionDescription

from ...wire.description import check_description_untrusted
from ..webrtc import WebRTCConfig
from . import internals
from .candidates import Signalled, split_description
from .data_channel import Channel, Inflow
from .loop import Loop
from .session import Session

__all__ = ["PeerConnection"]

_MAX_REFUSED: Final = 16
"""Data channels besides the one that counts, until the connection ends."""


class PeerConnection(Session):
    """Implements `trio_relay.transports.webrtc.PeerConnection`."""

    def __init__(self, loop: Loop, config: WebRTCConfig, counters: Counter[str]) -> None:
        self._channel: Channel | None = None
        self._inflow: Inflow | None = None
        self._opened = False
        self._refused = 0
        super().__init__(loop, config, counters)

    # Trio

    async def create_offer(self, label: str, *, protocol: str = "", ordered: bool = True) -> str:
        """Trio. Makes a reliable data channel, and returns a session description with all candidates."""
        return await self._run("making an offer", self._make_offer, label, protocol, ordered)

    async def create_answer(self, offer: str) -> str:
        """Trio. Takes the other side's offer and returns the answer, with all candidates."""
        self._check_untrusted("offer", offer, check_description_untrusted)
        return await self._run("taking the offer", self._make_answer, *split_description(offer))

    async def accept_answer(self, answer: str) -> None:
        """Trio. Takes the other side's answer."""
        self._check_untrusted("answer", answer, check_description_untrusted)
        await self._run("taking the answer", self._take_answer, *split_description(answer))

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

    # asyncio

    async def _make_offer(self, label: str, protocol: str, ordered: bool) -> str:
        self._adopt(self._aio.createDataChannel(label, protocol=protocol, ordered=ordered))
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

    # Plain, in asyncio context

    def _sctp(self) -> RTCSctpTransport:
        sctp = self._aio.sctp
        assert sctp is not None
        return sctp

    def _find_dtls(self) -> RTCDtlsTransport | None:
        return self._aio.sctp.transport if self._aio.sctp is not None else None

    def _adopt(self, channel: RTCDataChannel) -> None:
        """This data channel is the one that counts."""
        self._inflow = Inflow(self._loop, self._owner, self._sctp(), self._config, self._fate)
        self._channel = Channel(self._loop, self._owner, channel, self._config, self._fate, self._inflow)
        channel.on("open", self._fate.guard(self._on_open))
        channel.on("close", self._fate.guard(self._on_close))

    # Callbacks, in asyncio context

    def _on_open(self) -> None:
        internals.bound_slow_start(self._sctp())
        self._opened = True
        self._changed.unpark_all()

    def _on_data_channel(self, channel: RTCDataChannel) -> None:
        if self._channel is None:
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
            self._fate.fail(self._why_failed())
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
        if self._inflow is not None:
            self._inflow.on_packet()
        if self._sctp().state == "closed" and not self._opened:
            self._fate.fail("SCTP: the other side refused the association")
