"""The queue of messages that wait for a session."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_relay.limits import Limits
from trio_relay.overlay.session.waiting import WaitingMessage, WaitingMessages
from trio_relay.wire.frame import Kind

from .support import node_id, numbered

OVERHEAD = 128
"""What a message costs beside its payload."""


def make_queue(messages: int = 16, size: int = 10_000) -> tuple[WaitingMessages, Counter[str]]:
    counts: Counter[str] = Counter()
    return WaitingMessages(Limits(session_waiting=messages, session_waiting_bytes=size), counts), counts


def make_message(to: int, number: int = 0, size: int = 10, until: float = 10.0) -> WaitingMessage:
    return WaitingMessage(Kind.DATA, node_id(to), numbered(number), bytes(size), 0, until)


def test_in_order_and_only_those_of_one_receiver() -> None:
    queue, counts = make_queue()
    for number in range(6):
        queue.add(make_message(number % 2, number))
    assert queue.waits_for(node_id(0))
    assert queue.waits_for(node_id(1))
    assert not queue.waits_for(node_id(2))
    assert [message.message_id for message in queue.take(node_id(0))] == [numbered(number) for number in (0, 2, 4)]
    assert not queue.waits_for(node_id(0))
    assert (len(queue), queue.bytes) == (3, 3 * (10 + OVERHEAD))
    assert list(queue.take(node_id(0))) == list(queue.take(node_id(2))) == []
    assert [message.message_id for message in queue.take(node_id(1))] == [numbered(number) for number in (1, 3, 5)]
    assert (len(queue), queue.bytes, counts.total()) == (0, 0, 0)


def test_one_receiver_takes_a_quarter_of_the_places() -> None:
    queue, counts = make_queue(messages=16)
    for number in range(4):
        assert queue.has_room(node_id(0), 10)
        queue.add(make_message(0, number))
    assert not queue.has_room(node_id(0), 10)
    queue.add(make_message(0, 4))
    assert counts["session_waiting_full"] == 1
    assert len(queue) == 4
    for to in (1, 2, 3):
        for number in range(4):
            queue.add(make_message(to, number))
    assert len(queue) == 16
    assert not queue.has_room(node_id(4), 0)
    queue.add(make_message(4))
    assert counts["session_waiting_full"] == 2
    assert not queue.waits_for(node_id(4))
    # Who leaves makes room.
    assert len(list(queue.take(node_id(2)))) == 4
    assert queue.has_room(node_id(4), 0)
    assert not queue.has_room(node_id(0), 0)


def test_one_receiver_takes_a_quarter_of_the_bytes() -> None:
    queue, counts = make_queue(messages=1000, size=40_000)
    queue.add(make_message(0, size=5000))
    room = 10_000 - 5000 - OVERHEAD - OVERHEAD
    assert queue.has_room(node_id(0), room)
    assert not queue.has_room(node_id(0), room + 1)
    queue.add(make_message(0, size=room + 1))
    assert counts["session_waiting_full"] == 1
    queue.add(make_message(0, size=room))
    assert queue.bytes == 10_000
    assert not queue.has_room(node_id(0), 0)
    assert queue.has_room(node_id(1), 5000)


def test_one_message_may_be_larger_than_a_quarter() -> None:
    """The largest message can be sent, whatever the limits; a second one has to wait for it."""
    queue, counts = make_queue(messages=2, size=40_000)
    assert queue.has_room(node_id(0), 30_000)
    queue.add(make_message(0, size=30_000))
    assert len(queue) == 1
    assert not queue.has_room(node_id(0), 0)
    assert not queue.has_room(node_id(1), 40_000 - 30_000 - 2 * OVERHEAD + 1)
    assert queue.has_room(node_id(1), 40_000 - 30_000 - 2 * OVERHEAD)
    assert not queue.has_room(node_id(1), 40_000)
    assert counts.total() == 0


def test_what_waits_too_long_is_dropped_and_counted() -> None:
    queue, counts = make_queue()
    assert queue.next_deadline() == float("inf")
    for number, until in enumerate((10.0, 11.0, 12.0)):
        queue.add(make_message(number % 2, number, until=until))
    assert queue.next_deadline() == 10.0
    queue.expire(9.99)
    assert len(queue) == 3
    queue.expire(10.0)
    assert (len(queue), counts["session_waiting_expired"], queue.next_deadline()) == (2, 1, 11.0)
    queue.expire(11.5)
    assert (len(queue), counts["session_waiting_expired"]) == (1, 2)
    assert not queue.waits_for(node_id(1))
    assert [message.message_id for message in queue.take(node_id(0))] == [numbered(2)]
    queue.expire(100.0)
    assert (len(queue), queue.bytes, counts["session_waiting_expired"]) == (0, 0, 2)
    assert queue.next_deadline() == float("inf")


@pytest.mark.parametrize("messages", [1, 2, 3])
def test_a_queue_that_is_nearly_nothing_still_has_a_place(messages: int) -> None:
    queue, _ = make_queue(messages=messages)
    queue.add(make_message(0))
    assert len(queue) == 1
    assert not queue.has_room(node_id(0), 0)
    assert queue.has_room(node_id(1), 0) is (messages > 1)


operations = st.lists(
    st.tuples(st.sampled_from(["add", "add", "add", "take", "expire"]), st.integers(0, 5), st.integers(0, 3000)),
    max_size=60,
)


@given(operations)
@settings(max_examples=50)
def test_the_bounds_hold_and_every_message_is_accounted_for(steps: list[tuple[str, int, int]]) -> None:
    queue, counts = make_queue(messages=12, size=8000)
    added = taken = 0
    for now, (what, to, size) in enumerate(steps):
        if what == "add":
            before, room = len(queue), queue.has_room(node_id(to), size)
            queue.add(make_message(to, now, size, until=now + 10.0))
            assert len(queue) - before == room
            added += 1
        elif what == "take":
            taken += len(list(queue.take(node_id(to))))
        else:
            queue.expire(float(now))
        assert len(queue) <= 12
        assert 0 <= queue.bytes <= 8000
        assert (queue.bytes == 0) is (len(queue) == 0)
        assert added == taken + len(queue) + counts["session_waiting_full"] + counts["session_waiting_expired"]
    left = [message for to in range(6) for message in queue.take(node_id(to))]
    assert len(left) == added - taken - counts["session_waiting_full"] - counts["session_waiting_expired"]
    assert (len(queue), queue.bytes) == (0, 0)
