"""What one channel sends to one member: messages in pieces, one after the other, and answers to what comes.

Rules of this file:

1. The pieces of one transfer go out after those of the one before it, but do not wait for its acknowledgement:
   `TransferLimits.unacknowledged` transfers may do so at once, and `TransferLimits.queue` wait to be sent. (Originals
   send the next one after the acknowledgement; but they tell those that come apart by their numbers, as we do, so
   nothing mixes. For small messages it is the difference of one a round trip.) A number is never that of another
   transfer that is under way.
2. A member that takes nothing for `TransferLimits.ack_timeout` seconds loses what is under way and what has waited for
   as long: what counts is the time since something left last, or since the message was given to the channel. One that
   is slow, but takes something, loses nothing.
3. The acknowledgement has to come so many seconds after the last piece has left, and those before it have been
   answered. Seconds in which we did not read the channel, because there was no room for what came, do not count: it may
   be there unread.
4. A transfer that fails when a part of it was sent is aborted, also if its receiver asked for that: what it asked may
   have been meant for another (see `assembly`).
5. While a source that can be read only once has nothing, an empty piece now and then shows the member that it is alive.
6. Answers do not wait for pieces, and are never more than `TransferLimits.answers`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

import trio

from ...transports.bundle import BundleChannel
from ..packets.transfer import CHUNK, encode_piece, encode_sender_abort, next_transfer_id
from .limits import TransferLimits
from .sources import Buffer, SourceFailed
from .transfer import Part

__all__ = ["Outgoing"]

_HEADER: Final = 64
"""Bytes of a packet besides its chunk and info, at most."""
_LOOKS: Final = 4
"""How often it is looked, within the timeout, whether something has left."""


class _Sent:
    """A part that waits for its acknowledgement.

    Attributes:
        end: how many bytes the channel had been given then.
        left_at: when it was seen that all of it had left; None before.
    """

    __slots__ = ("end", "left_at", "part")

    def __init__(self, part: Part, end: int) -> None:
        self.part: Final = part
        self.end: Final = end
        self.left_at: float | None = None


class Outgoing:
    """The sending side of a channel.

    Args:
        read_at: when the channel was read last, or could have been; seconds of Trio's clock.
    """

    def __init__(
        self, channel: BundleChannel, limits: TransferLimits, counts: Counter[str], read_at: Callable[[], float]
    ) -> None:
        self._channel: Final = channel
        self._limits: Final = limits
        self._counts: Final = counts
        self._read_at: Final = read_at
        self._waiting: Final[deque[Part]] = deque()
        self._answers: Final[deque[bytes]] = deque()
        self._current: Part | None = None
        self._sent: Final[dict[int, _Sent]] = {}  # by number, oldest first
        self._answered_at = 0.0
        self._id = 0
        self._began = self._all_sent = False
        self._pause: Final = limits.ack_timeout / _LOOKS
        self._work: Final = trio.lowlevel.ParkingLot()
        self._to_answer: Final = trio.lowlevel.ParkingLot()
        self._answered: Final = trio.lowlevel.ParkingLot()
        self._to_time: Final = trio.lowlevel.ParkingLot()
        self._line: Final = trio.StrictFIFOLock()
        self._given = self._buffered = 0
        self._moved_at = 0.0
        self._ended = False

    # Plain

    @property
    def full(self) -> bool:
        """Whether no more transfers can wait."""
        if len(self._waiting) >= self._limits.queue:
            self._tidy()
        return len(self._waiting) >= self._limits.queue

    def is_under_way(self, id: int) -> bool:
        """Whether a transfer has this number now."""
        return id in self._sent or (self._current is not None and self._id == id)

    def submit(self, part: Part) -> None:
        """Sends it when it is its turn.

        Raises:
            trio.WouldBlock: too many wait.
        """
        if self._ended:
            part.fail("disconnected", "the channel was closed")
        elif self.full:
            raise trio.WouldBlock(f"{self._limits.queue} messages wait to be sent")
        else:
            part.since = trio.current_time()
            self._waiting.append(part)
            self._work.unpark()

    def answer(self, packet: bytes) -> None:
        """Sends an answer to what came."""
        if self._ended:
            return
        if len(self._answers) >= self._limits.answers:
            self._counts["transfer_answers_dropped"] += 1
        else:
            self._answers.append(packet)
            self._to_answer.unpark()

    def on_acknowledgement(self, id: int) -> None:
        """The member has all of the transfer with this number."""
        part = self._find(id)
        if part is None or (part is self._current and not self._all_sent):
            self._counts["transfer_answers_unknown"] += 1
        else:
            part.complete()

    def on_receiver_abort(self, id: int) -> None:
        """The member takes no more of the transfer with this number."""
        part = self._find(id)
        if part is None:
            self._counts["transfer_answers_unknown"] += 1
        else:
            part.fail("aborted-by-receiver", "the member takes no more of it")

    def _find(self, id: int) -> Part | None:
        sent = self._sent.get(id)
        if sent is not None:
            return sent.part
        return self._current if self._id == id else None

    def end(self) -> None:
        """The channel is at its end."""
        self._ended = True
        self._answers.clear()
        self._answered.unpark_all()
        current = [] if self._current is None else [self._current]
        parts = [*(sent.part for sent in self._sent.values()), *current, *self._waiting]
        self._waiting.clear()
        for part in parts:
            part.fail("disconnected", "the channel was closed before the member had all of it")

    def _tidy(self) -> None:
        """Forgets those that are over before it was their turn."""
        left = [part for part in self._waiting if not part.over]
        self._waiting.clear()
        self._waiting.extend(left)

    # Tasks

    async def run(self) -> None:
        """Sends messages, until the channel is at its end."""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while True:
                while not self._waiting or len(self._sent) >= self._limits.unacknowledged:
                    await self._work.park()
                part = self._waiting.popleft()
                if not part.over:
                    await self._send_part(part)
        self.end()

    async def run_answers(self) -> None:
        """Sends answers, until the channel is at its end."""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while True:
                while not self._answers:
                    await self._to_answer.park()
                packet = self._answers[0]
                if len(packet) <= self._channel.max_message:
                    await self.send(packet)
                else:
                    self._counts["transfer_answers_dropped"] += 1
                if self._answers:  # the channel may have come to its end
                    self._answers.popleft()
                self._answered.unpark_all()

    async def drain_answers(self) -> None:
        """Waits until the channel has been given all answers, or is at its end."""
        await trio.lowlevel.checkpoint()
        while self._answers:
            await self._answered.park()

    async def run_timeouts(self) -> None:
        """Gives up what is not acknowledged in time, until it is cancelled."""
        while True:
            while not self._sent:
                await self._to_time.park()
            deadline, part = self._find_due()
            if trio.current_time() >= deadline:
                answered_at = self._answered_at
                part.fail("timeout", f"the member did not acknowledge within {self._limits.ack_timeout:g} seconds")
                self._answered_at = answered_at  # what was sent with it has waited as long
            else:
                await trio.sleep_until(min(deadline, trio.current_time() + self._pause))

    async def send(self, message: bytes | str) -> None:
        """One message, when it is its turn and there is room for it.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: the channel is at its end.
        """
        try:
            self._line.acquire_nowait()
        except trio.WouldBlock:
            await self._line.acquire()
        try:
            await self._channel.send(message)
        finally:
            self._line.release()
        self._given += len(message)
        buffered = self._channel.buffered_amount
        if buffered < self._buffered + len(message):
            self._moved_at = trio.current_time()
        self._buffered = buffered

    async def _send_part(self, part: Part) -> None:
        self._id = id = self._next_id()
        self._current, self._began, self._all_sent = part, False, False
        given = False
        try:
            with part.scope:
                await self._wait_open(part)
                await self._send_pieces(part)
                given = True
        except SourceFailed as error:
            part.fail("source-failed", str(error), error.__cause__)
        finally:
            self._current = None
            if not given:
                part.fail("disconnected", "the channel was closed before the member had all of it")
        if not part.over:
            self._expect(id, part)
        elif self._began and part.failure is not None:
            self.answer(encode_sender_abort(id))

    def _next_id(self) -> int:
        id = next_transfer_id(self._id)
        while id in self._sent:
            id = next_transfer_id(id)
        return id

    # Acknowledgements

    def _expect(self, id: int, part: Part) -> None:
        """From now on, it is to be acknowledged."""
        if not self._sent:
            self._answered_at = trio.current_time()
            self._to_time.unpark()
        self._sent[id] = _Sent(part, self._given)
        part.on_over = partial(self._on_over, id)

    def _on_over(self, id: int) -> None:
        """One that was to be acknowledged is over, in whatever way."""
        is_first = next(iter(self._sent)) == id
        part = self._sent.pop(id).part
        if is_first:
            self._answered_at = trio.current_time()
        if part.failure is not None:
            self.answer(encode_sender_abort(id))
        self._work.unpark()

    def _find_due(self) -> tuple[float, Part]:
        """When the first one is to be given up, as it looks now."""
        self._look(idle_is_movement=False)
        left = self._given - self._buffered
        for sent in self._sent.values():
            if sent.left_at is None and sent.end <= left:
                sent.left_at = self._moved_at
        first = next(iter(self._sent.values()))
        since = self._moved_at if first.left_at is None else first.left_at
        return max(since, self._answered_at, self._read_at()) + self._limits.ack_timeout, first.part

    # Pieces

    async def _wait_open(self, part: Part) -> None:
        if not self._channel.open:
            with trio.move_on_at(part.since + self._limits.ack_timeout) as scope:
                await self._channel.wait_open()
            if scope.cancelled_caught:
                await self._give_up(part, "the channel did not open in time")

    async def _send_pieces(self, part: Part) -> None:
        """Reads and sends all pieces."""
        full = min(CHUNK, self._channel.max_message - _HEADER)
        type, info, index, last = part.type, part.info, 0, False
        most = full - len(info or b"")
        if most <= 0:
            part.fail("too-large", f"the member takes no messages of more than {self._channel.max_message} bytes")
            await trio.lowlevel.checkpoint()
        while not last:
            chunk, last = await self._read(part, most)
            if index:
                packet = encode_piece(self._id, index, chunk, done=last)
            else:
                packet = encode_piece(self._id, index, chunk, done=last, type=type, info=info)
            await self._send_piece(part, packet, last)
            part.advance(len(chunk))
            index, most = index + 1, full

    async def _read(self, part: Part, most: int) -> tuple[Buffer, bool]:
        if part.is_live:
            with trio.move_on_after(self._limits.ack_timeout):
                return await part.reader.read(most)
            return b"", False
        return await part.reader.read(most)

    async def _send_piece(self, part: Part, packet: bytes, last: bool) -> None:
        self._look(idle_is_movement=True)
        while True:
            deadline = max(self._moved_at, part.since) + self._limits.ack_timeout
            with trio.move_on_at(min(deadline, trio.current_time() + self._pause)):
                self._all_sent = last
                await self.send(packet)
                self._began = True
                return
            self._look(idle_is_movement=False)
            if trio.current_time() >= max(self._moved_at, part.since) + self._limits.ack_timeout:
                await self._give_up(part, f"the member took nothing for {self._limits.ack_timeout:g} seconds")

    def _look(self, *, idle_is_movement: bool) -> None:
        """Notes whether something has left since the last look."""
        buffered = self._channel.buffered_amount
        if buffered < self._buffered or (idle_is_movement and not buffered):
            self._moved_at = trio.current_time()
        self._buffered = buffered

    async def _give_up(self, part: Part, message: str) -> None:
        part.fail("timeout", message)
        await trio.lowlevel.checkpoint()  # raises, for the part's scope is cancelled
