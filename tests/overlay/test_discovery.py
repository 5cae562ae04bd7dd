from __future__ import annotations

import pytest

from trio_relay.limits import Limits
from trio_relay.overlay.actions import Action, Found
from trio_relay.wire.frame import Frame, Kind
from trio_relay.wire.ids import NodeId
from trio_relay.wire.record import PeerRecord, Role, build_record, join_records, split_records_untrusted

from .support import Bench, BenchLink, by_distance, key, node_id, of, record, sent, signature

TARGET = node_id(500)


@pytest.fixture
def bench() -> Bench:
    return Bench(limits=Limits(dead_after=1e6))


def answer(bench: Bench, link: BenchLink, query: Frame, records: list[PeerRecord]) -> list[Action]:
    payload = join_records(records)
    return bench.receive(link, bench.frame(link, Kind.FOUND, message_id=query.message_id, payload=payload))


def questions(actions: list[Action], target: NodeId) -> list[Frame]:
    return [frame for frame in sent(actions, kind=Kind.FIND) if frame.payload == target]


# Our questions


def test_a_lookup_ends_with_the_record_that_a_relay_knows(bench: Bench) -> None:
    link = bench.link(1)
    started, actions = bench.router.lookup(TARGET, "query", bench.now)
    assert started
    [query] = questions(actions, TARGET)
    assert (query.to, query.source) == (link.id, bench.id)
    [found] = of(answer(bench, link, query, [record(500)]), Found)
    assert (found.query, found.target, found.record, found.gateways) == ("query", TARGET, record(500), ())
    assert bench.router.record_of(TARGET) == record(500)


def test_a_lookup_of_a_known_record_ends_at_once(bench: Bench) -> None:
    bench.link(1)
    _, actions = bench.router.lookup(node_id(1), "query", bench.now)
    assert [found.record for found in of(actions, Found)] == [record(1)]
    assert not questions(actions, node_id(1))


def test_a_lookup_goes_on_to_the_relays_that_it_learns_of(bench: Bench) -> None:
    link = bench.link(1)
    _, actions = bench.router.lookup(TARGET, "query", bench.now)
    actions = answer(bench, link, questions(actions, TARGET)[0], [record(2), record(3)])
    queries = questions(actions, TARGET)
    assert [query.to for query in queries] == [node_id(n) for n in by_distance([2, 3], TARGET)]
    query = next(query for query in queries if query.to == node_id(3))
    done = bench.receive(
        link, bench.frame(link, Kind.FOUND, source=node_id(3), message_id=query.message_id, payload=record_bytes(500))
    )
    assert [found.record for found in of(done, Found)] == [record(500)]


def record_bytes(number: int) -> bytes:
    return join_records([record(number)])


def test_a_lookup_that_finds_nothing_says_so(bench: Bench) -> None:
    link = bench.link(1)
    _, actions = bench.router.lookup(TARGET, "query", bench.now)
    [found] = of(answer(bench, link, questions(actions, TARGET)[0], []), Found)
    assert found.record is None


def test_a_lookup_finds_the_gateways_of_an_original_node(bench: Bench) -> None:
    link = bench.link(1)
    _, actions = bench.router.lookup(TARGET, "query", bench.now)
    gateway = record(2, legacy_id=TARGET)
    [found] = of(answer(bench, link, questions(actions, TARGET)[0], [gateway]), Found)
    assert (found.record, found.gateways) == (None, (gateway,))


def test_without_an_answer_a_lookup_ends_by_its_deadline(bench: Bench) -> None:
    bench.link(1)
    bench.router.lookup(TARGET, "query", bench.now)
    [found] = of(bench.advance(bench.limits.lookup_timeout + 0.01), Found)
    assert found.record is None
    assert bench.count("query_timeout") >= 1


def test_without_any_link_a_lookup_ends_at_once(bench: Bench) -> None:
    started, actions = bench.router.lookup(TARGET, "query", bench.now)
    assert started
    assert [found.record for found in of(actions, Found)] == [None]


def test_a_hint_that_a_relay_is_unreachable_ends_the_wait_for_it(bench: Bench) -> None:
    link = bench.link(1)
    _, actions = bench.router.lookup(TARGET, "query", bench.now)
    [query] = questions(actions, TARGET)
    hint = bench.frame(link, Kind.UNREACHABLE, message_id=query.message_id, payload=link.id + b"\0")
    assert [found.record for found in of(bench.receive(link, hint), Found)] == [None]


def test_no_more_lookups_than_the_limit(bench: Bench) -> None:
    bench.link(1)
    for number in range(1000, 1000 + bench.limits.lookups):
        assert bench.router.lookup(node_id(number), number, bench.now)[0]
    assert not bench.router.lookup(TARGET, "query", bench.now)[0]
    assert bench.count("lookup_refused") == 1


def test_an_answer_to_nothing_is_not_looked_at(bench: Bench) -> None:
    link = bench.link(1)
    bench.receive(link, bench.frame(link, Kind.FOUND, payload=record_bytes(500)))
    assert bench.router.record_of(TARGET) is None
    assert bench.count("answers_to_nothing") == 1


@pytest.mark.parametrize("payload", [b"\0", b"\xff\xff", join_records([record(2)] * 17)])
def test_a_malformed_answer_is_counted_and_the_lookup_goes_on(bench: Bench, payload: bytes) -> None:
    link = bench.link(1)
    _, actions = bench.router.lookup(TARGET, "query", bench.now)
    [query] = questions(actions, TARGET)
    done = bench.receive(link, bench.frame(link, Kind.FOUND, message_id=query.message_id, payload=payload))
    assert bench.count("bad_found") == 1
    assert of(done, Found)


def test_forged_records_in_an_answer_are_counted_and_dropped(bench: Bench) -> None:
    link = bench.link(1)
    _, actions = bench.router.lookup(TARGET, "query", bench.now)
    raw = record(500).raw[:-1] + b"?"
    payload = len(raw).to_bytes(2, "big") + raw
    query = questions(actions, TARGET)[0]
    [found] = of(
        bench.receive(link, bench.frame(link, Kind.FOUND, message_id=query.message_id, payload=payload)), Found
    )
    assert found.record is None
    assert bench.count("record_invalid") == 1


# Standing questions


def test_a_new_node_asks_who_is_close_to_it_at_once_then_every_minute(bench: Bench) -> None:
    link, actions = bench.link_with_actions(1)
    actions += bench.advance(0.01)
    [query] = questions(actions, bench.id)
    answer(bench, link, query, [])
    assert not questions(bench.advance(0.9), bench.id)
    total = len(questions(bench.advance(600.0), bench.id))
    assert 8 <= total <= 14


def test_the_first_time_only_neighbours_are_asked(bench: Bench) -> None:
    """Answers of others would not find a node whose closest relays are no neighbours yet."""
    link = bench.link(1)
    strangers = [record(n) for n in (2, 3, 4)]
    [query] = questions(bench.advance(0.01), bench.id)
    assert query.to == link.id
    assert not questions(answer(bench, link, query, strangers), bench.id)
    later: list[Frame] = []
    while not later:
        later = questions(bench.advance(1.0), bench.id)
    [query] = later
    assert len(questions(answer(bench, link, query, strangers), bench.id)) == 2


def test_a_neighbour_that_begins_to_relay_is_asked(bench: Bench) -> None:
    link = bench.link(1, dialled=False)
    assert not questions(bench.advance(1.0), bench.id)
    bench.router.probe_ended(link.id, True, bench.now)
    assert questions(bench.advance(0.1), bench.id)


def test_a_relay_looks_into_the_ranges_of_which_it_knows_little(bench: Bench) -> None:
    near = by_distance(range(1, 2000), bench.id)[:9]
    links = {link.id: link for link in [bench.link(n) for n in near]}
    targets: set[bytes] = set()
    actions = bench.advance(2.0)
    for _ in range(60):
        queries = sent(actions, kind=Kind.FIND)
        targets |= {query.payload for query in queries}
        actions = [action for query in queries for action in answer(bench, links[query.to], query, [])]
        actions += bench.advance(0.1)
    ranges = {(int.from_bytes(t, "big") ^ int.from_bytes(bench.id, "big")).bit_length() - 1 for t in targets}
    assert {159, 158, 157, 156} <= ranges
    assert min(ranges - {-1}) > 140


def test_our_record_is_stored_at_the_relays_closest_to_us_that_are_no_neighbours(bench: Bench) -> None:
    link = bench.link(1)
    strangers = by_distance(range(2, 40), bench.id)[:3]
    [query] = questions(bench.advance(0.01), bench.id)
    answer(bench, link, query, [record(n) for n in strangers])
    stores = sent(bench.advance(0.5), kind=Kind.STORE)
    ours = [s for s in stores if split_records_untrusted(s.payload) == [bench.router.record.raw]]
    expected = [node_id(n) for n in by_distance([1, *strangers], bench.id)[:3]]
    assert {store.to for store in ours} == set(expected) - {link.id}


@pytest.mark.parametrize("withdrawn", [False, True])
def test_a_gateways_record_is_stored_at_the_relays_closest_to_its_subject(bench: Bench, withdrawn: bool) -> None:
    """Unless its subject has gone while those were looked for."""
    links = {node_id(n): bench.link(n) for n in range(1, 10)}
    bench.advance(3.0)
    own = key(0)
    spoken_for = build_record(
        own, lambda d: signature(own, d), sequence=1, expiry=record(1).expiry, roles=Role(0), legacy_id=TARGET
    )
    actions = bench.router.publish(spoken_for, bench.now)
    assert bench.router.gateways_of(TARGET) == (spoken_for,)
    if withdrawn:
        bench.router.withdraw(TARGET)
    stores: list[Frame] = []
    for _ in range(5):
        queries = questions(actions, TARGET)
        actions = [action for query in queries for action in answer(bench, links[query.to], query, [])]
        stores += sent(actions, kind=Kind.STORE)
    closest = set() if withdrawn else {node_id(n) for n in by_distance(range(1, 10), TARGET)[:3]}
    assert {store.to for store in stores} == closest
    assert all(split_records_untrusted(store.payload) == [spoken_for.raw] for store in stores)
    assert bench.router.gateways_of(TARGET) == (() if withdrawn else (spoken_for,))


# Questions of others


def test_a_question_is_answered_with_what_the_directory_knows(bench: Bench) -> None:
    link = bench.link(1)
    bench.link(2)
    actions = bench.receive(link, bench.frame(link, Kind.FIND, message_id=b"question", payload=node_id(2)))
    [found] = sent(actions, kind=Kind.FOUND)
    assert (found.to, found.message_id) == (link.id, b"question")
    assert split_records_untrusted(found.payload) == [record(2).raw, bench.router.record.raw]


def test_asked_for_ourselves_we_answer_even_as_a_leaf() -> None:
    bench = Bench(relaying=False)
    link = bench.link(1)
    actions = bench.receive(link, bench.frame(link, Kind.FIND, payload=bench.id))
    [found] = sent(actions, kind=Kind.FOUND)
    assert split_records_untrusted(found.payload) == [bench.router.record.raw]


@pytest.mark.parametrize("payload", [b"", bytes(19), bytes(21)])
def test_a_malformed_question_is_counted(bench: Bench, payload: bytes) -> None:
    link = bench.link(1)
    assert not bench.receive(link, bench.frame(link, Kind.FIND, payload=payload))
    assert bench.count("bad_find") == 1


def test_questions_are_limited_for_a_link(bench: Bench) -> None:
    flooder, honest = bench.link(1), bench.link(2)
    flood = [bench.frame(flooder, Kind.FIND, source=node_id(n), payload=TARGET) for n in range(10_000, 11_000)]
    assert len({frame.to for frame in sent(bench.receive(flooder, *flood), kind=Kind.FOUND)}) == 200
    assert bench.count("query_rate") == 800
    assert len(sent(bench.receive(honest, bench.frame(honest, Kind.FIND, payload=TARGET)), kind=Kind.FOUND)) == 1
    bench.now = 1.0
    assert len({frame.to for frame in sent(bench.receive(flooder, *flood), kind=Kind.FOUND)}) == 100


def test_records_to_keep_are_limited_like_questions(bench: Bench) -> None:
    link = bench.link(1)
    stores = [
        bench.frame(link, Kind.STORE, payload=join_records([record(n, ()) for n in range(start, start + 16)]))
        for start in range(1000, 1320, 16)
    ]
    bench.receive(link, *stores)
    assert bench.router.sizes()["records"] == 201
    assert bench.count("query_rate") == 120


@pytest.mark.parametrize("payload", [b"\0", b"\0\x05abc", join_records([record(2)] * 17)])
def test_a_malformed_store_is_counted(bench: Bench, payload: bytes) -> None:
    link = bench.link(1)
    assert not bench.receive(link, bench.frame(link, Kind.STORE, payload=payload))
    assert bench.count("bad_store") == 1
