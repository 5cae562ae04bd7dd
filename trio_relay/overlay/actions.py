"""What the router wants done. Actions are returned, never called back; the caller carries them out in order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from ..wire.content import Data
from ..wire.hello import Reason
from ..wire.ids import NodeId
from ..wire.record import PeerRecord

__all__ = [
    "URGENT",
    "Acknowledged",
    "Action",
    "Answered",
    "CloseLink",
    "Connected",
    "Deliver",
    "DeliverLegacy",
    "Dial",
    "EndNegotiation",
    "Failed",
    "Found",
    "LinkHandle",
    "Linked",
    "Negotiate",
    "NotConnected",
    "Preference",
    "Published",
    "PublishingRoom",
    "Relinked",
    "SessionReady",
    "Subscribed",
    "Transmit",
    "Tunnel",
    "Unlinked",
]

LinkHandle: TypeAlias = object
"""Names one live link; whoever calls the router chooses what it is. Compared by identity."""

URGENT: Final = 2
"""`Transmit.control` of signs of life: behind a full backlog on a slow line they would come so late that a link that
lives passes for dead. Nothing else, lest frames that end a link overtake the last messages over it."""

Preference: TypeAlias = Literal["websocket", "webrtc"]
"""Which kind of direct link is tried first."""


@dataclass(slots=True, eq=False)
class Transmit:
    """Send the concatenation of `pieces`, whole frames, over `link`. The router completes it before it is returned.

    Attributes:
        via: the link it came from, None for our own.
        control: whether it may use the part of a backlog that is kept for control; `URGENT`: and overtakes what waits.
        frames: how many frames the pieces are.
        size: how many bytes.
    """

    link: LinkHandle
    via: LinkHandle | None
    control: int
    pieces: list[bytes | bytearray | memoryview]
    frames: int
    size: int


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A frame of ours that has no way in the overlay: originals may carry it (only while `Router.tunnels`)."""

    frame: bytes
    to: NodeId


@dataclass(slots=True, eq=False)
class Deliver:
    """Put a message into the application's mailbox; there is room, and `size` of it is now taken."""

    data: Data
    sender: NodeId
    proven: bool
    size: int


@dataclass(frozen=True, slots=True)
class DeliverLegacy:
    """An envelope of an original node, carried here by our node `source`.

    Attributes:
        scope: of the link that it came over; no nearer address in it may be dialled.
    """

    envelope: bytes
    source: NodeId
    message_id: bytes
    scope: int


@dataclass(frozen=True, slots=True)
class Dial:
    """Dial one of `urls` and expect `expected`; report by `link_up` or `dial_failed`.

    Attributes:
        scope: how near an address may be: the largest `Scope` that may be dialled.
        probe: prove the id and close; report by `probe_succeeded` or `dial_failed`.
    """

    urls: tuple[str, ...]
    expected: NodeId
    scope: int
    probe: bool = False


@dataclass(frozen=True, slots=True)
class CloseLink:
    """Close a link politely, after its backlog; the table no longer holds it."""

    link: LinkHandle
    reason: Reason


@dataclass(frozen=True, slots=True)
class Linked:
    """A neighbour was added to the table."""

    id: NodeId
    link: LinkHandle


@dataclass(frozen=True, slots=True)
class Unlinked:
    """A neighbour left the table."""

    id: NodeId
    link: LinkHandle
    reason: str


@dataclass(frozen=True, slots=True)
class Relinked:
    """Frames for that neighbour leave over another one of its links from now on, those that wait for `old` first."""

    id: NodeId
    link: LinkHandle
    old: LinkHandle = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A confirmed message is in its receiver's mailbox; `hops` counts links, `rtt` is seconds."""

    message_id: bytes
    rtt: float
    hops: int


@dataclass(frozen=True, slots=True)
class Failed:
    """A confirmed message was given up; `error` names the `DeliveryError` to raise."""

    message_id: bytes
    error: Exception


@dataclass(frozen=True, slots=True)
class Found:
    """A lookup ended.

    Attributes:
        record: the target's own record, None when it was not found.
        gateways: records of gateways that speak for it, if it is an original node.
    """

    query: object
    target: NodeId
    record: PeerRecord | None
    gateways: tuple[PeerRecord, ...]


@dataclass(frozen=True, slots=True)
class SessionReady:
    """Messages for that peer can be sealed now; those that waited for it have left."""

    id: NodeId


@dataclass(frozen=True, slots=True)
class Connected:
    """The link that the application asked for (`Router.connect`) is up; after `Linked` or `Relinked`, if it is new.

    Attributes:
        only: whose wish it is, by their preference; the others still wait. None: of all.
    """

    id: NodeId
    only: Preference | None = None


@dataclass(frozen=True, slots=True)
class NotConnected:
    """The link that the application asked for (`Router.connect`) will not come about.

    Attributes:
        reason: in words, with "; " between those of several ways.
        known: whether there is such a peer: its record was found, or it answered.
    """

    id: NodeId
    reason: str
    known: bool = True


@dataclass(frozen=True, slots=True)
class Negotiate:
    """Begin an attempt at a WebRTC link with that peer.

    Report by `described`, then by `link_up` or `negotiation_failed`; nothing more after `EndNegotiation`.

    Attributes:
        negotiation: names the attempt.
        offer: the other side's checked description, to be answered; None: make an offer.
    """

    id: NodeId
    negotiation: bytes
    offer: str | None


@dataclass(frozen=True, slots=True)
class Answered:
    """The other side's answer, checked, to an attempt with our offer."""

    id: NodeId
    negotiation: bytes
    answer: str


@dataclass(frozen=True, slots=True)
class EndNegotiation:
    """Give that attempt up; `reason` in words."""

    id: NodeId
    negotiation: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Subscribed:
    """Where a subscription of ours is kept, whenever that changes.

    Attributes:
        relays: how many of the relays closest to the key keep it.
        complete: whether each of them has answered.
        reason: why one of them does not keep it, in words; else empty.
        moved: how often a relay began to keep it that did not before, since all were found for the first time.
    """

    key: NodeId
    relays: int
    complete: bool
    reason: str
    moved: int = 0


@dataclass(frozen=True, slots=True)
class Published:
    """Something was published under a key that we subscribed to; its publisher has signed it."""

    key: NodeId
    data: bytes
    publisher: NodeId


@dataclass(frozen=True, slots=True)
class PublishingRoom:
    """There may be room for one more publication."""


Action: TypeAlias = (
    Transmit
    | Deliver
    | DeliverLegacy
    | Dial
    | CloseLink
    | Linked
    | Relinked
    | Unlinked
    | Acknowledged
    | Failed
    | Found
    | Connected
    | NotConnected
    | Negotiate
    | Answered
    | EndNegotiation
    | SessionReady
    | Subscribed
    | Published
    | PublishingRoom
    | Tunnel
)
