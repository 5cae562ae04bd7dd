"""What routers do together: simulated networks that grow, lose peers, divide and heal."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from trio_relay.limits import Limits
from trio_relay.overlay.actions import Found, Unlinked
from trio_relay.testing import SimulatedPeer, Simulator
from trio_relay.wire.frame import Kind
from trio_relay.wire.ids import bucket_index


def digest(sim: Simulator) -> object:
    """Everything that a run leads to."""
    seen = [(p.id, p.received, p.acknowledged, [(type(e), e.id) for e in p.events]) for p in sim.peers]
    return sim.now, dict(sim.counts), asdict(sim.statistics()), seen


def run_of(seed: int) -> object:
    sim = Simulator(seed)
    sim.grow(16, leaves=0.5, settle=5.0)
    sim.kill(*sim.rng.sample(sim.peers[1:], 3))
    sim.measure(50, seconds=2.0)
    return digest(sim)


def test_a_seed_repeats_a_run_exactly() -> None:
    assert run_of(1) == run_of(1)
    assert run_of(1) != run_of(2)


def installed(seed: int) -> object:
    sim = Simulator(seed)
    sim.install(30, leaves=0.5, ground=0.1)
    sim.drop_forwarding(*sim.rng.sample(sim.peers[2:], 5))
    sim.measure(20, seconds=0.6)
    return digest(sim)


def test_a_seed_repeats_an_installed_network_exactly() -> None:
    assert installed(1) == installed(1)
    assert installed(1) != installed(2)


def assert_one_network(sim: Simulator, messages: int = 200) -> None:
    """Every message arrives at the first attempt, over short ways and without detours."""
    found = sim.measure(messages)
    assert found.acknowledged == found.received == messages
    assert found.mean_hops <= 3.2
    assert found.mean_data_frames <= found.mean_hops + 0.1


@pytest.mark.parametrize("leaves", [0.0, 0.8])
def test_a_network_grown_from_one_peer_delivers_everything_and_survives(leaves: float) -> None:
    sim = Simulator(2)
    sim.grow(40, leaves=leaves, settle=15.0)
    assert_one_network(sim)
    counts = sim.statistics().counts
    assert counts["spoofed"] == counts["hop_limit"] == counts["protocol_errors"] == counts["duplicates"] == 0
    sim.run(5.0)
    sim.kill(*sim.rng.sample(sim.peers[1:], 8))
    sim.run(2 * sim.latency)
    at_once = sim.measure(400, seconds=0.2)
    assert at_once.received >= 0.995 * 400
    before = sum(len(peer.acknowledged) for peer in sim.alive)
    sim.run(9.8)
    assert sum(len(peer.acknowledged) for peer in sim.alive) - before == 400 - at_once.acknowledged
    assert_one_network(sim)


@pytest.mark.parametrize("leaves", [0.0, 0.8])
def test_a_network_with_installed_links_is_like_a_grown_one(leaves: float) -> None:
    sim = Simulator(3)
    sim.install(45, leaves=leaves)
    assert_one_network(sim)
    sim.run(20.0)
    assert_one_network(sim)
    assert sim.statistics().counts["spoofed"] == 0


@pytest.mark.parametrize("sealed", [True, False])
def test_sealed_or_not_the_ways_are_the_same(sealed: bool) -> None:
    sim = Simulator(9, sealed=sealed)
    sim.grow(30, leaves=0.5, settle=10.0)
    assert_one_network(sim, 100)
    sessions = sum(peer.router.sizes().get("sessions", 0) for peer in sim.alive)
    assert (sessions > 0) is sealed


def test_silent_death_is_noticed_by_keepalive_and_costs_ten_seconds_more() -> None:
    sim = Simulator(4)
    sim.grow(30, settle=15.0)
    sim.kill(*sim.rng.sample(sim.peers[1:], 6), silent=True)
    total = 0
    before = sum(len(peer.acknowledged) for peer in sim.alive)
    for _ in range(3):
        sim.measure(100, seconds=5.0)
        total += 100
    sim.run(10.0)
    assert sum(len(peer.acknowledged) for peer in sim.alive) - before == total
    assert_one_network(sim)


@pytest.mark.parametrize("leaves", [0.0, 0.7])
def test_the_halves_of_a_divided_network_work_and_find_each_other_again(leaves: float) -> None:
    sim = Simulator(5)
    sim.grow(20, leaves=leaves, settle=10.0)
    halves = sim.peers[::2], sim.peers[1::2]
    sim.partition(*halves)
    sim.run(100.0)
    for half in halves:
        sent = [(a, sim.deliver(a, b.id, "inside")) for a in half for b in half if a is not b]
        sim.run(5.0)
        if any(peer.router.relaying for peer in half):
            assert all(message in peer.acknowledged for peer, message in sent)
    across = [(a, sim.deliver(a, b.id, "across")) for a, b in zip(*halves, strict=True)]
    sim.run(31.0)
    assert all(message in peer.failed for peer, message in across)
    sim.heal()
    sim.run(100.0)
    assert_one_network(sim)


def test_a_settled_network_stays_as_it_is() -> None:
    sim = Simulator(6)
    sim.grow(24, leaves=0.5, settle=120.0)
    dials, events = sim.counts["dials"], sum(len(peer.events) for peer in sim.peers)
    sim.run(120.0)
    assert sim.counts["dials"] == dials
    assert sum(len(peer.events) for peer in sim.peers) == events


def test_full_relays_refuse_and_their_leaves_find_others() -> None:
    sim = Simulator(7, limits=Limits(leaves=8))
    relays = sim.grow(12, settle=5.0)
    leaves = [sim.add(listening=False) for _ in range(9)]
    for leaf in leaves:
        sim.join(leaf, relays[0])
    sim.run(60.0)
    assert sim.counts["refused"] > 0
    assert sim.statistics().counts["full"] == sim.counts["refused"]
    assert all(relay.router.table.leaf_count <= 8 for relay in relays)
    assert all(len(leaf.router.table) >= 8 for leaf in leaves)
    sent = [(a, sim.deliver(a, b.id, "hello")) for a in sim.peers for b in sim.peers if a is not b]
    sim.run(10.0)
    assert all(message in peer.acknowledged for peer, message in sent)


def test_a_leaf_that_opens_a_listener_becomes_a_relay_and_one_that_closes_it_a_leaf() -> None:
    sim = Simulator(8)
    sim.grow(12, leaves=0.5, settle=10.0)
    leaf = next(peer for peer in sim.peers if not peer.url)
    relay = next(peer for peer in sim.peers[1:] if peer.url)
    sim.open_listener(leaf)
    sim.close_listener(relay)
    sim.run(100.0)
    assert leaf.router.relaying
    assert not relay.router.relaying
    for peer in sim.peers:
        known = peer.router.table.get(relay.id)
        assert known is None or not known.relay
    assert any(neighbour.relay for peer in sim.peers for neighbour in peer.router.table if neighbour.id == leaf.id)
    assert_one_network(sim, 100)
    assert sim.statistics().counts["spoofed"] == 0


def test_a_peer_that_leaves_politely_loses_nobodys_messages() -> None:
    sim = Simulator(9)
    sim.grow(30, settle=10.0)
    gone = sim.peers[5]
    rest = [peer for peer in sim.peers if peer is not gone]
    sent: list[tuple[SimulatedPeer, bytes]] = []
    for step in range(30):
        if step == 10:
            sim.leave(gone)
        pairs = [sim.rng.sample(rest, 2) for _ in range(20)]
        sent += [(a, sim.deliver(a, b.id, f"{step} {number}")) for number, (a, b) in enumerate(pairs)]
        sim.run(sim.latency / 2)
    sim.run(0.2)
    assert all(message in peer.acknowledged for peer, message in sent)
    assert sim.statistics().counts["retries"] == 0


@pytest.mark.parametrize("head_start", [0.0, 0.005, 0.01, 0.02, 0.03, 0.04])
def test_two_that_dial_each_other_keep_one_link_and_never_none(head_start: float) -> None:
    sim = Simulator(10)
    a, b = sim.add(), sim.add()
    sim.join(a, b)
    sim.run(head_start)
    sim.join(b, a)
    sim.join(a, b)
    sim.run(0.2)
    for _ in range(100):
        sim.run(0.5)
        assert len(a.router.table) == len(b.router.table) == 1
    assert a.router.sizes()["links"] == b.router.sizes()["links"] == 1
    assert not [event for peer in (a, b) for event in peer.events if isinstance(event, Unlinked)]


def test_a_direct_link_to_a_leaf_and_a_lookup() -> None:
    sim = Simulator(11)
    sim.grow(30, leaves=0.5, settle=10.0)
    leaves = [peer for peer in sim.peers if not peer.url]
    relay = next(p for p in sim.peers if p.url and p.router.table.get(leaves[0].id) is None)
    sim.connect(relay, leaves[0].id)
    sim.lookup(relay, leaves[1].id)
    sim.run(5.0)
    assert relay.router.table.get(leaves[0].id) is not None
    assert [found.record and found.record.id for found in relay.found if isinstance(found, Found)] == [leaves[1].id]


def test_a_message_to_nobody_fails() -> None:
    sim = Simulator(12)
    sim.grow(10, settle=5.0)
    stranger = Simulator(99).add()
    message = sim.deliver(sim.peers[3], stranger.id, "anybody?", timeout=5.0)
    sim.run(5.1)
    assert message in sim.peers[3].failed


def test_installed_links_are_those_that_peers_want() -> None:
    sim = Simulator(13)
    sim.install(60, leaves=0.3)
    relays = [peer for peer in sim.peers if peer.url]
    for peer in sim.peers:
        others = sorted((bucket_index(peer.id, relay.id), relay.name) for relay in relays if relay is not peer)
        ranges: dict[int, list[str]] = {}
        for index, name in others:
            ranges.setdefault(index, []).append(name)
        linked = {neighbour.id for neighbour in peer.router.table}
        by_distance = sorted(relays, key=lambda relay: int.from_bytes(relay.id, "big") ^ int.from_bytes(peer.id, "big"))
        assert {relay.id for relay in by_distance if relay is not peer} & linked >= {
            relay.id for relay in [relay for relay in by_distance if relay is not peer][:8]
        }
        if peer.url:
            names = {relay.name for relay in relays if relay.id in linked}
            assert all(len(names & set(members)) >= min(2, len(members)) for members in ranges.values())


def test_ground_ids_are_close_to_the_victim_and_do_no_harm_by_that_alone() -> None:
    sim = Simulator(14)
    sim.install(80, ground=0.25)
    victim = sim.peers[1]
    ground = [peer for peer in sim.peers if peer.ground]
    assert 10 <= len(ground) <= 30
    assert all(bucket_index(victim.id, peer.id) < 160 - 14 and peer.url for peer in ground)
    honest = [peer for peer in sim.peers if not peer.ground]
    assert all(bucket_index(victim.id, peer.id) >= 160 - 14 for peer in honest if peer is not victim)
    found = sim.measure(100, among=honest)
    assert found.acknowledged == found.received == 100
    traffic = sim.post(40, among=honest, to=[victim])
    sim.run(0.3)
    assert traffic.measure().acknowledged == 40


def test_what_peers_drop_is_only_what_they_forward_for_others() -> None:
    sim = Simulator(15)
    sim.install(40)
    droppers = sim.rng.sample(sim.peers[1:], 8)
    sim.drop_forwarding(*droppers)
    honest = [peer for peer in sim.peers if not peer.drops]
    traffic = sim.post(60, among=honest)
    sim.run(0.3)
    at_once = traffic.measure()
    assert sim.counts["dropped"] > 0
    assert 20 < at_once.acknowledged < 60
    own = sim.post(20, among=droppers, to=[sim.peers[0]])
    sim.run(30.0)
    later = traffic.measure()
    assert later.acknowledged > at_once.acknowledged
    assert later.acknowledged + later.failed == 60
    assert own.measure().acknowledged > 10
    assert sim.statistics().counts["protocol_errors"] == 0
    assert all(len(peer.router.table) >= 8 for peer in droppers)


def test_peers_may_drop_other_kinds_too() -> None:
    sim = Simulator(16)
    sim.install(40)
    sim.drop_forwarding(*sim.peers, kinds=Kind)
    linked = [(peer, next(iter(peer.router.table)).id) for peer in sim.peers]
    sent = [(peer, sim.deliver(peer, neighbour, "next door")) for peer, neighbour in linked]
    stranger = next(p for p in sim.peers if p is not sim.peers[0] and sim.peers[0].router.table.get(p.id) is None)
    far = sim.deliver(sim.peers[0], stranger.id, "far away", timeout=5.0)
    sim.run(6.0)
    assert all(message in peer.acknowledged for peer, message in sent)
    assert far in sim.peers[0].failed


def test_traffic_is_measured_again_later() -> None:
    sim = Simulator(17)
    sim.install(40)
    traffic = sim.post(30)
    assert traffic.measure().received == 0
    sim.run(0.3)
    found = traffic.measure()
    assert (found.sent, found.received, found.acknowledged, found.failed) == (30, 30, 30, 0)
    assert found.mean_data_frames == found.mean_hops
    nobody = Simulator(98).add()
    lost = sim.post(5, to=[nobody], timeout=2.0)
    sim.run(3.0)
    assert (lost.measure().failed, lost.measure().received) == (5, 0)


@pytest.mark.parametrize(("among", "to"), [((), None), ((0,), None), ((0,), (0, 1)), ((0, 1), ())])
def test_messages_need_a_sender_and_another_receiver(among: tuple[int, ...], to: tuple[int, ...] | None) -> None:
    sim = Simulator(1)
    peers = sim.install(2)
    with pytest.raises(ValueError, match="somebody else"):
        sim.post(1, among=[peers[n] for n in among], to=None if to is None else [peers[n] for n in to])
