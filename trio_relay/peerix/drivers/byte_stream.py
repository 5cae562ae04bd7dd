"""A stream of bytes to a broker, over TCP, TLS, or in the binary messages of a WebSocket."""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import Final

import trio

from ...exceptions import RemoteProtocolError
from ...limits import Limits
from ...transports.dial import dial_stream, dial_websocket, secure_stream
from ...transports.websocket import WebSocketConnection
from ...wire.urls import WebSocketUrl
from .broker_url import BrokerUrl

__all__ = ["ByteStream", "dial_broker"]

_LIMITS: Final = Limits(read_size=16 * 1024, close_timeout=1.0)
_MAX_MESSAGE: Final = 1024 * 1024
"""Bytes of one WebSocket message, which may hold many packets, or a part of one."""


class ByteStream:
    """Bytes in order, both ways. One task receives, and one sends."""

    def __init__(self, stream: trio.abc.Stream | WebSocketConnection) -> None:
        self._stream = stream

    async def receive(self) -> bytes:
        """The next bytes; none: the end.

        Raises:
            RemoteProtocolError: text came, or a rule of WebSockets was broken.
            trio.BrokenResourceError, trio.ClosedResourceError: it broke, or was closed here.
        """
        if not isinstance(self._stream, WebSocketConnection):
            return bytes(await self._stream.receive_some(_LIMITS.read_size))
        while messages := await self._stream.receive():
            data = b"".join(message for message in messages if isinstance(message, bytes))
            if any(isinstance(message, str) for message in messages):
                raise RemoteProtocolError("expected binary messages from the broker, got text")
            if data:
                return data
        return b""

    async def send(self, data: bytes) -> None:
        """Returns when the system has the bytes; a call that was cancelled leaves the stream broken.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: it broke, or was closed here.
        """
        if isinstance(self._stream, WebSocketConnection):
            await self._stream.send([data])
        else:
            await self._stream.send_all(data)

    async def secure(self, target: WebSocketUrl, ssl_context: ssl.SSLContext | None) -> None:
        """Speaks TLS from here on. See `secure_stream`."""
        assert not isinstance(self._stream, WebSocketConnection)
        self._stream = await secure_stream(self._stream, target, ssl_context)

    async def aclose(self) -> None:
        """Closes it, within a second or so, also when it is cancelled."""
        with trio.move_on_after(_LIMITS.close_timeout, shield=True), suppress(OSError, trio.BrokenResourceError):
            await self._stream.aclose()


async def dial_broker(url: BrokerUrl, ssl_context: ssl.SSLContext | None, *, subprotocol: str | bool) -> ByteStream:
    """Opens a stream to a broker. The caller sets the deadline; a cancelled call leaves no socket behind.

    Args:
        ssl_context: None: the system's authorities.
        subprotocol: of a WebSocket; see `dial_websocket`.

    Raises:
        ValueError: the context would speak less than TLS 1.2.
        OSError, UnicodeError: the host cannot be resolved or reached.
        HandshakeError: TLS failed, or there is no WebSocket.
    """
    if url.scheme.websocket:
        return ByteStream(
            await dial_websocket(
                str(url.target),
                limits=_LIMITS,
                ssl_context=ssl_context,
                subprotocol=subprotocol,
                max_message=_MAX_MESSAGE,
            )
        )
    return ByteStream(await dial_stream(url.target, limits=_LIMITS, ssl_context=ssl_context))
