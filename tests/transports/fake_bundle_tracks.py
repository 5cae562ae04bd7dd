"""The streams and tracks of `fake_bundle`."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import trio

from trio_relay.transports.bundle import StreamTrack
from trio_relay.transports.bundle_checks import check_stream
from trio_relay.transports.webrtc import MediaKind, MediaTrack

if TYPE_CHECKING:
    from tests.transports.fake_bundle import FakeBundle

__all__ = ["FakeRemoteTrack", "FakeTrack", "Place", "RemoteTracks", "Streams"]

MAX_WAITING: Final = 64
"""Tracks that nobody has accepted."""

_TRACK: Final = re.compile(r"a=x-track:(\S+) (\S+) (\S+) ([0-9a-f]*)\r\n")


class FakeTrack:
    """A `MediaTrack` that has no frames; see `FakeRemoteTrack.feed`.

    Attributes:
        stopped: by whoever.
    """

    def __init__(self, kind: str, id: str) -> None:
        self.kind = kind
        self.stopped = False
        self._id: Final = id

    def __repr__(self) -> str:
        return f"<FakeTrack {self.kind} {self.id}>"

    @property
    def id(self) -> str:
        return self._id

    async def recv(self) -> Any:
        raise AssertionError("a fake is not read on an asyncio loop")

    def stop(self) -> None:
        self.stopped = True


@dataclass(eq=False)
class Place:
    """Where a track is sent: it stays when the track is replaced by another of its kind.

    Attributes:
        name: of the place, and of whatever track is there as the other side knows it.
    """

    name: str
    stream: str
    track: MediaTrack

    @property
    def line(self) -> str:
        return f"a=x-track:{self.name} {self.track.kind} {self.track.id} {self.stream.encode().hex()}"


class FakeRemoteTrack:
    """A `RemoteTrack`; tests give it its frames."""

    def __init__(self, end: FakeBundle, name: str, kind: MediaKind, id: str) -> None:
        self.name: Final = name
        self.was_ended = False
        self._kind: Final = kind
        self._id: Final = id
        self._end: Final = end
        self._frames: Final[deque[Any]] = deque(maxlen=50)
        self._started = False

    def __repr__(self) -> str:
        return f"<FakeRemoteTrack {self.kind} {self.id}>"

    @property
    def kind(self) -> MediaKind:
        return self._kind

    @property
    def id(self) -> str:
        return self._id

    @property
    def muted(self) -> bool:
        return not self._started

    @property
    def ended(self) -> bool:
        return self.was_ended or self._end.is_over

    @property
    def track(self) -> MediaTrack | None:
        """What the other end sends there now."""
        return self._end.peer.find_sent(self.name)

    def feed(self, frame: Any) -> None:
        """A frame comes."""
        self._started = True
        self._frames.append(frame)
        self._end.agenda.wake()

    async def receive(self) -> Any:
        await trio.lowlevel.checkpoint()
        await self._end.agenda.wait(lambda: bool(self._frames) or self.ended)
        if self._end.closed_here:
            raise trio.ClosedResourceError("the connection was closed here")
        if not self._frames:
            raise trio.EndOfChannel("the other side ended the track")
        return self._frames.popleft()

    def __aiter__(self) -> FakeRemoteTrack:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError):
            raise StopAsyncIteration from None


class Streams:
    """What one end sends.

    Attributes:
        wanted: now.
        told: what the other end knows of.
    """

    def __init__(self, end: FakeBundle) -> None:
        self.wanted: list[Place] = []
        self.told: list[Place] = []
        self._end: Final = end
        self._count = 0

    def set(self, stream: str, tracks: Sequence[MediaTrack]) -> None:
        """See `Bundle.set_stream`."""
        others = [place for place in self.wanted if place.stream != stream]
        check_stream(stream, tracks, len(others))
        free = [place for place in self.wanted if place.stream == stream]
        kept = [place for place in free if any(place.track is track for track in tracks)]
        new = [track for track in tracks if all(place.track is not track for place in free)]
        free = [place for place in free if place not in kept]
        for track in new:
            place = next((place for place in free if place.track.kind == track.kind), None)
            if place is None:
                self._count += 1
                place = Place(f"{self._end.number}-{self._count}", stream, track)
            else:
                free.remove(place)
                place.track = track
            kept.append(place)
        self.wanted = [*others, *kept]

    def find(self, name: str) -> MediaTrack | None:
        """What is sent there."""
        return next((place.track for place in self.wanted if place.name == name), None)


class RemoteTracks:
    """What one end receives.

    Attributes:
        new: tracks that nobody has accepted.
    """

    def __init__(self, end: FakeBundle, counts: Counter[str]) -> None:
        self.tracks: Final[list[StreamTrack]] = []
        self.new: Final[deque[StreamTrack]] = deque()
        self._end: Final = end
        self._counts: Final = counts

    def take(self, offer: str) -> None:
        """All that the other end sends is in its offer."""
        known = {cast(FakeRemoteTrack, track.track).name: track for track in self.tracks}
        described = {name: (kind, id, stream) for name, kind, id, stream in _TRACK.findall(offer)}
        for name, gone in known.items():
            if name not in described:
                cast(FakeRemoteTrack, gone.track).was_ended = True
                self.tracks.remove(gone)
        for name, (kind, id, stream) in described.items():
            if name in known:
                continue
            track = StreamTrack(FakeRemoteTrack(self._end, name, kind, id), bytes.fromhex(stream).decode())
            self.tracks.append(track)
            if len(self.new) < MAX_WAITING:
                self.new.append(track)
            else:
                self._counts["webrtc_tracks_untold"] += 1
