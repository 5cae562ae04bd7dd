"""Which tracks a description can have. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from ..wire.description import MAX_SECTIONS, count_places

if TYPE_CHECKING:
    from .webrtc import MediaTrack

__all__ = ["MAX_TRACKS", "check_answered", "check_offered"]

MAX_TRACKS: Final = MAX_SECTIONS - 1
"""Of one side; the data channel takes a place in a description, too."""


def check_offered(tracks: Sequence[MediaTrack]) -> None:
    """Refuses tracks that no offer can be made of.

    Raises:
        ValueError: there is none, or more than `MAX_TRACKS`; one is there twice, or neither audio nor video.
    """
    if not 1 <= len(tracks) <= MAX_TRACKS:
        raise ValueError(f"expected 1 to {MAX_TRACKS} tracks, got {len(tracks)}")
    _check(tracks)


def check_answered(offer: str, tracks: Sequence[MediaTrack]) -> None:
    """Refuses tracks that an answer to this offer can not have.

    Raises:
        ValueError: there are more of a kind than the offer has places; one is there twice, or of no such kind.
    """
    _check(tracks)
    places = count_places(offer)
    for kind in ("audio", "video"):
        count = sum(track.kind == kind for track in tracks)
        if count > places[kind]:
            raise ValueError(f"expected at most {places[kind]} tracks of {kind}, as the offer takes, got {count}")


def _check(tracks: Sequence[MediaTrack]) -> None:
    if len({id(track) for track in tracks}) < len(tracks):
        raise ValueError("expected each track once")
    for track in tracks:
        if track.kind not in ("audio", "video"):
            raise ValueError(f"expected tracks of audio or video, not of {track.kind!r}")
