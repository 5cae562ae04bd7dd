"""Where a broker is: URLs of brokers that are spoken to over TCP, TLS or a WebSocket. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...wire.addresses import split_host_port
from ...wire.urls import WebSocketUrl, parse_ws_url

__all__ = ["BrokerUrl", "Scheme", "parse_broker_url"]


@dataclass(frozen=True, slots=True)
class Scheme:
    """What the beginning of a URL says.

    Attributes:
        port: the default one.
        secure: whether TLS is required.
        websocket: whether the bytes travel in a WebSocket.
    """

    port: int
    secure: bool = False
    websocket: bool = False


@dataclass(frozen=True, slots=True)
class BrokerUrl:
    """A parsed URL of a broker.

    Attributes:
        shown: for people: without path and query, which may hold a key.
        target: where to dial; of a WebSocket with path and query.
    """

    scheme: Scheme
    shown: str
    target: WebSocketUrl


def parse_broker_url(url: str, schemes: Mapping[str, Scheme]) -> BrokerUrl:
    """Parses a URL like ``nats://host:port``; a path is for WebSockets.

    Raises:
        ValueError: it is not such a URL. The message does not show it, since it may hold a password.
    """
    name, separator, rest = url.partition("://")
    scheme = schemes.get(name.lower())
    if not separator or scheme is None:
        raise ValueError(f"expected a URL that begins with {', '.join(f'{known}://' for known in schemes)}")
    authority = rest.partition("/")[0].partition("?")[0]
    if "@" in authority:
        raise ValueError("expected a URL without user and password: they are arguments of their own")
    try:
        parsed = parse_ws_url(f"{'wss' if scheme.secure else 'ws'}://{rest}")
    except ValueError:
        raise ValueError(f"expected a URL like {name.lower()}://host:port") from None
    if not scheme.websocket and parsed.target != "/":
        raise ValueError(f"expected a URL like {name.lower()}://host:port, with nothing behind the port")
    found = split_host_port(authority)
    port = parsed.port if found is not None and found[1] is not None else scheme.port
    target = WebSocketUrl(parsed.secure, parsed.host, port, parsed.target)
    return BrokerUrl(scheme, f"{name.lower()}://{target.authority}", target)
