"""Messages of SCTP, put together from their pieces at a cost that does not grow with what waits.

aiortc looks through all pieces that wait in a stream whenever one more comes, and sorts the numbers of all that came
early: for 100 kB of small pieces that is seconds, in which nothing else of the process goes on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from aiortc import RTCSctpTransport
from aiortc.rtcsctptransport import SCTP_DATA_FIRST_FRAG, SCTP_DATA_LAST_FRAG, SCTP_DATA_UNORDERED
from aiortc.utils import uint16_gt, uint32_gte

__all__ = ["MAX_AHEAD", "Reassembly", "bound_disorder"]

MAX_AHEAD: Final = 4096
"""Pieces from the first that is missing to the last that is taken; of the usual size, they are 4 MB."""
_TSNS: Final = 1 << 32
_NUMBERS: Final = 1 << 16


@dataclass(slots=True, eq=False)
class _Run:
    """Pieces of one message that follow one another, numbered `first` to `last`."""

    first: int
    last: int
    begins: bool
    ends: bool
    number: int | None
    protocol: int
    pieces: deque[bytes]

    @classmethod
    def of(cls, chunk: Any) -> _Run:
        flags = chunk.flags
        return cls(
            chunk.tsn,
            chunk.tsn,
            bool(flags & SCTP_DATA_FIRST_FRAG),
            bool(flags & SCTP_DATA_LAST_FRAG),
            None if flags & SCTP_DATA_UNORDERED else chunk.stream_seq,
            chunk.protocol,
            deque([chunk.user_data]),
        )

    def join(self, after: _Run) -> _Run:
        """Both in one; the longer one takes the other in."""
        if len(self.pieces) >= len(after.pieces):
            self.pieces.extend(after.pieces)
            self.last, self.ends = after.last, after.ends
            return self
        after.pieces.extendleft(reversed(self.pieces))
        after.first, after.begins = self.first, self.begins
        return after


class Reassembly:
    """One stream: what aiortc's ``InboundStream`` does.

    Attributes:
        sequence_number: of the next message that needs its order; aiortc sets it when the other side gave some up.
        waiting: pieces of messages that have not been given out.
    """

    def __init__(self, stream_id: int) -> None:
        self.sequence_number = 0
        self.waiting = 0
        self._stream_id: Final = stream_id
        self._by_first: Final[dict[int, _Run]] = {}
        self._by_last: Final[dict[int, _Run]] = {}
        self._early: Final[dict[int, _Run]] = {}
        self._whole: Final[deque[_Run]] = deque()
        self._next = 0

    def add_chunk(self, chunk: Any) -> None:
        """One more piece, which is no duplicate."""
        self.waiting += 1
        run = _Run.of(chunk)
        before = None if run.begins else self._by_last.get((run.first - 1) % _TSNS)
        if before is not None and not before.ends and before.number == run.number:
            self._forget(before)
            run = before.join(run)
        after = None if run.ends else self._by_first.get((run.last + 1) % _TSNS)
        if after is not None and not after.begins and after.number == run.number:
            self._forget(after)
            run = run.join(after)
        if run.begins and run.ends:
            self._complete(run)
        else:
            self._by_first[run.first] = self._by_last[run.last] = run

    def pop_messages(self) -> Iterator[tuple[int, int, bytes]]:
        """What can be given out now: the stream, the protocol, and the message."""
        self._catch_up()
        while self._whole:
            run = self._whole.popleft()
            self.waiting -= len(run.pieces)
            yield self._stream_id, run.protocol, b"".join(run.pieces)

    def prune_chunks(self, tsn: int) -> int:
        """Drops what can no longer become whole, as nothing comes any more up to this number; returns its bytes."""
        bytes_pruned = 0
        for run in list(self._by_first.values()):
            if uint32_gte(tsn, run.first) and not (run.begins and uint32_gte(run.last, tsn)):
                self._forget(run)
                self.waiting -= len(run.pieces)
                bytes_pruned += sum(map(len, run.pieces))
        return bytes_pruned

    def _forget(self, run: _Run) -> None:
        del self._by_first[run.first], self._by_last[run.last]

    def _complete(self, run: _Run) -> None:
        """It is whole; those that need their order wait for it."""
        self._catch_up()
        if run.number is None or not uint16_gt(run.number, self.sequence_number):
            self._whole.append(run)
            if run.number == self.sequence_number:
                self._advance((self.sequence_number + 1) % _NUMBERS)
        elif run.number in self._early:
            raise ValueError("two messages of a stream have the same number")
        else:
            self._early[run.number] = run

    def _catch_up(self) -> None:
        """Those before `sequence_number` wait no longer, should aiortc have set it."""
        steps = (self.sequence_number - self._next) % _NUMBERS
        if steps:
            ahead = ((number - self._next) % _NUMBERS for number in self._early)
            for step in sorted(step for step in ahead if step < steps):
                self._take_early((self._next + step) % _NUMBERS)
            self._advance(self.sequence_number)

    def _advance(self, number: int) -> None:
        while self._take_early(number):
            number = (number + 1) % _NUMBERS
        self.sequence_number = self._next = number

    def _take_early(self, number: int) -> bool:
        run = self._early.pop(number, None)
        if run is not None:
            self._whole.append(run)
        return run is not None


def bound_disorder(sctp: RTCSctpTransport, on_drop: Callable[[], None]) -> None:
    """Plain. Drops what is numbered too far ahead of the first piece that is missing, as if it were lost.

    Args:
        on_drop: callback.
    """
    transport: Any = sctp

    def mark_received(tsn: int) -> bool:
        """Whether the piece is not to be taken."""
        ahead = (tsn - transport._last_received_tsn) % _TSNS
        early: set[int] = transport._sack_misordered
        if not 0 < ahead < _TSNS // 2 or tsn in early:
            transport._sack_duplicates.append(tsn)
            return True
        if ahead > MAX_AHEAD:
            on_drop()
            return True
        if ahead > 1:
            early.add(tsn)
            return False
        while (following := (tsn + 1) % _TSNS) in early:
            tsn = following
            early.discard(tsn)
        transport._last_received_tsn = tsn
        return False

    transport._mark_received = mark_received
