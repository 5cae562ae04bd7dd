"""`serve_broker`: the broker as a task, and the handle that it starts with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from functools import partial
from typing import Final

import trio

from ...limits import Limits
from ...node.services import raise_alone
from ...transports.admission import Admission, TransportStatistics
from ...transports.http import serve_http
from ...transports.routes import Check, Request, Response, Route
from ...wire.json import JSONValue
from .broker import BrokerCore
from .config import BrokerConfig
from .pages import Pages
from .relayed import MAX_RELAYED
from .statistics import BrokerStatistics

__all__ = ["FIXED", "Broker", "serve_broker"]

FIXED: Final = frozenset({"listen", "path", "key", "tls", "trusted_proxies", "max_message", "relayed", "limits"})
"""The options that a broker keeps while it runs."""

_BAD_PATH: Final = Response.typed(400, b"Bad Request", "text/html")


class Broker:
    """A broker that is running.

    Attributes:
        addresses: the ``host:port`` of each listener; empty if it has none of its own.
    """

    def __init__(
        self,
        core: BrokerCore,
        pages: Pages,
        stop_listening: Callable[[], None],
        end: Callable[[], None],
        ended: trio.Event,
    ) -> None:
        self._core: Final = core
        self._pages: Final = pages
        self._stop_listening: Final = stop_listening
        self._end: Final = end
        self._ended: Final = ended
        self.addresses: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Broker at {', '.join(self.addresses) or 'no address'}, {len(self.clients)} clients>"

    @property
    def clients(self) -> Collection[str]:
        """The ids of all clients that are registered: a view, which changes as they come and go."""
        return self._core.tables.members.keys()

    @property
    def urls(self) -> tuple[str, ...]:
        """``http://host:port/path`` or ``https://...`` of each listener, without a slash at the end."""
        scheme = "http" if self._core.config.tls is None else "https"
        return tuple(f"{scheme}://{address}{self._core.config.prefix}" for address in self.addresses)

    @property
    def config(self) -> BrokerConfig:
        """The options that it goes by now."""
        return self._core.config

    def configure(self, config: BrokerConfig) -> None:
        """Changes limits, timeouts, hooks and pages while clients stay connected.

        A rate of messages is for newcomers; a shorter `alive_timeout` begins to count when the former one would have
        been over for the client that was silent for longest. A listener of the broker's own keeps the room for sockets
        that it began with.

        Raises:
            ValueError: an option is not as it was that can not be changed: ``listen``, ``path``, ``key``, ``tls``,
                ``trusted_proxies``, ``max_message``, ``relayed``, ``limits``.
        """
        for name in sorted(FIXED):
            if getattr(config, name) != getattr(self.config, name):
                raise ValueError(f"expected the {name} that the broker was started with: it can not be changed")
        self._core.configure(config)

    def statistics(self) -> BrokerStatistics:
        """A snapshot."""
        return self._core.statistics()

    def health(self) -> dict[str, JSONValue]:
        """The broker's state for a larger server's health page: ``clients`` and ``meetings``, how many there are."""
        return self._pages.health()

    def exposition(self) -> bytes:
        """The counters in Prometheus' text format, for a larger server's page; names begin ``trio_relay_broker_``."""
        return self._pages.exposition()

    def routes(self) -> list[Route]:
        """What a larger server mounts, with `BrokerConfig.listen` None.

        Below a path of its own, everything there; with the path ``/``, what is below ``/peerjs`` and below the key.
        """
        core, respond = self._core, self._pages.respond
        prefix, key = core.config.prefix, core.config.key
        signalling, meeting = f"{prefix}/peerjs", f"{prefix}/peerjs/relay"
        routes = [
            Route(
                signalling,
                respond=respond,
                upgrade=core.accept,
                check=_only_at(signalling),
                speaks_first=core.config.hooks.authenticate is None,
                raw=True,
                max_message=core.config.max_message,
            )
        ]
        if core.meetings is not None:
            routes.append(
                Route(
                    meeting,
                    respond=respond,
                    upgrade=core.accept_meeting,
                    check=_only_at(meeting),
                    max_message=MAX_RELAYED,
                )
            )
        if core.config.listen is not None:
            routes.append(Route("/", respond=respond, subtree=True))
        elif prefix:
            routes.append(Route(prefix, respond=respond))
        elif key != "peerjs":
            routes.append(Route(f"/{key}", respond=respond))
        return routes

    async def aclose(self) -> None:
        """Ends the broker politely: stops listening, closes all clients, what waits for them sent; idempotent.

        Takes `BrokerConfig.drain_timeout` at most, and with a listener of its own up to `BrokerConfig.hook_timeout` if
        `BrokerHooks.on_disconnect` takes so long. When it returns, `serve_broker` does.
        """
        self._stop_listening()
        try:
            await self._core.drain()
        finally:
            self._end()
        await self._ended.wait()


async def serve_broker(
    config: BrokerConfig,
    *,
    admission: Admission | None = None,
    task_status: trio.TaskStatus[Broker] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Runs a broker, wire-compatible with PeerServer (npm `peer` 1.0.2), until `Broker.aclose`.

    It starts with a `Broker`, when it listens. Cancelling it closes all connections at once.

    Args:
        admission: of the server that mounts its routes, if it has no listener of its own.

    Raises:
        OSError: it can not listen where it should.
    """
    ended = trio.Event()
    try:
        async with trio.open_nursery() as nursery:
            broker = await _start(config, nursery, ended, admission)
            try:
                task_status.started(broker)
                await trio.sleep_forever()
            finally:
                broker._core.abort()
    except BaseExceptionGroup as group:
        raise_alone(group)
    finally:
        ended.set()


async def _start(config: BrokerConfig, nursery: trio.Nursery, ended: trio.Event, admission: Admission | None) -> Broker:
    if config.listen is not None:
        admission = Admission(_limits(config), TransportStatistics())

    def start_soon(function: Callable[[], Awaitable[None]]) -> None:
        nursery.start_soon(function)

    core = BrokerCore(config, start_soon, admission)
    pages = Pages(core, admission, alone=config.listen is not None)
    listening = trio.CancelScope()
    broker = Broker(core, pages, listening.cancel, nursery.cancel_scope.cancel, ended)
    nursery.start_soon(core.watch_silent)
    nursery.start_soon(core.watch_waiting)
    if config.listen is not None:
        assert admission is not None
        broker.addresses = tuple(await nursery.start(partial(_listen, broker, config, admission, listening, nursery)))
    return broker


def _only_at(path: str) -> Check:
    """Refuses upgrades at what else a route owns, as the original does."""

    def check(request: Request) -> Response | None:
        return None if request.path == path else _BAD_PATH

    return check


def _limits(config: BrokerConfig) -> Limits:
    """With room for as many sockets as there may be clients, ends of meetings, and strangers, unless somebody chose."""
    limits = config.limits
    if limits.connections != Limits().connections:
        return limits
    return replace(limits, connections=max(limits.connections, config.sockets + limits.unproven_connections))


async def _listen(
    broker: Broker,
    config: BrokerConfig,
    admission: Admission,
    scope: trio.CancelScope,
    nursery: trio.Nursery,
    *,
    task_status: trio.TaskStatus[list[str]],
) -> None:
    with scope:
        await serve_http(
            config.listen_addresses,
            broker.routes(),
            limits=config.limits,
            admission=admission,
            tls=config.tls,
            handler_nursery=nursery,
            task_status=task_status,
        )
