"""One connection with audio and video over aiortc, from its negotiation to its end, for Trio tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, cast

import trio
from aiortc import MediaStreamTrack, RTCDataChannel, RTCDtlsTransport, RTCSessionDescription

from ...wire.description import check_media_description_untrusted
from ..media_tracks import check_answered, check_offered
from ..webrtc import MediaTrack, WebRTCConfig
from . import internals, media_internals
from .candidates import Signalled
from .fragments import SLACK
from .loop import Loop
from .remote_track import RemoteTrack
from .sections import split_media_description
from .session import Session

__all__ = ["MediaPeer"]

_MAX_REFUSED: Final = 16
"""Data channels besides the one whose end is a hang-up, until the connection ends."""
_MAX_SOURCES: Final = 24
"""Of packets of the other side: each track has one, and one for what is sent again."""


class MediaPeer(Session):
    """Implements `trio_relay.transports.webrtc.MediaPeer`."""

    carries_media = True

    def __init__(self, loop: Loop, config: WebRTCConfig, counters: Counter[str]) -> None:
        self._tracks: list[RemoteTrack] = []
        self._channel: RTCDataChannel | None = None
        self._connected = False
        self._refused = 0
        super().__init__(loop, config, counters)
        self._aio.on("track", self._fate.guard(self._on_track))

    # Trio

    async def create_offer(self, tracks: Sequence[MediaTrack], *, label: str = "undefined") -> str:
        """Trio. Makes a session description with these tracks and a data channel, and all candidates."""
        check_offered(tracks)
        return await self._run("making an offer", self._make_offer, tracks, label)

    async def create_answer(self, offer: str, tracks: Sequence[MediaTrack] = ()) -> str:
        """Trio. Takes the other side's offer and returns the answer, with all candidates."""
        self._check_untrusted("offer", offer, check_media_description_untrusted)
        check_answered(offer, tracks)
        return await self._run("taking the offer", self._make_answer, *split_media_description(offer), tracks)

    async def accept_answer(self, answer: str) -> None:
        """Trio. Takes the other side's answer."""
        self._check_untrusted("answer", answer, check_media_description_untrusted)
        await self._run("taking the answer", self._take_answer, *split_media_description(answer))

    async def wait_connected(self) -> None:
        """Trio. Waits until media can flow."""
        await trio.lowlevel.checkpoint()
        while not self._connected:
            self._fate.check_negotiation()
            await self._changed.park()
        self._fate.check_negotiation()

    async def wait_closed(self) -> str:
        """Trio. Waits until the connection is at its end, and returns why."""
        await trio.lowlevel.checkpoint()
        while not self._fate.over:
            await self._changed.park()
        self._fate.raise_bug()
        return self._fate.failure or "the connection was closed here"

    @property
    def remote_tracks(self) -> tuple[RemoteTrack, ...]:
        """Plain. Those of the other side, as far as its description is known."""
        return tuple(self._tracks)

    # asyncio

    async def _make_offer(self, tracks: Sequence[MediaTrack], label: str) -> str:
        for track in tracks:
            self._aio.addTrack(cast(MediaStreamTrack, track))
        self._adopt(self._aio.createDataChannel(label, ordered=False))
        self._prepare()
        return await self._describe(await self._aio.createOffer())

    async def _make_answer(self, sdp: str, signalled: Signalled, tracks: Sequence[MediaTrack]) -> str:
        await self._aio.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
        self._prepare()
        for track in tracks:
            places = (t for t in self._aio.getTransceivers() if t.kind == track.kind and media_internals.may_send(t))
            transceiver = next(places)
            transceiver.sender.replaceTrack(cast(MediaStreamTrack, track))
            transceiver.direction = "sendrecv"
        await self._candidates.begin(signalled)
        return await self._describe(await self._aio.createAnswer())

    async def _take_answer(self, sdp: str, signalled: Signalled) -> None:
        await self._aio.setRemoteDescription(RTCSessionDescription(sdp, "answer"))
        await self._candidates.begin(signalled)

    # Plain, in asyncio context

    def _find_dtls(self) -> RTCDtlsTransport | None:
        transceivers = self._aio.getTransceivers()
        return transceivers[0].receiver.transport if transceivers else None

    def _adopt(self, channel: RTCDataChannel) -> None:
        """This data channel is the one whose end is a hang-up; what comes over it is of no interest."""
        self._channel = channel
        channel.on("close", self._fate.guard(self._on_close))

    def _fail(self, reason: str) -> None:
        """What happens because we close it does not count."""
        if not self._fate.closed:
            self._fate.fail(reason)

    # Callbacks, in asyncio context

    def _on_track(self, track: MediaStreamTrack) -> None:
        receiver = next(receiver for receiver in self._aio.getReceivers() if receiver.track is track)
        self._tracks.append(RemoteTrack(receiver, track, self._fate, self._counters))

    def _on_data_channel(self, channel: Any) -> None:
        if self._channel is None:
            self._adopt(channel)
            return
        self._counters["webrtc_channels_refused"] += 1
        self._refused += 1
        channel.close()
        if self._refused > _MAX_REFUSED:
            self._fail(f"the other side opened more than {_MAX_REFUSED} data channels")

    def _on_state(self) -> None:
        state = self._aio.connectionState
        if state == "connected":
            if not self._connected:
                media_internals.bound_sources(self._dtls(), _MAX_SOURCES, self._on_dropped)
            self._connected = True
            self._changed.unpark_all()
        elif state == "failed" and not self._connected:
            self._fail(self._why_failed())
        elif state in ("failed", "closed"):
            self._fail(self._ending() or "the other side closed the connection")

    def _on_close(self) -> None:
        self._fail(self._ending() or "the other side has hung up")

    def _on_packet_taken(self) -> None:
        sctp = self._aio.sctp
        if sctp is not None and -internals.window(sctp) > SLACK:
            self._counters["webrtc_overflows"] += 1
            self._fail("the other side sent more than was asked for")
