"""A data connection as the application sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final, Literal

import trio

from ...exceptions import PayloadTooLarge, PeerError, RemoteProtocolError
from ...wire.json import JSONValue
from ..messages import NO_METADATA, Offer
from ..options import PeerLimits, log
from ..pipe import Pipe, Transport
from ..serialization.serializer import CLOSE, Serializer
from .held import Held, Share
from .inbox import Inbox

__all__ = ["DataConnection"]


class DataConnection:
    """A connection that is open; made by `Peer.connect` and `Peer.accept`.

    Values are an async iteration: ``async for value in connection``. It ends when the other side closes. Several tasks
    may send and receive. ``async with connection:`` closes it at the end of the block.

    Errors of `send` and `receive`: `trio.ClosedResourceError` when it was closed on our side; `PeerError` of type
    ``connection-closed`` when it broke. When the other side closed it, `receive` raises `trio.EndOfChannel` after the
    last value, and `send` `trio.BrokenResourceError`; so may a `send` that waits while the connection breaks, if
    values wait to be received here.
    """

    type: Final[Literal["data"]] = "data"

    def __init__(
        self,
        peer: str,
        offer: Offer,
        serializer: Serializer,
        limits: PeerLimits,
        held: Held,
        stop: Callable[[], None],
        *,
        incoming: bool,
    ) -> None:
        """For a peer: `offer` is ours or the other side's; `stop` ends its task while it is made; `open_on` follows."""
        self._peer: Final = peer
        self._offer: Final = offer
        self._incoming: Final = incoming
        self._serializer: Serializer | None = serializer
        self._limits: Final = limits
        self._share: Final = Share(held)
        self._inbox: Final = Inbox(limits.receive_messages, limits.receive_bytes)
        self._line: Final = trio.StrictFIFOLock()
        self._pipe: Pipe | None = None
        self._transport: Transport = "webrtc"
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
    def incoming(self) -> bool:
        """Whether the other side connected."""
        return self._incoming

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
        """How messages travel now, or did last; ``"relay"`` only with ``fallback="relay"``."""
        return self._pipe.transport if self._pipe is not None else self._transport

    @property
    def buffered_amount(self) -> int:
        """Bytes that were sent here and have not left yet."""
        return self._pipe.buffered_amount if self.open and self._pipe is not None else 0

    # What it does

    async def send(self, value: Any) -> None:
        """Sends one value; waits while too much is buffered, so at the pace of the other side.

        A cancelled call may have sent a part of a large value. The other side never gets that value, but keeps the
        part; one that has too many of them ends the connection (`SerializerLimits.max_unfinished`). Under MsgPack,
        where one value follows the other in a stream, the first one breaks the connection.

        Raises:
            LocalProtocolError: the value has no form in this serialization.
            PeerError: ``message-too-big``: it is larger than this serialization can carry.
        """
        _, serializer = self._require_open()
        try:
            messages = serializer.encode(value)
        except PayloadTooLarge as error:
            raise PeerError("message-too-big", str(error)) from error
        async with self._line:
            pipe, _ = self._require_open()
            await self._send_all(pipe, serializer, messages)

    async def _send_all(self, pipe: Pipe, serializer: Serializer, messages: Iterable[bytes | str]) -> None:
        count = 0
        try:
            for message in messages:
                await pipe.send(message)
                count += 1
        except ValueError as error:
            raise PeerError("message-too-big", str(error)) from error
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            # Its task, which is woken together with us, learns how the pipe ended.
            await trio.lowlevel.cancel_shielded_checkpoint()
            self._check()
            # Where the other side closed, our end of the pipe may have been closed before we were told.
            raise trio.BrokenResourceError("the other side closed the connection") from error
        except trio.Cancelled:
            if count and serializer.is_stream:
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
            value = await self._inbox.get()
        except trio.EndOfChannel:
            self._check()
            raise
        self._count()
        return value

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

        What came and was not received is lost. A cancelled call closes at once.

        Args:
            flush: asks the other side to close when it has received everything, and waits for that; `peerjs` before
                1.5 does not know of it, and ``raw`` has no way to ask. Then it is as without.
        """
        if self._closing:
            with trio.CancelScope(shield=True):
                await self._ended.wait()
            return
        pipe = self._pipe if self.open else None
        self._closing = True
        self._inbox.close()
        self._count()
        try:
            await trio.lowlevel.checkpoint()
            if pipe is not None:
                with trio.move_on_after(self._limits.close_timeout):
                    await self._say_goodbye(pipe, flush)
        finally:
            self._stop()
            with trio.CancelScope(shield=True):
                await self._ended.wait()

    async def _say_goodbye(self, pipe: Pipe, flush: bool) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):  # it is over already
            async with self._line:
                serializer = self._serializer
                close = serializer.encode_close() if flush and serializer is not None else None
                if close is not None:
                    if not self.reliable:
                        await pipe.drain()  # else it could overtake what was sent
                    await pipe.send(close)
                if not pipe.says_goodbye:
                    await pipe.drain()
            if close is not None:
                await self._ended.wait()

    async def __aenter__(self) -> DataConnection:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _require_open(self) -> tuple[Pipe, Serializer]:
        self._check()
        if self._over:
            raise trio.BrokenResourceError("the other side closed the connection")
        if self._pipe is None or self._serializer is None:
            raise PeerError("not-open-yet", "expected an open connection; this one is being made")
        return self._pipe, self._serializer

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
            HoldsTooMuch: it sent more than there is memory for.
        """
        pipe, serializer = self._require_open()
        asked = False
        while not asked and (messages := await pipe.receive()):
            for message in messages:
                asked |= self._take(serializer, message)
                await self._inbox.wait_room()

    def _take(self, serializer: Serializer, message: bytes | str) -> bool:
        """One message; whether the other side asks us to close."""
        before = serializer.unfinished
        values = _decode(serializer, message)
        # What the first of them was made of, as far as it was not there before.
        size = max(0, before + len(message) - serializer.unfinished)
        for value in values:
            if value is not CLOSE:
                self._inbox.put(value, size)
                size = 0
        self._count()
        self._share.check()
        return any(value is CLOSE for value in values)

    def _count(self) -> None:
        unfinished = self._serializer.unfinished if self._serializer is not None else 0
        self._share.set(self._inbox.bytes + unfinished)

    def abandon(self) -> None:
        """Its task was cancelled: it ends as if it had been closed here."""
        self._closing = True
        self._inbox.close()

    def stop_reading(self) -> None:
        """No more values will come."""
        self._over = True
        self._inbox.end()

    def end(self) -> None:
        """Its task has ended; what it held is let go, but for what can still be received."""
        self.stop_reading()
        self._transport = self.transport
        self._pipe = self._serializer = None
        self._count()
        self._ended.set()


def _decode(serializer: Serializer, message: bytes | str) -> list[Any]:
    """As `Serializer.decode`; a fault of an application's own serializer is the fault of one connection, too."""
    try:
        return serializer.decode(message)
    except RemoteProtocolError:
        raise
    except Exception as error:
        log.exception("serialization %r could not read a message", serializer.name)
        raise RemoteProtocolError(f"its message could not be read: {type(error).__name__}") from error
