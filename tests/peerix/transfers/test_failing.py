"""Messages that do not arrive: why, who learns of it, and what else suffers (nothing)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.peerix.transfers.support import LABEL, open_room, packets, read_all
from tests.transports.fake_bundle import BundleBehaviour
from trio_relay.exceptions import TransferFailed
from trio_relay.peerix.packets.transfer import (
    Piece,
    SenderAbort,
    encode_ack,
    encode_piece,
    encode_receiver_abort,
)
from trio_relay.peerix.transfers.limits import TransferLimits
from trio_relay.peerix.transfers.transfer import Transfer

SECONDS = TransferLimits().ack_timeout


async def fails(transfer: Transfer, reason: str, *members: str) -> None:
    with pytest.raises(TransferFailed) as raised:
        await transfer
    assert raised.value.reason == reason
    assert raised.value.member in members
    assert {member: failure.reason for member, failure in transfer.failures.items()} == dict.fromkeys(members, reason)
    assert raised.value.code == "DATACHANNEL_ERROR"


async def test_no_acknowledgement(autojump_clock: MockClock) -> None:
    async with open_room("a", mute=("a",)) as room:
        began = trio.current_time()
        await fails(room.send("hi"), "timeout", "a")
        assert trio.current_time() - began == pytest.approx(SECONDS)
        piece, abort = await packets(room.channels["a"], 2)
        assert isinstance(piece, Piece)
        assert abort == SenderAbort(1)


async def test_a_member_that_takes_nothing(autojump_clock: MockClock) -> None:
    """All that has waited for so long fails at once, not one after the other."""
    async with open_room("a", mute=("a",)) as room:
        began = trio.current_time()
        transfers = [room.send(bytes(5_000_000)), room.send("behind"), room.send("last")]
        for transfer in transfers:
            await fails(transfer, "timeout", "a")
        assert trio.current_time() - began == pytest.approx(SECONDS)


async def test_a_member_that_is_slow_but_takes_something(autojump_clock: MockClock) -> None:
    """The buffer alone, of 256 KiB, takes longer to leave than the timeout."""
    async with open_room("a", behaviour=BundleBehaviour(rate=10_000)) as room:
        room.nursery.start_soon(read_all, room.members["a"])
        began = trio.current_time()
        await room.send(bytes(600_000))
        assert trio.current_time() - began >= 60


async def test_the_receiver_aborts() -> None:
    async with open_room("a", mute=("a",)) as room:
        transfer = room.send(bytes(5_000_000))
        channel = room.channels["a"]
        await channel.receive()
        await channel.send(encode_receiver_abort(1))
        await fails(transfer, "aborted-by-receiver", "a")
        while (last := (await channel.receive())[-1]) and isinstance(last, bytes) and len(last) > 100:
            pass
        after = room.send("next")
        assert [packet.id for packet in await packets(channel, 1)] == [2]
        await channel.send(encode_ack(2))
        await after


async def test_a_message_is_cancelled_by_its_receiver() -> None:
    async with open_room("a") as room:
        transfer = room.send(bytes(5_000_000))
        message = await room.members["a"].inbox.receive()
        async for _ in message:
            break
        message.cancel()
        message.cancel()
        await fails(transfer, "aborted-by-receiver", "a")
        with pytest.raises(TransferFailed) as raised:
            await message.read()
        assert raised.value.reason == "cancelled"
        await room.send("next")
        assert await (await room.members["a"].inbox.receive()).read() == "next"
        assert room.members["a"].inbox.bytes == 0
        assert set(room.members["a"].counts) <= {"transfer_pieces_unknown"}


@pytest.mark.parametrize("how", ["cancel", "await", "scope", "deadline"])
async def test_the_sender_cancels(how: str, autojump_clock: MockClock) -> None:
    async with open_room("a", "b", mute=("b",)) as room:
        scope = trio.CancelScope()
        transfer = room.send(bytes(5_000_000), cancel_scope=scope if how in ("scope", "deadline") else None)
        message = await room.members["a"].inbox.receive()
        if how == "cancel":
            transfer.cancel()
        elif how == "await":
            with trio.move_on_after(1):
                await transfer
        elif how == "scope":
            scope.cancel()
        else:
            scope.deadline = trio.current_time() + 3
        await trio.sleep(4)
        with pytest.raises(TransferFailed) as raised:
            await message.read()
        assert raised.value.reason == "aborted-by-sender"
        await fails(transfer, "cancelled", "a", "b")
        assert not any(progress.done for progress in transfer.progress.values())
        messages = await room.channels["b"].receive()
        while len(messages[-1]) > 100:
            messages = await room.channels["b"].receive()
        assert messages[-1] == bytes.fromhex("08012801")


async def test_a_cancel_scope_that_is_used_elsewhere() -> None:
    async with open_room("a", mute=("a",)) as room:
        with trio.CancelScope() as scope:
            transfer = room.send("hi", cancel_scope=scope)
            await fails(transfer, "cancelled", "a")
            assert "scope" in str(transfer.failures["a"])


async def test_watching_does_not_cancel() -> None:
    async with open_room("a", mute=("a",)) as room:
        transfer = room.send("hi")
        async for progress in transfer:
            assert not progress.done
            break
        with trio.CancelScope() as scope:
            scope.cancel()
            async for _ in transfer:
                pass
        await room.channels["a"].send(encode_ack(1))
        await transfer


async def test_one_fails_and_the_others_go_on(autojump_clock: MockClock) -> None:
    async with open_room("a", "b", mute=("b",)) as room:
        room.nursery.start_soon(read_all, room.members["a"])
        transfer = room.me.start({"x": None, **room.me.links}, "hi", room.nursery)
        steps = [progress async for progress in transfer]
        assert [step.member for step in steps if step.done] == ["a"]
        with pytest.raises(TransferFailed) as raised:
            await transfer
        assert (raised.value.member, raised.value.reason) == ("x", "no-channel")
        assert {member: failure.reason for member, failure in transfer.failures.items()} == {
            "x": "no-channel",
            "b": "timeout",
        }
        assert transfer.members == ("x", "a", "b")


async def test_the_connection_breaks() -> None:
    async with open_room("a", "b") as room:
        transfer, behind = room.send(bytes(9_000_000), "a"), room.send("behind", "a")
        message = await room.members["a"].inbox.receive()
        room.me.bundles["a"].cut()
        await fails(transfer, "disconnected", "a")
        await fails(behind, "disconnected", "a")
        await fails(room.send("late", "a"), "disconnected", "a")
        with pytest.raises(TransferFailed) as raised:
            await message.read()
        assert raised.value.reason == "disconnected"
        await room.send("others", "b")


async def test_the_channel_is_closed() -> None:
    async with open_room("a") as room:
        transfer = room.send(bytes(9_000_000))
        message = await room.members["a"].inbox.receive()
        await room.me.links["a"].channel.aclose()
        await fails(transfer, "disconnected", "a")
        with pytest.raises(TransferFailed):
            await message.read()


async def test_too_many_wait(autojump_clock: MockClock) -> None:
    async with open_room("a", "b", mute=("a",), limits=TransferLimits(queue=2)) as room:
        room.nursery.start_soon(read_all, room.members["b"])
        transfers = [room.send("one", "a")]
        await trio.testing.wait_all_tasks_blocked()
        transfers += [room.send(text, "a") for text in ("two", "three")]
        with pytest.raises(trio.WouldBlock):
            room.send("four", "a")
        both = room.send("five")  # who has room is not kept from it
        await trio.testing.wait_all_tasks_blocked()
        assert {member: failure.reason for member, failure in both.failures.items()} == {"a": "timeout"}
        assert both.progress["b"].done
        transfers[1].cancel()
        six = room.send("six", "a")
        await fails(transfers[1], "cancelled", "a")
        for transfer in (transfers[0], transfers[2], six):
            await fails(transfer, "timeout", "a")


@pytest.mark.parametrize(
    "options", [{"ordered": False}, {"protocol": "p"}, {"max_retransmits": 3}, {"max_packet_lifetime": 1.0}]
)
async def test_channels_that_are_not_supported(options: dict[str, object]) -> None:
    async with open_room("a", **options) as room:  # type: ignore[arg-type]
        await fails(room.send("hi"), "unsupported-channel", "a")


async def test_a_channel_that_does_not_open(autojump_clock: MockClock) -> None:
    async with open_room("a") as room:
        never = room.me.bundles["a"].open_channel("never")
        never._state = "connecting"
        link = room.me.link(never, "a")
        room.nursery.start_soon(link.run)
        await fails(room.me.start({"a": link}, "hi", room.nursery), "timeout", "a")
        assert never.sent == 0


async def test_a_member_that_takes_only_small_messages() -> None:
    async with open_room("a", behaviour=BundleBehaviour(max_message=1000)) as room:
        room.nursery.start_soon(read_all, room.members["a"])
        await room.send(bytes(10_000))
        assert room.members["a"].messages[0].received == 10_000
        await fails(room.send("", info="x" * 1000), "too-large", "a")


async def test_acknowledgements_that_nobody_waits_for() -> None:
    async with open_room("a", mute=("a",)) as room:
        transfer = room.send(stalling(b"x"))
        channel = room.channels["a"]
        await channel.receive()
        for packet in (encode_ack(1), encode_ack(2), encode_receiver_abort(7)):
            await channel.send(packet)
        await trio.testing.wait_all_tasks_blocked()
        assert not transfer.done  # it is not all sent
        assert room.me.counts == {"transfer_answers_unknown": 3}
        transfer.cancel()


async def stalling(first: bytes) -> AsyncIterator[bytes]:
    yield first
    await trio.sleep_forever()


async def test_a_source_that_pauses_is_kept_alive(autojump_clock: MockClock) -> None:
    async def blocks() -> AsyncIterator[bytes]:
        yield b"one"
        await trio.sleep(300)
        yield b"two"

    async with open_room("a") as room:
        transfer = room.send(blocks())
        message = await room.members["a"].inbox.receive()
        assert await message.read() == b"onetwo"
        await transfer


async def test_acknowledgements_that_wait_behind_what_is_not_read(autojump_clock: MockClock) -> None:
    """What the other side confirms can not be seen while the channel is not read; that is not its fault."""
    async with open_room("a") as room:
        other = room.members["a"]
        room.nursery.start_soon(read_all, other)
        back = other.start(other.links, bytes(3_000_000), room.nursery)
        message = await room.me.inbox.receive()
        await trio.sleep(1)
        room.me.links["a"]._outgoing._limits = TransferLimits(ack_timeout=2)  # type: ignore[misc]
        await room.send("hi")
        assert trio.current_time() == pytest.approx(TransferLimits().stall_timeout)
        with pytest.raises(TransferFailed):
            await message.read()
        await fails(back, "aborted-by-receiver", "me")
        assert room.me.counts["messages_dropped"] == 1
        assert [error.code for error in room.me.errors] == ["DATACHANNEL_ERROR"]


async def test_send_raw_has_its_errors(autojump_clock: MockClock) -> None:
    async with open_room("a", "b", protocol="p", mute=("b",)) as room:
        with pytest.raises(TransferFailed, match="at most"):
            await room.me.links["a"].send_raw(bytes(300_000))
        for _ in range(8):
            await room.me.links["b"].send_raw(bytes(200_000))
        with pytest.raises(TransferFailed) as raised:
            await room.me.links["b"].send_raw(bytes(200_000))
        assert raised.value.reason == "timeout"
        room.me.bundles["a"].cut()
        with pytest.raises(TransferFailed) as raised:
            await room.me.links["a"].send_raw("late")
        assert raised.value.reason == "disconnected"
    async with open_room("a") as room:
        with pytest.raises(TransferFailed) as raised:
            await room.me.links["a"].send_raw(b"bytes")
        assert raised.value.reason == "unsupported-channel"
        assert room.me.links["a"].label == LABEL


async def test_a_piece_too_many_is_not_taken_for_another(autojump_clock: MockClock) -> None:
    async with open_room("a", mute=("a",)) as room:
        await room.channels["a"].send(encode_piece(1, 5, b"x", done=False))
        await trio.testing.wait_all_tasks_blocked()
        assert room.me.counts == {"transfer_pieces_unknown": 1}
        assert room.me.messages == []
