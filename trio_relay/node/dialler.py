"""Outgoing connections: what the router wants dialled, bootstrap addresses, and whoever dials us."""

from __future__ import annotations

import logging
import os
import random
from functools import partial
from typing import Final

import trio

from ..exceptions import HandshakeError, RemoteProtocolError
from ..overlay.actions import Dial
from ..overlay.handshake import Refused
from ..overlay.reachability import authorities
from ..transports.connection import Connection
from ..transports.routes import Request
from ..transports.transport import Transport
from ..wire.addresses import is_dialable, scope, split_host_port
from ..wire.hello import Reason
from ..wire.urls import authority
from .proving import Introduced, LegacyPeer, prove_as_acceptor, prove_as_dialler
from .runtime import Runtime

__all__ = ["EXPECTED", "Dialler", "is_allowed"]

logger = logging.getLogger("trio_relay")

EXPECTED: Final = (
    OSError,
    ValueError,
    HandshakeError,
    RemoteProtocolError,
    trio.TooSlowError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
)
"""How an attempt to link may end."""

_FIRST_RETRY: Final = 0.5
_LAST_RETRY: Final = 60.0
_STEADY: Final = 10.0
"""A link that lasted so long ended for a reason of its own: its address is tried again at once."""
_LINKED_RETRY: Final = 300.0
"""A bootstrap address that is down is retried so seldom while there are relays: to rejoin after a partition."""


class Dialler:
    """Makes links in both directions; connections with original nodes go to `Runtime.legacy`, if there is one."""

    def __init__(self, runtime: Runtime, transport: Transport) -> None:
        self._runtime: Final = runtime
        self._transport: Final = transport
        self._attempts: Final = trio.CapacityLimiter(runtime.limits.dials)
        self._rng: Final = random.Random(os.urandom(16))
        runtime.dial = self.dial

    # Incoming

    async def accept(self, connection: Connection, request: Request | None) -> None:
        """One accepted connection, from its handshake to its end."""
        runtime = self._runtime
        if runtime.desk.closed:
            return
        began = trio.current_time() if request is None else request.since
        # A request is large, and this task lives as long as the link.
        del request
        if connection.offered_subprotocol:
            introduced = await self._introduce_incoming(connection, began)
            if introduced is not None:
                running = runtime.run_link(
                    connection, introduced.peer, introduced.messages, dialled=False, rtt=introduced.rtt
                )
                del introduced  # an idle link does not hold it
                await running
        elif runtime.legacy is not None:
            await runtime.legacy.run(connection, None, (), dialled=False, since=began)
        else:
            runtime.counts["legacy_refused"] += 1
            await connection.aclose(1002, "expected the subprotocol trio-relay.1")

    async def _introduce_incoming(self, connection: Connection, began: float) -> Introduced | None:
        """The peer that is to be linked with; None for a probe, and when it proved nothing in time."""
        runtime = self._runtime
        try:
            with trio.fail_at(began + runtime.limits.handshake_timeout):
                introduced = await self._introduce(connection, dialled=False)
        except EXPECTED as error:
            self._failed("incoming", connection.remote, error)
            return None
        self._transport.proven(connection)
        peer = introduced.peer
        if not peer.probe:
            return introduced
        runtime.act(runtime.router.reached(peer.id, peer.authority, trio.current_time()))
        return None

    def _failed(self, what: str, where: str, error: BaseException) -> None:
        self._runtime.counts["handshakes_failed"] += 1
        text = "timed out" if isinstance(error, trio.TooSlowError) else str(error)
        logger.debug("%s link with %s failed: %s", what, where, text)

    async def attach(self, connection: Connection, *, dialled: bool) -> None:
        """A connection of the embedding program, from the handshake on; returns when the link is up.

        Raises:
            HandshakeError: it did not come up.
            trio.ClosedResourceError: the node is closing.
        """
        runtime = self._runtime
        try:
            with trio.fail_after(runtime.limits.handshake_timeout):
                introduced = await self._introduce(connection, dialled)
        except EXPECTED as error:
            self._failed("attached", connection.remote, error)
            text = "timed out" if isinstance(error, trio.TooSlowError) else str(error)
            raise HandshakeError(f"could not link over the attached connection: {text}") from error
        run = partial(
            runtime.run_link, connection, introduced.peer, introduced.messages, dialled=dialled, rtt=introduced.rtt
        )
        await runtime.services.start(run)
        runtime.desk.check_open()

    async def _introduce(self, connection: Connection, dialled: bool) -> Introduced:
        runtime = self._runtime
        router = runtime.router
        if not dialled:
            return await prove_as_acceptor(
                connection,
                runtime.identity,
                record=router.record.raw,
                authorities=router.authorities,
                admit=runtime.admit,
            )
        introduced = await prove_as_dialler(
            connection, runtime.identity, record=lambda: router.record.raw, authority=connection.remote
        )
        if isinstance(introduced, LegacyPeer):
            raise HandshakeError("the other end is an original peer-relay node; those can't be attached")
        return introduced

    # Outgoing

    def dial(self, dial: Dial) -> None:
        """Carries out a `Dial` of the router."""
        if not self._runtime.desk.closed:
            self._runtime.services.start_soon(self._dial, dial)

    async def _dial(self, dial: Dial) -> None:
        runtime = self._runtime
        router = runtime.router
        for url in dial.urls:
            try:
                connection, introduced = await self._connect(url, dial)
            except EXPECTED as error:
                self._failed("outgoing", url, error)
                continue
            if isinstance(introduced, LegacyPeer):
                connection.abort()
            elif dial.probe:
                runtime.act(router.probe_ended(dial.expected, True, trio.current_time()))
                await connection.aclose()
                return
            else:
                await self._run(connection, introduced, url)
                return
        now = trio.current_time()
        if dial.probe:
            runtime.act(router.probe_ended(dial.expected, False, now))
        else:
            runtime.act(router.dial_failed(dial.expected, now))

    async def _connect(self, url: str, dial: Dial | None) -> tuple[Connection, Introduced | LegacyPeer]:
        """Dials one address and runs the handshake; nothing is left open when it fails."""
        async with self._attempts:
            return await self._prove(url, dial)

    async def _prove(self, url: str, dial: Dial | None) -> tuple[Connection, Introduced | LegacyPeer]:
        runtime = self._runtime
        allowed = None if dial is None else partial(is_allowed, dial.scope)
        with trio.fail_after(runtime.limits.handshake_timeout):
            connection = await self._transport.dial(url, allow_address=allowed)
            try:
                introduced = await prove_as_dialler(
                    connection,
                    runtime.identity,
                    record=lambda: runtime.router.record.raw,
                    authority=authority(url),
                    expected=dial.expected if dial is not None else None,
                    from_record=dial is not None,
                    probe=dial is not None and dial.probe,
                )
            except BaseException as error:
                connection.abort()
                if isinstance(error, Refused) and error.records:
                    found = split_host_port(connection.remote)
                    near = scope(found[0] if found is not None else connection.remote)
                    runtime.act(runtime.router.learn(error.records, near, trio.current_time()))
                raise
        return connection, introduced

    async def bootstrap(self, url: str) -> None:
        """Keeps one bootstrap address linked: retried for ever, quietly, seldom while there are other relays."""
        runtime = self._runtime
        failures = 0
        while not runtime.desk.closed:
            if not self._linked_with(url):
                try:
                    connection, introduced = await self._connect(url, None)
                except EXPECTED as error:
                    failures += 1
                    self._failed("bootstrap", url, error)
                    if isinstance(error, Refused) and error.reason == Reason.SELF:
                        return
                else:
                    began = trio.current_time()
                    await self._run(connection, introduced, url)
                    # Whoever let us go soon would do so again.
                    failures = 0 if trio.current_time() - began > _STEADY else failures + 1
            await self._pause(url, failures)

    async def _run(self, connection: Connection, introduced: Introduced | LegacyPeer, url: str) -> None:
        runtime = self._runtime
        if isinstance(introduced, Introduced):
            await runtime.run_link(
                connection, introduced.peer, introduced.messages, dialled=True, url=url, rtt=introduced.rtt
            )
        elif runtime.legacy is not None:
            await runtime.legacy.run(connection, introduced.first, introduced.messages, dialled=True)
        else:
            runtime.counts["legacy_refused"] += 1
            await connection.aclose()

    def _linked_with(self, url: str) -> bool:
        wanted = authority(url)
        for neighbour in self._runtime.router.table:
            advertised = neighbour.record.urls if neighbour.record is not None else ()
            if wanted in authorities((neighbour.url, *advertised)):
                return True
        return False

    async def _pause(self, url: str, failures: int) -> None:
        delay = min(_FIRST_RETRY * 2 ** min(failures, 10), _LAST_RETRY) * self._rng.uniform(0.5, 1.0)
        await trio.sleep(delay)
        if self._runtime.router.table.relay_count:
            retry = _LINKED_RETRY if self._is_known(url) else _LAST_RETRY
            with trio.move_on_after(retry * self._rng.uniform(0.75, 1.25)):
                await self._runtime.lonely.wait()

    def _is_known(self, url: str) -> bool:
        """Whether a relay of our network advertises that address; if none does, we may be on an island."""
        wanted = authority(url)
        return any(wanted in authorities(record.urls) for record in self._runtime.router.known_relays())


def is_allowed(limit: int, address: str) -> bool:
    """Whether an address is no nearer than allowed: a record from afar must not lead into our own network."""
    return is_dialable(address) and scope(address) <= limit
