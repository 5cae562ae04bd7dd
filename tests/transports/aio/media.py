"""Two ends of a call in one process, with a coloured picture and a tone."""

from __future__ import annotations

import array
import asyncio
import math
import threading
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import trio
from aiortc import MediaStreamTrack
from av import AudioFrame, VideoFrame

from trio_relay.transports.aio import MediaPeer, open_media_factory
from trio_relay.transports.webrtc import MediaFactory, MediaTrack, WebRTCConfig

from .support import CONFIG

RED: Final = (81, 90, 240)
"""Luminance and the two colour differences."""
BLUE: Final = (41, 240, 110)
_RATE: Final = 48000
_SAMPLES: Final = _RATE // 50


class Picture(MediaStreamTrack):
    """A picture of one colour, again and again."""

    kind = "video"

    def __init__(self, colour: tuple[int, int, int] = RED, *, pause: float = 0.01, width: int = 64) -> None:
        super().__init__()
        self.sent = 0
        self._colour, self._pause, self._width = colour, pause, width

    async def recv(self) -> Any:
        await asyncio.sleep(self._pause)
        frame = VideoFrame(self._width, 48, "yuv420p")
        for plane, value in zip(frame.planes, self._colour, strict=True):
            plane.update(bytes([value]) * plane.buffer_size)
        frame.pts, frame.time_base = self.sent * 3000, Fraction(1, 90000)
        self.sent += 1
        return frame


class Tone(MediaStreamTrack):
    """A sine; every frame has a whole number of its periods."""

    kind = "audio"

    def __init__(self, frequency: float = 1000.0, *, pause: float = 0.005) -> None:
        super().__init__()
        self.sent = 0
        self._pause = pause
        samples = (math.sin(2 * math.pi * frequency * n / _RATE) for n in range(_SAMPLES))
        self._samples = array.array("h", (round(10000 * sample) for sample in samples)).tobytes()

    async def recv(self) -> Any:
        await asyncio.sleep(self._pause)
        frame = AudioFrame(format="s16", layout="mono", samples=_SAMPLES)
        frame.planes[0].update(self._samples)
        frame.pts, frame.sample_rate, frame.time_base = self.sent * _SAMPLES, _RATE, Fraction(1, _RATE)
        self.sent += 1
        return frame


@dataclass(frozen=True)
class Call:
    """`caller` has made the offer."""

    caller: MediaPeer
    callee: MediaPeer
    counters: Counter[str]


async def negotiate_media(
    caller: MediaPeer, callee: MediaPeer, offered: Sequence[MediaTrack], answered: Sequence[MediaTrack] = ()
) -> None:
    """Until media can flow at both ends."""
    offer = await caller.create_offer(offered)
    await caller.accept_answer(await callee.create_answer(offer, answered))
    with trio.fail_after(5):
        await caller.wait_connected()
        await callee.wait_connected()


@asynccontextmanager
async def two_peers(config: WebRTCConfig = CONFIG) -> AsyncIterator[Call]:
    """Two ends that have not begun."""
    counters = Counter[str]()
    async with open_media_factory(close_timeout=1, counters=counters) as factory, both(factory, config) as (one, two):
        yield Call(one, two, counters)
    assert not decoders()


@asynccontextmanager
async def both(factory: MediaFactory, config: WebRTCConfig = CONFIG) -> AsyncIterator[tuple[MediaPeer, MediaPeer]]:
    async with factory(config) as one, factory(config) as two:
        assert isinstance(one, MediaPeer)
        assert isinstance(two, MediaPeer)
        yield one, two


@asynccontextmanager
async def in_call(offered: Sequence[MediaTrack], answered: Sequence[MediaTrack] = ()) -> AsyncIterator[Call]:
    """Two ends, connected."""
    async with two_peers() as call:
        await negotiate_media(call.caller, call.callee, offered, answered)
        yield call


def decoders() -> list[str]:
    """Threads of aiortc."""
    return [thread.name for thread in threading.enumerate() if thread.name.endswith("-decoder")]


def colour_of(frame: Any) -> tuple[int, ...]:
    """The mean of each plane."""
    means = []
    for number, plane in enumerate(frame.planes):
        width, height = (frame.width, frame.height) if number == 0 else (frame.width // 2, frame.height // 2)
        data = bytes(plane)
        rows = [data[row * plane.line_size : row * plane.line_size + width] for row in range(height)]
        means.append(sum(map(sum, rows)) // (width * height))
    return tuple(means)


def frequency_of(frames: Sequence[Any]) -> float:
    """From how often the sound passes zero upwards; interleaved stereo, 16 bits."""
    samples = array.array("h")
    for frame in frames:
        samples.frombytes(bytes(frame.planes[0])[: frame.samples * 4])
    left = samples[::2]
    crossings = [n for n in range(1, len(left)) if left[n - 1] < 0 <= left[n]]
    if len(crossings) < 2:
        return 0.0
    return (len(crossings) - 1) * float(frames[0].sample_rate) / (crossings[-1] - crossings[0])
