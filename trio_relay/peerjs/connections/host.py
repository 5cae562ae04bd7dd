"""What connections need of the peer that they belong to, and the peer of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Protocol

import trio

from ...exceptions import PeerError
from ...node.negotiation import WebRTC
from ...transports.webrtc import MediaFactory
from ...wire.ids import NodeId
from ..fallback.relays import Relays
from ..fallback.rounds import Timing
from ..messages import Answer, CandidateMessage, Offer
from ..options import PeerLimits
from .data_connection import DataConnection
from .early import Key
from .held import Held
from .media_connection import MediaConnection

__all__ = ["Fallback", "Host", "Link"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallback:
    """What a peer has where there is no way for WebRTC.

    Attributes:
        relays: through the broker, and through the overlay.
        relayed: whether the broker has meetings.
        node: this peer's in the overlay; None: it has none.
        webrtc: for negotiations that may come to nothing.
    """

    relays: Relays
    relayed: bool
    node: NodeId | None
    webrtc: WebRTC
    timing: Timing


class Host(Protocol):
    """A peer, as its connections see it.

    Attributes:
        id: the peer's; `""` before the broker knows it.
        counts: drops, refusals and failures by name.
        held: what its connections hold of what was not received.
        offering, answering: a place for each attempt at WebRTC at once. Two peers that have all places taken by offers
            to each other must be able to answer.
    """

    @property
    def id(self) -> str: ...

    @property
    def webrtc(self) -> WebRTC: ...

    @property
    def media(self) -> MediaFactory: ...

    @property
    def counts(self) -> Counter[str]: ...

    @property
    def held(self) -> Held: ...

    @property
    def limits(self) -> PeerLimits: ...

    @property
    def offering(self) -> trio.CapacityLimiter: ...

    @property
    def answering(self) -> trio.CapacityLimiter: ...

    def answering_to(self, peer: str) -> trio.CapacityLimiter:
        """Half of the places of `answering`: no peer alone takes all of them."""
        ...

    def signal(self, frame: bytes) -> None:
        """Sends a frame to the broker, or keeps it until that is reached again; does not wait.

        Raises:
            PeerError: ``network``: too much waits; ``disconnected``: the peer was disconnected.
        """
        ...

    def arrived(self, connection: DataConnection | MediaConnection) -> bool:
        """An incoming connection can be accepted; False when too many wait for that already."""
        ...


class Link(Protocol):
    """One connection, from its offer to its end, as the table of the peer has it. All but `run` are plain.

    Attributes:
        key: the other peer's id and the connection's.
        connection: what the application sees.
    """

    @property
    def key(self) -> Key: ...

    @property
    def connection(self) -> DataConnection | MediaConnection: ...

    def on_offer(self, offer: Offer) -> bool:
        """Another offer for this connection; False when it means a new connection in place of this one."""
        ...

    def on_answer(self, answer: Answer) -> None: ...

    def on_candidate(self, message: CandidateMessage) -> None: ...

    def on_unavailable(self, error: PeerError) -> None:
        """The other peer can not be reached through the broker: ends it, if it is not open."""
        ...

    def stop(self) -> None:
        """Ends it, without waiting."""
        ...
