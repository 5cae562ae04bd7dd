"""The way of a client to its address: the checks, in the original's order, and what each refusal says."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

import trio

from ..serving.client_address import client_ip, parse_networks, rate_name
from ..serving.failures import log_failure
from ..serving.hook_calls import HookFailed, call_hook
from ..serving.outbox import Outbox, QueueRules
from ..serving.rates import ConnectionCounter, MessageWindow
from ..transports.routes import Request, Response
from ..transports.websocket import WebSocketConnection
from .addresses import ChannelTable, PeerAddress, parse_query_key, query_flag
from .config import RelayConfig
from .hooks import Refusal, Verification
from .messages import encode_error
from .metering import TrafficMeter
from .peer import BAD_KEY, Ending, LivePeer
from .registry import PeerRegistry, Registry
from .stores.keys import is_key_format, is_valid

__all__ = ["Entrance"]

_log: Final = logging.getLogger("trio_relay.wsrelay")

_INVALID_KEY: Final = Response.typed(403, b"Invalid key", "text/html")
_RATE_LIMITED: Final = Ending(1008, "Rate limited", encode_error("RATE_LIMITED", "Too many connections"))
_NO_KEY: Final = Ending(1008, "Invalid key", encode_error("INVALID_KEY", "Missing or invalid access key"))
_INVALID_URL: Final = Ending(1002, "Invalid URL", encode_error("INVALID_URL", "Invalid connection URL"))
_NOT_VERIFIED: Final = Ending(1011, "Internal verification error")
_IN_USE: Final = Ending(1008, "ID in use", encode_error("ID_IN_USE", "ID already connected on this channel"))


class _Refused(Exception):
    """A client is not let in; the counter says why."""

    def __init__(self, ending: Ending, counter: str) -> None:
        super().__init__(ending.reason)
        self.ending: Final = ending
        self.counter: Final = counter


class Entrance:
    """Decides who is let in.

    Attributes:
        connections: of each IP address, clients that are being refused included.
        meter: the traffic of each key.
    """

    def __init__(self, config: RelayConfig, registry: Registry, counts: Counter[str]) -> None:
        self._registry: Final = registry
        self._view: Final = PeerRegistry(registry)
        self._counts: Final = counts
        self.connections: Final = ConnectionCounter(config.rate_limit_max_connections)
        self.meter: Final = TrafficMeter(config.stats_window, config.stats_history, trio.current_time())
        self.configure(config)

    def configure(self, config: RelayConfig) -> None:
        """Goes by these rules from now on."""
        self._config = config
        self._channels = ChannelTable(config.channel_list)
        self._trusted = parse_networks(config.trusted_proxies)
        self._origins = frozenset(config.origins) if config.origins is not None else None
        self.connections.most = config.rate_limit_max_connections

    def client_ip(self, request: Request) -> str:
        """Where a request comes from, behind trusted proxies."""
        return client_ip(request.remote, request.header(b"x-forwarded-for"), self._trusted)

    # Before the WebSocket opens

    async def guard(self, request: Request) -> Response | None:
        """Refuses an upgrade over HTTP: an Origin that is not allowed, or a bad key if that is wanted so early."""
        origin = request.header(b"origin")
        if self._origins is not None and origin is not None and origin.decode("latin-1") not in self._origins:
            self._counts["refused_origin"] += 1
            return Response.text(403, "Origin not allowed")
        if self._config.on_invalid_key == "reject-upgrade" and self._config.key_store is not False:
            try:
                with trio.fail_after(self._config.verify_timeout):
                    await self._check_key(parse_query_key(request.query))
            except _Refused as refused:
                self._counts[refused.counter] += 1
                if refused.ending is _NOT_VERIFIED:
                    return Response.text(500, "Internal verification error")
                return _INVALID_KEY
            except trio.TooSlowError:
                self._counts["verify_timeout"] += 1
                return Response.text(503, "No decision on this key in time")
            except Exception as error:  # as in `admit`
                self._counts["verify_failed"] += 1
                log_failure("the key store failed", error, parse_query_key(request.query))
                return Response.text(500, "Internal verification error")
        return None

    # After it has opened

    async def admit(
        self, connection: WebSocketConnection, request: Request, ip: str, rules: QueueRules
    ) -> LivePeer | None:
        """A peer that may be registered; None: it was refused, told so, and closed."""
        try:
            with trio.fail_after(self._config.verify_timeout):
                return await self._admit(connection, request, ip, rules)
        except _Refused as refused:
            ending, counter = refused.ending, refused.counter
        except trio.TooSlowError:
            _log.error("no decision on a client within %g s", self._config.verify_timeout)
            ending, counter = _NOT_VERIFIED, "verify_timeout"
        except Exception as error:  # in what the application's code did when it was cut off
            log_failure("letting a client in failed", error, parse_query_key(request.query))
            ending, counter = _NOT_VERIFIED, "verify_failed"
        self._counts[counter] += 1
        await self.refuse(connection, ending)
        return None

    async def refuse_crowd(self, connection: WebSocketConnection) -> None:
        """Refuses a connection that is one too many of its address."""
        self._counts["refused_connections"] += 1
        await self.refuse(connection, _RATE_LIMITED)

    async def refuse(self, connection: WebSocketConnection, ending: Ending) -> None:
        """Says why, and closes; bounded by two close timeouts."""
        try:
            with trio.move_on_after(self._config.limits.close_timeout):
                if ending.frame is not None:
                    await connection.send([ending.frame], text=True)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        await connection.aclose(ending.code, ending.reason)

    async def _admit(self, connection: WebSocketConnection, request: Request, ip: str, rules: QueueRules) -> LivePeer:
        config = self._config
        key: str | None = None
        if config.key_store is not False:
            key = parse_query_key(request.query)
            if config.on_invalid_key == "close-after-connect":
                await self._check_key(key)
        address = self._parse(request.target)
        if config.hooks.verify_peer is not None:
            await self._verify(config.hooks.verify_peer, Verification(address, request, ip, key, self._view))
        channel = self._channels.get(address.channel)
        if channel is not None and channel.on_duplicate == "reject" and address.text in self._registry.peers:
            raise _Refused(_IN_USE, "refused_in_use")
        return LivePeer(
            address,
            ip,
            key,
            time.time(),
            connection=connection,
            outbox=Outbox(connection, rules),
            # Not of `config`: another one may have come while the application decided.
            window=MessageWindow(self._config.rate_limit_max_messages, self._config.rate_limit_window),
            rate_name=rate_name(ip),
            reports=query_flag(request.query, "reports"),
        )

    def _parse(self, target: str) -> PeerAddress:
        """Channel and id; a channel's `parse_id` that raises costs this connection."""
        try:
            address = self._channels.parse_target(target)
        except Exception as error:
            self._counts["hook_failed"] += 1
            log_failure("hook parse_id failed", error)
            raise _Refused(_NOT_VERIFIED, "verify_failed") from error
        if address is None:
            raise _Refused(_INVALID_URL, "refused_url")
        return address

    async def _check_key(self, key: str | None) -> None:
        """Raises `_Refused` unless the key is good."""
        if key is None or not is_key_format(key):
            raise _Refused(_NO_KEY, "refused_key")
        try:
            good = await is_valid(self._config.keys, key)
        except Exception as error:
            self._counts["key_store_failed"] += 1
            log_failure("the key store failed", error, key)
            raise _Refused(_NOT_VERIFIED, "verify_failed") from error
        if not good:
            raise _Refused(BAD_KEY, "refused_key")

    async def _verify(self, hook: Callable[..., object], who: Verification) -> None:
        """Raises `_Refused` unless the application lets the client in."""
        try:
            verdict = await call_hook("verify_peer", self._counts, math.inf, hook, who, secret=who.key)
        except HookFailed as error:
            raise _Refused(_NOT_VERIFIED, "verify_failed") from error
        if verdict is None or verdict is True:
            return
        if verdict is False:
            verdict = Refusal()
        if not isinstance(verdict, Refusal):
            _log.error("hook verify_peer returned %s, not a Refusal, a bool or None", type(verdict).__name__)
            raise _Refused(_NOT_VERIFIED, "verify_failed")
        frame = encode_error(verdict.error_code, verdict.reason or "Peer verification failed")
        raise _Refused(Ending(verdict.close_code, verdict.reason or "Verify failed", frame), "refused_by_hook")
