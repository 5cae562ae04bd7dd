"""What the application sees: messages, receipts, links, events, statistics. Frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import msgspec

from ..transports.connection import TransportName
from ..transports.webrtc import CandidateType
from ..wire.content import Data
from ..wire.ids import NodeId

__all__ = [
    "CandidateTypes",
    "Event",
    "EventsLost",
    "LinkChanged",
    "LinkDown",
    "LinkInfo",
    "LinkUp",
    "Message",
    "NodeStatistics",
    "Publication",
    "Receipt",
]

CandidateTypes: TypeAlias = tuple[CandidateType, CandidateType]
"""Of a WebRTC link: where our address comes from, and the other side's."""


class Message(msgspec.Struct, frozen=True):
    """One message from the mailbox.

    Attributes:
        data: `bytes` as they were sent, or a JSON value.
        sender: the id it came from.
        proven: whether the sender has proven that id to us: the message was sealed end to end. What an original node
            sent is not proven. Between nodes opened with ``sealed=False``: it came over the sender's own link.
    """

    data: Data
    sender: NodeId
    proven: bool


@dataclass(frozen=True, slots=True)
class Publication:
    """Something that was published under a topic.

    Attributes:
        data: as it was published.
        publisher: the id that published it; it has signed data and topic.
    """

    topic: str
    data: bytes
    publisher: NodeId


@dataclass(frozen=True, slots=True)
class Receipt:
    """A message is in its receiver's mailbox.

    Attributes:
        rtt: seconds from the sending of the acknowledged attempt to its acknowledgement.
        hops: links that it crossed, 1 for a neighbour, 0 for oneself.
    """

    rtt: float
    hops: int


@dataclass(frozen=True, slots=True)
class LinkInfo:
    """One live link.

    Attributes:
        id: of the neighbour at its other end.
        transport: ``"websocket"``, ``"memory"``, ``"attached"`` or ``"webrtc"``.
        role: ``"relay"``, ``"leaf"``, or ``"legacy"`` for an original peer-relay node.
        dialled: whether this side dialled.
        remote: ``host:port`` of the other end.
        since: when it came up, Trio's clock.
        rtt: newest round trip time in seconds; None for a link with an original, which answers no pings.
        backlog: bytes that wait for the link.
        candidates: of a WebRTC link, else None.
    """

    id: NodeId
    transport: TransportName
    role: str
    dialled: bool
    remote: str
    since: float
    rtt: float | None
    backlog: int
    candidates: CandidateTypes | None = None


@dataclass(frozen=True, slots=True)
class LinkUp:
    """A neighbour was linked.

    Attributes:
        id: of the neighbour.
        transport, rtt, candidates: as in `LinkInfo`.
    """

    id: NodeId
    transport: TransportName
    rtt: float | None = field(default=None, compare=False)
    candidates: CandidateTypes | None = None


@dataclass(frozen=True, slots=True)
class LinkChanged:
    """Of two links with one neighbour, another one is in use now; for example a WebRTC link beside a WebSocket.

    Attributes:
        id: of the neighbour.
        transport, rtt, candidates: as in `LinkInfo`, of the link that is in use now.
    """

    id: NodeId
    transport: TransportName
    rtt: float | None = field(default=None, compare=False)
    candidates: CandidateTypes | None = None


@dataclass(frozen=True, slots=True)
class LinkDown:
    """A neighbour is gone.

    Attributes:
        id: of the neighbour.
        reason: what ended the link, in words.
    """

    id: NodeId
    reason: str


@dataclass(frozen=True, slots=True)
class EventsLost:
    """So many events did not fit because they were not read in time.

    Attributes:
        count: how many.
    """

    count: int


Event: TypeAlias = LinkUp | LinkChanged | LinkDown | EventsLost


@dataclass(frozen=True, slots=True)
class NodeStatistics:
    """A node's counters at one moment.

    Attributes:
        counts: since the start: every drop, refusal, expiry and failure by reason, and totals of what went well.
        sizes: how full each bounded table is now.
        links: live links, originals included.
        relaying: whether this node relays for others.
        backlog: bytes waiting for links, in all.
        neighbours: each of these links.
    """

    counts: Mapping[str, int]
    sizes: Mapping[str, int]
    links: int
    relaying: bool
    backlog: int
    neighbours: tuple[LinkInfo, ...] = ()
