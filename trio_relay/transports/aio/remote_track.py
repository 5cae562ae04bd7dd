"""A track of the other side, as a Trio task reads it."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final, cast

import trio
from aiortc import MediaStreamTrack, RTCRtpReceiver

from ..webrtc import MediaKind
from .fate import Fate
from .media_internals import Decoding, Frames, set_enabled

__all__ = ["RemoteTrack"]


class RemoteTrack:
    """Implements `trio_relay.transports.webrtc.RemoteTrack`; what begins with ``_on`` is a callback."""

    def __init__(self, receiver: RTCRtpReceiver, track: MediaStreamTrack, fate: Fate, counters: Counter[str]) -> None:
        self._receiver: Final = receiver
        self._track: Final = track
        self._fate: Final = fate
        self._counters: Final = counters
        self._changed: Final = fate.add_lot()
        self._decoding: Final = Decoding(receiver, track.kind, self._on_drop)
        self._frames: Final = Frames(track, self._on_change, self._on_drop, self._on_idle)

    def __repr__(self) -> str:
        return f"<RemoteTrack {self.kind} {self.id}, {'ended' if self.ended else 'live'}>"

    @property
    def kind(self) -> MediaKind:
        """Audio or video."""
        return cast(MediaKind, self._track.kind)

    @property
    def id(self) -> str:
        """As the other side has named it."""
        return self._track.id

    @property
    def muted(self) -> bool:
        """Whether nothing has come of it yet."""
        return not self._frames.started

    @property
    def ended(self) -> bool:
        """Whether nothing will come any more; frames may still wait to be received."""
        return self._frames.ended or self._fate.over

    @property
    def track(self) -> MediaStreamTrack:
        """For those who read it on the asyncio loop instead of here."""
        return self._track

    async def receive(self) -> Any:
        """Trio. Waits for the next frame, an ``av.AudioFrame`` or ``av.VideoFrame``."""
        await trio.lowlevel.checkpoint()
        while True:
            self._fate.raise_bug()
            if self._fate.closed and self._fate.failure is None:
                raise trio.ClosedResourceError("the connection was closed here")
            frame = self._frames.take()
            if frame is not None:
                return frame
            if self._frames.ended:
                raise trio.EndOfChannel("the other side ended the track")
            if self._fate.failure is not None:
                raise trio.EndOfChannel(self._fate.failure)
            await self._changed.park()

    def __aiter__(self) -> RemoteTrack:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError):
            raise StopAsyncIteration from None

    def end(self) -> None:
        """Plain. Nothing will come any more; what waits can still be received."""
        self._frames.put_nowait(None)

    # Callbacks, in asyncio context

    def _on_change(self) -> None:
        self._changed.unpark_all()

    def _on_drop(self, frames: int) -> None:
        self._counters["webrtc_frames_dropped"] += frames

    def _on_idle(self, idle: bool) -> None:
        """Nobody reads, or somebody does again: what is decoded then begins with a whole picture."""
        set_enabled(self._receiver, not idle)
        if not idle:
            self._decoding.ask_for_whole()
