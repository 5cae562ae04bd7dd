"""The endpoints of `world`, and what their applications sent."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from trio_relay.exceptions import DeliveryError
from trio_relay.limits import Limits
from trio_relay.overlay.router import Router
from trio_relay.overlay.session.sessions import Sealing
from trio_relay.wire.frame import Frame, Kind, build_frame
from trio_relay.wire.ids import NodeId

from ..support import WALL, key, node_id, signature, url, verify

if TYPE_CHECKING:
    from .world import World

__all__ = ["Link", "Message", "Passing", "Peer"]

_RELINK: Final = 0.5


@dataclass(eq=False)
class Link:
    """A link of an endpoint with a relay."""

    peer: Peer
    relay: int
    up: bool = True


@dataclass(frozen=True, slots=True)
class Passing:
    """A frame on its way from one endpoint to another."""

    frame: Frame
    sender: int
    relay: int
    at: float

    @property
    def receiver(self) -> NodeId:
        return self.frame.to


@dataclass(eq=False)
class Message:
    """One message of an application, and who saw it: (time, incarnation of the receiver, index of the session)."""

    sender: Peer
    to: Peer
    confirmed: bool
    number: int
    at: float
    id: bytes = b""
    seen: list[tuple[float, int, bytes]] = field(default_factory=list)
    acknowledged: float | None = None
    error: DeliveryError | None = None


class Peer:
    """One endpoint and its application.

    Attributes:
        incarnation: how often it restarted.
        takes: whether its application empties the mailbox.
        signatures: how often it signed anything but a record of itself.
    """

    def __init__(self, world: World, number: int, relays: tuple[int, ...], limits: Limits) -> None:
        self.world: Final = world
        self.number: Final = number
        self.id: Final = node_id(number)
        self.relays: Final = relays
        self.limits: Final = limits
        self.incarnation = -1
        self.takes = True
        self.mailbox: Final[list[int]] = []
        self.signatures = 0
        self.links: Final[dict[int, Link]] = {}
        self.pending: Final[dict[bytes, Message]] = {}
        self.restart()

    def __repr__(self) -> str:
        return f"<Peer {self.number}>"

    def restart(self) -> None:
        """A new process: the same key, an empty memory."""
        world, own = self.world, key(self.number)
        for link in self.links.values():
            link.up = False
        self.incarnation += 1
        self.mailbox.clear()
        self.pending.clear()
        self.router = Router(
            self.id,
            own,
            sign=self._sign,
            verify=verify,
            rng=random.Random(self.number),
            token=lambda: world.rng.randbytes(8),
            now=world.now,
            wall_offset=WALL,
            limits=self.limits,
            sealing=Sealing(world.rng.randbytes, int(world.ciphers), False),
        )
        for relay in self.relays:
            self.link(relay)

    def _sign(self, data: bytes) -> bytes:
        self.signatures += data.startswith(b"trio-relay session")
        return signature(key(self.number), data)

    # Links

    def link(self, relay: int) -> None:
        """Dials a relay, which trusts us."""
        link = self.links[relay] = Link(self, relay)
        now, own = self.world.now, self.world.relay_record(relay)
        up = self.router.link_up(link, node_id(relay), now, dialled=True, url=url(relay), record=own)
        self.world.carry_out(self, up)
        self.hear_status(relay)
        neighbour = self.router.table.get(node_id(relay))
        assert neighbour is not None
        assert neighbour.relay

    def hear_status(self, relay: int) -> None:
        """The relay says that it trusts us, with a fresh record."""
        payload = b"\x01" + self.world.relay_record(relay).raw
        self.hear(relay, build_frame(Kind.STATUS, self.id, node_id(relay), bytes(8), payload, hop_limit=0, detours=0))

    def cut(self, relay: int) -> None:
        """A link breaks, and is dialled again a little later."""
        link = self.links[relay]
        if link.up:
            link.up = False
            self.world.carry_out(self, self.router.link_down(link, "connection lost", self.world.now))
            self.world.after(_RELINK, lambda: self._relink(link))

    def _relink(self, link: Link) -> None:
        if self.links[link.relay] is link:
            self.link(link.relay)

    def hear(self, relay: int, frame: bytes) -> None:
        """Bytes arrive over the link with a relay."""
        link = self.links[relay]
        if link.up:
            self.world.arriving = frame
            self.world.carry_out(self, self.router.receive(link, [frame], self.world.now))
            self.world.arriving = b""

    # The application

    def take(self) -> None:
        """Takes everything out of the mailbox."""
        for size in self.mailbox:
            self.router.taken(size)
        self.mailbox.clear()

    def count(self, reason: str) -> int:
        return self.router.counts().get(reason, 0)

    def has_session(self, other: Peer) -> bool:
        return self.router.has_session(other.id)
