"""Tracks of the user, on their way to any number of connections: each frame is taken once, when somebody wants it.

aiortc's own relay would go on reading a track that nobody sends any more.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Final

from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError

from ..webrtc import MediaTrack
from .loop import Loop, Owner

__all__ = ["Feed"]

logger: Final = logging.getLogger("trio_relay")


_BOUNDS: Final = {"audio": 10, "video": 2}
"""Frames that wait for a sender: a fifth of a second of sound."""


class Source:
    """One track of the user, that is sent at least once. It is never stopped here."""

    def __init__(self, loop: Loop, track: MediaTrack) -> None:
        self.track: Final = track
        self.ended = False
        self._loop: Final = loop
        self._feeds: Final[set[Feed]] = set()
        self._owner: Final = Owner(loop, self._on_fault, Counter())
        self._wanted: Final = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @classmethod
    def find(cls, loop: Loop, track: MediaTrack) -> Source:
        """That of a track, which may be new."""
        source: Source | None = loop.shared.get(id(track))
        if source is None:
            source = loop.shared[id(track)] = cls(loop, track)
        return source

    def add(self, feed: Feed) -> None:
        self._feeds.add(feed)

    def remove(self, feed: Feed) -> None:
        """Without feeds, nothing of it stays."""
        self._feeds.discard(feed)
        if not self._feeds:
            self._loop.shared.pop(id(self.track), None)
            if self._task is not None:
                self._task.cancel()

    def want(self) -> None:
        """In asyncio context. Somebody has no frame."""
        self._wanted.set()
        if self._task is None and not self.ended:
            self._task = self._loop.spawn(self._owner, self._read)

    async def _read(self) -> None:
        """asyncio."""
        try:
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                frame = await self.track.recv()
                for feed in self._feeds:
                    feed.put(frame)
        except MediaStreamError:
            pass
        except Exception:
            logger.warning("a track that was shared failed; nothing more is sent of it", exc_info=True)
        finally:
            self.ended = True

    def _on_fault(self, error: BaseException) -> None:
        """Callback. See `_read`, which has told it."""


class Feed(MediaStreamTrack):
    """What a sender of aiortc reads for as long as its place lasts, whichever track is there, if any.

    A sender that is slower than others of the same track loses the oldest frames.

    Args:
        counters: ``webrtc_frames_unsent`` counts these.

    Attributes:
        on_other_track: callback; the sender gets its first frame of another track than before.
    """

    def __init__(self, loop: Loop, kind: str, counters: Counter[str]) -> None:
        super().__init__()
        self.kind = kind
        self.on_other_track: Callable[[], None] = _do_nothing
        self._has_other_track = False
        self._runs_on: Final = loop
        self._counters: Final = counters
        self._source: Source | None = None
        self._frames: Final[deque[Any]] = deque()
        self._is_read = False
        self._arrived: Final = asyncio.Event()

    @property
    def current(self) -> MediaTrack | None:
        """Plain. The track of the user."""
        return self._source.track if self._source is not None else None

    def use(self, track: MediaTrack | None) -> None:
        """In asyncio context. From now on, this one."""
        if self._source is not None:
            self._source.remove(self)
            self._has_other_track = True
        self._source = Source.find(self._runs_on, track) if track is not None and self.readyState == "live" else None
        self._frames.clear()
        if self._source is not None:
            self._source.add(self)
        self._arrived.set()

    def put(self, frame: Any) -> None:
        """In asyncio context. It came from the source."""
        if self._is_read:
            if len(self._frames) >= _BOUNDS[self.kind]:
                self._frames.popleft()
                self._counters["webrtc_frames_unsent"] += 1
            self._frames.append(frame)
            self._arrived.set()

    async def recv(self) -> Any:
        """asyncio, called by the sender."""
        self._is_read = True
        while not self._frames:
            if self.readyState != "live":
                raise MediaStreamError
            self._arrived.clear()
            if self._source is not None:
                self._source.want()
            await self._arrived.wait()
        if self._has_other_track:
            self._has_other_track = False
            self.on_other_track()
        return self._frames.popleft()

    def stop(self) -> None:
        """Plain, called by the sender when it stops."""
        self.use(None)
        super().stop()
        self._arrived.set()


def _do_nothing() -> None:
    pass
