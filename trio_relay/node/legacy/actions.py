"""What the gateway wants done, and what it asks about the overlay. Carried out by the node, in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from ...overlay.actions import LinkHandle
from ...wire.content import Data
from ...wire.description import Candidate
from ...wire.hello import Reason
from ...wire.ids import NodeId

__all__ = [
    "AnsweredLegacy",
    "CandidateLegacy",
    "CloseLegacy",
    "ConnectFailed",
    "DialLegacy",
    "EndLegacyNegotiation",
    "GatewayAction",
    "Introduce",
    "LegacyLinked",
    "LegacyUnlinked",
    "Lookup",
    "NegotiateLegacy",
    "NegotiationAction",
    "OverlayView",
    "Publish",
    "Received",
    "SendCarried",
    "SendOverlay",
    "SendText",
    "TunnelFrame",
]


class OverlayView(Protocol):
    """What the gateway asks about the peers that speak our own protocol."""

    def is_ours(self, node_id: NodeId) -> bool:
        """Whether the id has a key: it is our own, or a record that it signed is known, or it is linked."""
        ...

    def reaches(self, node_id: NodeId) -> bool:
        """Whether a frame for the id has a first hop."""
        ...

    def gateways_of(self, node_id: NodeId) -> Sequence[NodeId]:
        """Who says that it holds a link with an original node; best first, without ourselves."""
        ...

    def legacy_nodes(self) -> Sequence[NodeId]:
        """Nodes that admit originals and have an address to dial, linked or not."""
        ...

    def linked(self, node_id: NodeId) -> bool:
        """Whether the id has a live link of our own protocol with us."""
        ...


@dataclass(frozen=True, slots=True)
class SendText:
    """Send one text message over a link with an original.

    Attributes:
        via: the link it came from, None for our own: whose share of the backlog it takes.
    """

    link: LinkHandle
    text: bytes
    via: LinkHandle | None = None


@dataclass(frozen=True, slots=True)
class SendCarried:
    """Send a DATA frame with `Flag.LEGACY` to one of our nodes; of its failure, tell `Gateway.carry_failed`."""

    to: NodeId
    payload: bytes
    via: LinkHandle | None = None


@dataclass(frozen=True, slots=True)
class SendOverlay:
    """Send our application's message over the overlay after all: the id turned out to be no original's."""

    to: NodeId
    data: Data


@dataclass(frozen=True, slots=True)
class Received:
    """A message for our application, its sender unproven; bytes are `bytes`, an absent value is None."""

    sender: NodeId
    data: Data


@dataclass(frozen=True, slots=True)
class Publish:
    """Sign and publish a record that says: we hold a link with this original node."""

    legacy_id: NodeId


@dataclass(frozen=True, slots=True)
class Lookup:
    """Look for an id; whether it is found or not (or no lookup is possible), call `Gateway.looked_up`."""

    target: NodeId


@dataclass(frozen=True, slots=True)
class DialLegacy:
    """Dial an address that an original gave when we asked for a link; its first message must name `peer`.

    If no link comes of it, call `Handshakes.dial_failed`.

    Attributes:
        scope: how near an address may be: the largest `Scope` that may be dialled.
        patience: seconds until its first message, if there is another way; None: as long as any handshake takes.
    """

    url: str
    peer: NodeId
    scope: int
    patience: float | None = None


@dataclass(frozen=True, slots=True)
class NegotiateLegacy:
    """Begin a WebRTC connection with an original; `Handshakes.described` follows, then `Gateway.link_up`
    or `Handshakes.negotiation_failed`.

    Attributes:
        number: names the attempt.
        offer: the other side's, None if we offer.
        candidates: of the other side, that came before its offer; None: there are no more.
    """

    number: int
    peer: NodeId
    offer: str | None
    candidates: tuple[Candidate | None, ...] = ()


@dataclass(frozen=True, slots=True)
class AnsweredLegacy:
    """The other side's answer."""

    number: int
    answer: str


@dataclass(frozen=True, slots=True)
class CandidateLegacy:
    """One more address of the other side, None when there are no more."""

    number: int
    candidate: Candidate | None


@dataclass(frozen=True, slots=True)
class EndLegacyNegotiation:
    """Give an attempt up, whatever it is at."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class ConnectFailed:
    """The link for which `Gateway.connect` asked will not come about."""

    peer: NodeId
    reason: str


@dataclass(frozen=True, slots=True)
class TunnelFrame:
    """One overlay frame for us that came through originals; nothing about its source is proven.

    Attributes:
        scope: of the link that it came over (`wire.addresses.Scope`).
    """

    frame: bytes
    source: NodeId
    scope: int


@dataclass(frozen=True, slots=True)
class Introduce:
    """An original knows this id, and it may be one of ours: give a frame with our record to `Gateway.tunnel`.

    Attributes:
        dial: ask to be dialled (CONNECT), for the overlay has no way there; else let it only know of us (STORE).
    """

    peer: NodeId
    dial: bool


@dataclass(frozen=True, slots=True)
class CloseLegacy:
    """Close a link with an original; the gateway no longer knows it."""

    link: LinkHandle
    reason: Reason


@dataclass(frozen=True, slots=True)
class LegacyLinked:
    """A link with an original was added."""

    id: NodeId
    link: LinkHandle


@dataclass(frozen=True, slots=True)
class LegacyUnlinked:
    """A link with an original is gone."""

    id: NodeId
    link: LinkHandle
    reason: str


NegotiationAction: TypeAlias = NegotiateLegacy | AnsweredLegacy | CandidateLegacy | EndLegacyNegotiation

GatewayAction: TypeAlias = (
    SendText
    | SendCarried
    | SendOverlay
    | Received
    | Publish
    | Lookup
    | DialLegacy
    | NegotiationAction
    | ConnectFailed
    | TunnelFrame
    | Introduce
    | CloseLegacy
    | LegacyLinked
    | LegacyUnlinked
)
