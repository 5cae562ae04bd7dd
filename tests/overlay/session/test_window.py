"""The replay window against a set that forgets nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_relay.overlay.session.window import WINDOW, ReplayWindow

MOST = 2**22
Operation = tuple[str, int]


@dataclass
class NaiveWindow:
    """What the document says, and no more."""

    came: set[int] = field(default_factory=set)
    highest: int = -1

    def is_new(self, counter: int) -> bool:
        return counter not in self.came and not self.highest - counter >= WINDOW

    def add(self, counter: int) -> None:
        self.came.add(counter)
        self.highest = max(self.highest, counter)


steps = st.one_of(
    st.integers(0, 3),
    st.integers(-3, 3).map(lambda change: 1024 + change),
    st.integers(-3, 3).map(lambda change: WINDOW + change),
    st.integers(-3, 3).map(lambda change: WINDOW + 1024 + change),
    st.integers(0, 5 * WINDOW),
)
operations = st.lists(st.tuples(st.sampled_from(["ahead", "behind", "behind"]), steps), min_size=1, max_size=60)


@given(st.integers(0, MOST), operations)
@example(0, [("ahead", 0), ("ahead", WINDOW - 1), ("behind", WINDOW - 1)])
@example(0, [("ahead", 0), ("ahead", WINDOW), ("behind", WINDOW)])
def test_as_a_set_that_forgets_nothing(first: int, operations: list[Operation]) -> None:
    window, naive = ReplayWindow(), NaiveWindow()
    added: list[int] = []
    for what, step in operations:
        here = max(naive.highest, 0) if added else first
        counter = here + step if what == "ahead" else max(0, here - step)
        assert window.is_new(counter) is naive.is_new(counter)
        if naive.is_new(counter):
            window.add(counter)
            naive.add(counter)
            added.append(counter)
        assert window.highest == naive.highest
        for near in {*added[-8:], *(counter + 1 for counter in added[-4:]), max(0, naive.highest - WINDOW + 1)}:
            assert window.is_new(near) is naive.is_new(near)


@given(st.permutations(range(300)), st.integers(0, MOST))
def test_any_order_within_the_window_comes_once(order: list[int], start: int) -> None:
    window = ReplayWindow()
    for counter in order:
        assert window.is_new(start + counter)
        window.add(start + counter)
    assert not any(window.is_new(start + counter) for counter in order)


@pytest.mark.parametrize("first", [0, 1, 1023, 1024, 5000, MOST - WINDOW - 1])
def test_the_edge_of_the_window(first: int) -> None:
    window = ReplayWindow()
    window.add(first + WINDOW)
    assert not window.is_new(first)
    assert window.is_new(first + 1)
    assert not window.is_new(first + WINDOW)


def test_the_documents_number() -> None:
    assert WINDOW == 8192


def test_counters_far_apart() -> None:
    """What came long ago does not look as if it came now, for words are reused."""
    window = ReplayWindow()
    counters = [0, 1, 1024, 8191, 8192, 9215, 9216, 9217, 100_000, MOST - 1, 2**63, 2**64 - 1]
    for counter in counters:
        assert window.is_new(counter)
        window.add(counter)
        assert not window.is_new(counter)
        later = counter + 1
        assert window.is_new(later)
