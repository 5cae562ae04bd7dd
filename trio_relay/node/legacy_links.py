"""The links with original nodes: greetings, dials, and the reader of each link."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import trio

from ..exceptions import HandshakeError, RemoteProtocolError
from ..transports.connection import Connection
from ..transports.transport import Transport
from ..wire.envelope import parse_id_frame_untrusted
from ..wire.hello import Reason
from ..wire.ids import NodeId, short
from .dialler import EXPECTED, is_allowed
from .legacy.actions import DialLegacy, GatewayAction, NegotiateLegacy
from .legacy.gateway import Gateway
from .runtime import Runtime

__all__ = ["LegacyRunner"]

logger = logging.getLogger("trio_relay")


class LegacyRunner:
    """Runs connections with originals.

    Args:
        act: carries out what the gateway wants.
    """

    def __init__(
        self,
        runtime: Runtime,
        transport: Transport,
        gateway: Gateway,
        act: Callable[[Sequence[GatewayAction]], None],
    ) -> None:
        self._runtime: Final = runtime
        self._transport: Final = transport
        self._gateway: Final = gateway
        self._act: Final = act

    async def run(
        self,
        connection: Connection,
        first: str | None,
        messages: Sequence[bytes | str],
        *,
        dialled: bool,
        since: float | None = None,
    ) -> None:
        """The life of a WebSocket with an original: its id, ours, then envelopes."""
        since = trio.current_time() if since is None else since
        try:
            with trio.fail_at(since + self._runtime.limits.handshake_timeout):
                peer, messages = await self._meet(connection, first, messages, None)
        except EXPECTED as error:
            self._log_failure(connection.remote, error)
            await connection.aclose()
            return
        self._transport.proven(connection)
        await self._run_link(connection, peer, messages, dialled)

    def _log_failure(self, remote: str, error: BaseException) -> str:
        reason = str(error) or "timed out"
        self._runtime.counts["handshakes_failed"] += 1
        logger.debug("link with original %s failed: %s", remote, reason)
        return reason

    async def _meet(
        self,
        connection: Connection,
        first: str | None,
        messages: Sequence[bytes | str],
        expected: NodeId | None,
    ) -> tuple[NodeId, Sequence[bytes | str]]:
        """Reads the other id before ours is sent: an original that never heard us takes no harm from a refusal."""
        frame: bytes | str | None = first
        if frame is None:
            received = await connection.receive()
            if not received:
                raise HandshakeError("it closed the connection before its id")
            frame, messages = received[0], received[1:]
        peer = parse_id_frame_untrusted(frame)
        reason = self._gateway.refusal(peer)
        if expected is not None and peer != expected:
            reason = Reason.BAD_PROOF
        if reason is not None:
            self._gateway.counts[f"legacy_refused_{reason.name.lower()}"] += 1
            raise HandshakeError(f"{short(peer)} is refused: {reason.name.lower()}")
        self._act(self._gateway.begin_greeting(peer))
        try:
            await connection.send([self._gateway.id_frame()], text=True)
        finally:
            self._gateway.end_greeting(peer)
        return peer, messages

    async def _run_link(
        self,
        connection: Connection,
        peer: NodeId,
        messages: Sequence[bytes | str],
        dialled: bool,
        negotiation: int | None = None,
    ) -> None:
        """The life of a link; `negotiation`: the attempt at WebRTC that led to it."""
        runtime = self._runtime
        link = runtime.link(connection, peer, dialled=dialled, legacy=True)
        reason, now = "connection lost", trio.current_time()
        try:
            up = self._gateway.link_up(link, peer, now, dialled=dialled, scope=link.scope, negotiation=negotiation)
            self._act(up)
            while True:
                for message in messages:
                    self._act(self._gateway.receive(link, message, trio.current_time()))
                messages = await connection.receive()
                if connection.control_pending:
                    link.answer_control()
                if not messages:
                    reason = "closed by the other side"
                    break
        except RemoteProtocolError as error:
            reason = str(error)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self._act(self._gateway.link_down(link, reason, trio.current_time()))
            runtime.links.discard(link)
            if not link.closing:
                link.close_soon(Reason.UNWANTED)
        await link.wait_closed()

    async def dial(self, dial: DialLegacy) -> None:
        """A link that our application wants, at the address that the original gave."""
        timeout = self._runtime.limits.handshake_timeout
        connection = None
        try:
            with trio.fail_after(timeout if dial.patience is None else min(dial.patience, timeout)):
                connection = await self._transport.dial(
                    dial.url,
                    subprotocol=False,
                    allow_address=partial(is_allowed, dial.scope),
                    max_message=self._runtime.limits.legacy_message,
                )
                peer, messages = await self._meet(connection, None, (), dial.peer)
        except EXPECTED as error:
            reason = f"can't dial {dial.url}: {self._log_failure(dial.url, error)}"
            self._act(self._gateway.handshakes.dial_failed(dial.peer, reason, trio.current_time()))
            if connection is not None:
                await connection.aclose()
            return
        await self._run_link(connection, peer, messages, True)

    async def run_channel(self, connection: Connection, action: NegotiateLegacy) -> None:
        """A WebRTC link: no ids are exchanged, it is with whom the signals came from."""
        if self._runtime.desk.closed:
            connection.abort()
        else:
            await self._run_link(connection, action.peer, (), action.offer is None, action.number)
