from __future__ import annotations

from itertools import permutations
from typing import Final

import pytest

from trio_relay.overlay.actions import Action, Answered, CloseLink, EndNegotiation, Linked, Negotiate
from trio_relay.wire.frame import Frame, Kind, parse_frames_untrusted
from trio_relay.wire.hello import Reason
from trio_relay.wire.signal import Answer, Offer, Over, Signal, parse_signal_untrusted

from .support import Bench, BenchLink, node_id, of, sent
from .webrtc_world import Side, Try, World, description

SDP: Final = description(1)


@pytest.fixture
def world() -> World:
    """Two sides without addresses: only WebRTC links them."""
    return World()


def signals(world: World) -> list[Signal]:
    """What is under way."""
    frames = [frame for _, raw in world.wire for frame in parse_frames_untrusted(raw)]
    return [parse_signal_untrusted(frame.payload) for frame in frames if frame.kind == Kind.SIGNAL]


def attempt_of(side: Side) -> Try:
    [attempt] = side.tries.values()
    return attempt


def offered(world: World, number: int = 0) -> Try:
    """That side has sent its offer to the next one."""
    side = world.sides[number]
    world.connect(side, world.sides[1 - number])
    attempt = attempt_of(side)
    world.describe(side, attempt)
    return attempt


def smaller_first(world: World) -> tuple[Side, Side]:
    one, two = sorted(world.sides, key=lambda side: side.id)
    return one, two


# One offers, the other answers


def test_an_offer_is_answered(world: World) -> None:
    alice, bob = world.sides
    ours = offered(world)
    assert [type(signal) for signal in signals(world)] == [Offer]
    world.arrive(0)
    theirs = attempt_of(bob)
    assert (theirs.action.id, theirs.action.negotiation) == (alice.id, ours.action.negotiation)
    assert theirs.action.offer == ours.description
    world.describe(bob, theirs)
    world.arrive(0)
    assert ours.answer == theirs.description
    assert not world.wire
    world.advance(19.0)
    assert not [signal for signal in signals(world) if isinstance(signal, Offer | Answer)]


def test_an_offer_is_repeated_until_it_is_answered(world: World) -> None:
    offered(world)
    for seconds, copies in ((0.99, 1), (0.02, 2), (1.9, 2), (0.2, 3), (4.0, 4)):
        world.advance(seconds)
        assert len(signals(world)) == copies
    assert len({raw[3:] for _, raw in world.wire}) == 1
    assert [parse_frames_untrusted(raw)[0].attempt for _, raw in world.wire] == [0, 1, 2, 3]
    world.arrive(0)
    world.describe(world.sides[1], attempt_of(world.sides[1]))
    world.arrive(len(world.wire) - 1)
    world.wire.clear()
    world.advance(7.0)
    assert not world.wire


@pytest.mark.parametrize("copies", [1, 2, 5])
def test_a_repeated_offer_gets_the_same_answer(world: World, copies: int) -> None:
    bob = world.sides[1]
    offered(world)
    world.arrive(0, again=True)
    world.describe(bob, attempt_of(bob))
    first = world.wire.pop()[1]
    for _ in range(copies):
        world.arrive(0, again=True)
        assert world.wire.pop()[1][8:] == first[8:]
    assert len(bob.tries) == 1


def test_an_answer_counts_once(world: World) -> None:
    alice, bob = world.sides
    offered(world)
    world.arrive(0)
    world.describe(bob, attempt_of(bob))
    world.arrive(0, again=True)
    world.arrive(0)
    assert attempt_of(alice).answer
    assert alice.router.counts()["signals_late"] == 1


def test_a_link_comes_of_it(world: World) -> None:
    offered(world)
    world.settle(3.0)
    alice, bob = world.sides
    ours, theirs = alice.router.table.get(bob.id), bob.router.table.get(alice.id)
    assert ours is not None
    assert theirs is not None
    assert (ours.dialled, theirs.dialled, ours.wanted) == (True, False, True)
    assert not ours.trusted
    assert not theirs.trusted
    assert not alice.router.relaying
    assert not bob.router.relaying
    assert alice.router.sizes()["negotiations"] == bob.router.sizes()["negotiations"] == 0


# Ends


def test_whose_attempt_fails_tells_the_other(world: World) -> None:
    alice, bob = world.sides
    offered(world)
    world.arrive(0)
    world.fail(bob, attempt_of(bob))
    assert signals(world) == [Over(Reason.FAILED)]
    world.arrive(0)
    assert not alice.tries
    assert alice.router.counts()["negotiations"] == 1


@pytest.mark.parametrize("side", [0, 1])
def test_an_attempt_without_a_report_is_given_up(world: World, side: int) -> None:
    offered(world)
    world.arrive(0)
    if side:
        world.describe(world.sides[1], attempt_of(world.sides[1]))
        world.cancel(world.sides[0], world.sides[1])
    world.wire.clear()
    world.advance(19.9)
    assert len(world.sides[1].tries) == 1
    world.advance(0.2)
    assert not world.sides[0].tries
    assert not world.sides[1].tries


def test_whose_end_was_lost_hears_it_again(world: World) -> None:
    """The answer to an offer that was given up, and a copy of an offer that was refused, are told what became of it."""
    alice, bob = world.sides
    offered(world)
    world.arrive(0)
    world.cancel(alice, bob)
    world.wire.clear()
    world.describe(bob, attempt_of(bob))
    world.arrive(0)
    assert signals(world) == [Over(Reason.UNWANTED)]
    world.arrive(0)
    assert not bob.tries
    assert alice.router.counts()["signals_late"] == 1


def test_an_end_that_is_late_changes_nothing(world: World) -> None:
    alice, bob = world.sides
    offered(world)
    late = world.wire[0]
    world.cancel(alice, bob)
    offered(world)
    world.wire[0], world.wire[2] = world.wire[2], world.wire[0]
    world.arrive(0)
    second = attempt_of(bob)
    world.wire.insert(0, late)
    while world.wire:
        world.arrive(0)
    assert attempt_of(bob) is second
    assert bob.router.counts()["signals_late"] == 3


def test_who_offers_anew_has_given_up_the_old_attempt(world: World) -> None:
    alice, bob = world.sides
    offered(world)
    world.arrive(0)
    world.cancel(alice, bob)
    world.wire.clear()
    new = offered(world)
    world.arrive(0)
    assert attempt_of(bob).action.negotiation == new.action.negotiation


@pytest.mark.parametrize("smaller_restarts", [True, False])
def test_who_restarts_gets_through(world: World, smaller_restarts: bool) -> None:
    """The other one has had its answer, and waits for the connection."""
    one, two = smaller_first(world)
    old, waits = (one, two) if smaller_restarts else (two, one)
    offered(world, waits.number)
    world.arrive(0)
    world.describe(old, attempt_of(old))
    world.arrive(0)
    assert attempt_of(waits).answer
    fresh = World().sides[old.number]
    world.sides[old.number] = world.by_id[old.id] = fresh
    world.advance(0.1)
    offered(world, old.number)
    world.arrive(len(world.wire) - 1)
    assert attempt_of(waits).action.offer == attempt_of(fresh).description


# Both offer


@pytest.mark.parametrize("order", list(permutations(range(2))))
@pytest.mark.parametrize("preferences", [("websocket", "websocket"), ("webrtc", "webrtc")])
def test_of_two_alike_the_smaller_ids_offer_is_used(
    world: World, order: tuple[int, ...], preferences: tuple[str, str]
) -> None:
    one, two = smaller_first(world)
    for side, other, prefer in ((one, two, preferences[0]), (two, one, preferences[1])):
        world.connect(side, other, "webrtc" if prefer == "webrtc" else "websocket")
        world.describe(side, attempt_of(side))
    frames = list(world.wire)
    world.wire[:] = [frames[position] for position in order]
    world.arrive(0)
    world.arrive(0)
    assert attempt_of(one).action.offer is None
    assert attempt_of(two).action.offer == attempt_of(one).description
    assert one.router.counts()["negotiations_glare"] == 1
    world.settle(3.0)
    assert one.linked >= {two.id}
    assert two.linked >= {one.id}
    assert [len([end for end in side.ends if end.state == "up"]) for side in (one, two)] == [1, 1]


def test_a_preferred_offer_is_used_before_one_that_is_not(world: World) -> None:
    one, two = smaller_first(world)
    world.connect(one, two)
    world.connect(two, one, "webrtc")
    for side in (one, two):
        world.describe(side, attempt_of(side))
    world.arrive(0)
    world.arrive(0)
    assert attempt_of(two).action.offer is None
    assert attempt_of(one).action.offer == attempt_of(two).description


def test_when_the_offer_that_is_used_ends_the_other_comes_again(world: World) -> None:
    one, two = smaller_first(world)
    offered(world, one.number)
    offered(world, two.number)
    world.wire.pop(0)
    world.arrive(0)
    world.fail(one, attempt_of(one))
    world.wire.clear()
    world.advance(1.1)
    world.arrive(0)
    assert attempt_of(one).action.offer == attempt_of(two).description


def test_two_that_each_answer_a_dead_offer_find_out(world: World) -> None:
    """One gave its offer up and answers; the other gets that offer late, and yields to it."""
    one, two = smaller_first(world)
    offered(world, one.number)
    dead = world.wire.pop()
    world.cancel(one, two)
    world.wire.clear()
    offered(world, two.number)
    world.arrive(0)
    world.wire.append(dead)
    world.arrive(0)
    assert attempt_of(one).action.offer
    assert attempt_of(two).action.offer
    world.describe(one, attempt_of(one))
    world.arrive(0)
    assert not two.tries
    while world.wire:
        world.arrive(0)
    assert not one.tries
    world.settle(5.0)
    assert two.linked >= {one.id}


# Refusals


def receive(
    bench: Bench, link: BenchLink, signal: bytes, number: int = 500, negotiation: bytes = b"negotia."
) -> list[Action]:
    frame = bench.frame(link, Kind.SIGNAL, source=node_id(number), message_id=negotiation, payload=signal)
    return bench.receive(link, frame)


def overs(actions: list[Action]) -> list[int]:
    return [frame.payload[2] for frame in sent(actions, kind=Kind.SIGNAL) if frame.payload[0] == 3]


def bench_with(webrtc: int = 4, **options: object) -> tuple[Bench, BenchLink]:
    bench = Bench(webrtc=webrtc, **options)  # type: ignore[arg-type]
    return bench, bench.link(1)


OFFER: Final = Offer(5, SDP).to_bytes()


def test_without_webrtc_offers_are_refused() -> None:
    bench, link = bench_with(0)
    actions = receive(bench, link, OFFER)
    assert overs(actions) == [Reason.NO_WEBRTC]
    assert not of(actions, Negotiate)
    assert not receive(bench, link, Answer(5, SDP).to_bytes()) + receive(bench, link, Over(1).to_bytes())
    assert bench.count("signals_refused") == 3


def test_who_is_not_admitted_is_refused() -> None:
    bench, link = bench_with(admits=lambda peer: peer != node_id(500))
    assert overs(receive(bench, link, OFFER)) == [Reason.NOT_ADMITTED]
    assert of(receive(bench, link, OFFER, 501, b"another."), Negotiate)


def test_whom_the_application_disconnected_is_refused() -> None:
    bench, link = bench_with()
    bench.router.disconnect(node_id(500), 0.0)
    assert overs(receive(bench, link, OFFER)) == [Reason.DISCONNECTED]


def test_disconnecting_ends_what_the_other_side_began() -> None:
    bench, link = bench_with()
    assert of(receive(bench, link, OFFER), Negotiate)
    actions = bench.router.disconnect(node_id(500), 0.0)
    assert [action.negotiation for action in of(actions, EndNegotiation)] == [b"negotia."]
    assert overs(actions) == [Reason.DISCONNECTED]


def test_a_refused_offer_that_comes_again_is_refused_again() -> None:
    bench, link = bench_with()
    bench.router.disconnect(node_id(500), 0.0)
    receive(bench, link, OFFER)
    bench.advance(8.0)
    assert overs(receive(bench, link, OFFER)) == [Reason.DISCONNECTED]
    assert bench.count("signals_late") == 1


def test_who_is_linked_is_refused_but_for_an_upgrade() -> None:
    bench, link = bench_with()
    bench.link(500, relay=False)
    assert overs(receive(bench, link, OFFER)) == [Reason.DUPLICATE]
    [action] = of(receive(bench, link, Offer(6, SDP, preferred=True).to_bytes(), negotiation=b"upgrade."), Negotiate)
    bench.router.link_up("webrtc", action.id, 0.0, dialled=False, negotiation=b"upgrade.", rtt=0.5)
    neighbour = bench.router.table.get(node_id(500))
    assert neighbour is not None
    assert (neighbour.link, neighbour.rtt) == ("webrtc", 0.5)
    last = receive(bench, link, Offer(7, SDP, preferred=True).to_bytes(), negotiation=b"one more")
    assert overs(last) == [Reason.DUPLICATE]


def test_strangers_do_not_fill_the_table_nor_open_sockets_without_end() -> None:
    bench, link = bench_with(4)
    actions: list[Action] = []
    for number in range(600, 640):
        actions += receive(bench, link, OFFER, number, number.to_bytes(8, "big"))
    assert len(of(actions, Negotiate)) == 3
    assert overs(actions) == [Reason.FULL] * 37
    bench.router.connect(node_id(700), bench.now)
    assert of(bench.advance(3.0), Negotiate)
    assert bench.router.sizes()["negotiations"] == 4


def test_the_rate_of_offers_is_bounded() -> None:
    bench, link = bench_with(1000)
    actions: list[Action] = []
    for number in range(600, 640):
        actions += receive(bench, link, OFFER, number, number.to_bytes(8, "big"))
    assert (len(of(actions, Negotiate)), len(overs(actions))) == (20, 0)
    assert bench.count("offers_deferred") == 20
    bench.advance(1.0)
    # Its repeat is as good as the first.
    assert len(of(receive(bench, link, OFFER, 639, (639).to_bytes(8, "big")), Negotiate)) == 1


def test_one_peer_that_begins_anew_again_and_again_is_bounded_too() -> None:
    bench, link = bench_with()
    started = 0
    for number in range(100):
        started += len(
            of(receive(bench, link, Offer(number, SDP).to_bytes(), 500, number.to_bytes(8, "big")), Negotiate)
        )
    assert started == 20
    assert bench.router.sizes()["negotiations"] == 1


def test_whom_we_want_a_link_with_opens_no_sockets_without_end_either() -> None:
    """It ends each of its attempts before it begins the next."""
    bench, link = bench_with()
    bench.router.connect(node_id(500), bench.now)
    started = 0
    for number in range(100):
        negotiation = number.to_bytes(8, "big")
        started += len(of(receive(bench, link, Offer(number, SDP).to_bytes(), 500, negotiation), Negotiate))
        receive(bench, link, Over(Reason.UNWANTED).to_bytes(), 500, negotiation)
    assert started == 20
    assert len(of(receive(bench, link, OFFER, 501), Negotiate)) == 1, "strangers are counted apart"


def test_an_attempt_may_take_as_long_as_it_is_said_to() -> None:
    bench, link = bench_with(negotiation_timeout=60.0)
    receive(bench, link, OFFER)
    bench.advance(60.0)
    assert bench.router.sizes()["negotiations"] == 1
    assert of(bench.advance(11.0), EndNegotiation)
    assert bench.count("negotiations_expired") == 1


# What nobody honest sends


def test_garbage_ends_that_negotiation_and_nothing_else() -> None:
    bench, link = bench_with()
    receive(bench, link, OFFER, 500, b"negotia1")
    receive(bench, link, OFFER, 501, b"negotia2")
    actions = receive(bench, link, b"\1\0" + bytes(8) + b"rubbish", 500, b"negotia1")
    assert [(a.id, a.negotiation) for a in of(actions, EndNegotiation)] == [(node_id(500), b"negotia1")]
    assert overs(actions) == [Reason.PROTOCOL]
    assert overs(receive(bench, link, b"\1\0" + bytes(8) + b"rubbish", 502, b"negotia3")) == [Reason.PROTOCOL]
    assert not receive(bench, link, b"\3", 502, b"negotia3")
    assert (bench.count("bad_signal"), bench.router.sizes()["negotiations"]) == (3, 1)


def test_another_peers_negotiation_cannot_be_taken_over() -> None:
    bench, link = bench_with()
    receive(bench, link, OFFER, 500)
    for signal in (Offer(9, SDP).to_bytes(), Answer(9, SDP).to_bytes(), Over(Reason.UNWANTED).to_bytes(), b"\1"):
        actions = receive(bench, link, signal, 501)
        assert not of(actions, EndNegotiation) + of(actions, Negotiate) + of(actions, Answered)
    assert bench.router.sizes()["negotiations"] == 1


def test_a_description_of_ours_that_cannot_be_sent_ends_the_attempt() -> None:
    bench, _ = bench_with()
    bench.router.connect(node_id(500), 0.0)
    [begun] = of(bench.advance(3.0), Negotiate)
    actions = bench.router.described(begun.negotiation, "rubbish", bench.now)
    assert [action.negotiation for action in of(actions, EndNegotiation)] == [begun.negotiation]
    assert not sent(actions, kind=Kind.SIGNAL)
    assert not bench.router.described(begun.negotiation, SDP, bench.now)


def test_a_link_of_an_attempt_that_is_over_closes() -> None:
    bench, link = bench_with()
    receive(bench, link, OFFER)
    receive(bench, link, Over(Reason.UNWANTED).to_bytes())
    actions = bench.router.link_up("late", node_id(500), 0.0, dialled=False, negotiation=b"negotia.")
    assert [(a.link, a.reason) for a in of(actions, CloseLink)] == [("late", Reason.UNWANTED)]
    assert not of(actions, Linked)
    assert bench.count("negotiations_late") == 1


def test_a_link_with_somebody_else_closes_and_the_attempt_fails() -> None:
    bench, link = bench_with()
    receive(bench, link, OFFER)
    actions = bench.router.link_up("other", node_id(501), 0.0, dialled=False, negotiation=b"negotia.")
    assert [a.link for a in of(actions, CloseLink)] == ["other"]
    assert overs(actions) == [Reason.FAILED]
    assert bench.router.sizes()["negotiations"] == 0


def test_the_end_of_the_node_ends_its_attempts() -> None:
    bench, link = bench_with()
    receive(bench, link, OFFER)
    actions = bench.router.goodbye(0.0)
    assert of(actions, EndNegotiation)
    assert overs(actions) == [Reason.SHUTDOWN]
    assert overs(receive(bench, link, OFFER, 501, b"another.")) == [Reason.SHUTDOWN]


def test_reports_about_attempts_that_are_over_do_nothing() -> None:
    bench, _ = bench_with()
    assert bench.router.described(b"nothing.", SDP, 0.0) == bench.router.negotiation_failed(b"nothing.", "", 0.0) == []


def test_a_frame_with_a_signal_may_be_passed_on() -> None:
    """Relays know nothing about it."""
    bench, link = bench_with()
    other = bench.link(2)
    frame = Frame(kind=Kind.SIGNAL, to=other.id, source=link.id, message_id=b"negotia.", payload=b"anything")
    assert [f.payload for f in sent(bench.receive(link, frame), other)] == [b"anything"]
