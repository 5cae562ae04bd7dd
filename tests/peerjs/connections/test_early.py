"""Messages that come before their connection: kept in order, bounded, forgotten in time."""

from __future__ import annotations

from collections import Counter

from trio_relay.peerjs.connections.early import EarlyMessages
from trio_relay.peerjs.messages import Answer, CandidateMessage

ONE = "alice", "dc_1"
TWO = "alice", "dc_2"


def candidate(id: str) -> CandidateMessage:
    return CandidateMessage("data", id, None)


def test_they_come_back_once_in_their_order() -> None:
    early = EarlyMessages(10, Counter())
    kept: list[Answer | CandidateMessage] = [candidate("dc_1"), Answer("data", "dc_1", "sdp"), candidate("dc_1")]
    for message in kept:
        early.keep(ONE, message, 0.0)
    early.keep(TWO, candidate("dc_2"), 0.0)
    assert early.take(ONE, 1.0) == kept
    assert early.take(ONE, 1.0) == []
    assert len(early) == 1


def test_those_of_the_oldest_connection_make_room() -> None:
    counts = Counter[str]()
    early = EarlyMessages(3, counts)
    for key in ONE, ONE, TWO, TWO:
        early.keep(key, candidate(key[1]), 0.0)
    assert early.take(ONE, 1.0) == []
    assert len(early.take(TWO, 1.0)) == 2
    assert counts["early_messages_full"] == 2


def test_one_connection_has_a_bound_of_its_own() -> None:
    counts = Counter[str]()
    early = EarlyMessages(1000, counts)
    for _ in range(70):
        early.keep(ONE, candidate("dc_1"), 0.0)
    assert len(early.take(ONE, 1.0)) == 64
    assert counts["early_messages_full"] == 6


def test_they_are_forgotten_after_a_time() -> None:
    counts = Counter[str]()
    early = EarlyMessages(10, counts)
    early.keep(ONE, candidate("dc_1"), 0.0)
    assert early.take(ONE, 30.0) == []
    assert counts["early_messages_expired"] == 1
    assert len(early) == 0
