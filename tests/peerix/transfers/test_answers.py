"""Transfers that do not go as they should: what their receiver makes of it, and what it answers."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.peerix.transfers.support import open_room, packets, read_all
from trio_relay.exceptions import TransferFailed
from trio_relay.peerix.packets.transfer import (
    PayloadType,
    ReceiverAbort,
    encode_ack,
    encode_piece,
    encode_receiver_abort,
    encode_sender_abort,
)
from trio_relay.peerix.transfers.limits import TransferLimits

SMALL = TransferLimits(message_bytes=50_000)
TEXT = PayloadType.TEXT


async def settle() -> None:
    await trio.testing.wait_all_tasks_blocked()


async def test_a_transfer_that_does_not_go_on(autojump_clock: MockClock) -> None:
    async with open_room("a", mute=("a",)) as room:
        channel = room.channels["a"]
        await channel.send(encode_piece(1, 0, b"x", done=False, type=TEXT))
        message = await room.me.inbox.receive()
        await trio.sleep(29)
        await channel.send(encode_piece(1, 1, b"", done=False))
        began = trio.current_time()
        with pytest.raises(TransferFailed) as raised:
            await message.read()
        assert raised.value.reason == "timeout"
        assert trio.current_time() - began == pytest.approx(30)
        assert await packets(channel, 1) == [ReceiverAbort(1)]
        assert room.me.counts == {"transfers_idle": 1}


async def test_out_of_order() -> None:
    async with open_room("a", mute=("a",)) as room:
        channel = room.channels["a"]
        for packet in (
            encode_piece(1, 0, b"x", done=False, type=TEXT),
            encode_piece(1, 2, b"y", done=False),
            encode_piece(1, 1, b"z", done=True),
        ):
            await channel.send(packet)
        message = await room.me.inbox.receive()
        with pytest.raises(TransferFailed) as raised:
            await message.read()
        assert raised.value.reason == "out-of-order"
        assert await packets(channel, 1) == [ReceiverAbort(1)]
        assert room.me.counts == {"transfers_out_of_order": 1, "transfer_pieces_unknown": 1}


async def test_what_originals_send_when_they_abort_their_own() -> None:
    async with open_room("a", mute=("a",)) as room:
        channel = room.channels["a"]
        await channel.send(encode_piece(15, 0, b"x", done=False, type=TEXT))
        message = await room.me.inbox.receive()
        await channel.send(bytes.fromhex("080f10012801"))
        with pytest.raises(TransferFailed) as raised:
            await message.read()
        assert raised.value.reason == "aborted-by-sender"


async def test_an_abort_that_may_be_meant_either_way(autojump_clock: MockClock) -> None:
    """Ours is aborted, as it says; theirs has a while to go on."""
    for goes_on in (True, False):
        async with open_room("a", mute=("a",)) as room:
            channel = room.channels["a"]
            transfer = room.send("ours")
            await channel.send(encode_piece(1, 0, b"theirs", done=False, type=TEXT))
            message = await room.me.inbox.receive()
            await channel.send(encode_receiver_abort(1))
            with pytest.raises(TransferFailed) as raised:
                await transfer
            assert raised.value.reason == "aborted-by-receiver"
            await trio.sleep(9)
            if goes_on:
                await channel.send(encode_piece(1, 1, b" go on", done=False))
                await trio.sleep(20)
                await channel.send(encode_piece(1, 2, b"", done=True))
                assert await message.read() == "theirs go on"
            else:
                began = trio.current_time()
                with pytest.raises(TransferFailed) as raised:
                    await message.read()
                assert raised.value.reason == "timeout"
                assert trio.current_time() - began == pytest.approx(1)
            assert room.me.counts["transfer_aborts_ambiguous"] == 1


async def test_the_echo_of_an_original() -> None:
    """It does not abort a message of ours that has the same number."""
    async with open_room("a", mute=("a",)) as room:
        channel = room.channels["a"]
        transfer = room.send("ours")
        await channel.send(encode_piece(1, 0, b"theirs", done=False, type=TEXT))
        (await room.me.inbox.receive()).cancel()
        await channel.send(encode_piece(1, 1, b"", done=True))
        await channel.send(encode_receiver_abort(1))
        await channel.send(bytes.fromhex("080110013001"))
        await transfer
        assert room.me.counts == {"transfer_pieces_unknown": 1, "transfer_echoes": 1}


async def test_aborts_of_nothing() -> None:
    async with open_room("a", mute=("a",)) as room:
        await room.channels["a"].send(encode_sender_abort(3))
        await room.channels["a"].send(encode_receiver_abort(3))
        await settle()
        assert room.me.counts == {"transfer_pieces_unknown": 1, "transfer_answers_unknown": 1}


async def test_too_many_at_once() -> None:
    async with open_room("a", mute=("a",)) as room:
        channel = room.channels["a"]
        for number in range(1, 18):
            await channel.send(encode_piece(number, 0, b"x", done=False, type=TEXT))
        assert await packets(channel, 1) == [ReceiverAbort(17)]
        assert (len(room.me.messages), room.me.counts) == (16, {"transfers_refused": 1})


async def test_answers_are_bounded() -> None:
    async with open_room("a", mute=("a",), limits=TransferLimits(answers=10)) as room:
        room.nursery.start_soon(read_all, room.me)
        channel = room.channels["a"]
        for _ in range(30):
            await channel.send(encode_piece(1, 0, b"", done=True, type=TEXT))
            await settle()
        assert len(await packets(channel, 30)) == 30
        answers = room.me.links["a"]._outgoing
        for _ in range(15):
            answers.answer(b"x")
        assert room.me.counts == {"transfer_answers_dropped": 5}


async def test_a_message_is_dropped_when_its_last_piece_has_come(autojump_clock: MockClock) -> None:
    """It is aborted, not acknowledged, and the echo of that is known for what it is."""
    async with open_room("a", mute=("a",), limits=SMALL) as room:
        channel = room.channels["a"]
        await channel.send(encode_piece(1, 0, bytes(SMALL.message_bytes), done=False, type=TEXT))
        await channel.send(encode_piece(1, 1, b"x", done=True))
        assert await packets(channel, 1) == [ReceiverAbort(1)]
        assert trio.current_time() == pytest.approx(SMALL.stall_timeout)
        transfer = room.send("ours")
        await packets(channel, 1)
        await channel.send(encode_receiver_abort(1))
        await channel.send(encode_ack(1))
        await transfer
        assert room.me.counts == {"messages_dropped": 1, "transfer_echoes": 1}


async def test_time_in_which_we_did_not_read_is_not_the_senders_fault(autojump_clock: MockClock) -> None:
    limits = TransferLimits(message_bytes=50_000, idle_timeout=5)
    async with open_room("a", mute=("a",), limits=limits) as room:
        channel = room.channels["a"]
        await channel.send(encode_piece(1, 0, b"one", done=False, type=TEXT))
        await channel.send(encode_piece(2, 0, bytes(50_000), done=False, type=TEXT))
        await channel.send(encode_piece(2, 1, b"x", done=False))  # not taken, until 2 is dropped
        await trio.sleep(limits.stall_timeout + 3)
        await channel.send(encode_piece(1, 1, b" two", done=True))
        assert await (await room.me.inbox.receive()).read() == "one two"
        assert room.me.counts == {"messages_dropped": 1}


async def test_what_is_late_only_because_we_were(mock_clock: MockClock) -> None:
    async with open_room("a", mute=("a",)) as room:
        channel = room.channels["a"]

        def take_long(_: object) -> None:
            ours = channel.other
            assert ours is not None
            ours.take(encode_piece(1, 1, b" two", done=True))
            mock_clock.jump(100)

        room.me.links["a"]._on_message = take_long  # type: ignore[misc]
        await channel.send(encode_piece(1, 0, b"one", done=False, type=TEXT))
        assert await (await room.me.inbox.receive()).read() == "one two"
