"""The way of a client to its id: the checks, in the original's order, and what each refusal says."""

from __future__ import annotations

import itertools
import logging
import time
from collections import Counter
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

import trio

from ..._bounded import TokenBucket
from ...serving.client_address import client_ip, parse_networks, rate_name
from ...serving.hook_calls import HookFailed, call_hook
from ...serving.outbox import Outbox, QueueRules
from ...serving.rates import ConnectionCounter
from ...transports.routes import Request
from ...transports.websocket import WebSocketConnection
from .client import LiveClient
from .config import BrokerConfig
from .core import Core, Verdict
from .hooks import Registration
from .messages import ID_TAKEN, encode_error

__all__ = ["CLOSE_CODE", "Entrance", "Refusal"]

_log: Final = logging.getLogger("trio_relay.peerjs")

CLOSE_CODE: Final = 1005
"""For every close frame of the broker that ends a connection for no fault of the client's: there is none in it."""


class Refusal(NamedTuple):
    """Why a client is not let in: a frame for it, or None, and the name under which it is counted."""

    frame: bytes | None
    counter: str


class Query(NamedTuple):
    """What a client says in its URL."""

    id: str
    token: str
    key: str
    relay: bool


_INCOMPLETE: Final = Refusal(encode_error("No id, token, or key supplied to websocket server"), "refused_incomplete")
_TOO_LONG: Final = Refusal(encode_error("The id or token is too long"), "refused_long")
_INVALID_KEY: Final = Refusal(encode_error("Invalid key provided"), "refused_key")
_CROWDED: Final = Refusal(encode_error("Too many connections from this address"), "refused_connections")
_FAILED: Final = Refusal(encode_error("Internal error"), "authenticate_failed")
_DRAINING: Final = Refusal(None, "refused_draining")
_OVERTAKEN: Final = Refusal(None, "refused_overtaken")
_VERDICTS: Final = {
    Verdict.TAKEN: Refusal(ID_TAKEN, "refused_taken"),
    Verdict.FULL: Refusal(encode_error("Server has reached its concurrent user limit"), "refused_full"),
}


class Entrance:
    """Decides who is let in.

    Attributes:
        connections: of each IP address, clients that are being refused included.
        draining: nobody is let in any more.
    """

    def __init__(self, config: BrokerConfig, core: Core[LiveClient], rules: QueueRules, counts: Counter[str]) -> None:
        self._config = config
        self._core: Final = core
        self._rules: Final = rules
        self._counts: Final = counts
        self._trusted: Final = parse_networks(config.trusted_proxies)
        self._arrivals: Final = itertools.count()
        self.connections: Final = ConnectionCounter(config.max_connections_per_ip)
        self.draining = False

    def configure(self, config: BrokerConfig) -> None:
        """For newcomers from now on; `trusted_proxies` and `key` stay as they were."""
        self._config = config
        self.connections.most = config.max_connections_per_ip

    def client_ip(self, request: Request) -> str:
        """Where a request comes from, behind trusted proxies."""
        return client_ip(request.remote, request.header(b"x-forwarded-for"), self._trusted)

    async def take(self, connection: WebSocketConnection, ip: str) -> bool:
        """Counts a connection of an address, until `connections.release`; False: it was refused, and closed."""
        if not self.connections.take(rate_name(ip)):
            await self.refuse(connection, _CROWDED)
            return False
        return True

    async def admit(self, connection: WebSocketConnection, request: Request, ip: str) -> tuple[LiveClient, bool] | None:
        """A client that may be registered at once, and whether it asked for meetings; None: it was refused."""
        query, arrived = _parse(request.query), next(self._arrivals)
        refusal = self._check(query) or await self._authenticate(query, ip, request)
        if refusal is None:
            # After the application's decision, which may take its time.
            refusal = _DRAINING if self.draining else self._judge(query, arrived)
        if refusal is not None:
            await self.refuse(connection, refusal)
            return None
        config = self._config
        rate: TokenBucket | None = None
        if config.max_messages_per_second is not None:
            rate = TokenBucket(config.max_messages_per_second, config.burst_messages, trio.current_time())
        client = LiveClient(
            query.id,
            query.token,
            ip,
            rate_name(ip),
            time.time(),
            arrived=arrived,
            connection=connection,
            outbox=Outbox(connection, self._rules),
            rate=rate,
        )
        return client, query.relay

    async def refuse(self, connection: WebSocketConnection, refusal: Refusal) -> None:
        """Says why, and closes; bounded by two close timeouts."""
        self._counts[refusal.counter] += 1
        try:
            with trio.move_on_after(self._config.limits.close_timeout):
                if refusal.frame is not None:
                    await connection.send([refusal.frame], text=True)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        await connection.aclose(CLOSE_CODE)

    def _judge(self, query: Query, arrived: int) -> Refusal | None:
        """Whether the id can be had; who came back once more while the application decided is not thrown out again."""
        there = self._core.members.get(query.id)
        verdict = self._core.judge(query.id, query.token)
        if verdict is Verdict.RETURNS and there is not None and there.arrived > arrived:
            return _OVERTAKEN
        return _VERDICTS.get(verdict)

    def _check(self, query: Query) -> Refusal | None:
        if self.draining:
            return _DRAINING
        if not (query.id and query.token and query.key):
            return _INCOMPLETE
        if max(len(query.id), len(query.token)) > self._config.max_id:
            return _TOO_LONG
        return _INVALID_KEY if query.key != self._config.key else None

    async def _authenticate(self, query: Query, ip: str, request: Request) -> Refusal | None:
        """What the application says."""
        hook = self._config.hooks.authenticate
        if hook is None:
            return None
        who, timeout = Registration(query.id, query.token, ip, request), self._config.hook_timeout
        try:
            verdict = await call_hook("authenticate", self._counts, timeout, hook, who, secret=query.token)
        except HookFailed:
            return _FAILED
        if verdict is None or verdict is True:
            return None
        if verdict is False:
            verdict = "Not allowed"
        if isinstance(verdict, str):
            return Refusal(encode_error(verdict), "refused_by_hook")
        _log.error("hook authenticate returned %s, not a bool, a str or None", type(verdict).__name__)
        return _FAILED


def _parse(query: str) -> Query:
    """As browsers' ``URLSearchParams`` does; of several values the last one counts."""
    if "%" in query or "+" in query:
        found = dict(parse_qsl(query, keep_blank_values=True))
    else:  # there is nothing to decode
        found = dict(part.partition("=")[::2] for part in query.split("&") if part)
    return Query(found.get("id", ""), found.get("token", ""), found.get("key", ""), found.get("relay") == "1")
