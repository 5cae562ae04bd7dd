"""What is measured in a simulated network: what becomes of messages, and how it stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ..overlay.table import RoutingTable
from ..wire.ids import NodeId
from .simulated_network import SimulatedNetwork
from .simulated_peer import SimulatedPeer

__all__ = ["Measurement", "Posted", "Statistics", "Traffic", "statistics_of"]


@dataclass(frozen=True, slots=True)
class Measurement:
    """What became of some confirmed messages so far.

    Attributes:
        sent: so many.
        received: by their receivers' applications; more than `sent` if one came twice.
        acknowledged: their senders know of it.
        failed: given up by their senders.
        mean_hops: per acknowledged message.
        mean_data_frames: transmitted by anybody, on any link, per acknowledged message.
    """

    sent: int
    received: int
    acknowledged: int
    failed: int
    mean_hops: float
    mean_data_frames: float


@dataclass(frozen=True, slots=True)
class Posted:
    """One confirmed message; its data is its number."""

    sender: SimulatedPeer
    receiver: SimulatedPeer
    message_id: bytes
    number: int


class Traffic:
    """Confirmed messages that were sent at the same time; measure them as often as you like.

    Args:
        messages: just sent.
        frames: data frames that the network had transmitted before.
    """

    def __init__(self, network: SimulatedNetwork, messages: Sequence[Posted], frames: int) -> None:
        self.messages: Final = messages
        self._network: Final = network
        self._frames: Final = frames

    def measure(self) -> Measurement:
        """What became of them until now. Data frames are counted whoever sent them: best before anything else is."""
        expected: dict[SimulatedPeer, set[tuple[NodeId, int]]] = {}
        for posted in self.messages:
            expected.setdefault(posted.receiver, set()).add((posted.sender.id, posted.number))
        hops = [m.sender.acknowledged[m.message_id] for m in self.messages if m.message_id in m.sender.acknowledged]
        return Measurement(
            sent=len(self.messages),
            received=sum(item in wanted for peer, wanted in expected.items() for item in peer.received),
            acknowledged=len(hops),
            failed=sum(m.message_id in m.sender.failed for m in self.messages),
            mean_hops=_mean(hops),
            mean_data_frames=(self._network.counts["data"] - self._frames) / max(len(hops), 1),
        )


@dataclass(frozen=True, slots=True)
class Statistics:
    """The network as it stands; links are counted at their ends, those of leaves apart from those of relays."""

    peers: int
    relays: int
    mean_links_of_relays: float
    mean_relays_of_relays: float
    mean_links_of_leaves: float
    most_links: int
    counts: Counter[str]


def statistics_of(peers: Iterable[SimulatedPeer]) -> Statistics:
    """Of the peers that live; counts of all."""
    counts: Counter[str] = Counter()
    relays: list[RoutingTable] = []
    leaves: list[RoutingTable] = []
    for peer in peers:
        counts.update(peer.router.counts())
        if peer.alive:
            (relays if peer.router.relaying else leaves).append(peer.router.table)
    return Statistics(
        peers=len(relays) + len(leaves),
        relays=len(relays),
        mean_links_of_relays=_mean([len(table) for table in relays]),
        mean_relays_of_relays=_mean([table.relay_count for table in relays]),
        mean_links_of_leaves=_mean([len(table) for table in leaves]),
        most_links=max((len(table) for table in relays + leaves), default=0),
        counts=counts,
    )


def _mean(values: Sequence[int]) -> float:
    return sum(values) / max(len(values), 1)
