"""What bad members and strangers can do: nothing to anybody else, and it is counted and told."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock

from tests.peerix.intruder import Intruder, open_intruder
from tests.peerix.support import World, next_event
from trio_relay.exceptions import TransferFailed
from trio_relay.peerix import events
from trio_relay.peerix.options import RoomLimits
from trio_relay.peerix.packets.candidates import IceCandidate
from trio_relay.peerix.packets.control import ChannelRequest, ControlOffer, encode_control
from trio_relay.peerix.packets.sealing import Keys, id_to_bytes_untrusted
from trio_relay.peerix.packets.signalling import Announce, Answer, Candidates, Invoke, Offer
from trio_relay.peerix.packets.transfer import PayloadType, encode_piece
from trio_relay.peerix.room import Room
from trio_relay.peerix.transfers.limits import TransferLimits

ANNOUNCE: Final = b"\x08\x01\x10\x00\x1a\x21"


@asynccontextmanager
async def scene(limits: RoomLimits | None = None) -> AsyncIterator[tuple[Room, Room, Intruder]]:
    """Two honest members that talk, and one that is not."""
    world = World()
    async with (
        world.room(limits=limits or RoomLimits()) as alice,
        world.room() as bob,
        open_intruder(world) as intruder,
    ):
        alice.open_channel("chat")
        await alice.wait_members()
        yield alice, bob, intruder
        # Whatever happened: those two go on as before.
        with trio.fail_after(10):
            await bob.send("still here", label="chat", to=identity(alice))
            message = await alice.receive()
            while message.member != identity(bob):
                message = await alice.receive()
            assert await message.read() == "still here"


def identity(room: Room) -> str:
    assert room.me is not None
    return room.me.id


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\xff" * 100,
        ANNOUNCE + b"\x02" * 33,
        ANNOUNCE + b"\x02" + b"\xff" * 32 + b"\x22\x00",
        b"\x08\x09\x10\x00\x1a\x21" + Keys.from_secret(9).public + b"\x22\x00",
        b"\x08\x03\x10\x00\x1a\x21" + Keys.from_secret(9).public + b"\x22\x02[]",
        b"\x08\x03\x10\x02\x1a\x21" + Keys.from_secret(9).public + b"\x22\x20" + b"\x00" * 32,
    ],
    ids=["empty", "noise", "truncated", "no point", "type", "open payload", "forged payload"],
)
async def test_a_packet_that_is_none_is_counted_and_told(packet: bytes, autojump_clock: MockClock) -> None:
    async with scene() as (alice, _, intruder), alice.events() as seen:
        await intruder.publish(packet, "room")
        error = await next_event(seen, events.ErrorEvent)
        assert error.error.code == "SIGNALING_ERROR"
        assert alice.statistics().counts["signals_malformed"] == 1


async def test_a_decompression_bomb_is_refused(autojump_clock: MockClock) -> None:
    async with scene() as (alice, _, intruder), alice.events() as seen:
        me = identity(alice)
        bomb = zlib.compress(b'["' + b"x" * 5_000_000 + b'"]', 9)
        pair = Keys.from_secret(4711).agree_untrusted(_public(me))
        sealed = pair.seal(bomb, b"\x07" * 12)
        size = bytes([len(sealed) & 0x7F | 0x80, len(sealed) >> 7 & 0x7F | 0x80, len(sealed) >> 14])
        packet = b"\x08\x03\x10\x03\x1a\x21" + intruder.exchange.own + b"\x22" + size + sealed
        await intruder.publish(packet, me)
        assert "bytes" in str((await next_event(seen, events.ErrorEvent)).error)
        assert len(alice.members) == 1


def _public(id: str) -> bytes:
    return id_to_bytes_untrusted(id)


async def test_replayed_packets_do_nothing(autojump_clock: MockClock) -> None:
    async with scene() as (alice, _, intruder):
        me = identity(alice)
        packet = intruder.encode(Invoke("intruder"), me)
        await intruder.publish(packet, me)
        await trio.sleep(40)
        failed = alice.statistics().counts["signals_received"]
        for _ in range(20):
            await intruder.publish(packet, me)
        await trio.sleep(1)
        counts = alice.statistics().counts
        assert counts["signals_replayed"] == 20
        assert counts["signals_received"] - failed <= 2


async def test_a_flood_of_announcements_is_answered_at_a_bounded_rate(autojump_clock: MockClock) -> None:
    async with scene(RoomLimits(strangers=8)) as (alice, _, intruder):
        await intruder.publish(intruder.encode(Announce(), "room"), "room")
        await trio.lowlevel.checkpoint()
        for number in range(200):
            await intruder.publish(ANNOUNCE + Keys.from_secret(10_000 + number).public + b"\x22\x00", "room")
        for _ in range(200):
            await intruder.publish(intruder.encode(Announce(), "room"), "room")
        await trio.sleep(1)
        counts = alice.statistics().counts
        assert counts["signals_strangers_limited"] > 150
        assert counts["invitations_sent"] < 60
        assert counts["invitations_spared"] > 100


async def test_offers_answers_and_candidates_that_fit_nothing(autojump_clock: MockClock) -> None:
    async with scene() as (alice, bob, intruder), alice.events() as seen:
        me = identity(alice)
        candidate = IceCandidate("candidate:1 1 udp 1 192.0.2.1 9 typ host", "0", 0, "nobody")
        await intruder.say(Answer("v=0"), me)
        for _ in range(3):
            await intruder.say(Candidates((candidate,) * 100), me)
        await trio.sleep(1)
        assert alice.statistics().counts["answers_ignored"] == 1
        assert alice.statistics().counts["candidates_dropped"] == 200
        await intruder.say(Offer("not a description"), me)
        failed = await next_event(seen, events.ErrorEvent)
        assert failed.error.code == "NEGOTIATION_ERROR"
        await next_event(seen, events.ConnectionFailed)
        assert set(alice.members) <= {identity(bob), intruder.exchange.id}


@pytest.mark.parametrize(
    ("message", "count"),
    [
        (b"\xff\xff", "control_malformed"),
        ("text", "control_malformed"),
        (b"\x08\x09\x12\x02[]", "control_unknown"),
        (b"\x08\x01\x12\x03[1]", "control_malformed"),
    ],
    ids=["noise", "text", "unknown", "no description"],
)
async def test_a_control_message_that_is_none(message: bytes | str, count: str, autojump_clock: MockClock) -> None:
    async with scene() as (alice, _, intruder):
        await intruder.connect(identity(alice))
        await intruder.control.send(message)
        await trio.sleep(1)
        assert alice.statistics().counts[count] == 1
        assert alice.members[intruder.exchange.id].state == "connected"


async def test_forged_control_messages_ask_for_too_much(autojump_clock: MockClock) -> None:
    async with scene(RoomLimits(channels=8)) as (alice, _, intruder):
        await intruder.connect(identity(alice))
        for number in range(50):
            await intruder.control.send(encode_control(ChannelRequest(f"channel {number}")))
        for number in range(300):
            await intruder.control.send(encode_control(ControlOffer(f"nonsense {number}", {})))
        await trio.sleep(60)
        counts = alice.statistics().counts
        assert counts["descriptions_refused"] > 100
        assert len(alice.members[intruder.exchange.id].channels) <= 8
        assert counts.get("channel_requests_ignored", 0) + counts.get("channels_refused", 0) >= 42


@pytest.mark.parametrize(
    ("pieces", "reason"),
    [
        ([(0, b"a", False), (2, b"c", True)], "out-of-order"),
        ([(0, b"a", False), (1, b"b", False)], "stalled"),
    ],
    ids=["out of order", "endless"],
)
async def test_transfers_that_break_the_rules(
    pieces: list[tuple[int, bytes, bool]], reason: str, autojump_clock: MockClock
) -> None:
    async with scene() as (alice, _, intruder):
        await intruder.connect(identity(alice))
        for index, chunk, done in pieces:
            kind = PayloadType.BYTES if index == 0 else None
            await intruder.chat.send(encode_piece(7, index, chunk, done=done, type=kind))
        message = await alice.receive()
        with pytest.raises(TransferFailed) as failed, trio.fail_after(60):
            await message.read()
        assert failed.value.reason in (reason, "timeout", "cancelled", "aborted-by-sender")
        answers = await intruder.chat.receive()
        assert answers == [b"\x08\x07\x10\x01\x28\x01"]


async def test_messages_that_nobody_reads_take_bounded_memory(autojump_clock: MockClock) -> None:
    limits = RoomLimits(transfers=TransferLimits(member_bytes=256 * 1024, message_bytes=64 * 1024))
    async with scene(limits) as (alice, _, intruder):
        await intruder.connect(identity(alice))
        with trio.move_on_after(120):
            for number in range(1, 200):
                await intruder.chat.send(encode_piece(number, 0, bytes(16000), done=True, type=PayloadType.BYTES))
        assert alice._shared.inbox.bytes <= 300 * 1024
        assert alice.statistics().counts["messages_dropped"] > 50
