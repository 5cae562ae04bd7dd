"""One end of a connection inside the process."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import TypeAlias

import trio

from .connection import Buffer, TransportName

__all__ = ["Item", "MemoryConnection"]

Item: TypeAlias = bytes | str | None
"""What travels: a message, or None, the end that a polite close announces."""

Carry: TypeAlias = Callable[["MemoryConnection", Item], None]


class MemoryConnection:
    """A `Connection`; made in pairs by `MemoryNetwork`.

    What was sent and not yet received, in flight included, is bounded at the receiver; beyond that
    `send_nowait` returns False. A message larger than the bound travels alone.

    Args:
        host: the name of our host.
        peer_host: the name of the other.
        carry: takes an item to the other end, now or later, or loses it.
        rng: decides what happens to the messages that this end sends.
        buffer: messages and bytes that may be on their way to this end.
    """

    def __init__(
        self,
        host: str,
        peer_host: str,
        *,
        carry: Carry,
        rng: Random,
        buffer: tuple[int, int],
        offered_subprotocol: bool,
        close_timeout: float,
    ) -> None:
        self.transport: TransportName = "memory"
        self.direct = True
        self.host = host
        self.peer_host = peer_host
        self.local, self.remote = f"{host}:0", f"{peer_host}:0"
        self.offered_subprotocol = offered_subprotocol
        self.rng = rng
        self.last_due = 0.0
        self.peer: MemoryConnection = self  # until the pair is joined
        self._carry = carry
        self._buffer_messages, self._buffer_bytes = buffer
        self._close_timeout = close_timeout
        self._inbox: deque[bytes | str] = deque()
        self._coming_messages = self._coming_bytes = 0
        self._leftover: bytes | str | None = None
        self._arrived: trio.Event | None = None
        self._room: trio.Event | None = None
        self._ended = self._broken = self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "broken" if self._broken else "open"
        return f"<MemoryConnection {self.host} to {self.peer_host}, {state}>"

    # Receiving

    async def receive(self) -> list[bytes | str]:
        """See `Connection.receive`."""
        self._check_open()
        if self._arrived is not None:
            raise trio.BusyResourceError("another task is receiving from this connection")
        if self._inbox or self._ended:
            await trio.lowlevel.checkpoint()
        while not (self._inbox or self._ended):
            self._arrived = trio.Event()
            try:
                await self._arrived.wait()
            finally:
                self._arrived = None
            self._check_open()
        messages = list(self._inbox)
        self._inbox.clear()
        for message in messages:
            self.forget(message)
        return messages

    # Sending

    @property
    def control_pending(self) -> bool:
        """Whether a message waits for `flush`; there are no control frames here."""
        return self._leftover is not None

    def send_nowait(self, pieces: Sequence[Buffer], *, text: bool = False) -> bool:
        """See `Connection.send_nowait`."""
        self._check_open()
        if self._leftover is not None:
            raise trio.BusyResourceError("expected flush to return before the next message")
        payload = b"".join(pieces)
        self._leftover = payload.decode() if text else payload
        return self._send_leftover()

    async def flush(self) -> None:
        """See `Connection.flush`."""
        self._check_open()
        await trio.lowlevel.checkpoint()
        done = False
        try:
            while not self._send_leftover():
                self._room = trio.Event()
                await self._room.wait()
                self._check_open()
            done = True
        finally:
            self._broken |= not done

    async def send(self, pieces: Sequence[Buffer], *, text: bool = False) -> None:
        """See `Connection.send`."""
        await trio.lowlevel.checkpoint()
        if not self.send_nowait(pieces, text=text):
            await self.flush()

    def _send_leftover(self) -> bool:
        if self._leftover is None:
            return True
        if not self.peer.has_room(len(self._leftover)):
            return False
        message, self._leftover = self._leftover, None
        self._carry(self, message)
        return True

    # Closing

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """See `Connection.aclose`."""
        if not (self._closed or self._broken):
            with trio.move_on_after(self._close_timeout, shield=True):
                try:
                    await self.flush()
                    self._carry(self, None)
                    self._closed = True
                    self._wake()
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass
        await trio.lowlevel.cancel_shielded_checkpoint()
        self.abort()

    def abort(self) -> None:
        """See `Connection.abort`."""
        if not self._closed:
            self._closed = True
            self._carry(self, None)
            self._wake()

    def cut(self) -> None:
        """Breaks this end, as when the other host is gone."""
        if not self._closed:
            self._broken = True
            self._inbox.clear()
            self._wake()

    # For the network

    @property
    def is_open(self) -> bool:
        """Whether items can still arrive here."""
        return not (self._closed or self._broken)

    def has_room(self, size: int) -> bool:
        """Whether one more message of `size` bytes may be on its way to this end."""
        if not self.is_open or self._coming_messages == 0:
            return True
        return self._coming_messages < self._buffer_messages and self._coming_bytes + size <= self._buffer_bytes

    def expect(self, item: Item) -> None:
        """An item is on its way to this end."""
        if item is not None:
            self._coming_messages += 1
            self._coming_bytes += len(item)

    def forget(self, item: Item) -> None:
        """An expected item was received, or will not arrive."""
        if item is None:
            return
        self._coming_messages -= 1
        self._coming_bytes -= len(item)
        if self.peer._room is not None:
            self.peer._room.set()

    def arrive(self, item: Item) -> None:
        """An expected item is here."""
        if item is None:
            self._ended = True
        else:
            self._inbox.append(item)
        if self._arrived is not None:
            self._arrived.set()

    def _wake(self) -> None:
        for event in (self._arrived, self._room, self.peer._room):
            if event is not None:
                event.set()

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this connection was closed")
        if self._broken:
            raise trio.BrokenResourceError(f"the connection to {self.peer_host} broke")
