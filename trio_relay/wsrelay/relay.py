"""The running relay server: its peers from the first byte to the last, and what the application can do with it.

Rules of this file:

1. A peer is registered by its own task, which is the one that reads from it, and which sees its end.
2. Whoever ends a connection for another reason says so with `_end`: from then on the peer has left, and a task of its
   own says goodbye.
3. `aclose` lets clients go politely; cancelling the server ends everything at once.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from types import MappingProxyType
from typing import Final

import trio

from ..exceptions import PayloadTooLarge, RemoteProtocolError
from ..serving.client_address import rate_name
from ..serving.failures import log_failure
from ..serving.hook_calls import HookFailed, call_hook
from ..serving.outbox import Outbox, QueueRules
from ..transports.admission import EXPECTED_FAILURES, Admission
from ..transports.connection import Connection
from ..transports.routes import Request
from ..transports.websocket import WebSocketConnection
from ..wire.json import JSONValue, encode
from .accepting import Entrance
from .config import RelayConfig
from .heartbeat import Heartbeat
from .key_checks import KeyChecks
from .messages import encode_error
from .peer import BAD_KEY, HOOK_FAILED, REPLACED, SHUTDOWN, TOO_SLOW, Ending, LivePeer
from .registry import PeerRegistry, Registry
from .router import Router
from .statistics import RelayStatistics, with_unix_times
from .stores.blobs import Blobs
from .watching import Watching

__all__ = ["RelayCore"]

_log: Final = logging.getLogger("trio_relay.wsrelay")
_SHUTTING_DOWN: Final = encode_error("SHUTTING_DOWN", "Server is shutting down")


class RelayCore:
    """Everything but HTTP pages.

    Args:
        start_soon: starts a task that lives as long as the relay.
        admission: of the listener; None: the relay is mounted in another server.

    Attributes:
        registry: who is connected.
        blobs: the blob store; None: there is none.
        counts: refusals, drops and failures by name.
    """

    def __init__(
        self,
        config: RelayConfig,
        start_soon: Callable[[Callable[[], Awaitable[None]]], None],
        blobs: Blobs | None,
        admission: Admission | None = None,
    ) -> None:
        self.config = config
        self.blobs: Final = blobs
        self.counts: Final[Counter[str]] = Counter()
        self.start_time: Final = time.time()
        self._began: Final = trio.current_time()
        self._start_soon: Final = start_soon
        self._admission: Final = admission
        self._registry: Final = Registry()
        self.registry: Final = PeerRegistry(self._registry)
        self.watching: Final = Watching(config, self._registry, self.counts)
        self.heartbeat: Final = Heartbeat(config, self.counts)
        self.entrance: Final = Entrance(config, self._registry, self.counts)
        self._router: Final = Router(config, self._registry, self.watching, self.counts, self._end_slow)
        self._by_key: Final[dict[str, dict[LivePeer, None]]] = {}
        self.key_checks: Final = KeyChecks(config, self._by_key, self._revoke, self.counts)
        self._rules: Final = self._queue_rules()
        self._draining = False
        self._over = False
        self._present = 0  # clients, and requests for pages
        self._all_gone: trio.Event | None = None

    def configure(self, config: RelayConfig) -> None:
        """Goes by these rules from now on, for connected peers too; where it listens, and its stores, stay."""
        self.config = config
        for part in (self.watching, self.heartbeat, self.entrance, self.key_checks, self._router):
            part.configure(config)
        rules = self._rules
        rules.policy = config.slow_consumer
        rules.most_bytes, rules.most_messages = config.queue_bytes, config.queue_messages
        for peer in self._registry.peers.values():
            peer.window.most, peer.window.window = config.rate_limit_max_messages, config.rate_limit_window

    def _queue_rules(self) -> QueueRules:
        config = self.config
        return QueueRules(
            policy=config.slow_consumer,
            most_bytes=config.queue_bytes,
            most_messages=config.queue_messages,
            start_soon=self._start_soon,
            overflow=self._overflow,
            counts=self.counts,
        )

    # One connection, in its own task

    async def accept(self, connection: Connection, request: Request | None) -> None:
        """Serves one client to its end; a `Handler`. Whatever fails here ends this client's connection, and no other.

        One coroutine for all of it: every idle connection holds each one that waits.
        """
        crowd: str | None = None
        peer: LivePeer | None = None
        try:
            if request is None or not isinstance(connection, WebSocketConnection):
                raise TypeError("expected a WebSocket that came with a request")
            ip = self.entrance.client_ip(request)
            if await self._turn_away(connection, ip):
                return
            crowd = rate_name(ip)
            peer = await self.entrance.admit(connection, request, ip, self._rules)
            del request  # here an idle connection waits
            if peer is None or await self._turn_away(connection, None):
                return
            self._join(peer)
            await self._tell_hook("on_peer_connect", peer)
            while messages := await connection.receive():
                await self._router.take(peer, messages)  # type: ignore[arg-type]  # a raw route yields bytes alone
                if not connection.direct:
                    peer.outbox.answer_control()
        except EXPECTED_FAILURES as failure:
            if peer is None:
                raise
            self._end_after(peer, failure)
        except HookFailed:
            assert peer is not None
            self._end(peer, HOOK_FAILED)
        except BaseExceptionGroup as group:
            cancelled, failures = group.split(trio.Cancelled)
            if failures is not None:
                self._failed(connection, failures)
            if cancelled is not None:
                raise cancelled from None
        except Exception as error:
            self._failed(connection, error)
        finally:
            if peer is not None and peer.joined:
                self._leave(peer)
                with trio.CancelScope(shield=True):
                    await self._see_off(peer)
            if crowd is not None:
                self.entrance.connections.release(crowd)
                self._gone()

    async def _turn_away(self, connection: WebSocketConnection, ip: str | None) -> bool:
        """Whether a client was refused before, or (without `ip`) after it was asked who it is; else it is counted."""
        if self._draining:
            await self.entrance.refuse(connection, SHUTDOWN)
            return True
        if ip is not None:
            if not self.entrance.connections.take(rate_name(ip)):
                await self.entrance.refuse_crowd(connection)
                return True
            self._present += 1
        return False

    def _end_after(self, peer: LivePeer, failure: Exception) -> None:
        """The connection failed, or the client broke a rule, which it is told."""
        if isinstance(failure, RemoteProtocolError):
            self.counts["protocol_error"] += 1
            self._end(peer, Ending(failure.close_code, str(failure)))

    def _failed(self, connection: Connection, error: BaseException) -> None:
        self.counts["connection_failed"] += 1
        log_failure("a connection failed", error)
        connection.abort()

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """While a page is made: `drain` waits for it."""
        self._present += 1
        try:
            yield
        finally:
            self._gone()

    def _gone(self) -> None:
        self._present -= 1
        if self._all_gone is not None and not self._present:
            self._all_gone.set()

    async def _tell_hook(self, name: str, peer: LivePeer) -> None:
        hook: Callable[..., object] | None = getattr(self.config.hooks, name)
        if hook is not None:
            peer.paused = True
            try:
                await call_hook(name, self.counts, self.config.hook_timeout, hook, peer, self.registry, secret=peer.key)
            finally:
                peer.paused = False

    async def _see_off(self, peer: LivePeer) -> None:
        """The last that is done for a peer; bounded by the hook's timeout and two close timeouts."""
        with contextlib.suppress(HookFailed):  # there is nothing left that it could cost
            await self._tell_hook("on_peer_disconnect", peer)
        if peer.goodbye is not None:
            await peer.goodbye.wait()
        else:
            peer.outbox.abort()

    # Coming and going

    def _join(self, peer: LivePeer) -> None:
        if self._admission is not None:
            self._admission.proven(peer.connection)
        replaced = self._registry.peers.get(peer.address)
        if replaced is not None:
            self.counts["replaced"] += 1
            self._end(replaced, REPLACED, vacates=False)
        self._registry.add(peer)
        peer.registered = True
        peer.joined = True
        peer.outbox.owner = peer
        self.heartbeat.add(peer)
        if peer.key is not None:
            peer.account = self.entrance.meter.add_connection(peer.key, trio.current_time())
            self._by_key.setdefault(peer.key, {})[peer] = None
        self.watching.announce(peer.address, True)
        _log.debug("peer %s connected", peer.address, extra={"event": "peer_connected", "ip": peer.ip})

    def _leave(self, peer: LivePeer, *, vacates: bool = True) -> None:
        """The peer can not be reached any more; once."""
        if not peer.registered:
            return
        peer.registered = False
        self.heartbeat.remove(peer)
        peer.outbox.owner = None  # no cycle is left
        if peer.key is not None:
            self.entrance.meter.remove_connection(peer.key, trio.current_time())
            others = self._by_key[peer.key]
            del others[peer]
            if not others:
                del self._by_key[peer.key]
        if self._registry.remove(peer) and vacates:
            self.watching.announce(peer.address, False)
        _log.debug("peer %s left", peer.address, extra={"event": "peer_left", "ip": peer.ip})

    def _end(self, peer: LivePeer, ending: Ending, *, vacates: bool = True) -> None:
        """Ends a peer's connection: at once for everybody else, politely for itself."""
        if peer.ending is None:
            peer.ending = ending
            peer.goodbye = trio.Event()
            self._leave(peer, vacates=vacates)
            if self._over:
                peer.outbox.abort()
                peer.goodbye.set()
            else:
                self._start_soon(partial(self._say_goodbye, peer, ending, peer.goodbye))

    async def _say_goodbye(self, peer: LivePeer, ending: Ending, done: trio.Event) -> None:
        """Sends what waits, the reason, and the close frame; bounded by two close timeouts."""
        try:
            if ending.frame is not None:
                peer.outbox.answer(ending.frame)
            with trio.move_on_after(self.config.limits.close_timeout):
                await peer.outbox.drain()
            await peer.connection.aclose(ending.code, ending.reason)
        finally:
            peer.outbox.abort()
            done.set()

    def _end_slow(self, peer: LivePeer) -> None:
        if peer.ending is None:
            self.counts["slow_consumer_disconnected"] += 1
            self._end(peer, TOO_SLOW)

    def _overflow(self, outbox: Outbox) -> None:
        if isinstance(outbox.owner, LivePeer):
            self._end_slow(outbox.owner)

    def _revoke(self, peer: LivePeer) -> None:
        self._end(peer, BAD_KEY)

    # For the application

    async def send(self, address: str, message: JSONValue) -> bool:
        """Sends a JSON value to a peer, as a text frame; waits for room as a peer would.

        Returns:
            Whether the peer was connected and has not been too slow.

        Raises:
            LocalProtocolError: the value has no JSON form.
            PayloadTooLarge: it exceeds `RelayConfig.max_message`.
        """
        data = encode(message)
        if len(data) > self.config.max_message:
            raise PayloadTooLarge(f"expected a message of at most {self.config.max_message} bytes, not {len(data)}")
        await trio.lowlevel.checkpoint()
        with trio.move_on_after(self.config.slow_consumer_timeout):
            while (peer := self._registry.peers.get(address)) is not None:
                if self.config.slow_consumer != "pause" or not peer.outbox.high:
                    break
                await peer.outbox.wait_room()
        if peer is None:
            return False
        if self.config.slow_consumer == "pause" and peer.outbox.high:
            self._end_slow(peer)
            return False
        return peer.outbox.send([data], len(data)) > 0

    def statistics(self, *, busiest: int | None = None) -> RelayStatistics:
        """A snapshot.

        Args:
            busiest: how many keys, those with most traffic in their running window, without their history; None: all
                keys with it, which takes half a second for 20,000 of them.
        """
        seen = self._registry.statistics()
        now, meter = trio.current_time(), self.entrance.meter
        counts = {name: count for name, count in self.counts.items() if count}
        if meter.unlisted:
            counts["keys_unlisted"] = meter.unlisted
        if self._router.rates_evicted:
            counts["rates_evicted"] = self._router.rates_evicted
        keys = meter.statistics(now) if busiest is None else meter.busiest(busiest, now)
        return RelayStatistics(
            start_time=self.start_time,
            uptime=now - self._began,
            connections=len(self._registry.peers),
            total_connections=seen.total_connections,
            messages_relayed=seen.messages_relayed,
            bytes_in=self._router.bytes_in,
            bytes_out=self._router.bytes_out,
            watches=self._registry.watches,
            backlog=sum(peer.outbox.size for peer in self._registry.peers.values()),
            channels=seen.channels,
            keys=with_unix_times(keys, self.start_time - self._began),
            counts=MappingProxyType(counts),
        )

    async def drain(self) -> None:
        """Takes nobody in any more, tells everybody, waits `drain_timeout` for them to leave, and closes the rest."""
        self._draining = True
        for peer in list(self._registry.peers.values()):
            peer.outbox.answer(_SHUTTING_DOWN)
        with trio.move_on_after(self.config.drain_timeout):
            await self._wait_all_gone()
        for peer in list(self._registry.peers.values()):
            self._end(peer, SHUTDOWN)
        with trio.move_on_after(3 * self.config.limits.close_timeout):
            await self._wait_all_gone()

    def abort(self) -> None:
        """The relay is over, and starts no more tasks: closes all connections at once, a larger server's too."""
        self._over = self._draining = True
        for peer in list(self._registry.peers.values()):
            peer.outbox.abort()

    async def _wait_all_gone(self) -> None:
        if self._present:
            if self._all_gone is None or self._all_gone.is_set():
                self._all_gone = trio.Event()  # else somebody waits for it already
            await self._all_gone.wait()
