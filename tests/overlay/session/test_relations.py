"""Peers and their sessions: which one is sealed in, which are forgotten, and who makes room."""

from __future__ import annotations

from collections import Counter

import pytest

from trio_relay.overlay.session.agreement import Opening, Self
from trio_relay.overlay.session.relations import Attempt, Relation, Relations
from trio_relay.overlay.session.session import MOST_FRAMES, Session
from trio_relay.wire.ids import NodeId
from trio_relay.wire.session import Cipher

from .support import OWN, make_session, node_id, numbered

PEER = node_id(1)
LIFETIME = 600.0


def make_relations(capacity: int = 4) -> tuple[Relations, Counter[str]]:
    counts: Counter[str] = Counter()
    return Relations(capacity, LIFETIME, counts), counts


def make_relation(relations: Relations, number: int = 1, now: float = 0.0, *, own: bool = False) -> Relation:
    relation = relations.add(node_id(number), now, own=own)
    assert relation is not None
    return relation


def add(relations: Relations, relation: Relation, *, now: float = 0.0, confirmed: bool = True) -> Session:
    session = make_session(relation.peer, opener=not confirmed, confirmed=confirmed, now=now)
    relations.open(relation, session, now)
    return session


def attempt_with(session: Session | None = None) -> Attempt:
    nobody = Self(OWN, bytes(32), lambda _: bytes(64), lambda *_: False, Cipher.CHACHA20_POLY1305, False)
    return Attempt(Opening(nobody, PEER, numbered(1), bytes(96)), 10.0, 0.5, session=session)


def peers(relations: Relations) -> set[NodeId]:
    return {relation.peer for relation in relations}


# Choice


def test_the_newest_confirmed_else_the_newest() -> None:
    relations, _ = make_relations()
    relation = make_relation(relations)
    assert relation.usable(0.0) is None
    first = add(relations, relation, confirmed=False)
    assert relation.usable(0.0) is first
    second = add(relations, relation, now=20.0)
    assert relation.usable(20.0) is second
    third = add(relations, relation, now=40.0, confirmed=False)
    assert relation.usable(40.0) is second
    third.proof = b""
    relations.changed(relation, 41.0)
    assert relation.usable(41.0) is third


@pytest.mark.parametrize("apart", [0.0, 9.99, 10.0, 30.0])
@pytest.mark.parametrize("smaller_first", [True, False])
def test_of_two_at_once_the_one_that_the_smaller_id_opened(apart: float, smaller_first: bool) -> None:
    """Agreed upon within 10 s of each other; if they are further apart, the newer."""
    relations, _ = make_relations()
    relation = make_relation(relations)
    sessions = [
        make_session(PEER, opener=opener, now=number * apart)
        for number, opener in enumerate([(OWN < PEER) is smaller_first, (OWN < PEER) is not smaller_first])
    ]
    assert [session.by_smaller for session in sessions] == [smaller_first, not smaller_first]
    for session in sessions:
        relations.open(relation, session, session.born)
    assert relation.current is sessions[0 if smaller_first and apart < 10.0 else 1]


def test_a_suspected_session_is_the_last_choice() -> None:
    relations, _ = make_relations()
    relation = make_relation(relations)
    old = add(relations, relation)
    new = add(relations, relation, now=20.0)
    unconfirmed = add(relations, relation, now=40.0, confirmed=False)
    new.suspected = 40.0
    relations.changed(relation, 40.0)
    assert relation.current is old
    old.suspected = 40.0
    relations.changed(relation, 40.0)
    assert relation.current is unconfirmed
    unconfirmed.suspected = 41.0
    relations.changed(relation, 41.0)
    assert relation.current is unconfirmed
    # Anything that arrives in one clears it.
    old.suspected = None
    relations.changed(relation, 42.0)
    assert relation.current is old


def test_messages_wait_two_seconds_while_a_suspected_session_is_replaced() -> None:
    relations, _ = make_relations()
    relation = make_relation(relations)
    session = add(relations, relation)
    session.suspected = 5.0
    assert relation.usable(5.0) is session, "nothing better is coming"
    relation.attempt = attempt_with()
    assert relation.usable(5.0) is None
    assert relation.usable(6.99) is None
    assert relation.usable(7.0) is session


def test_nothing_is_sealed_in_a_session_that_is_used_up() -> None:
    relations, _ = make_relations()
    relation = make_relation(relations)
    session = add(relations, relation)
    session.sealed = MOST_FRAMES - 1
    assert relation.usable(0.0) is session
    session.sealed = MOST_FRAMES
    assert relation.usable(0.0) is None


# Bounds


def test_twelve_sessions_with_a_peer() -> None:
    """The longest silent makes room, but never the one that is sealed in."""
    relations, _ = make_relations(capacity=7)
    relation = make_relation(relations)
    current = add(relations, relation)
    others = [add(relations, relation, now=float(number), confirmed=False) for number in range(1, 12)]
    others[0].received = 50.0
    others += [add(relations, relation, now=float(number), confirmed=False) for number in range(12, 14)]
    assert relation.current is current
    assert relation.sessions == [*reversed(others[3:]), others[0], current]
    assert set(relations.by_index) == {session.index for session in relation.sessions}
    assert relations.has(current)
    assert not relations.has(others[1])


def test_two_sessions_with_a_peer_once_there_are_more_than_twice_as_many_as_peers_fit() -> None:
    """Whoever opens another one then keeps that one and the one that is sealed in, and what is being confirmed."""
    relations, _ = make_relations(capacity=3)
    other, relation = make_relation(relations, 2), make_relation(relations)
    others = [add(relations, other, confirmed=False) for _ in range(3)]
    current, opening = add(relations, relation), add(relations, relation, now=1.0, confirmed=False)
    third = add(relations, relation, now=2.0, confirmed=False)
    assert relation.sessions == [third, opening, current]
    assert len(relations.by_index) == 6
    relation.attempt = attempt_with(opening)
    fourth = add(relations, relation, now=3.0, confirmed=False)
    assert relation.current is current
    assert relation.sessions == [fourth, opening, current]
    relation.attempt = None
    fifth = add(relations, relation, now=4.0, confirmed=False)
    assert relation.sessions == [fifth, current]
    sixth = add(relations, relation, now=5.0, confirmed=False)
    assert relation.sessions == [sixth, fifth, current], "they are six in all again"
    assert other.sessions == others[::-1]


def test_who_was_silent_for_a_minute_makes_room() -> None:
    relations, counts = make_relations(capacity=2)
    for number, used in ((1, 0.0), (2, 30.0)):
        add(relations, make_relation(relations, number, used))
    assert relations.add(node_id(3), 59.0, own=False) is None
    assert counts["sessions_full"] == 1
    assert make_relation(relations, 3, 60.0).peer == node_id(3)
    assert peers(relations) == {node_id(2), node_id(3)}
    assert counts["sessions_evicted"] == 1
    assert len(relations.by_index) == 1


@pytest.mark.parametrize("active", [False, True])
def test_who_only_writes_to_us_is_not_silent(active: bool) -> None:
    relations, _ = make_relations(capacity=1)
    session = add(relations, make_relation(relations))
    session.used = 30.0 if active else 0.0
    assert (relations.add(node_id(2), 60.0, own=False) is None) is active


def test_when_there_was_no_room_others_wait_a_second() -> None:
    """To look for some means to look at every peer."""
    relations, counts = make_relations(capacity=1)
    add(relations, make_relation(relations))
    assert relations.add(node_id(2), 59.5, own=False) is None
    assert relations.add(node_id(2), 60.4, own=False) is None
    assert relations.add(node_id(2), 60.5, own=False) is not None
    assert relations.add(node_id(3), 60.5, own=False) is None
    assert counts["sessions_full"] == 3


def test_the_longest_silent_go_first_a_sixteenth_at_once() -> None:
    relations, counts = make_relations(capacity=48)
    for number in range(48):
        add(relations, make_relation(relations, number, float(number % 10), own=True))
    make_relation(relations, 100, 1000.0)
    assert len(relations) == 48 - 4 + 1
    assert {node_id(number) for number in (0, 10, 20, 30)}.isdisjoint(peers(relations))
    assert counts["sessions_evicted"] == 4


def test_who_is_known_needs_no_room() -> None:
    relations, counts = make_relations(capacity=1)
    relation = make_relation(relations)
    assert make_relation(relations) is relation
    assert relations.add(node_id(2), 1.0, own=False) is None
    assert counts["sessions_full"] == 1


def test_a_quarter_of_the_room_is_for_peers_that_we_write_to() -> None:
    relations, counts = make_relations(capacity=8)
    for number in range(6):
        add(relations, make_relation(relations, number))
    assert relations.add(node_id(6), 1.0, own=False) is None
    for number in (6, 7):
        make_relation(relations, number, 1.0, own=True)
    assert relations.add(node_id(8), 2.0, own=True) is None
    assert peers(relations) == {node_id(number) for number in range(8)}
    assert (counts["sessions_full"], counts["sessions_evicted"]) == (2, 0)


@pytest.mark.parametrize("again", [1, 3])
def test_a_stranger_that_we_write_to_takes_no_room_of_strangers(again: int) -> None:
    relations, _ = make_relations(capacity=4)
    strangers = [make_relation(relations, number) for number in range(3)]
    assert relations.add(node_id(3), 0.0, own=False) is None
    for _ in range(again):
        relations.write_to(strangers[0])
        make_relation(relations, 0, own=True)
    make_relation(relations, 3, 5.0)
    # Who is forgotten gives his place back where he took it.
    relations.remove(strangers[0])
    assert relations.add(node_id(4), 5.0, own=False) is None
    relations.remove(strangers[1])
    make_relation(relations, 4, 5.0)
    make_relation(relations, 5, 5.0, own=True)
    assert len(relations) == 4


def test_nobody_active_is_ever_displaced() -> None:
    """Nobody who was heard or written to within a minute makes room, for whomever it is and however many come."""
    relations, counts = make_relations(capacity=4)
    for number in range(1, 5):
        add(relations, make_relation(relations, number, own=number == 4))
    for number in range(10, 500):
        now = number / 20
        for relation in relations:
            relation.sessions[0].used = now
        assert relations.add(node_id(number), now, own=number % 2 == 0) is None
    assert peers(relations) == {node_id(number) for number in range(1, 5)}
    assert counts["sessions_evicted"] == 0
    assert counts["sessions_full"] == 490


def test_an_opening_under_way_is_not_displaced() -> None:
    relations, _ = make_relations(capacity=1)
    relation = make_relation(relations)
    relation.attempt = attempt_with()
    assert relations.add(node_id(2), 1000.0, own=True) is None
    relation.attempt = None
    assert relations.add(node_id(2), 1001.0, own=False) is not None


# Who can be written to


def test_who_becomes_ready_is_told_once() -> None:
    relations, _ = make_relations()
    relation = make_relation(relations)
    assert relations.take_ready() == []
    add(relations, relation)
    assert relations.has_ready
    assert relations.take_ready() == [(PEER, False)]
    assert relations.take_ready() == []


def test_that_frames_may_be_lost_is_told_when_there_is_another_session() -> None:
    relations, _ = make_relations()
    relation = make_relation(relations)
    session = add(relations, relation)
    relations.take_ready()
    session.suspected, relation.lost, relation.attempt = 1.0, True, attempt_with()
    relations.changed(relation, 1.0)
    assert not relations.has_ready
    add(relations, relation, now=1.5)
    assert relations.take_ready() == [(PEER, True)]
    relations.changed(relation, 2.0)
    assert relations.take_ready() == [(PEER, False)]


def test_who_is_forgotten_is_not_ready() -> None:
    relations, _ = make_relations()
    relation = make_relation(relations)
    add(relations, relation)
    relations.remove(relation)
    assert relations.take_ready() == []
    assert (len(relations), relations.by_index) == (0, {})
    assert relations.get(PEER) is None


# Time


@pytest.mark.parametrize(
    ("now", "used", "ended"),
    [(399.9, 100.0, False), (400.0, 100.0, True), (719.9, 719.0, False), (720.0, 719.0, True)],
    ids=["not quite idle", "idle for five minutes", "not quite too old", "too old"],
)
def test_the_only_session_ends(now: float, used: float, ended: bool) -> None:
    relations, counts = make_relations()
    relation = make_relation(relations)
    session = add(relations, relation)
    session.used = session.received = used
    relations.sweep(now)
    assert len(relations) == len(relations.by_index) == (0 if ended else 1)
    assert counts["sessions_ended"] == ended


def test_a_replaced_session_ends_when_nothing_came_in_it_for_a_minute() -> None:
    relations, _ = make_relations()
    relation = make_relation(relations)
    old, new = add(relations, relation), add(relations, relation, now=30.0)
    old.received = 40.0
    old.used = 100.0
    relations.sweep(99.9)
    assert relation.sessions == [new, old]
    relations.sweep(100.0)
    assert relation.sessions == [new]
    assert set(relations.by_index) == {new.index}


def test_a_session_that_is_being_confirmed_is_left_to_its_attempt() -> None:
    relations, _ = make_relations()
    relation = make_relation(relations)
    session = add(relations, relation, confirmed=False)
    relation.attempt = attempt_with(session)
    relations.sweep(10_000.0)
    assert relation.sessions == [session]
    relation.attempt = None
    relations.sweep(10_000.0)
    assert len(relations) == 0
