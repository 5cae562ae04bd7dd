"""Which part answers where, on a port of several.

Rules of this file:

1. A path has one owner; ``/`` alone has two: the node takes upgrades there, the broker answers requests.
2. What no other part owns is the relay server's, which refuses it in its own words; without one, the broker's.
3. ``/health`` and ``/metrics`` tell of all parts. They are the relay server's, without one the node's, without both the
   hub's, and so is the decision on who may see them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeAlias

from ..node.pages import Mounting
from ..peerix.hub.serving import Hub
from ..peerjs.broker.serving import Broker
from ..transports.routes import Request, Response, Route, RouteTable, Streamed, header_value
from ..wire.json import decode_untrusted, encode
from ..wsrelay.serving import Relay

__all__ = ["Parts", "combine"]

_HEALTH: Final = "/health"
_METRICS: Final = "/metrics"


_Join: TypeAlias = tuple[bytes, Callable[[bytes], bytes]]
"""How the media type of a page begins, and what makes the whole page of it."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What is on the port; each may be missing. A broker or hub alone is not here: it has a listener of its own."""

    node: Mounting | None = None
    relay: Relay | None = None
    broker: Broker | None = None
    broker_prefix: str = ""
    hub: Hub | None = None


def combine(parts: Parts) -> list[Route]:
    """The routes of the whole port."""
    there = [part for part in (parts.node, parts.relay, parts.broker, parts.hub) if part is not None]
    return list(_together(parts) if len(there) > 1 else _routes_of(there[0]))


def _routes_of(part: Mounting | Relay | Broker | Hub | None) -> Sequence[Route]:
    if part is None:
        return []
    return part.routes if isinstance(part, Mounting) else part.routes()


def _together(parts: Parts) -> Iterator[Route]:
    relayed, brokered = _routes_of(parts.relay), _routes_of(parts.broker)
    node, relay = RouteTable(_routes_of(parts.node)), RouteTable(relayed)
    own = parts.hub.own_pages() if parts.hub is not None else []
    yield from relayed
    yield from brokered
    yield from _routes_of(parts.hub)
    # A broker without a path of its own answers requests for every path.
    told = brokered[0].respond if brokered and not parts.broker_prefix else None
    if told is not None and parts.relay is None:
        yield Route("/", respond=told, subtree=True)
    root = node.find("/") or relay.find("/")
    if root is not None:
        yield replace(root, subtree=False, respond=told or root.respond)
    # A client that asks for a WebSocket at one of these is refused by the part whose page it is.
    pages = next(table for table in (relay, node, RouteTable(own)) if table.find(_HEALTH) is not None)
    yield _page(_HEALTH, pages.find(_HEALTH), _join_health(parts))
    yield _page(_METRICS, pages.find(_METRICS), _join_metrics(parts))


def _page(path: str, base: Route | None, joining: _Join) -> Route:
    assert base is not None
    assert base.respond is not None
    respond = partial(_extended, Route(path, base.respond), joining)
    return replace(base, prefix=path, subtree=False, respond=respond)


def _join_health(parts: Parts) -> _Join:
    def join(body: bytes) -> bytes:
        health = decode_untrusted(body)
        assert isinstance(health, dict)
        if parts.node is not None:
            health["overlay"] = parts.node.pages.overlay()
        if parts.broker is not None:
            health["peerjs"] = parts.broker.health()
        if parts.hub is not None:
            health["hub"] = parts.hub.health()
        return encode(health)

    return b"application/json", join


def _join_metrics(parts: Parts) -> _Join:
    more = [parts.broker.exposition] if parts.broker is not None else []
    if parts.hub is not None and (parts.relay is not None or parts.node is not None):
        more.append(parts.hub.exposition)
    if parts.relay is not None and parts.node is not None:
        more.append(parts.node.pages.exposition)

    def join(body: bytes) -> bytes:
        return b"".join([body, *(tell() for tell in more)])

    return b"text/plain; version=", join


async def _extended(page: Route, joining: _Join, request: Request) -> Response | Streamed:
    """What a part answers, with what the others have to add if that is the page, no refusal or a hook's answer."""
    assert page.respond is not None
    content_type, join = joining
    response = await page.respond(request)
    if isinstance(response, Streamed):
        return response
    given = header_value(response.headers, b"content-type") or b""
    if request.path != page.prefix or response.status != 200 or not given.startswith(content_type):
        return response
    return replace(response, body=join(response.body))
