"""The table of half-open sessions."""

from __future__ import annotations

from collections import Counter

from trio_relay.overlay.session.half_open import HALF_OPEN_FOR, HalfOpenTable

from .support import make_half_open, node_id, numbered

NEAR, FAR = node_id(1), node_id(2)


def make_table(capacity: int = 4) -> tuple[HalfOpenTable, Counter[str]]:
    counts: Counter[str] = Counter()
    return HalfOpenTable(capacity, counts), counts


def test_found_by_our_index_and_by_the_openers() -> None:
    table, _ = make_table()
    half = make_half_open(node_id(10), numbered(7))
    table.add(half, NEAR, 0.0)
    assert table.get(half.index) is half
    assert table.of(node_id(10), numbered(7)) is half
    assert table.of(node_id(11), numbered(7)) is None
    assert table.of(node_id(10), numbered(8)) is None
    assert table.get(numbered(7)) is None
    table.pop(half.index)
    assert table.get(half.index) is table.of(node_id(10), numbered(7)) is None
    assert len(table) == 0


def test_another_open_with_the_same_index_is_another_opening() -> None:
    """Both stay; neither takes the other's place for the opener's proof."""
    table, _ = make_table()
    first = make_half_open(node_id(10), numbered(7))
    second = make_half_open(node_id(10), numbered(7), ephemeral=b"\1" * 32)
    table.add(first, NEAR, 0.0)
    table.add(second, FAR, 0.0)
    assert table.of(node_id(10), numbered(7)) is second
    assert table.get(first.index) is first
    table.pop(first.index)
    assert table.of(node_id(10), numbered(7)) is second
    table.pop(second.index)
    assert table.of(node_id(10), numbered(7)) is None


def test_the_oldest_of_the_link_that_has_most_makes_room() -> None:
    table, counts = make_table(capacity=5)
    via = [NEAR, FAR, FAR, NEAR, FAR]
    halves = [make_half_open(node_id(10 + number), numbered(number)) for number in range(7)]
    for number, link in enumerate(via):
        table.add(halves[number], link, float(number))
    assert counts["half_open_full"] == 0
    table.add(halves[5], NEAR, 5.0)
    assert [table.get(half.index) is half for half in halves] == [True, False, True, True, True, True, False]
    assert len(table) == 5
    assert counts["half_open_full"] == 1
    # Now the other link has most.
    table.add(halves[6], FAR, 6.0)
    assert [table.get(half.index) is half for half in halves] == [False, False, True, True, True, True, True]
    assert table.of(node_id(10), numbered(0)) is None


def test_a_flood_over_one_link_leaves_those_of_others() -> None:
    table, _ = make_table(capacity=20)
    honest = [make_half_open(node_id(10 + number), numbered(number)) for number in range(5)]
    for half in honest:
        table.add(half, NEAR, 0.0)
    for number in range(1000):
        table.add(make_half_open(node_id(100), numbered(number)), FAR, 0.0)
    assert all(table.get(half.index) is half for half in honest)
    assert len(table) == 20


def test_an_answer_is_repeated_four_times_a_second_at_most() -> None:
    table, _ = make_table()
    half = make_half_open(node_id(10), numbered(7), now=1.0)
    table.add(half, NEAR, 1.0)
    times = [1.0, 1.1, 1.2, 1.25, 1.3, 1.45, 1.5, 5.0, 5.1, 5.25]
    assert [now for now in times if table.may_repeat(half, now)] == [1.25, 1.5, 5.0, 5.25]


def test_rates_are_of_one_session() -> None:
    table, _ = make_table()
    one, other = (make_half_open(node_id(number), numbered(7)) for number in (10, 11))
    for half in (one, other):
        table.add(half, NEAR, 0.0)
    assert table.may_repeat(one, 1.0)
    assert table.may_repeat(other, 1.0)
    assert not table.may_repeat(one, 1.1)


def test_half_open_for_ten_seconds() -> None:
    assert HALF_OPEN_FOR == 10.0
    table, counts = make_table()
    assert table.next_deadline() == float("inf")
    first, second = (make_half_open(node_id(number), numbered(7)) for number in (10, 11))
    table.add(first, NEAR, 0.0)
    table.add(second, NEAR, 3.0)
    assert table.next_deadline() == 10.0
    table.expire(9.99)
    assert len(table) == 2
    table.expire(10.0)
    assert table.get(first.index) is None
    assert table.of(node_id(10), numbered(7)) is None
    assert table.get(second.index) is second
    assert counts["half_open_expired"] == 1
    assert table.next_deadline() == 13.0
    table.expire(100.0)
    assert len(table) == 0
    assert counts["half_open_expired"] == 2
