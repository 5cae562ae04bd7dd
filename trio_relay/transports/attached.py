"""A link over a trio-websocket connection that the embedding program opened or accepted."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import trio
from trio_websocket import ConnectionClosed, Endpoint

from ..exceptions import RemoteProtocolError
from ..limits import Limits
from ..wire.addresses import join_host_port
from .connection import Buffer, TransportName
from .upgrade import SUBPROTOCOL

if TYPE_CHECKING:
    from trio_websocket import WebSocketConnection

__all__ = ["AttachedConnection"]

T = TypeVar("T")

MESSAGE_TOO_BIG = 1009
ABNORMAL_CLOSURE = 1006
"""RFC 6455 section 7.4.1: the stream ended without a close frame."""


class AttachedConnection:
    """A `Connection` over ``trio_websocket.WebSocketConnection``, of either role; nothing else may use that.

    trio-websocket runs its own reader in the program's nursery and offers no way to close without waiting:
    after `abort` the task that receives closes it, or `aclose` if there is none.

    Args:
        connection: open.
        limits: `close_timeout` and `websocket_message` are read.
    """

    def __init__(self, connection: WebSocketConnection, limits: Limits) -> None:
        self.transport: TransportName = "attached"
        self.direct = False
        self.remote = _address(connection.remote)
        self.local = _address(connection.local)
        self.offered_subprotocol = connection.subprotocol == SUBPROTOCOL
        self._connection = connection
        self._limits = limits
        self._calls: set[trio.CancelScope] = set()
        self._sending = False
        self._broken = False
        self._aborted = False
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "broken" if self._broken else "open"
        return f"<AttachedConnection {self.local} to {self.remote}, {state}>"

    @property
    def control_pending(self) -> bool:
        """Never: trio-websocket answers control frames by itself."""
        return False

    async def receive(self) -> list[bytes | str]:
        """See `Connection.receive`; one message at a time."""
        message = await self._call(self._connection.get_message)
        if message is None:
            return []
        size = len(message.encode() if isinstance(message, str) else message)
        if size > self._limits.websocket_message:
            raise RemoteProtocolError(
                f"expected a message of at most {self._limits.websocket_message} bytes, got {size}",
                MESSAGE_TOO_BIG,
            )
        return [message]

    def send_nowait(self, pieces: Sequence[Buffer], *, text: bool = False) -> bool:
        """Not possible here.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("expected a direct connection: use send here")

    async def flush(self) -> None:
        """See `Connection.flush`; nothing is ever left."""
        self._check_open()
        await trio.lowlevel.checkpoint()

    async def send(self, pieces: Sequence[Buffer], *, text: bool = False) -> None:
        """See `Connection.send`."""
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this connection")
        payload = b"".join(pieces)
        message = payload.decode() if text else payload
        self._sending, done = True, False
        try:
            sent = await self._call(lambda: self._send(message))
            done = sent is not None
        finally:
            self._sending = False
            # trio-websocket would take the next message after a write that stopped half way.
            self._broken |= not done
        if not done:
            raise trio.BrokenResourceError("the peer closed the connection")

    async def _send(self, message: bytes | str) -> bool:
        await self._connection.send_message(message)
        return True

    async def _call(self, operation: Callable[[], Awaitable[T]]) -> T | None:
        """The result of `operation`, or None when the peer closed politely."""
        self._check_open()
        with trio.CancelScope() as scope:
            self._calls.add(scope)
            try:
                return await operation()
            except ConnectionClosed as closed:
                self._check_open()
                if closed.reason is not None and closed.reason.code != ABNORMAL_CLOSURE:
                    return None
                self._broken = True
                raise trio.BrokenResourceError(f"the connection to {self.remote} broke") from closed
            finally:
                self._calls.discard(scope)
        await self.aclose()
        raise trio.ClosedResourceError("this connection was closed")

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """See `Connection.aclose`."""
        forced = self._aborted or self._broken
        self._aborted = True
        if self._closed:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        self._closed = True
        # trio-websocket waits for ever for the peer's close frame; cancelled, it closes the stream.
        with trio.move_on_after(self._limits.close_timeout, shield=True) as scope:
            if forced:
                scope.cancel()
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self._connection.aclose(code, reason or None)

    def abort(self) -> None:
        """See `Connection.abort`, and above."""
        self._aborted = True
        for scope in self._calls:
            scope.cancel()

    def _check_open(self) -> None:
        if self._aborted:
            raise trio.ClosedResourceError("this connection was closed")
        if self._broken:
            raise trio.BrokenResourceError("this connection broke earlier")


def _address(endpoint: Endpoint | str) -> str:
    """``host:port``; trio-websocket gives a description of a stream that has none."""
    return endpoint if isinstance(endpoint, str) else join_host_port(str(endpoint.address), endpoint.port)
