"""What the transports need of Trio's streams beyond their interface: closing without waiting, and both addresses."""

from __future__ import annotations

import ssl
import sys
from typing import Any

import trio

from ..wire.addresses import join_host_port

__all__ = ["check_tls", "close_now", "stream_addresses"]


def close_now(stream: trio.abc.Stream) -> None:
    """Closes what is under `stream` without waiting; tasks that use it get `trio.ClosedResourceError`.

    Raises:
        TypeError: it is not TLS or plain bytes over a socket or over memory.
    """
    while isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    if isinstance(stream, trio.SocketStream):
        stream.socket.close()
    elif isinstance(stream, trio.StapledStream):
        for half in (stream.send_stream, stream.receive_stream):
            half.close()
    else:
        raise TypeError(f"expected a stream over a socket or over memory, not {stream!r}")


def stream_addresses(stream: trio.abc.Stream) -> tuple[str, str]:
    """The remote and the local ``host:port`` of the socket under `stream`; two empty strings over memory.

    Raises:
        OSError: the socket is not connected any more.
    """
    while isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    if not isinstance(stream, trio.SocketStream):
        return "", ""
    return _join(stream.socket.getpeername()), sys.intern(_join(stream.socket.getsockname()))


def check_tls(context: ssl.SSLContext) -> None:
    """Sees to it that a context speaks TLS 1.2 at least: raises a floor that was left to the library.

    Raises:
        ValueError: a lower floor was chosen.
    """
    if context.minimum_version is ssl.TLSVersion.MINIMUM_SUPPORTED:
        # What `ssl.create_default_context` leaves on some systems, Debian 12 among them.
        context.minimum_version = ssl.TLSVersion.TLSv1_2
    if context.minimum_version < ssl.TLSVersion.TLSv1_2:
        raise ValueError(f"expected a TLS context from version 1.2 on, not from {context.minimum_version.name}")


def _join(address: Any) -> str:
    return join_host_port(address[0], address[1])
