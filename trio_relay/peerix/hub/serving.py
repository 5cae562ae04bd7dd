"""`serve_hub`: the hub as a task, and the handle that it starts with."""

from __future__ import annotations

from typing import Final

import trio

from ...node.services import raise_alone
from ...serving.listener import Life, make_admission, require_unchanged
from ...transports.admission import Admission
from ...transports.routes import Route
from ...wire.json import JSONValue
from .config import HubConfig
from .core import FIXED, HubCore
from .mercure import MercureDoor
from .pages import Pages
from .polling import Polling
from .sessions import Sessions
from .sockets import Sockets
from .statistics import HubStatistics

__all__ = ["FIXED", "Hub", "serve_hub"]


class Hub:
    """A hub that is running."""

    def __init__(self, core: HubCore, admission: Admission | None, life: Life) -> None:
        self._core: Final = core
        self._life: Final = life
        self._sessions: Final = Sessions(core)
        self._sockets: Final = Sockets(core, self._sessions, admission)
        self._pages: Final = Pages(core, self.statistics, admission if core.config.listen is not None else None)

    def __repr__(self) -> str:
        return f"<Hub at {', '.join(self.addresses) or 'no address'}>"

    @property
    def addresses(self) -> tuple[str, ...]:
        """The ``host:port`` of each listener; empty if it has none of its own."""
        return self._life.addresses

    @property
    def urls(self) -> tuple[str, ...]:
        """``http://host:port`` or ``https://...`` of each listener, without a path."""
        scheme = "http" if self._core.config.tls is None else "https"
        return tuple(f"{scheme}://{address}" for address in self.addresses)

    @property
    def config(self) -> HubConfig:
        """The options that it goes by now."""
        return self._core.config

    def configure(self, config: HubConfig) -> None:
        """Changes limits, timeouts, origins, keys and tokens while clients stay connected.

        With other keys, or another key of tokens, all clients are disconnected: they have to show again what they have.

        Raises:
            ValueError: an option is not as it was that can not be changed: ``listen``, ``tls``, ``mercure_path``,
                ``socketio_path``, ``prefixes``, ``trusted_proxies``, ``max_packet``, ``limits``; or the key of `jwt`
                is none.
            ImportError: `jwt` is given, and PyJWT is not installed.
        """
        require_unchanged("hub", FIXED, self.config, config)
        self._core.configure(config)

    def statistics(self) -> HubStatistics:
        """A snapshot."""
        return self._core.statistics(len(self._sessions))

    def health(self) -> dict[str, JSONValue]:
        """The hub's state for a larger server's health page: ``clients`` and ``topics``, how many there are."""
        return self._pages.health()

    def exposition(self) -> bytes:
        """The counters in Prometheus' text format, for a larger server's page; names begin ``trio_relay_hub_``."""
        return self._pages.exposition()

    def routes(self) -> list[Route]:
        """What a larger server mounts, with `HubConfig.listen` None: the two doors."""
        config, core = self._core.config, self._core
        routes = []
        if config.mercure_path is not None:
            routes.append(Route(config.mercure_path, respond=MercureDoor(core).respond))
        if config.socketio_path is not None:
            sockets = self._sockets
            routes.append(
                Route(
                    config.socketio_path,
                    respond=Polling(core, self._sessions).respond,
                    upgrade=sockets.accept,
                    guard=sockets.guard,
                    speaks_first=True,
                    max_message=config.max_payload,
                )
            )
        return routes

    def own_pages(self) -> list[Route]:
        """``/health`` and ``/metrics``, where no other part of a server has them."""
        return [
            Route("/health", respond=self._pages.answer_health),
            Route("/metrics", respond=self._pages.answer_metrics),
        ]

    async def aclose(self) -> None:
        """Ends the hub politely: stops listening, ends all clients, what waits for them sent; idempotent.

        Takes `HubConfig.drain_timeout` at most. When it returns, `serve_hub` does.
        """
        await self._life.close(self._core.drain)


async def serve_hub(
    config: HubConfig,
    *,
    admission: Admission | None = None,
    task_status: trio.TaskStatus[Hub] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Runs a signalling hub for Peerix until `Hub.aclose`: a server for Mercure's clients and for Socket.IO's.

    They hear each other. It starts with a `Hub`, when it listens. Cancelling it closes all connections at once.

    Args:
        admission: of the server that mounts its routes, if it has no listener of its own.

    Raises:
        OSError: it can not listen where it should.
        ImportError: `HubConfig.jwt` is given, and PyJWT is not installed.
        ValueError: the key of `HubConfig.jwt` is none.
    """
    ended = trio.Event()
    try:
        async with trio.open_nursery() as nursery:
            hub = await _start(config, nursery, ended, admission)
            try:
                task_status.started(hub)
                await trio.sleep_forever()
            finally:
                hub._core.abort()
    except BaseExceptionGroup as group:
        raise_alone(group)
    finally:
        ended.set()


async def _start(config: HubConfig, nursery: trio.Nursery, ended: trio.Event, admission: Admission | None) -> Hub:
    own = make_admission(config.limits, config.max_clients) if config.listen is not None else None
    life = Life(nursery, ended)
    hub = Hub(HubCore(config), own or admission, life)
    nursery.start_soon(hub._sessions.watch)
    if own is not None:
        routes = [*hub.routes(), *hub.own_pages()]
        await life.listen(config.listen_addresses, routes, limits=config.limits, admission=own, tls=config.tls)
    return hub
