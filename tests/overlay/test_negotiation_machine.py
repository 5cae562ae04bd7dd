"""Sides that ask for links with each other while signals are lost, repeated, late and out of order, and connections
come about, fail and end at any moment: what holds all the time, and in the end."""

from __future__ import annotations

from itertools import combinations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from trio_relay.overlay.actions import Preference
from trio_relay.overlay.table import Rank

from .webrtc_world import End, Side, World

CAPACITY = 2
chosen = st.integers(0, 1000)
prefers = st.sampled_from(["websocket", "webrtc"])


class NegotiationMachine(RuleBasedStateMachine):
    """Two or three sides; each may listen, and may know of the others."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @initialize(sides=st.sampled_from([2, 2, 3]), listening=st.sets(st.integers(0, 2)), known=st.booleans())
    def begin(self, sides: int, listening: set[int], known: bool) -> None:
        self.world = World(sides, webrtc=CAPACITY, listening=listening, known=known)

    def pair(self, number: int) -> tuple[Side, Side]:
        sides = self.world.sides
        one = number % len(sides)
        return sides[one], sides[(one + 1 + number // 7 % (len(sides) - 1)) % len(sides)]

    # The applications

    @rule(number=chosen, prefer=prefers)
    def connect(self, number: int, prefer: Preference) -> None:
        self.world.connect(*self.pair(number), prefer)

    @rule(prefer=prefers, other=prefers)
    def both_connect_at_once(self, prefer: Preference, other: Preference) -> None:
        one, two = self.world.sides[:2]
        self.world.connect(one, two, prefer)
        self.world.connect(two, one, other)

    @rule(number=chosen)
    def cancel(self, number: int) -> None:
        self.world.cancel(*self.pair(number))

    @rule(number=chosen)
    def disconnect(self, number: int) -> None:
        self.world.disconnect(*self.pair(number))

    # Signals

    @precondition(lambda self: self.world.wire)
    @rule(number=chosen, again=st.booleans())
    def a_frame_arrives(self, number: int, again: bool) -> None:
        self.world.arrive(number % len(self.world.wire), again=again)

    @precondition(lambda self: self.world.wire)
    @rule(number=chosen)
    def a_frame_is_lost(self, number: int) -> None:
        del self.world.wire[number % len(self.world.wire)]

    # Connections

    @precondition(lambda self: self.world.undescribed())
    @rule(number=chosen)
    def a_description_is_ready(self, number: int) -> None:
        waiting = self.world.undescribed()
        self.world.describe(*waiting[number % len(waiting)])

    @precondition(lambda self: self.world.connectable())
    @rule(number=chosen)
    def a_connection_opens(self, number: int) -> None:
        found = self.world.connectable()
        self.world.open(*found[number % len(found)])

    @precondition(lambda self: any(side.tries for side in self.world.sides))
    @rule(number=chosen)
    def an_attempt_fails(self, number: int) -> None:
        tries = [(side, attempt) for side in self.world.sides for attempt in side.tries.values()]
        self.world.fail(*tries[number % len(tries)])

    @precondition(lambda self: any(side.dials for side in self.world.sides))
    @rule(number=chosen, success=st.booleans())
    def a_dial_ends(self, number: int, success: bool) -> None:
        dialling = [side for side in self.world.sides if side.dials]
        self.world.dialled(dialling[number % len(dialling)], success=success)

    @precondition(lambda self: self.world.new_ends())
    @rule(number=chosen)
    def an_end_comes_up(self, number: int) -> None:
        ends = self.world.new_ends()
        self.world.come_up(ends[number % len(ends)])

    @precondition(lambda self: self.world.readable())
    @rule(number=chosen)
    def a_link_delivers(self, number: int) -> None:
        ends = self.world.readable()
        self.world.read(ends[number % len(ends)])

    @precondition(lambda self: any(end.state == "up" for side in self.world.sides for end in side.ends))
    @rule(number=chosen)
    def a_link_breaks(self, number: int) -> None:
        ends = [end for side in self.world.sides for end in side.ends if end.state == "up"]
        self.world.cut(ends[number % len(ends)])

    @rule(seconds=st.sampled_from([0.1, 1.0, 1.0, 3.0, 8.0, 21.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.advance(seconds)

    # What holds

    @invariant()
    def everything_is_bounded(self) -> None:
        for side in self.world.sides:
            sizes = side.router.sizes()
            assert sizes["negotiations"] == len(side.tries) <= CAPACITY
            assert sizes["negotiations_remembered"] <= 4096
            assert len(side.waiting) == sizes["connecting"] < len(self.world.sides)

    @invariant()
    def nobody_counts_a_webrtc_link_as_an_address(self) -> None:
        for side in self.world.sides:
            for neighbour in side.router.table:
                if isinstance(neighbour.link, End):
                    assert (neighbour.rank is not Rank.WEBSOCKET) == bool(neighbour.link.negotiation)
                    assert not (neighbour.url and neighbour.link.negotiation)

    def teardown(self) -> None:
        """Nothing is lost any more, and all attempts come to their ends."""
        self.world.settle(70.0, step=1.0)
        for side in self.world.sides:
            sizes = side.router.sizes()
            assert not side.waiting
            assert (sizes["connecting"], sizes["negotiations"], len(side.tries)) == (0, 0, 0)
        for one, two in combinations(self.world.sides, 2):
            ours, theirs = one.router.table.get(two.id), two.router.table.get(one.id)
            used = [n.link for n in (ours, theirs) if n is not None]
            up = [e for side in (one, two) for e in side.ends if e.state == "up" and e.other.side in (one, two)]
            assert set(used) == set(up)
            assert not used or (len(used) == 2 and isinstance(used[0], End) and used[0].other is used[1])


TestNegotiationMachine = NegotiationMachine.TestCase
TestNegotiationMachine.settings = settings(max_examples=60, stateful_step_count=40)
