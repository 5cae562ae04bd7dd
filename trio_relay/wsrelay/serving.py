"""`serve_relay`: the relay server as a task, and the handle that it starts with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from ..node.services import raise_alone
from ..serving.failures import log_failure
from ..serving.listener import Life, make_admission, require_unchanged
from ..transports.admission import Admission
from ..transports.routes import Route
from ..wire.json import JSONValue
from .config import BlobConfig, RelayConfig
from .pages.pages import Pages
from .registry import PeerRegistry
from .relay import RelayCore
from .statistics import RelayStatistics
from .stores.blobs import Blobs, BlobStore, MemoryBlobStore
from .stores.keys import ChangingKeyStore, close_store
from .stores.sqlite_blobs import SqliteBlobStore

__all__ = ["Relay", "serve_relay"]


_FIXED: Final = (
    "listen",
    "tls",
    "key_store",
    "blob_store",
    "max_message",
    "stats_window",
    "stats_history",
    "limits",
)


class Relay:
    """A relay server that is running."""

    def __init__(self, core: RelayCore, pages: Pages, life: Life) -> None:
        self._core: Final = core
        self._pages: Final = pages
        self._life: Final = life

    def __repr__(self) -> str:
        return f"<Relay at {', '.join(self.addresses) or 'no address'}, {len(self.registry)} peers>"

    @property
    def registry(self) -> PeerRegistry:
        """Who is connected."""
        return self._core.registry

    @property
    def blob_store(self) -> BlobStore | None:
        """The blob store, or None where there is none."""
        return self._core.blobs.store if self._core.blobs is not None else None

    @property
    def addresses(self) -> tuple[str, ...]:
        """The ``host:port`` of each listener; empty if it has none of its own."""
        return self._life.addresses

    @property
    def urls(self) -> tuple[str, ...]:
        """``ws://host:port`` or ``wss://host:port`` of each listener, without a channel and an id."""
        scheme = "ws" if self._core.config.tls is None else "wss"
        return tuple(f"{scheme}://{address}" for address in self.addresses)

    def statistics(self) -> RelayStatistics:
        """A snapshot; the blob store has its own, `BlobStore.stats`."""
        return self._core.statistics()

    async def send(self, address: str, message: JSONValue) -> bool:
        """Sends a JSON value to the peer at ``channel:id``, as a text frame; waits for room as a peer would.

        Returns:
            Whether the peer was connected and has not been too slow.

        Raises:
            LocalProtocolError: the value has no JSON form.
            PayloadTooLarge: it exceeds `RelayConfig.max_message`.
        """
        return await self._core.send(address, message)

    def routes(self) -> list[Route]:
        """What a larger server mounts, with `RelayConfig.listen` None: every path that no other route owns."""
        config = self._core.config
        return [
            Route(
                "/",
                respond=self._pages.respond,
                upgrade=self._core.accept,
                guard=self._core.entrance.guard,
                subtree=True,
                raw=True,
                max_message=config.max_message,
            )
        ]

    def configure(self, config: RelayConfig) -> None:
        """Changes limits, rates, hooks and policies while clients stay connected.

        Raises:
            ValueError: an option is not as it was that can not be changed: ``listen``, ``tls``, ``key_store``,
                ``blob_store``, ``max_message``, ``stats_window``, ``stats_history``, ``limits``.
        """
        require_unchanged("relay", _FIXED, self._core.config, config)
        self._core.configure(config)

    async def check_keys(self) -> None:
        """Validates the keys of connected peers at once, as happens every `RelayConfig.key_check_interval` anyway."""
        await self._core.key_checks.check()

    async def aclose(self) -> None:
        """Ends the server politely: stops listening, tells clients, waits for them, closes the rest; idempotent.

        Takes `RelayConfig.drain_timeout` and three close timeouts at most, and with a listener of its own up to
        `RelayConfig.hook_timeout` more, if `Hooks.on_peer_disconnect` takes so long. When it returns, `serve_relay`
        does.
        """
        await self._life.close(self._core.drain)


async def serve_relay(
    config: RelayConfig,
    *,
    admission: Admission | None = None,
    task_status: trio.TaskStatus[Relay] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Runs a relay server, wire-compatible with `@sumicom/ws-relay` 0.1.2, until `Relay.aclose`.

    It starts with a `Relay`, when it listens. Cancelling it closes all connections at once.

    Args:
        admission: of the server that mounts its routes, if it has no listener of its own.

    Raises:
        OSError: it can not listen where it should, or the blob store's file can not be opened.
        BlobStoreError: the blob store can not be opened.
    """
    blobs = _make_blobs(config)
    if blobs is not None:
        await blobs.open()
    ended = trio.Event()
    try:
        async with trio.open_nursery() as nursery:
            relay = await _start(config, blobs, nursery, ended, admission)
            try:
                task_status.started(relay)
                await trio.sleep_forever()
            finally:
                relay._core.abort()
    except BaseExceptionGroup as group:
        raise_alone(group)
    finally:
        ended.set()
        for store in (blobs, config.key_store):
            await _close(store, config.limits.close_timeout)


async def _close(store: object, timeout: float) -> None:
    """Closes a store of whatever kind; that it fails keeps nothing else from ending."""
    try:
        with trio.CancelScope(shield=True), trio.move_on_after(timeout):
            await close_store(store)
    except Exception as error:
        log_failure("a store could not be closed", error)


async def _start(
    config: RelayConfig, blobs: Blobs | None, nursery: trio.Nursery, ended: trio.Event, admission: Admission | None
) -> Relay:
    own = make_admission(config.limits) if config.listen is not None else None
    life = Life(nursery, ended)

    def start_soon(function: Callable[[], Awaitable[None]]) -> None:
        nursery.start_soon(function)

    core = RelayCore(config, start_soon, blobs, own or admission)
    relay = Relay(core, Pages(core, own or admission), life)
    nursery.start_soon(core.watching.run)
    nursery.start_soon(core.heartbeat.run)
    if isinstance(config.key_store, ChangingKeyStore):
        nursery.start_soon(core.key_checks.watch, config.key_store)
    nursery.start_soon(core.key_checks.run)
    if own is not None:
        await life.listen(config.listen_addresses, relay.routes(), limits=config.limits, admission=own, tls=config.tls)
    return relay


def _make_blobs(config: RelayConfig) -> Blobs | None:
    """The blob store that the configuration asks for."""
    wanted = config.blob_store
    if wanted is False:
        return None
    if not isinstance(wanted, BlobConfig):
        return Blobs(wanted)
    if wanted.store is not None:
        return Blobs(wanted.store)
    if wanted.file is None:
        return Blobs(
            MemoryBlobStore(
                max_blob_size=wanted.max_blob_size,
                max_blobs=wanted.max_blobs,
                max_bytes=wanted.max_bytes,
                time_to_live=wanted.time_to_live,
            )
        )
    return Blobs(
        SqliteBlobStore(
            wanted.file,
            max_blob_size=wanted.max_blob_size,
            max_blobs=wanted.max_blobs,
            max_bytes=wanted.max_bytes,
            time_to_live=wanted.time_to_live,
        )
    )
