from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_relay.overlay.directory import Directory
from trio_relay.wire.ids import NodeId, distance
from trio_relay.wire.record import PeerRecord

from .support import WALL, by_distance, node_id, record, verify

OWN = node_id(0)
LEGACY = NodeId(b"legacy" + bytes(14))


def make(capacity: int = 100, neighbours: Collection[bytes] = ()) -> Directory:
    return Directory(OWN, capacity=capacity, lifetime=3600.0, verify=verify, neighbours=neighbours)


def test_a_signed_record_is_kept() -> None:
    directory = make()
    assert directory.add_untrusted([record(1).raw], WALL, 0) == [record(1)]
    assert directory.get(node_id(1), WALL) == record(1)
    assert not directory.counts


@pytest.mark.parametrize(
    "raw",
    [
        record(1).raw[:-1] + b"?",
        record(1).raw[:-64] + bytes(64),
        record(1).raw[:39] + record(2).raw[39:],
        b"",
        bytes(200),
        record(1).raw + b"\0",
    ],
    ids=["signature", "unsigned", "foreign key", "empty", "zeros", "longer"],
)
def test_what_its_id_did_not_sign_is_refused_and_counted(raw: bytes) -> None:
    directory = make()
    assert directory.add_untrusted([raw, record(3).raw], WALL, 0) == [record(3)]
    assert directory.counts == {"record_invalid": 1}
    assert directory.get(node_id(1), WALL) is None


@given(st.binary(max_size=300))
def test_any_bytes_are_counted_at_most(raw: bytes) -> None:
    directory = make()
    assert directory.add_untrusted([raw], WALL, 0) == []
    assert directory.counts == {"record_invalid": 1}


@pytest.mark.parametrize("expiry", [WALL, WALL - 1, WALL + 3600 + 301])
def test_expired_and_too_long_lived_records_are_refused_and_counted(expiry: float) -> None:
    directory = make()
    assert not directory.add_untrusted([record(1, expiry=expiry).raw], WALL, 0)
    assert directory.counts == {"record_expired": 1}


def test_stale_records_are_refused_and_counted_and_known_ones_are_no_news() -> None:
    directory = make()
    newer = record(1, sequence=7)
    directory.add(newer, WALL, 0)
    assert not directory.add(record(1, sequence=6), WALL, 0)
    assert directory.counts == {"record_stale": 1}
    assert not directory.add_untrusted([newer.raw], WALL, 0)
    assert directory.counts == {"record_stale": 1}
    assert directory.get(node_id(1), WALL) == newer


def test_our_own_record_is_not_kept() -> None:
    directory = make()
    assert not directory.add(record(0), WALL, 0)
    assert len(directory) == 0


def test_records_end_at_their_expiry() -> None:
    directory = make()
    directory.add(record(1, expiry=WALL + 10), WALL, 0)
    directory.add(record(2, expiry=WALL + 20, legacy_id=LEGACY), WALL, 0)
    assert directory.get(node_id(1), WALL + 10) is None
    assert directory.relays(WALL + 10) == []
    assert directory.answer(node_id(1), WALL + 10, None, node_id(9)) == []
    assert len(directory.gateways(LEGACY, WALL + 19)) == 1
    assert directory.gateways(LEGACY, WALL + 20) == ()
    directory.expire(WALL + 20)
    assert len(directory) == 0


def test_a_record_learned_near_and_far_counts_as_learned_near() -> None:
    directory = make()
    for scope in (1, 2, 0):
        directory.add(record(1), WALL, scope)
    entry = directory.entry(node_id(1))
    assert entry is not None
    assert entry.scope == 2


# Gateways


def test_gateways_speak_for_an_id_without_a_key() -> None:
    directory = make()
    for gateway in (1, 2):
        assert directory.add(record(gateway, legacy_id=LEGACY), WALL, 0)
    assert {r.gateway for r in directory.gateways(LEGACY, WALL)} == {node_id(1), node_id(2)}


def test_we_speak_for_an_id_until_we_withdraw_whatever_others_still_say() -> None:
    directory, ours = make(), record(0, legacy_id=LEGACY)
    for gateway in range(1, 7):
        directory.add(record(gateway, legacy_id=LEGACY), WALL, 0)
    assert not directory.add(ours, WALL, 0)
    assert directory.is_withdrawn(ours)
    directory.speak_for(ours)
    assert not directory.is_withdrawn(ours)
    assert directory.gateways(LEGACY, WALL)[0] == ours
    assert directory.gateways(LEGACY, ours.expiry) == ()
    directory.withdraw(LEGACY)
    assert directory.add_untrusted([ours.raw], WALL, 0) == []
    assert ours not in directory.gateways(LEGACY, WALL)
    assert len(directory.gateways(LEGACY, WALL)) == 4


def test_an_ids_own_key_wins_over_gateways_and_is_remembered() -> None:
    directory = make()
    claimed = record(2, legacy_id=node_id(1))
    assert directory.add(claimed, WALL, 0)
    directory.add(record(1), WALL, 0)
    assert directory.gateways(node_id(1), WALL) == ()
    assert not directory.add(replace(claimed, sequence=99), WALL, 0)
    assert directory.counts == {"record_gateway_for_key": 1}
    assert directory.answer(node_id(1), WALL, None, node_id(9))[0] == record(1)


def test_an_id_has_four_gateways_at_most_the_newest() -> None:
    directory = make()
    for gateway in range(1, 8):
        directory.add(record(gateway, legacy_id=LEGACY), WALL, 0)
    assert {r.gateway for r in directory.gateways(LEGACY, WALL)} == {node_id(n) for n in range(4, 8)}


def test_a_gateways_stale_record_is_refused() -> None:
    directory = make()
    directory.add(record(1, legacy_id=LEGACY, sequence=5), WALL, 0)
    assert not directory.add(record(1, legacy_id=LEGACY, sequence=4), WALL, 0)
    assert directory.counts == {"record_stale": 1}


# Answers


def test_an_answer_is_the_record_and_the_closest_relays() -> None:
    directory = make(1000)
    for number in range(1, 60):
        directory.add(record(number, relay=number % 2 == 0), WALL, 0)
    answer = directory.answer(node_id(1), WALL, record(0), node_id(2))
    relays = [n for n in range(0, 60, 2) if n != 2]
    assert [r.id for r in answer] == [node_id(n) for n in [1, *by_distance(relays, node_id(1))[:15]]]


def test_suspects_are_not_handed_on_until_heard_of_anew() -> None:
    directory = make()
    directory.add(record(1), WALL, 0)
    directory.suspect(node_id(1))
    directory.add(record(1), WALL, 0)
    assert directory.answer(node_id(5), WALL, None, node_id(9)) == []
    directory.trust(node_id(1))
    assert directory.answer(node_id(5), WALL, None, node_id(9)) == [record(1)]
    directory.suspect(node_id(1))
    directory.add(record(1, sequence=2), WALL, 0)
    assert len(directory.answer(node_id(5), WALL, None, node_id(9))) == 1


# Bounds


def cheap(number: int, model: PeerRecord) -> PeerRecord:
    """A record of another id, as if verified."""
    return replace(model, id=NodeId(number.to_bytes(4, "big") * 5))


def test_a_flood_of_twenty_thousand_ids_stays_within_the_bound() -> None:
    neighbours = {node_id(n) for n in range(1, 11)}
    directory = make(4096, neighbours)
    for number in range(1, 11):
        directory.add(record(number), WALL, 0)
    peer, legacy = record(1), record(1, legacy_id=LEGACY)
    for number in range(20_000):
        directory.add(cheap(number, legacy if number % 3 else peer), WALL, 0)
        assert len(directory) <= 4096 + len(neighbours)
    assert all(directory.get(one, WALL) is not None for one in neighbours)
    assert directory.counts["record_evicted"] >= 15_000


class Counted(set[bytes]):
    """Counts how often somebody asks what is in it."""

    asked = 0

    def __contains__(self, item: object) -> bool:
        self.asked += 1
        return super().__contains__(item)


def test_many_neighbours_leave_room_for_others_and_cost_nothing() -> None:
    """With more neighbours than there is room for others, the table is not searched at each record."""
    neighbours = Counted()
    directory = make(64, neighbours)
    model = record(1)
    for number in range(1000):
        one = cheap(number, model)
        neighbours.add(one.id)
        directory.add(one, WALL, 0)
    assert neighbours.asked == 0
    for number in range(1000, 1064):
        directory.add(cheap(number, model), WALL, 0)
    assert len(directory) == 1064
    assert neighbours.asked == directory.counts["record_evicted"] == 0


def test_the_farthest_go_first() -> None:
    directory = make(64)
    for number in range(1, 200):
        directory.add(record(number), WALL, 0)
    kept = [n for n in range(1, 200) if directory.get(node_id(n), WALL) is not None]
    assert by_distance(kept, OWN)[:32] == by_distance(range(1, 200), OWN)[:32]
    assert max(distance(node_id(n), OWN) for n in kept) < distance(node_id(by_distance(range(1, 200), OWN)[-1]), OWN)
