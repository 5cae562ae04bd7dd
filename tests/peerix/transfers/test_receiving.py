"""What comes and is not read: its bounds, and what happens beyond them."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.peerix.transfers.support import open_room
from trio_relay.exceptions import RemoteProtocolError, TransferFailed
from trio_relay.peerix.packets.transfer import (
    PayloadType,
    encode_piece,
)
from trio_relay.peerix.transfers.limits import TransferLimits

SMALL = TransferLimits(
    message_bytes=50_000, member_messages=4, member_bytes=120_000, total_messages=40, total_bytes=400_000
)
PIECE = 16384 + 64
TEXT = PayloadType.TEXT


async def settle() -> None:
    await trio.testing.wait_all_tasks_blocked()


async def test_a_message_is_there_before_its_end() -> None:
    async with open_room("a", mute=("a",)) as room:
        channel = room.channels["a"]
        await channel.send(encode_piece(1, 0, b"one", done=False, type=TEXT))
        message = await room.me.inbox.receive()
        assert room.me.messages == [message]
        chunks = aiter(message)
        assert await anext(chunks) == b"one"
        assert (message.received, message.complete) == (3, False)
        overhead = room.me.inbox.bytes
        assert overhead < 1000
        await channel.send(encode_piece(1, 1, b"two", done=False))
        assert await anext(chunks) == b"two"
        assert room.me.inbox.bytes == overhead  # what was read does not count
        await channel.send(encode_piece(1, 2, b"!", done=True))
        assert await anext(chunks) == b"!"
        assert message.complete
        with pytest.raises(StopAsyncIteration):
            await anext(chunks)
        with pytest.raises(trio.ClosedResourceError):
            await message.read()


async def test_a_read_that_was_cancelled_can_be_repeated() -> None:
    async with open_room("a", mute=("a",)) as room:
        channel = room.channels["a"]
        await channel.send(encode_piece(1, 0, b"one ", done=False, type=TEXT))
        message = await room.me.inbox.receive()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(message.read)
                await settle()
                with pytest.raises(trio.BusyResourceError):
                    await message.read()
                scope.cancel()
        await channel.send(encode_piece(1, 1, b"two", done=True))
        assert await message.read() == "one two"


async def test_a_message_that_is_too_large_for_its_reader() -> None:
    async with open_room("a") as room:
        transfer = room.send(bytes(200_000))
        message = await room.members["a"].inbox.receive()
        with pytest.raises(TransferFailed) as raised:
            await message.read(most=100_000)
        assert raised.value.reason == "too-large"
        with pytest.raises(TransferFailed) as raised:
            await transfer
        assert raised.value.reason == "aborted-by-receiver"


async def test_content_that_is_not_what_it_says() -> None:
    async with open_room("a", mute=("a",)) as room:
        channel = room.channels["a"]
        await channel.send(encode_piece(1, 0, b"\xff\xfex", done=True, type=TEXT, info=b"{"))
        await channel.send(encode_piece(2, 0, b"{", done=True, type=PayloadType.JSON, info=b'"\xff"'))
        text, value = await room.me.inbox.receive(), await room.me.inbox.receive()
        assert (await text.read(), text.info) == ("\ufffd\ufffdx", None)
        assert value.info is None
        with pytest.raises(RemoteProtocolError):
            await value.read()
        assert room.me.counts == {"transfer_infos_bad": 2}


async def test_what_is_no_packet_is_told_and_ignored() -> None:
    async with open_room("a", mute=("a",)) as room:
        channel = room.channels["a"]
        for data in (b"", b"\xff", bytes(200_000)):
            await channel.send(data)
        await channel.send(encode_piece(1, 0, b"good", done=True, type=TEXT))
        assert await (await room.me.inbox.receive()).read() == "good"
        assert room.me.counts == {"transfer_packets_bad": 3}
        assert [error.code for error in room.me.errors] == ["DATACHANNEL_ERROR"] * 3


async def test_one_message_that_is_not_read(autojump_clock: MockClock) -> None:
    """It fills its own room, then its sender waits, then it is dropped; what comes after it is not held up again."""
    async with open_room("a", limits=SMALL) as room:
        other = room.members["a"]
        big, small, again = room.send(bytes(3_000_000)), room.send("small"), room.send(bytes(300_000))
        message = await other.inbox.receive()
        await settle()
        assert SMALL.message_bytes <= other.inbox.bytes < SMALL.message_bytes + PIECE
        assert not big.done
        await trio.sleep(SMALL.stall_timeout)
        await settle()
        with pytest.raises(TransferFailed) as raised:
            await message.read()
        assert raised.value.reason == "stalled"
        assert big.failures["a"].reason in ("aborted-by-receiver", "timeout")
        await small
        now = trio.current_time()
        assert await (await other.inbox.receive()).read() == "small"
        with pytest.raises(TransferFailed):
            await again
        assert trio.current_time() <= now + SMALL.stall_timeout
        assert other.counts["messages_dropped"] == 2
        assert [error.code for error in other.errors] == ["DATACHANNEL_ERROR"] * 2


async def test_many_messages_that_are_not_read(autojump_clock: MockClock) -> None:
    async with open_room("a", limits=SMALL) as room:
        other = room.members["a"]
        transfers = [room.send(f"{number}") for number in range(10)]
        began = trio.current_time()
        for transfer in transfers:
            await transfer
        assert trio.current_time() == pytest.approx(began + SMALL.stall_timeout)  # once, not once for each
        assert other.counts == {"messages_dropped": 6}
        assert [await (await other.inbox.receive()).read() for _ in range(4)] == ["6", "7", "8", "9"]
        assert other.inbox.bytes == 0
        again = [room.send(f"{number}") for number in range(5)]
        await settle()
        assert [transfer.done for transfer in again] == [True] * 4 + [False]  # there was a reader: it waits again
        assert await (await other.inbox.receive()).read() == "0"
        await again[4]


async def test_reading_makes_room(autojump_clock: MockClock) -> None:
    """A reader that is slow, but reads, loses nothing."""
    async with open_room("a", limits=SMALL) as room:
        transfer = room.send(bytes(400_000))
        message = await room.members["a"].inbox.receive()
        size = 0
        async for chunk in message:
            size += len(chunk)
            assert room.members["a"].inbox.bytes <= SMALL.message_bytes + PIECE
            await trio.sleep(6)
        assert size == 400_000
        with pytest.raises(TransferFailed):  # it is 13 pieces behind; the acknowledgement came too late
            await transfer
        assert room.members["a"].counts["messages_dropped"] == 0


async def test_a_message_that_was_read_elsewhere_is_not_received() -> None:
    async with open_room("a") as room:
        other = room.members["a"]
        await room.send("one")
        await room.send("two")
        assert await other.messages[0].read() == "one"
        assert await (await other.inbox.receive()).read() == "two"
        assert len(other.inbox) == 0
        assert other.inbox.bytes == 0


async def test_what_somebody_waits_for_always_has_room(autojump_clock: MockClock) -> None:
    async with open_room("a", mute=("a",), limits=SMALL) as room:
        channel = room.channels["a"]
        await channel.send(encode_piece(1, 0, b"x", done=False, type=TEXT))
        message = await room.me.inbox.receive()
        for number in range(2, 5):
            await channel.send(encode_piece(number, 0, b"y" * 45_000, done=True, type=TEXT))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(message.read)
            await settle()
            assert room.me.inbox.bytes > SMALL.member_bytes
            for index in range(1, 40):
                await channel.send(encode_piece(1, index, b"x" * 4000, done=index == 39))
        assert (message.received, trio.current_time()) == (156_001, 0)
        assert room.me.counts == {}


async def test_one_member_can_not_take_the_room_of_another(autojump_clock: MockClock) -> None:
    names = ("a", "b", "c", "d", "e", "f", "g", "h")
    limits = TransferLimits(message_bytes=100_000, member_bytes=100_000, total_bytes=300_000)
    async with open_room(*names, mute=names, limits=limits) as room:
        for name in names:  # each more than its even share, which is 37,500
            for number in range(1, 7):
                await room.channels[name].send(encode_piece(number, 0, bytes(15_000), done=True, type=TEXT))
            await settle()
            assert room.me.inbox.bytes <= limits.total_bytes + PIECE
        held = dict.fromkeys(names, 0)
        for message in room.me.messages:
            held[message.member] += message.received * (not message.taken)
        assert min(held.values()) >= 30_000
        assert room.me.counts["messages_dropped"] > 0


async def test_accounts_go_with_their_members() -> None:
    async with open_room("a", "b") as room:
        other = room.members["a"]
        await room.send("last", "a")
        room.me.bundles["a"].close()
        room.me.bundles["b"].close()
        await settle()
        assert list(other.inbox._accounts) == ["me"]
        assert room.me.inbox._accounts == {}
        assert await (await other.inbox.receive()).read() == "last"
        assert other.inbox._accounts == {}
        other.inbox.end()
        with pytest.raises(trio.EndOfChannel):
            await other.inbox.receive()


@pytest.mark.parametrize(
    ("options", "content"), [({"protocol": "p"}, b"\x08\x01"), ({"ordered": False}, b""), ({}, "text")]
)
async def test_messages_outside_the_framing(options: dict[str, Any], content: bytes | str) -> None:
    async with open_room("a", **options) as room:
        await room.me.links["a"].send_raw(content)
        message = await room.members["a"].inbox.receive()
        assert await message.read() == content
        assert (message.raw, message.complete, message.info) == (True, True, None)
        assert message.type == ("bytes" if isinstance(content, bytes) else "text")


async def test_raw_messages_are_bounded(autojump_clock: MockClock) -> None:
    async with open_room("a", limits=SMALL, protocol="p") as room:
        other = room.members["a"]
        for number in range(50):
            await room.me.links["a"].send_raw(bytes([number]) * 10_000)
        await trio.sleep(20)
        assert other.inbox.bytes <= SMALL.member_bytes + 10_600
        assert other.counts["messages_dropped"] == 46
        assert await (await other.inbox.receive()).read() == bytes([46]) * 10_000


async def test_pieces_on_a_lossy_channel_are_understood() -> None:
    """Originals send them there."""
    async with open_room("a", mute=("a",), max_retransmits=0) as room:
        await room.channels["a"].send(encode_piece(1, 0, b"hi", done=True, type=TEXT))
        assert await (await room.me.inbox.receive()).read() == "hi"
