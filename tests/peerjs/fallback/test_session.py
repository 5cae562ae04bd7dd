"""One session: what its messages look like, what it bounds, what it refuses."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_relay.exceptions import RemoteProtocolError
from trio_relay.peerjs.fallback.frames import (
    MAX_FRAGMENT,
    Ack,
    Flag,
    Fragment,
    Frame,
    Hello,
    Reset,
    encode_frame,
    parse_frames_untrusted,
)
from trio_relay.peerjs.fallback.rules import SessionRules
from trio_relay.peerjs.fallback.session import CARRIER_MESSAGE, ResumableSession

RULES: Final = SessionRules()
FRAGMENT: Final = Fragment(0, 0, b"ab")
SIZE: Final = 64 * 1024


def encoded(*frames: Frame) -> bytes:
    return b"".join(map(encode_frame, frames))


def make(rules: SessionRules | None = None) -> tuple[ResumableSession, ResumableSession]:
    """Two that have greeted each other."""
    sessions = ResumableSession(rules), ResumableSession(rules)
    for session in sessions:
        session.attach(0)
    exchange(*sessions)
    return sessions


def exchange(one: ResumableSession, other: ResumableSession, size: int = SIZE) -> int:
    """Until nothing is due; how many messages that took."""
    count = 0
    while True:
        messages = [(other, one.produce(size)), (one, other.produce(size))]
        if not any(message for _, message in messages):
            return count
        for session, message in messages:
            assert len(message) <= size
            session.feed(message)
            count += bool(message)


def test_the_layout_of_frames() -> None:
    assert encoded(Hello(1, 2, 3)).hex() == "0001" + "00000001" + "0000000000000002" + "0000000000000003"
    assert encoded(Fragment(Flag.TEXT, 5, b"ab")).hex() == "0102" + "0000000000000005" + "0002" + "6162"
    assert encoded(Ack(2, 3)).hex() == "02" + "0000000000000002" + "0000000000000003"
    assert encoded(Reset()).hex() == "03"
    frames: list[Frame] = [
        Hello(1, 2, 3),
        Fragment(Flag.MORE, 0, b""),
        Ack(2**64 - 1, 3),
        Reset(),
        Fragment(Flag.END, 7, b""),
    ]
    assert parse_frames_untrusted(encoded(*frames)) == frames
    assert parse_frames_untrusted(b"") == []


def test_messages_of_every_size_arrive_as_they_were() -> None:
    one, other = make()
    messages: list[bytes | str] = [
        b"",
        "",
        "text é",
        b"\0" * MAX_FRAGMENT,
        "x" * (MAX_FRAGMENT + 1),
        bytes(RULES.max_message),
    ]
    for message in messages:
        one.send(message)
        exchange(one, other)
        assert other.take() == [message]
    assert one.unsent == other.held == 0


def test_short_messages_share_a_message_of_the_carrier() -> None:
    one, other = make()
    for number in range(100):
        one.send(f"{number}")
    assert exchange(one, other) == 1
    assert other.take() == [f"{number}" for number in range(100)]


def test_a_receiver_that_does_not_take_stops_the_sender() -> None:
    one, other = make()
    sent = 0
    for _ in range(10_000):
        if not one.has_room:
            break
        one.send(bytes(10_000))
        sent += 1
        exchange(one, other)
    assert RULES.window - RULES.step < other.held <= RULES.window
    assert RULES.send_buffer <= one.kept < RULES.send_buffer + 11_000
    assert sent * 10_064 < RULES.window + RULES.send_buffer + 11_000
    taken = len(other.take())
    exchange(one, other)
    assert one.has_room
    assert taken + len(other.take()) == sent


def test_the_largest_message_fits_whatever_was_acknowledged_before() -> None:
    one, other = make()
    one.send(bytes(RULES.step - 65))  # taken, and just not enough for an acknowledgement
    exchange(one, other)
    other.take()
    exchange(one, other)
    one.send(bytes(RULES.max_message))
    exchange(one, other)
    assert [len(message) for message in other.take()] == [RULES.max_message]


def test_a_message_that_is_too_large_is_refused_here() -> None:
    one, _ = make()
    with pytest.raises(ValueError, match=r"at most 1048576 bytes, not 1048577"):
        one.send(bytes(RULES.max_message + 1))
    with pytest.raises(ValueError, match=r"surrogates not allowed"):
        one.send("\ud800")
    assert not one.owes


def test_what_was_lost_with_a_carrier_is_sent_again_over_the_next() -> None:
    one, other = make()
    for number in range(5):
        one.send(b"%d" % number)
    other.feed(one.produce(CARRIER_MESSAGE))
    one.send(b"lost" * 10_000)
    assert one.produce(SIZE)
    assert one.unsent == 0
    one.attach(1)
    other.attach(1)
    assert not one.resumed
    one.feed(other.produce(SIZE))
    assert one.unsent == 40_000
    exchange(one, other)
    assert one.unsent == 0
    assert other.take() == [b"0", b"1", b"2", b"3", b"4", b"lost" * 10_000]


def test_the_end_comes_after_all_messages_and_is_acknowledged() -> None:
    one, other = make()
    one.send(b"last")
    one.finish()
    one.finish()
    assert not one.has_room
    other.feed(one.produce(SIZE))
    assert (other.ended, other.owes_answer, one.finished) == (True, True, False)
    assert other.take() == [b"last"]
    exchange(one, other)
    assert (other.owes_answer, one.finished, other.finished) == (False, True, False)


def test_the_end_needs_no_credit() -> None:
    one, other = make()
    while one.has_room and not one.unsent:
        one.send(bytes(100_000))
        exchange(one, other)
    before = one.kept
    other.take()
    exchange(one, other)
    assert one.kept < before
    full, stuck = make()
    while full.has_room:
        full.send(bytes(1000))
        exchange(full, stuck)
    full.finish()
    exchange(full, stuck)
    assert not stuck.ended  # what waits comes first
    stuck.take()
    exchange(full, stuck)
    assert stuck.ended


def test_giving_up_is_told() -> None:
    one, other = make()
    one.give_up()
    assert one.owes_answer
    other.feed(one.produce(SIZE))
    assert other.reset
    assert not one.owes_answer


def test_a_sign_of_life_is_an_acknowledgement() -> None:
    one, _ = make()
    assert not one.owes
    one.ack_soon()
    assert parse_frames_untrusted(one.produce(SIZE)) == [Ack(0, RULES.window)]
    assert not one.owes


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"\x04", "a frame of type 0 to 3, got 4"),
        (b"\x02\x00", "whole frames"),
        (encoded(FRAGMENT)[:-1], "2 bytes of a fragment, got 1"),
        (b"\x00\x02" + bytes(20), "version 1"),
        (b"\x01\x05" + bytes(10), "flags of a fragment"),
        (b"\x01\x04" + bytes(8) + b"\0\1x", "none in an end, got 1"),
        (encode_frame(Fragment(0, 0, bytes(MAX_FRAGMENT + 1))), "at most 16384 bytes in a fragment"),
        (encoded(Hello(0, 0, 10**9)), "no second HELLO"),
        (encoded(Fragment(0, 1, b"")), "fragment 0, got fragment 1"),
        (encoded(FRAGMENT, FRAGMENT), "fragment 1, got fragment 0"),
        (encoded(Ack(1, RULES.window)), "an acknowledgement of 0 to 0, got 1"),
        (encoded(Ack(0, RULES.window - 1)), "a limit of at least"),
        (encoded(Fragment(Flag.MORE, 0, b"x")), "fragments of at least 1024 bytes, got 1"),
        (encoded(Fragment(Flag.MORE, 0, bytes(1024)), Fragment(Flag.TEXT, 1, b"")), "one kind of data"),
        (encoded(Fragment(Flag.MORE, 0, bytes(1024)), Fragment(Flag.END, 1, b"")), "the rest of a message"),
        (encoded(Fragment(Flag.END, 0, b""), Fragment(0, 1, b"")), "nothing after the end"),
        (encoded(Fragment(Flag.TEXT, 0, b"\xff")), "UTF-8"),
        (encoded(*(Fragment(Flag.MORE, n, bytes(MAX_FRAGMENT)) for n in range(65))), "messages of at most 1048576"),
        (
            encoded(*(Fragment(0, n, bytes(MAX_FRAGMENT)) for n in range(RULES.window // MAX_FRAGMENT + 1))),
            "no more than was granted",
        ),
    ],
)
def test_hostile_frames_are_refused(message: bytes, reason: str) -> None:
    session, _ = make()
    with pytest.raises(RemoteProtocolError, match=reason):
        session.feed(message)


def test_a_carrier_begins_with_a_hello_of_its_round() -> None:
    session = ResumableSession()
    session.attach(3)
    with pytest.raises(RemoteProtocolError, match="a HELLO first"):
        session.feed(encoded(FRAGMENT))
    with pytest.raises(RemoteProtocolError, match="a HELLO of round 3, got 2"):
        session.feed(encoded(Hello(2, 0, 0)))


def test_a_hello_can_not_take_back_what_was_acknowledged() -> None:
    one, other = make()
    one.send(bytes(RULES.step))
    exchange(one, other)
    one.attach(1)
    with pytest.raises(RemoteProtocolError, match="an acknowledgement of"):
        one.feed(encoded(Hello(1, 0, 10**9)))


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.builds(Fragment, st.integers(0, 7), st.integers(0, 3), st.binary(max_size=9)).map(encode_frame),
            st.builds(Ack, st.integers(0, 4), st.integers(0, 2**64 - 1)).map(encode_frame),
        ),
        max_size=6,
    )
)
@settings(max_examples=50)
def test_no_bytes_raise_anything_else(pieces: list[bytes]) -> None:
    session, _ = make()
    session.send(b"something")
    try:
        session.feed(b"".join(pieces))
        session.produce(SIZE)
    except RemoteProtocolError:
        pass
    assert session.held <= RULES.window


@pytest.mark.parametrize(
    "options", [{"window": 1024 * 1024}, {"fragment": 0}, {"fragment": MAX_FRAGMENT + 1}, {"send_buffer": 10}]
)
def test_bounds_that_make_no_sense_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        SessionRules(**options)
