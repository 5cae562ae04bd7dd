"""A small simulated network in which anything may happen, and what holds all the time and in the end."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from trio_relay.limits import Limits
from trio_relay.testing.simulator import SimulatedPeer, Simulator
from trio_relay.wire.ids import NodeId

MOST_PEERS = 16
LIMITS = Limits(leaves=MOST_PEERS, relay_links=10, records=24, seen_messages=256, mailbox_messages=64)
FRAMES_PER_ATTEMPT = 3 * (LIMITS.hops + 1)
"""One copy as far as the hop limit, then one detour in two copies as far as it lets them."""


class NetworkMachine(RuleBasedStateMachine):
    """Peers of both kinds; the first one is everybody's bootstrap and never ends."""

    def __init__(self) -> None:
        super().__init__()
        self.sim = Simulator(1, limits=LIMITS)
        self.divided = False
        self.messages = 0
        self.under_way: list[tuple[SimulatedPeer, SimulatedPeer, bytes]] = []

    @initialize(seed=st.integers(0, 1000), count=st.integers(2, 10), leaves=st.sampled_from([0.0, 0.5, 0.9]))
    def begin(self, seed: int, count: int, leaves: float) -> None:
        self.sim = Simulator(seed, limits=LIMITS)
        self.sim.grow(count, leaves=leaves, every=0.1, settle=5.0)

    def a_peer(self, number: int) -> SimulatedPeer:
        alive = self.sim.alive
        return alive[number % len(alive)]

    # What happens to peers and links

    @precondition(lambda self: len(self.sim.peers) < MOST_PEERS)
    @rule(listening=st.booleans())
    def a_peer_joins(self, listening: bool) -> None:
        self.sim.join(self.sim.add(listening=listening), self.sim.peers[0])

    @precondition(lambda self: len(self.sim.alive) > 3)
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

    @rule(one=st.integers(0, 100), other=st.integers(0, 100))
    def two_dial_each_other_at_once(self, one: int, other: int) -> None:
        a, b = self.a_peer(one), self.a_peer(other)
        for dialler, acceptor in ((a, b), (b, a)):
            if acceptor.url and dialler is not acceptor:
                self.sim.link(dialler, acceptor)

    @precondition(lambda self: not self.divided)
    @rule(mask=st.integers(0, 2**MOST_PEERS - 1))
    def the_network_divides(self, mask: int) -> None:
        halves: tuple[list[SimulatedPeer], list[SimulatedPeer]] = ([], [])
        for number, peer in enumerate(self.sim.peers):
            halves[mask >> number & 1].append(peer)
        self.sim.partition(*halves)
        self.divided = True

    @precondition(lambda self: self.divided)
    @rule()
    def the_network_heals(self) -> None:
        self.sim.heal()
        self.divided = False

    # Messages

    @rule(one=st.integers(0, 100), other=st.integers(0, 100), confirmed=st.booleans())
    def a_message_is_sent(self, one: int, other: int, confirmed: bool) -> None:
        sender, receiver = self.a_peer(one), self.a_peer(other)
        self.messages += 1
        if confirmed:
            self.under_way.append((sender, receiver, self.sim.deliver(sender, receiver.id, self.messages)))
        else:
            self.sim.send(sender, receiver.id, self.messages)

    @rule(seconds=st.sampled_from([0.005, 0.05, 0.5, 3.0, 20.0, 100.0]))
    def time_passes(self, seconds: float) -> None:
        self.sim.run(seconds)

    # What holds

    @invariant()
    def nothing_is_delivered_twice(self) -> None:
        for peer in self.sim.peers:
            assert all(count == 1 for count in Counter(peer.received).values())

    @invariant()
    def no_frame_goes_round(self) -> None:
        counts = self.sim.statistics().counts
        attempts = counts["messages_sent"] + counts["retries"]
        assert self.sim.counts["data"] <= attempts * FRAMES_PER_ATTEMPT
        assert counts["hop_limit"] == 0
        for peer in self.sim.peers:
            assert all(0 <= hops <= LIMITS.hops for hops in peer.acknowledged.values())

    @invariant()
    def nobody_is_taken_for_a_forger(self) -> None:
        counts = self.sim.statistics().counts
        assert counts["spoofed"] == counts["protocol_errors"] == counts["record_invalid"] == 0

    @invariant()
    def everything_is_bounded(self) -> None:
        for peer in self.sim.alive:
            sizes = peer.router.sizes()
            assert sizes["links"] <= 3 * MOST_PEERS
            assert sizes["records"] <= LIMITS.records + sizes["links"]
            assert sizes["seen"] <= 2 * LIMITS.seen_messages
            assert sizes["dials"] <= LIMITS.dials
            assert sizes["lookups"] <= LIMITS.lookups
            assert sizes["mailbox_messages"] == 0

    def teardown(self) -> None:
        """The network heals; then both ends of each link agree, and every message arrives."""
        sim = self.sim
        sim.heal()
        sim.run(150.0)
        for sender, receiver, message_id in self.under_way:
            assert message_id in sender.acknowledged or message_id in sender.failed or not sender.alive
            if message_id in sender.acknowledged:
                assert sender.id in {source for source, _ in receiver.received}
        by_id: dict[NodeId, SimulatedPeer] = {peer.id: peer for peer in sim.alive}
        for peer in sim.alive:
            for neighbour in peer.router.table:
                assert by_id[neighbour.id].router.table.get(peer.id) is not None
        sent = [(a, sim.deliver(a, b.id, f"{a.name} to {b.name}")) for a in sim.alive for b in sim.alive]
        sim.run(10.0)
        assert all(message_id in sender.acknowledged for sender, message_id in sent)
        self.nothing_is_delivered_twice()
        self.no_frame_goes_round()


TestNetworkMachine = NetworkMachine.TestCase
TestNetworkMachine.settings = settings(max_examples=10, stateful_step_count=25)
