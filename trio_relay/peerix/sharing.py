"""Streams that we share: what is sent to every member, and by which label."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from ..exceptions import RoomError
from ..transports.webrtc import MediaTrack
from .options import check_label

__all__ = ["LocalStream", "Shareable", "make_stream", "tracks_of"]

Shareable: TypeAlias = "MediaTrack | Iterable[MediaTrack] | Any"
"""A track, several, or something with tracks as ``audio`` and ``video``, like aiortc's ``MediaPlayer``."""


@dataclass(frozen=True, slots=True)
class LocalStream:
    """A stream that is shared.

    Attributes:
        id: its name on the wire.
        managed: its tracks are somebody else's: they are not stopped when the stream is unshared or replaced. (Since
            Peerix 0.6; before, the word meant the opposite.)
    """

    label: str
    id: str
    tracks: tuple[MediaTrack, ...]
    managed: bool = False

    def stop(self, *, keep: Iterable[MediaTrack] = ()) -> None:
        """Stops its tracks, unless they are somebody else's; those to be kept go on."""
        if not self.managed:
            for track in self.tracks:
                if track not in keep:
                    track.stop()


def tracks_of(stream: Shareable) -> tuple[MediaTrack, ...]:
    """The tracks of what a caller gives.

    Raises:
        RoomError: ``MEDIASTREAM_ERROR``: there is none.
    """
    if hasattr(stream, "recv"):
        found = [stream]
    elif isinstance(stream, Iterable):
        found = list(stream)
    else:
        found = [getattr(stream, kind, None) for kind in _KINDS]
    tracks: tuple[Any, ...] = tuple(track for track in found if track is not None)
    if not tracks or any(getattr(track, "kind", None) not in _KINDS for track in tracks):
        raise RoomError("MEDIASTREAM_ERROR", "expected a track of audio or video, several, or a player with some")
    return tracks


_KINDS: Final = ("audio", "video")


def make_stream(stream: Shareable, label: str, managed: bool, before: LocalStream | None) -> LocalStream:
    """What is shared by a label from now on, in the place of `before`.

    Raises:
        RoomError: ``MEDIASTREAM_ERROR``: there are no tracks.
        ValueError: the label is too long.
    """
    check_label(label)
    tracks = tracks_of(stream)
    return LocalStream(label, before.id if before is not None else str(uuid.uuid4()), tracks, managed)
