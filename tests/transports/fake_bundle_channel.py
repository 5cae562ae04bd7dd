"""The data channels of `fake_bundle`, and how its bundles behave."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import trio

if TYPE_CHECKING:
    from tests.transports.fake_bundle import FakeBundle

__all__ = ["BundleBehaviour", "BundleStep", "ChannelOptions", "FakeBundleChannel", "Wire"]

BundleStep: TypeAlias = Literal["create_offer", "accept_offer", "accept_answer", "add_candidate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleBehaviour:
    """Of the bundles of one factory. Times are seconds.

    Attributes:
        delay: of every step of a negotiation, of becoming connected, of every message and of the goodbye.
        rate: bytes per second that can be sent over all channels together; None: any number.
        fail_at: the step that raises `NegotiationFailed`; `reason` says why.
        hang_at: the step that never ends.
        candidates: so many of the other side must have been added before it connects.
        unreachable: it does not connect, and fails `WebRTCConfig.negotiation_timeout` after it began to.
        loses_every: of messages over channels that are not reliable, every so-many-th is lost.
        closing: how long the end of the block takes.
        max_message: bytes of the largest message that it takes.
    """

    delay: float = 0.0
    rate: float | None = None
    fail_at: BundleStep | None = None
    reason: str = "the fake was told to fail"
    hang_at: BundleStep | None = None
    candidates: int = 0
    unreachable: bool = False
    loses_every: int | None = None
    closing: float = 0.0
    max_message: int = 262144


@dataclass(frozen=True, slots=True)
class ChannelOptions:
    """Of `Bundle.open_channel`."""

    label: str
    protocol: str = ""
    ordered: bool = True
    max_retransmits: int | None = None
    max_packet_lifetime: float | None = None
    id: int | None = None


class Wire:
    """What one end sends, in its order, over all channels: as fast as the rate and the other end's window allow."""

    def __init__(self, end: FakeBundle) -> None:
        self._end: Final = end
        self._items: Final[deque[tuple[FakeBundleChannel, bytes | str | None]]] = deque()
        self._free_at = 0.0
        self.is_cut = False

    def put(self, channel: FakeBundleChannel, message: bytes | str | None) -> None:
        """None is the end of the channel."""
        self._items.append((channel, message))
        self.pump()

    def __len__(self) -> int:
        return len(self._items)

    def buffered(self, channel: FakeBundleChannel) -> int:
        return sum(size_of(message) for owner, message in self._items if owner is channel)

    def pump(self) -> None:
        """Moves what may be moved now."""
        end, behaviour = self._end, self._end.behaviour
        while self._items and end.is_up and trio.current_time() >= self._free_at:
            channel, message = self._items[0]
            peer = end.peer
            if message is not None and peer.held > peer.config.receive_window:
                return
            self._items.popleft()
            size = size_of(message)
            peer.held += size
            took = size / behaviour.rate if behaviour.rate is not None else 0.0
            end.agenda.after(took + behaviour.delay, lambda c=channel, m=message: self._deliver(c, m))  # type: ignore[misc]
            if took:
                self._free_at = trio.current_time() + took
                end.agenda.after(took, self.pump)
        end.agenda.wake()

    def _deliver(self, channel: FakeBundleChannel, message: bytes | str | None) -> None:
        other, peer = channel.find_other(), self._end.peer
        if message is not None and (other is None or self.is_cut or channel.loses_this()):
            peer.held -= size_of(message)
            peer.lost += 1
        elif other is not None and not self.is_cut:
            other.take(message)


class FakeBundleChannel:
    """A `BundleChannel`: one end.

    Attributes:
        options: what it was made with.
        sent: messages given to `send`.
        waiting: those that have arrived here and were not received.
    """

    def __init__(self, end: FakeBundle, options: ChannelOptions) -> None:
        self.options: Final = options
        self.sent = 0
        self.waiting: Final[deque[bytes | str]] = deque()
        self.other: FakeBundleChannel | None = None
        self._end: Final = end
        self._state: Literal["connecting", "open", "closed", "ended"] = "connecting"
        self._unreliable = 0
        self._busy: Final[set[str]] = set()

    def __repr__(self) -> str:
        return f"<FakeBundleChannel {self.label!r}, {self._state}>"

    @property
    def label(self) -> str:
        return self.options.label

    @property
    def protocol(self) -> str:
        return self.options.protocol

    @property
    def ordered(self) -> bool:
        return self.options.ordered

    @property
    def reliable(self) -> bool:
        return self.options.max_retransmits is None and self.options.max_packet_lifetime is None

    @property
    def max_message(self) -> int:
        return self._end.peer.behaviour.max_message if self._end.has_met else 262144

    @property
    def buffered_amount(self) -> int:
        self._end.agenda.catch_up()
        return self._end.wire.buffered(self)

    @property
    def open(self) -> bool:
        self._end.agenda.catch_up()
        return self._state == "open" and self._end.is_up

    @property
    def is_over(self) -> bool:
        """Whether it has been closed, by whomever."""
        return self._state in ("closed", "ended")

    async def wait_open(self) -> None:
        await trio.lowlevel.checkpoint()
        await self._end.agenda.wait(lambda: self._state != "connecting" or self._end.is_over)
        self._check()

    async def receive(self) -> list[bytes | str]:
        with _Alone(self._busy, "receive"):
            await trio.lowlevel.checkpoint()
            await self._end.agenda.wait(lambda: bool(self.waiting) or self.is_over or self._end.is_over)
        if self._state == "closed" or self._end.closed_here:
            raise trio.ClosedResourceError("this channel was closed here")
        messages = list(self.waiting)
        self._forget()
        if not messages and self._state != "ended" and self._end.state != "closed":
            raise trio.BrokenResourceError(self._end.failure)
        return messages

    async def send(self, message: bytes | str) -> None:
        with _Alone(self._busy, "send"):
            await self.wait_open()
            if size_of(message) > self.max_message:
                raise ValueError(f"expected a message of at most {self.max_message} bytes, got {size_of(message)}")
            await self._end.agenda.wait(self._may_send)
            self._check()
            self.sent += 1
            self._end.wire.put(self, message)

    async def drain(self) -> None:
        await trio.lowlevel.checkpoint()
        self._check()
        await self._end.agenda.wait(lambda: not self._end.wire or self.is_over or self._end.is_over)
        self._check()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
        self.close()

    def _may_send(self) -> bool:
        return self.buffered_amount <= self._end.config.send_buffer or self.is_over or self._end.is_over

    def _check(self) -> None:
        if self._state == "closed" or self._end.closed_here:
            raise trio.ClosedResourceError("this channel was closed here")
        if self._end.is_over:
            raise trio.BrokenResourceError(self._end.failure)
        if self._state == "ended":
            raise trio.BrokenResourceError("the other side closed the data channel")

    # For the bundle

    def on_open(self) -> None:
        if self._state == "connecting":
            self._state = "open"

    def close(self) -> None:
        """As `aclose`, plain."""
        if self._state == "open":
            self._end.wire.put(self, None)
        if not self.is_over:
            self._state = "closed"
            self._forget()
            self._end.forget(self)

    def find_other(self) -> FakeBundleChannel | None:
        """The other end, if it is there."""
        return self._end.peer.find_negotiated(self.options.id) if self.options.id is not None else self.other

    def take(self, message: bytes | str | None) -> None:
        """Arrives."""
        if self.is_over:
            self._end.held -= size_of(message)
        elif message is not None:
            self.waiting.append(message)
        else:
            self._state = "ended"
            self._end.forget(self)
        self._end.agenda.wake()

    def loses_this(self) -> bool:
        every = self._end.behaviour.loses_every
        if self.reliable or every is None:
            return False
        self._unreliable += 1
        return self._unreliable % every == 0

    def _forget(self) -> None:
        self._end.held -= sum(map(size_of, self.waiting))
        self.waiting.clear()
        if self._end.has_met:
            self._end.peer.wire.pump()


class _Alone:
    """One task at a time."""

    def __init__(self, busy: set[str], what: str) -> None:
        self._busy, self._what = busy, what

    def __enter__(self) -> None:
        if self._what in self._busy:
            raise trio.BusyResourceError(f"another task is in {self._what}")
        self._busy.add(self._what)

    def __exit__(self, *_: object) -> None:
        self._busy.discard(self._what)


def size_of(message: bytes | str | None) -> int:
    """Bytes."""
    return len(message.encode() if isinstance(message, str) else message or b"")
