"""What one channel sends to one member: messages in pieces, one after the other, and answers to what comes.

Rules of this file:

1. One transfer is under way at a time; others wait, `TransferLimits.queue` of them. Its number is the one after the
   last one's, so never that of one that is under way.
2. A member that takes nothing for `TransferLimits.ack_timeout` seconds loses what is under way and what has waited for
   as long: what counts is the time since something left last, or since the message was given to the channel. One that
   is slow, but takes something, loses nothing.
3. The acknowledgement has to come so many seconds after the last piece has left. Seconds in which we did not read the
   channel, because there was no room for what came, do not count: it may be there unread.
4. A transfer that fails when a part of it was sent is aborted, also if its receiver asked for that: what it asked may
   have been meant for another (see `assembly`).
5. While a source that can be read only once has nothing, an empty piece now and then shows the member that it is alive.
6. Answers do not wait for pieces, and are never more than `TransferLimits.answers`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
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
        self._id = 0
        self._began = self._all_sent = False
        self._pause: Final = limits.ack_timeout / _LOOKS
        self._work: Final = trio.lowlevel.ParkingLot()
        self._to_answer: Final = trio.lowlevel.ParkingLot()
        self._line: Final = trio.StrictFIFOLock()
        self._buffered = 0
        self._moved_at = 0.0
        self._ended = False

    # Plain

    @property
    def full(self) -> bool:
        """Whether no more transfers can wait."""
        if len(self._waiting) >= self._limits.queue:
            self._tidy()
        return len(self._waiting) >= self._limits.queue

    @property
    def current_id(self) -> int | None:
        """The number of the transfer that is under way."""
        return self._id if self._current is not None else None

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
        if len(self._answers) >= self._limits.answers:
            self._counts["transfer_answers_dropped"] += 1
        else:
            self._answers.append(packet)
            self._to_answer.unpark()

    def on_acknowledgement(self, id: int) -> None:
        """The member has all of the transfer with this number."""
        if self._current is not None and self._id == id and self._all_sent:
            self._current.complete()
        else:
            self._counts["transfer_answers_unknown"] += 1

    def on_receiver_abort(self, id: int) -> None:
        """The member takes no more of the transfer that is under way."""
        if self._current is not None and self._id == id:
            self._current.fail("aborted-by-receiver", "the member takes no more of it")
        else:
            self._counts["transfer_answers_unknown"] += 1

    def end(self) -> None:
        """The channel is at its end."""
        self._ended = True
        self._answers.clear()
        parts = [*self._waiting] if self._current is None else [self._current, *self._waiting]
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
                while not self._waiting:
                    await self._work.park()
                await self._send_part(self._waiting.popleft())
        self.end()

    async def run_answers(self) -> None:
        """Sends answers, until the channel is at its end."""
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while True:
                while not self._answers:
                    await self._to_answer.park()
                await self.send(self._answers.popleft())

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
        buffered = self._channel.buffered_amount
        if buffered < self._buffered + len(message):
            self._moved_at = trio.current_time()
        self._buffered = buffered

    async def _send_part(self, part: Part) -> None:
        if part.over:
            return
        self._id = next_transfer_id(self._id)
        self._current, self._began, self._all_sent = part, False, False
        try:
            with part.scope:
                await self._wait_open(part)
                await self._send_pieces(part)
                await self._wait_acknowledged(part)
        except SourceFailed as error:
            part.fail("source-failed", str(error), error.__cause__)
        finally:
            self._current = None
            part.fail("disconnected", "the channel was closed before the member had all of it")
        if self._began and part.failure is not None:
            self.answer(encode_sender_abort(self._id))

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

    async def _wait_acknowledged(self, part: Part) -> None:
        """Returns by the end of the part's scope alone."""
        self._moved_at = trio.current_time()
        while True:
            deadline = max(self._moved_at, self._read_at()) + self._limits.ack_timeout
            if trio.current_time() >= deadline:
                await self._give_up(part, f"the member did not acknowledge within {self._limits.ack_timeout:g} seconds")
            await trio.sleep_until(min(deadline, trio.current_time() + self._pause))
            self._look(idle_is_movement=False)

    def _look(self, *, idle_is_movement: bool) -> None:
        """Notes whether something has left since the last look."""
        buffered = self._channel.buffered_amount
        if buffered < self._buffered or (idle_is_movement and not buffered):
            self._moved_at = trio.current_time()
        self._buffered = buffered

    async def _give_up(self, part: Part, message: str) -> None:
        part.fail("timeout", message)
        await trio.lowlevel.checkpoint()  # raises, for the part's scope is cancelled
