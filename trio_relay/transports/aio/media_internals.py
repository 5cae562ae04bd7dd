"""Private parts of aiortc that media need, each with its reason; the others are in `internals`.

aiortc decodes in a thread of each receiver, with an unbounded queue before it and another behind it.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import aiortc.rtcrtpreceiver
import pylibsrtp
from aiortc import RTCDtlsTransport, RTCRtpReceiver, RTCRtpTransceiver
from aiortc.codecs.base import Encoder

__all__ = [
    "Decoding",
    "Frames",
    "bound_sources",
    "is_encoding",
    "may_send",
    "missing",
    "set_enabled",
    "stop_decoders",
]

MIB: Final = 1024 * 1024

_MAX_ENCODED: Final = 32
"""Frames before a decoder, and `_MAX_ENCODED_BYTES` likewise."""
_MAX_ENCODED_BYTES: Final = 8 * MIB
_MAX_PIXELS: Final = 4096 * 2304
"""Of a picture; what announces more would take as much memory as it says."""
_BOUNDS: Final = {"audio": 50, "video": 16}
"""Decoded frames that wait: one second of sound, half a second of pictures."""
_MAX_FRAME_BYTES: Final = 32 * MIB
"""Likewise; one frame may be larger."""
_SKIPPED: Final = 15
"""Pictures that are left out before the other side is asked once more for a whole one."""

_thread: Final = threading.local()
_receivers: Final[Any] = aiortc.rtcrtpreceiver
_get_decoder: Final[Callable[[Any], Any]] = _receivers.get_decoder


def _get_bounded_decoder(codec: Any) -> Any:
    """In threads of receivers that are bounded here, pictures are, too; others of the program are left alone."""
    decoder = _get_decoder(codec)
    if getattr(_thread, "is_bounded", False) and codec.mimeType.lower() == "video/h264":
        decoder.codec.options = {"max_pixels": str(_MAX_PIXELS)}
    return decoder


_receivers.get_decoder = _get_bounded_decoder


class Decoding(queue.Queue[Any]):
    """What waits to be decoded, of one receiver; it takes the place of aiortc's queue.

    When more waits than may, all of it is dropped, and pictures up to the next that is whole: a decoder would make
    rubbish of those that build upon a lost one. `put` is called on the loop, `get` in the decoder's thread.

    Args:
        receiver: an ``RTCRtpReceiver`` that has not started.
        on_drop: callback, with the number of frames.
    """

    def __init__(self, receiver: Any, kind: str, on_drop: Callable[[int], None]) -> None:
        super().__init__()
        self._receiver = receiver
        self._is_video = kind == "video"
        self._on_drop = on_drop
        self._bytes = 0
        self._wants_whole = False
        self._skipped = 0
        self.is_quiet = False
        receiver._RTCRtpReceiver__decoder_queue = self

    def ask_for_whole(self) -> None:
        """Plain. Takes nothing but a whole picture next, and lets aiortc ask the other side for one."""
        if self._is_video:
            self._wants_whole = True
            self._skipped = 0
            self._receiver._RTCRtpReceiver__decoder_error.set()

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Callback. None is the end: what waits is not worth that somebody waits for it to be decoded."""
        if item is None or self.qsize() >= _MAX_ENCODED or self._bytes > _MAX_ENCODED_BYTES:
            self._clear(ask=item is not None)
        if item is None or self._is_wanted(*item):
            super().put(item)
        else:
            self._on_drop(1)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """In the decoder's thread."""
        _thread.is_bounded = True
        item = super().get(block, timeout)
        if item is None and self.is_quiet:
            raise SystemExit  # of this thread: it could tell nobody of its end
        return item

    def _put(self, item: Any) -> None:
        super()._put(item)
        self._bytes += len(item[1].data) if item is not None else 0

    def _get(self) -> Any:
        item = super()._get()
        self._bytes -= len(item[1].data) if item is not None else 0
        return item

    def _clear(self, *, ask: bool) -> None:
        dropped = 0
        try:
            while True:
                super().get(block=False)
                dropped += 1
        except queue.Empty:
            pass
        if dropped:
            self._on_drop(dropped)
        if ask:
            self.ask_for_whole()

    def _is_wanted(self, codec: Any, frame: Any) -> bool:
        if not self._is_video:
            return True
        if not _is_small_enough(codec.name, frame.data):
            self.ask_for_whole()
            return False
        if self._wants_whole and not _is_whole(codec.name, frame.data):
            self._skipped += 1
            if self._skipped % _SKIPPED == 0:
                self._receiver._RTCRtpReceiver__decoder_error.set()
            return False
        self._wants_whole = False
        return True


def _is_whole(codec: str, data: bytes) -> bool:
    """Whether a picture needs no other one (RFC 6386 section 9.1; H.264 table 7-1: IDR, or the parameters before)."""
    if codec == "VP8":
        return bool(data) and not data[0] & 1
    starts = data.split(b"\x00\x00\x01")[1:]
    return any(start and start[0] & 31 in (5, 7) for start in starts)


def _is_small_enough(codec: str, data: bytes) -> bool:
    """Whether what a VP8 picture says of its size is bearable; the decoder of H.264 looks for itself."""
    if codec != "VP8" or len(data) < 10 or data[0] & 1:
        return True
    width, height = (int.from_bytes(data[at : at + 2], "little") & 0x3FFF for at in (6, 8))
    return width * height <= _MAX_PIXELS


class Frames(asyncio.Queue[Any]):
    """Decoded frames of one track; it takes the place of aiortc's queue. The oldest go when there are too many.

    aiortc puts them, and None for the end, in asyncio context; a Trio task uses `take`, an asyncio one `track.recv`.

    Args:
        on_change: callback.
        on_drop: callback, with the number of frames.
        on_idle: plain; told True when nobody has taken any for long, False when somebody wants to.
    """

    def __init__(
        self,
        track: Any,
        on_change: Callable[[], None],
        on_drop: Callable[[int], None],
        on_idle: Callable[[bool], None],
    ) -> None:
        super().__init__()
        self.started = self.ended = False
        self._bound = _BOUNDS[track.kind]
        self._on_change, self._on_drop, self._on_idle = on_change, on_drop, on_idle
        self._bytes = self._unread = 0
        self._is_idle = False
        track._queue = self

    def take(self) -> Any:
        """Plain. The oldest frame, or None when there is none."""
        if self.qsize() > (1 if self.ended else 0):
            return self.get_nowait()
        self.want()
        return None

    def want(self) -> None:
        """Plain. Somebody waits for a frame."""
        self._unread = 0
        if self._is_idle and not self.ended:
            self._is_idle = False
            self._on_idle(False)

    async def get(self) -> Any:
        """asyncio, called by `track.recv`."""
        self.want()
        return await super().get()

    def _put(self, item: Any) -> None:
        if self.ended:
            return
        self._queue: Any
        self._queue.append(item)
        if item is None:
            self.ended = True
        else:
            self.started = True
            self._bytes += _size(item)
            self._shrink()
        self._on_change()

    def _get(self) -> Any:
        item = self._queue.popleft()
        if item is None:
            self._queue.append(None)  # for whoever comes next
        else:
            self._bytes -= _size(item)
        self._unread = 0
        return item

    def _shrink(self) -> None:
        dropped = 0
        while len(self._queue) > self._bound or (self._bytes > _MAX_FRAME_BYTES and len(self._queue) > 1):
            self._bytes -= _size(self._queue.popleft())
            dropped += 1
        self._unread += dropped
        if self._unread > self._bound:
            dropped += len(self._queue)
            self._queue.clear()
            self._bytes = 0
            self._is_idle = True
            self._on_idle(True)
        if dropped:
            self._on_drop(dropped)


def _size(frame: Any) -> int:
    return sum(plane.buffer_size for plane in frame.planes)


def set_enabled(receiver: RTCRtpReceiver, enabled: bool) -> None:
    """Whether packets are taken at all: those of a track that nobody reads cost no decoding."""
    receiver._enabled = enabled


def may_send(transceiver: RTCRtpTransceiver) -> bool:
    """Whether the other side's offer has a place for a track of ours here, and it has none yet."""
    track: Any = transceiver.sender.track
    return track is None and transceiver._offerDirection in ("sendrecv", "sendonly")


class _BoundedSession:
    """The decrypting side of SRTP: it keeps a state for each source, and aiortc several."""

    def __init__(self, session: Any, bound: int, on_drop: Callable[[], None]) -> None:
        self._session = session
        self._bound = bound
        self._on_drop = on_drop
        self._known: set[bytes] = set()

    def unprotect(self, data: bytes) -> bytes:
        return self._bounded(self._session.unprotect, data, data[8:12])

    def unprotect_rtcp(self, data: bytes) -> bytes:
        return self._bounded(self._session.unprotect_rtcp, data, data[4:8])

    def _bounded(self, take: Callable[[bytes], bytes], data: bytes, source: bytes) -> bytes:
        if source not in self._known and len(self._known) >= self._bound:
            self._on_drop()
            raise pylibsrtp.Error("too many sources")
        taken = take(data)
        self._known.add(source)
        return taken


def bound_sources(dtls: RTCDtlsTransport, bound: int, on_drop: Callable[[], None]) -> None:
    """Bounds the sources of packets; called when DTLS has just connected.

    Args:
        on_drop: callback; there came one more.
    """
    transport: Any = dtls
    transport._rx_srtp = _BoundedSession(transport._rx_srtp, bound, on_drop)


def stop_decoders(receivers: Sequence[RTCRtpReceiver], *, quietly: bool = False) -> None:
    """Ends threads that a close which was cut off has left behind; they wait for nothing.

    Args:
        quietly: there is no loop that they could tell.
    """
    for receiver in cast("Sequence[Any]", receivers):
        waiting = receiver._RTCRtpReceiver__decoder_queue
        if isinstance(waiting, Decoding):
            waiting.is_quiet = quietly
        receiver._handle_disconnect()


def is_encoding(function: Callable[..., Any]) -> bool:
    """Whether it is what aiortc lets a thread do for a sender."""
    return isinstance(getattr(function, "__self__", None), Encoder)


def missing(transceiver: RTCRtpTransceiver) -> list[str]:
    """The names used here that the installed versions do not have; `transceiver` is of an offer, not started."""
    receiver = transceiver.receiver
    wanted: list[tuple[object, str]] = [
        *((receiver, f"_RTCRtpReceiver__decoder_{name}") for name in ("queue", "error", "thread")),
        *((receiver, name) for name in ("_enabled", "_handle_disconnect", "_track")),
        (transceiver, "_offerDirection"),
        *((receiver.transport, name) for name in ("_rx_srtp",)),
        (asyncio.Queue, "_put"),
        (asyncio.Queue, "_get"),
    ]
    return [name for thing, name in wanted if not hasattr(thing, name)]
