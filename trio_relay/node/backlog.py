"""What waits for a slow link, and who loses when it is full. No I/O here.

Rules of this file:

1. Bytes and frames are bounded, in all; an eighth is kept for control frames.
2. When it is full, whoever holds most of what has run out, bytes or frames, loses its newest batch, counted by
   frames: a flooder harms itself, whether with large frames or with many.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from ..limits import Limits
from ..transports.connection import Buffer

__all__ = ["Backlog", "Batch"]


@dataclass(slots=True, eq=False)
class Batch:
    """Frames of one source that travel together; `pieces` is emptied when the batch is dropped.

    Attributes:
        via: where they came from: a link, or None for this node's own.
        text: whether it is one text message for an original node.
    """

    pieces: Sequence[Buffer]
    frames: int
    size: int
    via: object
    control: int
    text: bool = False
    dropped: bool = False


@dataclass(slots=True)
class _Share:
    """What one source holds."""

    batches: deque[Batch] = field(default_factory=deque)
    size: int = 0
    frames: int = 0


class Backlog:
    """Accounting of the batches that wait; the batches themselves are in the queues of the link."""

    __slots__ = (
        "_control_bytes",
        "_data_bytes",
        "_data_frames",
        "_frames_limit",
        "_shares",
        "counts",
        "frames",
        "size",
    )

    def __init__(self, limits: Limits, counts: Counter[str]) -> None:
        self._control_bytes: Final = limits.backlog_bytes
        self._data_bytes: Final = limits.backlog_bytes - limits.backlog_bytes // 8
        self._frames_limit: Final = limits.backlog_frames
        self._data_frames: Final = limits.backlog_frames - limits.backlog_frames // 8
        self._shares: dict[object, _Share] = {}
        self.counts: Final = counts
        self.size = 0
        self.frames = 0

    def add(self, batch: Batch) -> bool:
        """Takes a batch in, if need be at the cost of whoever holds most; False: this one is dropped."""
        while (exceeded := self._exceeded(batch)) is not None:
            largest = max(self._shares.values(), key=exceeded, default=None)
            own = self._shares.get(batch.via)
            held = exceeded(own) if own is not None else 0
            if largest is None or held + exceeded(batch) >= exceeded(largest):
                self._drop(batch)
                return False
            self._evict(largest.batches[-1])
        share = self._shares.setdefault(batch.via, _Share())
        share.batches.append(batch)
        share.size += batch.size
        share.frames += batch.frames
        self.size += batch.size
        self.frames += batch.frames
        return True

    def _exceeded(self, batch: Batch) -> Callable[[Batch | _Share], int] | None:
        """Of what there is too little left for a batch; None: it fits."""
        if self.size + batch.size > (self._control_bytes if batch.control else self._data_bytes):
            return _size
        if self.frames + batch.frames > (self._frames_limit if batch.control else self._data_frames):
            return _frames
        return None

    def _evict(self, batch: Batch) -> None:
        self.remove(batch)
        self._drop(batch)

    def _drop(self, batch: Batch) -> None:
        batch.dropped = True
        batch.pieces = ()
        self.counts["backlog_full"] += batch.frames

    def remove(self, batch: Batch) -> None:
        """A batch leaves: it was dropped, or its turn to be written has come."""
        share = self._shares[batch.via]
        if share.batches[0] is batch:
            share.batches.popleft()
        elif share.batches[-1] is batch:
            share.batches.pop()
        else:
            share.batches.remove(batch)
        share.size -= batch.size
        share.frames -= batch.frames
        self.size -= batch.size
        self.frames -= batch.frames
        if not share.batches:
            del self._shares[batch.via]

    def clear(self) -> None:
        """The link is gone: everything that waits is dropped, counted."""
        self.counts["link_broken"] += self.frames
        for share in self._shares.values():
            for batch in share.batches:
                batch.dropped, batch.pieces = True, ()
        self._shares.clear()
        self.size = self.frames = 0


def _size(holder: Batch | _Share) -> int:
    return holder.size


def _frames(holder: Batch | _Share) -> int:
    return holder.frames
