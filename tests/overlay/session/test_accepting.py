"""A node that is opened with: what it spends, what it keeps, and when the opener's proof makes a session."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest

from trio_relay.wire.frame import Flag, Frame, Kind
from trio_relay.wire.session import NO_COOKIE

from .insider import BOTH, Insider, plain
from .primitives import CHACHA, public_ephemeral
from .reference import Open, Opener
from .sides import ACCEPT, COOKIE, QUIET, UNKNOWN, Side, identity, is_plain
from .vectors import small_order

numbers = count(1000)


def opened(to: Side, source: int = 1, index: bytes = b"", *, cookie: bytes = NO_COOKIE, ephemeral: int = 5) -> Frame:
    """An OPEN that reads well; its index is a new one."""
    message = Open(BOTH, public_ephemeral(ephemeral.to_bytes(32, "big")), cookie)
    return plain(identity(source).id, to.id, index or next(numbers).to_bytes(8, "big"), message.build())


def with_cookie(frame: Frame, cookie: Frame) -> Frame:
    return replace(frame, payload=frame.payload[:34] + cookie.payload[1:] + frame.payload[50:])


def first_frame(insider: Insider, counter: int = 0, *, box: bytes = b"") -> bytes:
    return insider.frame(counter, b"\0hello", box=box or insider.box)


# OPEN


def test_one_signature_for_one_open() -> None:
    bob = Side(700)
    for number in range(1, 11):
        [answer] = bob.receive(opened(bob, number))
        assert is_plain(answer, ACCEPT)
        assert bob.signatures == bob.size("session_half_open") == number
    assert bob.size("sessions") == 0


def test_the_same_open_gets_the_same_answer() -> None:
    """Not more often than four times a second, and whatever its cookie says; it costs no signature."""
    bob = Side(700)
    frame = opened(bob, index=b"message1")
    [answer] = bob.receive(frame)
    assert answer.message_id == b"message1"
    assert bob.receive(frame) == []
    bob.advance(0.25)
    assert bob.receive(opened(bob, index=b"message1", cookie=b"\1" * 16)) == [answer]
    assert bob.receive(frame) == []
    assert bob.signatures == bob.size("session_half_open") == 1


@pytest.mark.parametrize("what", ["ephemeral", "ciphers", "from"])
def test_another_open_with_the_same_message_id_is_another_opening(what: str) -> None:
    bob = Side(700)
    frame = opened(bob, index=b"message1")
    [first] = bob.receive(frame)
    changed = {
        "ephemeral": opened(bob, index=b"message1", ephemeral=6),
        "ciphers": replace(frame, payload=frame.payload[:1] + bytes([CHACHA]) + frame.payload[2:]),
        "from": replace(frame, source=identity(7).id),
    }
    [second] = bob.receive(changed[what])
    assert is_plain(second, ACCEPT)
    assert second.payload[2:42] != first.payload[2:42]
    assert bob.signatures == bob.size("session_half_open") == 2


def test_every_answer_has_an_index_and_a_key_of_its_own() -> None:
    bob = Side(700)
    answers = [bob.receive(opened(bob, number))[0].payload for number in range(1, 30)]
    assert len({answer[2:10] for answer in answers}) == len({answer[10:42] for answer in answers}) == 29


def test_what_is_no_open_costs_nothing() -> None:
    bob = Side(700)
    frame = opened(bob)
    without_chacha = frame.payload[:1] + b"\1" + frame.payload[2:]
    for payload in (b"", frame.payload[:-1], frame.payload + b"\0", b"\5" + frame.payload[1:], without_chacha):
        assert bob.receive(replace(frame, payload=payload)) == []
    zeros = [frame.payload[:2] + key + frame.payload[34:] for _, key in small_order()]
    for payload in zeros:
        assert bob.receive(replace(frame, payload=payload)) == []
    assert bob.count("bad_session") == 5 + len(zeros)
    assert bob.signatures == bob.size("session_half_open") == 0


def test_who_is_not_admitted_gets_no_answer() -> None:
    friend = identity(1).id
    bob = Side(700, admits=lambda node_id: node_id == friend)
    assert bob.receive(opened(bob, 5)) == []
    assert (bob.signatures, bob.count("not_admitted")) == (0, 1)
    assert len(bob.receive(opened(bob, 1))) == 1


def test_an_open_in_our_own_name_is_dropped() -> None:
    bob = Side(700)
    assert bob.receive(opened(bob, 700)) == []
    assert (bob.signatures, bob.count("spoofed")) == (0, 1)


# Budgets


def test_above_the_budget_of_a_link_a_cookie_is_asked_for() -> None:
    """Nothing is kept of who does not show it, and nothing signed."""
    bob = Side(700)
    answers = [bob.receive(opened(bob, number))[0] for number in range(1, 61)]
    assert [is_plain(answer, ACCEPT) for answer in answers] == [True] * 50 + [False] * 10
    assert all(is_plain(answer, COOKIE) for answer in answers[50:])
    assert bob.signatures == bob.size("session_half_open") == 50
    assert bob.count("session_rate") == 10
    # Another link has a budget of its own.
    bob.link(901)
    assert is_plain(bob.receive(opened(bob, 70), relay=901)[0], ACCEPT)
    bob.advance(1.0)
    answers = [bob.receive(opened(bob, number))[0] for number in range(100, 130)]
    assert sum(is_plain(answer, ACCEPT) for answer in answers) == 20


def test_who_shows_the_cookie_is_answered() -> None:
    bob = Side(700)
    for number in range(1, 51):
        bob.receive(opened(bob, number))
    frame = opened(bob, 77)
    [cookie] = bob.receive(frame)
    assert cookie.message_id == frame.message_id
    assert bob.receive(replace(frame, source=identity(78).id))[0].payload != cookie.payload
    [answer] = bob.receive(with_cookie(frame, cookie))
    assert is_plain(answer, ACCEPT)
    assert bob.signatures == 51
    # The cookie of one is of no use to another, nor for another OPEN of the same.
    for other in (
        replace(frame, source=identity(78).id),
        opened(bob, 77),
        opened(bob, 77, frame.message_id, ephemeral=9),
    ):
        [refusal] = bob.receive(with_cookie(other, cookie))
        assert is_plain(refusal, COOKIE)
    assert bob.signatures == 51


def test_one_name_gets_eight_answers_at_once_and_four_a_second() -> None:
    """Then a cookie is asked for, not more often; who speaks in other names over the link is answered meanwhile."""
    bob = Side(700)
    answers = [answer for _ in range(100) for answer in bob.receive(opened(bob, 5))]
    assert [is_plain(answer, ACCEPT) for answer in answers] == [True] * 8 + [False] * 8
    assert all(is_plain(answer, COOKIE) for answer in answers[8:])
    assert bob.signatures == 8
    assert is_plain(bob.receive(opened(bob, 6))[0], ACCEPT)
    bob.advance(1.0)
    answers = [answer for _ in range(100) for answer in bob.receive(opened(bob, 5))]
    assert [is_plain(answer, ACCEPT) for answer in answers] == [True] * 4 + [False] * 4


def test_with_cookies_a_flood_in_one_name_still_costs_two_signatures_a_second() -> None:
    bob = Side(700)

    def ask() -> bool:
        frame = opened(bob, 77)
        cookies = bob.receive(frame)
        return any(is_plain(answer, ACCEPT) for cookie in cookies for answer in bob.receive(with_cookie(frame, cookie)))

    for expected in (4, 2, 2):
        for number in range(100, 150):  # Nobody is heard any more without a cookie.
            bob.receive(opened(bob, number))
        before = bob.signatures
        assert sum(ask() for _ in range(20)) == bob.signatures - before == expected
        bob.advance(1.0)


def garbage(bob: Side, source: int) -> Frame:
    """A sealed frame of a session that is not known."""
    return Frame(
        kind=Kind.DATA,
        to=bob.id,
        source=identity(source).id,
        message_id=b"message1",
        payload=bytes(64),
        flags=Flag.SEALED,
    )


def test_cookies_and_unknowns_are_bounded_in_rate() -> None:
    """8 at once and 4 a second for one name on a link, 400 and 200 for the link, of both together; the rest is dropped
    in silence."""
    bob = Side(700)
    for number in range(1, 51):
        bob.receive(opened(bob, number))
    frame = garbage(bob, 701)
    answers = [answer for _ in range(20) for answer in (*bob.receive(opened(bob, 701)), *bob.receive(frame))]
    assert [is_plain(answer, UNKNOWN) for answer in answers] == [False, True] * 4
    others = [garbage(bob, 1000 + number) for number in range(450)]
    assert len(bob.receive(*others)) == 392
    bob.advance(1.0)
    assert len(bob.receive(*[frame] * 20)) == 4
    assert len(bob.receive(*others)) == 196
    assert bob.count("session_unknown") == 20 + 450 + 20 + 450
    # Another link has a rate of its own; with two of them UNKNOWN leaves twice.
    bob.link(901)
    assert len(bob.receive(*[frame] * 20, relay=901)) == 2 * 8


def test_unknown_says_what_was_not_known() -> None:
    bob = Side(700)
    frame = Frame(
        kind=Kind.DATA,
        to=bob.id,
        source=identity(5).id,
        message_id=b"message1",
        payload=b"an index" + bytes(30),
        flags=Flag.SEALED,
    )
    [answer] = bob.receive(frame)
    assert (answer.to, answer.message_id, answer.payload) == (frame.source, b"message1", b"\4an index")
    for length in (0, 8, 31):
        assert bob.receive(replace(frame, payload=bytes(length))) == []
    assert bob.count("seal_broken") == 3


# Half-open sessions


def test_half_open_sessions_are_bounded_and_a_flood_leaves_those_of_other_links() -> None:
    bob = Side(700, limits=replace(QUIET, half_open=10))
    bob.link(901)
    honest = Insider.half_open(1, bob)
    for number in range(40):
        bob.receive(opened(bob, 100 + number), relay=901)
    assert bob.size("session_half_open") == 10
    assert bob.count("half_open_full") == 31
    bob.receive(first_frame(honest))
    assert [sender for sender, _, _ in bob.delivered] == [honest.id]


def test_half_open_sessions_are_forgotten_after_ten_seconds() -> None:
    bob = Side(700)
    insider = Insider.half_open(1, bob)
    bob.advance(9.9)
    assert bob.size("session_half_open") == 1
    bob.advance(0.1)
    assert (bob.size("session_half_open"), bob.count("half_open_expired")) == (0, 1)
    [answer] = bob.receive(first_frame(insider))
    assert is_plain(answer, UNKNOWN)
    assert bob.delivered == []


def test_the_first_frame_brings_the_proof_and_data() -> None:
    """It is answered with an empty frame, and so are copies of it, and others with the proof, four times a second."""
    bob = Side(700)
    insider = Insider.half_open(1, bob)
    assert not bob.router.has_session(insider.id)
    [confirmation] = bob.receive(first_frame(insider))
    assert bob.delivered == [(insider.id, b"hello", True)]
    assert (bob.size("session_half_open"), bob.size("sessions"), bob.count("sessions_accepted")) == (0, 1, 1)
    assert confirmation.kind == Kind.SESSION
    assert confirmation.flags == Flag.SEALED
    assert insider.open(confirmation) == b""
    assert bob.receive(first_frame(insider, 1), first_frame(insider, 2)) == []
    bob.advance(0.25)
    assert len(bob.receive(first_frame(insider, 3), first_frame(insider, 4))) == 1
    assert len(bob.delivered) == 5
    assert bob.receive(insider.frame(5, b"\0without")) == []
    assert len(bob.delivered) == 6


def test_nothing_is_taken_in_a_half_open_session_without_a_proof() -> None:
    """Not even what is sealed with the right keys."""
    bob = Side(700)
    insider = Insider.half_open(1, bob)
    [answer] = bob.receive(insider.frame(0, b"\0hello"))
    assert is_plain(answer, UNKNOWN)
    assert (bob.delivered, bob.size("sessions"), bob.size("session_half_open")) == ([], 0, 1)


def test_a_proof_whose_flag_was_taken_away_is_none() -> None:
    bob = Side(700)
    insider = Insider.half_open(1, bob)
    frame = first_frame(insider)
    [answer] = bob.receive(frame[:5] + bytes([frame[5] & ~Flag.OPENING]) + frame[6:])
    assert is_plain(answer, UNKNOWN)
    assert (bob.delivered, bob.size("sessions"), bob.size("session_half_open")) == ([], 0, 1)


def test_a_box_that_does_not_open_changes_nothing() -> None:
    bob = Side(700)
    insider = Insider.half_open(1, bob)
    for box in (bytes(112), insider.session.accepter_box, insider.box[:-1] + b"\0"):
        bob.receive(first_frame(insider, box=box))
    assert (bob.count("session_proof"), bob.size("session_half_open"), bob.delivered) == (3, 1, [])
    bob.receive(first_frame(insider))
    assert len(bob.delivered) == 1


def test_a_wrong_proof_ends_the_half_open_session() -> None:
    """It opened, so it is from who sent OPEN; one signature check is all that he gets."""
    bob = Side(700)
    insider = Insider.half_open(1, bob)
    wrong = insider.session.opener_box(b"\5" * 32)
    bob.receive(first_frame(insider, box=wrong))
    assert (bob.count("session_proof"), bob.size("session_half_open"), bob.size("sessions")) == (1, 0, 0)
    bob.receive(first_frame(insider))
    assert bob.delivered == []


def test_an_open_that_comes_after_its_session_is_not_answered() -> None:
    bob = Side(700)
    opener = Opener((1).to_bytes(32, "big"), bob.id, b"insider.", b"\7" * 32, BOTH)
    insider = Insider.opened(1, bob)
    bob.advance(1.0)
    assert bob.receive(plain(insider.id, bob.id, insider.index, opener.open().build())) == []
    assert (bob.count("session_late"), bob.signatures) == (1, 1)


def test_a_full_table_makes_no_session_and_displaces_nobody_active() -> None:
    bob = Side(700, limits=replace(QUIET, sessions=2))
    first = [Insider.opened(number, bob) for number in (11, 12)]
    late = Insider.half_open(13, bob)
    bob.receive(first_frame(late))
    assert (bob.count("sessions_full"), bob.size("session_peers")) == (1, 2)
    assert bob.delivered == []
    for insider in first:
        bob.receive(insider.frame(1, b"\0hello"))
    assert [sender for sender, _, _ in bob.delivered] == [insider.id for insider in first]
