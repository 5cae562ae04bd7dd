"""The receiving half of HTTP/1.1 on one stream (RFC 9112): heads, and bodies that are read or thrown away."""

from __future__ import annotations

from typing import Final

import h11
import trio

from ..limits import Limits
from .admission import Ending
from .routes import NO_BODY, Body, BodyIncomplete, Headers, Request, Response, split_target
from .streams import stream_addresses

__all__ = ["Refused", "RequestReader", "refusal"]

BODY_RATE: Final = 16 * 1024
"""Bytes of a request body that a client has to send in a second, on average."""


class Refused(Exception):
    """The conversation ends; with a last response, unless the client does not read."""

    def __init__(self, ending: Ending, response: Response | None) -> None:
        super().__init__(ending)
        self.ending = ending
        self.response = response


def refusal(status: int, text: str) -> Refused:
    """Of a request that is not HTTP/1.1, or too large."""
    return Refused(Ending.HTTP_REFUSED, Response.text(status, text))


class RequestReader:
    """Requests one after the other. A body is received while it is read, and not before.

    It waits for each piece of a body `http_timeout`, and for all that came of it `http_timeout` and a second for each
    `BODY_RATE` bytes; time in which nobody reads does not count. So a client holds its connection as long as it sends,
    at that rate at least, as much as somebody takes.

    Args:
        stream: read from, and written to for ``100 Continue``.
        limits: `http_head`, `http_timeout` and `read_size` are read.
        secure: whether it is TLS.
        addresses: the remote and the local ``host:port``; default: those of the stream.
        received: what was read of the stream already, nothing at its end; None: nothing was read.

    Attributes:
        http: what h11 knows about the connection.
        method, path: of the latest request; empty before its head is complete.
        failure: what stopped the body of the latest request.

    Raises:
        OSError: the socket is not connected any more.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        *,
        limits: Limits,
        secure: bool,
        addresses: tuple[str, str] | None = None,
        received: bytes | None = None,
    ) -> None:
        self.http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.http_head)
        self.method = ""
        self.path = ""
        self._stream = stream
        self._limits = limits
        self._secure = secure
        self._remote, self._local = addresses or stream_addresses(stream)
        if received is not None:
            self.http.receive_data(received)
        self.failure: Exception | None = None
        # Of the body of the latest request.
        self._unread = False
        self._announced = 0
        self._received = 0
        self._waited = 0.0

    async def read(self, since: float) -> Request | None:
        """The next request; None at the end of the stream. The body before has been received to its end.

        Raises:
            Refused: it is no request, or not one that is taken here.
        """
        self.method = self.path = ""  # a refusal of what follows has a body, whatever the last method was
        event = await self._next_event()
        if not isinstance(event, h11.Request):
            return None
        self.method = event.method.decode("ascii")
        # h11 bounds only what is incomplete, so a head that came in one piece is measured here.
        headers = tuple(event.headers)
        size = len(event.target) + sum([len(name) + len(value) + 4 for name, value in headers])
        if size > self._limits.http_head:
            raise refusal(431, f"expected a head of at most {self._limits.http_head} bytes")
        target = event.target.decode("ascii")
        try:
            self.path, query = split_target(target)
        except ValueError as error:
            raise refusal(400, str(error)) from error
        return Request(
            method=self.method,
            target=target,
            path=self.path,
            query=query,
            headers=headers,
            remote=self._remote,
            local=self._local,
            secure=self._secure,
            since=since,
            body=self._expect_body(_body_length(headers)),
        )

    async def drain(self) -> bool:
        """Receives what is left of a body and throws it away; `read_size` bytes at most.

        Returns:
            Whether its end was reached: if not, there can be no further request. Nothing is received if so much was
            announced that it is not, or if the client waits for ``100 Continue``.

        Raises:
            Refused: the rest did not come in time, or is no HTTP.
            trio.BrokenResourceError: the connection broke.
            trio.ClosedResourceError: it was closed on our side.
        """
        self._check()
        most = self._received + self._limits.read_size
        if self._unread and (self._announced > most or self.http.they_are_waiting_for_100_continue):
            return False
        while await self._receive_piece():
            if self._received > most:
                return False
        return True

    async def write(self, data: bytes) -> None:
        """Sends; raises `Refused` without a response when the client does not read in time."""
        with trio.move_on_after(self._limits.http_timeout) as scope:
            await self._stream.send_all(data)
        if scope.cancelled_caught:
            raise Refused(Ending.HTTP_TIMEOUT, None)

    async def _next_event(self) -> object:
        """h11's next event; its errors become refusals."""
        while True:
            try:
                event = self.http.next_event()
                if event is not h11.NEED_DATA:
                    return event
                self.http.receive_data(bytes(await self._stream.receive_some(self._limits.http_head)))
            except h11.RemoteProtocolError as error:
                raise refusal(error.error_status_hint, str(error)) from error

    def _expect_body(self, length: int | None) -> Body:
        self._unread = length != 0
        if not self._unread:
            self.http.next_event()  # the end of the message, as the head says
            return NO_BODY
        self._announced, self._received, self._waited, self.failure = length or 0, 0, 0.0, None
        return Body(length, self._next_piece)

    async def _next_piece(self) -> bytes:
        """`_receive_piece` for a `Body`."""
        try:
            self._check()
            return await self._receive_piece()
        except (Refused, trio.BrokenResourceError, trio.ClosedResourceError) as failure:
            self.failure = failure
            raise BodyIncomplete("the rest of the request body did not come") from failure

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure

    async def _receive_piece(self) -> bytes:
        """More of the body; nothing at its end."""
        if not self._unread:
            return b""
        if self.http.they_are_waiting_for_100_continue:
            await self.write(self.http.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
        patience = self._limits.http_timeout + min(0.0, self._received / BODY_RATE - self._waited)
        event: object = None
        began = trio.current_time()
        with trio.move_on_after(patience):
            await trio.lowlevel.checkpoint()  # many small chunks may be here already
            event = await self._next_event()
        if event is None:
            raise Refused(Ending.HTTP_TIMEOUT, Response.text(408, "no complete request body in time"))
        self._waited += trio.current_time() - began
        if isinstance(event, h11.Data):
            self._received += len(event.data)
            return bytes(event.data)
        self._unread = False
        return b""


def _body_length(headers: Headers) -> int | None:
    """Bytes of the body that follows a head (RFC 9112 section 6.3), which h11 has checked; None: it is chunked.

    Raises:
        Refused: both ways are there; a proxy that reads the other one would see other requests than we do.
    """
    found = dict(headers)
    if b"transfer-encoding" not in found:
        return int(found.get(b"content-length", 0))
    if b"content-length" in found:
        raise refusal(400, "expected a Content-Length or a Transfer-Encoding, not both")
    return None
