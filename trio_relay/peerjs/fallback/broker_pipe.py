"""Through the broker: a meeting of two peers, each with a WebSocket to it (`trio_relay.peerjs.broker.relayed`)."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

from ...exceptions import RemoteProtocolError
from ...limits import Limits
from ...transports.dial import dial_websocket
from ...transports.websocket import WebSocketConnection
from .sealing import Medium

__all__ = ["BrokerPipe", "open_broker_pipe"]

KIB: Final = 1024
_MESSAGE: Final = 64 * KIB
"""Bytes in one message that we send; a broker takes 128 KiB."""
_LONGEST: Final = 128 * KIB


class BrokerPipe:
    """Implements `RelayPipe`; the broker and TCP keep the order."""

    medium: Medium = "broker"
    reorder: int = 0
    max_message: Final = _MESSAGE
    buffered_amount: Final = 0
    """What was sent is in the socket."""

    def __init__(self, connection: WebSocketConnection) -> None:
        self._connection: Final = connection

    async def receive(self) -> list[bytes]:
        """See `RelayPipe`.

        Raises:
            trio.BrokenResourceError: the broker refused us, or ended the meeting; what it said is in the message.
        """
        messages = await self._connection.receive()
        if not messages and self._connection.close_code not in (1000, 1005):
            code, reason = self._connection.close_code, self._connection.close_reason
            raise trio.BrokenResourceError(f"the broker ended the meeting: {code} {reason}".rstrip())
        binary = [message for message in messages if isinstance(message, bytes)]
        if len(binary) < len(messages):
            raise RemoteProtocolError("expected binary messages in a meeting, got text", 1003)
        return binary

    async def send(self, message: bytes) -> None:
        """See `RelayPipe`: waits while the broker does not read."""
        await self._connection.send([message])

    async def drain(self) -> None:
        """See `RelayPipe`."""
        await trio.lowlevel.checkpoint()


@asynccontextmanager
async def open_broker_pipe(
    url: str, *, limits: Limits, ssl_context: ssl.SSLContext | None = None
) -> AsyncIterator[BrokerPipe]:
    """A meeting, for the block; the other peer may not have come yet.

    The caller sets the deadline. The end of the block closes the WebSocket, within `Limits.close_timeout`.

    Args:
        url: of the meeting, with all that the broker wants to know.

    Raises:
        OSError: the broker can not be reached.
        HandshakeError: it has no meetings, or TLS failed.
    """
    connection = await dial_websocket(
        url, limits=limits, ssl_context=ssl_context, subprotocol=False, max_message=_LONGEST
    )
    try:
        yield BrokerPipe(connection)
    finally:
        await connection.aclose()
