"""How long messages wait for sessions, how sessions are replaced under load, and whose sessions stay."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial

import pytest

from trio_relay.exceptions import DeliveryError, PeerUnreachable, SessionTimeout
from trio_relay.overlay.session import sessions
from trio_relay.wire.frame import Kind, build_frame

from ..support import node_id
from .world import LATENCY, LIMITS, Message, Passing, Peer, World, all_arrived, load, tap, what

EITHER_WAY = pytest.mark.parametrize("swapped", [False, True])


def openings(world: World) -> int:
    return sum(peer.count("sessions_opening") for peer in world.peers)


# Waiting


def test_a_datagram_waits_for_a_session() -> None:
    world = World()
    a, b = world.peers
    world.relay = lambda passing: (LATENCY,) if passing.at > 7.0 else ()
    messages = [world.send(a, b) for _ in range(20)]
    world.advance(7.0)
    assert a.router.sizes()["session_waiting"] == 20
    assert not any(message.seen for message in messages)
    world.advance(2.0)
    assert all_arrived(messages)
    assert a.router.sizes()["session_waiting"] == a.router.sizes()["session_waiting_bytes"] == 0


def test_what_waits_too_long_is_counted_and_never_arrives() -> None:
    world = World()
    a, b = world.peers
    world.relay = lambda passing: (LATENCY,) if passing.at > 10.5 else ()
    message = world.send(a, b)
    world.advance(4.0)
    later = world.send(a, b)
    confirmed = world.deliver(a, b, 8.0)
    world.advance(6.1)
    assert a.count("session_waiting_expired") == 1
    world.advance(20.0)
    assert not message.seen
    assert a.count("session_waiting_expired") == 1
    assert all_arrived([later, confirmed])


def test_an_answer_that_comes_late_leaves_time_for_the_proof() -> None:
    world = World()
    a, b = world.peers
    world.relay = lambda passing: (0.8,) if passing.at > 7.0 else ()
    message = world.deliver(a, b)
    world.advance(15.0)
    assert all_arrived([message])
    assert (a.count("sessions_opening"), a.count("sessions_failed")) == (1, 0)


def test_what_waits_for_a_place_among_the_openings_leaves_when_one_ends() -> None:
    world = World(5, limits=replace(LIMITS, session_openings=1))
    a, b, *others = world.peers
    world.relay = lambda passing: (3.0,) if passing.receiver == b.id else (LATENCY,)
    messages = [world.send(a, peer) for peer in (b, *others)]
    messages.append(world.deliver(a, others[0]))
    world.advance(2.0)
    assert a.router.sizes()["session_openings"] == 1
    assert a.count("session_openings_full") > 0
    assert not any(message.seen for message in messages)
    world.advance(6.0)
    assert all_arrived(messages)


def test_a_confirmed_message_fails_at_its_deadline_and_one_with_more_time_arrives() -> None:
    world = World()
    a, b = world.peers
    world.relay = lambda passing: (LATENCY,) if passing.at > 15.0 else ()
    short, long = world.deliver(a, b, 12.0), world.deliver(a, b, 30.0)
    world.advance(14.0)
    assert isinstance(short.error, SessionTimeout)
    assert long.error is None
    world.advance(17.0)
    assert all_arrived([long])
    assert not short.seen


# No way at all


def fails(world: World, a: Peer, b: Peer, timeout: float = 12.0) -> DeliveryError | None:
    message = world.deliver(a, b, timeout)
    world.advance(timeout + 0.1)
    assert not message.seen
    return message.error


def test_who_never_answers() -> None:
    world = World()
    a, b = world.peers
    world.relay = lambda _: ()
    error = fails(world, a, b)
    assert isinstance(error, SessionTimeout)
    assert error.outcome == "not_delivered"


def test_whom_relays_do_not_find() -> None:
    world = World()
    a, b = world.peers

    def say_unreachable(passing: Passing) -> Iterable[float]:
        frame = passing.frame
        said = frame.to + bytes([frame.attempt])
        hint = build_frame(Kind.UNREACHABLE, frame.source, node_id(passing.relay), frame.message_id, said)
        world.after(LATENCY, partial(world.inject, hint))
        return ()

    world.relay = say_unreachable
    passed = tap(world)
    error = fails(world, a, b)
    assert isinstance(error, PeerUnreachable)
    assert error.outcome == "not_delivered"
    assert len(passed) > 6, "hints make copies of OPEN come sooner"
    assert passed[1].at < 0.5


# Renewal


@pytest.mark.parametrize(("latency", "every"), [(LATENCY, 0.5), (0.6, 0.5), (1.2, 0.3)])
def test_renewal_by_age_loses_nothing(latency: float, every: float) -> None:
    world = World(limits=replace(LIMITS, session_lifetime=20.0))
    world.relay = lambda _: (latency,)
    messages = load(world, every, 120.0)
    world.advance(10.0)
    assert all_arrived(messages)
    assert openings(world) in range(6, 9)
    assert max(message.acknowledged - message.at for message in messages if message.acknowledged) < 5.0


@pytest.mark.parametrize("latency", [LATENCY, 0.7])
def test_renewal_by_count_loses_nothing(monkeypatch: pytest.MonkeyPatch, latency: float) -> None:
    monkeypatch.setattr(sessions, "RENEW_FRAMES", 50)
    world = World()
    world.relay = lambda _: (latency,)
    messages = load(world, 0.1, 30.0)
    world.advance(10.0)
    assert all_arrived(messages)
    assert 10 < openings(world) <= 2 * 32 / 2


@EITHER_WAY
@pytest.mark.parametrize("opener_sends", [False, True])
def test_renewal_when_only_one_side_speaks(swapped: bool, opener_sends: bool) -> None:
    """The accepter too renews, after a minute more."""
    world = World(limits=replace(LIMITS, session_lifetime=20.0))
    a, b = world.peers[::-1] if swapped else world.peers
    first = world.deliver(a, b)
    world.advance(1.0)
    messages = list[Message]()
    sender, receiver = (a, b) if opener_sends else (b, a)
    for _ in range(200):
        messages.append(world.send(sender, receiver))
        world.advance(1.0)
    assert all_arrived([first, *messages])
    assert sender.count("sessions_opening") in (range(9, 12) if opener_sends else range(4, 12))
    assert receiver.count("sessions_opening") == (not opener_sends)


def test_what_was_sealed_in_the_old_session_is_taken_after_its_renewal() -> None:
    """Frames that took another path, and were late, are no strangers."""
    world = World(limits=replace(LIMITS, session_lifetime=20.0))
    a, b = world.peers
    first = world.deliver(a, b)
    world.advance(15.0)
    world.relay = lambda passing: (20.0,) if what(passing.frame) == "DATA" and passing.at < 20.0 else (LATENCY,)
    messages = [first, world.send(a, b), world.send(b, a)]
    world.advance(7.0)
    messages += load(world, 1.0, 20.0)
    world.advance(5.0)
    assert all_arrived(messages)
    assert openings(world) == 2


def test_a_renewal_that_does_not_succeed_changes_nothing() -> None:
    """For as long as the old keys may be used."""
    world = World(limits=replace(LIMITS, session_lifetime=30.0))

    def relay(passing: Passing) -> Iterable[float]:
        return () if what(passing.frame) == "ACCEPT" and 10.0 < passing.at < 100.0 else (LATENCY,)

    world.relay = relay
    messages = load(world, 1.0, 130.0)
    world.advance(5.0)
    assert all_arrived(messages)
    assert sum(peer.count("sessions_failed") for peer in world.peers) > 3


# Silence


@pytest.mark.parametrize("silence", [200.0, 239.0, 245.0, 299.0, 311.0, 900.0])
@EITHER_WAY
def test_after_a_silence_there_is_a_session_again(silence: float, swapped: bool) -> None:
    world = World()
    a, b = world.peers
    messages = [world.deliver(a, b)]
    world.advance(silence)
    known = [a.has_session(b), b.has_session(a)]
    assert known == [silence <= 300.0] * 2
    a, b = (b, a) if swapped else (a, b)
    messages += [world.send(a, b), world.deliver(a, b), world.send(b, a)]
    world.advance(10.0)
    assert all_arrived(messages)
    assert openings(world) in ((2, 3) if silence > 240.0 else (1,))


# Whose sessions stay


@pytest.mark.parametrize("sends", [False, True])
def test_an_active_pair_is_not_evicted(sends: bool) -> None:
    """A peer that only sends to us, or only hears from us; the table is full, and others want in."""
    world = World(6, limits=replace(LIMITS, sessions=2))
    a, quiet, busy, *others = world.peers
    for peer in (quiet, busy):
        world.deliver(peer, a) if sends else world.deliver(a, peer)
    world.advance(1.0)
    messages = list[Message]()
    for second in range(150):
        messages += [world.send(quiet, a) if sends else world.send(a, quiet), world.deliver(busy, a)]
        if second % 5 == 4:
            world.deliver(others[second // 5 % 3], a, 4.0)
        world.advance(1.0)
        assert a.has_session(quiet)
    world.advance(1.0)
    assert all_arrived(messages)
    assert a.count("sessions_evicted") == 0
    assert a.count("sessions_full") > 10
    assert openings(world) - sum(peer.count("sessions_opening") for peer in others) == 2


def test_who_is_silent_makes_room() -> None:
    world = World(5, limits=replace(LIMITS, sessions=2))
    a, *others = world.peers
    messages = list[Message]()
    for peer in others:
        messages.append(world.deliver(peer, a))
        world.advance(1.0)
        assert a.router.sizes()["session_peers"] <= 2
    assert [bool(message.seen) for message in messages] == [True, True, False, False]
    world.advance(90.0)
    late = world.deliver(others[2], a), world.deliver(others[3], a)
    world.advance(5.0)
    assert all_arrived(late)
    assert a.router.sizes()["session_peers"] == 2


def test_there_is_room_for_whom_we_write_to() -> None:
    """Whoever writes to us gets three quarters of it."""
    world = World(7, limits=replace(LIMITS, sessions=4))
    a, *others, wanted, too_much = world.peers
    messages = list[Message]()
    for peer in others:
        messages.append(world.deliver(peer, a, 3.0))
        world.advance(1.0)
    assert [bool(message.seen) for message in messages] == [True, True, True, False]
    own = world.deliver(a, wanted)
    world.advance(5.0)
    assert all_arrived([*messages[:3], own])
    assert [a.has_session(peer) for peer in (*others, wanted)] == [True, True, True, False, True]
    refused = world.deliver(a, too_much, 5.0)
    world.advance(6.0)
    assert isinstance(refused.error, SessionTimeout)
    assert [a.has_session(peer) for peer in (*others, wanted)] == [True, True, True, False, True]


def test_copies_over_two_paths_are_one_message() -> None:
    world = World()
    world.relay = lambda passing: (LATENCY, LATENCY + 0.01, 0.4, 3.0, 30.0, 100.0)
    passed = tap(world)
    messages = load(world, 1.0, 20.0)
    world.advance(110.0)
    assert all_arrived(messages)
    copies = [passing for passing in passed if passing.frame.kind == Kind.DATA]
    assert len(copies) == len(messages)
    assert sum(peer.count("seal_replayed") for peer in world.peers) > 100


def test_who_never_answers_does_not_keep_the_places_among_openings() -> None:
    """An application goes on writing to somebody dead, and to somebody else."""
    world = World(3, limits=replace(LIMITS, session_openings=1))
    a, dead, b = world.peers
    world.relay = lambda passing: () if passing.receiver == dead.id else (LATENCY,)
    messages = list[Message]()
    for _ in range(30):
        world.send(a, dead)
        messages.append(world.send(a, b))
        world.advance(1.0)
    assert any(message.seen for message in messages[:12])
    assert all_arrived(messages[12:])


@pytest.mark.parametrize("silence", [298.0, 301.0, 305.0, 309.0])
def test_nothing_is_sealed_in_a_session_that_the_other_side_may_have_forgotten(silence: float) -> None:
    """They look for idle sessions at different times."""
    world = World()
    a, b = world.peers
    world.advance(5.0)
    b.restart()
    messages = [world.deliver(a, b)]
    world.advance(silence + 0.5)
    messages += [world.send(a, b), world.send(b, a)]
    world.advance(10.0)
    assert all_arrived(messages)


@pytest.mark.parametrize("second", range(10))
def test_the_last_frames_of_a_replaced_session_are_taken_although_it_was_silent_before(second: int) -> None:
    """They are on the way while the new session is confirmed, whenever replaced sessions are looked for."""
    world = World()
    a, b = world.peers
    messages = [world.deliver(a, b)]
    world.advance(241.5 + second)
    world.relay = lambda passing: (1.0,) if what(passing.frame) == "DATA" else (LATENCY,)
    messages.append(world.send(a, b))
    world.advance(10.0)
    assert all_arrived(messages)
