"""A small HTTP/1.1 client over `h11`, for brokers that are spoken to by requests.

Redirects are not followed and proxies not looked for; cookies are neither kept nor sent. So headers with credentials go
to the server of the URL alone. What comes is bounded: heads by `MAX_HEAD`, bodies by who reads them.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import h11
import trio

from ...exceptions import DriverError, HandshakeError
from ...limits import Limits
from ...transports.dial import dial_stream
from ...transports.routes import Headers, header_value
from ...transports.streams import close_now
from .broker_url import BrokerUrl

__all__ = ["MAX_HEAD", "Answer", "HttpConnection", "HttpPool", "dial_http"]

MAX_HEAD: Final = 16 * 1024
"""Bytes of the head of an answer, or of the head of one chunk."""

_LIMITS: Final = Limits(read_size=16 * 1024)
_IDLE: Final = 4.0
"""Seconds that an idle connection is kept; many servers close it after 5."""
_MAX_DRAINED: Final = 64 * 1024
_PROBES: Final = {"TCP_KEEPIDLE": 20, "TCP_KEEPALIVE": 20, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}
"""A host that is gone is noticed after some 40 s, where the system can do so; TCP_KEEPALIVE is the idle time there
where TCP_KEEPIDLE does not exist."""


class Answer:
    """The head of an answer."""

    def __init__(self, status: int, headers: Headers) -> None:
        self.status: Final = status
        self._headers: Final = headers

    def header(self, name: bytes) -> str:
        """A header's value; empty: there is none."""
        return (header_value(self._headers, name) or b"").decode("latin-1").strip()


class HttpConnection:
    """One connection to a server; one request after another.

    Args:
        stream: belongs to the connection from now on.
        host: what the header ``Host`` says.
    """

    def __init__(self, stream: trio.abc.Stream, host: str) -> None:
        self._stream: Final = stream
        self._host: Final = host
        self._http: Final = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        self._ended = False
        self._broken = False
        self._at_end = False  # of what the server says

    async def request(self, method: str, target: str, headers: Headers, body: bytes = b"") -> Answer:
        """Sends a request and returns the head of the answer; `read` gives its body.

        Raises:
            DriverError: the connection broke, or no HTTP came.
        """
        self._ended = False
        all_headers = [(b"host", self._host.encode("ascii")), *headers]
        if method != "GET":
            all_headers.append((b"content-length", b"%d" % len(body)))
        events: Sequence[h11.Event] = (
            h11.Request(method=method, target=target, headers=all_headers),
            *((h11.Data(data=body),) if body else ()),
            h11.EndOfMessage(),
        )
        said = b"".join(self._http.send(event) or b"" for event in events)
        broken: DriverError | None = None
        try:
            await self._stream.send_all(said)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            # A server may refuse a request, and close, before it has read all of it.
            self._broken = True
            broken = DriverError("the broker broke the connection during a request")
        try:
            return await self._receive_head()
        except DriverError as error:
            raise broken or error from error

    async def _receive_head(self) -> Answer:
        while True:
            event = self._next_event()
            if event is h11.NEED_DATA:
                await self._receive()
            elif isinstance(event, h11.Response):
                return Answer(event.status_code, tuple(event.headers))
            elif not isinstance(event, h11.InformationalResponse):
                raise DriverError("the broker closed the connection before its answer")

    async def read(self) -> bytes:
        """The next bytes of the body; none: its end.

        Raises:
            DriverError: the connection broke, or no HTTP came.
        """
        pieces: list[bytes] = []
        while not self._ended:
            event = self._next_event()
            if isinstance(event, h11.Data):
                pieces.append(bytes(event.data))
            elif event is h11.NEED_DATA:
                if any(pieces):
                    break
                await self._receive()
            else:
                self._ended = True
        return b"".join(pieces)

    async def drain(self) -> bool:
        """Reads the rest of a body; returns whether another request can follow.

        Raises:
            DriverError: the connection broke, or no HTTP came.
        """
        size = 0
        while data := await self.read():
            size += len(data)
            if size > _MAX_DRAINED:
                return False
        if self._broken or self._at_end or (self._http.our_state, self._http.their_state) != (h11.DONE, h11.DONE):
            return False
        self._http.start_next_cycle()
        return not self._http.trailing_data[0]

    def _next_event(self) -> object:
        try:
            return self._http.next_event()
        except h11.RemoteProtocolError as error:
            if self._at_end:
                raise DriverError("the broker closed the connection before the end of its answer") from error
            raise DriverError(f"expected HTTP from the broker: {error}") from error

    async def _receive(self) -> None:
        try:
            data = bytes(await self._stream.receive_some(_LIMITS.read_size))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise DriverError("the connection to the broker broke") from error
        self._at_end = not data
        self._http.receive_data(data)

    @property
    def stale(self) -> bool:
        """Whether the server has said anything, such as a goodbye, since the last answer."""
        socket_stream = _socket_stream(self._stream)
        return socket_stream is not None and socket_stream.socket.is_readable()

    def close(self) -> None:
        """Closes it at once; idempotent."""
        close_now(self._stream)


def _socket_stream(stream: trio.abc.Stream) -> trio.SocketStream | None:
    while isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    return stream if isinstance(stream, trio.SocketStream) else None


async def dial_http(url: BrokerUrl, ssl_context: ssl.SSLContext | None) -> HttpConnection:
    """Opens a connection to a server. The caller sets the deadline; a cancelled call leaves no socket behind.

    Raises:
        DriverError: the server can not be reached, or TLS failed.
    """
    try:
        stream = await dial_stream(url.target, limits=_LIMITS, ssl_context=ssl_context)
    except (OSError, HandshakeError, UnicodeError) as error:
        raise DriverError(getattr(error, "strerror", None) or str(error) or type(error).__name__) from error
    beneath = _socket_stream(stream)
    if beneath is not None:
        beneath.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _PROBES.items():
            if hasattr(socket, name):
                beneath.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return HttpConnection(stream, url.target.host_header)


class HttpPool:
    """Connections to one server for short requests; `most` at once, further requests wait.

    Args:
        url, ssl_context: see `dial_http`.
    """

    def __init__(self, url: BrokerUrl, ssl_context: ssl.SSLContext | None, most: int) -> None:
        self._url: Final = url
        self._ssl_context: Final = ssl_context
        self._places: Final = trio.Semaphore(most)
        self._idle: Final[list[tuple[float, HttpConnection]]] = []
        self._closed = False

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[HttpConnection]:
        """A connection for one request; if that ends well, another one can use it later.

        Raises:
            DriverError: see `dial_http`.
        """
        async with self._places:
            connection = self._take_idle() or await dial_http(self._url, self._ssl_context)
            reusable = False
            try:
                yield connection
                with suppress(DriverError):
                    reusable = await connection.drain() and not self._closed
            finally:
                if reusable:
                    self._idle.append((trio.current_time(), connection))
                else:
                    connection.close()

    def _take_idle(self) -> HttpConnection | None:
        found: HttpConnection | None = None
        oldest = trio.current_time() - _IDLE
        while self._idle and found is None:
            since, connection = self._idle.pop()
            if since >= oldest and not connection.stale:
                found = connection
            else:
                connection.close()
        return found

    def close(self) -> None:
        """Closes those that are idle; those in use are closed by their users."""
        self._closed = True
        while self._idle:
            self._idle.pop()[1].close()
