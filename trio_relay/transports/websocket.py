"""A WebSocket after its opening handshake, as a `Connection`.

Rules of this file:

1. At most one write is inside the connection: what the socket did not take of it.
2. Control replies stay in the codec until they can be written between two messages: by the task that writes, and if
   there is none, by the one that receives. So reading never waits for a writer that waits for the peer.
3. A write that was interrupted may have stopped inside a frame: the connection is broken from then on.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Iterator, Sequence
from functools import partial

import trio

from ..exceptions import LocalProtocolError
from ..limits import Limits
from ..wire.websocket import Role, WebSocketCodec
from .connection import Buffer, TransportName
from .direct import DirectSocket
from .streams import close_now, stream_addresses

__all__ = ["WebSocketConnection"]

_new_mask = partial(os.urandom, 4)


class WebSocketConnection:
    """A WebSocket over any Trio stream; direct when that is a plain TCP socket on a POSIX system.

    Args:
        stream: belongs to the connection from now on.
        role: our end.
        limits: `read_size`, `close_timeout`, `websocket_message` and `websocket_fragments` are read.
        offered_subprotocol: see `Connection`.
        received: bytes that followed the opening handshake.
        max_message: bytes in one received message, instead of `Limits.websocket_message`.
        raw: text messages arrive as bytes, and what is in them was not looked at.
        addresses: the remote and the local ``host:port``; default: those of the stream.

    Attributes:
        heard: set to True whenever the peer sent anything; who watches over it sets it to False.

    Raises:
        OSError: the socket is not connected any more.
    """

    # fmt: off
    __slots__ = (
        "__weakref__", "_broken", "_closed", "_closing", "_codec", "_ended", "_flushing", "_limits", "_lock",
        "_only_control_left", "_received", "_receiving", "_socket", "_stream", "_unwritten", "direct", "heard", "local",
        "offered_subprotocol", "remote", "transport",
    )
    # fmt: on

    def __init__(
        self,
        stream: trio.abc.Stream,
        role: Role,
        *,
        limits: Limits,
        offered_subprotocol: bool,
        received: bytes = b"",
        max_message: int | None = None,
        raw: bool = False,
        addresses: tuple[str, str] | None = None,
    ) -> None:
        self.transport: TransportName = "websocket"
        self.heard = True
        self.remote, self.local = addresses or stream_addresses(stream)
        self.offered_subprotocol = offered_subprotocol
        self._stream = stream
        self._socket = DirectSocket.of(stream)
        self.direct = self._socket is not None
        self._limits = limits
        most = limits.websocket_message if max_message is None else max_message
        self._codec = WebSocketCodec(
            role, max_message=most, max_fragments=limits.websocket_fragments, new_mask=_new_mask, raw=raw
        )
        self._received = received
        self._unwritten: Buffer = b""  # of a write through the stream
        self._only_control_left = False
        self._lock: trio.Lock | None = None
        self._receiving = False
        self._flushing = False
        self._closing = False
        self._closed = False
        self._broken = False
        self._ended: trio.Event | None = None  # made by an `aclose` that waits for the receiving task

    def __repr__(self) -> str:
        state = "closed" if self._closed else "broken" if self._broken else "open"
        return f"<WebSocketConnection {self.local} to {self.remote}, {state}>"

    @property
    def close_code(self) -> int | None:
        """What the peer's close frame said: 1005 without a code, 1006 after a stream without it, None before."""
        return self._codec.close_code

    @property
    def close_reason(self) -> str:
        """The reason in the peer's close frame."""
        return self._codec.close_reason

    # Receiving

    async def receive(self) -> list[bytes | str]:
        """See `Connection.receive`; of a WebSocket that is at least one message, or the end of the stream."""
        if self._closed or self._closing:
            raise trio.ClosedResourceError("this connection was closed")
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving from this connection")
        self._receiving = True
        codec = self._codec
        try:
            if codec.closed:
                await trio.lowlevel.checkpoint()  # there is nothing to wait for
            while not codec.closed:
                if codec.has_output or self._only_control_left:
                    await self._reply()
                reading = self._read()
                try:
                    data = await reading
                except (OSError, trio.BrokenResourceError) as error:
                    raise self._failed(error) from error
                messages = self._take(data)
                if messages:
                    if self._socket is not None and codec.has_output:
                        self._reply_now(self._socket)
                    return messages
            if codec.has_output:
                await self._reply()
            if codec.failure is not None:
                raise codec.failure
            return []
        finally:
            self._receiving = False
            if self._ended is not None:
                self._ended.set()

    def _read(self) -> Awaitable[Buffer]:
        """The next bytes of the stream. No coroutine: every idle connection holds each one that waits."""
        if self._received:
            return self._read_ahead()
        self._check_open()
        if self._socket is not None:
            return self._socket.read(self._limits.read_size)
        return self._stream.receive_some(self._limits.read_size)

    async def _read_ahead(self) -> Buffer:
        data, self._received = self._received, b""
        await trio.lowlevel.checkpoint()
        return data

    def _take(self, data: Buffer) -> list[bytes | str]:
        """What the codec makes of what was read; nothing read is the end of the stream."""
        if not data:
            self._codec.receive_eof()
        self.heard = True
        return self._codec.receive_data(data)

    async def _reply(self) -> None:
        """Writes control replies, unless another task is writing; a failure is for the next read to report."""
        if self._socket is not None:
            self._reply_now(self._socket)
        elif not self._writer_lock().locked():
            # A peer that pings and does not read its pongs for so long is as good as dead.
            with trio.move_on_after(self._limits.dead_after), contextlib.suppress(trio.BrokenResourceError):
                await self.flush()

    def _reply_now(self, direct: DirectSocket) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            if direct.leftover is None:
                self._only_control_left = not self._write(direct, [self._codec.data_to_send()])
            elif self._only_control_left:
                self._write_leftover(direct)

    # Sending

    @property
    def control_pending(self) -> bool:
        """Whether anything waits for `flush`."""
        return self._codec.has_output or (self._socket is not None and self._socket.leftover is not None)

    @property
    def unwritten(self) -> int:
        """Bytes of what is being written that the socket has not taken yet; of a stream, give or take a read's size."""
        return len((self._unwritten if self._socket is None else self._socket.leftover) or b"")

    def send_nowait(self, pieces: Sequence[Buffer], *, text: bool = False, each: bool = False) -> bool:
        """See `Connection.send_nowait`; with `each`, every piece is a message of its own."""
        direct = self._socket
        if direct is None:
            raise RuntimeError("expected a direct connection: use send here")
        self._check_open()
        if direct.leftover is not None and not self._only_control_left:
            raise trio.BusyResourceError("expected flush to return before the next message")
        frames = self._frames(pieces, text, each)
        if direct.leftover is not None:
            frames.insert(0, direct.leftover)
        direct.leftover, self._only_control_left = None, False
        return self._write(direct, frames)

    def lead_with(self, head: bytes, *, wait: bool) -> None:
        """Sends what goes before everything else: at once, or with the first message, or before the first read."""
        if self._socket is not None:
            self._socket.leftover, self._only_control_left = memoryview(head), True
            if not wait:
                self._reply_now(self._socket)

    def ping_soon(self, *, unasked_pong: bool = False) -> None:
        """Sends a ping at once, or before the next message; `control_pending` tells whether it waits for `flush`.

        Args:
            unasked_pong: a pong instead, which is a sign of life and wants no answer (RFC 6455 section 5.5.3).
        """
        if unasked_pong:
            self._codec.pong_soon()
        else:
            self._codec.ping_soon()
        if self._socket is not None and not self._closed and not self._broken:
            self._reply_now(self._socket)

    async def flush(self) -> None:
        """See `Connection.flush`."""
        self._check_open()
        if self._socket is None:
            async with self._writer_lock():
                await self._write_stream([])
            return
        await trio.lowlevel.checkpoint()
        if self._flushing:
            raise trio.BusyResourceError("another task is flushing this connection")
        self._flushing = True
        with self._all_or_broken():
            while not self._write_leftover(self._socket):
                await self._socket.wait_writable()
        self._flushing = False

    async def send(self, pieces: Sequence[Buffer], *, text: bool = False, each: bool = False) -> None:
        """See `Connection.send`; with `each`, every piece is a message of its own."""
        if self._socket is None:
            async with self._writer_lock():
                self._check_open()
                await self._write_stream(self._frames(pieces, text, each))
            return
        await trio.lowlevel.checkpoint()
        if not self.send_nowait(pieces, text=text, each=each):
            await self.flush()

    def _frames(self, pieces: Sequence[Buffer], text: bool, each: bool) -> list[Buffer]:
        codec = self._codec
        try:
            if each:
                frames = codec.send_messages(pieces, text=text)
            else:
                frames = codec.send_text(pieces) if text else codec.send_binary(pieces)
        except LocalProtocolError as error:
            ours = trio.ClosedResourceError("this connection was closed")
            raise (ours if self._closing else trio.BrokenResourceError("the peer closed the connection")) from error
        if codec.has_output:
            frames.insert(0, codec.data_to_send())
        return frames

    def _write(self, direct: DirectSocket, buffers: list[Buffer]) -> bool:
        try:
            return direct.write(buffers)
        except OSError as error:
            raise self._failed(error) from error

    def _write_leftover(self, direct: DirectSocket) -> bool:
        """Goes on with the leftover, then with control replies; returns whether nothing is left."""
        self._check_open()
        try:
            if not direct.write_leftover():
                return False
        except OSError as error:
            raise self._failed(error) from error
        self._only_control_left = False
        if self._codec.has_output:
            self._only_control_left = not self._write(direct, [self._codec.data_to_send()])
        return not self._only_control_left

    def _writer_lock(self) -> trio.Lock:
        """Pongs and messages come from different tasks; a stream, unlike a descriptor, takes one writer at a time."""
        if self._lock is None:
            self._lock = trio.Lock()
        return self._lock

    async def _write_stream(self, buffers: list[Buffer]) -> None:
        """Writes `buffers`, then control replies, through the stream; only under the lock."""
        self._check_open()
        with self._all_or_broken():
            try:
                self._unwritten = memoryview(b"".join(buffers))
                while self._unwritten:
                    await self._stream.send_all(self._unwritten[: self._limits.read_size])
                    self._unwritten = self._unwritten[self._limits.read_size :]
                while self._codec.has_output:
                    await self._stream.send_all(self._codec.data_to_send())
            except (OSError, trio.BrokenResourceError) as error:
                raise self._failed(error) from error

    @contextlib.contextmanager
    def _all_or_broken(self) -> Iterator[None]:
        """A write that waits: if it does not come to its end, nothing more is written."""
        done = False
        try:
            yield
            done = True
        finally:
            self._broken |= not done

    # Closing

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """See `Connection.aclose`; what is received meanwhile is thrown away."""
        if self._closed or self._closing:
            return
        goodbye = self._codec.send_close(code, reason)
        self._closing = True
        # A connection that broke, was aborted, or was inside a message has nothing to say any more.
        silent = OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError
        with trio.move_on_after(self._limits.close_timeout, shield=True), contextlib.suppress(*silent):
            await self._send_goodbye(goodbye)
            await self._await_goodbye()
            if not self.direct:
                await self._stream.aclose()  # TLS has a goodbye of its own
        self.abort()

    async def _send_goodbye(self, goodbye: bytes) -> None:
        await self.flush()
        if self._socket is None:
            async with self._writer_lock():
                await self._write_stream([goodbye])
        elif goodbye and not self._write(self._socket, [goodbye]):
            await self.flush()

    async def _await_goodbye(self) -> None:
        """Waits for the peer's close frame, after a violation for the end of its stream.

        Closing a socket with unread data resets it, and the reset can overtake the close frame that tells the
        peer what it did wrong.
        """
        if self._receiving:
            self._ended = trio.Event()
            await self._ended.wait()
        if self._codec.failure is None:
            while not self._codec.closed:
                self._take(await self._read())
        elif isinstance(self._stream, trio.SocketStream):
            await self._stream.send_eof()
            while await self._read():
                pass

    def abort(self) -> None:
        """See `Connection.abort`."""
        if not self._closed:
            self._closed = True
            if self._socket is not None:
                self._socket.forget()
            close_now(self._stream)

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this connection was closed")
        if self._broken:
            raise trio.BrokenResourceError("this connection broke earlier")

    def _failed(self, error: Exception) -> trio.BrokenResourceError | trio.ClosedResourceError:
        """Remembers that the stream failed; what to raise for it."""
        if self._closed:
            return trio.ClosedResourceError("this connection was closed")
        self._broken = True
        return trio.BrokenResourceError(f"the connection to {self.remote} broke: {error}")
