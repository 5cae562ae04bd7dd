"""What the connections over WebRTC data channels have in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Literal, TypeVar

import trio

from ..limits import Limits
from .connection import Buffer, TransportName
from .webrtc import CandidatePair, DataChannel

__all__ = ["ChannelConnection"]

T = TypeVar("T")

_UNKNOWN: Final = "webrtc:0"


class ChannelConnection:
    """See `Connection`; what is missing here is in `data_channel`.

    Nothing here closes the channel: that is for who made its `PeerConnection`, when this has ended.

    Attributes:
        pair: the addresses in use, where they are known.
    """

    def __init__(self, channel: DataChannel, pair: CandidatePair | None, limits: Limits) -> None:
        self.transport: TransportName = "webrtc"
        self.direct = False
        self.remote = _UNKNOWN if pair is None else pair.remote_address
        self.local = _UNKNOWN if pair is None else pair.local_address
        self.pair: Final = pair
        self._channel: Final = channel
        self._limits: Final = limits
        self._state: Literal["open", "closing", "closed", "broken"] = "open"
        self._calls: Final[set[trio.CancelScope]] = set()
        self._receiver: trio.CancelScope | None = None
        self._sending = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.local} to {self.remote}, {self._state}>"

    @property
    def control_pending(self) -> bool:
        """Never: who receives also sends what has to be said about it."""
        return False

    def send_nowait(self, pieces: Sequence[Buffer], *, text: bool = False) -> bool:
        """Not possible here.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("expected a direct connection: use send here")

    async def flush(self) -> None:
        """See `Connection.flush`; nothing is ever left."""
        self._check()
        await trio.lowlevel.checkpoint()

    def abort(self) -> None:
        """See `Connection.abort`; the other side sees it when the owner closes the channel."""
        self._end("closed")

    def _end(self, state: Literal["closed", "broken"]) -> None:
        """Wakes all who wait here."""
        if self._state != "closed":
            self._state = state
        for scope in self._calls:
            scope.cancel()

    def _check(self) -> None:
        if self._state == "broken":
            raise trio.BrokenResourceError(f"the connection to {self.remote} broke")
        if self._state != "open":
            raise trio.ClosedResourceError("this connection was closed")

    @contextmanager
    def _call(self) -> Iterator[trio.CancelScope]:
        """A block that ends when the connection does, with the error that says so."""
        with trio.CancelScope() as scope:
            self._calls.add(scope)
            try:
                yield scope
            finally:
                self._calls.discard(scope)
        if scope.cancelled_caught:
            self._check()

    async def _use(self, operation: Callable[[], Awaitable[T]]) -> T:
        """The result of something that the channel does."""
        try:
            return await operation()
        except trio.BrokenResourceError:
            self._end("broken")
            raise
        except trio.ClosedResourceError:
            self._end("closed")
            raise

    @contextmanager
    def _receiving(self) -> Iterator[None]:
        if self._receiver is not None:
            raise trio.BusyResourceError("another task is receiving from this connection")
        with self._call() as self._receiver:
            try:
                yield
            finally:
                self._receiver = None

    def _stop_receiving(self) -> None:
        self._state = "closing"
        if self._receiver is not None:
            self._receiver.cancel()
