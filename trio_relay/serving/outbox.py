"""What waits for one client that does not read as fast as it is written to.

Rules of this file:

1. Messages are written at once, as far as the socket takes them. What it does not take waits here; a writer task exists
   only while something waits, and while it runs nobody else writes.
2. Messages that wait are bounded; what happens to those beyond is `QueueRules.policy`. Under
   ``pause`` a sender asks `high` before each batch, so one batch at most is above the bound.
3. Presence and error frames overtake messages and have a bound of their own. A client that lets so many of them wait
   is not read from, and gets no more presence frames: it is disconnected.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import trio

from ..transports.websocket import WebSocketConnection

__all__ = ["Outbox", "QueueRules", "SlowConsumer"]

SlowConsumer = Literal["pause", "drop-newest", "drop-oldest", "disconnect"]
"""What happens when a client does not read what is sent to it: its sender waits, messages go, or the client does."""

_WRITE_SIZE: Final = 64 * 1024
"""Messages are written together up to about this many bytes."""
_AT_ONCE: Final = 256
"""Answers in one direct write: what the socket does not take of them is kept as bytes, not as references."""
_LOOK_AGAIN: Final = 0.1
_CONTROL_FRAMES: Final = 1024
"""Presence and error frames that may wait: of 1,024 watched peers, one each. Answers to one read may come on top."""
_CONTROL_BYTES: Final = 1024 * 1024
"""The same in bytes: an error may repeat a name that is as long as a message may be."""


@dataclass(slots=True)
class QueueRules:
    """What all outboxes of a relay have in common; the first three may be changed, for all of them at once.

    Attributes:
        start_soon: starts a writer task.
        overflow: called, once, with the outbox whose client is to be disconnected.
        counts: where drops are counted.
    """

    policy: SlowConsumer
    most_bytes: int
    most_messages: int
    start_soon: Callable[[Callable[[], Awaitable[None]]], None]
    overflow: Callable[[Outbox], None]
    counts: Counter[str]


class Outbox:
    """Writes to one connection.

    Attributes:
        closed: nothing more is taken.
        owner: whose it is, for `QueueRules.overflow`.
    """

    __slots__ = (
        "_connection",
        "_control",
        "_control_size",
        "_drained",
        "_in_hand",
        "_in_hand_messages",
        "_messages",
        "_overflowed",
        "_room",
        "_rules",
        "_size",
        "_writing",
        "closed",
        "owner",
    )

    def __init__(self, connection: WebSocketConnection, rules: QueueRules) -> None:
        self._connection: Final = connection
        self._rules: Final = rules
        # Of most clients nothing ever waits.
        self._messages: deque[bytes] | None = None
        self._control: deque[bytes] | None = None
        self._size = self._control_size = 0
        self._in_hand = self._in_hand_messages = 0
        self._writing = False
        self._overflowed = False
        self._room: trio.Event | None = None
        self._drained: trio.Event | None = None
        self.closed = False
        self.owner: object = None

    @property
    def size(self) -> int:
        """Bytes that wait, those included that were given to the connection and have not been written."""
        return self._size + self._unwritten

    @property
    def _unwritten(self) -> int:
        """Bytes of messages that were given to the connection; of a large one, what is left of it."""
        return min(self._in_hand, self._connection.unwritten) if self._in_hand else 0

    @property
    def waiting(self) -> int:
        """Messages that wait."""
        return len(self._messages) if self._messages is not None else 0

    @property
    def high(self) -> bool:
        """Whether a sender should wait, under the policy ``pause``."""
        return self._writing and (
            self.size >= self._rules.most_bytes
            or (self._messages is not None and len(self._messages) >= self._rules.most_messages)
        )

    # Sending

    def send(self, payloads: Sequence[bytes], size: int) -> int:
        """Sends text messages of `size` bytes together, now or in their turn; returns how many were not dropped."""
        if self.closed:
            self._rules.counts["client_closing"] += len(payloads)
            return 0
        if self._writing or not self._connection.direct:
            return self._enqueue(payloads, size)
        try:
            if not self._connection.send_nowait(payloads, text=True, each=True):
                self._in_hand, self._in_hand_messages = size, len(payloads)
                self._start_writer()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._rules.counts["client_broken"] += len(payloads)
            self.abort()
            return 0
        return len(payloads)

    def push(self, frame: bytes) -> None:
        """Sends a frame that others caused, before all messages that wait."""
        if self.crowded and not self.closed:
            self._rules.counts["control_full"] += 1
            self._overflow()
        else:
            self.answer(frame)

    def answer(self, *frames: bytes) -> None:
        """Sends what the client itself caused, before all messages that wait.

        There is no bound here: who reads from the client waits while it is `crowded`.
        """
        position = 0
        while position < len(frames) and not self._writing and not self.closed and self._connection.direct:
            some = frames[position : position + _AT_ONCE]
            position += len(some)
            try:
                if not self._connection.send_nowait(some, text=True, each=True):
                    self._start_writer()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self.abort()
        if position < len(frames) and not self.closed:
            if self._control is None:
                self._control = deque()
            rest = frames[position:]
            self._control.extend(rest)
            self._control_size += sum(map(len, rest))
            self._start_writer()

    @property
    def crowded(self) -> bool:
        """Whether so many presence and error frames wait that the client must read before it is read from."""
        if self._control is None:
            return False
        return len(self._control) >= _CONTROL_FRAMES or self._control_size >= _CONTROL_BYTES

    def ping(self) -> None:
        """Sends a ping, now or before the next message."""
        if not self.closed:
            self._connection.ping_soon()
            self.answer_control()

    def answer_control(self) -> None:
        """Sees to it that a reply to a control frame is written."""
        if self._connection.control_pending and not self.closed:
            self._start_writer()

    def _enqueue(self, payloads: Sequence[bytes], size: int) -> int:
        if self._messages is None:
            self._messages = deque()
        # Over a stream that is idle, as directly to a socket: what one read brought is taken whole.
        if self._rules.policy != "pause" and self._writing:
            fitting = self._make_room(payloads)
            if len(fitting) != len(payloads):
                payloads, size = fitting, sum(map(len, fitting))
        self._messages.extend(payloads)
        self._size += size
        if self._messages:
            self._start_writer()
        return len(payloads)

    def _make_room(self, payloads: Sequence[bytes]) -> Sequence[bytes]:
        """Those of the messages that may wait, under the policies that drop."""
        rules, queue = self._rules, self._messages
        assert queue is not None
        most_bytes, most_messages = rules.most_bytes - self._unwritten, rules.most_messages
        if rules.policy == "drop-oldest":
            wanted = deque(payloads)
            size = sum(map(len, wanted))
            while queue and (self._size + size > most_bytes or len(queue) + len(wanted) > most_messages):
                self._size -= len(queue.popleft())
                rules.counts["slow_consumer_dropped"] += 1
            while wanted and (size > most_bytes or len(wanted) > most_messages):
                size -= len(wanted.popleft())
                rules.counts["slow_consumer_dropped"] += 1
            return list(wanted)
        size, number = self._size, len(queue)
        fitting = []
        for payload in payloads:
            if size + len(payload) > most_bytes or number >= most_messages:
                break
            fitting.append(payload)
            size += len(payload)
            number += 1
        if len(fitting) < len(payloads):
            rules.counts["slow_consumer_dropped"] += len(payloads) - len(fitting)
            if rules.policy == "disconnect":
                self._overflow()
        return fitting

    def _overflow(self) -> None:
        if not self._overflowed:
            self._overflowed = True
            self._rules.overflow(self)

    # Writing

    def _start_writer(self) -> None:
        if not self._writing:
            self._writing = True
            self._rules.start_soon(self._write)

    async def _write(self) -> None:
        """The writer task: flushes what a direct write left, then what waits, then ends."""
        connection = self._connection
        try:
            await connection.flush()
            self._in_hand = self._in_hand_messages = 0
            self._give_room()
            while batch := self._next_batch():
                await connection.send(batch, text=True, each=True)
                self._in_hand = self._in_hand_messages = 0
                self._give_room()
            self._writing = False
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
            pass
        finally:
            if self._writing:
                # Broken, or cancelled half way: what the client got may end in the middle of a message.
                self._writing = False
                self.abort()
            self._give_room()
            if self._drained is not None:
                self._drained.set()
                self._drained = None

    def _next_batch(self) -> list[bytes]:
        """Control frames, or messages, that are written together; they leave the accounts of what waits."""
        batch, size = [], 0
        while self._control and size < _WRITE_SIZE:
            batch.append(frame := self._control.popleft())
            size += len(frame)
        if batch:
            self._control_size -= size
            return batch
        queue = self._messages
        while queue and size < _WRITE_SIZE:
            payload = queue.popleft()
            batch.append(payload)
            size += len(payload)
        self._size -= size
        self._in_hand, self._in_hand_messages = size, len(batch)
        return batch

    def _give_room(self) -> None:
        if self._room is not None:
            self._room.set()
            self._room = None

    @property
    def _above_half(self) -> bool:
        rules = self._rules
        return self._writing and (2 * self.size > rules.most_bytes or 2 * self.waiting > rules.most_messages)

    async def wait_room(self) -> None:
        """Returns when the queue is half empty, or the client is gone; at once if it is not `high`."""
        if self.high:
            while self._above_half and not self.closed:
                await self._next_write()

    async def wait_answered(self) -> None:
        """Returns when it is not `crowded`, or the client is gone."""
        while self.crowded and not self.closed:
            await self._next_write()

    async def _next_write(self) -> None:
        """Something was written, or the client is gone."""
        if self._room is None:
            self._room = trio.Event()
        # A large message is written little by little, which nobody tells of.
        with trio.move_on_after(_LOOK_AGAIN):
            await self._room.wait()

    # Closing

    async def drain(self) -> None:
        """Takes nothing more; returns when all that waits is written, or the client is gone."""
        self.close()
        while self._writing:
            if self._drained is None:
                self._drained = trio.Event()
            await self._drained.wait()

    def close(self) -> None:
        """Takes nothing more; what waits is still written."""
        self.closed = True
        self._give_room()

    def abort(self) -> None:
        """Closes the connection at once; messages that waited are counted."""
        self.close()
        if lost := self.waiting + self._in_hand_messages:
            self._rules.counts["client_broken"] += lost
        self._messages = self._control = None
        self._size = self._control_size = self._in_hand = self._in_hand_messages = 0
        self._connection.abort()
