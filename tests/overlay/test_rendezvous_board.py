"""A relay that keeps topics, on the bench: what it refuses, and its bounds."""

from __future__ import annotations

from collections import Counter

import pytest

from trio_relay.overlay.admission import EVERYBODY
from trio_relay.overlay.endpoint import Endpoint
from trio_relay.overlay.rendezvous_board import LIFETIME, TOPICS_PER_SUBSCRIBER, Board, Verdict
from trio_relay.overlay.rendezvous_inbox import RendezvousInbox
from trio_relay.overlay.table import Neighbour
from trio_relay.wire.frame import Frame, Kind
from trio_relay.wire.ids import NodeId
from trio_relay.wire.rendezvous import (
    MAX_DATA,
    Event,
    Gone,
    Publish,
    Subscribe,
    Unsubscribe,
    topic_key,
)

from .rendezvous_world import CONFIRM, KEY, NOW, RENDEZVOUS, about_topics, publication, say
from .support import WALL, Bench, make_state, node_id, sent, verify


@pytest.fixture
def relay() -> Bench:
    return Bench()


def test_a_relay_confirms_subscriptions_and_passes_publications_on(relay: Bench) -> None:
    alice, bob = relay.link(1, relay=False), relay.link(2, relay=False)
    assert len(sent(relay.receive(alice, say(relay, alice, Subscribe(KEY).to_bytes())), alice, Kind.ACK)) == 1
    item = publication(2)
    actions = relay.receive(bob, say(relay, bob, Publish(item).to_bytes()))
    assert len(sent(actions, bob, Kind.ACK)) == 1
    assert about_topics(sent(actions, alice)) == [Event(item).to_bytes()]

    again = relay.receive(bob, say(relay, bob, Publish(item).to_bytes()))
    assert [frame.kind for frame in sent(again)] == [Kind.ACK]

    relay.receive(alice, say(relay, alice, Unsubscribe(KEY).to_bytes(), confirm=False))
    assert (
        about_topics(sent(relay.receive(bob, say(relay, bob, Publish(publication(2)).to_bytes(), b"another.")))) == []
    )
    assert relay.router.sizes()["topics"] == 0


@pytest.mark.parametrize(
    ("payload", "counter"),
    [
        (b"", "bad_rendezvous"),
        (b"\x07" + KEY, "bad_rendezvous"),
        (Subscribe(KEY).to_bytes() + b"\0", "bad_rendezvous"),
        (Publish(publication(2)).to_bytes()[:-1], "publications_forged"),
        (Publish(publication(1)).to_bytes(), "publications_foreign"),
        (Publish(publication(2, NOW + 301_000_000)).to_bytes(), "publications_untimely"),
        (Publish(publication(2, NOW - 301_000_000)).to_bytes(), "publications_untimely"),
        (Publish(publication(2, under=topic_key("x"))).to_bytes().replace(topic_key("x"), KEY), "publications_forged"),
        (Event(publication(2)).to_bytes(), "rendezvous_unwanted"),
        (Gone(KEY).to_bytes(), "rendezvous_unwanted"),
    ],
)
def test_what_is_wrong_is_counted_and_passed_on_to_nobody(relay: Bench, payload: bytes, counter: str) -> None:
    alice, bob = relay.link(1, relay=False), relay.link(2, relay=False)
    relay.receive(alice, say(relay, alice, Subscribe(KEY).to_bytes()))
    actions = relay.receive(bob, say(relay, bob, payload))
    assert sent(actions, alice) == sent(actions, kind=Kind.BUSY) == []
    assert relay.count(counter) == 1


def test_subscriptions_of_unproven_senders_are_refused(relay: Bench) -> None:
    via = relay.link(1)
    frame = relay.frame(via, source=node_id(2), payload=Subscribe(KEY).to_bytes(), flags=RENDEZVOUS | CONFIRM)
    assert sent(relay.receive(via, frame)) == []
    assert relay.count("rendezvous_refused") == 1
    assert relay.router.sizes()["topics"] == 0


def test_a_leaf_and_a_node_that_does_not_admit_the_sender_keep_nothing() -> None:
    leaf = Bench(relaying=False)
    link = leaf.link(1)
    assert sent(leaf.receive(link, say(leaf, link, Subscribe(KEY).to_bytes()))) == []
    assert leaf.count("rendezvous_refused") == 1
    closed = Bench(admits=lambda who: who != node_id(1))
    link = closed.link(1)
    assert sent(closed.receive(link, say(closed, link, Subscribe(KEY).to_bytes()))) == []
    assert closed.count("not_admitted") == 1


def test_a_publisher_that_floods_is_told_to_wait(relay: Bench) -> None:
    bob = relay.link(2, relay=False)
    answers: list[Frame] = []
    for number in range(30):
        item = publication(2, NOW + number, bytes(MAX_DATA))
        answers += sent(relay.receive(bob, say(relay, bob, Publish(item).to_bytes(), b"%8d" % number)))
        if answers[-1].kind == Kind.BUSY:
            break
    else:
        raise AssertionError("no publication was refused")
    assert 8 < number < 20
    assert relay.count("publications_rate") == 1
    relay.advance(2.0)
    small = Publish(publication(2, NOW + 99, b"")).to_bytes()
    assert len(sent(relay.receive(bob, say(relay, bob, small)), kind=Kind.ACK)) == 1


def test_a_relay_that_ends_or_ceases_to_relay_says_so_to_its_subscribers(relay: Bench) -> None:
    alice = relay.link(1, relay=False)
    relay.receive(alice, say(relay, alice, Subscribe(KEY).to_bytes()))
    assert about_topics(sent(relay.router.goodbye(relay.now), alice)) == [Gone(KEY).to_bytes()]
    assert relay.router.sizes()["topics"] == 0

    other = Bench()
    bob = other.link(2, relay=False)
    other.receive(bob, say(other, bob, Subscribe(KEY).to_bytes()))
    actions = other.router.advertise([], other.now) + other.advance(0.5)
    assert not other.router.relaying
    assert about_topics(sent(actions, bob)) == [Gone(KEY).to_bytes()]


def test_what_came_over_no_link_is_nobodys_share_but_one() -> None:
    came_over: list[NodeId] = []

    def act(via: NodeId, source: NodeId, payload: bytes, proven: bool) -> Verdict:
        came_over.append(via)
        return Verdict.REFUSED

    state = make_state()
    inbox = RendezvousInbox(state, Endpoint(state, EVERYBODY, None), act)
    for via in (Neighbour(state.own, None, 0.0), Neighbour(node_id(1), "link", 0.0)):
        inbox.receive(via, 16, 0, RENDEZVOUS, node_id(2), b"message.", b"", True, None)
    assert came_over == [NodeId(bytes(20)), node_id(1)]


# The bounds of a relay


class BoardBench:
    def __init__(self) -> None:
        self.counts = Counter[str]()
        self.board = Board(node_id(0), verify, self.counts, 0.0)

    def subscribe(self, via: int, subscriber: int, topic: int = 0, now: float = 0.0) -> Verdict:
        return self.board.subscribe(node_id(via), NodeId(subscriber.to_bytes(20, "big")), topic_key(str(topic)), now)


def test_one_subscriber_has_so_many_topics() -> None:
    bench = BoardBench()
    for topic in range(TOPICS_PER_SUBSCRIBER):
        assert bench.subscribe(1, 1, topic) is Verdict.TAKEN
    assert bench.subscribe(1, 1, TOPICS_PER_SUBSCRIBER) is Verdict.FULL
    assert bench.subscribe(1, 1, 0) is Verdict.TAKEN
    assert bench.subscribe(1, 2, 0) is Verdict.TAKEN
    assert bench.counts == {"subscriber_topics_full": 1}


def test_one_link_has_a_quarter_of_the_places_of_a_topic() -> None:
    bench = BoardBench()
    taken = [bench.subscribe(1, number) for number in range(100)]
    assert taken.count(Verdict.TAKEN) == 64
    assert bench.counts == {"link_subscriptions_full": 36}
    for via in (2, 3, 4, 5):
        for number in range(64):
            bench.subscribe(via, 1000 * via + number)
    assert bench.board.subscriptions == 256
    assert bench.counts["topic_subscribers_full"] == 64


def test_one_link_has_a_quarter_of_all_places() -> None:
    bench = BoardBench()
    for number in range(2500):
        bench.subscribe(1, number // 100, number)
    assert bench.board.subscriptions == 2048
    assert bench.counts == {"link_subscriptions_full": 452}
    assert bench.subscribe(2, 10_000) is Verdict.TAKEN
    bench.board.expire(LIFETIME)
    assert bench.board.subscriptions == len(bench.board) == 0
    assert bench.subscribe(1, 10_000, now=LIFETIME) is Verdict.TAKEN


def test_renewing_takes_no_second_place() -> None:
    bench = BoardBench()
    for _ in range(2100):
        assert bench.subscribe(1, 1) is bench.subscribe(2, 1) is Verdict.TAKEN
    for number in range(2, 65):
        assert bench.subscribe(1, number) is Verdict.TAKEN
    assert bench.board.subscriptions == 64
    assert not bench.counts


def test_what_goes_out_is_bounded_for_a_topic_for_a_link_and_for_all() -> None:
    bench = BoardBench()
    for topic, subscribers in enumerate([200, 200, 100, 200]):
        for number in range(subscribers):
            bench.subscribe(1 + number % 4, number, topic)
    sent_to: list[int] = []
    # (topic, link): the topic's share is used up, then that of links, then that of all.
    places = [(0, 10), (0, 11), (1, 10), (1, 11), (2, 11), (2, 12), (3, 13)]
    for publisher, (topic, via) in enumerate(places, 100):
        item = publication(publisher, data=bytes(MAX_DATA), under=topic_key(str(topic)))
        _, who = bench.board.publish(node_id(via), node_id(publisher), item, 0.0, WALL)
        sent_to.append(len(list(who)))
    assert sent_to == [200, 0, 0, 200, 0, 100, 0]
    assert bench.counts["publications_rate"] == 4


@pytest.mark.parametrize("ids", [1, 20])
def test_who_floods_a_topic_leaves_half_of_what_goes_out_to_others(ids: int) -> None:
    """Other ids over the same link do not help."""
    bench = BoardBench()
    for number in range(100):
        bench.subscribe(1 + number % 4, number)

    def publish(publisher: int, via: int) -> bool:
        item = publication(publisher, data=bytes(20_000), under=topic_key("0"))
        return bench.board.publish(node_id(via), node_id(publisher), item, 0.0, WALL)[0] is Verdict.TAKEN

    assert sum(publish(100 + number % ids, 10) for number in range(20)) == 4
    assert [publish(200, 11) for _ in range(4)] == [True, True, True, False]
