"""What was once wrong with the tables of sessions and their timers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trio_relay.wire.frame import Kind
from trio_relay.wire.record import join_records

from .insider import Insider, unknown
from .sides import QUIET, Side, exchange, identity, is_open, open_session, relay_record
from .test_relations import PEER, add, make_relation, make_relations


def test_who_only_sends_to_us_is_not_silent() -> None:
    """What it sends keeps its place when a stranger wants one."""
    bob = Side(2, limits=replace(QUIET, sessions=2))
    peers = [Insider.opened(number, bob) for number in (11, 12)]
    for second in range(1, 100):
        bob.advance(1.0)
        bob.receive(*[peer.frame(second, b"\0hello") for peer in peers])
    late = Insider.half_open(13, bob)
    bob.receive(late.frame(0, b"\0hello", box=late.box))
    assert [bob.router.has_session(peer.id) for peer in peers] == [True, True]
    assert bob.count("sessions_full") == 1


@pytest.mark.parametrize("kind", [Kind.FIND, Kind.FOUND, Kind.STORE, Kind.UNREACHABLE])
def test_kinds_that_mean_nothing_in_a_session_are_dropped(kind: Kind) -> None:
    bob = Side(2)
    alice = Insider.opened(1, bob)
    payload = {Kind.FIND: identity(3).id, Kind.UNREACHABLE: identity(3).id + b"\0"}.get(kind, b"")
    before = dict(bob.router.counts())
    if kind == Kind.UNREACHABLE:
        [opened] = bob.send(identity(3).id)  # an opening under way: the sealed hint hurries it
        frame = alice.frame(1, payload, kind=kind, message_id=opened.message_id)
        bob.receive(frame)
        assert [f for f in bob.advance(0.3) if is_open(f)] == []
    elif kind == Kind.STORE:
        bob.receive(alice.frame(1, join_records([relay_record(950)]), kind=kind))
        assert bob.router.record_of(identity(950).id) is None
    elif kind == Kind.FIND:
        assert bob.receive(alice.frame(1, payload, kind=kind)) == []
    else:
        bob.receive(alice.frame(1, payload, kind=kind))
        assert dict(bob.router.counts()) == {**before, "unknown_kind": 1}


def test_that_frames_may_be_lost_is_not_forgotten_within_one_input() -> None:
    relations, _ = make_relations()
    relation = make_relation(relations)
    add(relations, relation)
    relations.take_ready()
    relation.lost = True
    relations.changed(relation, 0.0)
    relations.changed(relation, 0.0)
    assert relations.take_ready() == [(PEER, True)]


def test_a_message_lost_in_a_restart_leaves_at_once_in_the_session_that_the_peer_opens() -> None:
    alice, bob = Side(1), Side(2)
    open_session(alice, bob)
    alice.advance(5.0)
    again = Side(2, incarnation=1, now=alice.now)
    message, [frame] = alice.deliver(again.id, b"lost")
    [hint] = again.receive(frame)
    alice.receive(hint)  # alice's own OPEN is lost on its way
    exchange(alice, again, again.send(alice.id, b"from the new one"))  # but bob opens one himself
    assert [data for _, data, _ in again.delivered] == [b"lost"]
    assert alice.ended == {message: "Acknowledged"}


def test_no_opening_begins_anew_for_what_expires_at_the_same_moment() -> None:
    alice = Side(1)
    alice.send(identity(2).id)
    alice.advance(9.99)
    assert [frame for frame in alice.advance(20.0) if is_open(frame)] == []


def test_a_session_that_was_not_confirmed_in_10_s_is_given_up_even_if_unknown_came_for_it() -> None:
    alice = Side(1)
    bob, _ = Insider.accepted(2, alice)
    alice.advance(2.5)
    alice.receive(unknown(bob, bob.session.agreed.accepter_index))
    alice.advance(10.0)
    assert alice.size("sessions") == 0
