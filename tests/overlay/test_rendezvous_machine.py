"""Topics in a small simulated network in which anything may happen, and what holds all the time and in the end."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from trio_relay.testing.simulator import SimulatedPeer
from trio_relay.wire.ids import NodeId
from trio_relay.wire.rendezvous import topic_key

from .rendezvous_world import TopicSimulator
from .support import first_deadline

MOST_PEERS = 9
KEYS = [topic_key("one"), topic_key("two")]


class TopicsMachine(RuleBasedStateMachine):
    """Peers of both kinds; the first one is everybody's bootstrap and never ends."""

    def __init__(self) -> None:
        super().__init__()
        self.sim = TopicSimulator(1)
        self.wanted: dict[tuple[str, NodeId], SimulatedPeer] = {}
        self.ever: set[tuple[str, NodeId]] = set()
        self.sent: list[tuple[SimulatedPeer, bytes]] = []

    @initialize(seed=st.integers(0, 1000), count=st.integers(2, 6), leaves=st.sampled_from([0.0, 0.5]))
    def begin(self, seed: int, count: int, leaves: float) -> None:
        self.sim = TopicSimulator(seed)
        self.sim.grow(count, leaves=leaves, every=0.1, settle=5.0)

    def a_peer(self, number: int) -> SimulatedPeer:
        alive = self.sim.alive
        return alive[number % len(alive)]

    @precondition(lambda self: len(self.sim.peers) < MOST_PEERS)
    @rule(listening=st.booleans())
    def a_peer_joins(self, listening: bool) -> None:
        self.sim.join(self.sim.add(listening=listening), self.sim.peers[0])

    @precondition(lambda self: len(self.sim.alive) > 2)
    @rule(number=st.integers(0, 100), how=st.sampled_from(["leave", "kill", "silent"]))
    def a_peer_ends(self, number: int, how: str) -> None:
        alive = self.sim.alive
        peer = alive[1 + number % (len(alive) - 1)]
        if how == "leave":
            self.sim.leave(peer)
            self.sim.run(0.02)
        else:
            self.sim.kill(peer, silent=how == "silent")

    @rule(one=st.integers(0, 100), other=st.integers(0, 100))
    def links_break(self, one: int, other: int) -> None:
        self.sim.cut(self.a_peer(one), self.a_peer(other))

    @rule(number=st.integers(0, 100), key=st.sampled_from(KEYS))
    def a_peer_subscribes(self, number: int, key: NodeId) -> None:
        peer = self.a_peer(number)
        self.sim.subscribe(peer, key)
        self.wanted[peer.name, key] = peer
        self.ever.add((peer.name, key))

    @precondition(lambda self: self.wanted)
    @rule(number=st.integers(0, 100))
    def a_peer_unsubscribes(self, number: int) -> None:
        name, key = sorted(self.wanted)[number % len(self.wanted)]
        self.sim.unsubscribe(self.wanted.pop((name, key)), key)

    @rule(number=st.integers(0, 100), key=st.sampled_from(KEYS))
    def a_peer_publishes(self, number: int, key: NodeId) -> None:
        peer = self.a_peer(number)
        self.sent.append((peer, self.sim.publish(peer, b"%d" % len(self.sent), key)))

    @rule(seconds=st.sampled_from([0.005, 0.1, 1.0, 8.0, 70.0]))
    def time_passes(self, seconds: float) -> None:
        self.sim.run(seconds)

    @invariant()
    def nothing_comes_twice_or_unasked(self) -> None:
        for name, published in self.sim.published.items():
            assert all(count == 1 for count in Counter(published).values())
            assert {(name, key) for key, _, _ in published} <= self.ever

    @invariant()
    def nobody_is_taken_for_a_forger(self) -> None:
        counts = self.sim.statistics().counts
        for name in ("publications_forged", "publications_foreign", "publications_untimely", "bad_rendezvous"):
            assert counts[name] == 0

    @invariant()
    def no_router_sleeps_longer_than_its_parts(self) -> None:
        for peer in self.sim.alive:
            assert peer.router.next_deadline() <= first_deadline(peer.router)

    @invariant()
    def everything_is_bounded(self) -> None:
        for peer in self.sim.alive:
            sizes = peer.router.sizes()
            assert sizes["topics"] <= len(KEYS)
            assert sizes["topic_subscriptions"] <= len(KEYS) * len(self.sim.peers)

    def teardown(self) -> None:
        """Every publication was taken or given up, and from now on everybody hears everything."""
        sim = self.sim
        sim.run(75.0)
        for peer, token in self.sent:
            assert (token in peer.acknowledged) != (token in peer.failed) or not peer.alive
        for peer in sim.alive:
            assert peer.router.sizes()["publishing"] == 0
        for key in KEYS if sim.closest() else ():
            for peer in sim.alive:
                sim.publish(peer, b"in the end", key)
        sim.run(5.0)
        for (_, key), peer in self.wanted.items() if sim.closest() else ():
            if peer.alive:
                came = {who for under, data, who in sim.published[peer.name] if (under, data) == (key, b"in the end")}
                assert came == {other.id for other in sim.alive}
        self.nothing_comes_twice_or_unasked()


TestTopicsMachine = TopicsMachine.TestCase
TestTopicsMachine.settings = settings(max_examples=3, stateful_step_count=18)
