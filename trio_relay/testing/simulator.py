"""Experiments with a simulated overlay: no sockets, no tasks, no signatures; a seed repeats a run exactly.

```python
sim = Simulator(seed=1)
peers = sim.grow(100, leaves=0.5)        # join one after another through the first
sim.kill(*sim.rng.sample(peers[1:], 20))
print(sim.measure(500))                  # confirmed messages between random peers: how many arrive, over how many hops
```
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import groupby
from typing import Final

from ..wire.ids import ID_LENGTH
from .measurement import Measurement, Posted, Statistics, Traffic, statistics_of
from .simulated_network import SimulatedNetwork
from .simulated_peer import SimulatedPeer

__all__ = ["SimulatedPeer", "Simulator"]

_CLOSEST: Final = 8
_PER_RANGE: Final = 2


class Simulator(SimulatedNetwork):
    """A simulated network that can grow, be installed whole, and be measured."""

    def grow(
        self,
        count: int,
        *,
        leaves: float = 0.0,
        ground: float = 0.0,
        victim: SimulatedPeer | None = None,
        every: float = 0.2,
        settle: float = 30.0,
    ) -> list[SimulatedPeer]:
        """Peers that join one after another through the first peer of the simulator.

        Args:
            leaves: the part of them that nobody can dial.
            ground: the part of them that chose their keys until their ids were close to the victim's; they listen.
            victim: default: the second peer of the simulator.
            every: seconds between two.
            settle: seconds after the last.
        """
        peers = []
        for _ in range(count):
            peer = self._add_one(leaves, ground, victim)
            if peer is not self.peers[0]:
                self.join(peer, self.peers[0])
            peers.append(peer)
            self.run(every)
        self.run(settle)
        return peers

    def install(
        self, count: int, *, leaves: float = 0.0, ground: float = 0.0, victim: SimulatedPeer | None = None
    ) -> list[SimulatedPeer]:
        """Peers with the links that they would have in the end, without growing: for networks of 10,000.

        They have links with each other only, and begin to look around as soon as time passes. Arguments are those of
        `grow`.
        """
        peers = [self._add_one(leaves, ground, victim) for _ in range(count)]
        ordered = sorted((int.from_bytes(peer.id, "big"), peer) for peer in peers if peer.url)
        for _, relay in ordered:
            relay.router.reached(relay.id, relay.url.removeprefix("ws://"), self.now)
        links: dict[tuple[SimulatedPeer, SimulatedPeer], None] = {}
        for peer in peers:
            for relay in self._wanted(peer, ordered):
                if (relay, peer) not in links:
                    links[peer, relay] = None
        self._install(links)
        for peer in peers:
            self._set_timer(peer)
        return peers

    def _add_one(self, leaves: float, ground: float, victim: SimulatedPeer | None) -> SimulatedPeer:
        if ground and len(self.peers) > 1 and self.rng.random() < ground:
            return self.add(near=(victim or self.peers[1]).id)
        return self.add(listening=not self.peers or self.rng.random() >= leaves)

    def _wanted(self, peer: SimulatedPeer, ordered: Sequence[tuple[int, SimulatedPeer]]) -> list[SimulatedPeer]:
        """The relays that `peer` wants links with: the closest, and two per distance range, or two at random."""
        own = int.from_bytes(peer.id, "big")
        low, high = 0, len(ordered)
        beyond: list[tuple[int, int]] = []
        for bit in reversed(range(8 * ID_LENGTH)):
            # `low:high` are the relays whose ids agree with ours above this bit; one half of them agrees on it, too.
            middle = bisect_left(ordered, ((own >> bit | 1) << bit,), low, high)
            near, far = ((middle, high), (low, middle)) if own >> bit & 1 else ((low, middle), (middle, high))
            if near[1] - near[0] <= _CLOSEST:
                break
            (low, high), beyond = near, [*beyond, far]
        block = sorted((number ^ own, other) for number, other in ordered[low:high] if other is not peer)
        wanted = [other for _, other in block[:_CLOSEST]]
        if not peer.url:
            return wanted + [other for _, other in self.rng.sample(ordered, min(_PER_RANGE, len(ordered)))]
        ranges = [ordered[first:last] for first, last in beyond]
        for _, members in groupby(block[_CLOSEST:], key=lambda item: item[0].bit_length()):
            ranges.append(list(members))
        return wanted + [
            other for members in ranges for _, other in self.rng.sample(members, min(_PER_RANGE, len(members)))
        ]

    def post(
        self,
        messages: int,
        *,
        among: Sequence[SimulatedPeer] | None = None,
        to: Sequence[SimulatedPeer] | None = None,
        timeout: float = 30.0,
    ) -> Traffic:
        """Sends confirmed messages between random peers, all at once; measure them after `run`.

        Args:
            among: who sends, and receives; default: whoever is alive.
            to: who receives; default: the same.
            timeout: seconds until a sender gives up.

        Raises:
            ValueError: there is nobody to send, or to receive, or only one who would do both.
        """
        senders = self.alive if among is None else among
        receivers = senders if to is None else to
        if not senders or not receivers or (len(set(senders)) == 1 and senders[0] in receivers):
            raise ValueError("expected a sender for each receiver, who is somebody else")
        frames, posted = self.counts["data"], []
        for _ in range(messages):
            sender = receiver = self.rng.choice(receivers)
            while sender is receiver:
                sender = self.rng.choice(senders)
            self._posted += 1
            message_id = self.deliver(sender, receiver.id, self._posted, timeout)
            posted.append(Posted(sender, receiver, message_id, self._posted))
        return Traffic(self, posted, frames)

    def measure(
        self, messages: int, *, seconds: float = 0.3, among: Sequence[SimulatedPeer] | None = None
    ) -> Measurement:
        """Confirmed messages between random peers, all at once, and what of them is done in time.

        By default the time is less than that of a first retry after a timeout.
        """
        traffic = self.post(messages, among=among)
        self.run(seconds)
        return traffic.measure()

    def statistics(self) -> Statistics:
        """The network as it stands."""
        return statistics_of(self.peers)
