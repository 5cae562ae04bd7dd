from __future__ import annotations

import pytest

from trio_relay.limits import Limits
from trio_relay.overlay.actions import Action, Dial
from trio_relay.overlay.router import Router
from trio_relay.wire.frame import Kind
from trio_relay.wire.record import split_records_untrusted

from .support import Bench, BenchLink, node_id, of, record, sent, url

OURS = "peer0.example:80"


def probes(actions: list[Action]) -> list[Dial]:
    return [action for action in of(actions, Dial) if action.probe]


def trusts(router: Router, link: BenchLink) -> bool:
    neighbour = router.table.get(link.id)
    return neighbour is not None and neighbour.trusted


def relays(bench: Bench) -> bool:
    return bench.router.relaying


def statuses(actions: list[Action], link: BenchLink) -> list[int]:
    """What the STATUS frames to a neighbour say about trust."""
    return [frame.payload[0] for frame in sent(actions, link, Kind.STATUS)]


# Ourselves


def test_without_an_address_we_are_a_leaf_whatever_anybody_says() -> None:
    bench = Bench(relaying=False)
    bench.router.reached(node_id(1), OURS, 0.0)
    assert not relays(bench)
    assert not bench.router.record.relay


def test_we_relay_once_somebody_reached_us_at_our_address() -> None:
    bench = Bench(relaying=False)
    bench.router.advertise([url(0)], 0.0)
    bench.router.reached(node_id(1), "192.0.2.1:80", 0.0)
    assert not relays(bench)
    link = bench.link(2)
    before = bench.router.record
    actions = bench.router.reached(node_id(1), OURS, 0.0)
    assert relays(bench)
    assert bench.router.record.relay
    assert bench.router.record.sequence > before.sequence
    assert [frame.payload[1:] for frame in sent(actions, link, Kind.STATUS)] == [bench.router.record.raw]


def test_a_link_that_came_in_at_our_address_is_evidence_while_it_lasts() -> None:
    bench = Bench(limits=Limits(dead_after=1e6), relaying=False)
    bench.router.advertise([url(0)], 0.0)
    link = bench.link(1, relay=False)
    assert relays(bench)
    bench.advance(3000.0)
    assert relays(bench)
    bench.router.link_down(link, "connection lost", bench.now)
    bench.advance(1499.0)
    assert relays(bench)
    other = bench.link(2, dialled=True)
    actions = bench.advance(2.0)
    assert not relays(bench)
    assert [frame.payload[1:] for frame in sent(actions, other, Kind.STATUS)] == [bench.router.record.raw]


def test_one_probe_by_a_neighbour_lasts_until_its_next() -> None:
    bench = Bench(limits=Limits(dead_after=1e6), relaying=False)
    bench.router.advertise([url(0)], 0.0)
    for _ in range(20):
        bench.router.reached(node_id(1), OURS, bench.now)
        bench.advance(750.0)
        assert relays(bench)


def test_a_node_that_stops_relaying_forwards_nothing() -> None:
    bench = Bench()
    relay, leaf = bench.link(1), bench.link(101, relay=False)
    frame = bench.frame(relay, to=leaf.id, source=node_id(7))
    assert len(sent(bench.receive(relay, frame), leaf)) == 1
    bench.router.advertise([], 0.0)
    bench.router.link_down(leaf, "connection lost", 0.0)
    leaf = bench.link(101, relay=False)
    assert not relays(bench)
    assert not sent(bench.receive(relay, frame), leaf)
    assert bench.count("not_a_relay") == 1


def test_our_record_is_renewed_long_before_it_expires_and_neighbours_get_it() -> None:
    bench = Bench(limits=Limits(dead_after=1e6))
    link = bench.link(1)
    bench.link(101, relay=False)
    first = bench.router.record
    actions = bench.advance(1790.0)
    assert bench.router.record == first
    actions = bench.advance(20.0)
    assert bench.router.record.sequence > first.sequence
    assert bench.router.record.expiry >= first.expiry + 1790
    assert [frame.payload[1:] for frame in sent(actions, link, Kind.STATUS)] == [bench.router.record.raw]


def test_neighbours_are_told_again_every_minute_in_case_a_link_lost_it() -> None:
    bench = Bench(limits=Limits(dead_after=1e6))
    link = bench.link(1)
    found = statuses(bench.advance(600.0), link)
    assert 8 <= len(found) <= 13
    assert set(found) == {1}


def test_a_leaf_sends_through_relays_that_do_not_trust_it() -> None:
    bench = Bench(relaying=False)
    link = bench.link(1, trusts=False)
    assert len(sent(bench.router.send(node_id(7), b"\0", 0.0), link)) == 1


def test_a_false_witness_does_not_cut_us_off() -> None:
    """Somebody near reaches us, the relays that we know do not: we believe to relay, and still send through them."""
    bench = Bench()
    link = bench.link(1, trusts=False)
    assert len(sent(bench.router.send(node_id(7), b"\0", 0.0), link)) == 1
    leaf = bench.link(101, relay=False)
    assert not sent(bench.receive(leaf, bench.frame(leaf, to=node_id(7))), link)


# Neighbours


def test_a_relay_that_we_dialled_at_its_address_is_proven() -> None:
    bench = Bench()
    link, actions = bench.link_with_actions(1, trusts=False)
    assert statuses(actions, link) == [1]
    assert trusts(bench.router, link)


def test_a_leaf_that_claims_to_be_a_relay_is_not_used() -> None:
    bench = Bench()
    link = bench.link(1, dialled=False)
    [probe] = probes(bench.advance(0.1))
    assert (probe.urls, probe.expected) == ((url(1),), link.id)
    bench.router.probe_ended(link.id, False, bench.now)
    assert not trusts(bench.router, link)
    assert bench.router.first_hop(node_id(7)) is None
    assert bench.router.table.leaf_count == 1


def test_a_relay_that_came_in_is_used_after_a_probe_and_told_so() -> None:
    bench = Bench()
    link, actions = bench.link_with_actions(1, dialled=False, trusts=False)
    assert statuses(actions, link) == [0]
    bench.advance(0.1)
    actions = bench.router.probe_ended(link.id, True, bench.now)
    assert statuses(actions, link) == [1]
    assert trusts(bench.router, link)


def test_a_neighbour_that_becomes_a_relay_is_probed_and_then_used() -> None:
    bench = Bench()
    link = bench.link(1, relay=False)
    assert not probes(bench.advance(1.0))
    link.record = record(1, sequence=2)
    bench.receive(link, bench.status(link, trusts=True))
    assert not trusts(bench.router, link)
    assert len(probes(bench.advance(0.1))) == 1
    bench.router.probe_ended(link.id, True, bench.now)
    assert trusts(bench.router, link)


def test_a_relay_that_says_it_is_none_any_more_is_a_leaf_at_once() -> None:
    bench = Bench()
    link = bench.link(1)
    link.record = record(1, relay=False, sequence=2)
    actions = bench.receive(link, bench.status(link, trusts=True))
    assert statuses(actions, link) == [0]
    assert not trusts(bench.router, link)


def test_new_addresses_are_checked_and_old_news_changes_nothing() -> None:
    bench = Bench()
    link = bench.link(1)
    link.record = record(1, [url(11)], sequence=2)
    bench.receive(link, bench.status(link, trusts=True))
    assert [probe.urls for probe in probes(bench.advance(0.1))] == [(url(11),)]
    link.record = record(1, relay=False, sequence=1)
    bench.receive(link, bench.status(link, trusts=True))
    assert trusts(bench.router, link)


@pytest.mark.parametrize("forged", [record(2).raw, record(1, sequence=5).raw[:-1] + b"!", b"", b"rubbish"])
def test_a_status_with_another_record_or_none_changes_only_its_trust(forged: bytes) -> None:
    bench = Bench()
    link = bench.link(1)
    bench.receive(link, bench.frame(link, Kind.STATUS, payload=b"\0" + forged))
    neighbour = bench.router.table.get(link.id)
    assert neighbour is not None
    assert neighbour.record == link.record
    assert not neighbour.trusts_us


def test_trust_ends_after_two_failed_checks_and_comes_back() -> None:
    bench = Bench(limits=Limits(dead_after=1e6))
    link = bench.link(1)
    assert len(probes(bench.advance(760.0))) == 1
    bench.router.probe_ended(link.id, False, bench.now)
    assert trusts(bench.router, link)
    assert len(probes(bench.advance(15.0))) == 1
    actions = bench.router.probe_ended(link.id, False, bench.now)
    assert not trusts(bench.router, link)
    assert statuses(actions, link) == [0]
    assert len(probes(bench.advance(26.0))) == 1
    bench.router.probe_ended(link.id, True, bench.now)
    assert trusts(bench.router, link)


def test_after_thousands_of_failed_checks_the_next_is_ten_minutes_later() -> None:
    bench = Bench(limits=Limits(dead_after=1e6))
    link = bench.link(1, dialled=False)
    assert len(probes(bench.advance(0.1))) == 1
    for _ in range(3000):
        bench.router.probe_ended(link.id, False, bench.now)
    assert not probes(bench.advance(449.0))
    assert len(probes(bench.advance(302.0))) == 1


def test_a_probe_of_somebody_else_proves_nothing() -> None:
    bench = Bench()
    link = bench.link(1, dialled=False)
    bench.router.probe_ended(node_id(2), True, 0.0)
    assert not trusts(bench.router, link)


def test_probes_are_limited_for_a_network() -> None:
    bench = Bench(limits=Limits(dead_after=1e6))
    for number in range(1, 101):
        bench.link(number, dialled=False, group="198.51.100.0/24")
    assert len(probes(bench.advance(0.1))) == 8
    assert bench.count("probe_rate") == 92
    assert len(probes(bench.advance(10.0))) <= 11


def test_probes_are_limited_for_the_network_that_records_point_to() -> None:
    """Whoever comes from many places does not make a scanner of us."""
    bench = Bench(limits=Limits(dead_after=1e6))
    for number in range(1, 101):
        record_there = record(number, [f"ws://203.0.113.{number}:22"])
        bench.router.link_up(number, record_there.id, 0.0, dialled=False, record=record_there, group=f"net {number}")
    assert len(probes(bench.advance(0.1))) == 8


def test_probes_are_limited_in_all() -> None:
    bench = Bench(limits=Limits(dead_after=1e6))
    for number in range(1, 201):
        bench.link(number, dialled=False, group=f"net {number}")
    assert len(probes(bench.advance(0.1))) in (40, 41)
    assert 90 <= len(probes(bench.advance(10.0))) <= 101


def test_addresses_that_are_no_urls_do_no_harm() -> None:
    bench = Bench()
    odd = record(1, ["http://[", "no url", "ws://", "wss://x:99999"])
    bench.router.link_up("link", odd.id, 0.0, dialled=False, authority="?", record=odd)
    bench.advance(1.0)
    assert bench.router.table.relay_count == 0


def test_a_new_relay_is_introduced_to_the_neighbours_that_are_closer_to_it_than_we_are() -> None:
    bench = Bench()
    links = [bench.link(number) for number in range(1, 20)]
    new, actions = bench.link_with_actions(30)
    told = [link for link in links if sent(actions, link, Kind.STORE)]
    number, own = int.from_bytes(new.id, "big"), int.from_bytes(bench.id, "big")
    closer = [link for link in links if (n := int.from_bytes(link.id, "big")) ^ number < n ^ own]
    assert told == closer
    assert told
    [frame] = sent(actions, told[0], Kind.STORE)
    assert split_records_untrusted(frame.payload) == [new.record.raw]
