"""The task that keeps a peer registered at its broker: gets an id, dials, converses, waits, knows when to give up."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Final

import trio

from ...exceptions import HandshakeError, PeerError
from ...limits import Limits
from ...transports.backoff import Backoff
from ...transports.dial import TlsUnavailable, dial_websocket
from ...transports.websocket import WebSocketConnection
from .address import BrokerAddress
from .desk import Desk
from .endings import Ending
from .http import fetch_id, fetch_peers
from .queue import MAX_BYTES, SignalQueue
from .session import Pace, Session

__all__ = ["Signaller"]

logger = logging.getLogger("trio_relay.peerjs")

_MAX_MESSAGE: Final = 1024 * 1024
_STABLE_AFTER: Final = 10.0
"""Seconds after which a connection counts as stable: the back-off begins anew."""


class Signaller:
    """Run it once, as a task of its own. What is sent before the peer is registered waits, and so it does meanwhile.

    Args:
        server: the broker.
        id: the peer's; None: the broker makes one.
        token: with which the peer registers again; never shown.
        ping_interval: seconds between HEARTBEATs.
        reconnect: whether to try again after the connection was lost; the first attempt is the only one in any case.
        max_reconnect_delay: seconds between attempts, at most.
        connect_timeout: seconds for one attempt, until the broker has taken the peer in.
        limits: `ping_after`, `dead_after`, `close_timeout`, and those of HTTP and of sockets are read.
        counts: ``signals_sent``, ``signals_full``, ``signals_expired``, ``signals_unsent``, ``signals_malformed``,
            ``signals_untimely``, ``broker_opened``, ``broker_lost``, ``broker_failed``, ``broker_silent`` and
            ``broker_violations``.
        random: gives numbers from 0 up to 1, for the back-off.
        relayed: ask whether the broker carries connections that WebRTC can not.
        known: the peer was registered there before, with this token: the broker may say nothing when it comes back.
        keep: seconds that a frame waits at most.

    Raises:
        ValueError: the token is empty, or has characters that no URL can have.
    """

    def __init__(
        self,
        server: BrokerAddress,
        *,
        id: str | None,
        token: str,
        ping_interval: float,
        reconnect: bool,
        max_reconnect_delay: float,
        connect_timeout: float,
        limits: Limits,
        counts: Counter[str],
        desk: Desk,
        random: Callable[[], float],
        relayed: bool = False,
        known: bool = False,
        keep: float = 10.0,
    ) -> None:
        if not token or not token.isprintable():
            raise ValueError("expected a token of printable characters")
        self._server: Final = server
        self._id = id
        self._token: Final = token
        self._reconnect: Final = reconnect
        self._timeout: Final = connect_timeout
        self._limits: Final = limits
        self._counts: Final = counts
        self._desk: Final = desk
        self._wants_relay: Final = relayed
        self._relayed = False
        self._known = known
        self._was_open = False
        self._backoff: Final = Backoff(max_reconnect_delay, random)
        self._queue: Final = SignalQueue(keep, counts)
        self._pace: Final = Pace(
            heartbeat=ping_interval,
            ping_after=limits.ping_after,
            dead_after=limits.dead_after,
            close=limits.close_timeout,
        )
        self._session: Session | None = None
        self._open = False
        self._over = False
        self._scope: Final = trio.CancelScope()
        self._closed: trio.Event | None = None

    def __repr__(self) -> str:
        state = "over" if self._over else "open" if self._open else "connecting"
        return f"<Signaller of {self._id!r} at {self._server.authority}, {state}>"

    @property
    def id(self) -> str | None:
        """The peer's id; None while it has none."""
        return self._id

    @property
    def open(self) -> bool:
        """Whether the peer is registered now, as far as is known."""
        return self._open

    async def run(self) -> None:
        """Keeps the peer registered until it is refused for good, or `close` is called, or reconnection is off."""
        with self._scope:
            while self._closed is None:
                retry_in = self._settle(await self._attempt())
                if retry_in is None:
                    break
                await trio.sleep(retry_in)
                self._queue.expire(trio.current_time())
        self._finish()

    def send(self, frame: bytes) -> None:
        """Sends one frame as soon as the peer is registered; never waits.

        Raises:
            PeerError: ``network``: too much waits already; ``disconnected``: it was closed, or gave up.
        """
        if self._over or self._closed is not None:
            raise PeerError("disconnected", "the peer is disconnected from its broker")
        if len(frame) > MAX_BYTES:
            self._counts["signals_full"] += 1
            raise PeerError("network", f"expected at most {MAX_BYTES} bytes for the broker, not {len(frame)}")
        if not self._queue.put(frame, trio.current_time()):
            raise PeerError("network", "too many messages wait for the broker")
        if self._session is not None:
            self._session.wake()

    async def list_peers(self) -> list[str]:
        """The ids of all peers at the broker.

        Raises:
            PeerError: ``server-error``, ``ssl-unavailable``.
        """
        return await fetch_peers(self._server, limits=self._limits, timeout=self._timeout)

    async def close(self) -> None:
        """Sends what waits, says goodbye, and ends `run`, within twice `Limits.close_timeout`; the desk hears nothing
        of it. Idempotent."""
        with trio.CancelScope(shield=True):
            await trio.lowlevel.checkpoint()
            if self._closed is not None:
                await self._closed.wait()
                return
            self._closed = trio.Event()
            if self._session is not None:
                await self._session.say_goodbye()
            self._scope.cancel()
            self._finish()
            self._closed.set()

    def _finish(self) -> None:
        self._over, self._open = True, False
        self._queue.clear()

    # One attempt

    async def _attempt(self) -> Ending:
        """Registers and converses until that is over; returns how it ended."""
        deadline = trio.current_time() + self._timeout
        try:
            if self._id is None:
                self._id = await fetch_id(self._server, limits=self._limits, timeout=self._timeout)
            connection = await self._dial(self._id, deadline)
        except PeerError as error:
            return Ending(error)
        self._session = Session(
            connection,
            self._queue,
            self._pace,
            self._counts,
            deadline=deadline,
            known=self._known,
            opened=self._opened,
            deliver=self._desk.on_message,
        )
        try:
            return await self._session.run()
        finally:
            self._session = None
            self._open = False

    async def _dial(self, id: str, deadline: float) -> WebSocketConnection:
        """Opens the WebSocket.

        Raises:
            PeerError: ``socket-error``, ``ssl-unavailable``.
        """
        url = self._server.websocket_url(id, self._token, relay=self._wants_relay)
        try:
            with trio.fail_at(deadline):
                return await dial_websocket(
                    str(url),
                    limits=self._limits,
                    ssl_context=self._server.ssl_context,
                    subprotocol=False,
                    max_message=_MAX_MESSAGE,
                )
        except trio.TooSlowError:
            reason = f"no answer within {self._timeout:g} s"
        except TlsUnavailable as error:
            raise PeerError("ssl-unavailable", str(error)) from error
        except HandshakeError as error:
            reason = str(error)
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that has no form in the DNS
            reason = getattr(error, "strerror", None) or str(error)
        raise PeerError("socket-error", f"could not open a WebSocket to {self._server.authority}: {reason}")

    def _opened(self, relayed: bool | None) -> None:
        assert self._id is not None
        self._open = self._was_open = self._known = True
        if relayed is not None:
            self._relayed = relayed and self._wants_relay
        self._counts["broker_opened"] += 1
        logger.info("registered as %r at %s", self._id, self._server.authority)
        self._desk.on_open(self._id, self._relayed)

    def _settle(self, ending: Ending) -> float | None:
        """Tells the user; returns the seconds until the next attempt, None if there is none."""
        if self._closed is not None:
            return None
        if ending.open_for is not None and ending.open_for >= _STABLE_AFTER:
            self._backoff.reset()
        self._counts["broker_failed" if ending.open_for is None else "broker_lost"] += 1
        if ending.final or not self._was_open or not self._reconnect:
            logger.info("gave up %s: %s", self._server.authority, ending.error)
            self._finish()
            self._desk.on_over(ending.error)
            return None
        retry_in = self._backoff.next()
        logger.info("not registered at %s: %s; next attempt in %.1f s", self._server.authority, ending.error, retry_in)
        if ending.open_for is not None:
            self._desk.on_lost(ending.error)
        return retry_in
