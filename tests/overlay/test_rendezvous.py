"""Topics in simulated networks: three relays keep each, and any one of them is enough."""

from __future__ import annotations

import pytest

from trio_relay.exceptions import TopicUnavailable
from trio_relay.testing.simulator import SimulatedPeer
from trio_relay.wire.rendezvous import topic_key

from .rendezvous_world import KEY, TopicSimulator
from .support import WALL


def town(relays: int, leaves: int, seed: int = 1, latency: float = 0.01) -> tuple[TopicSimulator, list[SimulatedPeer]]:
    """A network of so many relays, and its leaves."""
    sim = TopicSimulator(seed, latency=latency)
    for number in range(relays + leaves):
        peer = sim.add(listening=number < relays)
        if number:
            sim.join(peer, sim.peers[0])
        sim.run(0.1)
    sim.run(3.0)
    return sim, sim.peers[relays:]


def all_kept(sim: TopicSimulator, *peers: SimulatedPeer, relays: int = 3) -> bool:
    return all(sim.kept[peer.name, KEY].relays == relays and sim.kept[peer.name, KEY].complete for peer in peers)


def test_a_publication_reaches_every_subscriber_once_and_nobody_else() -> None:
    sim, (alice, bob, carol, dave) = town(6, 4)
    relay = sim.closest()[0]
    for peer in (alice, bob, relay):
        sim.subscribe(peer)
    sim.subscribe(carol, topic_key("another topic"))
    sim.run(1.0)
    assert all_kept(sim, alice, bob, relay)
    token = sim.publish(dave, b"hello")
    sim.run(1.0)
    assert token in dave.acknowledged
    assert sim.published[alice.name] == [(KEY, b"hello", dave.id)]
    assert sim.got(bob) == sim.got(relay) == [b"hello"]
    assert sim.published[carol.name] == sim.published[dave.name] == []
    assert bob.router.counts()["publications_repeated"] == 2


def test_it_takes_little_more_than_its_way() -> None:
    """With 0.2 s there and back over every link: a session with the relay, to the relay, and to the subscriber."""
    sim, (alice, bob) = town(4, 2, latency=0.1)
    sim.subscribe(alice)
    sim.run(1.0)
    assert all_kept(sim, alice)
    for number, seconds in enumerate((0.65, 0.35)):
        sim.publish(bob, b"%d" % number)
        sim.run(seconds)
        assert len(sim.got(alice)) == number + 1


@pytest.mark.parametrize("seconds", [400.0, -400.0])
def test_a_publisher_with_a_wrong_clock_is_told_at_once(seconds: float) -> None:
    sim, (alice, bob) = town(2, 2)
    sim.subscribe(alice)
    bob.router.set_wall_offset(WALL + seconds)
    token = sim.publish(bob, b"hello")
    sim.run(0.5)
    error = bob.failed[token]
    assert isinstance(error, TopicUnavailable)
    assert f"400 s {'ahead of' if seconds > 0 else 'behind'}" in str(error)
    assert error.outcome == "not_delivered"
    assert bob.router.counts()["rendezvous_avoided"] == 0
    assert sim.got(alice) == []
    bob.router.set_wall_offset(WALL + seconds * 0.7)
    token = sim.publish(bob, b"hello")
    sim.run(0.5)
    assert token in bob.acknowledged
    assert sim.got(alice) == [b"hello"]


def test_subscribers_hear_what_they_publish_themselves_once() -> None:
    sim, (alice, bob) = town(4, 2)
    relay = sim.closest()[0]
    for peer in (alice, bob, relay):
        sim.subscribe(peer)
    sim.run(1.0)
    sim.publish(alice, b"from a leaf")
    sim.publish(relay, b"from a relay")
    sim.run(1.0)
    for peer in (alice, bob, relay):
        assert sorted(sim.got(peer)) == [b"from a leaf", b"from a relay"]


@pytest.mark.parametrize("relays", [1, 2])
def test_small_networks_work(relays: int) -> None:
    sim, (alice, bob) = town(relays, 2)
    sim.subscribe(alice)
    sim.subscribe(sim.peers[0])
    sim.run(1.0)
    assert all_kept(sim, alice, sim.peers[0], relays=relays)
    sim.publish(bob, b"hello")
    sim.run(1.0)
    assert sim.got(alice) == sim.got(sim.peers[0]) == [b"hello"]


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("lost", [(0, 1), (0, 2), (1, 2)])
def test_any_two_of_the_three_may_be_lost(lost: tuple[int, int], silent: bool) -> None:
    sim, (alice, bob) = town(5, 2)
    sim.subscribe(alice)
    sim.run(1.0)
    keepers = sim.closest()[:3]
    sim.kill(*(keepers[number] for number in lost), silent=silent)
    token = sim.publish(bob, b"hello")
    sim.run(3.0)
    assert token in bob.acknowledged
    assert sim.got(alice) == [b"hello"]


def test_a_publisher_replaces_a_relay_that_does_not_answer() -> None:
    sim, (alice, _) = town(6, 2)
    sim.kill(sim.closest()[0], silent=True)
    sim.publish(alice, b"hello")
    sim.run(8.0)
    assert [relay.router.counts()["publications_taken"] for relay in sim.closest()[:4]] == [1, 1, 1, 0]


def test_a_publication_goes_on_to_other_relays_when_all_three_are_silent() -> None:
    sim, (alice, _) = town(7, 2)
    sim.kill(*sim.closest()[:3], silent=True)
    token = sim.publish(alice, b"hello")
    sim.run(4.0)
    assert token in alice.acknowledged


def test_two_more_may_be_lost_some_seconds_later() -> None:
    """Subscribers notice what is missing long before they renew."""
    sim, (alice, bob, carol) = town(7, 3)
    sim.subscribe(alice)
    sim.subscribe(bob)
    sim.run(1.0)
    for number in range(2):
        sim.kill(*sim.closest()[:2])
        sim.publish(carol, b"%d" % number)
        sim.run(12.0)
        assert sim.got(alice) == sim.got(bob) == [b"%d" % each for each in range(number + 1)]
    assert all_kept(sim, alice, bob)


def test_a_relay_that_ends_politely_tells_its_subscribers() -> None:
    sim, (alice,) = town(7, 1)
    sim.subscribe(alice)
    sim.run(1.0)
    leaving = sim.closest()[:3]
    for relay in leaving:
        sim.leave(relay)
    sim.run(1.5)
    assert all_kept(sim, alice)
    for relay in sim.closest()[:3]:
        assert relay not in leaving
        assert relay.router.sizes()["topic_subscriptions"] == 1


def test_subscriptions_move_to_relays_that_come_closer() -> None:
    sim, (alice, bob) = town(4, 2)
    sim.subscribe(alice)
    sim.run(1.0)
    before = sim.closest()[:3]
    for _ in range(3):
        sim.join(sim.add(near=KEY, bits=5), sim.peers[0])
    sim.run(70.0)
    assert not set(before) & set(sim.closest()[:3])
    assert all_kept(sim, alice)
    for relay in sim.closest()[:3]:
        assert relay.router.sizes()["topics"] == 1
    sim.publish(bob, b"hello")
    sim.run(1.0)
    assert sim.got(alice) == [b"hello"]


def test_what_is_not_renewed_ends() -> None:
    sim, (alice, bob) = town(3, 2)
    sim.subscribe(alice)
    sim.subscribe(bob)
    sim.run(200.0)
    assert [relay.router.sizes()["topic_subscriptions"] for relay in sim.closest()] == [2, 2, 2]
    sim.unsubscribe(alice)
    sim.run(0.1)
    assert [relay.router.sizes()["topic_subscriptions"] for relay in sim.closest()] == [1, 1, 1]
    sim.kill(bob)
    sim.run(165.0)
    assert [relay.router.sizes()["topics"] for relay in sim.closest()] == [0, 0, 0]


def test_a_restarted_relay_is_asked_again() -> None:
    """It has forgotten everything, and nobody saw it go: only what it does not bring shows."""
    sim, (alice, bob) = town(4, 2)
    sim.subscribe(alice)
    sim.run(6.0)
    relay = sim.closest()[0]
    relay.router._parts.rendezvous._board.clear()
    sim.publish(bob, b"one")
    sim.run(4.0)
    assert relay.router.sizes()["topic_subscriptions"] == 1
    assert alice.router.counts()["publications_missed"] == 1


def test_without_any_relay_publishing_fails_in_time_and_subscribing_waits() -> None:
    sim = TopicSimulator(1)
    alone, late = sim.add(listening=False), sim.add(listening=False)
    sim.subscribe(alone)
    token = sim.publish(alone, b"hello", timeout=3.0)
    sim.run(4.0)
    error = alone.failed[token]
    assert isinstance(error, TopicUnavailable)
    assert error.outcome == "not_delivered"
    assert not sim.kept[alone.name, KEY].complete
    relay = sim.add()
    sim.join(alone, relay)
    sim.join(late, relay)
    sim.run(2.0)
    assert all_kept(sim, alone, relays=1)
    sim.publish(late, b"now")
    sim.run(1.0)
    assert sim.got(alone) == [b"hello", b"now"]


def test_a_publication_waits_for_the_first_link() -> None:
    sim = TopicSimulator(1)
    alice, relay = sim.add(listening=False), sim.add()
    token = sim.publish(alice, b"hello", timeout=5.0)
    sim.join(alice, relay)
    sim.run(2.0)
    assert token in alice.acknowledged


def test_a_network_that_divides_and_heals() -> None:
    sim, (alice, bob, carol) = town(4, 3)
    for peer in (alice, bob):
        sim.subscribe(peer)
    sim.run(1.0)
    left = [alice, carol, *sim.closest()[::2]]
    sim.partition(left, [peer for peer in sim.peers if peer not in left])
    sim.run(75.0)
    sim.publish(carol, b"to the left")
    sim.run(2.0)
    assert (sim.got(alice), sim.got(bob)) == ([b"to the left"], [])
    moved = {peer.name: sim.kept[peer.name, KEY].moved for peer in (alice, bob)}
    sim.heal()
    sim.run(65.0)
    # So that whoever tells others of himself under a topic knows when to do it again.
    assert all(sim.kept[peer.name, KEY].moved > moved[peer.name] for peer in (alice, bob))
    sim.publish(carol, b"to all")
    sim.run(2.0)
    assert (sim.got(alice), sim.got(bob)) == ([b"to the left", b"to all"], [b"to all"])
