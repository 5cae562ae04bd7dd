"""Messages that were sent and are not acknowledged yet: how many, in what order, and what becomes of them."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.peerix.transfers.support import open_room, packets, read_all
from tests.peerix.transfers.test_failing import SECONDS, fails
from tests.transports.fake_bundle import BundleBehaviour
from trio_relay.peerix.packets.transfer import (
    PayloadType,
    Piece,
    SenderAbort,
    encode_ack,
    encode_piece,
    encode_receiver_abort,
)
from trio_relay.peerix.transfers.limits import TransferLimits
from trio_relay.peerix.transfers.transfer import Transfer

TWO = TransferLimits(unacknowledged=2)


async def test_the_next_one_does_not_wait_for_the_acknowledgement() -> None:
    async with open_room("a", mute=("a",), limits=TWO) as room:
        transfers = [room.send(text) for text in ("one", "two", "three", "four")]
        channel = room.channels["a"]
        assert [packet.id for packet in await packets(channel, 2)] == [1, 2]
        await trio.testing.wait_all_tasks_blocked()
        assert not channel.waiting
        await channel.send(encode_ack(2))
        await transfers[1]
        assert [packet.id for packet in await packets(channel, 1)] == [3]
        assert not transfers[0].done
        await channel.send(encode_ack(1))
        await channel.send(encode_ack(3))
        assert [packet.id for packet in await packets(channel, 1)] == [4]
        await channel.send(encode_ack(4))
        for transfer in transfers:
            await transfer
        assert room.me.counts == {}


async def test_one_at_a_time_as_originals_do() -> None:
    async with open_room("a", mute=("a",), limits=TransferLimits(unacknowledged=1)) as room:
        first, second = room.send("one"), room.send("two")
        channel = room.channels["a"]
        assert [packet.id for packet in await packets(channel, 1)] == [1]
        await trio.testing.wait_all_tasks_blocked()
        assert not channel.waiting
        await channel.send(encode_ack(1))
        await first
        assert [packet.id for packet in await packets(channel, 1)] == [2]
        await channel.send(encode_ack(2))
        await second


async def test_a_hundred_messages_take_a_few_round_trips(autojump_clock: MockClock) -> None:
    async with open_room("a", behaviour=BundleBehaviour(delay=0.5)) as room:
        room.nursery.start_soon(read_all, room.members["a"])
        began = trio.current_time()
        transfers: list[Transfer] = []
        for number in range(100):
            if room.me.links["a"].full:
                await transfers[0]
            while room.me.links["a"].full:
                await trio.sleep(0.1)
            transfers.append(room.send(str(number).encode() * (1 + 10_000 * (number % 10 == 0))))
        for transfer in transfers:
            await transfer
        assert trio.current_time() - began < 8
        heard = [message.received for message in room.members["a"].messages]
        assert heard == [len(str(number)) * (1 + 10_000 * (number % 10 == 0)) for number in range(100)]


async def test_nothing_is_acknowledged(autojump_clock: MockClock) -> None:
    """All that left at the same time fail at the same time, and those that waited have their time after that."""
    async with open_room("a", mute=("a",), limits=TWO) as room:
        began = trio.current_time()
        transfers = [room.send(str(number)) for number in range(3)]
        for transfer in transfers[:2]:
            await fails(transfer, "timeout", "a")
        assert trio.current_time() - began == pytest.approx(SECONDS)
        await fails(transfers[2], "timeout", "a")
        assert trio.current_time() - began == pytest.approx(2 * SECONDS)
        found = await packets(room.channels["a"], 6)
        assert [packet.id for packet in found if isinstance(packet, Piece)] == [1, 2, 3]
        assert {packet.id for packet in found if isinstance(packet, SenderAbort)} == {1, 2, 3}


async def test_a_member_that_acknowledges_slowly_has_time_for_each(autojump_clock: MockClock) -> None:
    async with open_room("a", mute=("a",)) as room:
        transfers = [room.send(str(number)) for number in range(8)]
        for id in range(1, 9):
            await trio.sleep(SECONDS - 1)
            await room.channels["a"].send(encode_ack(id))
        for transfer in transfers:
            await transfer


async def test_one_that_is_left_out_is_given_up_whatever_else_goes_on(autojump_clock: MockClock) -> None:
    async with open_room("a", mute=("a",)) as room:
        began = trio.current_time()
        lost = room.send("lost")
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def answer() -> None:
                while True:
                    for message in await room.channels["a"].receive():
                        assert isinstance(message, bytes)
                        if message[1] > 1 and message[-1:] == b"!":
                            await room.channels["a"].send(encode_ack(message[1]))

            for _ in range(12):
                await room.send("hi!")
                await trio.sleep(1)
            nursery.cancel_scope.cancel()
        await fails(lost, "timeout", "a")
        assert SECONDS <= trio.current_time() - began <= SECONDS + 3


@pytest.mark.parametrize("who", ["sender", "receiver"])
async def test_one_of_several_is_aborted(who: str) -> None:
    async with open_room("a", mute=("a",)) as room:
        first, second, third = (room.send(text) for text in ("one", "two", "three"))
        channel = room.channels["a"]
        await packets(channel, 3)
        if who == "sender":
            second.cancel()
            await fails(second, "cancelled", "a")
        else:
            await channel.send(encode_receiver_abort(2))
            await fails(second, "aborted-by-receiver", "a")
        assert await packets(channel, 1) == [SenderAbort(2)]
        await channel.send(encode_ack(2))
        await channel.send(encode_ack(1))
        await channel.send(encode_ack(3))
        await first
        await third
        assert room.me.counts == {"transfer_answers_unknown": 1}


async def test_the_end_of_the_channel() -> None:
    async with open_room("a", mute=("a",)) as room:
        transfers = [room.send(text) for text in ("one", "two")]
        await packets(room.channels["a"], 2)
        await room.channels["a"].aclose()
        for transfer in transfers:
            await fails(transfer, "disconnected", "a")


async def test_a_number_that_is_under_way_is_not_used_again() -> None:
    async with open_room("a", mute=("a",)) as room:
        channel = room.channels["a"]
        first = room.send("one")
        await packets(channel, 1)
        room.me.links["a"]._outgoing._id = 65534
        second, third = room.send("two"), room.send("three")
        assert [packet.id for packet in await packets(channel, 2)] == [65535, 2]
        for id in (1, 65535, 2):
            await channel.send(encode_ack(id))
        for transfer in (first, second, third):
            await transfer


async def test_a_member_that_takes_no_message_long_enough_for_an_answer() -> None:
    """What it announced is no reason to fail."""
    async with open_room("a", behaviour=BundleBehaviour(max_message=4)) as room:
        await fails(room.send("hi"), "too-large", "a")
        room.nursery.start_soon(read_all, room.me)
        room.channels["a"].find_other().take(encode_piece(1, 0, b"hi", done=True, type=PayloadType.TEXT))  # type: ignore[union-attr]
        await trio.testing.wait_all_tasks_blocked()
        assert [message.complete for message in room.me.messages] == [True]
        assert room.me.counts["transfer_answers_dropped"] == 1
        assert not room.me.bundles["a"].is_over


async def test_an_abort_of_a_message_that_both_have_under_way() -> None:
    """As `assembly` says: it is taken for what it says, whether or not all of ours was sent."""
    async with open_room("a", mute=("a",)) as room:
        ours = room.send("ours")
        channel = room.channels["a"]
        await packets(channel, 1)
        await channel.send(encode_piece(1, 0, b"theirs", done=False, type=PayloadType.TEXT))
        await channel.send(encode_receiver_abort(1))
        await fails(ours, "aborted-by-receiver", "a")
        assert room.me.counts == {"transfer_aborts_ambiguous": 1}
        assert await packets(channel, 1) == [SenderAbort(1)]
