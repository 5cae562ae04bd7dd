"""A data connection as the application sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final, Literal

import trio

from ...exceptions import PayloadTooLarge, PeerError
from ...wire.json import JSONValue
from ..messages import NO_METADATA, Offer
from ..options import PeerLimits
from ..pipe import Pipe, Transport
from ..serialization.serializer import CLOSE, Serializer
from .inbox import Inbox

__all__ = ["DataConnection"]


class DataConnection:
    """A connection that is open; made by `Peer.connect` and `Peer.accept`.

    Values are an async iteration: ``async for value in connection``. It ends when the other side closes. Several tasks
    may send and receive.

    Errors of `send` and `receive`: `trio.ClosedResourceError` when it was closed on our side; `PeerError` of type
    ``connection-closed`` when it broke. When the other side closed it, `receive` raises `trio.EndOfChannel` after the
    last value, and `send` `trio.BrokenResourceError`.
    """

    type: Final[Literal["data"]] = "data"

    def __init__(
        self, peer: str, offer: Offer, serializer: Serializer, limits: PeerLimits, stop: Callable[[], None]
    ) -> None:
        """For a peer: `offer` is ours or the other side's; `stop` ends its task while it is made; `open_on` follows."""
        self._peer: Final = peer
        self._offer: Final = offer
        self._serializer: Final = serializer
        self._limits: Final = limits
        self._inbox: Final = Inbox(limits.receive_messages, limits.receive_bytes)
        self._line: Final = trio.StrictFIFOLock()
        self._pipe: Pipe | None = None
        self._stop = stop
        self._ended: Final = trio.Event()
        self._closing = self._over = False
        self._failure: PeerError | None = None

    def __repr__(self) -> str:
        return f"<DataConnection {self.label!r} with {self.peer!r}, {'open' if self.open else 'closed'}>"

    # What it is

    @property
    def peer(self) -> str:
        """The other peer's id."""
        return self._peer

    @property
    def connection_id(self) -> str:
        """Chosen by the side that connected; unique between two peers."""
        return self._offer.connection_id

    @property
    def label(self) -> str:
        """As the side that connected has named it; else the connection's id."""
        return self._offer.label

    @property
    def metadata(self) -> JSONValue:
        """What the side that connected has told about it; None also if that was nothing."""
        return None if self._offer.metadata is NO_METADATA else self._offer.metadata  # type: ignore[return-value]

    @property
    def serialization(self) -> str:
        """Its name, as it stands in the offer."""
        return self._offer.serialization

    @property
    def reliable(self) -> bool:
        """Whether values arrive in the order in which they were sent; in any case all of them arrive."""
        return self._offer.reliable

    @property
    def open(self) -> bool:
        """Whether values can be sent."""
        return self._pipe is not None and not self._closing and not self._over

    @property
    def transport(self) -> Transport:
        """How messages travel now; ``"relay"`` only with ``fallback="relay"``."""
        return self._pipe.transport if self._pipe is not None else "webrtc"

    @property
    def buffered_amount(self) -> int:
        """Bytes that were sent here and have not left yet."""
        return self._pipe.buffered_amount if self.open and self._pipe is not None else 0

    # What it does

    async def send(self, value: Any) -> None:
        """Sends one value; waits while too much is buffered, so at the pace of the other side.

        A cancelled call may have sent a part of a large value: the other side gets it never. Under MsgPack, where one
        value follows the other in a stream, that breaks the connection.

        Raises:
            LocalProtocolError: the value has no form in this serialization.
            PeerError: ``message-too-big``: it is larger than this serialization can carry.
        """
        try:
            messages = self._serializer.encode(value)
        except PayloadTooLarge as error:
            raise PeerError("message-too-big", str(error)) from error
        async with self._line:
            await self._send_all(self._open_pipe(), messages)

    async def _send_all(self, pipe: Pipe, messages: Iterable[bytes | str]) -> None:
        count = 0
        try:
            for message in messages:
                await pipe.send(message)
                count += 1
        except ValueError as error:
            raise PeerError("message-too-big", str(error)) from error
        except trio.BrokenResourceError:
            self._check()
            raise
        except trio.Cancelled:
            if count and self._serializer.is_stream:
                self.fail("a value was cut off while it was sent")
            raise

    async def receive(self) -> Any:
        """The next value, as the other side has sent it.

        Raises:
            trio.EndOfChannel: the other side closed the connection, and all that it sent before was received.
        """
        if self._closing:
            raise trio.ClosedResourceError("the connection was closed here")
        try:
            return await self._inbox.get()
        except trio.EndOfChannel:
            self._check()
            raise

    def __aiter__(self) -> DataConnection:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    async def wait_closed(self) -> None:
        """Returns when the connection is at its end, whoever closed it, or however it broke."""
        await self._ended.wait()

    async def aclose(self, *, flush: bool = False) -> None:
        """Closes it when all that was sent has left; bounded by `PeerLimits.close_timeout`. Idempotent.

        Args:
            flush: asks the other side to close when it has received everything, and waits for that; `peerjs` before
                1.5 does not know of it, and ``raw`` has no way to ask. Then it is as without.
        """
        with trio.CancelScope(shield=True), trio.move_on_after(self._limits.close_timeout):
            await trio.lowlevel.checkpoint()
            if self.open:
                self._closing = True
                with suppress(trio.BrokenResourceError, trio.ClosedResourceError):  # it is over already
                    await self._say_goodbye(flush)
        self._closing = True
        self._stop()
        with trio.CancelScope(shield=True):
            await self._ended.wait()

    async def _say_goodbye(self, flush: bool) -> None:
        pipe = self._pipe
        assert pipe is not None
        async with self._line:
            close = self._serializer.encode_close() if flush else None
            if close is not None:
                await pipe.send(close)
            if not pipe.says_goodbye:
                await pipe.drain()
        if close is not None:
            await self._ended.wait()

    def _open_pipe(self) -> Pipe:
        self._check()
        if self._pipe is None:
            raise PeerError("not-open-yet", "expected an open connection; this one is being made")
        if self._over:
            raise trio.BrokenResourceError("the other side closed the connection")
        return self._pipe

    def _check(self) -> None:
        if self._closing:
            raise trio.ClosedResourceError("the connection was closed here")
        if self._failure is not None:
            raise PeerError(self._failure.type, str(self._failure))

    # For its task

    def open_on(self, pipe: Pipe, stop: Callable[[], None]) -> None:
        """It is open; from now on `stop` ends its task."""
        self._pipe = pipe
        self._stop = stop
        if self._closing:
            stop()

    def fail(self, reason: str) -> None:
        """It broke; ends its task."""
        if self._failure is None and not self._over:
            self._failure = PeerError("connection-closed", f"connection to {self._peer}: {reason}")
        self._stop()

    async def read(self) -> None:
        """Receives until the other side closes, or asks us to.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: the pipe's.
            RemoteProtocolError: the other side sent what it must not.
        """
        pipe, serializer, inbox = self._pipe, self._serializer, self._inbox
        assert pipe is not None
        size = 0
        while messages := await pipe.receive():
            for message in messages:
                size += len(message)
                for value in serializer.decode(message):
                    if value is CLOSE:
                        return
                    inbox.put(value, size)
                    size = 0
                await inbox.wait_room()

    def stop_reading(self) -> None:
        """No more values will come; what it held is let go after this."""
        self._over = True
        self._inbox.end()

    def end(self) -> None:
        """Its task has ended."""
        self.stop_reading()
        self._ended.set()
