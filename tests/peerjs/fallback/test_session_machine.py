"""Two sessions whose carriers break at any time: everything arrives, once and in order, in bounded memory."""

from __future__ import annotations

from collections import deque
from typing import Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from trio_relay.peerjs.fallback.rules import OVERHEAD, SessionRules
from trio_relay.peerjs.fallback.session import CARRIER_MESSAGE, ResumableSession

RULES: Final = SessionRules(max_message=100, window=4096, send_buffer=1100, fragment=32)
SIDES: Final = st.integers(0, 1)
MESSAGES: Final = st.one_of(
    st.binary(max_size=40),
    st.text(max_size=40),
    st.integers(0, 100).map(bytes),
    st.integers(0, 50).map(lambda n: "é" * n),
)


class Side:
    """One session, and what its application did.

    Attributes:
        carrier: the number of the carrier that it uses.
        inbox: what is on the way to it over each carrier.
    """

    def __init__(self) -> None:
        self.session: Final = ResumableSession(RULES)
        self.carrier = 0
        self.inbox: Final[dict[int, deque[bytes]]] = {}
        self.said: Final[list[bytes | str]] = []
        self.heard: Final[list[bytes | str]] = []
        self.finished = False


class Carriers(RuleBasedStateMachine):
    """A side may be ahead of the other: it uses a newer carrier while the other still believes in the old one."""

    def __init__(self) -> None:
        super().__init__()
        self.sides = [Side(), Side()]
        self.broken: set[int] = set()
        self.both_go_on()

    @rule()
    def both_go_on(self) -> None:
        """To a carrier over which both say HELLO."""
        newest = max(side.carrier for side in self.sides) + 1
        for index in (0, 1):
            self.go_on(index, newest)
        for index in (0, 1):
            self.pump(index)
        for index in (0, 1):
            self.arrive(index)

    def go_on(self, index: int, carrier: int) -> None:
        side = self.sides[index]
        side.carrier = carrier
        side.session.attach(carrier)

    def pump(self, index: int, size: int = CARRIER_MESSAGE) -> bool:
        """One message leaves."""
        side, other = self.sides[index], self.sides[1 - index]
        message = side.session.produce(size) if side.carrier else b""
        if message and side.carrier not in self.broken:
            other.inbox.setdefault(side.carrier, deque()).append(message)
        return bool(message)

    def arrive(self, index: int) -> bool:
        """One message arrives, if it comes over the carrier in use."""
        side = self.sides[index]
        inbox = side.inbox.get(side.carrier)
        if not inbox:
            return False
        side.session.feed(inbox.popleft())
        return True

    @rule(index=SIDES, message=MESSAGES)
    def send(self, index: int, message: bytes | str) -> None:
        side = self.sides[index]
        if side.session.has_room:
            side.session.send(message)
            side.said.append(message)

    @rule(index=SIDES)
    def take(self, index: int) -> None:
        side = self.sides[index]
        side.heard.extend(side.session.take())

    @rule(index=SIDES, times=st.integers(1, 5))
    def leave(self, index: int, times: int) -> None:
        for _ in range(times):
            self.pump(index)

    @rule(index=SIDES, times=st.integers(1, 5))
    def come(self, index: int, times: int) -> None:
        for _ in range(times):
            self.arrive(index)

    @rule(index=SIDES)
    def sign_of_life(self, index: int) -> None:
        self.sides[index].session.ack_soon()

    @rule(index=SIDES)
    def new_carrier(self, index: int) -> None:
        self.go_on(index, max(side.carrier for side in self.sides) + 1)

    @rule()
    def other_follows(self) -> None:
        behind = min((0, 1), key=lambda index: self.sides[index].carrier)
        newest = self.sides[1 - behind].carrier
        if self.sides[behind].carrier < newest:
            self.go_on(behind, newest)

    @rule(keep=st.integers(0, 3))
    def break_carrier(self, keep: int) -> None:
        newest = max(side.carrier for side in self.sides)
        self.broken.add(newest)
        for side in self.sides:
            inbox = side.inbox.get(newest, deque())
            while len(inbox) > keep:
                inbox.pop()

    @rule(index=SIDES)
    @precondition(lambda self: sum(len(side.said) for side in self.sides) > 3)
    def finish(self, index: int) -> None:
        self.sides[index].session.finish()
        self.sides[index].finished = True

    @invariant()
    def in_order_and_bounded(self) -> None:
        for side, other in (self.sides, self.sides[::-1]):
            assert side.heard == other.said[: len(side.heard)]
            assert side.session.held <= RULES.window
            most = RULES.max_message + (RULES.max_message // RULES.fragment + 2) * OVERHEAD
            assert side.session.kept < RULES.send_buffer + most
            assert side.session.unsent <= side.session.kept

    def teardown(self) -> None:
        newest = max(side.carrier for side in self.sides) + 1
        for index in (0, 1):
            self.go_on(index, newest)
        moved = True
        while moved:
            moved = any([self.pump(0), self.pump(1), self.arrive(0), self.arrive(1)])
            for index in (0, 1):
                self.take(index)
        for side, other in (self.sides, self.sides[::-1]):
            assert side.heard == other.said
            assert (side.session.finished, other.session.ended) == (side.finished, side.finished)
            assert side.session.unsent == 0
            assert side.session.kept < 2 * RULES.step


TestCarriers = Carriers.TestCase
TestCarriers.settings = settings(max_examples=30, stateful_step_count=40)
