"""The running broker: its clients from the first byte to the last.

Rules of this file:

1. A client is registered by its own task, which is the one that reads from it, and which sees its end.
2. Whoever ends a connection for another reason says so with `_end`: from then on the client has left, and a task of
   its own says goodbye.
3. `drain` lets clients go politely; cancelling the broker ends everything at once.
4. A client that comes back with its token is told OPEN, for it waits for that, and its old socket is closed. In the
   original it hears nothing, and the old socket could go on sending.
5. Who gave its id back by LEAVE keeps its connection as long as it sends HEARTBEAT, but may not send under the id.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from types import MappingProxyType
from typing import Final, TypedDict

import trio

from ...exceptions import RemoteProtocolError
from ...serving.client_address import rate_name
from ...serving.failures import log_failure
from ...serving.hook_calls import HookFailed, call_hook
from ...serving.outbox import Outbox, QueueRules
from ...transports.admission import EXPECTED_FAILURES, Admission
from ...transports.connection import Connection
from ...transports.routes import Request
from ...transports.websocket import WebSocketConnection
from .accepting import CLOSE_CODE, Entrance
from .client import LiveClient
from .config import BrokerConfig
from .core import Core, QueueLimits
from .messages import OPEN, OPEN_RELAYING
from .relayed import Meetings
from .router import Router
from .statistics import BrokerStatistics

__all__ = ["BrokerCore"]

_log: Final = logging.getLogger("trio_relay.peerjs")
_AT_ONCE: Final = 64
"""Silent clients that are ended, and absent peers of whom senders are told, in one turn of Trio's loop."""


class BrokerCore:
    """Everything but HTTP pages.

    Args:
        start_soon: starts a task that lives as long as the broker.
        admission: of the listener, or of the larger server's; None: there is none.

    Attributes:
        tables: who is there, and what waits.
        meetings: None if the broker has none.
        counts: refusals, drops and failures by name.
    """

    def __init__(
        self,
        config: BrokerConfig,
        start_soon: Callable[[Callable[[], Awaitable[None]]], None],
        admission: Admission | None = None,
    ) -> None:
        self.config = config
        self.counts: Final[Counter[str]] = Counter()
        self.start_time: Final = time.time()
        self._began: Final = trio.current_time()
        self._start_soon: Final = start_soon
        self._admission: Final = admission
        self.tables: Final[Core[LiveClient]] = Core(**_table_options(config))
        self._rules: Final = QueueRules(
            policy="disconnect",
            most_bytes=config.slow_bytes,
            most_messages=config.slow_messages,
            start_soon=start_soon,
            overflow=self._overflow,
            counts=self.counts,
        )
        self.entrance: Final = Entrance(config, self.tables, self._rules, self.counts)
        self._router: Final = Router(config, self.tables, self.counts, self._leave, self._end)
        self.meetings: Final = (
            Meetings(config, self.tables.is_registered, self.counts, self._proven)
            if config.relayed is not None
            else None
        )
        self._total = 0
        self._over = False
        self._present = 0  # clients that joined and have not been seen off
        self._all_gone: trio.Event | None = None
        self._someone = trio.Event()

    def configure(self, config: BrokerConfig) -> None:
        """Goes by other options from now on; see `Broker.configure`."""
        self.config = config
        self.tables.configure(**_table_options(config))
        self._rules.most_bytes, self._rules.most_messages = config.slow_bytes, config.slow_messages
        self.entrance.configure(config)
        self._router.configure(config)

    # One connection, in its own task

    async def accept(self, connection: Connection, request: Request | None) -> None:
        """Serves one client to its end; a `Handler`. Whatever fails here ends this client's connection, and no other.

        One coroutine for all of it: every idle connection holds each one that waits.
        """
        crowd: str | None = None
        client: LiveClient | None = None
        try:
            if request is None or not isinstance(connection, WebSocketConnection):
                raise TypeError("expected a WebSocket that came with a request")
            ip = self.entrance.client_ip(request)
            if not await self.entrance.take(connection, ip):
                return
            crowd = rate_name(ip)
            admitted = await self.entrance.admit(connection, request, ip)
            del request  # here an idle connection waits
            if admitted is None:
                return
            client = admitted[0]
            self._join(*admitted)
            await self._tell_hook("on_connection", client)
            while messages := await connection.receive():
                await self._router.take(client, messages)  # type: ignore[arg-type]  # a raw route yields bytes alone
                if not connection.direct:
                    client.outbox.answer_control()
        except EXPECTED_FAILURES as failure:
            if client is None:
                raise
            await self._end_after(client, failure)
        except HookFailed:
            assert client is not None
            self._end(client)
        except BaseExceptionGroup as group:
            cancelled, failures = group.split(trio.Cancelled)
            if failures is not None:
                self._failed(connection, failures)
            if cancelled is not None:
                raise cancelled from None
        except Exception as error:
            self._failed(connection, error)
        finally:
            if client is not None and client.joined:
                self._leave(client)
                self.tables.forget(client)
                if client.goodbye is None and self.config.hooks.on_disconnect is None:
                    client.outbox.abort()
                else:
                    with trio.CancelScope(shield=True):
                        await self._see_off(client)
                self._gone()
            if crowd is not None:
                self.entrance.connections.release(crowd)

    async def accept_meeting(self, connection: Connection, request: Request | None) -> None:
        """Serves one end of a meeting; a `Handler`."""
        assert self.meetings is not None
        await self.meetings.accept(connection, request)

    def _proven(self, connection: Connection) -> None:
        """The connection never has to make room for a stranger's."""
        if self._admission is not None:
            self._admission.proven(connection)

    async def _end_after(self, client: LiveClient, failure: Exception) -> None:
        """The connection failed, or the client broke a rule, which it is told."""
        if isinstance(failure, RemoteProtocolError):
            self.counts["protocol_error"] += 1
            self._end(client, failure.close_code, str(failure))
            await self._router.report(str(failure))

    def _failed(self, connection: Connection, error: BaseException) -> None:
        self.counts["connection_failed"] += 1
        log_failure("a connection failed", error)
        connection.abort()

    async def _tell_hook(self, name: str, client: LiveClient) -> None:
        hook: Callable[..., object] | None = getattr(self.config.hooks, name)
        if hook is not None:
            timeout = self.config.hook_timeout
            await call_hook(name, self.counts, timeout, hook, client.view(), secret=client.token)

    async def _see_off(self, client: LiveClient) -> None:
        """The last that is done for a client; bounded by the hook's timeout and two close timeouts."""
        if not (client.replaced or client.id in self.tables.members):
            with contextlib.suppress(HookFailed):  # there is nothing left that it could cost
                await self._tell_hook("on_disconnect", client)
        if client.goodbye is not None:
            await client.goodbye.wait()
        else:
            client.outbox.abort()

    # Coming and going

    def _join(self, client: LiveClient, relay: bool) -> None:
        self._proven(client.connection)
        if self.tables.next_silent == math.inf:
            self._someone.set()
        replaced, frames = self.tables.enter(client, trio.current_time())
        if replaced is not None:
            self.counts["returned"] += 1
            replaced.replaced, replaced.registered = True, False
            self._end(replaced)
        client.joined = client.registered = True
        client.outbox.owner = client
        self._present += 1
        self._total += 1
        client.outbox.answer(OPEN_RELAYING if relay and self.meetings is not None else OPEN)
        self._router.send_waiting(client, frames)
        _log.debug("client %s connected", client.id, extra={"event": "client_connected", "ip": client.ip})

    def _leave(self, client: LiveClient) -> None:
        """The client can not be reached any more; once."""
        if client.registered:
            client.registered = False
            self.tables.leave(client)
            _log.debug("client %s left", client.id, extra={"event": "client_left", "ip": client.ip})

    def _gone(self) -> None:
        self._present -= 1
        if self._all_gone is not None and not self._present:
            self._all_gone.set()

    def _end(self, client: LiveClient, code: int = CLOSE_CODE, reason: str = "") -> None:
        """Ends a client's connection: at once for everybody else, politely for itself."""
        if client.goodbye is None:
            client.goodbye = trio.Event()
            client.outbox.owner = None  # no cycle is left
            self._leave(client)
            self.tables.forget(client)
            if self._over:
                client.outbox.abort()
                client.goodbye.set()
            else:
                self._start_soon(partial(self._say_goodbye, client, client.goodbye, code, reason))

    async def _say_goodbye(self, client: LiveClient, done: trio.Event, code: int, reason: str) -> None:
        """Sends what waits and the close frame; bounded by two close timeouts."""
        try:
            with trio.move_on_after(self.config.limits.close_timeout):
                await client.outbox.drain()
            await client.connection.aclose(code, reason)
        finally:
            client.outbox.abort()
            done.set()

    def _overflow(self, outbox: Outbox) -> None:
        if isinstance(outbox.owner, LiveClient):
            self.counts["slow_disconnected"] += 1
            self._end(outbox.owner)

    # By the clock

    async def watch_silent(self) -> None:
        """Ends clients that have sent no HEARTBEAT for too long; for ever."""
        while True:
            while self.tables.next_silent == math.inf:  # who came may have gone before this task woke up
                self._someone = trio.Event()
                await self._someone.wait()
            await trio.sleep_until(self.tables.next_silent)
            for _ in range(_AT_ONCE):
                if (client := self.tables.pop_silent(trio.current_time())) is None:
                    break
                self.counts["heartbeat_lost"] += 1
                self._end(client)

    async def watch_waiting(self) -> None:
        """Tells senders of messages that have waited in vain; for ever."""
        while True:
            await trio.sleep(self.config.cleanup_interval)
            while self._router.expire(trio.current_time(), _AT_ONCE):
                await trio.lowlevel.checkpoint()

    # For the application

    def statistics(self) -> BrokerStatistics:
        """A snapshot."""
        tables, router = self.tables, self._router
        return BrokerStatistics(
            start_time=self.start_time,
            uptime=trio.current_time() - self._began,
            clients=len(tables.members),
            total_clients=self._total,
            messages_relayed=router.relayed,
            bytes_in=router.bytes_in,
            bytes_out=router.bytes_out,
            backlog=sum(client.outbox.size for client in tables.everybody()),
            waiting_messages=tables.waiting_messages,
            waiting_bytes=tables.waiting_bytes,
            meetings=self.meetings.meetings if self.meetings is not None else 0,
            counts=MappingProxyType({name: count for name, count in self.counts.items() if count}),
        )

    async def drain(self) -> None:
        """Takes nobody in any more and closes all clients; what waits for them is written first."""
        self.entrance.draining = True
        for client in list(self.tables.everybody()):
            self._end(client)
        with trio.move_on_after(self.config.drain_timeout):
            while self._present:
                self._all_gone = trio.Event()
                await self._all_gone.wait()

    def abort(self) -> None:
        """The broker is over, and starts no more tasks: closes all connections at once, a larger server's too."""
        self._over = self.entrance.draining = True
        for client in list(self.tables.everybody()):
            client.outbox.abort()
        if self.meetings is not None:
            self.meetings.abort()


class _TableOptions(TypedDict):
    most_members: int
    alive_timeout: float
    expire_timeout: float
    limits: QueueLimits


def _table_options(config: BrokerConfig) -> _TableOptions:
    return {
        "most_members": config.concurrent_limit,
        "alive_timeout": config.alive_timeout,
        "expire_timeout": config.expire_timeout,
        "limits": QueueLimits(config.queue_messages, config.queue_bytes, config.queued_messages, config.queued_bytes),
    }
