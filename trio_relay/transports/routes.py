"""What one port serves: requests, responses, and which route a path belongs to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Self, TypeAlias

import trio

from .connection import Connection

__all__ = [
    "NO_BODY",
    "Body",
    "BodyIncomplete",
    "BodyTooLarge",
    "Check",
    "Guard",
    "Handler",
    "Headers",
    "Request",
    "Responder",
    "Response",
    "Route",
    "RouteTable",
    "Sender",
    "Streamed",
    "header_tokens",
    "header_value",
    "split_target",
]

Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]


def header_value(headers: Headers, name: bytes) -> bytes | None:
    """The value of a header (lower-case name), several joined by commas (RFC 9110 section 5.3); None: absent."""
    values = [value for key, value in headers if key == name]
    return b", ".join(values) if values else None


def header_tokens(headers: Headers, name: bytes) -> list[str]:
    """The comma-separated members of a header, as they were written."""
    members = (header_value(headers, name) or b"").decode("latin-1").split(",")
    return [stripped for member in members if (stripped := member.strip())]


class BodyTooLarge(Exception):
    """A request body has more bytes than the responder takes; one that lets this pass has 413 sent for it.

    Attributes:
        most: bytes that it takes.
    """

    def __init__(self, most: int) -> None:
        super().__init__(f"expected a body of at most {most} bytes")
        self.most: Final = most


class BodyIncomplete(Exception):
    """The rest of a request body will not come: the client was too slow, went away, or broke the rules of HTTP.

    A responder lets this pass, as it is or in a group: the client is then told what it did wrong, and nothing is
    logged."""


PieceSource: TypeAlias = Callable[[], Awaitable[bytes]]
"""Gives the next bytes of a body, and none at its end."""


class Body:
    """The body of one request, read as it comes, by one task and within the call of the responder.

    Async iteration gives its pieces; neither it nor `read` gives a byte twice. A client that waits for ``100
    Continue`` is sent it at the first read. What is never read is not kept: see `Route.respond`.

    Attributes:
        length: the bytes that were announced; None: they were not (chunked).
    """

    __slots__ = ("_given", "_source", "length")

    def __init__(self, length: int | None = 0, source: PieceSource | None = None) -> None:
        self.length: Final = length
        self._source = source
        self._given = 0

    @classmethod
    def of(cls, data: bytes) -> Self:
        """A body that is all there, for requests that came over no network."""
        pieces = iter([data, b""])

        async def source() -> bytes:
            return next(pieces)

        return cls(len(data), source)

    async def read(self, most: int) -> bytes:
        """The rest of the body; nothing of a longer one is kept.

        Raises:
            BodyTooLarge: more than `most` bytes were announced, or came.
            BodyIncomplete: the rest will not come; iteration raises it, too.
            trio.ClosedResourceError: the request was answered already; iteration raises it, too.
        """
        if self.length is not None and self.length - self._given > most:
            raise BodyTooLarge(most)
        data = bytearray()
        async for piece in self:
            if len(data) + len(piece) > most:
                raise BodyTooLarge(most)
            data += piece
        return bytes(data)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        piece = b"" if self._source is None else await self._source()
        if not piece:
            self._source = None
            raise StopAsyncIteration
        self._given += len(piece)
        return piece

    def end(self) -> None:
        """The request was answered: the rest can not be read any more. For servers."""
        if self._source is not None:
            self._source = _read_too_late


async def _read_too_late() -> bytes:
    raise trio.ClosedResourceError("this request was answered: its body can not be read any more")


NO_BODY: Final = Body()
"""Has nothing that could change, so one is enough for all requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The head of one HTTP request, and the way to its body.

    Attributes:
        method: as sent, for example ``"GET"``.
        target: the request target as sent (RFC 9112 section 3.2).
        path: its path, percent encoding kept.
        query: what follows the question mark, or ``""``.
        headers: lower-case names and values, in order.
        remote: the client's ``host:port``.
        local: ours.
        secure: whether it came over TLS.
        since: when its time began, Trio's clock: when the connection was accepted, or the last response was sent.
        body: what follows the head; an upgrade has none.
    """

    method: str
    # Queries and headers may hold keys.
    target: str = field(repr=False)
    path: str
    query: str = field(repr=False)
    headers: Headers = field(default=(), repr=False)
    remote: str = ""
    local: str = ""
    secure: bool = False
    since: float = 0.0
    body: Body = field(default=NO_BODY, repr=False, compare=False)

    def header(self, name: bytes) -> bytes | None:
        """The value of a header, several joined by commas; None when it is absent."""
        return header_value(self.headers, name)


@dataclass(frozen=True, slots=True)
class Response:
    """A whole response; the server adds Date, Content-Length and, at the end of a connection, Connection.

    The statuses 204 and 304 are sent without a body and a Content-Length (RFC 9110 section 8.6).
    """

    status: int
    body: bytes = b""
    headers: Headers = ()

    @classmethod
    def text(cls, status: int, text: str, headers: Headers = ()) -> Response:
        """A response of plain UTF-8 text."""
        return cls.typed(status, text.encode(), "text/plain; charset=utf-8", headers)

    @classmethod
    def typed(cls, status: int, body: bytes, content_type: str, headers: Headers = ()) -> Response:
        """A response whose body has a media type."""
        return cls(status, body, ((b"content-type", content_type.encode("ascii")), *headers))


Sender: TypeAlias = Callable[[bytes], Awaitable[None]]
"""Sends a piece of a body, and returns when it is written."""


@dataclass(frozen=True, slots=True)
class Streamed:
    """A response whose body is made while it is sent, which may go on for ever; head and body as of `Response`.

    Attributes:
        make: is given a function that sends pieces, and returns the last one, which may be empty. It is cancelled when
            the client has gone away, and ends with an error if the client does not take a piece within
            `Limits.http_timeout`. Nothing is sent before the first piece; if that is the last one, the response
            has a Content-Length like others. What it raises cuts the response off, or is answered with 500. It is not
            called for HEAD.
        held: whether the connection has not to make room for a stranger's meanwhile.
        ended: called at the end: the rest was sent, too, or will not be.
    """

    status: int
    make: Callable[[Sender], Awaitable[bytes]]
    headers: Headers = ()
    held: bool = False
    ended: Callable[[], None] = field(default=lambda: None)


Responder: TypeAlias = Callable[[Request], Awaitable["Response | Streamed"]]
Guard: TypeAlias = Callable[[Request], Awaitable[Response | None]]
"""Asked before an upgrade is accepted; a response refuses it."""
Check: TypeAlias = Callable[[Request], Response | None]
"""A guard that needs not wait."""
Handler: TypeAlias = Callable[[Connection, "Request | None"], Awaitable[None]]
"""Runs for one accepted connection, inside that connection's own task; it is closed when this returns.

The request is None where there was none (memory transport)."""


@dataclass(frozen=True, slots=True)
class Route:
    """Who answers for a part of the paths; at least one of `respond` and `upgrade` is given.

    Attributes:
        prefix: ``/``, or whole path segments without a slash at the end: ``/blob`` is for ``/blob`` and
            ``/blob/x``, not for ``/blobs``.
        respond: answers requests of every method, OPTIONS included. An exception that it raises is logged and
            answered with 500. What it leaves unread of a body is received and thrown away before its answer is sent,
            `Limits.read_size` bytes at most; where there is more, or where the rest does not come in time, the answer
            is the last one of the connection. It is not received at all if the client waits for ``100 Continue``.
        upgrade: takes WebSocket connections.
        subtree: for the prefix ``/`` alone: whether it owns every path that no other route owns, instead of ``/``
            only.
        max_message: bytes in one received WebSocket message; None: `Limits.websocket_message`.
        guard: decides on each upgrade that is well formed before it is answered. A response that it returns is
            sent instead of 101, and ends the connection. The decision has to be there before
            `Limits.handshake_timeout` is over, counted from `Request.since` (else 503). An exception refuses, too,
            like one of `respond`. Where there are no requests (memory transport), nothing is served behind a guard or
            a check.
        check: like `guard`, and asked before it, but it has its answer at once. It may be asked twice.
        speaks_first: whether `upgrade` sends something, or receives, before it waits for anything else. What it sends
            first then leaves together with the 101 response, where the connection is direct.
        raw: whether text messages are given to `upgrade` as bytes that nobody checked to be UTF-8; only of
            WebSockets.

    Raises:
        ValueError: the prefix is not of that form, or nothing is served.
    """

    prefix: str
    respond: Responder | None = None
    upgrade: Handler | None = None
    subtree: bool = field(default=False, kw_only=True)
    max_message: int | None = field(default=None, kw_only=True)
    guard: Guard | None = field(default=None, kw_only=True)
    check: Check | None = field(default=None, kw_only=True)
    speaks_first: bool = field(default=False, kw_only=True)
    raw: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if not self.prefix.startswith("/") or (self.prefix != "/" and self.prefix.endswith("/")):
            raise ValueError(f"expected a route prefix like / or /name, not {self.prefix!r}")
        if self.respond is None and self.upgrade is None:
            raise ValueError(f"route {self.prefix} serves neither requests nor upgrades")

    def owns(self, path: str) -> bool:
        """Whether `path` is the prefix or below it."""
        if self.prefix == "/":
            return self.subtree or path == "/"
        return path == self.prefix or path.startswith(self.prefix + "/")


class RouteTable:
    """Routes by prefix; the longest one that covers a path wins, and ``/`` alone comes before its subtree.

    Nobody else is asked: a path whose owner takes no upgrades takes none, and neither does a route that answers no
    requests leave them to another.

    Raises:
        ValueError: two routes own the same paths.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        owners: dict[tuple[str, bool], Route] = {}
        for route in routes:
            owned = route.prefix, route.prefix == "/" and route.subtree
            if owned in owners:
                raise ValueError(f"two routes own the path {route.prefix}")
            owners[owned] = route
        self._routes = [owners[owned] for owned in sorted(owners, key=lambda owned: (-len(owned[0]), owned[1]))]

    def find(self, path: str) -> Route | None:
        """The route that owns `path`."""
        return next((route for route in self._routes if route.owns(path)), None)


def split_target(target: str) -> tuple[str, str]:
    """Path and query of a request target in origin or absolute form (RFC 9112 section 3.2).

    Raises:
        ValueError: it has neither form, nor is it ``*``.
    """
    if not target.startswith("/") and target != "*":
        scheme, separator, rest = target.partition("://")
        if not separator or scheme.lower() not in ("http", "https", "ws", "wss"):
            raise ValueError(f"expected a path, not {target[:80]!r}")
        end = min((rest.find(mark) for mark in "/?" if mark in rest), default=len(rest))
        target = rest[end:] if rest[end : end + 1] == "/" else "/" + rest[end:]
    path, _, query = target.partition("?")
    return path, query
