"""A node that opens: how it repeats itself, which answers it looks at, and what hints of relays can and can not do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trio_relay.wire.frame import Flag, Frame, Kind
from trio_relay.wire.ids import NodeId

from .insider import BOTH, Insider, plain, unknown
from .primitives import public_ephemeral
from .reference import Accept, Accepter, build_cookie
from .sides import QUIET, Side, cookie_of, identity, is_open, open_session

BOB = identity(2).id


def bobs_answer(opened: Frame, seed: int = 2) -> Frame:
    """ACCEPT of the reference, proven with that seed."""
    accepter = Accepter(seed.to_bytes(32, "big"), b"insider.", b"\7" * 32, BOTH)
    accept, _ = accepter.accept(opened.source, opened.message_id, opened.payload)
    return plain(BOB, opened.source, opened.message_id, accept)


def forged_answer(opened: Frame, number: int) -> Frame:
    """What Mallory, who sees OPEN and is faster than Bob, makes up."""
    accept = Accept(2, number.to_bytes(8, "big"), public_ephemeral(b"\5" * 32), b"", bytes(112))
    return plain(BOB, opened.source, opened.message_id, accept.build())


def times_of(side: Side, seconds: float, step: float = 0.125) -> list[tuple[float, Frame]]:
    """When which frames leave."""
    return [(side.now, frame) for _ in range(int(seconds / step)) for frame in side.advance(step)]


def unreachable(side: Side, frame: Frame, target: NodeId = BOB) -> Frame:
    relay = next(iter(side.relays.values()))
    return Frame(kind=Kind.UNREACHABLE, to=side.id, source=relay, message_id=frame.message_id, payload=target + b"\0")


# OPEN


def test_open_is_repeated_unchanged_with_the_next_attempt() -> None:
    """0.5 s later, then 1, 2 and 4. The other side never answers, and in the end nothing is left of it."""
    alice = Side(1)
    [first] = alice.send(BOB)
    assert is_open(first)
    repeated = times_of(alice, 9.875)
    assert [time for time, _ in repeated] == [0.5, 1.5, 3.5, 7.5]
    assert [frame.attempt for _, frame in repeated] == [1, 2, 3, 4]
    assert all(replace(frame, attempt=0) == first for _, frame in repeated)
    alice.advance(0.125)
    assert alice.count("sessions_failed") == 1
    assert alice.count("session_waiting_expired") == 1
    alice.advance(20.0)
    assert (alice.size("session_openings"), alice.size("session_peers"), alice.size("session_waiting")) == (0, 0, 0)


def test_one_opening_for_one_peer_whatever_waits() -> None:
    alice = Side(1)
    assert len(alice.send(BOB)) == 1
    assert alice.send(BOB) == alice.deliver(BOB)[1] == []
    assert alice.size("session_openings") == 1
    assert alice.size("session_waiting") == 2


def test_it_begins_anew_when_something_still_waits() -> None:
    """With another index and another key."""
    alice = Side(1)
    [first] = alice.send(BOB)
    alice.advance(9.0)
    alice.send(BOB)
    [(time, again)] = times_of(alice, 1.25)
    assert (time, is_open(again), again.attempt) == (10.0, True, 0)
    assert again.message_id != first.message_id
    assert again.payload[2:34] != first.payload[2:34]
    assert alice.count("sessions_opening") == 2


def test_openings_are_bounded_in_number() -> None:
    alice = Side(1, limits=replace(QUIET, session_openings=3))
    for number in range(2, 7):
        assert len(alice.send(identity(number).id)) == (number < 5)
    assert alice.size("session_openings") == 3
    assert alice.count("session_openings_full") == 2


def test_unreachable_shortens_the_wait() -> None:
    """Only for the OPEN that it is about."""
    alice = Side(1)
    [opened] = alice.send(BOB)
    for wrong in (unreachable(alice, opened, identity(3).id), replace(unreachable(alice, opened), message_id=b"x" * 8)):
        alice.receive(wrong)
    assert times_of(alice, 0.375) == []
    alice.receive(unreachable(alice, opened))
    [(time, copy)] = times_of(alice, 0.125)
    assert (time, copy.attempt) == (0.5, 1)
    alice.receive(unreachable(alice, opened))
    assert [time for time, _ in times_of(alice, 0.5)] == [1.0]
    assert alice.router.sizes()["session_openings"] == 1


# Answers


def test_the_first_answer_that_holds_ends_the_opening() -> None:
    """The proof goes along with everything until the other side is heard; another answer changes nothing."""
    alice = Side(1)
    bob, sealed = Insider.accepted(2, alice)
    assert {frame.flags for frame in sealed} == {Flag.SEALED | Flag.OPENING}
    assert [(frame.kind, bob.open(frame)) for frame in sealed] == [(Kind.SESSION, b""), (Kind.DATA, b"\0first")]
    [more] = alice.send(BOB)
    assert more.flags == Flag.SEALED | Flag.OPENING
    alice.receive(bob.frame(0, b"", kind=Kind.SESSION))
    [more] = alice.send(BOB)
    assert more.flags == Flag.SEALED
    assert alice.count("sessions_opened") == 1
    assert alice.size("session_openings") == 0


def test_the_proof_is_repeated_until_it_is_confirmed() -> None:
    alice = Side(1)
    bob, _ = Insider.accepted(2, alice)
    repeated = times_of(alice, 3.0)
    assert [time for time, _ in repeated] == [0.5, 1.5]
    assert all((frame.kind, bob.open(frame)) == (Kind.SESSION, b"") for _, frame in repeated)
    alice.receive(bob.frame(0, b"\0hello"))
    assert times_of(alice, 10.0) == []
    assert alice.delivered == [(BOB, b"hello", True)]


def test_a_session_that_is_not_confirmed_is_given_up() -> None:
    alice = Side(1)
    bob, _ = Insider.accepted(2, alice)
    alice.advance(9.9)
    assert alice.router.has_session(BOB)
    alice.advance(0.2)
    assert not alice.router.has_session(BOB)
    assert alice.count("sessions_failed") == 1
    alice.receive(bob.frame(0, b"\0too late"))
    assert alice.delivered == []


def test_seven_forged_answers_change_nothing() -> None:
    alice = Side(1)
    [opened] = alice.send(BOB)
    assert alice.receive(*[forged_answer(opened, number) for number in range(7)]) == []
    assert alice.count("session_proof") == 7
    assert alice.advance(0.5)[0].message_id == opened.message_id
    assert len(alice.receive(bobs_answer(opened))) == 2
    assert alice.router.has_session(BOB)


def test_after_eight_forged_answers_the_next_copy_has_another_index_and_other_keys() -> None:
    """Mallory's further answers to the first OPEN cost nothing, and do not meet the second."""
    alice = Side(1, kem=False)
    [opened] = alice.send(BOB)
    assert alice.receive(*[forged_answer(opened, number) for number in range(100)]) == []
    assert alice.count("session_proof") == 8
    assert alice.count("answers_to_nothing") == 92
    [copy] = alice.advance(0.5)
    assert is_open(copy)
    assert copy.message_id != opened.message_id
    assert copy.payload[2:34] != opened.payload[2:34]
    assert alice.receive(bobs_answer(opened)) == []
    assert len(alice.receive(bobs_answer(copy))) == 2
    assert alice.router.has_session(BOB)


def test_answers_to_nothing_are_counted() -> None:
    alice = Side(1)
    [opened] = alice.send(BOB)
    answer = bobs_answer(opened)
    for wrong in (replace(answer, source=identity(3).id), replace(answer, message_id=b"another1")):
        assert alice.receive(wrong) == []
    assert alice.count("answers_to_nothing") == 2
    alice.receive(answer)
    assert alice.receive(answer) == []
    assert alice.count("answers_to_nothing") == 3
    assert alice.size("sessions") == 1


def test_a_proof_of_somebody_else_is_no_answer() -> None:
    alice = Side(1)
    [opened] = alice.send(BOB)
    assert alice.receive(bobs_answer(opened, seed=3)) == []
    assert (alice.count("session_proof"), alice.size("sessions")) == (1, 0)


def test_a_cookie_is_shown_at_once_and_one_for_each_copy() -> None:
    alice = Side(1)
    [opened] = alice.send(BOB)

    def cookie(letter: bytes) -> Frame:
        return plain(BOB, alice.id, opened.message_id, build_cookie(letter * 16))

    [shown] = alice.receive(cookie(b"a"))
    assert cookie_of(shown) == b"a" * 16
    assert shown.payload[:34] == opened.payload[:34]
    assert shown.message_id == opened.message_id
    assert alice.receive(cookie(b"b"), cookie(b"c")) == []
    copies = times_of(alice, 4.0)
    assert copies
    assert cookie_of(copies[0][1]) == b"a" * 16
    assert [cookie_of(frame) for frame in alice.receive(cookie(b"d"), cookie(b"e"))] == [b"d" * 16]
    assert alice.receive(replace(cookie(b"f"), source=identity(3).id)) == []
    assert alice.receive(replace(cookie(b"f"), message_id=b"another1")) == []
    # An answer to whichever cookie is good.
    assert len(alice.receive(bobs_answer(opened))) == 2


# UNKNOWN


def settled(seconds: float = 5.0) -> tuple[Side, Insider]:
    """A confirmed session, in which nothing came for a while."""
    alice = Side(1)
    bob, _ = Insider.accepted(2, alice)
    alice.receive(bob.frame(0, b"", kind=Kind.SESSION))
    alice.advance(seconds)
    return alice, bob


def test_unknown_opens_another_session_and_discards_nothing() -> None:
    """Messages wait 2 s for the new one, then leave in the old, in which everything that comes is still taken."""
    alice, bob = settled()
    assert [is_open(frame) for frame in alice.receive(unknown(bob, bob.session.agreed.accepter_index))] == [True]
    assert alice.count("session_unknown_hints") == 1
    assert alice.router.has_session(BOB)
    confirmed, frames = alice.deliver(BOB, b"waits")
    assert frames == []
    assert [frame for _, frame in times_of(alice, 1.875) if not is_open(frame)] == []
    left = [frame for _, frame in times_of(alice, 1.5) if not is_open(frame)]
    assert [bob.open(frame) for frame in left][:1] == [b"\0waits"]
    alice.receive(bob.frame(1, b"\x0c\0", kind=Kind.ACK, message_id=confirmed), bob.frame(2, b"\0hello"))
    assert alice.ended == {confirmed: "Acknowledged"}
    assert alice.delivered == [(BOB, b"hello", True)]


def test_a_sign_of_life_in_the_old_session_makes_it_good_again() -> None:
    alice, bob = settled()
    alice.receive(unknown(bob, bob.session.agreed.accepter_index))
    assert alice.send(BOB, b"waits") == []
    assert [bob.open(frame) for frame in alice.receive(bob.frame(1, b"\0alive"))] == [b"\0waits"]


def test_a_repeated_frame_is_no_sign_of_life() -> None:
    """Mallory recorded it before Bob restarted; it neither keeps UNKNOWN from being heeded nor makes it forgotten."""
    alice, bob = settled()
    old = bob.frame(1, b"\0hello")
    alice.receive(old)
    alice.advance(5.0)
    alice.receive(old)
    assert len(alice.receive(unknown(bob, bob.session.agreed.accepter_index))) == 1
    assert alice.send(BOB, b"waits") == []
    assert alice.receive(old) == []
    assert len(alice.delivered) == 1


def test_a_flood_of_unknown_costs_a_handshake_every_two_seconds() -> None:
    alice, bob = settled()
    hint = unknown(bob, bob.session.agreed.accepter_index)
    opened = set()
    for _ in range(400):
        frames = alice.receive(hint, hint) + alice.advance(0.1)
        opened |= {frame.message_id for frame in frames if is_open(frame)}
    assert len(opened) <= 20
    assert alice.count("sessions_opening") <= 21
    assert alice.size("sessions") == 1
    alice.receive(bob.frame(1, b"\0still here"))
    assert alice.delivered == [(BOB, b"still here", True)]


@pytest.mark.parametrize(("silent", "doubted"), [(0.5, False), (0.99, False), (1.0, True)])
def test_a_session_in_which_something_came_a_moment_ago_is_not_doubted(silent: float, doubted: bool) -> None:
    """Another one is opened, for what came may have been held back on its way; but no message waits for it."""
    alice, bob = settled()
    alice.receive(bob.frame(1, b"\0hello"))
    alice.advance(silent)
    [frame] = alice.receive(unknown(bob, bob.session.agreed.accepter_index))
    assert is_open(frame)
    assert (alice.count("session_hints_ignored"), alice.count("session_unknown_hints")) == (not doubted, doubted)
    assert [bob.open(frame) for frame in alice.send(BOB, b"more")] == ([] if doubted else [b"\0more"])


@pytest.mark.parametrize(("since", "heeded"), [(1.5, False), (1.99, False), (2.0, True)])
def test_nor_one_that_was_opened_a_moment_ago(since: float, heeded: bool) -> None:
    alice, bob = settled(since)
    hint = unknown(bob, bob.session.agreed.accepter_index)
    assert bool(alice.receive(hint)) is heeded
    # One that was not heeded left no doubt behind, which would keep another from being heeded.
    alice.advance(1.0)
    assert bool(alice.receive(hint)) is not heeded


def test_unknown_about_something_else_is_nothing() -> None:
    """Another index, our own index for the session, or the name of somebody who has none with us."""
    alice, bob = settled()
    index = bob.session.agreed.accepter_index
    for wrong in (
        unknown(bob, b"another1"),
        unknown(bob, bob.session.agreed.opener_index),
        replace(unknown(bob, index), source=identity(3).id),
    ):
        assert alice.receive(wrong) == []
    assert alice.count("answers_to_nothing") == 3
    assert alice.count("session_unknown_hints") == 0
    assert len(alice.send(BOB)) == 1


def test_a_peer_that_restarted_is_found_again_by_unknown() -> None:
    alice, bob = Side(1), Side(2)
    open_session(alice, bob)
    alice.advance(5.0)
    again = Side(2, incarnation=1, now=alice.now)
    [frame] = alice.send(again.id, b"lost, for it is a datagram")
    [hint] = again.receive(frame)
    [opened] = alice.receive(hint)
    assert is_open(opened)
    message, _ = alice.deliver(again.id, b"waits")
    frames = alice.receive(*again.receive(opened))
    answers = again.receive(*frames)
    assert [data for _, data, _ in again.delivered] == [b"waits"]
    alice.receive(*answers)
    assert alice.ended == {message: "Acknowledged"}


# Doubt


@pytest.mark.parametrize("answered", [False, True])
def test_three_copies_without_an_answer_open_another_session(answered: bool) -> None:
    """UNKNOWN may have got lost; but not if anything came in their session since the first of them."""
    alice, bob = settled()
    _, [first] = alice.deliver(bob.id, timeout=60.0)
    began = alice.now
    copies = times_of(alice, 2.0)
    if answered:
        alice.receive(bob.frame(1, b"\0hello"))
    copies += times_of(alice, 6.0)
    opened = [time - began for time, frame in copies if is_open(frame)]
    assert opened[:1] == ([] if answered else [7.0])
    sealed = [(time - began, frame) for time, frame in copies if not is_open(frame)]
    assert [time for time, _ in sealed][:2] == [1.0, 3.0]
    assert {frame.payload for _, frame in sealed} == {first.payload}
