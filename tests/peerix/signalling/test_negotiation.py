"""Who may offer when: both sides played against each other, in every order."""

from __future__ import annotations

from collections import deque
from typing import Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from trio_relay.peerix.signalling.negotiation import Negotiation, is_polite


@pytest.mark.parametrize(
    ("own", "other", "polite"), [("b", "a", True), ("a", "b", False), ("a", "B", True), ("9", "A", False)]
)
def test_the_greater_id_gives_way_in_the_order_of_code_points(own: str, other: str, polite: bool) -> None:
    assert is_polite(own, other) is polite


def test_an_answer_without_an_offer_is_none() -> None:
    assert not Negotiation(polite=True).take_answer()


def test_the_impolite_side_ignores_a_colliding_offer_and_its_candidates_until_its_own_is_answered() -> None:
    rules = Negotiation(polite=False)
    rules.offer()
    assert not rules.take_offer()
    assert not rules.take_candidate()
    assert not rules.may_offer
    assert rules.take_answer()
    assert rules.take_candidate()
    assert rules.may_offer


def test_the_polite_side_forgets_its_offer_for_a_colliding_one() -> None:
    rules = Negotiation(polite=True)
    rules.offer()
    assert rules.take_offer()
    assert rules.may_offer
    assert not rules.take_answer()


def test_an_offer_that_nobody_answers_can_be_made_again() -> None:
    rules = Negotiation(polite=False)
    rules.offer()
    rules.give_up()
    assert rules.may_offer
    assert not rules.take_answer()


class _Side:
    def __init__(self, polite: bool) -> None:
        self.rules: Final = Negotiation(polite=polite)
        self.inbox: Final[deque[tuple[str, int]]] = deque()
        self.wanted = 0
        """How much there is to be told."""
        self.told = 0
        """How much the other side has answered."""


class Glare(RuleBasedStateMachine):
    """Two sides over two ordered channels; whatever happens, everything is told in the end, and nothing else stays."""

    def __init__(self) -> None:
        super().__init__()
        self.sides = (_Side(polite=True), _Side(polite=False))

    @rule(which=st.booleans())
    def want(self, which: bool) -> None:
        self.sides[which].wanted += 1

    @rule(which=st.booleans())
    def offer(self, which: bool) -> None:
        side, other = self.sides[which], self.sides[not which]
        if side.rules.may_offer and side.told < side.wanted:
            side.rules.offer()
            other.inbox.append(("offer", side.wanted))

    @precondition(lambda self: any(side.inbox for side in self.sides))
    @rule(which=st.booleans())
    def take(self, which: bool) -> None:
        side, other = self.sides[which], self.sides[not which]
        if not side.inbox:
            return
        kind, what = side.inbox.popleft()
        if kind == "answer":
            assert side.rules.take_answer()
            side.told = what
        elif side.rules.take_offer():
            other.inbox.append(("answer", what))

    @invariant()
    def at_most_one_offer_is_believed_in(self) -> None:
        if not any(side.inbox for side in self.sides):
            assert all(side.rules.may_offer for side in self.sides)

    def teardown(self) -> None:
        for _ in range(6):
            for which in (False, True):
                while self.sides[which].inbox:
                    self.take(which)
                self.offer(which)
        assert [side.told for side in self.sides] == [side.wanted for side in self.sides]


TestGlare = Glare.TestCase
TestGlare.settings = settings(max_examples=40, stateful_step_count=30)
