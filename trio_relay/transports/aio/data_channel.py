"""An open data channel, as Trio tasks read and write it.

Messages wait in a deque between the event and `receive`. The room for them is the receive window of SCTP: it narrows
by what waits. What a side sends beyond it (aiortc does not keep to it) it has to send again.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Final

import trio
from aiortc import RTCDataChannel, RTCSctpTransport
from aiortc.exceptions import InvalidStateError

from ..webrtc import WebRTCConfig
from . import internals
from .fate import Fate
from .fragments import SLACK
from .loop import Loop, Owner

__all__ = ["MAX_MESSAGE", "Channel", "Inflow", "size_of"]

MAX_MESSAGE: Final = 256 * 1024
"""Bytes of the largest message, whatever more the other side would take: it is what aiortc itself announces."""
_OVERHEAD: Final = 128
"""Bytes that a message takes from the window besides its own: about what it costs in memory."""
_MAX_WAITING: Final = 65536
"""Messages that may wait, however small."""


class Inflow:
    """What has come over one association and waits to be read: its channels share one window. Plain functions.

    Attributes:
        drained: where those wait who want to know that everything was acknowledged.
    """

    def __init__(self, loop: Loop, owner: Owner, sctp: RTCSctpTransport, config: WebRTCConfig, fate: Fate) -> None:
        self.drained: Final = fate.add_lot()
        self._loop: Final = loop
        self._owner: Final = owner
        self._sctp: Final = sctp
        self._config: Final = config
        self._fate: Final = fate
        self._counters: Final[Counter[str]] = owner.counters
        self._waiting = 0

    def take(self, size: int) -> None:
        """In asyncio context. A message of this size waits."""
        self._waiting += 1
        internals.add_window(self._sctp, -size - _OVERHEAD)
        self.check()

    def give_back(self, count: int, size: int) -> None:
        """So many messages were read: tells the other side when it may have been waiting for that."""
        was_narrow = 2 * internals.window(self._sctp) < self._config.receive_window
        internals.add_window(self._sctp, size + count * _OVERHEAD)
        self._waiting -= count
        if was_narrow and not self._fate.over and not self._loop.has_ended:
            self._loop.spawn(self._owner, internals.send_window_update, self._sctp)

    def check(self) -> None:
        """Ends the connection when the other side has filled the window, and there is nothing to be read in it."""
        if (-internals.window(self._sctp) > SLACK and not self._waiting) or self._waiting > _MAX_WAITING:
            self._counters["webrtc_overflows"] += 1
            self._fate.fail(
                f"the other side sent more than the receive_window of {self._config.receive_window} bytes allows"
            )

    def on_packet(self) -> None:
        """Callback. A packet was taken: it may have acknowledged the last message, or brought one more fragment."""
        self.check()
        if self.drained and not internals.unacknowledged(self._sctp):
            self.drained.unpark_all()


class Channel:
    """Implements `DataChannel`; what begins with ``_on`` is a callback."""

    def __init__(
        self, loop: Loop, owner: Owner, channel: RTCDataChannel, config: WebRTCConfig, fate: Fate, inflow: Inflow
    ) -> None:
        self._loop: Final = loop
        self._owner: Final = owner
        self._channel: Final = channel
        self._sctp: Final[RTCSctpTransport] = channel.transport
        self._config: Final = config
        self._fate: Final = fate
        self._inflow: Final = inflow
        self._messages: Final[deque[bytes | str]] = deque()
        self._held = 0
        self._ended = False
        self._readable: Final = fate.add_lot()
        self._writable: Final = fate.add_lot()
        channel.bufferedAmountLowThreshold = config.send_buffer
        channel.on("message", fate.guard(self._on_message))
        channel.on("bufferedamountlow", fate.guard(self._on_buffered_amount_low))

    @property
    def label(self) -> str:
        """As its creator named it."""
        return self._channel.label

    @property
    def protocol(self) -> str:
        """The subprotocol, as its creator named it."""
        return self._channel.protocol

    @property
    def ordered(self) -> bool:
        """Whether messages arrive in the order in which they were sent."""
        return self._channel.ordered

    @property
    def reliable(self) -> bool:
        """Whether its creator set no limit of time or repetitions."""
        return self._channel.maxRetransmits is None and self._channel.maxPacketLifeTime is None

    @property
    def max_message(self) -> int:
        """Bytes in one message: what the other side announced, at most `MAX_MESSAGE`."""
        return min(internals.announced_size(self._sctp) or MAX_MESSAGE, MAX_MESSAGE)

    @property
    def buffered_amount(self) -> int:
        """Bytes given to `send` that have not reached SCTP."""
        return self._channel.bufferedAmount

    # Trio

    async def receive(self) -> list[bytes | str]:
        """Trio. All messages that are there, at least one; none: the other side closed."""
        if self._messages:
            await trio.lowlevel.checkpoint()
        while not self._messages:
            self._check_ours()
            if self._ended:
                await trio.lowlevel.checkpoint()
                return []
            if self._fate.failure is not None:
                raise trio.BrokenResourceError(self._fate.failure)
            await self._readable.park()
        self._check_ours()
        return self._take_all()

    async def send(self, message: bytes | str) -> None:
        """Trio. Waits for room, then hands the message over."""
        size = size_of(message)
        if size > self.max_message:
            raise ValueError(f"expected a message of at most {self.max_message} bytes, got {size}")
        await trio.lowlevel.checkpoint()
        self._check()
        while self._channel.bufferedAmount > self._config.send_buffer:
            await self._writable.park()
            self._check()
        try:
            self._loop.call(self._owner, self._channel.send, message)
        except InvalidStateError:
            raise trio.BrokenResourceError("the data channel is closing") from None

    async def drain(self) -> None:
        """Trio. Waits until the other side's SCTP has everything; its application may still have less."""
        await trio.lowlevel.checkpoint()
        self._check()
        while internals.unacknowledged(self._sctp):
            await self._inflow.drained.park()
            self._check()

    def _check_ours(self) -> None:
        self._fate.raise_bug()
        if self._fate.closed:
            raise trio.ClosedResourceError("the connection was closed here")

    def _check(self) -> None:
        self._check_ours()
        if self._fate.failure is not None:
            raise trio.BrokenResourceError(self._fate.failure)
        if self._ended:
            raise trio.BrokenResourceError("the other side closed the data channel")

    def _take_all(self) -> list[bytes | str]:
        messages, held = list(self._messages), self._held
        self._messages.clear()
        self._held = 0
        self._inflow.give_back(len(messages), held)
        return messages

    # Callbacks, in asyncio context

    def _on_message(self, message: bytes | str) -> None:
        if self._fate.over:
            return
        size = size_of(message)
        self._messages.append(message)
        self._held += size
        self._inflow.take(size)
        self._readable.unpark_all()

    def _on_buffered_amount_low(self) -> None:
        self._writable.unpark_all()

    def on_ended(self) -> None:
        """Callback. The other side closed the channel; what it sent before stays to be read."""
        self._ended = True
        for lot in (self._readable, self._writable, self._inflow.drained):
            lot.unpark_all()


def size_of(message: bytes | str) -> int:
    """Bytes on the wire."""
    return len(message) if isinstance(message, bytes) or message.isascii() else len(message.encode())
