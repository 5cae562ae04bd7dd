"""Sessions over their life, and what of a node's traffic travels in them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trio_relay.wire.content import encode_content
from trio_relay.wire.frame import Flag, Frame, Kind

from .insider import Insider
from .sides import ACCEPT, QUIET, Side, exchange, identity, is_open, is_plain, open_session

LIFETIME = 600.0


def opened(frames: list[Frame]) -> list[Frame]:
    return [frame for frame in frames if is_open(frame)]


def keep_alive(one: Side, other: Side, until: float) -> list[Frame]:
    """Both talk to each other; returns what passed."""
    passed: list[Frame] = []
    while one.now < until:
        step = min(30.0, until - one.now)
        for first, second in ((one, other), (other, one)):
            passed += exchange(one, other, first.advance(step) + first.send(second.id, b"still there"))
    return passed


# From the first message on


def test_nothing_of_a_message_is_readable_and_its_sender_is_proven() -> None:
    alice, bob = Side(1), Side(2)
    passed = open_session(alice, bob)
    message, frames = bob.deliver(alice.id, b"a secret")
    passed += exchange(alice, bob, frames)
    assert bob.ended == {message: "Acknowledged"}
    assert alice.delivered == [(bob.id, b"a secret", True)]
    assert not any(b"first" in frame.payload or b"secret" in frame.payload for frame in passed)
    assert all(frame.flags & Flag.SEALED for frame in passed if frame.kind != Kind.SESSION)


def test_data_is_on_its_way_after_one_round_trip() -> None:
    alice, bob = Side(1), Side(2)
    passed = open_session(alice, bob)
    kinds = [(frame.source == alice.id, frame.kind, bool(frame.flags & Flag.OPENING)) for frame in passed]
    assert is_open(passed[0])
    assert is_plain(passed[1], ACCEPT)
    assert kinds[2:] == [
        (True, Kind.SESSION, True),
        (True, Kind.DATA, True),
        (False, Kind.SESSION, False),
    ]


@pytest.mark.parametrize("kind", [Kind.DATA, Kind.ACK, Kind.BUSY, Kind.CONNECT, Kind.REFUSED])
@pytest.mark.parametrize("session", [False, True])
def test_plain_frames_are_dropped_and_counted(kind: Kind, session: bool) -> None:
    alice, bob = Side(1), Side(2)
    if session:
        open_session(alice, bob)
    before = list(bob.delivered)
    frame = Frame(kind=kind, to=bob.id, source=alice.id, message_id=b"message1", payload=encode_content(b"hello"))
    assert bob.receive(frame, replace(frame, flags=Flag.CONFIRM)) == []
    assert bob.count("unsealed") == 2
    assert bob.delivered == before


def test_connect_and_its_answer_travel_in_the_session() -> None:
    bob = Side(2)
    alice = Insider.opened(1, bob)
    [refusal] = bob.receive(alice.frame(1, b"", kind=Kind.CONNECT))
    assert (refusal.kind, refusal.flags) == (Kind.REFUSED, Flag.SEALED)
    assert len(alice.open(refusal)) == 1


@pytest.mark.parametrize("kind", [Kind.UNREACHABLE, Kind.FIND, Kind.FOUND, Kind.STORE, 12, 63])
def test_kinds_that_mean_nothing_in_a_session_are_dropped(kind: int) -> None:
    """After they were opened: their counter came."""
    bob = Side(2)
    alice = Insider.opened(1, bob)
    [opened_by_bob] = bob.send(identity(3).id)
    about = identity(3).id + b"\0" if kind == Kind.UNREACHABLE else identity(3).id
    frame = alice.frame(1, about, kind=kind, message_id=opened_by_bob.message_id)
    assert bob.receive(frame, frame) == []
    assert (bob.count("unknown_kind"), bob.count("seal_replayed")) == (1, 1)
    # A hint would have hurried the opening.
    assert bob.advance(0.375) == []


def test_a_message_to_oneself_needs_no_session() -> None:
    """Nor does a node open one with itself when its own OPEN comes back to it, under whatever name."""
    alice = Side(1)
    assert alice.send(alice.id) == []
    assert alice.delivered == [(alice.id, b"hello", True)]
    bob = identity(2).id
    [own] = alice.send(bob)
    assert alice.receive(own, replace(own, to=alice.id)) == []
    assert alice.count("spoofed") == 1
    # In Bob's name it is an OPEN like any other; the answer to it is none to Alice's own.
    [answer] = alice.receive(replace(own, to=alice.id, source=bob))
    assert is_plain(answer, ACCEPT)
    alice.receive(replace(answer, to=alice.id, source=bob), replace(answer, to=alice.id, source=alice.id))
    assert (alice.count("session_proof"), alice.count("spoofed"), alice.size("sessions")) == (1, 2, 0)
    assert not alice.router.has_session(alice.id)


def test_a_message_that_was_answered_busy_is_busy_for_ever_and_taken_when_it_is_sealed_anew() -> None:
    bob = Side(2, limits=replace(QUIET, mailbox_messages=1))
    alice = Insider.opened(1, bob)
    bob.router.put("from an original", alice.id, 10, bob.now)
    frame = alice.frame(1, b"\0hello", flags=Flag.CONFIRM, message_id=b"message1")
    for _ in range(2):
        [answer] = bob.receive(frame)
        assert (answer.kind, alice.open(answer)) == (Kind.BUSY, b"\0")
    bob.router.taken(138)
    assert [answer.kind for answer in bob.receive(frame)] == [Kind.BUSY]
    assert bob.delivered == []
    anew = alice.frame(2, b"\0hello", flags=Flag.CONFIRM, message_id=b"message1")
    assert [answer.kind for answer in bob.receive(anew, anew, frame)] == [Kind.ACK] * 3
    assert [data for _, data, _ in bob.delivered] == [b"hello"]


def test_who_hears_busy_seals_the_message_anew() -> None:
    alice = Side(1)
    bob, _ = Insider.accepted(2, alice)
    alice.receive(bob.frame(0, b"", kind=Kind.SESSION))
    message, [first] = alice.deliver(bob.id, b"hello")
    alice.receive(bob.frame(1, b"\0", kind=Kind.BUSY, message_id=message))
    [second] = alice.advance(0.5)
    assert second.message_id == first.message_id == message
    assert (bob.open(second), second.attempt) == (b"\0hello", 1)
    counters = [int.from_bytes(frame.payload[8:16], "big") for frame in (first, second)]
    assert counters[1] == counters[0] + 1
    # A copy that is not answered at all is the same as the one before.
    [third] = alice.advance(2.0)
    assert third.payload == second.payload


def test_a_copy_that_is_not_known_any_more_is_not_acknowledged() -> None:
    """The receiver forgets messages before sessions: what it does not know, it says nothing about."""
    bob = Side(2, limits=replace(QUIET, seen_for=5.0))
    alice = Insider.opened(1, bob)
    frame = alice.frame(1, b"\0hello", flags=Flag.CONFIRM)
    assert [answer.kind for answer in bob.receive(frame, frame)] == [Kind.ACK] * 2
    bob.advance(6.0)
    assert bob.receive(frame) == []
    assert bob.count("seal_replayed") == 1
    assert len(bob.delivered) == 1


def test_what_is_in_a_sealed_session_frame_is_ignored() -> None:
    bob = Side(2)
    alice = Insider.opened(1, bob)
    before = dict(bob.router.counts())
    for number, content in enumerate((b"", b"garbage", b"\1" + bytes(49), b"\4" + bytes(8)), 1):
        assert bob.receive(alice.frame(number, content, kind=Kind.SESSION)) == []
    assert bob.router.counts() == before


# Waiting


def test_what_waits_for_one_peer_leaves_room_for_others() -> None:
    alice = Side(1, limits=replace(QUIET, session_waiting=16))
    for _ in range(6):
        alice.send(identity(2).id)
    assert (alice.size("session_waiting"), alice.count("session_waiting_full")) == (4, 2)
    assert not alice.router.has_session_room(identity(2).id, 0)
    assert alice.router.has_session_room(identity(3).id, 0)


def test_what_waits_leaves_in_order_when_there_is_a_session() -> None:
    alice, bob = Side(1), Side(2)
    frames = [frame for number in range(20) for frame in alice.send(bob.id, b"%d" % number)]
    assert len(frames) == 1
    exchange(alice, bob, frames)
    assert [data for _, data, _ in bob.delivered] == [b"%d" % number for number in range(20)]
    assert (alice.size("session_waiting"), alice.size("session_waiting_bytes")) == (0, 0)


# Renewal


def test_the_opener_renews_after_ten_minutes_and_goes_on_meanwhile() -> None:
    alice, bob = Side(1), Side(2)
    open_session(alice, bob)
    passed = keep_alive(alice, bob, LIFETIME - 1.0)
    assert opened(passed) == []
    bob.advance(1.0)
    alice.advance(1.0)
    frames = alice.send(bob.id, b"in the old one")
    assert [is_open(frame) for frame in frames] == [True, False]
    exchange(alice, bob, frames)
    assert bob.delivered[-1] == (alice.id, b"in the old one", True)
    assert alice.size("sessions") == bob.size("sessions") == 2
    # The old one is forgotten a minute after something came in it last.
    passed = keep_alive(alice, bob, LIFETIME + 90.0)
    assert opened(passed) == []
    assert alice.size("sessions") == bob.size("sessions") == 1


def test_the_accepter_renews_a_minute_later() -> None:
    alice, bob = Side(1), Side(2)
    open_session(alice, bob)
    for now in range(30, 660, 30):
        bob.advance(30.0)
        assert opened(bob.send(alice.id)) == [], now
    bob.advance(30.0)
    assert len(opened(bob.send(alice.id))) == 1


def test_who_talks_again_after_four_minutes_opens_another_session() -> None:
    alice, bob = Side(1), Side(2)
    open_session(alice, bob)
    alice.advance(239.0)
    assert opened(alice.send(bob.id)) == []
    alice.advance(240.0)
    frames = alice.send(bob.id)
    assert len(opened(frames)) == 1
    assert len(frames) == 2


def test_a_session_that_nobody_uses_is_forgotten_after_five_minutes() -> None:
    alice, bob = Side(1), Side(2)
    open_session(alice, bob)
    for side in (alice, bob):
        side.advance(299.0)
        assert side.size("sessions") == 1
        side.advance(11.0)
        assert side.size("sessions") == side.size("session_peers") == 0
        assert side.count("sessions_ended") == 1


def test_keys_are_forgotten_after_twelve_minutes_even_if_nothing_replaces_them() -> None:
    """Bob has gone; Alice goes on sealing for him, and trying to open another session."""
    alice, bob = Side(1), Side(2)
    open_session(alice, bob)
    while alice.now < LIFETIME + 119.0:
        alice.advance(1.0)
        alice.send(bob.id)
    assert alice.router.has_session(bob.id)
    alice.advance(11.0)
    assert not alice.router.has_session(bob.id)


def test_many_frames_renew_a_session_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a smaller number than 2^21, which test_sealing.py looks at; two frames were sealed while it was opened."""
    monkeypatch.setattr("trio_relay.overlay.session.sessions.RENEW_FRAMES", 10)
    alice, bob = Side(1), Side(2)
    open_session(alice, bob)
    alice.advance(5.0)
    frames = [frame for _ in range(8) for frame in alice.send(bob.id)]
    assert opened(frames) == []
    assert [is_open(frame) for _ in range(3) for frame in alice.send(bob.id)] == [True, False, False, False]


def test_no_more_frames_than_the_limit_are_sealed_whatever_becomes_of_the_next_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a smaller number than 2^22. The rest waits, and leaves in the next session."""
    for module in ("relations", "openings", "session"):
        monkeypatch.setattr(f"trio_relay.overlay.session.{module}.MOST_FRAMES", 10)
    alice, bob = Side(1), Side(2)
    open_session(alice, bob)
    alice.advance(5.0)
    left = [frame for number in range(12) for frame in alice.send(bob.id, b"%d" % number)]
    assert len([frame for frame in left if frame.flags & Flag.SEALED]) == 8
    assert [frame.payload[8:16] for frame in left if frame.flags & Flag.SEALED][-1] == (9).to_bytes(8, "big")
    assert len(opened(left)) == 1
    assert alice.size("session_waiting") == 4
    assert alice.send(bob.id, b"12") == []
    exchange(alice, bob, left)
    assert [data for _, data, _ in bob.delivered[1:]] == [b"%d" % number for number in range(13)]


# Both at once


@pytest.mark.parametrize("numbers", [(1, 2), (2, 1)])
def test_of_two_sessions_opened_at_once_both_choose_the_same(numbers: tuple[int, int]) -> None:
    one, other = (Side(number) for number in numbers)
    crossing = one.send(other.id, b"first") + other.send(one.id, b"first")
    assert len(opened(crossing)) == 2
    exchange(one, other, crossing)
    assert one.size("sessions") == other.size("sessions") == 2
    smaller = min(one.id, other.id)
    index = next(frame.message_id for frame in opened(crossing) if frame.source == smaller)
    for sender, receiver in ((one, other), (other, one)):
        [frame] = sender.send(receiver.id, b"second")
        receiver.receive(frame)
        assert receiver.delivered[-1] == (sender.id, b"second", True)
        # The opener's index of the chosen one stands in what is sealed for the smaller id.
        assert (frame.payload[:8] == index) is (receiver.id == smaller)


# Room


def test_a_peer_that_we_write_to_is_not_displaced_by_others_that_open() -> None:
    """Ten others, with keys of their own, open one after the other, and stay active; there is room for three."""
    alice, bob = Side(1, limits=replace(QUIET, sessions=3)), Side(2)
    open_session(alice, bob)
    for number in range(10, 20):
        Insider.half_open(number, alice, index=b"%8d" % number)
        insider = Insider.half_open(number, alice, index=b"again%3d" % number, ephemeral=bytes([number]) * 32)
        alice.receive(insider.frame(0, b"\0hello", box=insider.box))
        exchange(alice, bob, alice.send(bob.id, b"%d" % number))
    assert [data for _, data, _ in bob.delivered[1:]] == [b"%d" % number for number in range(10, 20)]
    assert alice.size("session_peers") == 3
    assert alice.count("sessions_full") == 8
    assert alice.count("sessions_opening") == 1


def test_a_quarter_of_the_room_is_for_whom_we_write_to_and_nobody_active_makes_room() -> None:
    alice = Side(1, limits=replace(QUIET, sessions=4))
    strangers = [Insider.opened(number, alice) for number in (11, 12, 13)]
    late = Insider.half_open(14, alice)
    alice.receive(late.frame(0, b"", kind=Kind.SESSION, box=late.box))
    assert (alice.count("sessions_full"), alice.size("session_peers")) == (1, 3)
    bob = Side(2)
    open_session(alice, bob)
    # Everybody is active: the next one that we write to finds no room either.
    assert alice.send(identity(5).id) == []
    assert alice.count("sessions_full") == 2
    assert all(alice.router.has_session(peer) for peer in (*[stranger.id for stranger in strangers], bob.id))
    # Once the strangers were silent for a minute, they make room.
    bob.advance(59.0)
    alice.advance(59.0)
    exchange(alice, bob, alice.send(bob.id))
    alice.advance(1.0)
    assert len(opened(alice.send(identity(5).id))) == 1
    assert [alice.router.has_session(peer.id) for peer in strangers].count(False) == 1
    assert alice.router.has_session(bob.id)
