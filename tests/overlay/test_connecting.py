from __future__ import annotations

import pytest

from trio_relay.limits import Limits
from trio_relay.overlay.actions import Action, Connected, Dial, Found, Linked, NotConnected, Preference
from trio_relay.overlay.table import Rank
from trio_relay.overlay.words import explain
from trio_relay.wire.frame import Kind, parse_frames_untrusted
from trio_relay.wire.hello import Reason
from trio_relay.wire.ids import NodeId
from trio_relay.wire.record import join_records

from .support import Bench, BenchLink, node_id, of, record, sent, url
from .webrtc_world import Side, World

PEER = node_id(500)


@pytest.fixture
def bench() -> Bench:
    return Bench(limits=Limits(dead_after=1e6))


@pytest.fixture
def link(bench: Bench) -> BenchLink:
    return bench.link(1)


def dials(actions: list[Action]) -> list[NodeId]:
    return [action.expected for action in of(actions, Dial) if not action.probe]


def connect(bench: Bench, peer: NodeId = PEER) -> list[Action]:
    started, actions = bench.router.connect(peer, bench.now)
    assert started
    return actions


def test_a_known_peer_is_dialled_at_its_address(bench: Bench, link: BenchLink) -> None:
    bench.router.learn(join_records([record(500, relay=False)]), 0, 0.0)
    [dial] = of(connect(bench), Dial)
    assert (dial.urls, dial.expected, dial.probe) == ((url(500),), PEER, False)
    _, actions = bench.link_with_actions(500, dialled=True)
    assert [linked.id for linked in of(actions, Linked)] == [PEER]
    assert of(actions, Connected) == [Connected(PEER)]
    assert bench.router.table.get(PEER).wanted  # type: ignore[union-attr]


def test_an_unknown_peer_is_looked_up_first(bench: Bench, link: BenchLink) -> None:
    actions = connect(bench)
    [query] = [frame for frame in sent(actions, kind=Kind.FIND) if frame.payload == PEER]
    payload = join_records([record(500, relay=False)])
    actions = bench.receive(link, bench.frame(link, Kind.FOUND, message_id=query.message_id, payload=payload))
    assert dials(actions) == [PEER]
    assert not of(actions, Found)
    so_far = bench.router.connecting(PEER)
    assert so_far is not None
    assert so_far.known
    assert bench.router.cancel_connect(PEER) == []
    assert bench.router.connecting(PEER) is None


def test_a_peer_without_an_address_is_asked_to_dial_us(bench: Bench, link: BenchLink) -> None:
    bench.router.learn(join_records([record(500, (), relay=False)]), 0, 0.0)
    [request] = sent(connect(bench), kind=Kind.CONNECT)
    assert (request.to, request.payload) == (PEER, join_records([bench.router.record]))


def test_a_peer_that_we_cannot_dial_is_asked_to_dial_us(bench: Bench, link: BenchLink) -> None:
    bench.router.learn(join_records([record(500, relay=False)]), 0, 0.0)
    connect(bench)
    actions = bench.router.dial_failed(PEER, 1.0)
    assert [frame.to for frame in sent(actions, kind=Kind.CONNECT)] == [PEER]


def test_a_refusal_is_told(bench: Bench, link: BenchLink) -> None:
    """Once we asked, with the message id of our request, by whom we asked."""
    bench.router.learn(join_records([record(500, (), relay=False)]), 0, 0.0)
    told = NotConnected(PEER, f"it does not dial us: {explain(Reason.NO_ADDRESS)}")

    def refusal(
        message_id: bytes, source: NodeId = PEER, payload: bytes = bytes([Reason.NO_ADDRESS])
    ) -> list[NotConnected]:
        frame = bench.frame(link, Kind.REFUSED, source=source, payload=payload, message_id=message_id)
        return of(bench.receive(link, frame), NotConnected)

    assert refusal(bytes(8)) == []
    [asked] = sent(connect(bench), kind=Kind.CONNECT)
    assert refusal(bytes(8)) == refusal(asked.message_id, node_id(501)) == refusal(asked.message_id, payload=b"") == []
    assert bench.count("answers_to_nothing") == 4
    assert refusal(asked.message_id) == [told]


def test_who_was_not_asked_yet_refuses_nothing(bench: Bench, link: BenchLink) -> None:
    """We look for it, or dial it, ourselves."""
    connect(bench)
    refusal = bench.frame(link, Kind.REFUSED, source=PEER, payload=bytes([Reason.NO_ADDRESS]), message_id=bytes(8))
    assert of(bench.receive(link, refusal), NotConnected) == []
    assert bench.count("answers_to_nothing") == 1


def test_it_is_tried_again_until_its_deadline(bench: Bench, link: BenchLink) -> None:
    bench.router.learn(join_records([record(500, (), relay=False)]), 0, 0.0)
    actions = connect(bench) + bench.advance(60.0)
    assert len(sent(actions, kind=Kind.CONNECT)) == 8
    assert of(actions, NotConnected) == [NotConnected(PEER, "no link after 15 s", known=True)]
    assert bench.router.connecting(PEER) is None
    assert bench.router.cancel_connect(PEER) == []


def test_a_link_that_is_there_is_only_marked(bench: Bench, link: BenchLink) -> None:
    assert connect(bench, link.id) == [Connected(link.id)]
    assert bench.router.table.get(link.id).wanted  # type: ignore[union-attr]


def test_no_more_wishes_than_the_limit(bench: Bench, link: BenchLink) -> None:
    for number in range(1000, 1000 + bench.limits.lookups):
        connect(bench, node_id(number))
    assert not bench.router.connect(PEER, bench.now)[0]
    assert bench.count("connect_refused") == 1


def test_a_disconnected_peer_may_be_connected_to_again(bench: Bench, link: BenchLink) -> None:
    bench.router.disconnect(link.id, 0.0)
    assert dials(connect(bench, link.id)) == [link.id]
    assert bench.router.admit(link.id, False, True, 0.0) is None


# Asked by others


def request(bench: Bench, link: BenchLink, number: int, payload: bytes | None = None) -> list[Action]:
    payload = join_records([record(number, relay=False)]) if payload is None else payload
    return bench.receive(link, bench.frame(link, Kind.CONNECT, source=node_id(number), payload=payload))


def refusals(actions: list[Action]) -> list[int]:
    return [frame.payload[0] for frame in sent(actions, kind=Kind.REFUSED)]


def test_asked_to_dial_we_dial(bench: Bench, link: BenchLink) -> None:
    actions = request(bench, link, 500)
    assert dials(actions) == [PEER]
    assert not refusals(actions)
    assert not dials(request(bench, link, 500))


def test_without_an_address_we_refuse(bench: Bench, link: BenchLink) -> None:
    assert refusals(request(bench, link, 500, join_records([record(500, (), relay=False)]))) == [Reason.NO_ADDRESS]
    assert refusals(request(bench, link, 501, join_records([record(502)]))) == [Reason.NO_ADDRESS]
    assert bench.count("connect_requests_refused") == 2


def test_a_malformed_request_is_refused(bench: Bench, link: BenchLink) -> None:
    assert refusals(request(bench, link, 500, b"\0")) == [Reason.PROTOCOL]


def test_whom_the_application_disconnected_is_refused(bench: Bench, link: BenchLink) -> None:
    bench.router.disconnect(PEER, 0.0)
    assert refusals(request(bench, link, 500)) == [Reason.DISCONNECTED]


def test_requests_are_limited_in_rate_and_by_our_dials(bench: Bench, link: BenchLink) -> None:
    actions: list[Action] = []
    for number in range(600, 640):
        actions += request(bench, link, number)
    assert len(dials(actions)) == bench.limits.dials
    assert refusals(actions) == [Reason.FULL] * (40 - bench.limits.dials)


@pytest.mark.parametrize(
    "payload", [b"", b"\0", join_records([record(502)]), join_records([record(500, (), relay=False)])]
)
def test_a_request_that_originals_carried_gets_no_answer(bench: Bench, link: BenchLink, payload: bytes) -> None:
    """Anybody can make it up in anybody's name."""
    frame = bench.frame(link, Kind.CONNECT, source=PEER, payload=payload)
    assert refusals(bench.router.receive_tunnelled(frame, 0, bench.now)) == []
    assert bench.count("connect_requests_refused") == 1
    assert len(refusals(bench.receive(link, frame))) == 1


def test_a_request_that_originals_carried_leads_to_a_dial(bench: Bench, link: BenchLink) -> None:
    frame = bench.frame(link, Kind.CONNECT, source=PEER, payload=join_records([record(500, relay=False)]))
    assert dials(bench.router.receive_tunnelled(frame, 0, bench.now)) == [PEER]


# WebRTC, or WebSocket


@pytest.fixture
def world() -> World:
    """Two sides without addresses."""
    return World()


def listening(*numbers: int, known: bool = True) -> tuple[World, Side, Side]:
    world = World(listening=numbers, known=known)
    return world, world.sides[0], world.sides[1]


def begun(side: Side) -> list[bool]:
    """For each attempt of that side, whether it offers."""
    return [attempt.action.offer is None for attempt in side.tries.values()]


def test_webrtc_is_offered_three_seconds_after_the_websocket() -> None:
    world, alice, bob = listening(1)
    world.connect(alice, bob)
    assert len(alice.dials) == 1
    world.advance(2.9)
    assert not begun(alice)
    world.advance(0.2)
    assert begun(alice) == [True]


@pytest.mark.parametrize("known", [True, False])
def test_webrtc_is_offered_at_once_where_no_websocket_can_be(known: bool) -> None:
    """Neither side has an address; or it is not known whether the other one has."""
    world, alice, bob = listening(known=known)
    world.connect(alice, bob)
    if not known:
        assert not begun(alice)
        world.advance(2.5)
    assert begun(alice) == [True]


def test_webrtc_is_offered_when_the_dial_failed_and_we_have_no_address() -> None:
    world, alice, bob = listening(1)
    world.connect(alice, bob)
    world.dialled(alice, success=False)
    assert begun(alice) == [True]


def test_webrtc_is_offered_when_the_other_side_does_not_dial_us() -> None:
    world, alice, bob = listening(0)
    world.connect(alice, bob)
    bob.router.disconnect(alice.id, world.now)
    [(_, request)] = world.wire
    assert parse_frames_untrusted(request)[0].kind == Kind.CONNECT
    assert not begun(alice)
    world.arrive(0)
    world.arrive(0)
    assert begun(alice) == [True]
    assert not of(alice.outcomes, NotConnected)


def test_the_first_link_ends_the_attempt_at_the_other() -> None:
    world, alice, bob = listening(1)
    world.connect(alice, bob)
    world.advance(3.0)
    world.describe(alice, next(iter(alice.tries.values())))
    world.arrive(0)
    assert begun(bob) == [False]
    world.dialled(alice, success=True)
    for end in world.new_ends():
        world.come_up(end)
    assert alice.outcomes == [Connected(bob.id)]
    assert not alice.tries
    world.settle(1.0)
    assert not bob.tries
    assert [end.negotiation for end in alice.ends if end.state == "up"] == [b""]


def test_a_webrtc_link_is_what_was_asked_for_too() -> None:
    world, alice, bob = listening(1)
    world.connect(alice, bob)
    world.dials_hang = True
    world.settle(5.0)
    assert alice.outcomes == [Connected(bob.id)]
    assert [bool(end.negotiation) for end in alice.ends if end.state == "up"] == [True]


def test_who_prefers_webrtc_offers_at_once_and_dials_when_that_failed() -> None:
    world, alice, bob = listening(1)
    world.connect(alice, bob, "webrtc")
    assert begun(alice) == [True]
    assert not alice.dials
    world.fail(alice, next(iter(alice.tries.values())))
    assert len(alice.dials) == 1
    world.settle(1.0)
    assert alice.outcomes == [Connected(bob.id)]


def test_who_prefers_webrtc_dials_after_half_the_time() -> None:
    world, alice, bob = listening(1)
    world.connect(alice, bob, "webrtc")
    world.advance(7.4)
    assert not alice.dials
    world.advance(0.2)
    assert len(alice.dials) == 1
    assert begun(alice) == [True]


def test_who_prefers_webrtc_does_not_take_a_websocket_before_that() -> None:
    """The other side dials for reasons of its own."""
    world, alice, bob = listening(0)
    world.connect(alice, bob, "webrtc")
    world.connect(bob, alice)
    world.dialled(bob, success=True)
    for end in world.new_ends():
        world.come_up(end)
    assert bob.outcomes == [Connected(alice.id)]
    assert not alice.outcomes
    world.advance(7.6)
    assert alice.outcomes == [Connected(bob.id)]


def test_a_webrtc_link_is_made_beside_a_websocket() -> None:
    world, alice, bob = listening(1)
    world.connect(alice, bob)
    world.settle(1.0)
    world.connect(alice, bob, "webrtc")
    assert alice.outcomes == [Connected(bob.id)]
    world.settle(1.0)
    assert alice.outcomes == [Connected(bob.id)] * 2
    for side, other in ((alice, bob), (bob, alice)):
        neighbour = side.router.table.get(other.id)
        assert neighbour is not None
        assert neighbour.rank is Rank.PREFERRED
    world.settle(25.0)
    assert [bool(end.negotiation) for end in alice.ends if end.state == "up"] == [True]
    world.connect(bob, alice, "webrtc")
    assert bob.outcomes == [Connected(alice.id)]


def test_an_upgrade_that_fails_says_so_and_leaves_the_link() -> None:
    world, alice, bob = listening(1)
    world.connect(alice, bob)
    world.settle(1.0)
    world.connect(alice, bob, "webrtc")
    world.fail(alice, next(iter(alice.tries.values())))
    assert alice.outcomes[1:] == [NotConnected(bob.id, "no way through", known=True)]
    world.settle(30.0)
    assert alice.linked >= {bob.id}


def test_when_nothing_is_left_the_reasons_are_told_at_once(world: World) -> None:
    alice, bob = world.sides
    world.connect(alice, bob)
    world.advance(1.0)
    world.fail(alice, next(iter(alice.tries.values())))
    assert alice.outcomes == [NotConnected(bob.id, "neither side has an address; no way through", known=True)]


@pytest.mark.parametrize("known", [True, False])
def test_nobody_who_answers_is_unknown(known: bool) -> None:
    world, alice, bob = listening(known=False)
    world.connect(alice, bob)
    world.advance(2.5)
    if known:
        bob.router.disconnect(alice.id, world.now)
        world.describe(alice, next(iter(alice.tries.values())))
        world.arrive(0)
        world.arrive(0)
    world.advance(20.0)
    [outcome] = of(alice.outcomes, NotConnected)
    assert outcome.known is known
    assert ("disconnected this node" in outcome.reason) is known
    assert "no link after 15 s" in outcome.reason


def test_without_webrtc_who_can_not_be_reached_is_told_at_once() -> None:
    world = World(webrtc=0)
    alice, bob = world.sides
    world.connect(alice, bob, "webrtc")
    assert alice.outcomes == [NotConnected(bob.id, "neither side has an address", known=True)]
    plain = World(webrtc=0, listening=[1])
    plain.connect(plain.sides[0], plain.sides[1])
    plain.dialled(plain.sides[0], success=False)
    [outcome] = of(plain.sides[0].outcomes, NotConnected)
    assert outcome.reason == "it could not be dialled, and we have no address"


@pytest.mark.parametrize("end", ["cancel", "deadline", "disconnect"])
def test_the_end_of_a_wish_ends_its_attempt(world: World, end: str) -> None:
    alice, bob = world.sides
    world.connect(alice, bob)
    world.describe(alice, next(iter(alice.tries.values())))
    world.arrive(0)
    if end == "cancel":
        world.cancel(alice, bob)
    elif end == "disconnect":
        world.disconnect(alice, bob)
    else:
        world.advance(15.1)
    assert not alice.tries
    while world.wire:
        world.arrive(0)
    assert not bob.tries
    assert len(of(alice.outcomes, NotConnected)) == (end != "cancel")


def test_an_attempt_of_the_other_side_outlives_our_wish(world: World) -> None:
    alice, bob = world.sides
    world.connect(bob, alice)
    world.describe(bob, next(iter(bob.tries.values())))
    world.arrive(0)
    world.connect(alice, bob)
    assert begun(alice) == [False]
    world.cancel(alice, bob)
    assert begun(alice) == [False]


def test_when_the_other_side_gives_up_we_offer_ourselves(world: World) -> None:
    alice, bob = world.sides
    world.connect(bob, alice)
    world.describe(bob, next(iter(bob.tries.values())))
    world.arrive(0)
    world.connect(alice, bob)
    world.cancel(bob, alice)
    world.arrive(0)
    assert not alice.tries
    world.advance(2.1)
    assert begun(alice) == [True]


def test_when_there_is_no_room_for_an_attempt_it_is_made_later() -> None:
    world = World(3, webrtc=1)
    alice, bob, carol = world.sides
    world.connect(alice, bob)
    world.connect(alice, carol)
    assert [attempt.action.id for attempt in alice.tries.values()] == [bob.id]
    assert alice.router.counts()["negotiations_full"] == 1
    world.cancel(alice, bob)
    world.advance(2.1)
    assert [attempt.action.id for attempt in alice.tries.values()] == [carol.id]


def test_a_link_that_is_not_used_is_not_what_was_asked_for() -> None:
    """The other side's WebRTC link was not meant to be used before a WebSocket."""
    world, alice, bob = listening(0)
    world.connect(bob, alice)
    world.advance(3.0)
    world.describe(bob, next(iter(bob.tries.values())))
    world.arrive(0)
    world.describe(alice, next(iter(alice.tries.values())))
    world.connect(alice, bob, "webrtc")
    world.arrive(0)
    world.dialled(bob, success=True)
    world.open(*world.connectable()[0])
    for end in sorted(world.new_ends(), key=lambda end: end.negotiation):
        world.come_up(end)
    assert not alice.outcomes
    world.settle(3.0)
    assert alice.outcomes == [Connected(bob.id)]
    neighbour = alice.router.table.get(bob.id)
    assert neighbour is not None
    assert neighbour.rank is Rank.PREFERRED


@pytest.mark.parametrize("first", ["websocket", "webrtc"])
def test_of_two_callers_each_gets_what_it_prefers(first: Preference) -> None:
    """Neither has to wait for the other's link, and the one that is still to be made is made."""
    world, alice, bob = listening(1)
    second: Preference = "webrtc" if first == "websocket" else "websocket"
    world.connect(alice, bob, first)
    world.connect(alice, bob, second)
    assert begun(alice) == [True]
    world.dialled(alice, success=True)
    for end in world.new_ends():
        world.come_up(end)
    assert alice.outcomes == [Connected(bob.id, "websocket")]
    assert alice.waiting == {bob.id: {"webrtc"}}
    world.settle(1.0)
    assert alice.outcomes[1:] == [Connected(bob.id)]
    neighbour = alice.router.table.get(bob.id)
    assert neighbour is not None
    assert neighbour.rank is Rank.PREFERRED


def test_who_is_content_with_what_is_there_ends_nobodys_wish_for_more() -> None:
    world, alice, bob = listening(1)
    world.connect(alice, bob)
    world.settle(1.0)
    world.connect(alice, bob, "webrtc")
    world.connect(alice, bob)
    assert alice.outcomes == [Connected(bob.id), Connected(bob.id, "websocket")]
    world.settle(1.0)
    assert alice.outcomes[2:] == [Connected(bob.id)]


def test_without_webrtc_no_attempt_is_put_off() -> None:
    world = World(webrtc=0, known=False)
    alice, bob = world.sides
    world.connect(alice, bob)
    world.settle(10.0)
    assert "negotiations_full" not in alice.router.counts()
