"""What waits of a remote track, before and behind its decoder, and what is left out where too much waits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from av import AudioFrame, VideoFrame

from trio_relay.transports.aio import media_internals
from trio_relay.transports.aio.media_internals import Decoding, Frames

from .media import Picture, Tone, two_peers
from .support import aiortc_of

VP8 = SimpleNamespace(name="VP8", mimeType="video/VP8")
H264 = SimpleNamespace(name="H264", mimeType="video/H264")
OPUS = SimpleNamespace(name="opus", mimeType="audio/opus")
DELTA = b"\x01" + bytes(20)


def whole(width: int = 64, height: int = 48) -> bytes:
    return b"\x10\x00\x00\x9d\x01\x2a" + width.to_bytes(2, "little") + height.to_bytes(2, "little") + bytes(10)


@dataclass
class Bench:
    """A receiver's queue, without the receiver."""

    kind: str = "video"
    dropped: int = 0
    asked: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        receiver: Any = SimpleNamespace(_RTCRtpReceiver__decoder_error=self.asked)
        self.queue = Decoding(receiver, self.kind, self.drop)
        assert receiver._RTCRtpReceiver__decoder_queue is self.queue

    def drop(self, count: int) -> None:
        self.dropped += count

    def put(self, *frames: bytes, codec: Any = VP8) -> None:
        for frame in frames:
            self.queue.put((codec, SimpleNamespace(data=frame)))

    def taken(self) -> list[bytes]:
        return [self.queue.get()[1].data for _ in range(self.queue.qsize())]


async def test_the_installed_aiortc_has_what_is_used() -> None:
    async with two_peers() as call:
        await call.caller.create_offer([Tone(), Picture()])
        for transceiver in aiortc_of(call.caller).getTransceivers():
            assert media_internals.missing(transceiver) == []


@pytest.mark.parametrize("size", [21, 600_000])
def test_more_than_may_wait_for_the_decoder_is_dropped_up_to_the_next_whole_picture(size: int) -> None:
    bench = Bench()
    bench.put(whole(), *[DELTA.ljust(size, b"\0")] * 100)
    waiting, first_drops = bench.queue.qsize(), bench.dropped
    assert waiting == 0
    assert first_drops == 101
    assert bench.asked.is_set()
    bench.put(DELTA, whole(), DELTA)
    assert bench.taken() == [whole(), DELTA]
    assert bench.dropped == first_drops + 1


def test_who_does_not_send_a_whole_picture_is_asked_again() -> None:
    bench = Bench()
    bench.queue.ask_for_whole()
    bench.asked.clear()
    bench.put(*[DELTA] * 14)
    assert not bench.asked.is_set()
    bench.put(DELTA)
    assert bench.asked.is_set()
    assert bench.dropped == 15


@pytest.mark.parametrize(
    ("data", "is_whole"),
    [
        (b"\x00\x00\x00\x01\x65\x88", True),
        (b"\x00\x00\x00\x01\x41\x9a\x00\x00\x01\x67\x42", True),
        (b"\x00\x00\x00\x01\x41\x9a", False),
        (b"", False),
        (b"\x00\x00\x01", False),
    ],
)
def test_whole_pictures_of_h264(data: bytes, is_whole: bool) -> None:
    bench = Bench()
    bench.queue.ask_for_whole()
    bench.put(data, codec=H264)
    assert bench.taken() == ([data] if is_whole else [])


def test_sound_has_no_whole_pictures() -> None:
    bench = Bench("audio")
    bench.put(*[b"x"] * 40, codec=OPUS)
    assert bench.queue.qsize() == 8
    assert bench.dropped == 32
    assert not bench.asked.is_set()


@pytest.mark.parametrize(("width", "height", "taken"), [(4096, 2304, True), (4097, 2304, False), (16383, 16383, False)])
def test_pictures_that_would_take_too_much_memory_are_not_decoded(width: int, height: int, taken: bool) -> None:
    bench = Bench()
    bench.put(whole(width, height))
    assert bench.taken() == ([whole(width, height)] if taken else [])
    assert bench.dropped == (not taken)


def test_the_end_does_not_wait_for_what_nobody_will_see() -> None:
    bench = Bench()
    bench.put(whole(), DELTA, DELTA)
    bench.queue.put(None)
    assert bench.queue.get() is None
    assert bench.dropped == 3


def test_decoders_of_others_in_the_program_are_left_alone() -> None:
    bounded = {"max_pixels": str(4096 * 2304)}
    found: list[Any] = []

    def decode(take: Callable[[], object]) -> None:
        take()
        found.append(media_internals._receivers.get_decoder(H264).codec.options)

    bench = Bench()
    bench.put(whole())
    for take in (bench.queue.get, lambda: bench.put(whole(), *[DELTA] * 40)):  # what drops decodes nothing
        thread = threading.Thread(target=decode, args=(take,))
        thread.start()
        thread.join()
    assert found == [bounded, {}]


@dataclass
class Shelf:
    """Decoded frames of a track that is none."""

    kind: str = "video"
    changes: int = 0
    dropped: int = 0
    idle: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.frames = Frames(SimpleNamespace(kind=self.kind), self.change, self.drop, self.idle.append)

    def change(self) -> None:
        self.changes += 1

    def drop(self, count: int) -> None:
        self.dropped += count


def picture(width: int = 16, height: int = 16) -> VideoFrame:
    return VideoFrame(width, height, "yuv420p")


def test_the_oldest_frames_go() -> None:
    shelf, pictures = Shelf(), [picture() for _ in range(20)]
    for each in pictures:
        shelf.frames.put_nowait(each)
    assert (shelf.dropped, shelf.changes, shelf.frames.started) == (4, 20, True)
    assert [shelf.frames.take() for _ in range(17)] == [*pictures[4:], None]
    assert shelf.frames._bytes == 0


def test_large_frames_are_few() -> None:
    shelf = Shelf()
    for _ in range(6):
        shelf.frames.put_nowait(picture(3840, 2160))
    assert shelf.frames.qsize() == 2
    assert shelf.frames._bytes < 32 * 1024 * 1024


def test_who_does_not_read_gets_no_more_until_he_does() -> None:
    shelf = Shelf("audio")
    for _ in range(101):
        shelf.frames.put_nowait(AudioFrame("s16", "mono", 960))
    assert (shelf.frames.qsize(), shelf.idle, shelf.dropped) == (0, [True], 101)
    assert shelf.frames.take() is None
    assert shelf.frames.take() is None
    assert shelf.idle == [True, False]


def at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What it returns, without having waited."""
    with pytest.raises(StopIteration) as stopped:
        coroutine.send(None)
    return stopped.value.value


def test_the_end_comes_after_the_frames_and_stays() -> None:
    shelf, first = Shelf(), picture()
    for item in (first, None, picture()):  # the last one is too late
        at_once(shelf.frames.put(item))
    assert shelf.frames.take() is first
    assert shelf.frames.take() is None
    assert shelf.frames.ended
    assert [at_once(shelf.frames.get()) for _ in range(2)] == [None, None]
    assert shelf.idle == []
