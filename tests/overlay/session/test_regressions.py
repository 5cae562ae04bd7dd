"""What was once wrong with sessions, their tables and their timers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trio_relay.overlay.actions import Action, NotConnected
from trio_relay.overlay.words import explain
from trio_relay.wire.frame import Flag, Frame, Kind
from trio_relay.wire.hello import Reason
from trio_relay.wire.record import PeerRecord, build_record, join_records

from ..support import WALL
from .insider import BOTH, Insider, plain, unknown
from .reference import Accepter
from .sides import QUIET, Side, exchange, identity, is_open, open_session, relay_record
from .test_relations import PEER, add, make_relation, make_relations


def record_without_address(number: int) -> PeerRecord:
    own = identity(number)
    return build_record(own.public_key, own.sign, sequence=1, expiry=int(WALL + 1e6))


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


# Copies of confirmed messages


@pytest.mark.parametrize(("others", "anew"), [(8191, False), (8192, True), (8300, True)])
def test_a_message_of_which_more_was_sealed_since_than_the_window_is_sealed_anew(others: int, anew: bool) -> None:
    """Its receiver would take the same bytes for repeated, and the sender would wait for ever. It takes one of both."""
    alice, bob = Side(1), Side(2)
    open_session(alice, bob)
    message, [lost] = alice.deliver(bob.id, b"confirmed")
    for _ in range(others):
        [last] = alice.send(bob.id)
    bob.receive(last)
    [copy] = alice.advance(1.0)
    assert (copy.payload != lost.payload) is anew
    exchange(alice, bob, [copy])
    assert alice.ended == {message: "Acknowledged"}
    bob.receive(lost, copy)
    assert [data for _, data, _ in bob.delivered].count(b"confirmed") == 1


def test_the_fourth_copy_goes_in_the_session_that_is_chosen_then() -> None:
    """Things come in the one that the first copies went in, so that it is not doubted; only the answers do not."""
    alice = Side(1)
    bob, _ = Insider.accepted(2, alice)
    alice.receive(bob.frame(0, b"", kind=Kind.SESSION))
    alice.advance(20.0)
    _, [first] = alice.deliver(bob.id, timeout=60.0)
    newer = Insider.opened(2, alice, index=b"another1", ephemeral=b"\6" * 32)
    copies = list[Frame]()
    for number in range(1, 16):
        alice.receive(bob.frame(number, b"\0hello"))
        copies += alice.advance(1.0)
    assert [copy.attempt for copy in copies] == [1, 2, 3, 4]
    assert [copy.payload == first.payload for copy in copies] == [True, True, False, False]
    assert copies[2].payload == copies[3].payload
    assert newer.open(copies[2]) == b"\0hello"


# Timers


def test_the_timer_does_not_fail_when_what_is_opened_instead_displaces_the_peer_that_is_given_up() -> None:
    """Bob answers OPEN and never confirms; there is one place for an opening, and none for another peer."""
    alice, dave = Side(1, limits=replace(QUIET, sessions=2, session_openings=1)), Side(4)
    open_session(alice, dave)
    bob = Insider.opened(2, alice)
    for _ in range(11):
        alice.advance(5.0)
        exchange(alice, dave, alice.send(dave.id))
    [opened] = alice.receive(unknown(bob, bob.index))
    accepter = Accepter((2).to_bytes(32, "big"), b"another1", b"\6" * 32, BOTH)
    accept, _ = accepter.accept(opened.source, opened.message_id, opened.payload)
    alice.receive(plain(bob.id, alice.id, opened.message_id, accept))
    exchange(alice, dave, alice.send(dave.id))
    alice.advance(5.0)
    assert alice.send(identity(3).id) == []
    assert alice.count("session_openings_full") == 1
    left = alice.advance(5.0)
    assert [(frame.to, is_open(frame)) for frame in left if frame.to != bob.id] == [(identity(3).id, True)]
    assert [alice.router.has_session(peer) for peer in (bob.id, dave.id)] == [False, True]


def test_an_opening_that_an_acknowledgement_began_is_repeated_in_time() -> None:
    bob = Side(2)
    alice = Insider.opened(1, bob)
    for number in range(1, 221):
        bob.advance(3.0)
        answers = bob.receive(alice.frame(number, b"\0hello", flags=Flag.CONFIRM))
    assert bob.now == 660.0
    assert {is_open(answer) for answer in answers} == {True, False}
    assert bob.router.next_deadline() <= 660.5
    assert [is_open(frame) for frame in bob.advance(0.5)] == [True]


@pytest.mark.parametrize("wait", [0.25, 9.0])
def test_the_proof_has_as_long_as_an_opening_even_if_the_answer_came_late(wait: float) -> None:
    alice, bob = Side(1), identity(2).id
    [opened] = alice.send(bob)
    alice.advance(wait)
    accepter = Accepter((2).to_bytes(32, "big"), b"insider.", b"\7" * 32, BOTH)
    accept, _ = accepter.accept(alice.id, opened.message_id, opened.payload)
    alice.receive(plain(bob, alice.id, opened.message_id, accept))
    alice.advance(9.9)
    assert alice.router.has_session(bob)
    alice.advance(0.2)
    assert not alice.router.has_session(bob)


# What relays and strangers can make us believe


def test_frames_that_were_held_back_do_not_hide_that_their_sender_restarted() -> None:
    """A relay releases one of them twice a second, so that the lost session seems to be alive."""
    alice, bob = Side(1), Side(2)
    open_session(alice, bob)
    held = [frame for _ in range(20) for frame in bob.send(alice.id)]
    alice.advance(5.0)
    again = Side(2, incarnation=1, now=alice.now)
    for frame in held:
        alice.receive(frame)
        alice.advance(0.25)
        exchange(alice, again, alice.send(again.id, b"to the new one"))
        alice.advance(0.25)
    assert len([data for _, data, _ in again.delivered if data == b"to the new one"]) == 19
    assert alice.count("sessions_opened") == 2


def test_a_forged_request_that_originals_carried_makes_nobody_say_that_we_were_refused() -> None:
    """It is in Alice's name, whom Bob has a session with; his refusal would be sealed and look like one of hers."""
    alice, bob = Side(1), Side(2)
    open_session(alice, bob)
    forged = Frame(kind=Kind.CONNECT, to=bob.id, source=alice.id, message_id=bytes(8), payload=b"garbage")
    assert bob.router.receive_tunnelled(forged, 0, bob.now) == []
    assert bob.count("connect_requests_refused") == 1


def test_a_refusal_is_about_what_we_asked() -> None:
    alice = Side(1)
    alice.router.advertise(["ws://alice.example:80"], alice.now)
    bob, _ = Insider.accepted(2, alice)
    alice.receive(bob.frame(0, b"", kind=Kind.SESSION))
    alice.router.learn(join_records([record_without_address(2)]), 0, alice.now)
    started, actions = alice.router.connect(bob.id, alice.now)
    assert started
    [asked] = [frame for frame in alice._carry_out(actions) if frame.kind == Kind.CONNECT]

    def refuse(counter: int, message_id: bytes) -> list[Action]:
        frame = bob.frame(counter, bytes([Reason.NO_ADDRESS]), kind=Kind.REFUSED, message_id=message_id)
        actions = alice.router.receive(900, [frame], alice.now)
        return [action for action in actions if isinstance(action, NotConnected)]

    assert refuse(1, b"another1") == []
    assert alice.count("answers_to_nothing") == 1
    assert refuse(2, asked.message_id) == [NotConnected(bob.id, f"it does not dial us: {explain(Reason.NO_ADDRESS)}")]


# Keys


@pytest.mark.parametrize("whole", [False, True])
def test_a_forgotten_session_has_no_keys_whoever_still_refers_to_it(whole: bool) -> None:
    relations, _ = make_relations()
    relation = make_relation(relations)
    session = add(relations, relation)
    flags, sealed = session.seal(Kind.DATA, 0, PEER, PEER, bytes(8), b"hello")
    if whole:
        relations.remove(relation)
    else:
        relations.close(relation, session)
    with pytest.raises(AttributeError):
        session.seal_again(0, Kind.DATA, flags, PEER, PEER, bytes(8), b"hello")
    with pytest.raises(AttributeError):
        session.unseal(Kind.DATA, flags, PEER, PEER, bytes(8), sealed)
