"""The server's side of HTTP/1.1 on one stream (RFC 9112): requests until the end, or until one becomes a WebSocket.

Every wait has a deadline and every size a bound. What is not HTTP is answered with a status, never with a
traceback.
"""

from __future__ import annotations

import contextlib
import email.utils
from dataclasses import dataclass

import h11
import trio

from ..limits import Limits
from .admission import Ending, TransportStatistics
from .routes import Handler, Headers, Request, Response, Route, RouteTable, split_target
from .streams import stream_addresses
from .upgrade import accept_upgrade, is_upgrade

__all__ = ["Conversation", "Upgrade"]

UPGRADE_REQUIRED = Response.typed(426, b"Upgrade Required", "text/plain", ((b"upgrade", b"websocket"),))


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A request that was answered with 101; the stream is a WebSocket from there on.

    Attributes:
        handler: what the route does with it.
        received: bytes that followed the request.
    """

    handler: Handler
    request: Request
    offered_subprotocol: bool
    max_message: int | None
    received: bytes


class _Refused(Exception):
    """The conversation ends; with a last response, unless the client does not read."""

    def __init__(self, ending: Ending, response: Response | None) -> None:
        super().__init__(ending)
        self.ending = ending
        self.response = response


class Conversation:
    """HTTP/1.1 with one client.

    Args:
        stream: stays the caller's: `run` does not close it.
        table: the routes.
        since: when the connection was accepted; default: now.
        limits: `http_head`, `http_timeout`, `close_timeout` are read; a request body may have `read_size` bytes
            and is thrown away.

    Raises:
        OSError: the socket is not connected any more.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        table: RouteTable,
        *,
        limits: Limits,
        statistics: TransportStatistics,
        secure: bool = False,
        since: float | None = None,
    ) -> None:
        self._since = trio.current_time() if since is None else since
        self._stream = stream
        self._table = table
        self._limits = limits
        self._statistics = statistics
        self._secure = secure
        self._remote, self._local = stream_addresses(stream)
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.http_head)
        self._answered = False
        self._method = ""

    async def run(self) -> Upgrade | None:
        """Answers requests; returns the upgrade that was accepted, or None when the stream is to be closed.

        Raises:
            trio.BrokenResourceError: the stream broke.
            trio.ClosedResourceError: it was closed on our side.
        """
        try:
            while (request := await self._next_request()) is not None:
                self._statistics.requests += 1
                answer = await self._answer(request)
                if isinstance(answer, Upgrade):
                    return answer
                await self._send(answer)
                self._answered = True
                self._since = trio.current_time()
                if not (self._http.our_state is self._http.their_state is h11.DONE):
                    break
                self._http.start_next_cycle()
        except _Refused as refusal:
            self._statistics.count(refusal.ending)
            if refusal.response is None:
                return None
            await self._send_last(refusal.response)
        await self._linger()
        return None

    async def _next_request(self) -> Request | None:
        """The next request, its body drained; None at the end of the stream, or of the client's time."""
        with trio.move_on_at(self._since + self._limits.http_timeout):
            return await self._read_request()
        if self._answered and self._http.their_state is h11.IDLE and not self._http.trailing_data[0]:
            return None
        raise _Refused(Ending.HTTP_TIMEOUT, Response.text(408, "no complete request in time"))

    async def _read_request(self) -> Request | None:
        self._method = ""  # a refusal of what follows has a body, whatever the last method was
        event = await self._next_event()
        if not isinstance(event, h11.Request):
            return None
        self._method = event.method.decode("ascii")
        request = self._build_request(event)
        drained = 0
        # A client that waits for 100 Continue gets its answer without sending the body.
        while not self._http.they_are_waiting_for_100_continue:
            part = await self._next_event()
            if not isinstance(part, h11.Data):
                break
            drained += len(part.data)
            if drained > self._limits.read_size:
                raise _refusal(413, f"expected a body of at most {self._limits.read_size} bytes")
        return request

    async def _next_event(self) -> object:
        """h11's next event; its errors become refusals."""
        while True:
            try:
                event = self._http.next_event()
                if event is not h11.NEED_DATA:
                    return event
                self._http.receive_data(bytes(await self._stream.receive_some(self._limits.http_head)))
            except h11.RemoteProtocolError as error:
                raise _refusal(error.error_status_hint, str(error)) from error

    def _build_request(self, event: h11.Request) -> Request:
        # h11 bounds only what is incomplete, so a head that came in one piece is measured here.
        size = len(event.target) + sum(len(name) + len(value) + 4 for name, value in event.headers)
        if size > self._limits.http_head:
            raise _refusal(431, f"expected a head of at most {self._limits.http_head} bytes")
        target = event.target.decode("ascii")
        try:
            path, query = split_target(target)
        except ValueError as error:
            raise _refusal(400, str(error)) from error
        return Request(
            method=self._method,
            target=target,
            path=path,
            query=query,
            headers=tuple(event.headers),
            remote=self._remote,
            local=self._local,
            secure=self._secure,
            since=self._since,
        )

    async def _answer(self, request: Request) -> Response | Upgrade:
        route = self._table.find(request.path)
        if is_upgrade(request):
            return await self._upgrade(route, request)
        if request.method == "CONNECT":
            raise _refusal(400, "expected a method other than CONNECT: this is no proxy")
        if route is None:
            return Response.text(404, "Not Found")
        if route.respond is None:
            return UPGRADE_REQUIRED
        return await route.respond(request)

    async def _upgrade(self, route: Route | None, request: Request) -> Upgrade:
        if route is None or route.upgrade is None:
            raise _Refused(Ending.UPGRADE_REFUSED, Response.text(400, "no WebSocket is served at this path"))
        accepted = accept_upgrade(request, self._http.their_http_version or b"")
        if isinstance(accepted, Response):
            raise _Refused(Ending.UPGRADE_REFUSED, accepted)
        event = h11.InformationalResponse(
            status_code=101, headers=list(accepted.headers), reason=b"Switching Protocols"
        )
        await self._write(self._http.send(event) or b"")
        return Upgrade(
            route.upgrade,
            request,
            accepted.offered_subprotocol,
            route.max_message,
            self._http.trailing_data[0],
        )

    async def _send(self, response: Response, *, extra: Headers = ()) -> None:
        headers = [
            *response.headers,
            *extra,
            (b"date", email.utils.formatdate(usegmt=True).encode("ascii")),
            (b"content-length", b"%d" % len(response.body)),
        ]
        data = self._http.send(h11.Response(status_code=response.status, headers=headers)) or b""
        if response.body and self._method != "HEAD":
            data += self._http.send(h11.Data(data=response.body)) or b""
        data += self._http.send(h11.EndOfMessage()) or b""
        await self._write(data)

    async def _send_last(self, response: Response) -> None:
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            with contextlib.suppress(_Refused, trio.BrokenResourceError):
                await self._send(response, extra=((b"connection", b"close"),))

    async def _write(self, data: bytes) -> None:
        with trio.move_on_after(self._limits.http_timeout) as scope:
            await self._stream.send_all(data)
        if scope.cancelled_caught:
            raise _Refused(Ending.HTTP_TIMEOUT, None)

    async def _linger(self) -> None:
        """Reads on until the client closes: closing with unread data resets the connection and may take the
        response with it (RFC 9112 section 9.6)."""
        if not isinstance(self._stream, trio.abc.HalfCloseableStream):
            return
        with trio.move_on_after(self._limits.close_timeout), contextlib.suppress(trio.BrokenResourceError):
            await self._stream.send_eof()
            while await self._stream.receive_some(self._limits.http_head):
                pass


def _refusal(status: int, text: str) -> _Refused:
    return _Refused(Ending.HTTP_REFUSED, Response.text(status, text))
