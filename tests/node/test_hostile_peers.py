"""Peers that proved their id and then misbehave: counted, bounded, and no harm to honest traffic."""

from __future__ import annotations

import resource
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from trio_relay import HandshakeError, Identity, Limits, Node, NodeId, open_node
from trio_relay.wire.frame import HEADER_LENGTH, Kind
from trio_relay.wire.hello import Reason
from trio_relay.wire.record import PeerRecord, join_records
from trio_relay.wire.urls import authority

from .raw_peer import MESSAGE_ID, RawPeer, make_record, open_raw_peer, open_stranger
from .support import UNKNOWN, count, honest_pair, relays_of, take, until


async def expect_cut_off(relay: Node, peer: RawPeer) -> int | None:
    """The relay ends the link for breaking the protocol; returns the close code."""
    code = await peer.ended()
    await until(lambda: peer.id not in relay.links)
    assert count(relay, "protocol_errors") == 1
    return code


async def test_leaf_that_speaks_in_the_name_of_another() -> None:
    """Dropped and counted at the first relay, whether for the relay itself or for a third."""
    async with open_node() as relay, honest_pair(relay.urls) as pair, open_raw_peer(relay.urls[0]) as liar:
        victim, bystander = pair.sender.id, pair.receiver.id
        await liar.send(
            liar.frame(relay.id, source=victim),
            liar.frame(bystander, source=victim),
            liar.frame(bystander, source=UNKNOWN) * 3,
            liar.frame(relay.id, b"\x01", kind=Kind.GOODBYE, source=victim),
        )
        await liar.ping(relay.id)
        assert count(relay, "spoofed") == 6
        assert {victim, bystander, liar.id} <= set(relay.links)
        await pair.more()
        assert relay.statistics().sizes["mailbox_messages"] == 0


async def test_frame_without_hops_left() -> None:
    async with open_node(sealed=False) as relay, honest_pair(relay.urls) as pair, open_raw_peer(relay.urls[0]) as peer:
        await peer.send(peer.frame(pair.receiver.id, hop_limit=0))
        await peer.ping(relay.id)
        assert count(relay, "hop_limit") == 1
        await peer.send(peer.frame(relay.id, hop_limit=0))
        # For the relay itself no hop is needed.
        with trio.fail_after(5):
            assert (await relay.receive()).sender == peer.id
        await pair.more()


async def test_frame_longer_than_its_message() -> None:
    async with open_node() as relay, honest_pair(relay.urls) as pair, open_raw_peer(relay.urls[0]) as peer:
        await peer.send(peer.frame(relay.id)[:-1])
        await expect_cut_off(relay, peer)
        await pair.more()


async def test_half_a_header_after_a_whole_frame() -> None:
    async with open_node(sealed=False) as relay, honest_pair(relay.urls) as pair, open_raw_peer(relay.urls[0]) as peer:
        await peer.send(peer.frame(relay.id) + bytes(HEADER_LENGTH - 1))
        await expect_cut_off(relay, peer)
        with trio.fail_after(5):
            assert (await relay.receive()).sender == peer.id
        await pair.more()


async def test_message_larger_than_a_link_carries() -> None:
    async with open_node() as relay, honest_pair(relay.urls) as pair, open_raw_peer(relay.urls[0]) as peer:
        frame = peer.frame(relay.id, bytes(60_000))
        await peer.send(frame * 3)
        assert await expect_cut_off(relay, peer) == 1009
        await pair.more()


async def test_plain_text_is_not_taken() -> None:
    """A peer that has proven its id must still prove each message, and may not confirm in plain text either."""
    async with open_node() as relay, honest_pair(relay.urls) as pair, open_raw_peer(relay.urls[0]) as peer:
        kinds = Kind.DATA, Kind.ACK, Kind.BUSY, Kind.REFUSED
        await peer.send(*[peer.frame(to, kind=kind) for to in (relay.id, pair.receiver.id) for kind in kinds])
        await peer.ping(relay.id)
        assert count(relay, "unsealed") == 4
        await until(lambda: count(pair.receiver, "unsealed") == 4)
        assert relay.statistics().sizes["mailbox_messages"] == 0
        assert peer.id in relay.links
        await pair.more()


async def test_text_on_an_overlay_link() -> None:
    async with open_node() as relay, honest_pair(relay.urls) as pair, open_raw_peer(relay.urls[0]) as peer:
        await peer.connection.send([b"{}"], text=True)
        await expect_cut_off(relay, peer)
        await pair.more()


async def test_unknown_version() -> None:
    async with open_node() as relay, honest_pair(relay.urls) as pair, open_raw_peer(relay.urls[0]) as peer:
        frame = bytearray(peer.frame(relay.id))
        frame[3] = 2
        await peer.send(frame)
        await expect_cut_off(relay, peer)
        await pair.more()


async def test_unknown_kinds_flags_and_contents_are_counted() -> None:
    async with open_node(sealed=False) as relay, honest_pair(relay.urls) as pair, open_raw_peer(relay.urls[0]) as peer:
        await peer.send(
            peer.frame(relay.id, kind=63),
            peer.frame(relay.id, kind=200),
            peer.frame(pair.receiver.id, kind=200),
            peer.frame(relay.id, flags=0x80),
            peer.frame(relay.id, b"\x07?"),
            peer.frame(relay.id, b"\x01{"),
            peer.frame(relay.id, b""),
            peer.frame(relay.id, bytes([16]), kind=Kind.ACK),
            peer.frame(relay.id, b"short", kind=Kind.FIND),
            peer.frame(relay.id, b"\x00\x05xx", kind=Kind.STORE),
        )
        await peer.ping(relay.id)
        counts = relay.statistics().counts
        expected = {
            "unknown_kind": 2,
            "link_local_for_another": 1,
            "unknown_flags": 1,
            "bad_content": 3,
            "answers_to_nothing": 1,
            "bad_find": 1,
            "bad_store": 1,
        }
        assert {name: counts.get(name) for name in expected} == expected
        assert peer.id in relay.links
        await pair.more()


async def test_unknown_kind_for_another_is_passed_on() -> None:
    """Relays of this version carry what later ones add."""
    async with (
        open_node() as relay,
        open_raw_peer(relay.urls[0]) as one,
        open_raw_peer(relay.urls[0]) as other,
    ):
        await one.send(one.frame(other.id, b"of the future", kind=42, flags=0x40))
        received = await other.next(42)
        assert (received.payload, received.source, received.flags) == (b"of the future", one.id, 0x40)
        assert received.hop_limit == 15


# Records


def store(peer: RawPeer, relay: NodeId, *records: bytes) -> bytes:
    payload = b"".join(len(raw).to_bytes(2, "big") + raw for raw in records)
    return peer.frame(relay, payload, kind=Kind.STORE)


async def kept(peer: RawPeer, relay: NodeId, subject: NodeId) -> bytes:
    """The payload of the relay's answer about `subject`."""
    await peer.send(peer.frame(relay, subject, kind=Kind.FIND))
    return (await peer.next(Kind.FOUND)).payload


def holds(payload: bytes, record: PeerRecord) -> bool:
    return join_records([record]) in payload


async def test_records_that_are_unsigned_stale_expired_or_forged() -> None:
    owner, now = Identity.generate(), int(time.time())
    newest = make_record(owner, sequence=7)
    stale = make_record(owner, sequence=6)
    expired = make_record(Identity.generate(), expiry=now - 1)
    eternal = make_record(Identity.generate(), expiry=now + 365 * 24 * 3600)
    unsigned = make_record(Identity.generate())
    foreign = make_record(Identity.generate())
    # The id of one, the key of another.
    forged = foreign.raw[:19] + owner.id + foreign.raw[39:]
    async with open_node() as relay, honest_pair(relay.urls) as pair, open_raw_peer(relay.urls[0]) as peer:
        await peer.send(
            store(peer, relay.id, newest.raw, stale.raw, expired.raw, eternal.raw),
            store(peer, relay.id, unsigned.raw[:-64] + bytes(64), forged, b"no record"),
        )
        await peer.ping(relay.id)
        counts = relay.statistics().counts
        assert counts["record_stale"] == 1
        assert counts["record_expired"] == 2
        assert counts["record_invalid"] == 3
        assert holds(await kept(peer, relay.id, owner.id), newest)
        assert not holds(await kept(peer, relay.id, expired.id), expired)
        assert not holds(await kept(peer, relay.id, unsigned.id), unsigned)
        await pair.more()


async def test_status_with_the_record_of_another() -> None:
    """It says nothing about its sender: no relay grows out of somebody else's record."""
    other = make_record(Identity.generate(), urls=("ws://192.0.2.1:1",), roles=1)
    async with open_node() as relay, honest_pair(relay.urls) as pair, open_raw_peer(relay.urls[0]) as peer:
        await peer.send(
            peer.frame(relay.id, b"\x01" + other.raw, kind=Kind.STATUS),
            peer.frame(relay.id, b"\x01" + other.raw[:-1] + b"x", kind=Kind.STATUS),
        )
        await peer.ping(relay.id)
        assert relay.links[peer.id].role == "leaf"
        assert count(relay, "record_invalid") == 1
        await pair.more()


async def test_claim_to_be_a_relay_is_checked() -> None:
    """The address leads to nobody of that id, so frames of others are not taken from it."""
    async with open_node() as relay, honest_pair(relay.urls) as pair:
        own = Identity.generate()
        record = make_record(own, sequence=3, urls=tuple(relay.urls), roles=1)
        async with open_raw_peer(relay.urls[0], own) as peer:
            await peer.send(peer.frame(relay.id, b"\x01" + record.raw, kind=Kind.STATUS))
            await until(lambda: count(relay, "handshakes_failed") >= 1)
            await peer.send(peer.frame(pair.receiver.id, source=UNKNOWN))
            await peer.ping(relay.id)
            assert count(relay, "spoofed") == 1
            assert relay.links[peer.id].role == "leaf"
            await pair.more()


async def test_questions_are_answered_only_so_often() -> None:
    async with open_node() as relay, honest_pair(relay.urls) as pair, open_raw_peer(relay.urls[0]) as peer:
        for _ in range(20):
            await peer.send(peer.frame(relay.id, UNKNOWN, kind=Kind.FIND) * 50)
        await peer.ping(relay.id)
        assert count(relay, "query_rate") >= 500
        await pair.more()


# Those who do not read, and those who do not stop


def resident() -> int:
    """Bytes of memory that this process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


async def test_peer_that_reads_nothing() -> None:
    """10,000 messages for it: what does not fit is dropped and counted, and memory stays where it was."""
    limits = Limits(ping_after=0.2, dead_after=1.0, close_timeout=0.2)
    payload = bytes(1000)
    async with (
        open_node(limits=limits) as relay,
        honest_pair(relay.urls) as pair,
        open_node(None, relay.urls, sealed=False) as sender,
        open_raw_peer(relay.urls[0]) as deaf,
    ):
        await until(lambda: relays_of(sender))
        highest, before = 0, resident()
        for number in range(10_000):
            await sender.send(deaf.id, payload)
            if number % 50 == 0:
                highest = max(highest, relay.statistics().backlog)
        await until(lambda: count(relay, "backlog_full") > 0)
        grown = resident() - before
        assert limits.backlog_bytes // 2 < highest <= limits.backlog_bytes
        assert grown < 8 * limits.backlog_bytes
        await pair.more()
        # It does not answer pings either.
        await until(lambda: deaf.id not in relay.links)
        await until(lambda: relay.statistics().backlog == 0)
        assert count(relay, "link_broken") > 0
        await pair.more()


async def test_end_waits_for_a_neighbour_that_does_not_read_only_so_long() -> None:
    limits = Limits(close_timeout=0.2)
    async with AsyncExitStack() as later:
        async with open_node(limits=limits, sealed=False) as node:
            deaf = await later.enter_async_context(open_raw_peer(node.urls[0]))
            while not node.statistics().backlog:
                node.send_nowait(deaf.id, bytes(60_000))
            began = trio.current_time()
        assert limits.close_timeout <= trio.current_time() - began < 3 * limits.close_timeout + 0.3
        assert count(node, "link_broken") > 0


SENT = 40
"""Messages of the honest sender, one each 10 ms."""


async def receive_slowly(peer: RawPeer, arrived: dict[NodeId, int]) -> None:
    """Takes little at a time, with pauses, and counts by sender."""
    while True:
        frame = await peer.next(Kind.DATA)
        arrived[frame.source] = arrived.get(frame.source, 0) + 1
        while peer.frames:
            frame = peer.frames.popleft()
            if frame.kind == Kind.DATA:
                arrived[frame.source] = arrived.get(frame.source, 0) + 1
        await trio.sleep(0.02)


async def flood(peer: RawPeer, to: NodeId, size: int) -> None:
    burst = peer.frame(to, bytes(size)) * (60_000 // (HEADER_LENGTH + size))
    while True:
        await peer.send(burst)


@pytest.mark.parametrize("size", [0, 100, 20_000], ids=["many small frames", "usual frames", "large frames"])
async def test_flooder_harms_only_itself(size: int) -> None:
    """Both send to one slow receiver through one relay; the honest sender's messages all arrive."""
    arrived: dict[NodeId, int] = {}
    async with (
        open_node() as relay,
        open_raw_peer(relay.urls[0]) as slow,
        open_raw_peer(relay.urls[0]) as flooder,
        open_node(None, relay.urls, sealed=False) as honest,
        trio.open_nursery() as nursery,
    ):
        await until(lambda: relays_of(honest) and {slow.id, flooder.id} <= set(relay.links))
        nursery.start_soon(receive_slowly, slow, arrived)
        async with trio.open_nursery() as flooding:
            flooding.start_soon(flood, flooder, slow.id, size)
            await until(lambda: count(relay, "backlog_full") > 0)
            dropped = count(relay, "backlog_full")
            for number in range(SENT):
                await honest.send(slow.id, number)
                await trio.sleep(0.01)
            assert relay.statistics().backlog <= Limits().backlog_bytes
            assert count(relay, "backlog_full") > dropped
            flooding.cancel_scope.cancel()
        await until(lambda: arrived.get(honest.id, 0) >= SENT * 0.999, seconds=10)
        assert arrived[flooder.id] > 0
        nursery.cancel_scope.cancel()


async def test_flood_of_the_mailbox_is_counted() -> None:
    limits = Limits(mailbox_messages=100)
    async with (
        open_node(limits=limits, sealed=False) as relay,
        honest_pair(relay.urls) as pair,
        open_raw_peer(relay.urls[0]) as peer,
    ):
        await peer.send(*[peer.frame(relay.id, message_id=n.to_bytes(8, "big")) for n in range(1000)])
        await peer.ping(relay.id)
        assert count(relay, "mailbox_full") == 900
        await take(relay, 100)
        await pair.more()


async def test_repeated_message_is_delivered_once() -> None:
    async with open_node(sealed=False) as relay, open_raw_peer(relay.urls[0]) as peer:
        await peer.send(*[peer.frame(relay.id, message_id=MESSAGE_ID)] * 5)
        await peer.ping(relay.id)
        assert count(relay, "duplicates") == 4
        assert await take(relay, 1) == [b"hello"]
        assert relay.statistics().sizes["mailbox_messages"] == 0


async def test_peer_that_was_disconnected_is_told_why_and_kept_out() -> None:
    async with open_node() as relay, open_raw_peer(relay.urls[0]) as peer:
        await peer.ping(relay.id)
        await relay.disconnect(peer.id)
        assert (await peer.next(Kind.GOODBYE)).payload == bytes([Reason.DISCONNECTED])
        await peer.connection.aclose()
        assert relay.links == {}
        async with open_stranger(relay.urls[0], peer.identity) as again:
            with pytest.raises(HandshakeError, match="disconnected"):
                await again.prove(authority(relay.urls[0]))
