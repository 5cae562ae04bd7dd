from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_relay.serving.rates import ByteRates, ConnectionCounter, MessageWindow

names = st.sampled_from("abcdef")


# Connections


@given(st.integers(0, 3), st.lists(st.tuples(st.booleans(), names), max_size=60))
def test_connections_are_counted_as_a_list_would(most: int, steps: list[tuple[bool, str]]) -> None:
    counter = ConnectionCounter(most)
    live: list[str] = []
    for takes, ip in steps:
        if takes:
            allowed = live.count(ip) < most
            assert counter.take(ip) is allowed
            live += [ip] * allowed
        else:
            counter.release(ip)
            if ip in live:
                live.remove(ip)
        assert len(counter) == len(set(live))


def test_a_lower_limit_holds_for_new_connections() -> None:
    counter = ConnectionCounter(3)
    assert [counter.take("a") for _ in range(4)] == [True, True, True, False]
    counter.most = 2
    counter.release("a")
    assert not counter.take("a")
    counter.release("a")
    assert counter.take("a")


# Messages


@given(
    st.integers(0, 10),
    st.integers(0, 5),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), max_size=40),
)
def test_a_batch_is_worth_its_messages_one_by_one(most: int, window: int, steps: list[tuple[int, int]]) -> None:
    limit = MessageWindow(most, window)
    now = 0
    count, start = 0, -1000
    for later, n in steps:
        now += later
        allowed = 0
        for _ in range(n):
            if now - start > window:
                count, start = 0, now
            count += 1
            allowed += count <= most
        assert limit.take(n, now) == allowed


def test_a_window_restarts_only_when_more_than_its_length_has_passed() -> None:
    limit = MessageWindow(100, 60.0)
    assert limit.take(150, 5.0) == 100
    assert limit.take(1, 65.0) == 0
    assert limit.take(7, 65.125) == 7
    assert limit.take(94, 125.0) == 93


# Bytes


class NaiveRates:
    """Every name's bucket in exact numbers, all looked at whenever one has to go."""

    def __init__(self, rate: int, burst: int, capacity: int) -> None:
        self.rate, self.burst, self.capacity = rate, burst, capacity
        self.full_at: dict[str, Fraction] = {}
        self.evicted = 0

    def take(self, name: str, n: int, now: Fraction) -> bool:
        full_at = max(self.full_at.get(name, now), now) + Fraction(n, self.rate)
        if full_at - now > Fraction(self.burst, self.rate):
            return False
        if name not in self.full_at and len(self.full_at) >= self.capacity:
            fullest = min(self.full_at, key=lambda other: (self.full_at[other], other))
            self.evicted += self.full_at.pop(fullest) > now
        self.full_at[name] = full_at
        return True


@given(
    st.sampled_from([1, 4, 64]),  # powers of two, so that no float rounds
    st.integers(1, 200),
    st.lists(st.tuples(names, st.integers(0, 220), st.integers(0, 64)), max_size=60),
)
def test_bytes_are_rated_as_by_exact_buckets(rate: int, burst: int, steps: list[tuple[str, int, int]]) -> None:
    rates, naive = ByteRates(rate, burst, 100), NaiveRates(rate, burst, 100)
    now = 1000.0
    for name, n, quarters in steps:
        now += quarters / 4
        assert rates.take(name, n, now) is naive.take(name, n, Fraction(now))
    assert rates.evicted == 0


@given(
    st.integers(1, 3),
    st.lists(st.tuples(names, st.integers(0, 70), st.sampled_from([0, 0, 0, 1, 4, 64])), max_size=60),
)
def test_the_fullest_bucket_makes_room(capacity: int, steps: list[tuple[str, int, int]]) -> None:
    rates, naive = ByteRates(4, 64, capacity), NaiveRates(4, 64, capacity)
    now = 1000.0
    for name, n, quarters in steps:
        now += quarters / 4
        assert rates.take(name, n, now) is naive.take(name, n, Fraction(now))
        assert rates.evicted == naive.evicted
        assert len(rates) <= capacity


def test_who_has_used_up_the_burst_gets_no_new_one_by_a_flood_of_names() -> None:
    rates = ByteRates(10.0, 1000.0, capacity=50)
    assert rates.take("greedy", 1000, 0.0)
    answers = Counter(rates.take(f"name {number}", 1, 0.0) for number in range(5000))
    assert answers == {True: 5000}
    assert not rates.take("greedy", 1, 0.0)
    assert len(rates) == 50
    assert rates.evicted == 5000 - 49
    assert rates.take("greedy", 10, 1.0)


def test_what_is_full_is_forgotten_and_its_place_free() -> None:
    rates = ByteRates(100.0, 100.0, capacity=50)
    for number in range(50):
        assert rates.take(f"name {number}", 100, 0.0)
    assert rates.take("later", 1, 1.0)
    assert (len(rates), rates.evicted) == (49, 0)
    for step in range(30):
        rates.take("later", 1, 1.0 + step)
    assert (len(rates), rates.evicted) == (1, 0)


def test_a_full_bucket_that_makes_room_is_not_counted() -> None:
    rates = ByteRates(4.0, 64.0, capacity=3)
    for name, n in [("a", 1), ("b", 1), ("c", 4), ("a", 60), ("b", 60)]:
        assert rates.take(name, n, 0.0)
    # Of the three, c alone is full at 2.0; the other two were to be full before it when they came.
    assert rates.take("d", 1, 2.0)
    assert (len(rates), rates.evicted) == (3, 0)
    assert not rates.take("a", 60, 2.0)
    assert rates.take("e", 1, 2.0)
    assert (len(rates), rates.evicted) == (3, 1)


def test_what_is_refused_takes_no_place() -> None:
    rates = ByteRates(1.0, 10.0, capacity=2)
    assert not rates.take("a", 11, 0.0)
    assert len(rates) == 0
    assert rates.take("a", 10, 0.0)


@given(st.floats(1e3, 1e12), st.floats(1e-3, 1e6), st.floats(0, 1e9))
def test_a_whole_burst_is_allowed_whatever_the_floats_are(rate: float, seconds: float, now: float) -> None:
    burst = rate * seconds
    rates = ByteRates(rate, burst, capacity=1)
    assert rates.take("a", burst, now)
    assert not rates.take("a", burst, now)


@pytest.mark.parametrize(
    ("rate", "burst", "capacity"),
    [
        (0, 1, 1),
        (-1, 1, 1),
        (math.inf, 1, 1),
        (math.nan, 1, 1),
        (1, 0, 1),
        (1, math.inf, 1),
        (1, math.nan, 1),
        (1, 1, 0),
    ],
)
def test_numbers_out_of_range_are_refused(rate: float, burst: float, capacity: int) -> None:
    with pytest.raises(ValueError, match=r"^expected a rate above 0"):
        ByteRates(rate, burst, capacity)
