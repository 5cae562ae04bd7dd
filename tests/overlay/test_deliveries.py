from __future__ import annotations

import math
from typing import cast

import pytest

from trio_relay.exceptions import DeliveryError, MailboxFull, NoAcknowledgement, PeerUnreachable
from trio_relay.overlay.deliveries import Deliveries
from trio_relay.overlay.session.copies import Copy
from trio_relay.overlay.session.session import Session

from .support import node_id

ID, TO = b"message1", node_id(1)


def started(deadline: float = 30.0) -> Deliveries:
    deliveries = Deliveries()
    deliveries.add(ID, TO, b"payload", 1, deadline, 0.0)
    return deliveries


def attempt(deliveries: Deliveries, now: float, *, left: bool = True, sealed: bool = True) -> int:
    """Sends what is due; how many that were."""
    count = 0
    for message_id, pending in deliveries.due(now):
        if sealed:
            pending.copies[pending.attempt + 1] = Copy(cast(Session, None), count, 0)
        deliveries.attempted(message_id, pending, left, now)
        count += 1
    return count


def error(deliveries: Deliveries) -> DeliveryError:
    pending = deliveries.remove(ID)
    assert pending is not None
    return deliveries.error(pending)


def test_attempts_follow_at_growing_intervals_up_to_eight_seconds() -> None:
    deliveries = started(deadline=100.0)
    times = []
    for _ in range(7):
        now = deliveries.next_deadline()
        assert attempt(deliveries, now) == 1
        times.append(now)
    assert times == [0.0, 1.0, 3.0, 7.0, 15.0, 23.0, 31.0]


def test_the_deadline_comes_before_the_next_attempt() -> None:
    deliveries = started(deadline=2.0)
    attempt(deliveries, 0.0)
    attempt(deliveries, 1.0)
    assert deliveries.next_deadline() == 2.0


def test_an_acknowledgement_ends_it_with_the_round_trip_of_its_attempt() -> None:
    deliveries = started()
    attempt(deliveries, 0.0)
    attempt(deliveries, 1.0)
    done = deliveries.acknowledged(ID, TO, 1, 3, 1.25)
    assert done is not None
    assert (done.message_id, done.rtt, done.hops) == (ID, 0.25, 3)
    assert (len(deliveries), deliveries.bytes) == (0, 0)
    assert deliveries.next_deadline() == float("inf")


def test_a_late_acknowledgement_of_the_first_attempt_counts() -> None:
    deliveries = started()
    attempt(deliveries, 0.0)
    attempt(deliveries, 1.0)
    done = deliveries.acknowledged(ID, TO, 0, 3, 1.25)
    assert done is not None
    assert done.rtt == 1.25


@pytest.mark.parametrize(
    ("message_id", "source", "number"), [(b"message2", TO, 0), (ID, node_id(2), 0), (ID, TO, 1), (ID, TO, 255)]
)
def test_an_answer_to_nothing_changes_nothing(message_id: bytes, source: object, number: int) -> None:
    deliveries = started()
    attempt(deliveries, 0.0)
    assert deliveries.acknowledged(message_id, source, number, 1, 0.1) is None  # type: ignore[arg-type]
    assert not deliveries.busy(message_id, source, number, 0.1)  # type: ignore[arg-type]
    assert len(deliveries) == 1
    assert deliveries.next_deadline() == 1.0


def test_a_hint_brings_the_next_attempt_forward_but_never_puts_it_off() -> None:
    deliveries = started()
    attempt(deliveries, 0.0)
    assert deliveries.unreachable(ID, TO, 0, 0.1)
    assert deliveries.next_deadline() == pytest.approx(0.35)
    attempt(deliveries, 0.35)
    assert deliveries.unreachable(ID, TO, 1, 2.3)
    assert attempt(deliveries, 2.35) == 1


@pytest.mark.parametrize(("target", "number"), [(node_id(2), 0), (TO, 1)])
def test_a_hint_about_something_else_is_none(target: bytes, number: int) -> None:
    deliveries = started()
    attempt(deliveries, 0.0)
    assert not deliveries.unreachable(ID, target, number, 0.1)
    assert deliveries.next_deadline() == 1.0


def test_hints_without_end_do_not_pile_up() -> None:
    deliveries = started()
    attempt(deliveries, 0.0)
    for _ in range(1000):
        deliveries.unreachable(ID, TO, 0, 0.1)
    assert attempt(deliveries, 0.35) == 1
    assert attempt(deliveries, 0.35) == 0


def test_busy_then_sent_again() -> None:
    deliveries = started()
    attempt(deliveries, 0.0)
    assert deliveries.busy(ID, TO, 0, 0.1)
    assert deliveries.busy(ID, TO, 0, 0.4)  # another copy of that attempt: it changes nothing
    assert not deliveries.busy(ID, TO, 1, 0.4)
    assert attempt(deliveries, 0.6) == 1


# What is raised in the end


def test_no_answer_leaves_the_outcome_unknown() -> None:
    deliveries = started()
    attempt(deliveries, 0.0)
    attempt(deliveries, 1.0)
    found = error(deliveries)
    assert isinstance(found, NoAcknowledgement)
    assert found.outcome == "unknown"
    assert "2 attempts" in str(found)


def test_what_never_left_was_not_delivered() -> None:
    deliveries = started()
    attempt(deliveries, 0.0, left=False)
    found = error(deliveries)
    assert isinstance(found, PeerUnreachable)
    assert found.outcome == "not_delivered"


def test_a_relays_word_is_no_proof() -> None:
    deliveries = started()
    attempt(deliveries, 0.0)
    deliveries.unreachable(ID, TO, 0, 0.1)
    found = error(deliveries)
    assert isinstance(found, PeerUnreachable)
    assert found.outcome == "unknown"


@pytest.mark.parametrize(("sealed", "outcome"), [(True, "not_delivered"), (False, "unknown")])
def test_refused_each_time_was_not_delivered(sealed: bool, outcome: str) -> None:
    """If it was sealed: a receiver that refused one copy of an attempt takes no other then."""
    deliveries = started()
    attempt(deliveries, 0.0, sealed=sealed)
    deliveries.busy(ID, TO, 0, 0.1)
    attempt(deliveries, 0.6, sealed=sealed)
    deliveries.busy(ID, TO, 1, 0.7)
    found = error(deliveries)
    assert isinstance(found, MailboxFull)
    assert found.outcome == outcome


def test_one_attempt_without_an_answer_leaves_it_unknown() -> None:
    deliveries = started()
    attempt(deliveries, 0.0)
    attempt(deliveries, 1.0)
    deliveries.busy(ID, TO, 1, 1.1)
    found = error(deliveries)
    assert isinstance(found, MailboxFull)
    assert found.outcome == "unknown"


def test_no_copy_is_sent_when_the_receiver_may_have_forgotten_the_first() -> None:
    deliveries = started(deadline=math.inf)
    assert attempt(deliveries, 50.0) == 1
    times: list[float] = []
    while (now := deliveries.next_deadline()) < 158.0:
        assert attempt(deliveries, now) == 1
        times.append(now)
    assert len(times) == 14
    assert 140.0 < max(times) < 150.0
    assert now == 158.0
    assert [pending.deadline for _, pending in deliveries.due(now)] == [158.0]


def test_what_never_left_is_tried_until_its_deadline() -> None:
    deliveries = started(deadline=1000.0)
    times: list[float] = []
    while (now := deliveries.next_deadline()) < 1000.0:
        assert attempt(deliveries, now, left=False) == 1
        times.append(now)
    assert 990.0 < max(times) < 1000.0
