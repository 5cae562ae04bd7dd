"""The WebSocket opening handshake (RFC 6455 section 4), both roles, as functions of HTTP heads."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Final

from ..exceptions import HandshakeError
from ..wire.urls import WebSocketUrl
from .routes import Headers, Request, Response, header_tokens, header_value

__all__ = [
    "SUBPROTOCOL",
    "Acceptance",
    "accept_upgrade",
    "check_accepted",
    "is_key",
    "is_upgrade",
    "switch_protocols",
    "upgrade_headers",
]

SUBPROTOCOL: Final = "trio-relay.1"
"""Names the overlay's link protocol in Sec-WebSocket-Protocol."""

MAGIC: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""RFC 6455 section 1.3."""

_SWITCHING: Final = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
_ECHO: Final = f"sec-websocket-protocol: {SUBPROTOCOL}\r\n".encode("ascii")


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What a good upgrade request is answered with.

    Attributes:
        headers: of the 101 response.
        offered_subprotocol: whether the request named `SUBPROTOCOL`, which the headers then echo.
    """

    headers: Headers
    offered_subprotocol: bool


def is_upgrade(request: Request) -> bool:
    """Whether the client asks for a WebSocket; other protocols in Upgrade are ignored (RFC 9110 section 7.8)."""
    return _has_token(request.headers, b"upgrade", "websocket")


def accept_upgrade(request: Request, http_version: bytes) -> Acceptance | Response:
    """Checks an upgrade request (RFC 6455 section 4.2.1); a `Response` is a refusal."""
    if request.method != "GET" or http_version != b"1.1":
        return Response.text(400, f"expected GET with HTTP/1.1, not {request.method}")
    if not _has_token(request.headers, b"connection", "upgrade"):
        return Response.text(400, "expected the token upgrade in the Connection header")
    if request.header(b"sec-websocket-version") != b"13":
        wanted = ((b"upgrade", b"websocket"), (b"sec-websocket-version", b"13"))
        return Response.text(426, "expected Sec-WebSocket-Version 13", wanted)
    key = request.header(b"sec-websocket-key") or b""
    if not is_key(key):
        return Response.text(400, "expected 16 bytes of base64 in Sec-WebSocket-Key")
    headers: Headers = (
        (b"upgrade", b"websocket"),
        (b"connection", b"Upgrade"),
        (b"sec-websocket-accept", _accept_token(key)),
    )
    offered = SUBPROTOCOL in header_tokens(request.headers, b"sec-websocket-protocol")
    if offered:
        headers = (*headers, (b"sec-websocket-protocol", SUBPROTOCOL.encode("ascii")))
    return Acceptance(headers, offered)


def switch_protocols(key: bytes, offered_subprotocol: bool) -> bytes:
    """The head of a 101 response with the headers of `accept_upgrade`."""
    accepted = b"sec-websocket-accept: %b\r\n" % _accept_token(key)
    return b"".join((_SWITCHING, accepted, _ECHO if offered_subprotocol else b"", b"\r\n"))


def upgrade_headers(url: WebSocketUrl, key: bytes, *, subprotocol: str | None) -> Headers:
    """The headers of an upgrade request; `key` is 16 random bytes."""
    headers = (
        (b"host", url.host_header.encode("ascii")),
        (b"upgrade", b"websocket"),
        (b"connection", b"Upgrade"),
        (b"sec-websocket-key", base64.b64encode(key)),
        (b"sec-websocket-version", b"13"),
    )
    if subprotocol is not None:
        return (*headers, (b"sec-websocket-protocol", subprotocol.encode("ascii")))
    return headers


def check_accepted(status: int, headers: Headers, key: bytes, *, subprotocol: str | None) -> bool:
    """Checks what a server answered to `upgrade_headers` (RFC 6455 section 4.1).

    Returns:
        Whether it echoed the subprotocol.

    Raises:
        HandshakeError: it did not switch protocols, or not as it was asked to; redirects are not followed.
    """
    if status != 101:
        raise HandshakeError(f"expected 101 switching protocols, not {status}", status)
    if not (_has_token(headers, b"upgrade", "websocket") and _has_token(headers, b"connection", "upgrade")):
        raise HandshakeError("expected an upgrade to websocket in the answer")
    if header_value(headers, b"sec-websocket-accept") != _accept_token(base64.b64encode(key)):
        raise HandshakeError("expected the answer to our Sec-WebSocket-Key, got another one")
    if header_value(headers, b"sec-websocket-extensions"):
        raise HandshakeError("expected no extensions, got some that were not asked for")
    chosen = header_value(headers, b"sec-websocket-protocol")
    if chosen is not None and chosen.decode("latin-1") != subprotocol:
        raise HandshakeError(f"expected no other subprotocol than was offered, got {chosen.decode('latin-1')!r}")
    return chosen is not None


def is_key(key: bytes) -> bool:
    """Whether it may be a Sec-WebSocket-Key: 16 bytes of base64."""
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        return False


def _accept_token(key: bytes) -> bytes:
    return base64.b64encode(hashlib.sha1(key + MAGIC, usedforsecurity=False).digest())


def _has_token(headers: Headers, name: bytes, token: str) -> bool:
    return any(member.lower() == token for member in header_tokens(headers, name))
