"""Experiments with a simulated overlay: no sockets, no tasks, no signatures; a seed repeats a run exactly.

```python
sim = Simulator(seed=1)
peers = sim.grow(100, leaves=0.5)        # join one after another through the first
sim.kill(*sim.rng.sample(peers[1:], 20))
print(sim.measure(500))                  # confirmed messages between random peers: how many arrive, over how many hops
```
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .simulated_network import SimulatedNetwork, SimulatedPeer

__all__ = ["Measurement", "SimulatedPeer", "Simulator", "Statistics"]

_CLOSEST: Final = 8
_PER_RANGE: Final = 2


@dataclass(frozen=True, slots=True)
class Measurement:
    """What became of some confirmed messages; the means are per acknowledged message."""

    sent: int
    received: int
    acknowledged: int
    mean_hops: float
    mean_data_frames: float


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


class Simulator(SimulatedNetwork):
    """A simulated network that can grow, be installed whole, and be measured."""

    def grow(self, count: int, *, leaves: float = 0.0, every: float = 0.2, settle: float = 30.0) -> list[SimulatedPeer]:
        """Peers that join one after another through the first peer of the simulator.

        Args:
            leaves: the part of them that nobody can dial.
            every: seconds between two.
            settle: seconds after the last.
        """
        peers = []
        for _ in range(count):
            peer = self.add(listening=not self.peers or self.rng.random() >= leaves)
            if peer is not self.peers[0]:
                self.join(peer, self.peers[0])
            peers.append(peer)
            self.run(every)
        self.run(settle)
        return peers

    def install(self, count: int, *, leaves: float = 0.0) -> list[SimulatedPeer]:
        """Peers with the links that they would have in the end, without growing: for networks of 10,000."""
        peers = [self.add(listening=not number or self.rng.random() >= leaves) for number in range(count)]
        relays = [peer for peer in peers if peer.url]
        self._installing = True
        for relay in relays:
            relay.router.reached(relay.id, relay.url.removeprefix("ws://"), self.now)
        for peer in peers:
            for relay in self._wanted(peer, relays):
                if peer.router.table.get(relay.id) is None:
                    self.link(peer, relay)
        self._installing = False
        for peer in peers:
            self._set_timer(peer)
        return peers

    def _wanted(self, peer: SimulatedPeer, relays: Sequence[SimulatedPeer]) -> list[SimulatedPeer]:
        own = int.from_bytes(peer.id, "big")
        ordered = sorted((int.from_bytes(r.id, "big") ^ own, n) for n, r in enumerate(relays) if r is not peer)
        wanted = [relays[n] for _, n in ordered[:_CLOSEST]]
        if not peer.url:
            return wanted + self.rng.sample(relays, min(_PER_RANGE, len(relays)))
        ranges: dict[int, list[SimulatedPeer]] = {}
        for distance, n in ordered[_CLOSEST:]:
            ranges.setdefault(distance.bit_length(), []).append(relays[n])
        return wanted + [
            r for members in ranges.values() for r in self.rng.sample(members, min(_PER_RANGE, len(members)))
        ]

    def measure(self, messages: int, *, seconds: float = 0.3) -> Measurement:
        """Confirmed messages between random peers that live, all at once, and what of them is done in time.

        By default the time is less than that of a first retry after a timeout.
        """
        alive = self.alive
        frames = self.counts["data"]
        sent: list[tuple[SimulatedPeer, bytes]] = []
        before = sum(len(peer.received) for peer in alive)
        for number in range(messages):
            sender, receiver = self.rng.sample(alive, 2)
            sent.append((sender, self.deliver(sender, receiver.id, number)))
        self.run(seconds)
        hops = [peer.acknowledged[message_id] for peer, message_id in sent if message_id in peer.acknowledged]
        return Measurement(
            sent=messages,
            received=sum(len(peer.received) for peer in alive) - before,
            acknowledged=len(hops),
            mean_hops=sum(hops) / max(len(hops), 1),
            mean_data_frames=(self.counts["data"] - frames) / max(len(hops), 1),
        )

    def statistics(self) -> Statistics:
        """The network as it stands."""
        tables = [(peer.router.relaying, peer.router.table) for peer in self.alive]
        relays = [table for relaying, table in tables if relaying]
        leaves = [table for relaying, table in tables if not relaying]
        counts: Counter[str] = Counter()
        for peer in self.peers:
            counts.update(peer.router.counts())
        return Statistics(
            peers=len(tables),
            relays=len(relays),
            mean_links_of_relays=_mean([len(table) for table in relays]),
            mean_relays_of_relays=_mean([table.relay_count for table in relays]),
            mean_links_of_leaves=_mean([len(table) for table in leaves]),
            most_links=max((len(table) for _, table in tables), default=0),
            counts=counts,
        )


def _mean(values: Sequence[int]) -> float:
    return sum(values) / max(len(values), 1)
