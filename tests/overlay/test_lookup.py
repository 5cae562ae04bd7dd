from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trio_relay.overlay.lookup import Lookup
from trio_relay.wire.ids import NodeId

from .support import by_distance, node_id

TARGET = node_id(0)


def message(number: int) -> bytes:
    return number.to_bytes(8, "big")


def test_it_asks_the_three_closest_at_once() -> None:
    lookup = Lookup(TARGET, 5.0, None)
    for number in range(1, 20):
        lookup.learn(node_id(number))
    assert lookup.next_queries() == [node_id(n) for n in by_distance(range(1, 20), TARGET)[:3]]


def test_closer_relays_are_asked_until_the_three_closest_have_answered() -> None:
    """Everybody knows only the next five closer ones, as in a large network."""
    ordered = [node_id(n) for n in by_distance(range(1, 100), TARGET)]
    lookup = Lookup(TARGET, 5.0, None)
    lookup.learn(ordered[-1])
    asked = 0
    while not lookup.finished:
        for relay in lookup.next_queries():
            asked += 1
            lookup.sent(message(asked), relay, 0.0)
        sent, (relay, _) = next(iter(lookup.asked.items()))
        assert lookup.answered(sent, relay)
        place = ordered.index(relay)
        for known in ordered[max(0, place - 5) : place]:
            lookup.learn(known)
    assert lookup.closest(3) == ordered[:3]
    assert asked < 70


def test_an_answer_counts_once_and_only_from_whom_was_asked() -> None:
    lookup = Lookup(TARGET, 5.0, None)
    lookup.learn(node_id(1))
    lookup.sent(message(1), node_id(1), 0.0)
    assert not lookup.answered(message(1), node_id(2))
    assert not lookup.answered(message(2), node_id(1))
    assert lookup.answered(message(1), node_id(1))
    assert not lookup.answered(message(1), node_id(1))


def test_a_relay_without_an_answer_counts_as_dead_and_the_next_is_asked() -> None:
    lookup = Lookup(TARGET, 5.0, None)
    for number in range(1, 5):
        lookup.learn(node_id(number))
    ordered = [node_id(n) for n in by_distance(range(1, 5), TARGET)]
    for number, relay in enumerate(lookup.next_queries()):
        lookup.sent(message(number), relay, 0.0)
    assert lookup.next_deadline() == 1.5
    assert lookup.overdue(1.4) == []
    assert len(lookup.overdue(1.5)) == 3
    lookup.failed(message(0))
    lookup.learn(ordered[0])
    assert lookup.next_queries() == [ordered[3]]


def test_a_near_lookup_asks_nobody_that_it_learns_of() -> None:
    lookup = Lookup(TARGET, 5.0, None, near=True)
    lookup.learn(node_id(1))
    lookup.sent(message(1), node_id(1), 0.0)
    lookup.answered(message(1), node_id(1))
    lookup.learn(node_id(2))
    assert lookup.finished


@given(st.lists(st.tuples(st.sampled_from(["learn", "send", "answer", "fail"]), st.integers(1, 200)), max_size=300))
def test_whatever_answers_come_it_stays_bounded(steps: list[tuple[str, int]]) -> None:
    lookup = Lookup(TARGET, 5.0, None)
    learned: set[NodeId] = set()
    for number, (step, which) in enumerate(steps):
        if step == "learn":
            lookup.learn(node_id(which))
            learned.add(node_id(which))
        elif step == "send":
            for relay in lookup.next_queries():
                lookup.sent(message(number * 10 + len(lookup.asked)), relay, 0.0)
        elif lookup.asked:
            sent = list(lookup.asked)[which % len(lookup.asked)]
            if step == "answer":
                lookup.answered(sent, lookup.asked[sent][0])
            else:
                lookup.failed(sent)
        assert len(lookup.asked) <= 3
        queries = lookup.next_queries()
        assert len(queries) + len(lookup.asked) <= 3
        assert set(queries) <= learned
        assert lookup.finished == (not queries and not lookup.asked)
