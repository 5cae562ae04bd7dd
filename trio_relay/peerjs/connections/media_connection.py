"""A call as the application sees it: audio and video with one other peer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Literal

import trio

from ...exceptions import PeerError
from ...transports.media_tracks import check_answered
from ...transports.webrtc import MediaPeer, MediaTrack, RemoteTrack
from ...wire.json import JSONValue
from ..messages import NO_METADATA, Offer

__all__ = ["MediaConnection"]


class MediaConnection:
    """A call; made by `Peer.call`, which returns when it was answered, and by `Peer.accept`, for `answer` or `aclose`.

    Remote tracks are an async iteration: ``async for track in connection``. It ends when there are no more; there
    may be none at all.

    When a caller gives up before it is answered, nothing tells the other side: `answer` then fails.
    """

    type: Final[Literal["media"]] = "media"

    def __init__(
        self, peer: str, offer: Offer, *, incoming: bool, tracks: Iterable[MediaTrack], stop: Callable[[], None]
    ) -> None:
        """For the task of the call: `wait_answer`, `open_on` and `end` are its own; `stop` ends it."""
        self._peer: Final = peer
        self._offer: Final = offer
        self._incoming: Final = incoming
        self._stop: Final = stop
        self._local_tracks: tuple[MediaTrack, ...] = tuple(tracks)
        self._media: MediaPeer | None = None
        self._taken = 0
        self._answering: Final = trio.Event()
        self._settled: Final = trio.Event()
        self._ended: Final = trio.Event()
        self._open = self._closing = False
        self._failure: PeerError | None = None
        self._reason = "the connection was closed here"

    def __repr__(self) -> str:
        state = "closed" if self._ended.is_set() else "open" if self._open else "not open"
        return f"<MediaConnection {self.connection_id!r} with {self.peer!r}, {state}>"

    # What it is

    @property
    def peer(self) -> str:
        """The other peer's id."""
        return self._peer

    @property
    def connection_id(self) -> str:
        """Chosen by the caller; unique between two peers."""
        return self._offer.connection_id

    @property
    def metadata(self) -> JSONValue:
        """What the caller has told about it; None also if that was nothing."""
        return None if self._offer.metadata is NO_METADATA else self._offer.metadata  # type: ignore[return-value]

    @property
    def incoming(self) -> bool:
        """Whether the other side calls."""
        return self._incoming

    @property
    def open(self) -> bool:
        """Whether media can flow."""
        return self._open and not self._closing and not self._ended.is_set()

    @property
    def local_tracks(self) -> tuple[MediaTrack, ...]:
        """What the other side hears and sees. At the end of an open call aiortc stops these tracks."""
        return self._local_tracks

    @property
    def remote_tracks(self) -> tuple[RemoteTrack, ...]:
        """What the other side sends, as far as that is known: for a caller, after the answer."""
        return self._media.remote_tracks if self._media is not None else ()

    # What it does

    async def answer(self, tracks: Iterable[MediaTrack] = ()) -> None:
        """Takes an incoming call, once; returns when media can flow. A cancelled answer ends the call.

        Args:
            tracks: what the caller is to hear and see; without any, one only hears and sees the caller.

        Raises:
            PeerError: ``negotiation-failed``: no connection could be made; perhaps the caller has given up.
            ValueError: the caller does not take these tracks; the call may still be answered.
            RuntimeError: it is not incoming, or was answered before.
            trio.ClosedResourceError: it was closed here.
        """
        if not self._incoming or self._answering.is_set():
            raise RuntimeError("only an incoming call is answered, and only once")
        self._check()
        tracks = tuple(tracks)
        check_answered(self._offer.sdp, tracks)
        self._local_tracks = tracks
        self._answering.set()
        try:
            await self._settled.wait()
        except trio.Cancelled:
            self._stop()
            raise
        if not self._open:
            self._check()
            raise PeerError("negotiation-failed", f"call of {self._peer}: {self._reason}")

    async def receive_track(self) -> RemoteTrack:
        """The next of the other side's tracks; waits until the call is open.

        Raises:
            trio.EndOfChannel: the other side sends no more of them, or the call is over.
            trio.ClosedResourceError: it was closed here.
        """
        if not self._settled.is_set():
            await self._settled.wait()
        if self._media is None or self._closing:
            await trio.lowlevel.checkpoint()
            if self._closing:
                raise trio.ClosedResourceError("the call was closed here")
            raise trio.EndOfChannel(self._reason)
        await trio.lowlevel.checkpoint()
        tracks = self._media.remote_tracks
        if self._taken == len(tracks):
            raise trio.EndOfChannel(f"the other side sends {len(tracks)} tracks, and no more")
        self._taken += 1
        return tracks[self._taken - 1]

    def __aiter__(self) -> MediaConnection:
        return self

    async def __anext__(self) -> RemoteTrack:
        try:
            return await self.receive_track()
        except (trio.EndOfChannel, trio.ClosedResourceError):
            raise StopAsyncIteration from None

    async def wait_closed(self) -> str:
        """Waits until the call is over, and returns why, in words."""
        await self._ended.wait()
        return self._reason

    async def aclose(self) -> None:
        """Hangs up, or refuses an incoming call (of which the caller learns nothing). Idempotent."""
        self._closing = True
        self._stop()
        await self._ended.wait()

    async def __aenter__(self) -> MediaConnection:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _check(self) -> None:
        if self._closing:
            raise trio.ClosedResourceError("the call was closed here")
        if self._failure is not None:
            raise PeerError(self._failure.type, str(self._failure))

    # For the task of the call

    async def wait_answer(self) -> None:
        """Waits until the application answers."""
        await self._answering.wait()

    def open_on(self, media: MediaPeer) -> None:
        """Media can flow."""
        self._media = media
        self._open = True
        self._settled.set()

    def end(self, reason: str, failure: PeerError | None = None) -> None:
        """It is over; the first reason counts."""
        if self._ended.is_set():
            return
        if not self._closing:
            self._reason = reason
        self._failure = failure
        self._ended.set()
        self._settled.set()
