"""The server's side of HTTP/1.1 on one stream (RFC 9112): requests until the end, or until one becomes a WebSocket.

Every wait has a deadline and every size a bound. What is not HTTP is answered with a status, never with a
traceback.
"""

from __future__ import annotations

import contextlib
import email.utils
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Final, NamedTuple

import h11
import trio

from ..limits import Limits
from .admission import Ending, TransportStatistics
from .requests import Refused, RequestReader, refusal
from .routes import (
    BodyIncomplete,
    BodyTooLarge,
    Handler,
    Headers,
    Request,
    Responder,
    Response,
    Route,
    RouteTable,
    Streamed,
)
from .streaming import Streaming
from .upgrade import accept_upgrade, is_upgrade
from .usual_upgrade import read_usual_upgrade

__all__ = ["Conversation", "Upgrade", "upgrade_at_once"]

logger = logging.getLogger("trio_relay.http")

BODILESS: Final = frozenset({204, 304})
LAST: Final[Headers] = ((b"connection", b"close"),)
UPGRADE_REQUIRED: Final = Response.typed(426, b"Upgrade Required", "text/plain", ((b"upgrade", b"websocket"),))


class Upgrade(NamedTuple):
    """A request that was answered with 101; the stream is a WebSocket from there on.

    Attributes:
        route: whose `Route.upgrade` it is for.
        received: bytes that followed the request.
        answer: what is to be sent before anything else.
    """

    route: Route
    handler: Handler
    request: Request
    offered_subprotocol: bool
    received: bytes
    answer: bytes = b""


def upgrade_at_once(
    data: bytes, table: RouteTable, limits: Limits, addresses: tuple[str, str], since: float
) -> Upgrade | None:
    """The upgrade that was asked for in a usual way, over plain TCP, and that nothing speaks against.

    Returns:
        What `Conversation.run` would have returned, but that `Upgrade.answer` was not sent. None: it is for a
        `Conversation` to decide, which is given the same data, and asks again.
    """
    found = read_usual_upgrade(data, limits.http_head)
    if found is None:
        return None
    path, _, query = found.target.partition("?")
    route = table.find(path)
    if route is None or route.upgrade is None or route.guard is not None:
        return None
    request = Request(
        method="GET",
        target=found.target,
        path=path,
        query=query,
        headers=found.headers,
        remote=addresses[0],
        local=addresses[1],
        since=since,
    )
    try:
        if route.check is not None and route.check(request) is not None:
            return None
    except Exception:
        return None
    return Upgrade(route, route.upgrade, request, found.offered_subprotocol, found.received, found.answer)


class Conversation:
    """HTTP/1.1 with one client.

    It has `http_timeout` for each head, for each response, and for bodies what `RequestReader` says; when it is done,
    `close_timeout` to close. What it sends is kept only as far as somebody reads it: one head, one piece of a body.
    Responders take the time that they take.

    Args:
        stream: stays the caller's: `run` does not close it.
        table: the routes.
        since: when the connection was accepted; default: now.
        addresses, received: see `RequestReader`.
        held: for the time of a block, the connection has not to make room for others.
        limits: `http_head`, `http_timeout`, `handshake_timeout`, `close_timeout` and `read_size` are read.

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
        addresses: tuple[str, str] | None = None,
        received: bytes | None = None,
        held: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        self._since = trio.current_time() if since is None else since
        self._stream = stream
        self._table = table
        self._limits = limits
        self._statistics = statistics
        self._reader = RequestReader(stream, limits=limits, secure=secure, addresses=addresses, received=received)
        self._http = self._reader.http
        self._answered = False
        self._held = held

    async def run(self) -> Upgrade | None:
        """Answers requests; returns the upgrade that was accepted, or None when the stream is to be closed.

        Raises:
            trio.BrokenResourceError: the stream broke.
            trio.ClosedResourceError: it was closed on our side.
        """
        try:
            while (request := await self._next_request()) is not None:
                self._statistics.requests += 1
                if is_upgrade(request):
                    return await self._upgrade(request)
                response = await self._answer(request)
                extra = () if await self._drain() else LAST
                if isinstance(response, Streamed):
                    if not await self._send_streamed(response, extra):
                        return None
                else:
                    await self._send(response, extra=extra)
                self._answered = True
                self._since = trio.current_time()
                if not (self._http.our_state is self._http.their_state is h11.DONE):
                    break
                self._http.start_next_cycle()
        except Refused as refused:
            self._statistics.count(refused.ending)
            if refused.response is None:
                return None
            await self._send_last(refused.response)
        await self._linger()
        return None

    async def _next_request(self) -> Request | None:
        """The next request; None at the end of the stream, or of the client's time."""
        with trio.move_on_at(self._since + self._limits.http_timeout):
            return await self._reader.read(self._since)
        if self._answered and self._http.their_state is h11.IDLE and not self._http.trailing_data[0]:
            return None
        raise Refused(Ending.HTTP_TIMEOUT, Response.text(408, "no complete request in time"))

    # Requests

    async def _answer(self, request: Request) -> Response | Streamed:
        if request.method == "CONNECT":
            raise refusal(400, "expected a method other than CONNECT: this is no proxy")
        route = self._table.find(request.path)
        if route is None:
            return Response.text(404, "Not Found")
        if route.respond is None:
            return UPGRADE_REQUIRED
        return await self._ask(route.respond, request)

    async def _ask(self, respond: Responder, request: Request) -> Response | Streamed:
        """What a responder answers, or what is answered in its place."""
        try:
            return await respond(request)
        except Exception as error:
            if _find(error, BodyIncomplete) is not None and self._reader.failure is not None:
                raise self._reader.failure from None
            if (too_large := _find(error, BodyTooLarge)) is not None:
                raise refusal(413, str(too_large)) from error
            return self._report_failure()
        finally:
            request.body.end()

    async def _drain(self) -> bool:
        """Whether a request may follow; the answer to this one goes out in any case."""
        try:
            return await self._reader.drain()
        except Refused as refused:
            self._statistics.count(refused.ending)
            return False

    def _report_failure(self, error: Exception | None = None) -> Response:
        """Logs an exception of a route's code, or the one that is being handled; without the query of the request,
        which may hold a key."""
        self._statistics.count(Ending.RESPONDER_FAILED)
        what = "could not answer %.20s %.200s"
        logger.error(what, self._reader.method, self._reader.path, exc_info=True if error is None else error)
        return Response.text(500, "Internal Server Error")

    # Upgrades

    async def _upgrade(self, request: Request) -> Upgrade:
        route = self._table.find(request.path)
        if route is None or route.upgrade is None:
            raise _no_upgrade(Response.text(400, "no WebSocket is served at this path"))
        accepted = accept_upgrade(request, self._http.their_http_version or b"")
        if isinstance(accepted, Response):
            raise _no_upgrade(accepted)
        if request.body.length != 0:
            raise _no_upgrade(Response.text(400, "expected an upgrade without a body"))
        await self._pass(route, request)
        event = h11.InformationalResponse(
            status_code=101, headers=list(accepted.headers), reason=b"Switching Protocols"
        )
        await self._reader.write(self._http.send(event) or b"")
        return Upgrade(route, route.upgrade, request, accepted.offered_subprotocol, self._http.trailing_data[0])

    async def _pass(self, route: Route, request: Request) -> None:
        """Returns when check and guard let the client pass; raises `Refused` if they do not, or not in time."""
        answer = None
        # Around the deadline: a guard may fail when it is cut off.
        try:
            if route.check is not None:
                answer = route.check(request)
            if route.guard is not None and answer is None:
                answer = Response.text(503, "no decision on this upgrade in time")
                with trio.move_on_at(self._since + self._limits.handshake_timeout):
                    answer = await route.guard(request)
        except Exception:
            answer = self._report_failure()
        if answer is not None:
            raise _no_upgrade(answer)

    # Responses

    async def _send(self, response: Response, *, extra: Headers = ()) -> None:
        try:
            head = _compose(response, extra)
        except Exception:  # it is no response, or its status or headers may not be sent
            response = self._report_failure()
            head = _compose(response, extra)
        data = self._http.send(head) or b""
        if response.body and self._reader.method != "HEAD" and response.status not in BODILESS:
            data += self._http.send(h11.Data(data=response.body)) or b""
        data += self._http.send(h11.EndOfMessage()) or b""
        await self._reader.write(data)

    async def _send_streamed(self, response: Streamed, extra: Headers) -> bool:
        """Whether the whole response was sent: if not, the client is gone, or has to learn that it was cut off."""
        head = partial(_compose_head, response, extra)
        streaming = Streaming(self._stream, self._reader, head, self._limits.http_head)
        try:
            if self._reader.method != "HEAD" and response.status not in BODILESS:
                with self._held() if response.held else contextlib.nullcontext():
                    await streaming.run(response)
            if streaming.gone:
                return False
            if streaming.failure is not None:
                answer = self._report_failure(streaming.failure)
                if streaming.began:
                    return False
                await self._send(answer, extra=LAST)
            else:
                await streaming.finish()
            return True
        finally:
            response.ended()

    async def _send_last(self, response: Response) -> None:
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            with contextlib.suppress(Refused, trio.BrokenResourceError):
                await self._send(response, extra=LAST)

    async def _linger(self) -> None:
        """Reads on until the client closes: closing with unread data resets the connection and may take the
        response with it (RFC 9112 section 9.6)."""
        with trio.move_on_after(self._limits.close_timeout), contextlib.suppress(trio.BrokenResourceError):
            if isinstance(self._stream, trio.abc.HalfCloseableStream):
                await self._stream.send_eof()
            elif self._http.their_state not in (h11.SEND_BODY, h11.ERROR):
                return  # TLS, and there is nothing that is unread
            while await self._stream.receive_some(self._limits.http_head):
                pass


def _no_upgrade(response: Response) -> Refused:
    return Refused(Ending.UPGRADE_REFUSED, response)


def _find(error: Exception, kind: type[Exception]) -> Exception | None:
    """The first error of that kind: `error` itself, or one in it as in a group."""
    if isinstance(error, ExceptionGroup):
        return next((found for inner in error.exceptions if (found := _find(inner, kind)) is not None), None)
    return error if isinstance(error, kind) else None


def _compose(response: Response, extra: Headers) -> h11.Response:
    """The head of a response; raises whatever shows that it can not be sent."""
    if not isinstance(response.body, bytes | bytearray | memoryview):
        raise TypeError(f"expected bytes as the body of a response, not {type(response.body).__name__}")
    return _compose_head(response, extra, len(response.body))


def _compose_head(response: Response | Streamed, extra: Headers, length: int | None) -> h11.Response:
    headers = [*response.headers, *extra, (b"date", email.utils.formatdate(usegmt=True).encode("ascii"))]
    if response.status not in BODILESS and length is not None:
        headers.append((b"content-length", b"%d" % length))
    return h11.Response(status_code=response.status, headers=headers)
