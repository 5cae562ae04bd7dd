from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_relay.limits import Limits
from trio_relay.overlay.actions import Action, CloseLink, Deliver, Dial, Linked, Negotiate, Relinked, Unlinked
from trio_relay.overlay.admission import EVERYBODY
from trio_relay.overlay.parts import Parts
from trio_relay.overlay.table import Neighbour, Rank
from trio_relay.wire.frame import Kind
from trio_relay.wire.hello import Reason
from trio_relay.wire.record import join_records, split_records_untrusted
from trio_relay.wire.signal import Offer

from .support import Bench, BenchLink, make_state, node_id, of, record, sent, url
from .webrtc_world import description


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def patient() -> Bench:
    """A bench on which silent links live on."""
    return Bench(limits=Limits(dead_after=1000.0))


def closed(actions: list[Action]) -> list[object]:
    return [action.link for action in of(actions, CloseLink)]


def second(bench: Bench, number: int, *, dialled: bool) -> tuple[BenchLink, list[Action]]:
    return bench.link_with_actions(number, dialled=dialled, trusts=False)


SMALLER = next(n for n in range(1, 100) if node_id(n) < Bench().id)
GREATER = next(n for n in range(1, 100) if node_id(n) > Bench().id)


def test_a_link_is_announced_with_our_record_and_a_ping(bench: Bench) -> None:
    link, actions = bench.link_with_actions(1, trusts=False)
    assert [(action.id, action.link) for action in of(actions, Linked)] == [(link.id, link)]
    assert [frame.kind for frame in sent(actions, link)] == [Kind.STATUS, Kind.PING]
    status, _ = sent(actions, link)
    assert status.payload == b"\1" + bench.router.record.raw
    assert (status.to, status.source) == (link.id, bench.id)


def test_a_link_with_ourselves_closes(bench: Bench) -> None:
    actions = bench.router.link_up("loop", bench.id, 0.0, dialled=True, url=url(0), record=bench.router.record)
    assert [(a.link, a.reason) for a in of(actions, CloseLink)] == [("loop", Reason.SELF)]
    assert not of(actions, Linked)
    assert len(bench.router.table) == 0


def test_the_end_of_a_link_is_announced_once(bench: Bench) -> None:
    link = bench.link(1)
    actions = bench.router.link_down(link, "connection lost", 0.0)
    assert [(a.id, a.reason) for a in of(actions, Unlinked)] == [(link.id, "connection lost")]
    assert not of(bench.router.link_down(link, "connection lost", 0.0), Unlinked)


# Two links with one peer


@pytest.mark.parametrize(
    ("number", "first_dialled", "second_wins"),
    [(GREATER, True, False), (GREATER, False, True), (SMALLER, True, True), (SMALLER, False, False)],
)
def test_of_two_diallers_the_smaller_id_wins(
    patient: Bench, number: int, first_dialled: bool, second_wins: bool
) -> None:
    bench = patient
    first = bench.link(number, dialled=first_dialled)
    other, actions = second(bench, number, dialled=not first_dialled)
    assert not of(actions, Linked)
    assert not closed(actions)
    used, spare = (other, first) if second_wins else (first, other)
    bench.receive(used, bench.status(used, trusts=True))
    assert bench.router.first_hop(used.id).link is used  # type: ignore[union-attr]
    assert of(bench.receive(spare, bench.frame(spare)), Deliver)
    later = bench.advance(bench.limits.handshake_timeout * 4)
    assert closed(later) == [spare]
    assert not of(later, Unlinked)


def test_of_one_diallers_links_the_newer_is_used(bench: Bench) -> None:
    first = bench.link(1)
    newer, _ = second(bench, 1, dialled=True)
    assert bench.router.first_hop(first.id).link is newer  # type: ignore[union-attr]


def test_trust_in_us_counts_anew_on_another_link(bench: Bench) -> None:
    """The peer may be a new process that does not know us yet."""
    bench.link(1)
    source = bench.link(2)
    newer, _ = second(bench, 1, dialled=True)
    frame = bench.frame(source, to=newer.id)
    assert not sent(bench.receive(source, frame), newer)
    bench.receive(newer, bench.status(newer, trusts=True))
    assert len(sent(bench.receive(source, frame), newer)) == 1


@pytest.mark.parametrize("dialled", [True, False])
def test_when_the_used_link_ends_the_spare_takes_its_place(bench: Bench, dialled: bool) -> None:
    first = bench.link(1, dialled=dialled)
    newer, _ = second(bench, 1, dialled=dialled)
    actions = bench.router.link_down(newer, "connection lost", bench.now)
    assert not of(actions, Unlinked)
    assert bench.router.first_hop(first.id).link is first  # type: ignore[union-attr]
    assert of(bench.router.link_down(first, "connection lost", bench.now), Unlinked)
    assert bench.router.sizes()["links"] == 0


def test_when_the_spare_ends_nothing_happens(bench: Bench) -> None:
    first = bench.link(1)
    newer, _ = second(bench, 1, dialled=True)
    assert not of(bench.router.link_down(first, "connection lost", bench.now), Unlinked)
    assert of(bench.router.link_down(newer, "connection lost", bench.now), Unlinked)


def test_the_dialler_closes_a_spare_before_its_acceptor_does(patient: Bench) -> None:
    timeout = patient.limits.handshake_timeout
    ours = patient.link(1, dialled=True)
    second(patient, 1, dialled=True)
    theirs = patient.link(2, dialled=False)
    second(patient, 2, dialled=False)
    assert closed(patient.advance(timeout)) == [ours]
    assert closed(patient.advance(timeout)) == []
    assert closed(patient.advance(2 * timeout)) == [theirs]


def test_links_of_one_peer_do_not_pile_up(bench: Bench) -> None:
    bench.link(1)
    for _ in range(50):
        second(bench, 1, dialled=True)
    assert bench.router.sizes()["links"] == 2


# Goodbyes


def test_a_neighbour_that_ends_gets_no_more_frames_and_is_read_to_its_end(bench: Bench) -> None:
    link, source = bench.link(1), bench.link(2)
    actions = bench.receive(link, bench.frame(link, Kind.GOODBYE, payload=bytes([Reason.SHUTDOWN])))
    assert [(a.id, a.reason) for a in of(actions, Unlinked)] == [(link.id, "shutdown")]
    assert not closed(actions)
    assert [(f.kind, f.payload) for f in sent(actions, link)] == [(Kind.GOODBYE, bytes([Reason.UNWANTED]))]
    assert not sent(bench.receive(source, bench.frame(source, to=link.id)), link)
    assert len(sent(bench.receive(link, bench.frame(link, to=source.id, source=node_id(9))), source)) == 1
    assert closed(bench.advance(2 * bench.limits.close_timeout)) == [link]
    assert bench.router.sizes()["links"] == 1


@pytest.mark.parametrize("reason", [Reason.UNWANTED, Reason.DISCONNECTED, Reason.PROTOCOL, 77])
def test_a_neighbour_that_lets_us_go_is_closed(bench: Bench, reason: int) -> None:
    link = bench.link(1)
    actions = bench.receive(link, bench.frame(link, Kind.GOODBYE, payload=bytes([reason])))
    assert closed(actions) == [link]
    assert len(of(actions, Unlinked)) == 1
    assert not bench.receive(link, bench.frame(link))


def test_we_say_goodbye_and_read_on_until_the_other_side_closes(bench: Bench) -> None:
    link = bench.link(1)
    actions = bench.router.disconnect(link.id, 0.0)
    assert [(f.kind, f.payload) for f in sent(actions, link)] == [(Kind.GOODBYE, bytes([Reason.DISCONNECTED]))]
    assert [a.reason for a in of(actions, Unlinked)] == ["disconnected"]
    assert of(bench.receive(link, bench.frame(link)), Deliver)
    assert not of(bench.router.link_down(link, "closed by the other side", 0.1, alive=True), Unlinked)
    assert bench.router.sizes()["links"] == 0


def test_one_that_never_closes_is_closed_after_a_while(bench: Bench) -> None:
    link = bench.link(1)
    bench.router.disconnect(link.id, 0.0)
    assert closed(bench.advance(2 * bench.limits.close_timeout)) == [link]
    assert bench.router.sizes()["links"] == 0


def test_a_peer_that_comes_back_while_its_old_link_ends_is_a_new_neighbour(bench: Bench) -> None:
    old = bench.link(1)
    bench.receive(old, bench.frame(old, Kind.GOODBYE, payload=bytes([Reason.SHUTDOWN])))
    new, actions = bench.link_with_actions(1)
    assert len(of(actions, Linked)) == 1
    assert closed(bench.receive(old, b"rubbish")) == [old]
    assert bench.router.first_hop(new.id).link is new  # type: ignore[union-attr]


def test_at_the_end_everybody_is_told(bench: Bench) -> None:
    links = [bench.link(number, relay=number % 2 == 0) for number in range(1, 5)]
    actions = bench.router.goodbye(0.0)
    for link in links:
        assert [(f.kind, f.payload) for f in sent(actions, link)] == [(Kind.GOODBYE, bytes([Reason.SHUTDOWN]))]


def test_whoever_answers_our_last_goodbye_is_closed_and_nobody_is_dialled_again(bench: Bench) -> None:
    link = bench.link(1)
    bench.router.goodbye(0.0)
    actions = bench.receive(link, bench.frame(link, Kind.GOODBYE, payload=bytes([Reason.UNWANTED])))
    assert closed(actions) == [link]
    assert not of(bench.advance(100.0), Dial)


def test_two_that_end_at_once_close_at_once(bench: Bench) -> None:
    link = bench.link(1)
    bench.router.goodbye(0.0)
    assert not closed(bench.receive(link, bench.frame(link, Kind.GOODBYE, payload=bytes([Reason.SHUTDOWN]))))
    assert closed(bench.receive(link, bench.frame(link, Kind.GOODBYE, payload=bytes([Reason.UNWANTED])))) == [link]


@pytest.mark.parametrize("kind", [Kind.GOODBYE, Kind.STATUS, 99])
def test_a_link_local_frame_without_meaning_is_counted(bench: Bench, kind: int) -> None:
    link = bench.link(1)
    assert not bench.receive(link, bench.frame(link, kind, payload=b""))
    assert bench.count("unknown_kind") == 1


# Admission


def test_a_full_relay_refuses_and_names_the_closest_relays() -> None:
    bench = Bench(limits=Limits(leaves=2, relay_links=20))
    for number in range(1, 11):
        bench.link(number)
    for number in (101, 102):
        assert bench.router.admit(node_id(number), False, False, 0.0) is None
        bench.link(number, relay=False)
    refusal = bench.router.admit(node_id(103), False, False, 0.0)
    assert refusal is not None
    reason, records = refusal
    assert reason is Reason.FULL
    assert len(split_records_untrusted(records)) == 10
    assert bench.router.admit(node_id(50), False, True, 0.0) is None
    assert bench.count("full") == 1


def test_relays_are_counted_apart() -> None:
    bench = Bench(limits=Limits(leaves=20, relay_links=2))
    bench.link(1)
    bench.link(2)
    refusal = bench.router.admit(node_id(3), False, True, 0.0)
    assert refusal is not None
    assert refusal[0] is Reason.FULL
    assert bench.router.admit(node_id(3), False, False, 0.0) is None


def test_who_only_claims_to_relay_is_a_leaf_among_so_many() -> None:
    bench = Bench(limits=Limits(leaves=2, relay_links=3))
    liars: list[BenchLink] = []
    for number in range(1, 50):
        if bench.router.admit(node_id(number), False, True, 0.0) is None:
            liars.append(bench.link(number, dialled=False))
    table = bench.router.table
    assert (table.leaf_count, table.relay_count) == (5, 0)
    assert bench.count("full") == 44
    assert bench.router.admit(node_id(101), False, False, 0.0) is not None
    bench.router.probe_ended(liars[0].id, True, 0.0)
    assert (table.leaf_count, table.relay_count) == (4, 1)
    assert bench.router.admit(node_id(50), False, True, 0.0) is None


def test_a_probe_and_a_second_link_are_let_in_even_when_full() -> None:
    bench = Bench(limits=Limits(leaves=1))
    bench.link(101, relay=False)
    assert bench.router.admit(node_id(102), True, False, 0.0) is None
    assert bench.router.admit(node_id(101), False, False, 0.0) is None


def test_whom_the_application_disconnected_is_refused_for_a_minute(bench: Bench) -> None:
    link = bench.link(1)
    bench.router.disconnect(link.id, 0.0)
    assert bench.router.admit(link.id, False, True, 59.0) == (Reason.DISCONNECTED, b"")
    assert bench.router.admit(link.id, False, True, 61.0) is None


def test_whom_the_node_does_not_admit_is_refused() -> None:
    bench = Bench(admits=lambda node: node != node_id(1))
    assert bench.router.admit(node_id(1), True, False, 0.0) == (Reason.NOT_ADMITTED, b"")


# Liveness


def test_a_silent_link_is_pinged_after_five_seconds_and_dead_ten_later(bench: Bench) -> None:
    link, actions = bench.link_with_actions(1, relay=False)
    [ping] = sent(actions, link, Kind.PING)
    bench.now = 0.25
    bench.receive(link, bench.frame(link, Kind.PONG, message_id=ping.message_id))
    assert bench.router.table.get(link.id).rtt == 0.25  # type: ignore[union-attr]
    assert not sent(bench.advance(4.99), link, Kind.PING)
    assert len(sent(bench.advance(0.02), link, Kind.PING)) == 1
    assert not of(bench.advance(9.98), Unlinked)
    actions = bench.advance(0.02)
    assert [(a.link, a.reason) for a in of(actions, CloseLink)] == [(link, Reason.SILENT)]
    assert [a.reason for a in of(actions, Unlinked)] == ["silent"]
    assert bench.count("links_silent") == 1


def test_whatever_comes_is_a_sign_of_life(bench: Bench) -> None:
    link = bench.link(1, relay=False)
    actions = []
    for _ in range(100):
        actions += bench.advance(1.0)
        bench.receive(link, bench.frame(link, 50))
    assert not of(actions, Unlinked)
    assert not sent(actions, link, Kind.PING)


def test_a_ping_is_answered_with_its_id(bench: Bench) -> None:
    link = bench.link(1)
    [pong] = sent(bench.receive(link, bench.frame(link, Kind.PING, message_id=b"12345678")), link)
    assert (pong.kind, pong.message_id) == (Kind.PONG, b"12345678")


def test_a_pong_to_another_ping_measures_nothing(bench: Bench) -> None:
    link = bench.link(1)
    bench.receive(link, bench.frame(link, Kind.PONG, message_id=b"guessed!"))
    assert bench.router.table.get(link.id).rtt is None  # type: ignore[union-attr]


def test_a_dead_peer_is_suspect_until_it_is_seen_again(bench: Bench) -> None:
    link = bench.link(1)
    assert record(1) in bench.router.known_relays()
    bench.router.link_down(link, "connection lost", 0.0)
    assert record(1) not in bench.router.known_relays()
    bench.link(1)
    assert record(1) in bench.router.known_relays()


# WebRTC links beside others


def able(**options: object) -> tuple[Bench, BenchLink]:
    """A leaf that can make WebRTC links, with a relay that signals come through."""
    bench = Bench(limits=Limits(dead_after=1e6), webrtc=4, **options)  # type: ignore[arg-type]
    return bench, bench.link(1000)


def answered(bench: Bench, relay: BenchLink, number: int, *, preferred: bool = False) -> tuple[str, list[Action]]:
    """A WebRTC link that the peer with that number offered comes up."""
    peer, negotiation, handle = node_id(number), b"negotia%d" % preferred, f"webrtc {number}"
    offer = Offer(1 + preferred, description(1), preferred).to_bytes()
    frame = bench.frame(relay, Kind.SIGNAL, source=peer, message_id=negotiation, payload=offer)
    assert of(bench.receive(relay, frame), Negotiate)
    actions = bench.router.link_up(
        handle,
        peer,
        bench.now,
        dialled=False,
        record=record(number),
        authority="peer0.example:80",
        negotiation=negotiation,
        rtt=0.125,
    )
    return handle, actions


def used(bench: Bench, number: int) -> object:
    neighbour = bench.router.table.get(node_id(number))
    return None if neighbour is None else neighbour.link


def test_a_webrtc_link_makes_nobody_a_relay() -> None:
    bench, relay = able(relaying=False)
    bench.router.advertise([url(0)], 0.0)
    answered(bench, relay, 1)
    neighbour = bench.router.table.get(node_id(1))
    assert neighbour is not None
    assert not bench.router.relaying
    assert not neighbour.reachable
    assert not neighbour.trusted
    assert (neighbour.url, neighbour.dialled, neighbour.rtt) == ("", False, 0.125)


@pytest.mark.parametrize("dialled", [True, False])
def test_a_websocket_is_used_before_a_webrtc_link(dialled: bool) -> None:
    bench, relay = able()
    rtc, _ = answered(bench, relay, 1)
    link, actions = bench.link_with_actions(1, dialled=dialled)
    assert used(bench, 1) is link
    assert of(actions, Relinked) == [Relinked(link.id, link)]
    assert not of(actions, Linked)
    assert closed(bench.advance(4 * bench.limits.handshake_timeout)) == [rtc]


@pytest.mark.parametrize("dialled", [True, False])
def test_a_preferred_webrtc_link_is_used_before_a_websocket(dialled: bool) -> None:
    bench, relay = able()
    link = bench.link(1, dialled=dialled)
    rtc, actions = answered(bench, relay, 1, preferred=True)
    assert used(bench, 1) == rtc
    assert of(actions, Relinked) == [Relinked(link.id, rtc)]
    assert {frame.kind for frame in sent(actions, rtc)} == {Kind.STATUS}
    assert closed(bench.advance(4 * bench.limits.handshake_timeout)) == [link]
    assert used(bench, 1) == rtc


def test_a_relay_that_was_proven_stays_one_over_webrtc() -> None:
    bench, relay = able()
    bench.router.link_up(
        "websocket", node_id(1), 0.0, dialled=True, url=url(1), record=record(1), scope=2, group="10.0.0.0/24"
    )
    rtc, _ = answered(bench, relay, 1, preferred=True)
    neighbour = bench.router.table.get(node_id(1))
    assert neighbour is not None
    assert neighbour.trusted
    assert neighbour.relay
    assert not neighbour.transit
    assert (neighbour.scope, neighbour.group, neighbour.rtt) == (2, "10.0.0.0/24", 0.125)
    bench.receive(rtc, bench.status(BenchLink(1, node_id(1), record(1)), trusts=True))
    assert neighbour.transit


def test_what_a_neighbour_testified_lasts_as_long_as_its_websocket() -> None:
    bench, relay = able(relaying=False)
    bench.router.advertise([url(0)], 0.0)
    bench.link(1, dialled=False)
    assert bench.router.relaying
    answered(bench, relay, 1, preferred=True)
    bench.advance(4 * bench.limits.handshake_timeout)
    bench.advance(1400.0)
    assert bench.router.relaying
    bench.advance(100.0)
    assert not bench.router.relaying


def test_when_the_webrtc_link_ends_the_websocket_takes_its_place() -> None:
    bench, relay = able()
    link = bench.link(1)
    rtc, _ = answered(bench, relay, 1, preferred=True)
    actions = bench.router.link_down(rtc, "connection lost", bench.now)
    assert of(actions, Relinked) == [Relinked(link.id, link)]
    assert not of(actions, Unlinked)
    assert used(bench, 1) is link


def test_a_webrtc_link_is_no_report_of_a_dial() -> None:
    bench, _ = able()
    bench.router.learn(join_records([record(500, relay=False)]), 0, 0.0)
    bench.router.connect(node_id(500), 0.0)
    [begun] = of(bench.advance(3.0), Negotiate)
    bench.router.link_up("webrtc", node_id(500), bench.now, dialled=True, negotiation=begun.negotiation)
    assert bench.router.sizes()["dials"] == 1
    bench.router.dial_failed(node_id(500), bench.now)
    assert bench.router.sizes()["dials"] == 0
    assert used(bench, 500) == "webrtc"


# Two ends


class OneEnd:
    """The links of peer `number` with peer `other`, each named by its place in a list."""

    def __init__(self, number: int, other: int) -> None:
        self.state = make_state(number, limits=Limits(dead_after=1e6))
        self.parts = Parts(self.state, EVERYBODY, None, 0)
        self.other = node_id(other)
        self.up: set[int] = set()
        self.closed: list[int] = []

    def act(self) -> None:
        for action in self.parts.settle():
            if isinstance(action, CloseLink):
                assert isinstance(action.link, int)
                self.up.discard(action.link)
                self.closed.append(action.link)

    def comes_up(self, link: int, rank: Rank, *, dialled: bool) -> None:
        self.up.add(link)
        self.parts.links.up(Neighbour(self.other, link, self.state.now, dialled, rank=rank))
        self.act()

    def goes_down(self, link: int) -> None:
        self.up.discard(link)
        self.parts.links.down(link, "closed by the other side", True)
        self.act()

    def advance(self, now: float) -> None:
        self.parts.begin(now)
        self.parts.links.handle_timeout()
        self.act()


kinds_of_links = st.lists(st.tuples(st.sampled_from(Rank), st.booleans()), min_size=2, max_size=6)


@given(kinds_of_links, st.permutations(range(12)), st.randoms(use_true_random=False), st.sampled_from([0.2, 1.0, 4.0]))
@settings(max_examples=60)
def test_two_ends_that_see_links_come_up_in_different_orders_keep_the_same_one(
    links: list[tuple[Rank, bool]], order: list[int], rng: random.Random, most: float
) -> None:
    """Whatever comes up where and when, and however long the other end takes to see a link close."""
    one, two = ends = OneEnd(0, 1), OneEnd(1, 0)
    pending = [divmod(place, 2) for place in order if place // 2 < len(links)]
    closing: list[tuple[float, OneEnd, int]] = []
    now = 0.0
    for step in range(160):
        now += 0.2
        for end, other in ((one, two), (two, one)):
            end.advance(now)
            while end.closed:
                closing.append((now + rng.uniform(0.0, most), other, end.closed.pop()))
        for each in [each for each in closing if each[0] <= now]:
            _, end, link = each
            if (link, ends.index(end)) not in pending:
                closing.remove(each)
                end.goes_down(link)
        if pending and step % 3 == 0:
            link, place = pending.pop()
            rank, first_dialled = links[link]
            ends[place].comes_up(link, rank, dialled=first_dialled == (place == 0))
    assert len(one.up) == 1
    assert one.up == two.up
    assert {end.state.table.get(end.other).link for end in ends} == one.up  # type: ignore[union-attr]
    if len(links) == 2 and links[0] != links[1]:
        [kept] = one.up
        assert links[kept][0] == max(rank for rank, _ in links)


def test_two_ends_that_see_four_links_come_up_in_opposite_orders_keep_one() -> None:
    """Before either sees what the other closes."""
    one, two = OneEnd(0, 1), OneEnd(1, 0)
    for link in range(4):
        one.comes_up(link, Rank.WEBSOCKET, dialled=True)
        two.comes_up(3 - link, Rank.WEBSOCKET, dialled=False)
    assert two.closed == []
    for now in (5.0, 20.0):
        for link in one.closed:
            two.goes_down(link)
        one.closed.clear()
        one.advance(now)
        two.advance(now)
    assert one.up == two.up == {3}


def test_a_peer_that_keeps_all_its_spares_loses_the_oldest(bench: Bench) -> None:
    """Who dials again and again does not make us hold links without end."""
    links = [bench.link(1, dialled=False)]
    shut: list[object] = []
    for _ in range(20):
        link, actions = second(bench, 1, dialled=False)
        links.append(link)
        shut += closed(actions)
    assert shut == links[:12]
    assert bench.router.sizes()["links"] == 9


def test_a_spare_that_takes_its_place_has_its_own_round_trip_time() -> None:
    bench, relay = able()
    bench.link(1)
    neighbour = bench.router.table.get(node_id(1))
    assert neighbour is not None
    neighbour.rtt = 0.5
    rtc, _ = answered(bench, relay, 1, preferred=True)
    assert neighbour.rtt == 0.125
    bench.router.link_down(rtc, "connection lost", bench.now)
    assert neighbour.rtt == 0.5
