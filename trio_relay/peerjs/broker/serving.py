"""`serve_broker`: the broker as a task, and the handle that it starts with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Final

import trio

from ...node.services import raise_alone
from ...serving.listener import Life, make_admission, require_unchanged
from ...transports.admission import Admission
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
    """A broker that is running."""

    def __init__(self, core: BrokerCore, pages: Pages, life: Life) -> None:
        self._core: Final = core
        self._pages: Final = pages
        self._life: Final = life

    def __repr__(self) -> str:
        return f"<Broker at {', '.join(self.addresses) or 'no address'}, {len(self.clients)} clients>"

    @property
    def clients(self) -> Collection[str]:
        """The ids of all clients that are registered: a view, which changes as they come and go."""
        return self._core.tables.members.keys()

    @property
    def addresses(self) -> tuple[str, ...]:
        """The ``host:port`` of each listener; empty if it has none of its own."""
        return self._life.addresses

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
        require_unchanged("broker", FIXED, self.config, config)
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
        await self._life.close(self._core.drain)


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
    # Sockets: those of clients, and both ends of meetings.
    own = make_admission(config.limits, config.sockets) if config.listen is not None else None
    life = Life(nursery, ended)

    def start_soon(function: Callable[[], Awaitable[None]]) -> None:
        nursery.start_soon(function)

    core = BrokerCore(config, start_soon, own or admission)
    broker = Broker(core, Pages(core, own or admission, alone=own is not None), life)
    nursery.start_soon(core.watch_silent)
    nursery.start_soon(core.watch_waiting)
    if own is not None:
        await life.listen(config.listen_addresses, broker.routes(), limits=config.limits, admission=own, tls=config.tls)
    return broker


def _only_at(path: str) -> Check:
    """Refuses upgrades at what else a route owns, as the original does."""

    def check(request: Request) -> Response | None:
        return None if request.path == path else _BAD_PATH

    return check
