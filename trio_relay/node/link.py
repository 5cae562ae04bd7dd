"""One live link: what it still has to write, and how it closes.

Rules of this file:

1. Whoever sends never waits: a batch is written at once, or joins the backlog, or is dropped and counted.
2. A writer task exists only while there is a backlog; while it runs nobody else writes.
3. Signs of life (`URGENT`) overtake what waits. Everything else keeps its order, a goodbye above all.
4. A write that fails or is interrupted ends the connection; its reader sees that and reports the link down.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import trio

from ..limits import Limits
from ..overlay.actions import URGENT
from ..transports.connection import Buffer, Connection
from ..transports.data_channel import DataChannelConnection, TextChannelConnection
from ..wire.addresses import network_group, scope, split_host_port
from ..wire.frame import MAX_MESSAGE
from ..wire.hello import Reason
from ..wire.ids import NodeId, short
from .backlog import Backlog, Batch
from .values import CandidateTypes, LinkInfo

__all__ = ["Link"]

_WRITE_SIZE: Final = 64 * 1024
"""Batches are joined into messages of about this size."""


class Link:
    """A proven neighbour's connection.

    Args:
        start_soon: starts the writer task.
        counts: where drops are counted.

    Attributes:
        scope: how near the other end is; `group`: its network range, empty for none.
    """

    __slots__ = (
        "_closed",
        "_closing",
        "_drained",
        "_held",
        "_in_hand",
        "_limits",
        "_queue",
        "_room",
        "_start_soon",
        "_urgent",
        "_writing",
        "backlog",
        "connection",
        "dialled",
        "group",
        "legacy",
        "peer",
        "reason",
        "scope",
        "since",
    )

    def __init__(
        self,
        connection: Connection,
        peer: NodeId,
        *,
        dialled: bool,
        limits: Limits,
        counts: Counter[str],
        start_soon: Callable[[Callable[[], Awaitable[None]]], None],
        legacy: bool = False,
    ) -> None:
        self.connection: Final = connection
        self.peer: Final = peer
        self.dialled: Final = dialled
        self.legacy: Final = legacy
        self.since: Final = trio.current_time()
        found = split_host_port(connection.remote)
        host = found[0] if found is not None else connection.remote
        self.scope: Final = scope(host)
        self.group: Final = network_group(host)
        self.backlog: Final = Backlog(limits, counts)
        self.reason = "connection lost"
        self._limits: Final = limits
        self._start_soon: Final = start_soon
        self._urgent: deque[Batch] | None = None
        self._queue: deque[Batch] | None = None
        self._held: Batch | None = None
        self._writing = False
        self._in_hand = 0
        self._closing = False
        self._drained: trio.Event | None = None
        self._room: trio.Event | None = None
        self._closed: trio.Event | None = None

    def __repr__(self) -> str:
        return f"<Link {short(self.peer)} {self.connection.transport} {self.connection.remote}>"

    # Sending

    def transmit(
        self, pieces: Sequence[Buffer], frames: int, size: int, via: object, *, control: int, text: bool = False
    ) -> None:
        """Sends a batch, now or when its turn comes."""
        if self._closing:
            self.backlog.counts["link_closing"] += frames
        elif self._writing or not self.connection.direct:
            self._enqueue(Batch(pieces, frames, size, via, control, text))
        else:
            try:
                if not self.connection.send_nowait(pieces, text=text):
                    self._in_hand = frames
                    self._start_writer()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self.backlog.counts["link_broken"] += frames
                self.abort()

    def _enqueue(self, batch: Batch) -> None:
        if not self.backlog.add(batch):
            return
        if self._urgent is None or self._queue is None:
            self._urgent, self._queue = deque(), deque()
        queue = self._urgent if batch.control == URGENT else self._queue
        # Dropped batches keep their place until the writer meets them, hence twice the bound.
        if len(queue) < 2 * self._limits.backlog_frames:
            queue.append(batch)
        else:
            self.backlog.remove(batch)
            self.backlog.counts["backlog_full"] += batch.frames
        self._start_writer()

    def answer_control(self) -> None:
        """The connection has a reply to a control frame (a pong) to write."""
        if self.connection.control_pending:
            self._start_writer()

    def _start_writer(self) -> None:
        if not self._writing:
            self._writing = True
            self._start_soon(self._write)

    async def _write(self) -> None:
        """The writer task: flushes what a direct write left, then the backlog, then ends."""
        try:
            await self.connection.flush()
            self._in_hand = 0
            while (batch := self._next()) is not None:
                self._in_hand = batch.frames
                if batch.text:
                    await self.connection.send(batch.pieces, text=True)
                else:
                    await self.connection.send(self._join(batch))
                self._in_hand = 0
            self._writing = False
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            if self._writing:
                # Broken, or cancelled half way: what the other side got may end in the middle of a message.
                held = self._held.frames if self._held is not None else 0
                self.backlog.counts["link_broken"] += self._in_hand + held
                self._writing = False
                self.abort()
            if self._drained is not None:
                self._drained.set()
                self._drained = None
            self._give_room()

    def _next(self) -> Batch | None:
        """The next batch that was not dropped; it leaves the accounts."""
        held, self._held = self._held, None
        if held is not None:
            return held
        while queue := self._urgent or self._queue:
            batch = queue.popleft()
            if not batch.dropped:
                self.backlog.remove(batch)
                if not self.high:
                    self._give_room()
                return batch
        return None

    def _give_room(self) -> None:
        if self._room is not None:
            self._room.set()
            self._room = None

    def _join(self, batch: Batch) -> list[Buffer]:
        """The batch and those after it, as one message; what would make it too large is held for the next."""
        pieces = list(batch.pieces)
        size = batch.size
        while size < _WRITE_SIZE and (following := self._next()) is not None:
            if following.text or size + following.size > MAX_MESSAGE:
                self._held = following
                break
            pieces.extend(following.pieces)
            size += following.size
            self._in_hand += following.frames
        return pieces

    @property
    def busy(self) -> bool:
        """Whether something waits to be written."""
        return self._writing

    @property
    def high(self) -> bool:
        """Whether a sender with time should wait: half of the backlog is taken."""
        return self.backlog.size * 2 > self._limits.backlog_bytes or self.backlog.frames * 2 > (
            self._limits.backlog_frames
        )

    async def wait_room(self) -> None:
        """Returns when a sender need not wait any more, or the link is gone."""
        while self.high and self._writing and not self._closing:
            if self._room is None:
                self._room = trio.Event()
            await self._room.wait()

    async def wait_drained(self) -> None:
        """Returns when nothing waits to be written, or the link is gone."""
        while self._writing and not self._closing:
            if self._drained is None:
                self._drained = trio.Event()
            await self._drained.wait()

    def hand_over(self, other: Link) -> None:
        """What waits here leaves over another link with the same peer, before what is sent there from now on."""
        while (batch := self._next()) is not None:
            other.transmit(batch.pieces, batch.frames, batch.size, batch.via, control=batch.control)

    def info(self, role: str, rtt: float | None) -> LinkInfo:
        """What the application is told."""
        connection = self.connection
        return LinkInfo(
            self.peer,
            connection.transport,
            role,
            self.dialled,
            connection.remote,
            self.since,
            rtt,
            self.backlog.size,
            self.candidates,
        )

    @property
    def candidates(self) -> CandidateTypes | None:
        """Of a WebRTC connection: where the addresses in use come from, ours and the other side's."""
        connection = self.connection
        pair = connection.pair if isinstance(connection, DataChannelConnection | TextChannelConnection) else None
        return None if pair is None else (pair.local, pair.remote)

    # Closing

    @property
    def closing(self) -> bool:
        """Whether the link takes nothing more."""
        return self._closing

    def close_soon(self, reason: Reason) -> None:
        """Takes nothing more, writes the backlog, closes politely; `wait_closed` waits for that."""
        if not self._closing:
            self._begin_closing(reason)
            self._start_soon(self._close)

    async def close(self, reason: Reason) -> None:
        """The same in the caller's task, which is the reader; of a link that is closing already, it waits for that."""
        if self._closing:
            await self.wait_closed()
        else:
            self._begin_closing(reason)
            await self._close()

    def _begin_closing(self, reason: Reason) -> None:
        self._closing = True
        self._give_room()
        self._closed = trio.Event()
        self.reason = reason.name.lower().replace("_", " ")

    async def _close(self) -> None:
        try:
            with trio.move_on_after(self._limits.close_timeout):
                while self._writing:
                    if self._drained is None:
                        self._drained = trio.Event()
                    await self._drained.wait()
            await self.connection.aclose(1000, self.reason)
        finally:
            self.abort()

    async def wait_closed(self) -> None:
        """Returns when a close that was begun is done; at once if none was."""
        if self._closed is not None:
            await self._closed.wait()

    def abort(self) -> None:
        """Closes at once; what was not written is counted."""
        self._closing = True
        self.connection.abort()
        self.backlog.clear()
        self._give_room()
        if self._closed is not None:
            self._closed.set()
