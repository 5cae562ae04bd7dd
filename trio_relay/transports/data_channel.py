"""Links over open WebRTC data channels: between two nodes of this package, and with an original node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Final

import trio

from ..exceptions import RemoteProtocolError
from ..limits import Limits
from ..wire.chunks import GOODBYE, Incoming, Outgoing, cost
from .channel_connection import ChannelConnection
from .connection import Buffer
from .webrtc import CandidatePair, DataChannel, WebRTCConfig

__all__ = ["DataChannelConnection", "TextChannelConnection"]

_MESSAGE_TOO_BIG: Final = 1009
_GONE: Final = (trio.BrokenResourceError, trio.ClosedResourceError)


class DataChannelConnection(ChannelConnection):
    """A `Connection` over a data channel to another node of this package: `wire.chunks`.

    What comes in is read by whoever waits for something: who receives, who sends and has no credit left, who closes.

    Args:
        channel: open; nothing else may use it.
        limits: `close_timeout`, and `read_size`, for what one `receive` returns: who reads has other things to do, too.
        config: `receive_window` is read; less than `wire.chunks.FIRST_CREDIT` counts as that.

    Raises:
        RemoteProtocolError: the other side takes only very short messages.
    """

    def __init__(self, channel: DataChannel, pair: CandidatePair | None, limits: Limits, config: WebRTCConfig) -> None:
        super().__init__(channel, pair, limits)
        self.offered_subprotocol = True
        self._incoming: Final = Incoming(config.receive_window)
        self._outgoing: Final = Outgoing(channel.max_message)
        self._lock: Final = trio.Lock()  # the channel has one sender at a time
        self._reading = False
        self._changed: Final = trio.lowlevel.ParkingLot()
        self._failure: RemoteProtocolError | None = None
        self._answered = False

    async def receive(self) -> list[bytes | str]:
        """See `Connection.receive`."""
        incoming = self._incoming
        if self._state != "broken" or not (incoming.waiting or incoming.ended or self._failure):
            self._check()  # what came before the connection broke can be received
        with self._receiving():
            await self._give_credit()
            while not (incoming.waiting or incoming.ended or self._failure):
                await self._read()
            if incoming.waiting:
                return list[bytes | str](incoming.take(self._limits.read_size))
            if self._failure is not None:
                raise self._failure
            if self._state == "open":
                with suppress(trio.BrokenResourceError):
                    await self._say_goodbye()
        return []

    async def send(self, pieces: Sequence[Buffer], *, text: bool = False) -> None:
        """See `Connection.send`.

        Raises:
            ValueError: `text`; nodes of this package send none.
        """
        if text:
            raise ValueError("expected a binary message: text is for original nodes")
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this connection")
        self._check_sendable()
        chunks = self._outgoing.split(b"".join(pieces))
        self._sending, done = True, False
        try:
            with self._call():
                for chunk in chunks:
                    await self._send_chunk(chunk)
                done = True
        finally:
            self._sending = False
            if not (done or self._incoming.ended):
                self._end("broken")  # in the middle of a message
            self._changed.unpark_all()

    async def _send_chunk(self, chunk: bytes) -> None:
        price = cost(chunk)
        while self._outgoing.credit < price:
            await self._read()
            self._check_sendable()
        self._outgoing.credit -= price
        async with self._lock:
            self._check_sendable()
            await self._use(partial(self._channel.send, chunk))

    def _check_sendable(self) -> None:
        if self._state != "closing" or not self._sending:
            self._check()
        if self._incoming.ended:
            raise trio.BrokenResourceError("the peer closed the connection")
        if self._failure is not None:
            raise trio.BrokenResourceError("the peer broke the protocol")

    async def _give_credit(self) -> None:
        """Tells the other side what was taken; if it is gone, what has come can still be received."""
        incoming = self._incoming
        if not incoming.credit_due or incoming.ended or self._failure or self._state != "open":
            await trio.lowlevel.checkpoint()
            return
        message, done = incoming.grant(), False
        try:
            async with self._lock:
                with suppress(trio.BrokenResourceError):
                    await self._channel.send(message)
            done = True
        finally:
            if not done:
                incoming.take_back(message)

    async def _read(self) -> None:
        """Takes in what comes next, or waits for whoever is doing so."""
        if self._reading:
            await self._changed.park()
            return
        self._reading = True
        try:
            messages = await self._use(self._channel.receive)
            if not messages:
                self._end("broken")
                raise trio.BrokenResourceError(f"{self.remote} ended the channel without a goodbye")
            self._take_in(messages)
        finally:
            self._reading = False
            self._changed.unpark_all()

    def _take_in(self, messages: list[bytes | str]) -> None:
        incoming = self._incoming
        try:
            for message in messages:
                incoming.feed(message)
        except RemoteProtocolError as error:
            self._failure = error
        self._outgoing.credit += incoming.granted
        incoming.granted = 0

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """See `Connection.aclose`: returns when the other side has taken everything, and said so."""
        if self._state == "open" and self._failure is None:
            self._stop_receiving()
            try:
                with trio.move_on_after(self._limits.close_timeout, shield=True), suppress(*_GONE), self._call():
                    await self._close()
            finally:
                self._end("closed")
        elif self._state != "closing":
            self._end("closed")
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def _close(self) -> None:
        while self._sending:
            await self._changed.park()
        await self._say_goodbye()
        while not self._incoming.ended:
            await self._read()
        while self._answered:
            await self._read()  # until the other side, which began, has our goodbye and ends the channel

    async def _say_goodbye(self) -> None:
        """Once; nothing may be sent after it."""
        async with self._lock:
            if not self._incoming.closing:
                answers = self._incoming.ended
                await self._use(partial(self._channel.send, GOODBYE))
                self._answered = answers
                self._incoming.closing = True


class TextChannelConnection(ChannelConnection):
    """A `Connection` over a data channel to an original node: one envelope in each message, text or binary.

    The original has no goodbye: the channel ends, and what was on its way may be lost.

    Args:
        channel: open; nothing else may use it.
        limits: `close_timeout` and `legacy_message` are read.
        counts: ``legacy_too_large``: messages that are larger than the other side takes; they are not sent.
    """

    def __init__(self, channel: DataChannel, pair: CandidatePair | None, limits: Limits, counts: Counter[str]) -> None:
        super().__init__(channel, pair, limits)
        self.offered_subprotocol = False
        self._counts: Final = counts
        self._ended = False
        self._refused = ""

    async def receive(self) -> list[bytes | str]:
        """See `Connection.receive`."""
        self._check()
        with self._receiving():
            if not self._refused:
                messages = await self._use(self._channel.receive)
                self._ended = not messages
                messages = self._before_refused(messages)
                if messages or self._ended:
                    return messages
            raise RemoteProtocolError(self._refused, _MESSAGE_TOO_BIG)

    def _before_refused(self, messages: list[bytes | str]) -> list[bytes | str]:
        """The messages, or those before the first that is too long."""
        most = self._limits.legacy_message
        for number, message in enumerate(messages):
            size = len(message) if isinstance(message, bytes) else _size(message)
            if size > most:
                self._refused = f"expected a message of at most {most} bytes, got {size}"
                return messages[:number]
        return messages

    async def send(self, pieces: Sequence[Buffer], *, text: bool = False) -> None:
        """See `Connection.send`; what is too large for the other side is counted, and the link goes on."""
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this connection")
        self._check()
        if self._ended:
            raise trio.BrokenResourceError("the peer closed the connection")
        payload = b"".join(pieces)
        if len(payload) > self._channel.max_message:
            self._counts["legacy_too_large"] += 1
            await trio.lowlevel.checkpoint()
            return
        message = payload.decode() if text else payload
        self._sending, done = True, False
        try:
            with self._call():
                await self._use(partial(self._channel.send, message))
                done = True
        finally:
            self._sending = False
            if not done:
                self._end("broken")

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """See `Connection.aclose`: returns when the network has everything; the other side may have less."""
        if self._state == "open":
            self._stop_receiving()
            try:
                with trio.move_on_after(self._limits.close_timeout, shield=True), suppress(*_GONE), self._call():
                    await self._channel.drain()
            finally:
                self._end("closed")
        elif self._state == "broken":
            self._end("closed")
        await trio.lowlevel.cancel_shielded_checkpoint()


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))
