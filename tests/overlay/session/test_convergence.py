"""Two endpoints come to one session, and keep it or find another one, whatever is lost, late, made up or forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest

from trio_relay.wire.frame import Flag, Frame, Kind

from .world import LATENCY, LIMITS, Message, Passing, Peer, World, all_arrived, load, tap, unknown, what

EITHER_WAY = pytest.mark.parametrize("swapped", [False, True])


def pair(swapped: bool, world: World | None = None) -> tuple[World, Peer, Peer]:
    """Two endpoints; of which one has the smaller id matters when both open."""
    world = world or World()
    a, b = world.peers[::-1] if swapped else world.peers
    return world, a, b


def agree(world: World) -> bool:
    """Whether both use one session, so that all others are forgotten a while later."""
    load(world, 5.0, 85.0)
    return [peer.router.sizes()["sessions"] for peer in world.peers] == [1, 1]


# The first message


@EITHER_WAY
@pytest.mark.parametrize("confirmed", [False, True])
def test_the_first_message_leaves_when_the_answer_comes(confirmed: bool, swapped: bool) -> None:
    world, a, b = pair(swapped)
    passed = tap(world)
    message = world.deliver(a, b) if confirmed else world.send(a, b)
    world.advance(5.0)
    said = [(round(passing.at / LATENCY), what(passing.frame)) for passing in passed if passing.sender == a.number]
    assert said == [(0, "OPEN"), (2, "SESSION+"), (2, "DATA+")]
    assert [at for at, *_ in message.seen] == [pytest.approx(3 * LATENCY)]
    more = world.deliver(a, b), world.send(b, a)
    world.advance(5.0)
    assert all_arrived([message, *more])
    assert [what(passing.frame) for passing in passed[-3:]] == ["DATA", "DATA", "ACK"], "no proof any more"
    assert a.signatures == b.signatures == 1


@pytest.mark.parametrize("apart", [0.0, 0.01, 0.03, 0.05, 0.3])
@EITHER_WAY
def test_both_open_at_once(swapped: bool, apart: float) -> None:
    """There are two sessions, and both choose the same."""
    world, a, b = pair(swapped)
    messages = [world.deliver(a, b), world.send(a, b)]
    world.advance(apart)
    messages += [world.deliver(b, a), world.send(b, a)]
    world.advance(5.0)
    assert all_arrived(messages)
    assert [peer.router.sizes()["sessions"] for peer in world.peers] == ([1, 1] if apart > 0.06 else [2, 2])
    passed = tap(world)
    world.deliver(a, b)
    world.advance(1.0)
    assert [what(passing.frame) for passing in passed] == ["DATA", "ACK"]
    assert agree(world)
    assert a.count("sessions_opening") + b.count("sessions_opening") == (1 if apart > 0.06 else 2)


# Each packet in turn

LOST: tuple[float, ...] = ()
FATES = {
    "lost": LOST,
    "twice": (LATENCY, LATENCY),
    "again": (LATENCY, 0.7, 5.0, 15.0),
    "late": (0.3,),
    "later": (0.8,),
    "much later": (4.0,),
    "when all is over": (25.0,),
    "after a changed copy": (LATENCY,),
}


@pytest.mark.parametrize("fate", FATES)
@pytest.mark.parametrize("number", range(9))
@pytest.mark.parametrize("both", [False, True])
def test_one_packet_of_the_handshake(number: int, fate: str, both: bool) -> None:
    world = World()
    a, b = world.peers
    passed, victims = tap(world), list[Frame]()

    def relay(passing: Passing) -> Iterable[float]:
        passed.append(passing)
        if len(passed) - 1 != number:
            return (LATENCY,)
        frame = passing.frame
        victims.append(frame)
        if fate == "after a changed copy":
            changed = bytearray(frame.payload)
            changed[72 if frame.flags & Flag.OPENING else -1] ^= 1  # in the proof, if there is one
            world.after(LATENCY / 2, partial(world.inject, replace(frame, payload=bytes(changed)).to_bytes()))
        return FATES[fate]

    world.relay = relay
    messages = [world.deliver(a, b), world.send(a, b)]
    if both:
        messages += [world.deliver(b, a), world.send(b, a)]
    world.advance(3.5)
    confirmed = [message for message in messages if message.confirmed]
    assert all(message.acknowledged for message in confirmed)
    messages += [world.deliver(b, a), world.deliver(a, b), world.send(b, a), world.send(a, b)]
    world.advance(30.0)
    [victim] = victims
    is_lost = fate == "lost" and victim.kind == Kind.DATA and not victim.flags & Flag.CONFIRM
    assert sum(not message.seen for message in messages) == is_lost
    assert all_arrived(message for message in messages if message.seen)
    assert agree(world)
    openings = a.count("sessions_opening") + b.count("sessions_opening")
    assert a.signatures + b.signatures == 2 * openings, "no copy of OPEN costs a second signature"
    assert a.count("session_unknown") + b.count("session_unknown") <= (victim.flags & Flag.SEALED > 0)


# Restarts


RESTARTS: dict[str, Callable[[Peer, Peer, int], tuple[Peer, ...]]] = {
    "opener": lambda a, _, __: (a,),
    "accepter": lambda _, b, __: (b,),
    "both": lambda a, b, _: (a, b),
    "alternately": lambda a, b, number: ((a, b)[number % 2],),
    "nobody": lambda *_: (),
}


@pytest.mark.parametrize("who", RESTARTS)
@pytest.mark.parametrize("after", [0.0, 0.03, 0.5])
def test_restarts_under_load(who: str, after: float) -> None:
    """Four minutes; all but what its sender forgot arrives, and is acknowledged."""
    world = World(seed=len(who))
    a, b = world.peers
    messages, rounds = list[Message](), 16
    for number in range(rounds):
        messages += load(world, 1.0, 14.0, datagrams=False)
        messages += [world.deliver(a, b), world.deliver(b, a)]
        world.advance(after)
        for peer in RESTARTS[who](a, b, number):
            messages = [message for message in messages if message.sender is not peer or message.acknowledged]
            peer.restart()
        world.advance(1.0 - after)
    world.advance(30.0)
    assert all(message.acknowledged for message in messages)
    # A receiver that died before its answer arrived may see a message again, in its next life.
    assert all(len({life for _, life, _ in message.seen}) == len(message.seen) for message in messages)
    assert sum(len(message.seen) > 1 for message in messages) <= rounds
    assert agree(world)


@EITHER_WAY
@pytest.mark.parametrize("restarted", [0, 1])
def test_a_restart_costs_one_round_trip_more(swapped: bool, restarted: int) -> None:
    world, a, b = pair(swapped)
    first = world.deliver(a, b)
    world.advance(30.0)
    (a, b)[restarted].restart()
    messages = [world.deliver(a, b)]
    world.advance(1.0)
    messages += [world.deliver(b, a)]
    world.advance(1.0)
    assert all_arrived([first, *messages])
    assert all(message.acknowledged - message.at <= 6.1 * LATENCY for message in messages if message.acknowledged)


def test_a_restart_is_not_hidden_by_what_was_said_before_it() -> None:
    """A relay held that back, so that it looks as if the old session were alive."""
    world = World()
    a, b = world.peers
    world.deliver(a, b)
    world.advance(5.0)
    held = list[Frame]()

    def hold(passing: Passing) -> Iterable[float]:
        held.append(passing.frame)
        return ()

    world.relay = hold
    for _ in range(40):
        world.send(b, a)
    world.advance(3.0)
    b.restart()
    world.relay = lambda _: (LATENCY,)
    for number, frame in enumerate(held):
        world.after(number * 0.9, partial(world.inject, frame.to_bytes()))
    message = world.deliver(a, b)
    world.advance(8.0)
    assert all_arrived([message])


# Hints that are made up


@pytest.mark.parametrize("rate", [2, 100])
@pytest.mark.parametrize("every", [0.5, 1.7, 3.0])
def test_made_up_unknown(rate: int, every: float) -> None:
    """It costs an opening every two seconds, and nothing else."""
    world = World()
    newest = dict[int, Frame]()

    def remember(passing: Passing) -> Iterable[float]:
        if passing.frame.flags & Flag.SEALED:
            newest[passing.sender] = passing.frame
        return (LATENCY,)

    def hint() -> None:
        for frame in newest.values():
            world.inject(unknown(frame))
        world.after(1 / rate, hint)

    world.relay = remember
    passed = tap(world)
    hint()
    messages = load(world, every, 60.0)
    world.advance(10.0)
    assert all_arrived(messages)
    assert max(message.acknowledged - message.at for message in messages if message.acknowledged) < 0.2
    assert [peer.count("session_unknown") for peer in world.peers] == [0, 0], "a session was discarded that was in use"
    for peer in world.peers:
        openings = [p.at for p in passed if p.sender == peer.number and what(p.frame) == "OPEN"]
        assert all(later - earlier >= 2.0 for earlier, later in pairwise(openings))


def test_unknown_that_comes_with_the_answer_to_an_opening_holds_nothing_up() -> None:
    world = World()
    a, b = world.peers
    answers = list[Frame]()

    def hold(passing: Passing) -> Iterable[float]:
        if what(passing.frame) == "ACCEPT":
            answers.append(passing.frame)
            return ()
        return (LATENCY,)

    world.relay = hold
    message = world.send(a, b)
    world.advance(2.5)
    world.relay = lambda _: (LATENCY,)
    index = answers[-1].payload[2:10]
    world.inject(answers[-1].to_bytes() + unknown(replace(answers[-1], to=b.id, source=a.id, payload=index)))
    world.advance(5.0)
    assert all_arrived([message])


# At most once


def test_a_copy_that_was_held_back_is_no_second_message() -> None:
    """Whatever hint made the sender repeat it meanwhile; it is held back for longer than messages are remembered."""
    world = World()
    a, b = world.peers
    world.deliver(a, b)
    world.advance(5.0)
    held = list[Frame]()

    def hold(passing: Passing) -> Iterable[float]:
        if what(passing.frame) == "DATA" and passing.sender == a.number and not held:
            held.append(passing.frame)
            return ()
        return () if what(passing.frame) in ("OPEN", "ACCEPT") else (LATENCY,)

    world.relay = hold
    message = world.deliver(a, b)
    world.inject(unknown(held[0]))
    world.advance(8.0)
    assert message.acknowledged
    for _ in range(13):
        world.deliver(a, b)
        world.advance(10.0)
    world.inject(held[0].to_bytes())
    world.advance(1.0)
    assert all_arrived([message])


@pytest.mark.parametrize("lost", [0, 1, 2, 3])
def test_a_lost_acknowledgement_comes_again(lost: int) -> None:
    world = World()
    a, b = world.peers
    world.deliver(a, b)
    world.advance(5.0)
    answers = list[Frame]()

    def relay(passing: Passing) -> Iterable[float]:
        answers.extend([passing.frame] * (what(passing.frame) == "ACK"))
        return () if what(passing.frame) == "ACK" and len(answers) <= lost else (LATENCY,)

    world.relay = relay
    message = world.deliver(a, b)
    world.advance(20.0)
    assert all_arrived([message])
    assert len(answers) == lost + 1


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_full_mailbox_takes_the_message_later(lost: int) -> None:
    """Although some refusals are lost, so that the same copy comes again when there is room."""
    world = World(limits=replace(LIMITS, mailbox_messages=1))
    a, b = world.peers
    b.takes = False
    messages = [world.deliver(a, b)]
    world.advance(1.0)
    refusals = list[Frame]()

    def relay(passing: Passing) -> Iterable[float]:
        refusals.extend([passing.frame] * (what(passing.frame) == "BUSY"))
        return () if what(passing.frame) == "BUSY" and len(refusals) <= lost else (LATENCY,)

    world.relay = relay
    messages.append(world.deliver(a, b))
    world.advance(0.5)
    b.takes = True
    b.take()
    world.advance(20.0)
    assert all_arrived(messages)
    assert len(refusals) == lost + 1
    assert a.count("sessions_opening") + b.count("sessions_opening") == 1


@pytest.mark.parametrize("later", [3.0, 40.0])
def test_what_is_said_to_be_not_delivered_never_is(later: float) -> None:
    world = World(limits=replace(LIMITS, mailbox_messages=1))
    a, b = world.peers
    b.takes = False
    world.deliver(a, b)
    world.advance(1.0)
    world.relay = lambda passing: (LATENCY, later) if passing.frame.kind == Kind.DATA else (LATENCY,)
    message = world.deliver(a, b, 2.5)
    world.advance(2.6)
    assert message.error is not None
    assert message.error.outcome == "not_delivered"
    b.takes = True
    b.take()
    world.advance(60.0)
    assert not message.seen
