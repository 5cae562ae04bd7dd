"""Which relays are the places of a key, among those that are known."""

from __future__ import annotations

import random
from types import SimpleNamespace

from trio_relay.overlay.discovery import Discovery
from trio_relay.overlay.rendezvous_places import Places, _around
from trio_relay.overlay.state import State
from trio_relay.wire.ids import NodeId, distance
from trio_relay.wire.record import Role, build_record

from .rendezvous_world import KEY
from .support import WALL, key, make_state, node_id, signature, url


def learn(state: State, number: int, *, roles: Role = Role.RELAY | Role.RENDEZVOUS, sequence: int = 1) -> None:
    own = key(number)
    record = build_record(
        own,
        lambda data: signature(own, data),
        sequence=sequence,
        expiry=int(WALL + 1000 + number),
        urls=[url(number)],
        roles=roles,
    )
    assert state.directory.add(record, state.wall, 0)


def by_distance(*numbers: int) -> list[NodeId]:
    return sorted(map(node_id, numbers), key=lambda who: distance(who, KEY))


def test_those_that_cease_to_keep_or_expire_or_are_suspected_are_no_places() -> None:
    state = make_state(relaying=False)
    places = Places(state, Discovery(state))
    for number in range(1, 9):
        learn(state, number)
    assert places.closest(KEY) == by_distance(*range(1, 9))[:3]
    learn(state, 1, roles=Role(0), sequence=2)
    learn(state, 2, roles=Role.RELAY, sequence=2)
    state.directory.suspect(node_id(3))
    assert places.closest(KEY) == by_distance(*range(4, 9))[:3]
    state.directory.trust(node_id(3))
    state.now = 1005.5
    assert places.closest(KEY) == by_distance(6, 7, 8)
    state.now = 1007.5
    state.directory.expire(state.wall)
    assert places.closest(KEY) == by_distance(8)


def test_the_next_ones_take_the_places_of_those_that_do_not_answer() -> None:
    state = make_state(relaying=False)
    places = Places(state, Discovery(state))
    for number in range(1, 41):
        learn(state, number)
    ordered = by_distance(*range(1, 41))
    assert places.closest(KEY, ordered[:30]) == ordered[30:33]
    for relay in ordered[:20]:
        places.avoid(relay)
    assert places.closest(KEY) == ordered[20:23]
    for relay in ordered[20:]:
        places.avoid(relay)
    assert places.closest(KEY) == []
    state.now = 4.5
    assert places.closest(KEY) == ordered[:3]


def test_the_relays_closest_to_a_key_are_found_among_many() -> None:
    rng = random.Random(1)
    numbers = sorted({rng.getrandbits(160) for _ in range(200)} | {rng.getrandbits(8) for _ in range(40)})
    entries = [SimpleNamespace(number=number) for number in numbers]
    for wanted in [rng.getrandbits(160), rng.getrandbits(8), 0, numbers[3], 2**160 - 1]:
        for count in (1, 6, 50, 500):
            around = [entry.number for entry in _around(entries, wanted, count)]  # type: ignore[arg-type]
            closest = sorted(numbers, key=lambda number: number ^ wanted)[:count]
            assert sorted(around, key=lambda number: number ^ wanted)[:count] == closest
