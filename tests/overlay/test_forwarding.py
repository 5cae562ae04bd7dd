from __future__ import annotations

import pytest

from trio_relay.overlay.actions import CloseLink, Transmit
from trio_relay.wire.frame import MAX_MESSAGE, Flag, Frame, Kind
from trio_relay.wire.hello import Reason
from trio_relay.wire.ids import NodeId, distance

from .support import Bench, BenchLink, by_distance, node_id, of, sent

LEAVES = (101, 102, 103)
RELAYS = tuple(range(1, 13))


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def links(bench: Bench) -> dict[int, BenchLink]:
    """Links with a dozen relays and three leaves."""
    found = {number: bench.link(number) for number in RELAYS}
    found |= {number: bench.link(number, relay=False) for number in LEAVES}
    return found


def closer_relays(bench: Bench, target: NodeId) -> list[int]:
    """Our relays that bring a frame for the target closer, the closest first."""
    return [
        number
        for number in by_distance(RELAYS, target)
        if distance(node_id(number), target) < distance(bench.id, target)
    ]


def target_with_choices(bench: Bench, least: int) -> NodeId:
    """Somebody unknown whom several relays are closer to than we are."""
    return next(node_id(n) for n in range(1000, 2000) if len(closer_relays(bench, node_id(n))) >= least)


def target_that_we_are_closest_to(bench: Bench) -> NodeId:
    return NodeId(bench.id[:-1] + bytes([bench.id[-1] ^ 1]))


def test_only_the_hop_limit_changes_on_the_way(bench: Bench, links: dict[int, BenchLink]) -> None:
    frame = bench.frame(links[101], to=links[102].id, flags=Flag.CONFIRM, hop_limit=9, payload=bytes(range(256)))
    before = frame.to_bytes()
    [action] = bench.receive(links[101], frame)
    assert isinstance(action, Transmit)
    assert action.link is links[102]
    assert action.via is links[101]
    assert not action.control
    assert b"".join(action.pieces) == bytes([8]) + before[1:]


def test_a_frame_goes_to_the_closest_relay(bench: Bench, links: dict[int, BenchLink]) -> None:
    target = target_with_choices(bench, 2)
    [action] = bench.receive(links[101], bench.frame(links[101], to=target))
    assert isinstance(action, Transmit)
    assert action.link is links[closer_relays(bench, target)[0]]


def test_a_run_of_frames_for_one_link_leaves_as_one_piece(bench: Bench, links: dict[int, BenchLink]) -> None:
    def to(number: int, mark: int, kind: Kind = Kind.DATA) -> Frame:
        return bench.frame(links[101], kind, to=links[number].id, message_id=bytes([mark]) * 8, payload=bytes([mark]))

    frames = [to(102, 1), to(102, 2), to(103, 3), to(102, 4), to(102, 5, Kind.ACK), to(102, 6)]
    actions = of(bench.receive(links[101], *frames), Transmit)
    assert [frame.message_id[0] for frame in sent(actions, links[102])] == [1, 2, 4, 6, 5]
    assert [frame.message_id[0] for frame in sent(actions, links[103])] == [3]
    data = next(a for a in actions if a.link is links[102] and not a.control)
    assert [len(piece) for piece in data.pieces] == [114, 57, 57]
    assert b"".join(data.pieces) == b"".join(
        bytes([15]) + frame.to_bytes()[1:] for frame in [*frames[:2], *frames[3::2]]
    )


@pytest.mark.parametrize("messages", [1, 5], ids=["one message", "five messages"])
def test_frames_of_one_read_that_all_go_one_way_stay_one_piece(
    bench: Bench, links: dict[int, BenchLink], messages: int
) -> None:
    frames = [bench.frame(links[101], to=links[102].id, message_id=b"%8d" % n).to_bytes() for n in range(5)]
    size = 5 // messages
    read = [b"".join(frames[n : n + size]) for n in range(0, 5, size)]
    [action] = of(bench.router.receive(links[101], read, 0.0), Transmit)
    assert action.pieces == [b"".join(bytes([15]) + frame[1:] for frame in frames)]
    assert action.frames == 5


@pytest.mark.parametrize("wrong", [b"half a header", "text"])
def test_what_is_wrong_with_a_message_costs_only_those_after_it(
    bench: Bench, links: dict[int, BenchLink], wrong: bytes | str
) -> None:
    frames = [bench.frame(links[101], to=links[102].id, message_id=b"%8d" % n).to_bytes() for n in range(3)]
    actions = bench.router.receive(links[101], [frames[0], frames[1], wrong, frames[2]], 0.0)
    assert [frame.message_id for frame in sent(actions, links[102])] == [b"       0", b"       1"]
    assert bench.count("protocol_errors") == 1


def test_what_leaves_fits_a_websocket_message(bench: Bench, links: dict[int, BenchLink]) -> None:
    message = bench.frame(links[101], to=links[102].id, payload=bytes(60_000)).to_bytes() * 2
    small = bench.frame(links[101], to=links[102].id).to_bytes()
    actions = bench.router.receive(links[101], [small, *[message] * 3, small, message], 0.0)
    assert len(sent(actions)) == 10
    assert all(action.size <= MAX_MESSAGE for action in of(actions, Transmit))


def test_a_leaf_sends_in_its_own_name_only(bench: Bench, links: dict[int, BenchLink]) -> None:
    forged = bench.frame(links[101], to=links[102].id, source=links[103].id)
    honest = bench.frame(links[101], to=links[102].id, message_id=b"honest..")
    to_us = bench.frame(links[101], source=links[103].id)
    actions = bench.receive(links[101], forged, honest, to_us)
    assert [frame.message_id for frame in sent(actions)] == [b"honest.."]
    assert bench.count("spoofed") == 2
    assert bench.count("messages_received") == 0


def test_nobody_speaks_to_us_in_our_own_name(bench: Bench, links: dict[int, BenchLink]) -> None:
    for number in (1, 101):
        assert not bench.receive(links[number], bench.frame(links[number], source=bench.id))
    assert bench.count("spoofed") == 2
    assert bench.count("messages_received") == 0


def test_our_own_frame_that_came_back_tells_us_that_there_is_no_way(bench: Bench, links: dict[int, BenchLink]) -> None:
    target = target_that_we_are_closest_to(bench)
    message_id, actions = bench.router.deliver(target, b"\x00", 30.0, 0.0)
    [first, *_] = sent(actions)
    assert first.message_id == message_id
    back = bench.frame(links[1], to=target, source=bench.id, message_id=message_id, detours=0)
    assert not sent(bench.receive(links[1], back))
    assert bench.count("unreachable_hints") == 1
    assert bench.count("spoofed") == 0


def test_a_relay_that_is_not_proven_reachable_counts_as_a_leaf(bench: Bench, links: dict[int, BenchLink]) -> None:
    unproven = bench.link(50, relay=True, dialled=False)
    assert not sent(bench.receive(unproven, bench.frame(unproven, to=links[102].id, source=links[103].id)))
    assert bench.count("spoofed") == 1


def test_nothing_is_forwarded_to_a_neighbour_that_does_not_trust_us_yet(
    bench: Bench, links: dict[int, BenchLink]
) -> None:
    fresh = bench.link(50, relay=False, trusts=False)
    frame = bench.frame(links[101], to=fresh.id)
    assert not sent(bench.receive(links[101], frame), fresh)
    bench.receive(fresh, bench.status(fresh, trusts=True))
    assert len(sent(bench.receive(links[101], frame), fresh)) == 1


def test_a_frame_without_hops_left_is_dropped(bench: Bench, links: dict[int, BenchLink]) -> None:
    assert not bench.receive(links[101], bench.frame(links[101], to=links[102].id, hop_limit=0))
    assert bench.count("hop_limit") == 1
    last = bench.receive(links[101], bench.frame(links[101], to=links[102].id, hop_limit=1))
    assert [frame.hop_limit for frame in sent(last)] == [0]


@pytest.mark.parametrize("kind", [0, 10, 63, 200])
def test_an_unknown_kind_travels_on_but_means_nothing_to_us(
    bench: Bench, links: dict[int, BenchLink], kind: int
) -> None:
    forwarded = bench.receive(links[101], bench.frame(links[101], kind, to=links[102].id))
    assert len(sent(forwarded)) == (1 if kind < 64 else 0)
    assert not bench.receive(links[101], bench.frame(links[101], kind))
    assert bench.count("unknown_kind") == 1


@pytest.mark.parametrize("kind", [Kind.PING, Kind.PONG, Kind.STATUS, Kind.GOODBYE])
def test_a_link_local_frame_for_somebody_else_is_dropped(bench: Bench, links: dict[int, BenchLink], kind: Kind) -> None:
    assert not bench.receive(links[1], bench.frame(links[1], kind, to=links[102].id))
    assert bench.count("link_local_for_another") == 1


def test_a_link_local_frame_in_another_name_is_dropped(bench: Bench, links: dict[int, BenchLink]) -> None:
    assert not bench.receive(links[1], bench.frame(links[1], Kind.GOODBYE, source=links[2].id, payload=b"\x09"))
    assert bench.router.table.get(links[2].id) is not None
    assert bench.count("unknown_kind") == 1


broken_messages = [b"\0" * 56, b"\x10\0\2\1", b"\x10\0\2\2" + bytes(52), b"\x10\0\2\1\1\0\xff\xff" + bytes(100)]


@pytest.mark.parametrize("message", broken_messages, ids=["version 0", "short", "version 2", "length"])
def test_a_neighbour_that_breaks_the_protocol_is_closed_and_only_it(
    bench: Bench, links: dict[int, BenchLink], message: bytes
) -> None:
    good = bench.frame(links[101], to=links[102].id)
    actions = bench.receive(links[101], good, message)
    assert len(sent(actions, links[102])) == 1
    assert [(a.link, a.reason) for a in of(actions, CloseLink)] == [(links[101], Reason.PROTOCOL)]
    assert bench.count("protocol_errors") == 1
    assert len(bench.router.table) == len(links) - 1
    assert not bench.receive(links[101], good)
    assert bench.count("link_gone") == 1


def test_text_on_an_overlay_link_closes_it(bench: Bench, links: dict[int, BenchLink]) -> None:
    actions = bench.router.receive(links[101], ["{}"], 0.0)
    assert [a.link for a in of(actions, CloseLink)] == [links[101]]


def test_a_leaf_forwards_nothing_and_says_so() -> None:
    bench = Bench(relaying=False)
    relay, other = bench.link(1), bench.link(2)
    actions = bench.receive(relay, bench.frame(relay, to=other.id, source=node_id(77)))
    assert [(f.kind, f.to, f.payload) for f in sent(actions)] == [(Kind.UNREACHABLE, node_id(77), other.id + b"\0")]
    assert bench.count("not_a_relay") == 1


# When there is no way on


def test_a_frame_never_goes_back_over_its_link(bench: Bench, links: dict[int, BenchLink]) -> None:
    target = target_with_choices(bench, 2)
    first, second = (links[number] for number in closer_relays(bench, target)[:2])
    frame = bench.frame(first, to=target, source=node_id(77))
    for attempt in range(6):
        for received in (frame, bench.frame(first, to=target, source=node_id(77), attempt=attempt)):
            actions = bench.receive(first, received)
            assert not sent(actions, first)
            assert len(sent(actions)) == 1
    assert [f.detours for f in sent(bench.receive(first, frame), second)] == [2]


def test_the_closest_relay_without_the_link_makes_its_detours(bench: Bench, links: dict[int, BenchLink]) -> None:
    target = target_that_we_are_closest_to(bench)
    actions = bench.receive(links[101], bench.frame(links[101], to=target, hop_limit=7))
    nearest = [links[number] for number in by_distance(RELAYS, target)[:2]]
    assert {id(action.link) for action in of(actions, Transmit)} == set(map(id, nearest))
    assert [(f.hop_limit, f.detours, f.kind) for f in sent(actions)] == [(6, 0, Kind.DATA)] * 2
    assert bench.count("detours") == 2


def test_each_retry_makes_its_detours_elsewhere(bench: Bench, links: dict[int, BenchLink]) -> None:
    target = target_that_we_are_closest_to(bench)
    nearest = [links[number] for number in by_distance(RELAYS, target)]
    for attempt in range(8):
        actions = bench.receive(links[101], bench.frame(links[101], to=target, attempt=attempt))
        turn = 2 * (attempt % 4)
        assert {id(a.link) for a in of(actions, Transmit)} == {id(link) for link in nearest[turn : turn + 2]}


def test_a_detour_is_never_taken_back_to_the_origin(bench: Bench, links: dict[int, BenchLink]) -> None:
    target = target_that_we_are_closest_to(bench)
    nearest = [links[number] for number in by_distance(RELAYS, target)[:4]]
    actions = bench.receive(nearest[0], bench.frame(nearest[0], to=target, source=nearest[1].id))
    assert {id(action.link) for action in of(actions, Transmit)} == set(map(id, nearest[2:]))


def test_without_detours_left_the_origin_gets_a_hint(bench: Bench, links: dict[int, BenchLink]) -> None:
    target = target_that_we_are_closest_to(bench)
    frame = bench.frame(links[1], to=target, source=links[101].id, attempt=3, detours=0)
    actions = bench.receive(links[1], frame)
    [hint] = sent(actions, links[101])
    assert len(sent(actions)) == 1
    assert (hint.kind, hint.source, hint.message_id) == (Kind.UNREACHABLE, bench.id, b"message.")
    assert hint.payload == target + bytes([3])
    assert bench.count("unreachable") == 1


@pytest.mark.parametrize("kind", [Kind.ACK, Kind.UNREACHABLE, Kind.FOUND, Kind.STORE, 33])
def test_only_what_waits_for_an_answer_leads_to_a_hint(bench: Bench, links: dict[int, BenchLink], kind: int) -> None:
    target = target_that_we_are_closest_to(bench)
    assert not bench.receive(links[1], bench.frame(links[1], kind, to=target, detours=0))
    assert bench.count("unreachable") == 1


def test_hints_are_limited_in_rate(bench: Bench, links: dict[int, BenchLink]) -> None:
    target = target_that_we_are_closest_to(bench)
    actions = bench.receive(links[101], *[bench.frame(links[101], to=target, detours=0)] * 1000)
    assert len(sent(actions, kind=Kind.UNREACHABLE)) == 400
    assert bench.count("hint_rate") == 600
    bench.now = 1.0
    actions = bench.receive(links[101], *[bench.frame(links[101], to=target, detours=0)] * 1000)
    assert len(sent(actions, kind=Kind.UNREACHABLE)) == 200


def test_a_frame_asks_for_no_more_detours_than_we_allow(bench: Bench, links: dict[int, BenchLink]) -> None:
    target = target_that_we_are_closest_to(bench)
    actions = bench.receive(links[101], bench.frame(links[101], to=target, detours=255))
    assert len(sent(actions)) == bench.limits.detours


def test_a_retry_takes_another_way_that_is_closer_too(bench: Bench, links: dict[int, BenchLink]) -> None:
    target = target_with_choices(bench, 3)
    ways = [links[number] for number in closer_relays(bench, target)[:3]]
    for attempt in range(1, 7):
        [action] = of(bench.receive(links[101], bench.frame(links[101], to=target, attempt=attempt)), Transmit)
        assert action.link is ways[attempt % 3]
    [direct] = of(bench.receive(links[101], bench.frame(links[101], to=links[102].id, attempt=1)), Transmit)
    assert direct.link is links[102]
