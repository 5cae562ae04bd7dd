"""The overlay in the simulator: what arrives, over how many hops, with how many links; after deaths, and under attack.

A seed decides every figure but the CPU seconds, so each case runs once whatever ``--repeat`` says.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from trio_relay.limits import Limits
from trio_relay.testing import SimulatedPeer, Simulator, Traffic
from trio_relay.wire.frame import FIRST_LINK_LOCAL, Kind

from .report import Case, Options, Report, Sample, measure

__all__ = ["run"]

_SEED: Final = 1
_MESSAGES: Final = 1000
_TO_ONE: Final = 100
"""To a single receiver: a node bounds how many sessions it opens with strangers at the same time."""
_JOIN_EVERY: Final = 0.05
_SETTLE: Final = 10.0
"""Seconds between two peers that join, and after the last: a crowd, and fewer pings of those that wait for the rest."""
_AT_ONCE: Final = 0.3
"""Seconds: enough for a session and a message over the longest ways, too few for a retry to be answered."""
_KILLED: Final = 0.2
_BAD: Final = 0.2
_MESSAGE_KINDS: Final = (Kind.DATA, Kind.ACK)
"""Who drops only these lets sessions be opened and questions be answered."""
_ALL_KINDS: Final = tuple(kind for kind in Kind if kind < FIRST_LINK_LOCAL)
"""Whatever a relay should forward."""


@dataclass(frozen=True, slots=True)
class _Network:
    """How a network came to be.

    Attributes:
        grown: by the protocol, one peer after another through the first; else its links are installed.
        leaves: the part of its peers that nobody can dial.
        ground: the part with ids around that of the second peer.
    """

    peers: int
    grown: bool
    leaves: float = 0.0
    ground: float = 0.0

    def __str__(self) -> str:
        how = "grown" if self.grown else "installed"
        return f"{self.peers:,} {how}, {self.leaves:.0%} leaves"

    def build(self) -> Simulator:
        gc.collect()
        sim = Simulator(_SEED)
        if self.grown:
            sim.grow(self.peers, leaves=self.leaves, ground=self.ground, every=_JOIN_EVERY, settle=_SETTLE)
        else:
            sim.install(self.peers, leaves=self.leaves, ground=self.ground)
        return sim


_SETTLED: Final = [
    _Network(peers, grown, leaves)
    for peers, grown in ((100, True), (1_000, True), (10_000, False))
    for leaves in (0.0, 0.8)
]
_DYING: Final = [_Network(peers, False, leaves) for peers in (100, 1_000, 10_000) for leaves in (0.0, 0.8)]
_MOST_SILENT: Final = 1_000
"""Peers: until keepalive has found out, ten times as many take a quarter of an hour."""
_ATTACKED: Final = 400


def run(report: Report, options: Options) -> None:
    """Networks at rest, networks that lose a fifth of their peers, networks with a fifth of bad peers."""
    report.table("overlay, settled", measure([Case(str(n), partial(_settled, n)) for n in _SETTLED], 1))
    report.table("overlay, 20 % killed", measure([Case(str(n), partial(_killed, n)) for n in _DYING], 1))
    silently = [n for n in _DYING if n.peers <= _MOST_SILENT]
    report.table("overlay, 20 % die in silence", measure([Case(str(n), partial(_silent, n)) for n in silently], 1))
    report.table(f"overlay, 20 % bad of {_ATTACKED}", measure(_attacks(), 1))
    report.note(
        f"Simulated with seed {_SEED}: {_MESSAGES:,} confirmed messages at a time, "
        f"{_TO_ONE} to a victim; a link takes 10 ms. "
        "Each peer is in a network of its own, so that nothing is refused for coming from the same /24: the worst case."
    )


def _timed(make: Callable[[], dict[str, float]]) -> Sample:
    start = time.process_time()
    values = make()
    return Sample(values | {"CPU s": time.process_time() - start})


def _share(traffic: Traffic) -> float:
    found = traffic.measure()
    return 100 * found.acknowledged / found.sent


def _settled(network: _Network) -> Sample:
    def make() -> dict[str, float]:
        sim = network.build()
        found = sim.measure(_MESSAGES)
        statistics = sim.statistics()
        return {
            "arrived %": 100 * found.acknowledged / found.sent,
            "hops": found.mean_hops,
            "data frames": found.mean_data_frames,
            "links, relays": statistics.mean_links_of_relays,
            "links, leaves": statistics.mean_links_of_leaves,
            "most links": statistics.most_links,
        }

    return _timed(make)


def _killed(network: _Network) -> Sample:
    """Neighbours see their links down within one round trip; messages are sent then, and when the overlay had time."""

    def make() -> dict[str, float]:
        sim = network.build()
        sim.run(1.0)
        sim.kill(*sim.rng.sample(sim.peers[1:], round(_KILLED * network.peers)))
        sim.run(2 * sim.latency)
        traffic = sim.post(_MESSAGES)
        sim.run(_AT_ONCE)
        at_once = _share(traffic)
        sim.run(10 - _AT_ONCE)
        within = _share(traffic)
        return {"at once %": at_once, "in 10 s %": within, "10 s later, at once %": _share_at_once(sim)}

    return _timed(make)


def _share_at_once(sim: Simulator) -> float:
    traffic = sim.post(_MESSAGES)
    sim.run(_AT_ONCE)
    return _share(traffic)


def _silent(network: _Network) -> Sample:
    """Nobody is told of the deaths: messages are sent at that moment; keepalive takes 15 s by default."""

    def make() -> dict[str, float]:
        sim = network.build()
        sim.run(1.0)
        sim.kill(*sim.rng.sample(sim.peers[1:], round(_KILLED * network.peers)), silent=True)
        traffic = sim.post(_MESSAGES)
        sim.run(_AT_ONCE)
        at_once = _share(traffic)
        limits = Limits()
        sim.run(limits.ping_after + limits.dead_after + 10 - _AT_ONCE)
        return {"at once %": at_once, "keepalive+10 s %": _share(traffic), "then, at once %": _share_at_once(sim)}

    return _timed(make)


def _attacks() -> list[Case]:
    ground = _Network(_ATTACKED, False, ground=_BAD)
    plain, leaves = _Network(_ATTACKED, False), _Network(_ATTACKED, False, 0.8)
    cases = [
        Case("ids ground close to a victim's", partial(_attacked, ground, _nobody, False)),
        Case("ids ground close, to the victim", partial(_attacked, ground, _nobody, True)),
    ]
    for what, kinds in (("DATA and ACK", _MESSAGE_KINDS), ("all", _ALL_KINDS)):
        attacked = partial(_attacked, kinds=kinds)
        cases += [
            Case(f"relays drop {what}", partial(attacked, plain, _some_relays, False)),
            Case(f"relays drop {what}, 80% leaves", partial(attacked, leaves, _some_relays, False)),
            Case(f"ground ids drop {what}", partial(attacked, ground, _ground, False)),
            Case(f"ground ids drop {what}, to the victim", partial(attacked, ground, _ground, True)),
        ]
    return cases


def _nobody(sim: Simulator) -> Sequence[SimulatedPeer]:
    return []


def _some_relays(sim: Simulator) -> Sequence[SimulatedPeer]:
    relays = [peer for peer in sim.peers[2:] if peer.url]
    return sim.rng.sample(relays, round(_BAD * len(relays)))


def _ground(sim: Simulator) -> Sequence[SimulatedPeer]:
    return [peer for peer in sim.peers if peer.ground]


def _attacked(
    network: _Network,
    droppers: Callable[[Simulator], Sequence[SimulatedPeer]],
    victim: bool,
    kinds: Sequence[Kind] = _ALL_KINDS,
) -> Sample:
    """Messages between honest peers, or from them to the victim: without retries, and in the time of `deliver`.

    Args:
        kinds: what the droppers do not forward.
    """

    def make() -> dict[str, float]:
        sim = network.build()
        sim.run(1.0)
        sim.drop_forwarding(*droppers(sim), kinds=kinds)
        honest = [peer for peer in sim.peers if not (peer.ground or peer.drops)]
        traffic = sim.post(_TO_ONE, among=honest, to=[sim.peers[1]]) if victim else sim.post(_MESSAGES, among=honest)
        sim.run(_AT_ONCE)
        at_once = _share(traffic)
        sim.run(5 - _AT_ONCE)
        five = _share(traffic)
        sim.run(25)
        return {"at once %": at_once, "in 5 s %": five, "in 30 s %": _share(traffic)}

    return _timed(make)
