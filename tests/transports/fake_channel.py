"""The data channels of `fake_webrtc`, and how they behave."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import trio

from trio_relay.transports.webrtc import WebRTCConfig

__all__ = ["Behaviour", "FakeChannel", "Step"]

Step: TypeAlias = Literal["offer", "answer", "accept", "candidate", "channel"]
"""`create_offer`, `create_answer`, `accept_answer`, `add_candidate`, `channel`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """Of the connections of one factory. Times are seconds.

    Attributes:
        delay: of every step of a negotiation, and of every message that is sent.
        rate: bytes per second that can be sent; None: any number.
        fail_at: the step that raises `NegotiationFailed`; `reason` says why.
        hang_at: the step that never ends.
        candidates: so many must have been added before the channel opens.
        unreachable: the channel never opens, on either side.
        breaks_after: the channel breaks at both ends when so many messages were sent over it from this end.
        loses_after: of the messages sent from this end, those after so many are lost, without any sign.
        channel_error: a bug: whoever waits for the channel gets this exception.
        closing: how long the end of the block takes.
        max_message: what descriptions of this end announce.
        reliable: what channels that this end makes claim to be.
    """

    delay: float = 0.0
    rate: float | None = None
    fail_at: Step | None = None
    reason: str = "the fake was told to fail"
    hang_at: Step | None = None
    candidates: int = 0
    unreachable: bool = False
    breaks_after: int | None = None
    loses_after: int | None = None
    channel_error: Exception | None = None
    closing: float = 0.0
    max_message: int = 262144
    reliable: bool = True


class FakeChannel:
    """A `DataChannel`: one end.

    Attributes:
        sent: messages given to `send`.
        ordered, reliable: what it claims to be; all that is sent arrives in its order whatever they say.
        waiting: messages that have arrived here and were not received, with the time at which they arrived.
        loses_after: see `Behaviour`.
    """

    def __init__(self, behaviour: Behaviour, config: WebRTCConfig, label: str, protocol: str) -> None:
        self.label: Final = label
        self.protocol: Final = protocol
        self.ordered = self.reliable = True
        self.sent = 0
        self.loses_after = behaviour.loses_after
        self.waiting: Final[deque[tuple[float, bytes | str]]] = deque()
        self._behaviour: Final = behaviour
        self._send_buffer: Final = config.send_buffer
        self._peer: FakeChannel = self
        self._free_at = 0.0
        self._state: Literal["open", "closed", "ended", "broken"] = "open"
        self._bug: Exception | None = None
        self._changed: Final = trio.lowlevel.ParkingLot()
        self._sending, self._receiving = False, False

    def join(self, peer: FakeChannel) -> None:
        self._peer, peer._peer = peer, self

    @property
    def is_open(self) -> bool:
        return self._state == "open"

    @property
    def max_message(self) -> int:
        return self._peer._behaviour.max_message

    @property
    def buffered_amount(self) -> int:
        rate = self._behaviour.rate
        return 0 if rate is None else round(max(0.0, self._free_at - trio.current_time()) * rate)

    @property
    def waiting_bytes(self) -> int:
        """Bytes that arrived, or are about to, and were not received."""
        return sum(len(message) for _, message in self.waiting)

    async def receive(self) -> list[bytes | str]:
        if self._receiving:
            raise trio.BusyResourceError("another task receives")
        self._receiving = True
        try:
            await trio.lowlevel.checkpoint()
            while True:
                self._check("closed", "broken")
                now = trio.current_time()
                here: list[bytes | str] = []
                while self.waiting and self.waiting[0][0] <= now:
                    here.append(self.waiting.popleft()[1])
                if here or self._state == "ended":
                    return here
                with trio.move_on_at(self.waiting[0][0] if self.waiting else float("inf")):
                    await self._changed.park()
        finally:
            self._receiving = False

    async def send(self, message: bytes | str) -> None:
        size = len(message.encode() if isinstance(message, str) else message)
        if size > self.max_message:
            raise ValueError(f"expected at most {self.max_message} bytes, got {size}")
        if self._sending:
            raise trio.BusyResourceError("another task sends")
        self._sending = True
        try:
            await trio.lowlevel.checkpoint()
            await self._wait_buffered(self._send_buffer)
        finally:
            self._sending = False
        self._transmit(message, size)

    async def drain(self) -> None:
        await trio.lowlevel.checkpoint()
        await self._wait_buffered(0)

    async def _wait_buffered(self, most: int) -> None:
        self._check("closed", "ended", "broken")
        while (excess := self.buffered_amount - most) > 0:
            with trio.move_on_after(excess / (self._behaviour.rate or 1.0)):
                await self._changed.park()
            self._check("closed", "ended", "broken")

    def _transmit(self, message: bytes | str, size: int) -> None:
        now = trio.current_time()
        if self._behaviour.rate is not None:
            self._free_at = max(now, self._free_at) + size / self._behaviour.rate
        self.sent += 1
        if self.loses_after is None or self.sent <= self.loses_after:
            self._peer.waiting.append((max(now, self._free_at) + self._behaviour.delay, message))
            self._peer._wake()
        if self._behaviour.breaks_after == self.sent:
            self.cut()

    # How it ends

    def close(self) -> None:
        """This end closes; the other sees the end after what has arrived there."""
        now, peer = trio.current_time(), self._peer
        self._state = "closed"
        if peer._state == "open":
            peer._state = "ended"
            while peer.waiting and peer.waiting[-1][0] > now:
                peer.waiting.pop()
        self._wake()
        peer._wake()

    def cut(self) -> None:
        """Both ends break."""
        for end in (self, self._peer):
            if end._state == "open":
                end._state = "broken"
                end._wake()

    def fail(self, bug: Exception) -> None:
        """As if a callback had raised it: the next who waits at this end gets it."""
        self._bug = bug
        self._wake()

    def _check(self, *states: str) -> None:
        if self._bug is not None:
            bug, self._bug = self._bug, None
            raise bug
        if self._state in states:
            if self._state == "closed":
                raise trio.ClosedResourceError("this channel was closed")
            raise trio.BrokenResourceError("the channel is gone")

    def _wake(self) -> None:
        self._changed.unpark_all()
