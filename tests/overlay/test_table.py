from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trio_relay.overlay.table import Neighbour, RoutingTable
from trio_relay.wire.ids import NodeId, distance

# Few bytes differ, at both ends of the id, so that near and far ranges, and ties of ranges, all occur.
ids = st.tuples(st.integers(0, 7), st.integers(0, 7)).map(lambda n: NodeId(bytes([n[0]]) + bytes(18) + bytes([n[1]])))
OWN = NodeId(bytes(20))


def neighbour(node_id: NodeId, trusted: bool, trusts_us: bool) -> Neighbour:
    return Neighbour(node_id, object(), 0.0, trusted=trusted, trusts_us=trusts_us)


neighbours = st.lists(
    st.builds(neighbour, ids.filter(lambda i: i != OWN), st.booleans(), st.booleans()),
    unique_by=lambda n: n.id,
    max_size=20,
)


def expected_next_hop(found: list[Neighbour], target: NodeId) -> Neighbour | None:
    """The model: look at everybody."""
    for one in found:
        if one.id == target and one.trusts_us:
            return one
    transit = [n for n in found if n.trusted and n.trusts_us and distance(n.id, target) < distance(OWN, target)]
    return min(transit, key=lambda n: distance(n.id, target), default=None)


def expected_first_hop(found: list[Neighbour], target: NodeId) -> Neighbour | None:
    for one in found:
        if one.id == target:
            return one
    return min((n for n in found if n.trusted), key=lambda n: distance(n.id, target), default=None)


@given(neighbours, st.lists(ids, min_size=1, max_size=8))
def test_next_hop_is_the_closest_relay_that_is_closer_than_we_are(
    found: list[Neighbour], targets: list[NodeId]
) -> None:
    table = RoutingTable(OWN)
    for one in found:
        table.add(one)
    for target in targets:
        assert table.next_hop(target) is expected_next_hop(found, target)
        assert table.first_hop(target) is expected_first_hop(found, target)
        closer = [n for n in found if n.transit and distance(n.id, target) < distance(OWN, target)]
        assert table.progress(target, 3) == sorted(closer, key=lambda n: distance(n.id, target))[:3]
        transit = sorted((n for n in found if n.transit), key=lambda n: distance(n.id, target))
        assert table.closest_transit(target, 4) == transit[:4]


changes = st.lists(st.tuples(st.integers(0, 19), st.booleans(), st.booleans(), st.booleans()), max_size=20)


@given(neighbours, ids, changes)
def test_no_change_leaves_a_stale_hop_behind(
    found: list[Neighbour], target: NodeId, steps: list[tuple[int, bool, bool, bool]]
) -> None:
    table = RoutingTable(OWN)
    listed: list[Neighbour] = []
    for one in found:
        table.add(one)
        listed.append(one)
    for index, leaves, trusted, trusts_us in steps:
        table.next_hop(target)
        table.first_hop(target)
        if not found:
            return
        one = found[index % len(found)]
        if one not in listed:
            table.add(one)
            listed.append(one)
        elif leaves:
            table.remove(one)
            listed.remove(one)
        else:
            one.trusted, one.trusts_us = trusted, trusts_us
            table.update(one)
        assert table.next_hop(target) is expected_next_hop(listed, target)
        assert table.first_hop(target) is expected_first_hop(listed, target)
        assert table.relay_count == sum(n.trusted for n in listed)
        assert table.relay_count + table.leaf_count == len(table) == len(listed)


def test_a_hop_may_be_asked_for_with_the_bytes_of_a_message() -> None:
    table = RoutingTable(OWN)
    table.add(one := neighbour(NodeId(b"\1" * 20), True, True))
    for _ in range(2):
        assert table.next_hop(bytes(one.id)) is one


def test_the_caches_are_bounded() -> None:
    table = RoutingTable(OWN)
    table.add(neighbour(NodeId(b"\1" * 20), True, True))
    for number in range(40_000):
        table.next_hop(number.to_bytes(20, "big"))
        table.first_hop(number.to_bytes(20, "big"))
    assert len(table.next_hops) <= 16384
    assert table.next_hop(bytes(19) + b"\1") is None


def test_changed_tells_of_neighbours_and_of_roles() -> None:
    table = RoutingTable(OWN)
    one = neighbour(NodeId(b"\1" * 20), False, False)
    table.add(one)
    assert table.changed
    table.changed = False
    one.trusts_us = True
    table.update(one)
    assert not table.changed
    one.trusted = True
    table.update(one)
    assert table.changed
