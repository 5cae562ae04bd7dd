from __future__ import annotations

import pytest

from trio_relay.exceptions import MailboxFull, PeerUnreachable
from trio_relay.limits import Limits
from trio_relay.overlay.actions import Acknowledged, Deliver, DeliverLegacy, Failed
from trio_relay.wire.content import encode_content
from trio_relay.wire.frame import Flag, Kind
from trio_relay.wire.ids import NodeId

from .support import Bench, BenchLink, by_distance, node_id, of, sent

CONTENT = encode_content("hello")
CONFIRM = Flag.CONFIRM


@pytest.fixture
def bench() -> Bench:
    return Bench(limits=Limits(mailbox_messages=3, mailbox_bytes=2000, unlinked_messages=3, unlinked_wait=10.0))


@pytest.fixture
def link(bench: Bench) -> BenchLink:
    return bench.link(1)


# Receiving


def test_a_message_is_delivered_and_nothing_is_answered(bench: Bench, link: BenchLink) -> None:
    actions = bench.receive(link, bench.frame(link, payload=CONTENT))
    [delivered] = of(actions, Deliver)
    assert (delivered.data, delivered.sender, delivered.proven) == ("hello", link.id, True)
    assert not sent(actions)


def test_a_message_that_came_over_others_is_not_proven(bench: Bench, link: BenchLink) -> None:
    [delivered] = of(bench.receive(link, bench.frame(link, source=node_id(7), payload=CONTENT)), Deliver)
    assert (delivered.sender, delivered.proven) == (node_id(7), False)


def test_the_acknowledgement_leaves_when_the_message_is_in_the_mailbox(bench: Bench, link: BenchLink) -> None:
    frame = bench.frame(link, payload=CONTENT, flags=CONFIRM, hop_limit=13, attempt=2)
    actions = bench.receive(link, frame)
    assert bench.router.sizes()["mailbox_messages"] == 1
    [ack] = sent(actions, kind=Kind.ACK)
    assert (ack.to, ack.message_id, ack.attempt, ack.payload) == (link.id, frame.message_id, 2, bytes([13, 2]))


def test_a_duplicate_is_acknowledged_again_and_not_delivered_again(bench: Bench, link: BenchLink) -> None:
    bench.receive(link, bench.frame(link, payload=CONTENT, flags=CONFIRM))
    for attempt in (0, 1):
        actions = bench.receive(link, bench.frame(link, payload=CONTENT, flags=CONFIRM, attempt=attempt))
        assert not of(actions, Deliver)
        assert [ack.attempt for ack in sent(actions, kind=Kind.ACK)] == [attempt]
    assert bench.count("duplicates") == 2


def test_a_duplicate_is_known_for_two_minutes_and_then_forgotten(bench: Bench, link: BenchLink) -> None:
    frame = bench.frame(link, payload=CONTENT)
    assert of(bench.receive(link, frame), Deliver)
    bench.now = 119.0
    assert not of(bench.receive(link, frame), Deliver)
    bench.now = 121.0
    assert of(bench.receive(link, frame), Deliver)


def test_what_is_forgotten_for_want_of_room_is_counted() -> None:
    bench = Bench(limits=Limits(seen_messages=10, seen_messages_per_sender=4))
    link = bench.link(1)
    for number in range(6):
        bench.receive(link, bench.frame(link, payload=CONTENT, message_id=number.to_bytes(8, "big")))
    assert bench.count("seen_evicted") == 2


def test_the_same_id_from_two_senders_is_two_messages(bench: Bench, link: BenchLink) -> None:
    actions = bench.receive(link, bench.frame(link, source=node_id(7)), bench.frame(link, source=node_id(8)))
    assert {delivered.sender for delivered in of(actions, Deliver)} == {node_id(7), node_id(8)}


def test_a_full_mailbox_answers_busy_and_never_an_acknowledgement(bench: Bench, link: BenchLink) -> None:
    frames = [bench.frame(link, payload=CONTENT, flags=CONFIRM, message_id=bytes([n]) * 8) for n in range(4)]
    actions = bench.receive(link, *frames)
    assert len(of(actions, Deliver)) == 3
    assert [f.message_id for f in sent(actions, kind=Kind.ACK)] == [f.message_id for f in frames[:3]]
    assert [f.message_id for f in sent(actions, kind=Kind.BUSY)] == [frames[3].message_id]
    assert bench.count("mailbox_full") == 1
    bench.router.taken(of(actions, Deliver)[0].size)
    again = bench.receive(link, frames[3])
    assert len(of(again, Deliver)) == len(sent(again, kind=Kind.ACK)) == 1


def test_a_full_mailbox_drops_an_unconfirmed_message_counted(bench: Bench, link: BenchLink) -> None:
    actions = bench.receive(link, *[bench.frame(link, message_id=bytes([n]) * 8) for n in range(5)])
    assert len(of(actions, Deliver)) == 3
    assert not sent(actions)
    assert bench.count("mailbox_full") == 2


def test_the_mailbox_is_bounded_in_bytes_too(bench: Bench, link: BenchLink) -> None:
    big = [bench.frame(link, payload=b"\0" + bytes(1000), message_id=bytes([n]) * 8) for n in range(2)]
    [first] = of(bench.receive(link, *big), Deliver)
    assert first.size <= bench.router.sizes()["mailbox_bytes"] <= 2000
    bench.router.taken(first.size)
    assert bench.router.sizes()["mailbox_bytes"] == 0


@pytest.mark.parametrize("payload", [b"", b"\x02", b"\x01{", b"\x01NaN", b"\x01\xff"])
def test_content_that_means_nothing_is_dropped_and_not_acknowledged(
    bench: Bench, link: BenchLink, payload: bytes
) -> None:
    assert not bench.receive(link, bench.frame(link, payload=payload, flags=CONFIRM))
    assert bench.count("bad_content") == 1


@pytest.mark.parametrize("flags", [Flag.SEALED, 0x80])
def test_unknown_flags_are_refused(bench: Bench, link: BenchLink, flags: int) -> None:
    assert not bench.receive(link, bench.frame(link, flags=flags | CONFIRM))
    assert bench.count("unknown_flags") == 1


def test_an_envelope_of_an_original_node_is_handed_on_once() -> None:
    bench = Bench(legacy=True)
    link = bench.link(1)
    frame = bench.frame(link, flags=Flag.LEGACY | CONFIRM, payload=b"{}")
    actions = bench.receive(link, frame, frame)
    [carried] = of(actions, DeliverLegacy)
    assert (carried.envelope, carried.source, carried.message_id) == (b"{}", link.id, frame.message_id)
    assert len(sent(actions, kind=Kind.ACK)) == 2


@pytest.mark.parametrize("kind", [Kind.ACK, Kind.BUSY, Kind.UNREACHABLE])
@pytest.mark.parametrize("payload", [b"", b"\x10", bytes(21), bytes(300)])
def test_answers_to_nothing_are_counted(bench: Bench, link: BenchLink, kind: Kind, payload: bytes) -> None:
    assert not bench.receive(link, bench.frame(link, kind, payload=payload))
    assert bench.count("answers_to_nothing") == 1


# Sending


def test_a_confirmed_message_ends_with_round_trip_and_hops(bench: Bench, link: BenchLink) -> None:
    message_id, actions = bench.router.deliver(node_id(50), CONTENT, 30.0, bench.now)
    [frame] = sent(actions, link)
    assert (frame.to, frame.flags, frame.attempt, frame.detours, frame.hop_limit) == (node_id(50), CONFIRM, 0, 2, 16)
    bench.now = 0.5
    answer = bench.frame(link, Kind.ACK, source=node_id(50), message_id=message_id, payload=bytes([14, 0]))
    [done] = of(bench.receive(link, answer), Acknowledged)
    assert (done.message_id, done.rtt, done.hops) == (message_id, 0.5, 3)
    assert bench.router.pending_deliveries == (0, 0)


@pytest.mark.parametrize("relays", [12, 5, 1])
def test_retries_take_two_other_ways(bench: Bench, relays: int) -> None:
    links = {number: bench.link(number) for number in range(1, relays + 1)}
    target = node_id(50)
    _, actions = bench.router.deliver(target, CONTENT, 10.0, bench.now)
    actions += bench.advance(8.0)
    ways = [links[number] for number in by_distance(links, target)[:8]]
    taken = [
        {way for way in ways if attempt in {f.attempt for f in sent(actions, way, Kind.DATA)}} for attempt in range(4)
    ]
    n = len(ways)
    assert taken == [{ways[0]}, *({ways[2 * a % n], ways[(2 * a + 1) % n]} for a in (1, 2, 3))]
    assert len(sent(actions, kind=Kind.DATA)) == 1 + 3 * min(2, n)
    assert bench.count("retries") == 3


def test_a_relay_that_is_closest_itself_sends_to_the_next_two(bench: Bench) -> None:
    links = {number: bench.link(number) for number in range(1, 9)}
    target = NodeId(bench.id[:-1] + bytes([bench.id[-1] ^ 1]))
    actions = bench.router.send(target, CONTENT, bench.now)
    nearest = [links[number] for number in by_distance(links, target)[:2]]
    assert [sent(actions, link)[0].detours for link in nearest] == [0, 0]
    assert len(sent(actions)) == 2


def test_a_message_that_nobody_acknowledges_fails_at_its_deadline(bench: Bench, link: BenchLink) -> None:
    message_id, _ = bench.router.deliver(node_id(50), CONTENT, 5.0, bench.now)
    assert not of(bench.advance(4.99), Failed)
    [failed] = of(bench.advance(0.02), Failed)
    assert failed.message_id == message_id
    assert bench.router.pending_deliveries == (0, 0)


def test_a_hint_makes_the_retry_come_soon(bench: Bench, link: BenchLink) -> None:
    message_id, _ = bench.router.deliver(node_id(50), CONTENT, 5.0, bench.now)
    hint = bench.frame(link, Kind.UNREACHABLE, message_id=message_id, payload=node_id(50) + b"\0")
    bench.receive(link, hint)
    assert [f.attempt for f in sent(bench.advance(0.26), kind=Kind.DATA)] == [1]
    assert bench.count("unreachable_hints") == 1


def test_a_cancelled_message_is_not_sent_again(bench: Bench, link: BenchLink) -> None:
    message_id, _ = bench.router.deliver(node_id(50), CONTENT, 30.0, bench.now)
    bench.router.cancel_delivery(message_id)
    assert not sent(bench.advance(29.0), kind=Kind.DATA)
    assert bench.router.pending_deliveries == (0, 0)


def test_to_ourselves(bench: Bench) -> None:
    [delivered] = of(bench.router.send(bench.id, CONTENT, 0.0), Deliver)
    assert (delivered.data, delivered.sender, delivered.proven) == ("hello", bench.id, True)
    message_id, actions = bench.router.deliver(bench.id, CONTENT, 30.0, 0.0)
    assert [a.message_id for a in of(actions, Acknowledged)] == [message_id]
    bench.router.send(bench.id, CONTENT, 0.0)
    _, actions = bench.router.deliver(bench.id, CONTENT, 30.0, 0.0)
    [failed] = of(actions, Failed)
    assert isinstance(failed.error, MailboxFull)
    assert failed.error.outcome == "not_delivered"


def test_messages_wait_for_the_first_link_in_order(bench: Bench) -> None:
    for text in ("one", "two"):
        assert not bench.router.send(node_id(1), encode_content(text), 0.0)
    link, actions = bench.link_with_actions(1)
    assert [frame.payload for frame in sent(actions, link, Kind.DATA)] == [encode_content("one"), encode_content("two")]


def test_what_waits_too_long_expires_counted(bench: Bench) -> None:
    bench.router.send(node_id(1), CONTENT, 0.0)
    bench.advance(5.0)
    bench.router.send(node_id(1), encode_content("later"), bench.now)
    bench.advance(5.0)
    assert bench.count("unlinked_expired") == 1
    link, actions = bench.link_with_actions(1)
    assert [frame.payload for frame in sent(actions, link, Kind.DATA)] == [encode_content("later")]


def test_no_more_than_the_limit_waits(bench: Bench) -> None:
    for number in range(5):
        assert bench.router.has_unlinked_room == (number < 3)
        bench.router.send(node_id(1), CONTENT, 0.0)
    assert bench.count("unlinked_full") == 2


def test_a_confirmed_message_waits_for_the_first_link_and_leaves_at_once(bench: Bench) -> None:
    bench.router.deliver(node_id(1), CONTENT, 30.0, 0.0)
    link, actions = bench.link_with_actions(1)
    assert [frame.attempt for frame in sent(actions, link, Kind.DATA)] == [1]
    assert [frame.attempt for frame in sent(bench.advance(3.0), link, Kind.DATA)] == [2]


def test_a_confirmed_message_without_any_link_was_not_delivered(bench: Bench) -> None:
    bench.router.deliver(node_id(1), CONTENT, 2.0, 0.0)
    [failed] = of(bench.advance(2.0), Failed)
    assert isinstance(failed.error, PeerUnreachable)
    assert failed.error.outcome == "not_delivered"


def test_whom_we_do_not_admit_cannot_send_to_us() -> None:
    bench = Bench(admits=lambda node: node != node_id(7))
    link = bench.link(1)
    assert not bench.receive(link, bench.frame(link, source=node_id(7), flags=CONFIRM))
    assert bench.count("not_admitted") == 1


def test_an_envelope_is_refused_where_originals_are_not_admitted(bench: Bench, link: BenchLink) -> None:
    """And not acknowledged: its gateway tries another node."""
    actions = bench.receive(link, bench.frame(link, flags=Flag.LEGACY | CONFIRM, payload=b"{}"))
    assert of(actions, DeliverLegacy) == []
    assert sent(actions, link) == []
    assert bench.count("legacy_refused") == 1
