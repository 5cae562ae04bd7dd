"""What a connection with many channels and streams can have, whoever implements it. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .webrtc import MediaTrack

__all__ = ["MAX_CHANNELS", "MAX_SHARED_TRACKS", "check_channel", "check_stream"]

MAX_CHANNELS: Final = 64
"""Open or opening data channels, of both sides together."""
MAX_SHARED_TRACKS: Final = 16
"""Tracks of one side, in all its streams together."""
_MAX_TEXT: Final = 65535
"""Bytes of a label or a protocol, and the largest limit of repetitions or of milliseconds (RFC 8832 section 5.1)."""
_STREAM: Final = re.compile(r"[!#$%&'*+.0-9A-Z^_`a-z{|}~-]{1,64}")
"""RFC 8830 section 2."""


def check_channel(
    label: str, protocol: str, max_retransmits: int | None, max_packet_lifetime: float | None, id: int | None
) -> None:
    """Refuses what `Bundle.open_channel` cannot make.

    Raises:
        ValueError: both limits are given, or something is out of its range.
    """
    if max_retransmits is not None and max_packet_lifetime is not None:
        raise ValueError("expected max_retransmits or max_packet_lifetime, not both")
    for name, text in (("label", label), ("protocol", protocol)):
        if len(text.encode()) > _MAX_TEXT:
            raise ValueError(f"expected a {name} of at most {_MAX_TEXT} bytes")
    if max_retransmits is not None and not 0 <= max_retransmits <= _MAX_TEXT:
        raise ValueError(f"expected max_retransmits from 0 to {_MAX_TEXT}, not {max_retransmits}")
    if max_packet_lifetime is not None and not 0 < max_packet_lifetime <= _MAX_TEXT / 1000:
        raise ValueError(f"expected max_packet_lifetime up to {_MAX_TEXT / 1000} seconds, not {max_packet_lifetime}")
    if id is not None and not 0 <= id < _MAX_TEXT:
        raise ValueError(f"expected an id from 0 to {_MAX_TEXT - 1}, not {id}")


def check_stream(stream: str, tracks: Sequence[MediaTrack], others: int) -> None:
    """Refuses what `Bundle.set_stream` cannot send.

    Args:
        others: tracks of all other streams.

    Raises:
        ValueError: the id is none, a track is there twice, neither audio nor video, or there are too many.
    """
    if not _STREAM.fullmatch(stream):
        raise ValueError(f"expected 1 to 64 ASCII characters without spaces as the id of a stream, not {stream!r}")
    if len({id(track) for track in tracks}) < len(tracks):
        raise ValueError("expected each track once")
    for track in tracks:
        if track.kind not in ("audio", "video"):
            raise ValueError(f"expected tracks of audio or video, not of {track.kind!r}")
    if len(tracks) + others > MAX_SHARED_TRACKS:
        raise ValueError(f"expected at most {MAX_SHARED_TRACKS} tracks, got {len(tracks) + others}")
