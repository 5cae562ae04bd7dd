"""Who asks: the origin of a page, the address of a client, and what it has to show. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from ...serving.client_address import client_ip, parse_networks, rate_name
from ...transports.routes import Headers, Request

__all__ = ["Access"]

_COOKIE: Final = "mercureAuthorization"
_BEARER: Final = "bearer "
_MAX_AGE: Final = b"600"
"""Seconds for which a browser need not ask again what it may ask for."""


class Access:
    """What the rules of one hub make of a request.

    Args:
        origins: whose pages may use the hub; None: all.
        trusted_proxies: networks whose X-Forwarded-For is believed.
    """

    def __init__(self, origins: Sequence[str] | None, trusted_proxies: Sequence[str]) -> None:
        self._origins: Final = None if origins is None else frozenset(origins)
        self.networks: Final = parse_networks(trusted_proxies)

    def crowd(self, request: Request) -> str:
        """What limits per IP address count a client under."""
        return rate_name(client_ip(request.remote, request.header(b"x-forwarded-for"), self.networks))

    def admits(self, request: Request) -> bool:
        """Whether a request comes from a page that may use the hub, or from no page."""
        origin = _text(request, b"origin")
        return origin is None or self._origins is None or origin in self._origins

    def cors(self, request: Request) -> Headers:
        """What allows a page to read the answer."""
        origin = request.header(b"origin")
        vary = ((b"vary", b"Origin"),)
        if origin is None or not self.admits(request):
            return vary
        return (
            (b"access-control-allow-origin", origin),
            # Harmless: a cookie counts only for pages that `cookie` trusts.
            (b"access-control-allow-credentials", b"true"),
            *vary,
        )

    def preflight(self, request: Request, methods: bytes) -> Headers:
        """The headers that answer OPTIONS."""
        wanted = request.header(b"access-control-request-headers")
        return (
            *self.cors(request),
            (b"access-control-allow-methods", methods),
            *(((b"access-control-allow-headers", wanted),) if wanted else ()),
            (b"access-control-max-age", _MAX_AGE),
        )

    def token(self, request: Request, in_query: str | None) -> str | None:
        """What a request has to show: in the header Authorization, in its query, or in a cookie; None: nothing."""
        header = _text(request, b"authorization")
        if header is not None:
            # Of another scheme is as good as none.
            return header[len(_BEARER) :].strip() if header[: len(_BEARER)].lower() == _BEARER else None
        return in_query if in_query is not None else self._cookie(request)

    def _cookie(self, request: Request) -> str | None:
        """The cookie, if it is sure that the page that asks is meant to use it.

        A browser sends a cookie whichever page asks. So that page has to be of the hub's own host, or be named in the
        configuration; where nothing tells which page asks, only reading is possible.
        """
        origin = _text(request, b"origin")
        if origin is None:
            referer = _text(request, b"referer")
            origin = None if referer is None else _origin_of(referer)
            if origin is None and (referer is not None or request.method != "GET"):
                return None
        if origin is not None and not (_is_own(request, origin) or origin in (self._origins or ())):
            return None
        for part in (_text(request, b"cookie") or "").replace(",", ";").split(";"):
            name, _, value = part.strip().partition("=")
            if name == _COOKIE:
                return value.strip('"') or None
        return None


def _text(request: Request, name: bytes) -> str | None:
    value = request.header(name)
    return None if value is None else value.decode("latin-1")


def _origin_of(url: str) -> str | None:
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return f"{parts.scheme}://{parts.netloc}" if parts.scheme and parts.netloc else None


def _is_own(request: Request, origin: str) -> bool:
    """Whether a page is of the host that it asks."""
    host = _text(request, b"host")
    _, separator, rest = origin.partition("://")
    return bool(separator) and host is not None and rest.lower() == host.lower()
