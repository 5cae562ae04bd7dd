"""Dialling: resolve, filter, connect, secure; and of a WebSocket, upgrade."""

from __future__ import annotations

import functools
import os
import socket
import ssl
from collections.abc import Callable
from typing import Any, TypeAlias

import h11
import trio

from ..exceptions import HandshakeError
from ..limits import Limits
from ..wire.urls import WebSocketUrl, parse_ws_url
from ..wire.websocket import Role
from .routes import Headers
from .streams import check_tls, close_now
from .upgrade import SUBPROTOCOL, check_accepted, upgrade_headers
from .websocket import WebSocketConnection

__all__ = ["AllowAddress", "TlsUnavailable", "dial_stream", "dial_websocket", "secure_stream"]

AllowAddress: TypeAlias = Callable[[str], bool]
"""Whether an IP address, as text, may be dialled."""

NEXT_ATTEMPT = 0.25
"""Seconds before the next address is tried beside one that does not answer (RFC 8305 section 5)."""

ResolvedAddress: TypeAlias = tuple[int, int, int, tuple[Any, ...]]


class TlsUnavailable(HandshakeError):
    """TLS could not be had: the certificate is not trusted, or the other side speaks no TLS."""


async def dial_websocket(
    url: str,
    *,
    limits: Limits,
    ssl_context: ssl.SSLContext | None = None,
    subprotocol: str | bool = True,
    allow_address: AllowAddress | None = None,
    max_message: int | None = None,
    more_headers: Headers = (),
) -> WebSocketConnection:
    """Opens a WebSocket. The caller sets the deadline; a cancelled call leaves no socket behind.

    Args:
        url: ``ws://…`` or ``wss://…``; redirects are not followed.
        limits: the bounds on heads and messages.
        ssl_context: for ``wss``; default: the system's authorities.
        subprotocol: what is offered: True is ours, False nothing.
        allow_address: asked for every address that the host resolves to, so that a name cannot lead into a
            network that its giver has no business in; default: all are allowed.
        max_message: bytes in one received message, instead of `Limits.websocket_message`.
        more_headers: of the request, behind those of the handshake.

    Raises:
        ValueError: `url` is not a WebSocket URL, or the context would speak less than TLS 1.2.
        OSError: the host cannot be resolved or reached.
        HandshakeError: no address is allowed, TLS failed, or the other side did not accept the upgrade.
    """
    target = parse_ws_url(url)
    offered = subprotocol if isinstance(subprotocol, str) else SUBPROTOCOL if subprotocol else None
    stream = await dial_stream(target, limits=limits, ssl_context=ssl_context, allow_address=allow_address)
    try:
        echoed, received = await _upgrade(stream, target, limits, offered, more_headers)
        return WebSocketConnection(
            stream,
            Role.CLIENT,
            limits=limits,
            offered_subprotocol=echoed,
            received=received,
            max_message=max_message,
        )
    except trio.BrokenResourceError as error:
        close_now(stream)
        raise HandshakeError(f"{target.authority} broke the connection during the handshake") from error
    except BaseException:
        close_now(stream)
        raise


async def dial_stream(
    target: WebSocketUrl,
    *,
    limits: Limits,
    ssl_context: ssl.SSLContext | None = None,
    allow_address: AllowAddress | None = None,
) -> trio.abc.Stream:
    """Opens a TCP connection, secured where the URL says so; what is said over it is the caller's.

    The caller sets the deadline; a cancelled call leaves no socket behind. Arguments are those of `dial_websocket`.

    Raises:
        ValueError: the context would speak less than TLS 1.2.
        OSError: the host cannot be resolved or reached.
        HandshakeError: no address is allowed, or the connection broke.
        TlsUnavailable: TLS could not be had.
    """
    context = (ssl_context or _default_context()) if target.secure else None
    if context is not None:
        check_tls(context)
    stream = await _connect(target, allow_address, attempts=limits.dials)
    if context is None:
        return stream
    return await secure_stream(stream, target, context)


async def secure_stream(
    stream: trio.abc.Stream, target: WebSocketUrl, ssl_context: ssl.SSLContext | None = None
) -> trio.abc.Stream:
    """Speaks TLS over a connection to the host of `target`; one that fails is closed. The caller sets the deadline.

    Raises:
        ValueError: the context would speak less than TLS 1.2.
        HandshakeError: the connection broke.
        TlsUnavailable: TLS could not be had.
    """
    try:
        context = ssl_context or _default_context()
        check_tls(context)
        return await _secure(stream, target, context)
    except BaseException:
        close_now(stream)
        raise


@functools.cache
def _default_context() -> ssl.SSLContext:
    # Loading the system's authorities takes tens of milliseconds.
    return ssl.create_default_context()


async def _connect(target: WebSocketUrl, allow: AllowAddress | None, *, attempts: int) -> trio.SocketStream:
    """Connects to the first of the allowed addresses that answers (RFC 8305).

    The addresses are filtered after they were resolved and connected to as they were resolved: no second
    look-up can give others.
    """
    found = await trio.socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    allowed: list[ResolvedAddress] = [
        (family, kind, protocol, address)
        for family, kind, protocol, _, address in found
        if allow is None or allow(str(address[0]))
    ]
    if not allowed:
        addresses = ", ".join(sorted({str(entry[4][0]) for entry in found}))
        raise HandshakeError(f"dialling {target.authority} is not allowed: it is at {addresses}")
    winner = await _race(allowed[:attempts], target.authority)
    return trio.SocketStream(winner)


async def _race(addresses: list[ResolvedAddress], authority: str) -> trio.socket.SocketType:
    """The first socket that connects; all others are closed, at cancellation too."""
    opened: set[trio.socket.SocketType] = set()
    winner: trio.socket.SocketType | None = None
    errors: list[OSError] = []

    async def attempt(address: ResolvedAddress, failed: trio.Event) -> None:
        nonlocal winner
        try:
            candidate = trio.socket.socket(*address[:3])
            opened.add(candidate)
            await candidate.connect(address[3])
        except OSError as error:
            errors.append(error)
            failed.set()
        else:
            winner = winner or candidate
            nursery.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            for address in addresses:
                failed = trio.Event()
                nursery.start_soon(attempt, address, failed)
                with trio.move_on_after(NEXT_ATTEMPT):
                    await failed.wait()
        if winner is None:
            code = errors[0].errno
            reason = str(errors[0]) if code is None else os.strerror(code)
            raise OSError(code, f"cannot connect to {authority}: {reason}") from errors[0]
        opened.discard(winner)
        return winner
    finally:
        for left_over in opened:
            left_over.close()


async def _secure(stream: trio.abc.Stream, target: WebSocketUrl, context: ssl.SSLContext) -> trio.abc.Stream:
    secured = trio.SSLStream(stream, context, server_hostname=target.host, https_compatible=True)
    try:
        await secured.do_handshake()
    except trio.BrokenResourceError as error:
        cause = error.__cause__
        if isinstance(cause, ssl.SSLCertVerificationError):
            reason = cause.verify_message.rstrip(".")
            raise TlsUnavailable(f"certificate of {target.authority} not trusted: {reason}") from error
        if isinstance(cause, ssl.SSLError):
            raise TlsUnavailable(f"no TLS with {target.authority}: {cause.reason or 'connection broken'}") from error
        raise HandshakeError(f"no TLS with {target.authority}: connection broken") from error
    return secured


async def _upgrade(
    stream: trio.abc.Stream, target: WebSocketUrl, limits: Limits, subprotocol: str | None, more_headers: Headers
) -> tuple[bool, bytes]:
    """Asks for the upgrade; returns whether our subprotocol was echoed, and bytes that followed the answer."""
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=limits.http_head)
    key = os.urandom(16)
    headers = [*upgrade_headers(target, key, subprotocol=subprotocol), *more_headers]
    request = h11.Request(method="GET", target=target.target, headers=headers)
    await stream.send_all((http.send(request) or b"") + (http.send(h11.EndOfMessage()) or b""))
    while True:
        status, answer = await _next_head(http, stream, limits.http_head)
        # 100 and 103 may come before the answer; the caller's deadline bounds how long.
        if status == 101 or status >= 200:
            break
    return check_accepted(status, answer, key, subprotocol=subprotocol), http.trailing_data[0]


async def _next_head(http: h11.Connection, stream: trio.abc.Stream, read_size: int) -> tuple[int, Headers]:
    try:
        while (event := http.next_event()) is h11.NEED_DATA:
            data = bytes(await stream.receive_some(read_size))
            if not data:
                raise HandshakeError("expected an answer to the upgrade request, got the end of the stream")
            http.receive_data(data)
    except h11.RemoteProtocolError as error:
        raise HandshakeError(f"expected an HTTP response: {error}") from error
    assert isinstance(event, h11.InformationalResponse | h11.Response)
    return event.status_code, tuple(event.headers)
