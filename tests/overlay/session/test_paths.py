"""Several paths between two endpoints, some of them hostile or flooded: what one of them drops, another one brings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

import pytest

from trio_relay.wire.frame import Flag, Frame, Kind, build_frame
from trio_relay.wire.ids import NodeId
from trio_relay.wire.session import Open, build_open

from ..support import node_id
from .world import LATENCY, LIMITS, Passing, Peer, World, tap, unknown, what

TWO = {1: (100, 101), 2: (100, 101)}
BOTH_WAYS = pytest.mark.parametrize("opener", [0, 1])
EACH_RELAY = pytest.mark.parametrize("bad", [100, 101])


def two_relays(opener: int) -> tuple[World, Peer, Peer]:
    world = World(relays=TWO)
    a, b = world.peers if opener == 0 else reversed(world.peers)
    return world, a, b


def dropping(bad: int, which: Callable[[Frame], bool] = lambda _: True) -> Callable[[Passing], Iterable[float]]:
    """One relay drops such frames; the other is honest."""
    return lambda passing: () if passing.relay == bad and which(passing.frame) else (LATENCY,)


def is_handshake(frame: Frame) -> bool:
    return frame.kind == Kind.SESSION and not frame.flags & Flag.SEALED


def restarted(opener: int) -> tuple[World, Peer, Peer]:
    """Two with a session that one of them does not know any more."""
    world, a, b = two_relays(opener)
    first = world.deliver(a, b)
    world.advance(5.0)
    assert first.acknowledged
    b.restart()
    return world, a, b


def say_unreachable(world: World, passing: Passing) -> tuple[()]:
    """It finds nobody, and says so."""
    frame = passing.frame
    said = frame.to + bytes([frame.attempt])
    hint = build_frame(Kind.UNREACHABLE, frame.source, node_id(passing.relay), frame.message_id, said)
    world.after(LATENCY, partial(world.inject, hint, passing.relay))
    return ()


# One of two relays


@EACH_RELAY
@BOTH_WAYS
@pytest.mark.parametrize("which", [lambda _: True, is_handshake, lambda frame: not is_handshake(frame)])
def test_a_relay_that_drops_does_not_cut(opener: int, bad: int, which: Callable[[Frame], bool]) -> None:
    world, a, b = two_relays(opener)
    world.relay = dropping(bad, which)
    message = world.deliver(a, b)
    world.advance(6.0)
    assert message.acknowledged


@EACH_RELAY
@BOTH_WAYS
@pytest.mark.parametrize(
    "names", ["OPEN", "ACCEPT", "SESSION+", "SESSION", "DATA+", "DATA", "ACK", "ACCEPT ACK", "SESSION ACK"]
)
def test_nor_one_that_drops_some_kinds(opener: int, bad: int, names: str) -> None:
    world, a, b = two_relays(opener)
    world.relay = dropping(bad, lambda frame: what(frame) in names.split())
    messages = [world.deliver(a, b)]
    world.advance(4.0)
    messages += [world.deliver(a, b), world.deliver(b, a)]
    world.advance(4.0)
    assert all(message.acknowledged for message in messages)


@EACH_RELAY
@BOTH_WAYS
def test_answers_to_retries_come_back_where_the_question_came(opener: int, bad: int) -> None:
    """Whichever relay the answers would take at first: the second copy of each question is answered over both."""
    world, a, b = two_relays(opener)
    world.relay = lambda passing: () if passing.frame.source == b.id and passing.relay == bad else (LATENCY,)
    passed = tap(world)
    messages = [world.deliver(a, b)]
    world.advance(4.0)
    messages.append(world.deliver(a, b))
    world.advance(4.0)
    assert all(message.acknowledged for message in messages)
    for name in ("ACCEPT", "ACK"):
        answers = [(p.relay, p.frame.attempt) for p in passed if what(p.frame) == name]
        again = {attempt for _, attempt in answers if attempt}
        assert all({(100, attempt), (101, attempt)} <= set(answers) for attempt in again)


@EACH_RELAY
@BOTH_WAYS
def test_a_session_is_confirmed_when_one_relay_drops(opener: int, bad: int) -> None:
    """Even if nothing else is said in it that would be answered."""
    world, a, b = two_relays(opener)
    world.relay = dropping(bad)
    world.send(a, b)
    world.advance(9.0)
    assert (a.count("sessions_opening"), a.count("sessions_opened"), b.count("sessions_accepted")) == (1, 1, 1)


@EACH_RELAY
@BOTH_WAYS
@pytest.mark.parametrize(
    ("which", "within"),
    [(lambda _: True, 12.0), (is_handshake, 12.0), (lambda frame: what(frame) == "UNKNOWN", 1.2)],
)
def test_a_restart_is_found_out_when_one_relay_drops(
    opener: int, bad: int, which: Callable[[Frame], bool], within: float
) -> None:
    world, a, b = restarted(opener)
    world.relay = dropping(bad, which)
    message = world.deliver(a, b)
    world.advance(within)
    assert message.acknowledged


@BOTH_WAYS
def test_a_restart_is_found_out_when_every_unknown_is_dropped(opener: int) -> None:
    """The sender doubts a session itself in which copies of a confirmed message are not answered."""
    world, a, b = restarted(opener)
    world.relay = lambda passing: () if what(passing.frame) == "UNKNOWN" else (LATENCY,)
    passed = tap(world)
    message = world.deliver(a, b)
    world.advance(12.0)
    assert message.acknowledged
    copies = [what(passing.frame) for passing in passed if what(passing.frame) in ("DATA", "DATA+", "OPEN")]
    assert copies[:6] == ["DATA", *["DATA", "DATA"] * 2, "OPEN"]  # two copies a retry


def test_a_session_in_which_something_came_is_not_doubted() -> None:
    world = World()
    a, b = world.peers
    world.deliver(a, b)
    world.advance(5.0)
    passed = tap(world)
    inner = world.relay
    world.relay = lambda passing: () if passing.frame.source == a.id else inner(passing)
    message = world.deliver(a, b)
    for _ in range(20):
        world.send(b, a)
        world.advance(1.0)
    assert not message.acknowledged
    assert "OPEN" not in {what(passing.frame) for passing in passed}
    assert a.count("sessions_opening") + b.count("sessions_opening") == 1


@BOTH_WAYS
def test_a_flood_over_another_link_does_not_hide_a_restart(opener: int) -> None:
    """Hints are rationed for each link that what they answer came over."""
    world = World(relays={1: (100,), 2: (100, 101)} if opener == 0 else {2: (100,), 1: (100, 101)})
    a, b = world.peers if opener == 0 else reversed(world.peers)
    first = world.deliver(a, b)
    world.advance(5.0)
    assert first.acknowledged
    b.restart()
    strangers = [node_id(1000 + number) for number in range(400)]

    def flood() -> None:
        for _ in range(3):
            source = world.rng.choice(strangers)
            frame = build_frame(Kind.DATA, b.id, source, bytes(8), world.rng.randbytes(60), flags=Flag.SEALED)
            world.inject(frame, 101)
        world.after(0.002, flood)

    flood()
    world.advance(2.013)
    passed = tap(world)
    message = world.deliver(a, b)
    world.advance(1.0)
    assert message.acknowledged
    hints = [passing for passing in passed if what(passing.frame) == "UNKNOWN" and passing.receiver != a.id]
    assert 150 < len(hints) <= 402, "for each link 200 a second, over one way or two"


@EACH_RELAY
def test_a_relay_that_finds_nobody_does_not_hide_the_other(bad: int) -> None:
    world, a, b = two_relays(0)
    world.relay = lambda passing: say_unreachable(world, passing) if passing.relay == bad else (LATENCY,)
    message = world.deliver(a, b)
    world.advance(3.0)
    assert message.acknowledged


# Floods


class Flood:
    """A relay of the victim makes openings up: as many a second, each in another name or all in one.

    Args:
        cookies: whether it shows those that it gets: "honestly", "in another name" or "for another key".
    """

    def __init__(self, world: World, victim: Peer, rate: int, *, names: int, cookies: str) -> None:
        self.world, self.victim, self.rate, self.names, self.cookies = world, victim, rate, names, cookies
        self.count = 0
        self.most_half_open = 0
        self._made: dict[bytes, Open] = {}
        inner = world.relay
        world.relay = lambda passing: self._answered(passing) if passing.receiver in self._own else inner(passing)
        self._own = {node_id(1000 + number) for number in range(names)}
        self._open()

    def _open(self) -> None:
        rng = self.world.rng
        self.count += 1
        message_id, message = rng.randbytes(8), Open(2, rng.randbytes(32))
        self._made[message_id] = message
        self._inject(node_id(1000 + self.count % self.names), message_id, message)
        self.world.after(1 / self.rate, self._open)
        self.most_half_open = max(self.most_half_open, self.victim.router.sizes()["session_half_open"])

    def _inject(self, source: NodeId, message_id: bytes, message: Open) -> None:
        # Not the first attempt, so that the answer comes back here.
        payload = build_open(message)
        self.world.inject(build_frame(Kind.SESSION, self.victim.id, source, message_id, payload, attempt=1), 100)

    def _answered(self, passing: Passing) -> tuple[()]:
        frame = passing.frame
        if self.cookies and what(frame) == "COOKIE" and passing.relay == 100:
            shown = replace(self._made[frame.message_id], cookie=frame.payload[1:])
            name = node_id(1000 + (self.count + 1) % self.names) if self.cookies == "in another name" else frame.to
            if self.cookies == "for another key":
                shown = replace(shown, ephemeral=self.world.rng.randbytes(32))
            self.world.after(LATENCY, partial(self._inject, name, frame.message_id, shown))
        return ()


@pytest.mark.parametrize(
    ("names", "cookies", "most"),
    [
        (4000, "", 50 + 20 * 8),
        (1, "", 8 + 4 * 8),
        (4000, "honestly", 50 + 20 * 8 + 100 + 50 * 8),
        (1, "honestly", 8 + 4 * 8 + 4 + 2 * 8),
        (4000, "in another name", 50 + 20 * 8),
        (4000, "for another key", 50 + 20 * 8),
    ],
)
def test_a_flood_of_openings_costs_no_more_than_its_budget(names: int, cookies: str, most: int) -> None:
    world = World(relays={1: (100, 101), 2: (101,)}, limits=replace(LIMITS, half_open=128))
    victim, honest = world.peers
    world.relay = lambda passing: (3.0,) if what(passing.frame) == "ACCEPT" else (LATENCY,)
    flood = Flood(world, victim, 200, names=names, cookies=cookies)
    world.advance(3.5)
    before = victim.signatures
    message = world.deliver(honest, victim)
    world.advance(3.5)
    assert message.acknowledged, "what came over another link makes no room"
    assert victim.signatures > before
    world.advance(1.0)
    assert 0.9 * most <= victim.signatures - 1 <= most + 1
    assert (flood.most_half_open == 128) is (names > 1)
    assert victim.router.sizes()["sessions"] == 1


def test_who_comes_by_the_path_of_a_flood_shows_a_cookie_at_once() -> None:
    world = World()
    victim, honest = world.peers
    Flood(world, victim, 100, names=4000, cookies="")
    world.advance(8.0)
    passed = tap(world)
    messages = []
    for _ in range(3):
        messages.append(world.deliver(honest, victim))
        world.advance(0.3)
        assert messages[-1].acknowledged
        honest.restart()
        world.advance(2.0)
    cookies = [passing for passing in passed if what(passing.frame) == "COOKIE" and passing.receiver == honest.id]
    assert len(cookies) in (2, 3), "most of them found the budget spent"


@BOTH_WAYS
def test_a_flood_of_garbage_disturbs_no_session(opener: int) -> None:
    """With indexes that are known, and such that are not, and boxes."""
    world, a, b = two_relays(opener)
    first = world.deliver(a, b)
    world.advance(1.0)
    assert first.acknowledged
    passed = tap(world)

    def flood() -> None:
        sealed = [passing.frame for passing in passed[-8:] if passing.frame.flags & Flag.SEALED]
        for frame in sealed:
            head = world.rng.choice((frame.payload[:16], frame.payload[:8] + world.rng.randbytes(8)))
            flags = frame.flags ^ world.rng.choice((0, Flag.OPENING))
            rubbish = world.rng.randbytes(world.rng.choice((20, 200)))
            world.inject(replace(frame, flags=flags, payload=head + rubbish).to_bytes())
        world.after(0.01, flood)

    flood()
    messages = []
    for _ in range(100):
        messages += [world.deliver(a, b), world.send(b, a), world.deliver(b, a), world.send(a, b)]
        world.advance(0.1)
    world.advance(1.0)
    assert all(message.acknowledged or not message.confirmed for message in messages)
    assert all(len(message.seen) == 1 for message in messages)
    assert {passing.frame.attempt for passing in passed} == {0}
    assert b.count("seal_broken") > 1000
    assert a.count("sessions_opening") == 1


@EACH_RELAY
def test_hints_of_one_relay_do_not_slow_the_other_path(bad: int) -> None:
    """Every sealed frame that a relay sees is answered with UNKNOWN, and every opening with nothing."""
    world, a, b = two_relays(0)

    def lie(passing: Passing) -> Iterable[float]:
        if passing.relay != bad:
            return (LATENCY,)
        if passing.frame.flags & Flag.SEALED:
            world.after(LATENCY, partial(world.inject, unknown(passing.frame), bad))
        return ()

    world.relay = lie
    messages = []
    for _ in range(30):
        messages += [world.deliver(a, b), world.deliver(b, a)]
        world.advance(3.0)
    world.advance(10.0)
    assert all(message.acknowledged for message in messages)
    assert max(message.acknowledged - message.at for message in messages if message.acknowledged) < 6.0
