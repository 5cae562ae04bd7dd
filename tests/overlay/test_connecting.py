from __future__ import annotations

import pytest

from trio_relay.limits import Limits
from trio_relay.overlay.actions import Action, Dial, Found, Linked, LinkRefused
from trio_relay.wire.frame import Kind
from trio_relay.wire.hello import Reason
from trio_relay.wire.ids import NodeId
from trio_relay.wire.record import join_records

from .support import Bench, BenchLink, node_id, of, record, sent, url

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
    assert bench.router.table.get(PEER).wanted  # type: ignore[union-attr]


def test_an_unknown_peer_is_looked_up_first(bench: Bench, link: BenchLink) -> None:
    actions = connect(bench)
    [query] = [frame for frame in sent(actions, kind=Kind.FIND) if frame.payload == PEER]
    payload = join_records([record(500, relay=False)])
    actions = bench.receive(link, bench.frame(link, Kind.FOUND, message_id=query.message_id, payload=payload))
    assert dials(actions) == [PEER]
    assert not of(actions, Found)
    assert bench.router.cancel_connect(PEER)


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
    told = LinkRefused(PEER, Reason.NO_ADDRESS)

    def refusal(message_id: bytes, source: NodeId = PEER, payload: bytes = bytes([Reason.NO_ADDRESS])) -> list[Action]:
        frame = bench.frame(link, Kind.REFUSED, source=source, payload=payload, message_id=message_id)
        return of(bench.receive(link, frame), LinkRefused)

    assert refusal(bytes(8)) == []
    [asked] = sent(connect(bench), kind=Kind.CONNECT)
    assert refusal(bytes(8)) == refusal(asked.message_id, node_id(501)) == refusal(asked.message_id, payload=b"") == []
    assert bench.count("answers_to_nothing") == 4
    assert refusal(asked.message_id) == [told]


def test_who_was_not_asked_yet_refuses_nothing(bench: Bench, link: BenchLink) -> None:
    """We look for it, or dial it, ourselves."""
    connect(bench)
    refusal = bench.frame(link, Kind.REFUSED, source=PEER, payload=bytes([Reason.NO_ADDRESS]), message_id=bytes(8))
    assert of(bench.receive(link, refusal), LinkRefused) == []
    assert bench.count("answers_to_nothing") == 1


def test_it_is_tried_again_until_its_deadline(bench: Bench, link: BenchLink) -> None:
    bench.router.learn(join_records([record(500, (), relay=False)]), 0, 0.0)
    actions = connect(bench) + bench.advance(60.0)
    assert len(sent(actions, kind=Kind.CONNECT)) == 8
    assert not bench.router.cancel_connect(PEER)


def test_a_link_that_is_there_is_only_marked(bench: Bench, link: BenchLink) -> None:
    assert not connect(bench, link.id)
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
