"""Original nodes at the door: runs their connections, and carries out what the gateway wants done."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import trio

from ..exceptions import HandshakeError, NegotiationFailed, RemoteProtocolError
from ..overlay.actions import DeliverLegacy, Found, Tunnel
from ..transports.connection import Connection
from ..transports.transport import Transport
from ..wire.content import Data, encode_content
from ..wire.envelope import parse_id_frame_untrusted
from ..wire.frame import Kind, build_frame, parse_frames_untrusted
from ..wire.hello import Reason
from ..wire.ids import NodeId, short
from ..wire.json import encode
from ..wire.record import PeerRecord, build_record, join_records
from .carrying import carry
from .dialler import EXPECTED, is_allowed
from .legacy.actions import (
    CloseLegacy,
    ConnectFailed,
    DialLegacy,
    GatewayAction,
    Introduce,
    LegacyLinked,
    LegacyUnlinked,
    Lookup,
    Publish,
    Received,
    SendCarried,
    SendOverlay,
    SendText,
    TunnelFrame,
)
from .legacy.gateway import Gateway
from .link import Link
from .overlay_view import RouterView
from .runtime import Runtime
from .values import LinkDown, LinkUp, Receipt

__all__ = ["Gatekeeper"]

logger = logging.getLogger("trio_relay")


@dataclass(frozen=True, slots=True)
class _Question:
    """Marks a lookup as the gateway's.

    Attributes:
        asked: whether there was a relay to ask.
    """

    asked: bool


class Gatekeeper:
    """The I/O around a `Gateway`; what the runtime knows as its `Legacy`."""

    def __init__(self, runtime: Runtime, transport: Transport) -> None:
        self._runtime: Final = runtime
        self._transport: Final = transport
        self._overlay: Final = RouterView(runtime)
        self._gateway: Final = Gateway(
            runtime.identity.id,
            limits=runtime.limits,
            rng=random.SystemRandom(),
            now=trio.current_time(),
            overlay=self._overlay,
            url=lambda: next(iter(runtime.router.record.urls), None),
            admission=runtime.admission,
        )
        self._timer = trio.CancelScope()

    # Connections

    async def run(
        self,
        connection: Connection,
        first: str | None,
        messages: Sequence[bytes | str],
        *,
        dialled: bool,
        since: float | None = None,
        expected: NodeId | None = None,
    ) -> None:
        """The life of a connection with an original: its id, ours, then envelopes."""
        since = trio.current_time() if since is None else since
        try:
            with trio.fail_at(since + self._runtime.limits.handshake_timeout):
                peer, messages = await self._meet(connection, first, messages, expected)
        except EXPECTED as error:
            self._runtime.counts["handshakes_failed"] += 1
            logger.debug("link with original %s failed: %s", connection.remote, error or "timed out")
            await connection.aclose()
            return
        self._transport.proven(connection)
        await self._run_link(connection, peer, messages, dialled)

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
        await connection.send([self._gateway.id_frame()], text=True)
        return peer, messages

    async def _run_link(
        self, connection: Connection, peer: NodeId, messages: Sequence[bytes | str], dialled: bool
    ) -> None:
        runtime = self._runtime
        link = runtime.link(connection, peer, dialled=dialled, legacy=True)
        reason = "connection lost"
        try:
            self._act(self._gateway.link_up(link, peer, trio.current_time(), dialled=dialled, scope=link.scope))
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

    async def _dial(self, dial: DialLegacy) -> None:
        runtime = self._runtime
        try:
            with trio.fail_after(runtime.limits.handshake_timeout):
                connection = await self._transport.dial(
                    dial.url,
                    subprotocol=False,
                    allow_address=partial(is_allowed, dial.scope),
                    max_message=runtime.limits.legacy_message,
                )
        except EXPECTED as error:
            runtime.counts["handshakes_failed"] += 1
            runtime.desk.grant(dial.peer, NegotiationFailed(f"can't dial {dial.url}: {error or 'timed out'}"))
            return
        await self.run(connection, None, (), dialled=True, expected=dial.peer)

    # What the runtime asks

    def claims(self, to: NodeId) -> bool:
        """Whether messages for that id go by the gateway: for every id that is not known to have a key."""
        return not self._overlay.is_ours(to)

    def is_original(self, to: NodeId) -> bool:
        """Whether there is a sign that the id is an original's."""
        return self._gateway.is_original(to, trio.current_time())

    def is_keyless(self, to: NodeId) -> bool:
        """Whether it was asked a moment ago if the id has a key, in vain."""
        return self._gateway.is_keyless(to, trio.current_time())

    def is_linked(self, to: NodeId) -> bool:
        """Whether there is a direct link with that original."""
        return self._gateway.link_of(to) is not None

    def first_link(self, to: NodeId) -> Link | None:
        """The link that a message for that id leaves by: the original's own, or the one towards who carries it."""
        link = self._gateway.link_of(to)
        if link is None:
            carrier = self._gateway.carrier_of(to, trio.current_time())
            neighbour = self._runtime.router.first_hop(to if carrier is None else carrier)
            link = None if neighbour is None else neighbour.link
        assert link is None or isinstance(link, Link)
        return link

    def has_room(self, to: NodeId) -> bool:
        """Whether `send` has a way for a message, or room to keep it until a lookup ends (`Desk.change` follows)."""
        return self._gateway.has_room(to, trio.current_time())

    def send(self, to: NodeId, data: Data) -> None:
        """A message for an id that may be an original's.

        While nothing is linked nobody can be asked whose the id is: then the overlay keeps it for the first link.
        """
        router = self._runtime.router
        if not len(router.table) and not router.tunnels and not self.is_original(to):
            self._carry_out(SendOverlay(to, data))
        else:
            self._act(self._gateway.send(to, data, trio.current_time()))

    def connect(self, to: NodeId) -> None:
        """A direct link with an original: `LinkUp` follows, or the wish fails."""
        self._act(self._gateway.connect(to, trio.current_time()))

    def disconnect(self, to: NodeId) -> None:
        """Closes the link with an original, if there is one."""
        self._act(self._gateway.disconnect(to, trio.current_time()))

    def carried(self, action: DeliverLegacy) -> None:
        """An envelope that one of our nodes carried here."""
        now = trio.current_time()
        self._act(self._gateway.receive_carried(action.envelope, action.source, now, scope=action.scope))

    def found(self, action: Found) -> None:
        """A lookup of the gateway ended."""
        assert isinstance(action.query, _Question)
        self.looked_up(action.target, asked=action.query.asked)

    def looked_up(self, to: NodeId, *, asked: bool) -> None:
        """A lookup, the gateway's or the application's, ended: what waited for it leaves."""
        self._act(self._gateway.looked_up(to, trio.current_time(), asked=asked))
        self._runtime.desk.change()

    def tunnel(self, action: Tunnel) -> None:
        """A frame of ours for which the overlay has no way."""
        self._act(self._gateway.tunnel(action.frame, action.to, trio.current_time()))

    def overlay_changed(self) -> None:
        """A link of our own protocol came up."""
        self._gateway.overlay_changed(trio.current_time())

    @property
    def counts(self) -> dict[str, int]:
        """The gateway's counters."""
        return dict(self._gateway.counts)

    @property
    def sizes(self) -> dict[str, int]:
        """How full the gateway's tables are."""
        return dict(self._gateway.sizes())

    # What the gateway wants

    async def keep_time(self) -> None:
        """The gateway's timer; a task of the node."""
        while True:
            with trio.CancelScope(deadline=self._gateway.next_deadline()) as self._timer:
                await trio.sleep_forever()
            self._act(self._gateway.handle_timeout(trio.current_time()))
            self._runtime.desk.change()

    def _act(self, actions: Sequence[GatewayAction]) -> None:
        for action in actions:
            self._carry_out(action)
        self._runtime.router.tunnels = bool(self._gateway.sizes()["legacy_links"])
        deadline = self._gateway.next_deadline()
        if deadline != self._timer.deadline:
            self._timer.deadline = deadline

    def _carry_out(self, action: GatewayAction) -> None:
        runtime, router = self._runtime, self._runtime.router
        now = trio.current_time()
        match action:
            case SendText(link=Link() as link):
                link.transmit([action.text], 1, len(action.text), action.via, control=False, text=True)
            case Received():
                runtime.act(router.put(action.data, action.sender, _length(action.data), now))
            case SendCarried():
                carry(runtime, self._gateway.counts, action, self._carry_ended)
            case SendOverlay():
                runtime.act(router.send(action.to, encode_content(action.data), now))
            case Publish():
                runtime.act(router.publish(self._gateway_record(action.legacy_id), now))
            case Lookup():
                asked = bool(router.table.closest_relays(action.target, 1))
                started, todo = router.lookup(action.target, _Question(asked), now)
                runtime.act(todo)
                if not started:
                    self._act(self._gateway.looked_up(action.target, now, asked=False))
            case TunnelFrame():
                runtime.act(router.receive_tunnelled(parse_frames_untrusted(action.frame)[0], action.scope, now))
            case Introduce():
                self._introduce(action.peer, Kind.CONNECT if action.dial and router.record.urls else Kind.STORE)
            case _:
                self._change_links(action)

    def _change_links(self, action: GatewayAction) -> None:
        desk = self._runtime.desk
        match action:
            case DialLegacy():
                self._runtime.services.start_soon(self._dial, action)
            case ConnectFailed():
                desk.grant(action.peer, NegotiationFailed(f"no link with {short(action.peer)}: {action.reason}"))
            case CloseLegacy(link=Link() as link):
                link.close_soon(action.reason)
            case LegacyLinked(link=Link() as link):
                desk.events.publish(LinkUp(action.id, link.connection.transport))
                desk.grant(action.id, link)
                desk.change()
            case LegacyUnlinked():
                self._runtime.router.withdraw(action.id)
                desk.events.publish(LinkDown(action.id, action.reason))
                desk.change()
            case _:
                raise AssertionError(f"unexpected action {action!r}")

    def _gateway_record(self, legacy_id: NodeId) -> PeerRecord:
        runtime = self._runtime
        wall = runtime.router.wall(trio.current_time())
        return build_record(
            runtime.identity.public_key,
            runtime.identity.sign,
            sequence=int(wall * 1_000_000),
            expiry=int(wall + runtime.limits.record_lifetime),
            legacy_id=legacy_id,
        )

    def _introduce(self, peer: NodeId, kind: Kind) -> None:
        """Tells a node of ours, which only originals know, where we are."""
        record = join_records([self._runtime.router.record])
        frame = build_frame(kind, peer, self._runtime.identity.id, os.urandom(8), record)
        self._act(self._gateway.tunnel(frame, peer, trio.current_time()))

    def _carry_ended(self, action: SendCarried, result: object) -> None:
        """One of our nodes has the envelope, or did not confirm it."""
        if not isinstance(result, Receipt) and not self._runtime.desk.closed:
            self._act(self._gateway.carry_failed(action.to, action.payload, trio.current_time()))


def _length(data: Data) -> int:
    """What a message takes of the mailbox; an original's numbers may be infinite."""
    return len(data) if isinstance(data, bytes) else len(encode(data, non_finite_as_null=True))
