"""How links over data channels end: politely, broken, and with somebody waiting."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.transports.channels import LIMITS, SMALL, connected, raw, send_all
from tests.transports.fake_webrtc import Behaviour
from trio_relay.testing.checking import take
from trio_relay.wire.chunks import GOODBYE


async def test_a_goodbye_means_that_all_was_taken(autojump_clock: MockClock) -> None:
    async with connected(Behaviour(delay=0.1)) as (one, other):
        messages = [bytes([number]) * 50_000 for number in range(20)]
        taken: list[object] = []

        async def read_slowly() -> None:
            while batch := await other.receive():
                taken.extend(batch)
                await trio.sleep(0.001)
            await other.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_slowly)
            await send_all(one, messages)
            await one.aclose()
            assert taken == messages
        assert trio.current_time() < LIMITS.close_timeout


async def test_who_answers_a_goodbye_lets_the_other_end_the_channel(autojump_clock: MockClock) -> None:
    async with raw() as (one, channel):
        await channel.send(GOODBYE)
        assert await one.receive() == []
        assert await channel.receive() == [b"\2\0\x0c\0\0", GOODBYE]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.aclose)
            await trio.sleep(1)
            still = one.channel.is_open
            channel.close()
        assert still
        assert trio.current_time() == pytest.approx(1)


async def test_closing_after_the_goodbye_was_read_by_a_sender(autojump_clock: MockClock) -> None:
    async with raw() as (one, channel):
        await channel.send(GOODBYE)
        with pytest.raises(trio.BrokenResourceError, match="the peer closed"):
            await send_all(one, [bytes(100_000)] * 3)
        assert await one.receive() == []
        assert await one.receive() == []
        assert (await channel.receive())[-1] == GOODBYE
        channel.close()
        await one.aclose()
        assert trio.current_time() == 0


async def test_a_close_waits_for_the_message_that_is_being_sent(autojump_clock: MockClock) -> None:
    async with connected(config=SMALL) as (one, other), trio.open_nursery() as nursery:
        nursery.start_soon(send_all, one, [bytes(125_000)] * 3)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(one.aclose)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.ClosedResourceError):
            await one.receive()
        assert len(await take(other, 2)) == 2
        assert len(await take(other, 1)) in (0, 1)
        nursery.start_soon(other.aclose)
    assert trio.current_time() < LIMITS.close_timeout


@pytest.mark.parametrize("reading", [True, False])
async def test_closing_is_bounded_whatever_the_peer_does(reading: bool, autojump_clock: MockClock) -> None:
    async with raw() as (one, channel), trio.open_nursery() as nursery:
        if reading:

            async def flood() -> None:
                while True:
                    await channel.send(b"\0data")
                    await trio.sleep(0.01)

            nursery.start_soon(flood)
        await one.aclose()
        assert trio.current_time() == pytest.approx(LIMITS.close_timeout)
        nursery.cancel_scope.cancel()


async def test_a_channel_that_ends_without_a_goodbye_is_an_error() -> None:
    async with raw() as (one, channel):
        await channel.send(b"\0first")
        channel.close()
        assert await take(one, 1) == [b"first"]
        with pytest.raises(trio.BrokenResourceError, match="without a goodbye"):
            await one.receive()
        with pytest.raises(trio.BrokenResourceError):
            await one.send([b"x"])
        await one.aclose()


async def test_what_came_before_a_break_can_be_received(autojump_clock: MockClock) -> None:
    async with raw() as (one, channel):
        await channel.send(b"\0first")
        await channel.send(b"\0second")
        with trio.move_on_after(1):
            await send_all(one, [bytes(100_000)] * 3)  # reads them while it waits for credit
        assert await take(one, 2) == [b"first", b"second"]
        with pytest.raises(trio.BrokenResourceError):
            await one.receive()


@pytest.mark.parametrize("ending", ["abort", "break", "cancel"])
async def test_everyone_who_waits_is_woken(ending: str, autojump_clock: MockClock) -> None:
    expected = trio.ClosedResourceError if ending == "abort" else trio.BrokenResourceError
    async with connected(config=SMALL) as (one, _), trio.open_nursery() as nursery:
        scope = trio.CancelScope()

        async def expect(operation: Callable[[], Awaitable[object]]) -> None:
            with pytest.raises(expected):
                await operation()

        async def send() -> None:
            sending = partial(send_all, one, [bytes(100_000)] * 5)
            with scope:
                await (sending() if ending == "cancel" else expect(sending))

        nursery.start_soon(expect, one.receive)
        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        if ending == "abort":
            one.abort()
        elif ending == "break":
            one.channel.cut()
        else:
            scope.cancel()
