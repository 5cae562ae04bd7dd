from __future__ import annotations

from itertools import pairwise

import pytest

from trio_relay.limits import Limits
from trio_relay.overlay.actions import Action, Dial, Unlinked
from trio_relay.wire.frame import Kind
from trio_relay.wire.hello import Reason
from trio_relay.wire.ids import NodeId, bucket_index
from trio_relay.wire.record import PeerRecord, join_records

from .support import Bench, BenchLink, by_distance, node_id, of, record, sent, url

MANY = Limits(dials=1000, dead_after=1e6)


def teach(bench: Bench, records: list[PeerRecord]) -> list[Action]:
    """Peers become known, in STOREs of a neighbour's size; then it is time to plan."""
    actions: list[Action] = []
    for start in range(0, len(records), 16):
        actions += bench.router.learn(join_records(records[start : start + 16]), 0, bench.now)
    return actions + bench.advance(1.5)


def dialled(actions: list[Action]) -> list[NodeId]:
    return [action.expected for action in of(actions, Dial) if not action.probe]


def in_network(number: int, network: str = "203.0.113") -> PeerRecord:
    return record(number, [f"ws://{network}.{number % 250 + 1}:8000"])


def test_a_leaf_wants_its_eight_closest_and_two_others() -> None:
    bench = Bench(limits=MANY, relaying=False)
    bench.link(1000)
    found = dialled(teach(bench, [record(n) for n in range(1, 61)]))
    closest = [node_id(n) for n in by_distance([*range(1, 61), 1000], bench.id)[:8]]
    assert set(closest) - {node_id(1000)} <= set(found)
    assert len(set(found) | {node_id(1000)}) in (10, 11)
    assert len(found) == len(set(found))


def test_a_relay_wants_its_eight_closest_and_two_of_each_range() -> None:
    bench = Bench(limits=MANY)
    numbers = range(1, 61)
    found = dialled(teach(bench, [record(n) for n in numbers]))
    ordered = [node_id(n) for n in by_distance(numbers, bench.id)]
    assert set(ordered[:8]) <= set(found)
    ranges: dict[int, list[NodeId]] = {}
    for one in ordered[8:]:
        ranges.setdefault(bucket_index(bench.id, one), []).append(one)
    for members in ranges.values():
        assert len(set(found) & set(members)) == min(2, len(members))


def test_of_thirty_ground_ids_in_one_network_few_are_wanted() -> None:
    """Two of the closest and one of each further range, however close their ids are."""
    bench = Bench(limits=MANY)
    near = by_distance(range(1, 2000), bench.id)[:30]
    far = list(range(3000, 3150))
    found = dialled(teach(bench, [in_network(n) for n in near] + [record(n) for n in far]))
    ours = [one for one in found if one in {node_id(n) for n in near}]
    ranges = {bucket_index(bench.id, node_id(n)) for n in near}
    assert set(ours) >= {node_id(n) for n in near[:2]}
    assert len(ours) <= 2 + len(ranges)
    honest = [node_id(n) for n in by_distance(far, bench.id)[:6]]
    assert set(honest) <= set(found)


def test_an_ipv6_network_is_a_64() -> None:
    bench = Bench(limits=MANY, relaying=False)
    records = [record(n, [f"ws://[2001:db8:1:2::{n:x}]:8000"]) for n in range(1, 31)]
    assert len(dialled(teach(bench, records))) == 3


def test_loopback_has_no_such_limit() -> None:
    bench = Bench(limits=MANY, relaying=False)
    assert len(dialled(teach(bench, [record(n, [f"ws://127.0.0.1:{8000 + n}"]) for n in range(1, 31)]))) == 10


def test_a_neighbours_network_is_that_of_its_connection_not_of_its_words() -> None:
    bench = Bench(limits=MANY, relaying=False)
    near = by_distance(range(1, 2000), bench.id)[:10]
    for n in near[:5]:
        bench.link(n, group="198.51.100.0/24")
    found = dialled(teach(bench, [record(n) for n in near[5:]]))
    assert set(found) == {node_id(n) for n in near[5:]}
    wanted_of_group = 2 + 1
    assert len(near[:5]) > wanted_of_group


def test_a_live_link_of_a_range_is_not_given_up_for_another() -> None:
    bench = Bench(limits=MANY)
    far = [n for n in range(1, 200) if bucket_index(bench.id, node_id(n)) == 159]
    for n in far[:2]:
        bench.link(n)
    near = by_distance([n for n in range(1, 2000) if n not in far], bench.id)[:8]
    found = dialled(teach(bench, [record(n) for n in [*near, *far[2:40]]]))
    assert not set(found) & {node_id(n) for n in far}


# Dials


def test_no_more_dials_at_once_than_the_limit() -> None:
    bench = Bench(limits=Limits(dials=3))
    found = dialled(teach(bench, [record(n) for n in range(1, 30)]))
    assert len(found) == 3
    more = bench.router.dial_failed(found[0], bench.now) + bench.advance(0.3)
    assert len(dialled(more)) == 1


def test_a_dial_that_nobody_reports_does_not_block_its_place_for_ever() -> None:
    bench = Bench(limits=Limits(dials=1))
    first = dialled(teach(bench, [record(n) for n in range(1, 5)]))
    assert len(first) == 1
    assert len(dialled(bench.advance(80.0))) >= 2


def test_a_peer_that_cannot_be_reached_is_tried_later_and_later_but_for_ever() -> None:
    bench = Bench(limits=Limits(dead_after=1e6, record_lifetime=86400))
    bench.router.learn(join_records([record(1, expiry=1_700_000_000 + 86000)]), 0, 0.0)
    times: list[float] = []
    while bench.now < 2000.0:
        for one in dialled(bench.advance(0.5)):
            times.append(bench.now)
            bench.router.dial_failed(one, bench.now)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps[0] < 3.0
    assert max(gaps) < 101.0
    assert 20 < len(times) < 80
    assert bench.count("dials_failed") == len(times)


def test_after_thousands_of_failures_the_pause_is_still_a_minute() -> None:
    bench = Bench(limits=Limits(dead_after=1e6))
    bench.router.learn(join_records([record(1)]), 0, 0.0)
    for _ in range(3000):
        bench.router.dial_failed(node_id(1), 0.0)
    assert not dialled(bench.advance(29.0))
    assert node_id(1) in dialled(bench.advance(71.0))


def test_one_that_fails_twice_makes_room_for_the_next_closest() -> None:
    bench = Bench(limits=MANY, relaying=False)
    numbers = by_distance(range(1, 40), bench.id)
    dead = {node_id(n) for n in numbers[:8]}
    actions = teach(bench, [record(n) for n in numbers])
    for _ in range(6):
        for one in dialled(actions):
            if one in dead:
                bench.router.dial_failed(one, bench.now)
            else:
                bench.link(next(n for n in numbers if node_id(n) == one))
        actions = bench.advance(2.0)
    assert all(bench.router.table.get(node_id(n)) is not None for n in numbers[8:16])


def test_a_leaf_has_no_relay_without_an_address() -> None:
    bench = Bench(limits=MANY)
    assert not dialled(teach(bench, [record(1, ()), record(2, relay=False)]))


def test_an_address_that_is_no_url_takes_no_link_from_others() -> None:
    bench = Bench(limits=MANY, relaying=False)
    odd = [record(n, [text]) for n, text in enumerate(["nonsense", "http://[", "ws://", "wss://x:99999"], 1)]
    honest = [record(n) for n in range(10, 30)]
    actions = teach(bench, [*odd, *honest])
    for _ in range(8):
        for one in dialled(actions):
            number = next((n for n in range(10, 30) if node_id(n) == one), None)
            if number is None:
                bench.router.dial_failed(one, bench.now)
            else:
                bench.link(number)
        actions = bench.advance(2.0)
    closest = by_distance(range(10, 30), bench.id)[:8]
    assert all(bench.router.table.get(node_id(n)) is not None for n in closest)
    assert bench.router.table.relay_count >= 10
    assert all(bench.router.table.get(one.id) is None for one in odd)


def test_the_records_that_a_full_relay_names_are_tried() -> None:
    bench = Bench(relaying=False)
    [first] = dialled(teach(bench, [record(1)]))
    bench.router.dial_failed(first, bench.now, records=join_records([record(2), record(3)]))
    assert {node_id(2), node_id(3)} <= set(dialled(bench.advance(1.5)))


# Refusals and partings


def test_a_disconnected_peer_is_not_dialled_for_a_minute() -> None:
    bench = Bench(limits=MANY)
    link = bench.link(1)
    bench.router.disconnect(link.id, 0.0)
    assert not dialled(bench.advance(59.0))
    assert link.id in dialled(bench.advance(40.0))


def test_whoever_lets_us_go_is_dialled_again_only_after_a_while() -> None:
    bench = Bench(limits=MANY)
    link = bench.link(1)
    bench.receive(link, bench.frame(link, Kind.GOODBYE, payload=bytes([Reason.UNWANTED])))
    assert not dialled(bench.advance(0.4))
    assert dialled(bench.advance(3.0)) == [link.id]
    assert bench.count("dials_failed") == 0


def parted(bench: Bench, links: list[BenchLink], actions: list[Action]) -> list[int]:
    gone = {action.id for action in of(actions, Unlinked) if action.reason == "unwanted"}
    for link in links:
        if link.id in gone:
            assert [f.payload for f in sent(actions, link, Kind.GOODBYE)] == [bytes([Reason.UNWANTED])]
    return [link.number for link in links if link.id in gone]


def crowd(bench: Bench, count: int, *, dialled: bool = True) -> list[BenchLink]:
    """Links with so many relays of the far range."""
    far = [n for n in range(1, 2000) if bucket_index(bench.id, node_id(n)) == 159]
    return [bench.link(n, dialled=dialled) for n in far[:count]]


def test_links_that_are_not_wanted_any_more_go_slowly_and_never_all() -> None:
    bench = Bench(limits=MANY)
    links = crowd(bench, 30)
    assert not parted(bench, links, bench.advance(55.0))
    gone = parted(bench, links, bench.advance(45.0))
    assert 4 <= len(gone) <= 8
    gone += parted(bench, links, bench.advance(1000.0))
    left = [link.number for link in links if link.number not in gone]
    assert len(left) == 8 + 2 + 4
    assert set(by_distance([link.number for link in links], bench.id)[:8]) <= set(left)
    assert not of(bench.advance(1000.0), Unlinked)


def test_a_link_that_the_application_asked_for_stays() -> None:
    bench = Bench(limits=MANY)
    links = crowd(bench, 30)
    favourite = by_distance([link.number for link in links], bench.id)[-1]
    bench.router.connect(node_id(favourite), bench.now)
    gone = parted(bench, links, bench.advance(2000.0))
    assert len(gone) >= 14
    assert favourite not in gone


def test_links_that_others_dialled_are_theirs_to_end() -> None:
    bench = Bench(limits=MANY)
    links = crowd(bench, 30, dialled=False)
    for link in links:
        bench.router.probe_ended(link.id, True, bench.now)
    assert bench.router.table.relay_count == 30
    assert not parted(bench, links, bench.advance(1000.0))


def test_a_relay_with_too_many_relays_lets_the_farthest_go() -> None:
    bench = Bench(limits=Limits(dials=1000, dead_after=1e6, relay_links=20))
    links = crowd(bench, 30, dialled=False)
    for link in links:
        bench.router.probe_ended(link.id, True, bench.now)
    gone = parted(bench, links, bench.advance(1.0))
    assert len(gone) == 10
    assert not set(gone) & set(by_distance([link.number for link in links], bench.id)[:8])


@pytest.mark.parametrize("scope", [0, 2])
def test_a_dial_says_how_near_the_address_may_be(scope: int) -> None:
    bench = Bench()
    bench.router.learn(join_records([record(1)]), scope, 0.0)
    [dial] = [a for a in of(bench.advance(1.0), Dial) if not a.probe]
    assert (dial.urls, dial.scope) == ((url(1),), scope)


def test_a_live_link_keeps_its_place_against_closer_ids_of_its_network() -> None:
    bench = Bench(limits=MANY, relaying=False)
    *ground, honest = by_distance(range(1, 2000), bench.id)[:4]
    bench.link(honest, group="203.0.113.0/24")
    found = dialled(teach(bench, [in_network(n) for n in ground]))
    # One place of the closest, and one of the others; the second of the closest is the live link's.
    assert set(found) <= {node_id(n) for n in ground}
    assert len(found) == 2


def test_dials_to_one_network_have_a_rate() -> None:
    bench = Bench(limits=MANY)
    victim = [record(n, ["ws://203.0.113.5:80"]) for n in range(1, 1500)]
    dials = teach(bench, victim)
    count = 0
    for _ in range(600):
        for node in dialled(dials):
            count += 1
            bench.router.dial_failed(node, bench.now)
        dials = bench.advance(0.1)
    assert 8 <= count <= 80  # a burst, and one a second
    assert bench.count("dial_rate") > 0
