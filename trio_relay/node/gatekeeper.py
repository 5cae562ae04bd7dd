"""Original nodes at the door: runs their connections, and carries out what the gateway wants done."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import trio

from ..exceptions import NegotiationFailed
from ..overlay.actions import DeliverLegacy, Found, Preference, Tunnel
from ..transports.transport import Transport
from ..wire.content import Data, encode_content
from ..wire.frame import Kind, build_frame, parse_frames_untrusted
from ..wire.ids import NodeId, short
from ..wire.json import encode
from ..wire.record import PeerRecord, build_record, join_records
from .carrying import carry
from .legacy.actions import (
    AnsweredLegacy,
    CandidateLegacy,
    CloseLegacy,
    ConnectFailed,
    DialLegacy,
    EndLegacyNegotiation,
    GatewayAction,
    Introduce,
    LegacyLinked,
    LegacyUnlinked,
    Lookup,
    NegotiateLegacy,
    Publish,
    Received,
    SendCarried,
    SendOverlay,
    SendText,
    TunnelFrame,
)
from .legacy.gateway import Gateway
from .legacy_links import LegacyRunner
from .legacy_negotiator import LegacyNegotiator
from .link import Link
from .overlay_view import RouterView
from .runtime import Runtime
from .values import LinkDown, LinkUp, Receipt

__all__ = ["Gatekeeper"]


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
        self._overlay: Final = RouterView(runtime)
        self._gateway: Final = Gateway(
            runtime.identity.id,
            limits=runtime.limits,
            rng=random.SystemRandom(),
            now=trio.current_time(),
            overlay=self._overlay,
            url=lambda: next(iter(runtime.router.record.urls), None),
            admission=runtime.admission,
            reachable=lambda: runtime.router.relaying,
            webrtc=lambda: 0 if runtime.webrtc is None else runtime.webrtc.config.negotiations,
        )
        self._links: Final = LegacyRunner(runtime, transport, self._gateway, self._act)
        self.run: Final = self._links.run
        self._negotiator: Final = LegacyNegotiator(
            runtime,
            described=self._described,
            failed=self._negotiation_failed,
            run_link=self._links.run_channel,
        )
        self._timer = trio.CancelScope()

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

    def connect(self, to: NodeId, prefer: Preference = "websocket") -> None:
        """A direct link with an original: `LinkUp` follows, or the wish fails."""
        self._act(self._gateway.connect(to, trio.current_time(), prefer))

    def cancel_connect(self, to: NodeId) -> None:
        """The application waits for it no more."""
        self._act(self._gateway.handshakes.unwish(to))

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
        return {**self._gateway.sizes(), "legacy_attempts": len(self._negotiator)}

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
                self._runtime.services.start_soon(self._links.dial, action)
            case ConnectFailed():
                desk.grant(action.peer, NegotiationFailed(f"no link with {short(action.peer)}: {action.reason}"))
            case NegotiateLegacy() | AnsweredLegacy() | CandidateLegacy() | EndLegacyNegotiation():
                self._negotiator.act(action)
            case CloseLegacy(link=Link() as link):
                link.close_soon(action.reason)
            case LegacyLinked(link=Link() as link):
                desk.events.publish(LinkUp(action.id, link.connection.transport, None, link.candidates))
                desk.grant(action.id, link)
                desk.change()
            case LegacyUnlinked():
                self._runtime.router.withdraw(action.id)
                desk.events.publish(LinkDown(action.id, action.reason))
                desk.change()
            case _:
                raise AssertionError(f"unexpected action {action!r}")

    def _described(self, number: int, sdp: str) -> None:
        self._act(self._gateway.handshakes.described(number, sdp, trio.current_time()))

    def _negotiation_failed(self, number: int, reason: str) -> None:
        self._act(self._gateway.handshakes.negotiation_failed(number, reason, trio.current_time()))

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
