"""An open data channel: what goes in comes out, within its bounds, until one side ends it."""

from __future__ import annotations

from dataclasses import replace

import aioice.ice
import pytest
import trio
import trio.testing

from trio_relay.transports.aio.data_channel import MAX_MESSAGE, Channel
from trio_relay.transports.aio.fragments import SLACK

from .support import CONFIG, aiortc_of, connected, fall_silent, receive_count

MIB = 1024 * 1024


async def test_text_stays_text_and_bytes_stay_bytes_in_their_order() -> None:
    messages: list[bytes | str] = ["", b"", "text", b"bytes", "\u00e4\U0001f600", *(f"{n}" for n in range(200))]
    async with connected() as pair:
        for message in messages:
            await pair.from_left.send(message)
        assert await receive_count(pair.from_right, len(messages)) == messages
        await pair.from_right.send("back")
        assert await receive_count(pair.from_left, 1) == ["back"]


async def test_a_channel_says_what_it_is() -> None:
    async with connected() as pair:
        for channel in (pair.from_left, pair.from_right):
            assert (channel.label, channel.protocol) == ("talk", "test.1")
            assert channel.max_message == MAX_MESSAGE
            assert channel.buffered_amount == 0
        left, right = pair.left.selected_pair(), pair.right.selected_pair()
        assert left is not None
        assert right is not None
        assert (left.local_address, left.remote_address) == (right.remote_address, right.local_address)
        assert left.local_address.startswith("127.0.0.1:")
        assert left.local == "host"


async def test_the_largest_message_goes_through_and_a_larger_one_is_refused() -> None:
    async with connected() as pair:
        with pytest.raises(ValueError, match="expected a message of at most 262144 bytes, got 262145"):
            await pair.from_left.send(bytes(MAX_MESSAGE + 1))
        message = bytes(range(256)) * (MAX_MESSAGE // 256)
        await pair.from_left.send(message)
        assert await receive_count(pair.from_right, 1) == [message]


async def test_the_other_side_may_take_messages_of_any_size() -> None:
    async with connected() as pair:
        aiortc_of(pair.left).sctp._remote_max_message_size = 0
        assert pair.from_left.max_message == MAX_MESSAGE


async def test_sending_waits_while_too_much_is_buffered() -> None:
    async with connected(replace(CONFIG, send_buffer=20_000)) as pair:
        fall_silent(pair.right)
        sent = 0
        with trio.move_on_after(0.1) as scope:
            while True:
                await pair.from_left.send(bytes(10_000))
                sent += 1
        assert scope.cancelled_caught
        assert 20_000 < pair.from_left.buffered_amount <= 30_000
        assert 3 <= sent <= 5
        assert not await finishes(pair.from_left.drain, 0.02)


async def test_draining_waits_for_the_other_side_to_have_everything() -> None:
    async with connected(replace(CONFIG, send_buffer=20_000)) as pair:
        for _ in range(30):
            await pair.from_left.send(bytes(10_000))
        with trio.fail_after(5):
            await pair.from_left.drain()
        assert pair.from_left.buffered_amount == 0
        assert sum(map(len, await pair.from_right.receive())) == 300_000


async def finishes(function: object, seconds: float) -> bool:
    assert callable(function)
    with trio.move_on_after(seconds) as scope:
        await function()
    return not scope.cancelled_caught


async def test_a_slow_reader_narrows_the_window_and_reading_opens_it() -> None:
    async with connected(right=replace(CONFIG, receive_window=MIB)) as pair:
        sctp = aiortc_of(pair.right).sctp
        await pair.from_left.send(bytes(200_000))
        await pair.from_left.drain()
        assert MIB - 202_000 < sctp._advertised_rwnd < MIB - 199_000
        await receive_count(pair.from_right, 1)
        assert sctp._advertised_rwnd == MIB


async def test_reading_tells_a_waiting_sender_that_the_window_is_open() -> None:
    async with connected(right=replace(CONFIG, receive_window=100_000)) as pair:
        sctp = aiortc_of(pair.right).sctp
        await pair.from_left.send(bytes(90_000))
        await pair.from_left.drain()
        announced: list[int] = []
        send_sack = sctp._send_sack

        async def note() -> None:
            announced.append(sctp._advertised_rwnd)
            await send_sack()

        sctp._send_sack = note
        await receive_count(pair.from_right, 1)
        with trio.fail_after(1):
            while not announced:
                await trio.lowlevel.checkpoint()
        assert announced == [100_000]


async def test_a_sender_that_ignores_the_window_has_to_send_again_what_was_too_much() -> None:
    async with connected(right=replace(CONFIG, receive_window=100_000)) as pair:
        sctp = aiortc_of(pair.right).sctp
        for _ in range(9):
            await pair.from_left.send(bytes(100_000))
        with trio.fail_after(5):
            while sctp._advertised_rwnd >= -SLACK:
                await trio.sleep(0.005)
        assert sctp._advertised_rwnd > -SLACK - 100_000
        with trio.fail_after(10):
            messages = await receive_count(pair.from_right, 9)
        assert [len(message) for message in messages] == [100_000] * 9
        assert not pair.counters["webrtc_overflows"]


async def test_fragments_of_a_message_without_an_end_count_too() -> None:
    async with connected(right=replace(CONFIG, receive_window=10_000)) as pair:
        aiortc_of(pair.left).sctp._remote_max_message_size = 0
        pair.left._loop.call(pair.left._owner, pair.from_left._channel.send, bytes(600_000))
        with (
            trio.fail_after(5),
            pytest.raises(trio.BrokenResourceError, match="more than the receive_window of 10000 bytes allows"),
        ):
            await pair.from_right.receive()


@pytest.mark.parametrize("leaver", ["left", "right"])
async def test_what_was_sent_before_a_goodbye_is_read_before_it(leaver: str) -> None:
    async with connected() as pair:
        gone, gone_channel = (pair.left, pair.from_left) if leaver == "left" else (pair.right, pair.from_right)
        stays = pair.from_right if leaver == "left" else pair.from_left
        for number in range(3):
            await gone_channel.send(f"{number}")
        await gone_channel.drain()
        await gone.aclose(1)
        with trio.fail_after(2):
            assert await stays.receive() == ["0", "1", "2"]
            assert await stays.receive() == []
            assert await stays.receive() == []
            with pytest.raises(trio.BrokenResourceError, match="the other side closed the data channel"):
                await stays.send("too late")
        for call in (gone_channel.receive, gone_channel.drain):
            with pytest.raises(trio.ClosedResourceError, match="closed here"):
                await call()


async def test_a_task_of_aiortc_that_can_no_longer_send_does_not_make_a_failure_of_a_goodbye() -> None:
    async def flush() -> None:
        raise ConnectionError("Cannot send encrypted data, not connected")

    async with connected() as pair:
        pair.left._loop.spawn(pair.left._owner, flush)
        await trio.testing.wait_all_tasks_blocked(0.01)
        await pair.right.aclose(1)
        with trio.fail_after(2):
            assert await pair.from_left.receive() == []
        assert not pair.counters


async def test_closing_only_the_channel_is_a_goodbye() -> None:
    async with connected() as pair:
        pair.left._loop.call(pair.left._owner, pair.from_left._channel.close)
        with trio.fail_after(2):
            assert await pair.from_right.receive() == []


async def test_closing_here_wakes_who_waits_here() -> None:
    async with connected() as pair, trio.open_nursery() as nursery:

        @nursery.start_soon
        async def reader() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await pair.from_left.receive()

        await trio.testing.wait_all_tasks_blocked(0.01)
        with trio.fail_after(2):
            await pair.left.aclose(1)


async def test_a_side_that_vanishes_breaks_the_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "CONSENT_INTERVAL", 0.02)
    monkeypatch.setattr(aioice.ice, "CONSENT_FAILURES", 2)
    monkeypatch.setattr(aioice.stun, "RETRY_RTO", 0.03)
    async with connected() as pair:
        await pair.from_right.send("last words")
        await pair.from_right.drain()
        fall_silent(pair.right)
        with trio.fail_after(3):
            assert await pair.from_left.receive() == ["last words"]
            with pytest.raises(trio.BrokenResourceError, match="ICE: the other side no longer answers"):
                await pair.from_left.receive()
        with pytest.raises(trio.BrokenResourceError, match="ICE: the other side no longer answers"):
            await pair.from_left.send("?")


async def test_an_exception_in_a_callback_reaches_the_next_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Channel, message: object) -> None:
        raise ZeroDivisionError("a bug")

    async with connected() as other:
        monkeypatch.setattr(Channel, "_on_message", fail)
        async with connected() as pair:
            await pair.from_left.send("x")
            with trio.fail_after(2), pytest.raises(ZeroDivisionError, match="a bug"):
                await pair.from_right.receive()
            with pytest.raises(ZeroDivisionError, match="a bug"):
                await pair.from_right.send("y")
            await pair.from_left.send("still there")
        await other.from_left.send("not concerned")
        assert await receive_count(other.from_right, 1) == ["not concerned"]


async def test_receiving_can_be_cancelled_without_losing_a_message() -> None:
    async with connected() as pair:
        await pair.from_left.send("x")
        await pair.from_left.drain()
        with trio.CancelScope() as scope:
            scope.cancel()
            await pair.from_right.receive()
        assert scope.cancelled_caught
        assert await pair.from_right.receive() == ["x"]
