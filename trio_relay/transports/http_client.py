"""The client's side of HTTP/1.1 on one stream (RFC 9112): requests, one after another, and their answers.

Redirects are not followed; cookies are neither kept nor sent. So headers with credentials go to the server of the
stream alone. What comes is bounded: heads by `http_head`, bodies by who reads them. Deadlines are the caller's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import h11
import trio

from ..exceptions import RemoteProtocolError
from ..limits import Limits
from .routes import Headers, header_value
from .streams import close_now

__all__ = ["HttpAnswer", "HttpConnection", "socket_beneath"]

_BROKEN: Final = (trio.BrokenResourceError, trio.ClosedResourceError)
_MAX_DRAINED: Final = 64 * 1024
_ENDED: Final = "expected an HTTP response, got the end of the stream"


class HttpAnswer:
    """The head of an answer."""

    def __init__(self, status: int, headers: Headers) -> None:
        self.status: Final = status
        self._headers: Final = headers

    def header(self, name: bytes) -> str:
        """A header's value; empty: there is none."""
        return (header_value(self._headers, name) or b"").decode("latin-1").strip()


class HttpConnection:
    """One connection to a server.

    Args:
        stream: belongs to the connection from now on.
        host: what the header ``Host`` says.
        limits: `http_head` (of an answer, or of the head of one chunk) and `read_size` are read.
    """

    def __init__(self, stream: trio.abc.Stream, host: str, limits: Limits) -> None:
        self._stream: Final = stream
        self._host: Final = host
        self._read_size: Final = limits.read_size
        self._http: Final = h11.Connection(h11.CLIENT, max_incomplete_event_size=limits.http_head)
        self._ended = False
        self._broken = False
        self._at_end = False  # of what the server says

    async def request(self, method: str, target: str, headers: Headers = (), body: bytes = b"") -> HttpAnswer:
        """Sends a request and returns the head of the answer; `read` gives its body.

        Raises:
            RemoteProtocolError: no HTTP came, or the end of the stream.
            trio.BrokenResourceError, trio.ClosedResourceError: the connection broke.
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
        broken: Exception | None = None
        try:
            await self._stream.send_all(said)
        except _BROKEN as error:
            # A server may refuse a request, and close, before it has read all of it.
            self._broken, broken = True, error
        try:
            return await self._receive_head()
        except (RemoteProtocolError, *_BROKEN) as error:
            if broken is None:
                raise
            raise broken from error

    async def _receive_head(self) -> HttpAnswer:
        while True:
            event = self._next_event()
            if event is h11.NEED_DATA:
                await self._receive()
            elif isinstance(event, h11.Response):
                return HttpAnswer(event.status_code, tuple(event.headers))
            elif not isinstance(event, h11.InformationalResponse):
                raise RemoteProtocolError(_ENDED)

    async def read(self) -> bytes:
        """The next bytes of the body; none: its end. Errors are those of `request`."""
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

    async def read_all(self, most: int) -> bytes:
        """The rest of the body. Errors are those of `request`; `RemoteProtocolError`, too, if it has more bytes."""
        body = bytearray()
        while data := await self.read():
            body += data
            if len(body) > most:
                raise RemoteProtocolError(f"expected an answer of at most {most} bytes")
        return bytes(body)

    async def drain(self) -> bool:
        """Reads the rest of a body, up to a bound; returns whether another request can follow. Errors are those of
        `request`."""
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
            raise RemoteProtocolError(_ENDED if self._at_end else f"expected an HTTP response: {error}") from error

    async def _receive(self) -> None:
        data = bytes(await self._stream.receive_some(self._read_size))
        self._at_end = not data
        self._http.receive_data(data)

    @property
    def stale(self) -> bool:
        """Whether the server has said anything, such as a goodbye, since the last answer."""
        beneath = socket_beneath(self._stream)
        return beneath is not None and beneath.socket.is_readable()

    def close(self) -> None:
        """Closes it at once; idempotent."""
        close_now(self._stream)


def socket_beneath(stream: trio.abc.Stream) -> trio.SocketStream | None:
    """The socket that a stream, perhaps with TLS, is about; None: it is about something else."""
    while isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    return stream if isinstance(stream, trio.SocketStream) else None
