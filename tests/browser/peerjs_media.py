"""What Python peers send in calls: a red picture and a tone."""

from __future__ import annotations

import math
from array import array
from typing import Any, Final

import aiortc
import av

__all__ = ["Picture", "Tone", "colour", "loudness"]

_RED: Final = (81, 90, 240)
"""Y, U, V of ITU-R BT.601."""


class Picture(aiortc.VideoStreamTrack):
    """160 x 120 red pixels, 30 times a second."""

    async def recv(self) -> av.VideoFrame:
        frame = av.VideoFrame(160, 120, "yuv420p")
        for plane, level in zip(frame.planes, _RED, strict=True):
            plane.update(bytes([level]) * plane.buffer_size)
        frame.pts, frame.time_base = await self.next_timestamp()
        return frame


class Tone(aiortc.AudioStreamTrack):
    """400 Hz."""

    async def recv(self) -> av.AudioFrame:
        frame = await super().recv()
        assert isinstance(frame, av.AudioFrame)
        assert frame.sample_rate == 8000
        tone = array("h", (int(8000 * math.sin(math.tau * n / 20)) for n in range(frame.samples)))
        frame.planes[0].update(tone.tobytes().ljust(frame.planes[0].buffer_size, b"\0"))
        return frame


def colour(frame: Any) -> tuple[int, ...]:
    """Y, U, V in the middle of a picture."""
    return tuple(bytes(plane)[plane.height // 2 * plane.line_size + plane.width // 2] for plane in frame.planes)


def loudness(frame: Any) -> int:
    """The largest sample of 16 bits."""
    return max(map(abs, array("h", bytes(frame.planes[0]))), default=0)
