"""Whatever relays do, what arrives is what was sent, once; and when one of them ceases, everybody reaches everybody."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from trio_relay.wire.frame import Kind, build_frame
from trio_relay.wire.session import Open, build_open

from .hostile import FATES, FORGERIES, Hostile
from .world import LATENCY, LIMITS, Passing, World, what

COUNT = 3
MOST_SESSIONS = 12  # with one peer
LIMITS_OF_ALL = replace(
    LIMITS,
    mailbox_messages=6,
    half_open=6,
    session_openings=2,
    session_waiting=8,
    session_waiting_bytes=8192,
    pending_deliveries=64,
)
peers = st.integers(0, COUNT - 1)
backs = st.integers(0, 200)
weights = st.dictionaries(st.sampled_from(FATES), st.integers(1, 4), min_size=1, max_size=4)


class HostileRelayMachine(RuleBasedStateMachine):
    """Three endpoints, and relays on every path between them."""

    world: World
    relay: Hostile

    @initialize(seed=st.integers(0, 2**32), two=st.booleans())
    def begin(self, seed: int, two: bool) -> None:
        relays = dict.fromkeys(range(1, COUNT + 1), (100, 101)) if two else None
        self.world = World(COUNT, limits=LIMITS_OF_ALL, relays=relays, seed=seed)
        self.relay = Hostile(self.world)

    # What endpoints do

    @rule(sender=peers, step=st.integers(1, COUNT - 1), count=st.integers(1, 4), confirmed=st.booleans())
    def somebody_writes(self, sender: int, step: int, count: int, confirmed: bool) -> None:
        world = self.world
        a, b = world.peers[sender], world.peers[(sender + step) % COUNT]
        for number in range(count):
            a, b = (b, a) if number else (a, b)
            if not confirmed:
                world.send(a, b)
            elif len(a.pending) < LIMITS_OF_ALL.pending_deliveries:
                world.deliver(a, b, timeout=world.rng.choice((2.0, 30.0, 200.0)))

    @rule(number=peers)
    def somebody_restarts(self, number: int) -> None:
        self.world.peers[number].restart()

    @rule(number=peers, takes=st.booleans())
    def somebody_reads_or_not(self, number: int, takes: bool) -> None:
        peer = self.world.peers[number]
        peer.takes = takes
        if takes:
            peer.take()

    @rule(seconds=st.sampled_from([0.02, 0.06, 0.3]))
    def a_moment_passes(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule(seconds=st.sampled_from([1.0, 2.5, 5.0]))
    def seconds_pass(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule(seconds=st.sampled_from([12.0, 70.0, 130.0, 310.0]))
    def minutes_pass(self, seconds: float) -> None:
        self.world.advance(seconds)

    # What relays do

    @rule(weights=weights)
    def relays_change_their_mind(self, weights: dict[str, int]) -> None:
        self.relay.weights = self.relay.handshake_weights = weights

    @rule(weights=weights)
    def relays_change_their_mind_about_handshakes(self, weights: dict[str, int]) -> None:
        self.relay.handshake_weights = weights

    @rule(back=backs, count=st.sampled_from([1, 1, 3, 30]), fate=st.sampled_from(FATES))
    def frames_come_again(self, back: int, count: int, fate: str) -> None:
        self.relay.repeat(back, count, fate)

    @rule(what=st.sampled_from(sorted(FORGERIES)), back=st.one_of(st.just(0), backs), count=st.sampled_from([1, 2, 10]))
    def something_is_made_up(self, what: str, back: int, count: int) -> None:
        for number in range(count):
            self.relay.forge(what, back + number)

    @rule(number=peers)
    def a_link_breaks(self, number: int) -> None:
        peer = self.world.peers[number]
        peer.cut(peer.relays[0])

    # What holds; most is checked by the world, as it happens

    @invariant()
    def everything_is_bounded(self) -> None:
        for peer in self.world.peers:
            sizes, limits = peer.router.sizes(), LIMITS_OF_ALL
            assert sizes["session_peers"] <= COUNT - 1
            assert sizes["sessions"] <= MOST_SESSIONS * (COUNT - 1)
            assert sizes["session_openings"] <= limits.session_openings
            assert sizes["session_half_open"] <= limits.half_open
            assert sizes["session_waiting"] <= limits.session_waiting
            assert sizes["session_waiting_bytes"] <= limits.session_waiting_bytes
            assert sizes["mailbox_messages"] == len(peer.mailbox) <= limits.mailbox_messages
            assert sizes["pending_deliveries"] == len(peer.pending)

    def teardown(self) -> None:
        """Relays become honest, but for one of two, which drops everything; and applications read."""
        world = self.world
        self.relay.weights = self.relay.handshake_weights = {"pass": 1}
        for peer in world.peers:
            peer.takes = True
            peer.take()
        if len(world.peers[0].relays) == 2:
            self.relay.dropping = world.rng.choice(world.peers[0].relays)
            self.everybody_writes_to_everybody(60.0)
            self.relay.dropping = None
        world.advance(1.0)
        self.everybody_writes_to_everybody(30.0)
        world.advance(210.0)
        assert not any(peer.pending for peer in world.peers)

    def everybody_writes_to_everybody(self, within: float) -> None:
        world = self.world
        fresh = [world.deliver(a, b, timeout=within) for a in world.peers for b in world.peers if a is not b]
        world.advance(within)
        assert all(message.seen and message.acknowledged for message in fresh)


TestHostileRelay = HostileRelayMachine.TestCase
TestHostileRelay.settings = settings(max_examples=25, stateful_step_count=50)


@pytest.mark.parametrize("seed", range(12))
def test_long_walks(seed: int) -> None:
    """The same rules in long sequences, in which what happened minutes ago matters."""
    rng, machine = random.Random(seed), HostileRelayMachine()
    machine.begin(seed, rng.random() < 0.5)
    for _ in range(150):
        step(machine, rng)
        machine.everything_is_bounded()
    machine.teardown()


def step(machine: HostileRelayMachine, rng: random.Random) -> None:
    """One rule."""
    number, back = rng.randrange(COUNT), rng.choice((0, rng.randrange(200)))
    minds = {fate: rng.randrange(1, 5) for fate in rng.sample(FATES, rng.randrange(1, 5))}
    machine_does: list[tuple[int, Callable[[], None]]] = [
        (4, lambda: machine.somebody_writes(number, rng.randrange(1, COUNT), rng.randrange(1, 5), rng.random() < 0.5)),
        (1, lambda: machine.somebody_restarts(number)),
        (1, lambda: machine.somebody_reads_or_not(number, rng.random() < 0.5)),
        (3, lambda: machine.a_moment_passes(rng.choice((0.02, 0.06, 0.3)))),
        (2, lambda: machine.seconds_pass(rng.choice((1.0, 2.5, 5.0)))),
        (1, lambda: machine.minutes_pass(rng.choice((12.0, 70.0, 130.0, 310.0)))),
        (1, lambda: machine.relays_change_their_mind(minds)),
        (1, lambda: machine.relays_change_their_mind_about_handshakes(minds)),
        (2, lambda: machine.frames_come_again(back, rng.choice((1, 1, 3, 30)), rng.choice(FATES))),
        (3, lambda: machine.something_is_made_up(rng.choice(sorted(FORGERIES)), back, rng.choice((1, 2, 10)))),
        (1, lambda: machine.a_link_breaks(number)),
    ]
    rng.choices([do for _, do in machine_does], [weight for weight, _ in machine_does])[0]()


@pytest.mark.parametrize("bad", [100, 101])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_relay_that_opens_in_the_name_of_another_cuts_nobody(bad: int, swapped: bool) -> None:
    """It shows the cookies that it gets, spends every budget of that name, and passes on whatever else comes."""
    world = World(relays={1: (100, 101), 2: (100, 101)})
    a, b = world.peers[::-1] if swapped else world.peers
    made, shown = dict[bytes, Open](), set[bytes]()

    def say(message_id: bytes, message: Open) -> None:
        payload = build_open(message)
        world.inject(build_frame(Kind.SESSION, b.id, a.id, message_id, payload, attempt=1), bad)

    def make() -> None:
        message_id = world.rng.randbytes(8)
        made[message_id] = Open(2, world.rng.randbytes(32))
        say(message_id, made[message_id])

    def flood() -> None:
        make()
        world.after(1 / 45, flood)

    def relay(passing: Passing) -> Iterable[float]:
        frame = passing.frame
        if frame.message_id in made:
            if passing.relay == bad and what(frame) == "COOKIE" and frame.message_id not in shown:
                shown.add(frame.message_id)
                say(frame.message_id, replace(made[frame.message_id], cookie=frame.payload[1:]))
            return ()
        if passing.relay == bad and what(frame) == "OPEN":
            make()
            make()
            return (0.0,)
        return (LATENCY,)

    world.relay = relay
    flood()
    world.advance(20.0)
    message = world.deliver(a, b, 40.0)
    world.advance(40.0)
    assert message.acknowledged
    assert shown
