"""Streams of a member: tracks that come and go, and the labels that it has given them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from ...transports.bundle import StreamTrack
from ...transports.webrtc import RemoteTrack

__all__ = ["Change", "RemoteStream", "RemoteStreams"]


class RemoteStream:
    """A stream of a member.

    Attributes:
        label: as the member calls it; its id where the member does not, or where another stream has that label.
        id: its name on the wire.
        tracks: those that have not ended.
    """

    def __init__(self, label: str, id: str) -> None:
        self.label: Final = label
        self.id: Final = id
        self.tracks: tuple[RemoteTrack, ...] = ()

    def __repr__(self) -> str:
        return f"<RemoteStream {self.label!r}, {len(self.tracks)} tracks>"


@dataclass(frozen=True, slots=True)
class Change:
    """A track came or went.

    Attributes:
        edge: the stream came with it, or went.
    """

    stream: RemoteStream
    track: RemoteTrack
    added: bool
    edge: bool


class RemoteStreams:
    """Those of one member.

    Args:
        capacity: streams; tracks of one more are left, counted.
        counts: ``streams_refused``, ``labels_repeated``.
    """

    def __init__(self, capacity: int, counts: Counter[str]) -> None:
        self.by_label: Final[dict[str, RemoteStream]] = {}
        self._capacity: Final = capacity
        self._counts: Final = counts
        self._labels: Mapping[str, str] = {}
        self._streams: Final[dict[str, RemoteStream]] = {}
        self._tracks: Final[dict[int, tuple[RemoteStream | None, StreamTrack]]] = {}

    def relabel(self, labels: Mapping[str, str]) -> None:
        """The member's names for its streams, by their ids, from now on; those that are there keep theirs."""
        self._labels = dict(labels)

    def update(self, tracks: Iterable[StreamTrack]) -> list[Change]:
        """What is different, now that these are the tracks."""
        present = {id(track.track): track for track in tracks}
        changes = [self._remove(key) for key in list(self._tracks) if key not in present]
        changes += [self._add(key, track) for key, track in present.items() if key not in self._tracks]
        return [change for change in changes if change is not None]

    def _add(self, key: int, track: StreamTrack) -> Change | None:
        name = track.stream or track.track.id
        stream = self._streams.get(name)
        edge = stream is None
        if stream is None:
            if len(self._streams) >= self._capacity:
                self._counts["streams_refused"] += 1
                self._tracks[key] = (None, track)
                return None
            stream = self._make(name)
        stream.tracks = (*stream.tracks, track.track)
        self._tracks[key] = (stream, track)
        return Change(stream, track.track, True, edge)

    def _make(self, name: str) -> RemoteStream:
        label = self._labels.get(name, name)
        if label in self.by_label:
            self._counts["labels_repeated"] += 1
            label = name
        stream = self._streams[name] = RemoteStream(label, name)
        self.by_label.setdefault(label, stream)
        return stream

    def _remove(self, key: int) -> Change | None:
        stream, track = self._tracks.pop(key)
        if stream is None:
            return None
        stream.tracks = tuple(other for other in stream.tracks if other is not track.track)
        if not stream.tracks:
            del self._streams[stream.id]
            if self.by_label.get(stream.label) is stream:
                del self.by_label[stream.label]
        return Change(stream, track.track, False, not stream.tracks)
