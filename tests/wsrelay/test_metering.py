from __future__ import annotations

import math
import tracemalloc
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from trio_relay.wsrelay.metering import KeyTraffic, TrafficMeter, Window

keys = st.sampled_from("abcde")
amounts = st.integers(0, 1000)


class NaiveKey:
    """One key's windows as plain lists, rolled one at a time."""

    def __init__(self, now: float) -> None:
        self.connections = 0
        self.current: list[float] = [0, 0, now]
        self.history: list[tuple[float, ...]] = []
        self.seen_ago = 0
        """Windows that have ended since the key was last seen."""

    def roll(self, now: float, window: float, most: int) -> None:
        while now - self.current[2] >= window:
            self.history.append(tuple(self.current))
            self.history = self.history[len(self.history) - most :] if len(self.history) > most else self.history
            self.current = [0, 0, self.current[2] + window]
            self.seen_ago = 0 if self.connections else self.seen_ago + 1

    def is_quiet(self, most: int) -> bool:
        traffic = any(window[0] or window[1] for window in [*self.history, self.current])
        return not self.connections and not traffic and self.seen_ago > most


class MeterMachine(RuleBasedStateMachine):
    """A meter against the naive keys; the numbers are such that no float rounds."""

    @initialize(window=st.sampled_from([0.5, 1.0, 60.0]), history=st.integers(0, 3), most=st.integers(1, 4))
    def begin(self, window: float, history: int, most: int) -> None:
        self.window, self.history, self.most = window, history, most
        self.now = 1000.0
        self.meter = TrafficMeter(window, history, self.now, max_keys=most)
        self.model: dict[str, NaiveKey] = {}
        self.beyond: Counter[str] = Counter()
        self.unlisted = self.total_in = self.total_out = 0

    def roll(self) -> None:
        for key, naive in list(self.model.items()):
            naive.roll(self.now, self.window, self.history)
            if naive.is_quiet(self.history):
                del self.model[key]

    def seen(self, key: str) -> NaiveKey | None:
        self.roll()
        if key not in self.model:
            if len(self.model) >= self.most or self.beyond[key]:
                self.unlisted += 1
                return None
            self.model[key] = NaiveKey(self.now)
        return self.model[key]

    @rule(windows=st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.25, 2.0, 5.0, 1000.0]))
    def time_passes(self, windows: float) -> None:
        self.now += windows * self.window

    @rule(key=keys, n=amounts, out=st.booleans(), by_handle=st.booleans())
    def traffic(self, key: str, n: int, out: bool, by_handle: bool) -> None:
        if by_handle:
            account = self.meter.account(key, self.now)
            (account.add_out if out else account.add_in)(n, self.now)
        else:
            (self.meter.record_out if out else self.meter.record_in)(key, n, self.now)
        naive = self.seen(key)
        if naive is not None:
            naive.current[out] += n
            naive.seen_ago = 0 if n else naive.seen_ago
        self.total_in += 0 if out else n
        self.total_out += n if out else 0

    @rule(key=keys)
    def a_connection_begins(self, key: str) -> None:
        self.meter.add_connection(key, self.now)
        naive = self.seen(key)
        if naive is None:
            self.beyond[key] += 1
        else:
            naive.connections += 1

    @rule(key=keys)
    def a_connection_ends(self, key: str) -> None:
        self.meter.remove_connection(key, self.now)
        self.roll()
        if self.beyond[key]:
            self.beyond[key] -= 1
        elif key in self.model and self.model[key].connections:
            self.model[key].connections -= 1
            self.model[key].seen_ago = 0

    @rule()
    def statistics_agree(self) -> None:
        self.roll()
        expected = {
            key: (naive.connections, tuple(naive.current), tuple(naive.history)) for key, naive in self.model.items()
        }
        found = self.meter.statistics(self.now)
        assert found == expected
        assert list(found) == list(expected)

    @rule(most=st.integers(0, 4))
    def busiest_agree(self, most: int) -> None:
        self.roll()
        busy = [(sum(naive.current[:2]), key) for key, naive in self.model.items() if sum(naive.current[:2])]
        expected = [
            (key, (self.model[key].connections, tuple(self.model[key].current), ()))
            for _, key in sorted(busy, reverse=True)[:most]
        ]
        assert list(self.meter.busiest(most, self.now).items()) == expected

    @invariant()
    def totals_agree(self) -> None:
        assert (self.meter.total_in, self.meter.total_out) == (self.total_in, self.total_out)
        assert self.meter.unlisted == self.unlisted

    def teardown(self) -> None:
        self.statistics_agree()


MeterMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=25)
TestMeter = MeterMachine.TestCase


def test_a_window_rolls_when_it_is_exactly_its_length_old() -> None:
    meter = TrafficMeter(3600.0, 24, 0.0)
    meter.record_in("k", 5, 100.0)
    meter.record_in("k", 6, 3699.5)
    meter.record_out("k", 7, 3700.0)
    meter.record_out("k", 8, 3700.0 + 3 * 3600)
    assert meter.statistics(3700.0 + 3 * 3600) == {
        "k": KeyTraffic(
            connections=0,
            current=Window(0, 8, 3700.0 + 3 * 3600),
            history=(Window(11, 0, 100.0), Window(0, 7, 3700.0), Window(0, 0, 7300.0), Window(0, 0, 10900.0)),
        )
    }


def test_the_busiest_are_those_of_the_running_window() -> None:
    meter = TrafficMeter(60.0, 24, 0.0)
    for key, begun, received, sent in [("a", 0.0, 9000, 9000), ("b", 50.0, 3, 0), ("c", 50.0, 1, 7), ("d", 50.0, 0, 0)]:
        meter.add_connection(key, begun)
        meter.record_in(key, received, begun)
        meter.record_out(key, sent, begun)
    assert list(meter.busiest(10, 59.0)) == ["a", "c", "b"]
    assert meter.busiest(2, 60.0) == {
        "c": KeyTraffic(1, Window(1, 7, 50.0), ()),
        "b": KeyTraffic(1, Window(3, 0, 50.0), ()),
    }
    assert meter.busiest(10, 110.0) == {}


@given(
    st.floats(0.001, 1e6),
    st.floats(0, 2e9),
    st.lists(st.floats(0, 1e7), min_size=1, max_size=5),
    st.integers(0, 4),
)
def test_windows_contain_now_whatever_the_floats_are(
    window: float, begin: float, steps: list[float], most: int
) -> None:
    meter = TrafficMeter(window, most, begin)
    meter.add_connection("k", begin)
    now = begin
    for step in steps:
        now += step
        meter.record_in("k", 1, now)
        traffic = meter.statistics(now)["k"]
        rounding = 4 * math.ulp(now)
        assert traffic.current.start <= now + rounding
        assert now < traffic.current.start + window + rounding
        assert traffic.current.bytes_in >= 1
        starts = [past.start for past in traffic.history] + [traffic.current.start]
        assert len(starts) <= most + 1
        assert all(b - a == pytest.approx(window, abs=rounding) for a, b in pairwise(starts))
    assert meter.total_in == len(steps)


@pytest.mark.parametrize(
    ("window", "begin", "now"), [(0.7, 0.0, 223.99999999999997), (60.1, 234640.43487103848, 237284.83487103847)]
)
def test_a_division_that_rounds_to_the_next_window_is_put_right(window: float, begin: float, now: float) -> None:
    meter = TrafficMeter(window, 0, begin)
    meter.add_connection("k", begin).add_in(1, begin)
    meter.record_in("k", 2, now)
    current = meter.statistics(now)["k"].current
    index = round((current.start - begin) / window)
    assert current == (2, 0, begin + index * window)
    assert begin + index * window <= now < begin + (index + 1) * window


def test_a_handle_goes_on_as_long_as_a_connection_lives() -> None:
    meter = TrafficMeter(1.0, 2, 0.0)
    account = meter.add_connection("k", 0.0)
    assert list(meter.statistics(1e9)) == ["k"]
    account.add_in(3, 1e9)
    assert meter.account("k", 1e9) is account
    meter.remove_connection("k", 1e9)
    account.add_out(4, 1e9)
    assert meter.statistics(1e9)["k"] == KeyTraffic(
        0, Window(3, 4, 1e9), (Window(0, 0, 1e9 - 2), Window(0, 0, 1e9 - 1))
    )
    assert list(meter.statistics(1e9 + 2)) == ["k"]
    assert meter.statistics(1e9 + 3) == {}
    assert (meter.total_in, meter.total_out) == (3, 4)


def test_a_key_stays_as_long_as_its_history_has_traffic() -> None:
    meter = TrafficMeter(1.0, 2, 0.0)
    meter.account("k", 0.0)
    meter.record_in("k", 5, 1.0)
    assert meter.statistics(3.0)["k"].history == (Window(5, 0, 1.0), Window(0, 0, 2.0))
    assert meter.statistics(3.75)["k"].history == (Window(5, 0, 1.0), Window(0, 0, 2.0))
    assert meter.statistics(4.0) == {}


def test_a_long_idle_time_costs_no_more_than_the_history() -> None:
    meter = TrafficMeter(0.001, 24, 0.0)
    account = meter.add_connection("k", 0.0)
    account.add_in(1, 0.0)
    account.add_in(2, 1e9)  # 10**12 windows later: one at a time would take days
    traffic = meter.statistics(1e9)["k"]
    assert traffic.current.bytes_in == 2
    assert [past[:2] for past in traffic.history] == [(0, 0)] * 24


def test_keys_beyond_the_most_are_counted_and_share_one_account() -> None:
    meter = TrafficMeter(60.0, 1, 0.0, max_keys=2)
    for key in "abcd":
        meter.add_connection(key, 0.0).add_in(10, 0.0)
    meter.record_in("c", 5, 0.0)
    assert list(meter.statistics(0.0)) == ["a", "b"]
    assert (meter.total_in, meter.unlisted) == (45, 3)
    meter.remove_connection("a", 0.0)
    assert list(meter.statistics(120.0)) == ["b"]
    # There is room again, but c's connection is in the shared account until it ends.
    assert meter.add_connection("c", 120.0) is meter.account("d", 120.0)
    meter.remove_connection("c", 120.0)
    meter.remove_connection("c", 120.0)
    meter.add_connection("c", 120.0)
    assert list(meter.statistics(120.0)) == ["b", "c"]


def test_a_flood_of_keys_takes_bounded_memory_and_is_forgotten() -> None:
    meter = TrafficMeter(60.0, 24, 0.0, max_keys=2000)
    tracemalloc.start()
    try:
        for number in range(6000):
            meter.add_connection(f"{number:08}", 0.0).add_in(1, 0.0)
            meter.remove_connection(f"{number:08}", 0.0)
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(meter.statistics(60.0 * 24)) == 2000
    assert taken < 2000 * 1500
    # A key that comes later finds room though one call forgets only a part of them.
    assert meter.add_connection("new", 60.0 * 25) is meter.account("new", 60.0 * 25)
    assert list(meter.statistics(60.0 * 25)) == ["new"]
    assert meter.total_in == 6000


@pytest.mark.parametrize(
    ("window", "history", "max_keys"),
    [(0, 1, 1), (-1, 1, 1), (math.inf, 1, 1), (math.nan, 1, 1), (1, -1, 1), (1, 1, -1)],
)
def test_numbers_out_of_range_are_refused(window: float, history: int, max_keys: int) -> None:
    with pytest.raises(ValueError, match=r"^expected a"):
        TrafficMeter(window, history, 0.0, max_keys=max_keys)
