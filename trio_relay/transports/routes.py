"""What one port serves: requests, responses, and which route a path belongs to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from .connection import Connection

__all__ = [
    "Handler",
    "Headers",
    "Request",
    "Responder",
    "Response",
    "Route",
    "RouteTable",
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The head of one HTTP request.

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
    """

    method: str
    target: str
    path: str
    query: str
    headers: Headers = ()
    remote: str = ""
    local: str = ""
    secure: bool = False
    since: float = 0.0

    def header(self, name: bytes) -> bytes | None:
        """The value of a header, several joined by commas; None when it is absent."""
        return header_value(self.headers, name)


@dataclass(frozen=True, slots=True)
class Response:
    """A whole response; the server adds Date, Content-Length and, at the end of a connection, Connection."""

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


Responder: TypeAlias = Callable[[Request], Awaitable[Response]]
Handler: TypeAlias = Callable[[Connection, "Request | None"], Awaitable[None]]
"""Runs for one accepted connection, inside that connection's own task; it is closed when this returns.

The request is None where there was none (memory transport)."""


@dataclass(frozen=True, slots=True)
class Route:
    """Who answers for a part of the paths; at least one of `respond` and `upgrade` is given.

    Attributes:
        prefix: ``/``, or whole path segments without a slash at the end: ``/blob`` is for ``/blob`` and
            ``/blob/x``, not for ``/blobs``.
        respond: answers requests of every method, OPTIONS included; bodies of requests are not passed on.
        upgrade: takes WebSocket connections.
        subtree: for the prefix ``/`` alone: whether it owns every path instead of ``/`` only.
        max_message: bytes in one received WebSocket message; None: `Limits.websocket_message`.

    Raises:
        ValueError: the prefix is not of that form, or nothing is served.
    """

    prefix: str
    respond: Responder | None = None
    upgrade: Handler | None = None
    subtree: bool = field(default=False, kw_only=True)
    max_message: int | None = field(default=None, kw_only=True)

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
    """Routes by prefix; the longest one that covers a path wins.

    Raises:
        ValueError: two routes have the same prefix.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        owners: dict[str, Route] = {}
        for route in routes:
            if route.prefix in owners:
                raise ValueError(f"two routes own the path {route.prefix}")
            owners[route.prefix] = route
        self._routes = sorted(owners.values(), key=lambda route: len(route.prefix), reverse=True)

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
