"""Links between two nodes of ours over data channels, here of the fake; those with originals: `test_text_channel`."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.transports.channels import CONFIG, LIMITS, SMALL, Owned, connected, open_channels, raw, send_all
from tests.transports.fake_webrtc import Behaviour
from trio_relay.exceptions import RemoteProtocolError
from trio_relay.testing.checking import take
from trio_relay.testing.conformance import CONNECTION_CHECKS, ConnectionCheck
from trio_relay.transports.data_channel import DataChannelConnection
from trio_relay.transports.webrtc import WebRTCConfig
from trio_relay.wire.chunks import FIRST_CREDIT, cost
from trio_relay.wire.frame import MAX_MESSAGE

WITH_TEXT = {"messages_arrive_whole_and_in_order"}
"""Checks that send text, which nodes of ours do not: below is one without."""


@pytest.mark.parametrize("delay", [0.0, 0.001], ids=["at-once", "delayed"])
@pytest.mark.parametrize("check", [c for c in CONNECTION_CHECKS if c.__name__ not in WITH_TEXT])
async def test_conformance(check: ConnectionCheck, delay: float, autojump_clock: MockClock) -> None:
    await check(lambda: connected(Behaviour(delay=delay)))


@pytest.mark.parametrize("max_message", [1025, 16384, 262144])
async def test_messages_of_every_size_arrive_whole(max_message: int, autojump_clock: MockClock) -> None:
    sizes = (0, 1, 1023, 1024, 1025, 65534, 65535, 65536, MAX_MESSAGE)
    messages = [bytes([size % 251]) * size for size in sizes] * 3
    async with connected(Behaviour(max_message=max_message, delay=0.01)) as ends:
        for sender, receiver in (ends, ends[::-1]):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send_all, sender, messages)
                assert await take(receiver, len(messages)) == messages


async def test_what_it_says_about_itself() -> None:
    async with connected() as (one, other):
        assert one.transport == "webrtc"
        assert not one.direct
        assert not one.control_pending
        assert one.offered_subprotocol
        assert one.pair is not None
        assert one.remote == one.pair.remote_address == other.local
        assert repr(one) == f"<Owned {one.local} to {one.remote}, open>"
        await one.flush()
        with pytest.raises(RuntimeError, match="direct"):
            one.send_nowait([b"x"])
        with pytest.raises(ValueError, match="binary"):
            await one.send([b"x"], text=True)
        unknown = DataChannelConnection(one.channel, None, LIMITS, CONFIG)
        assert unknown.remote == unknown.local == "webrtc:0"


async def test_a_peer_that_takes_only_crumbs_is_refused() -> None:
    async with open_channels(Behaviour(max_message=1024)) as ((_, channel), _):
        with pytest.raises(RemoteProtocolError, match="1025 bytes to be taken, got 1024"):
            DataChannelConnection(channel, None, LIMITS, CONFIG)


# Flow control


@pytest.mark.parametrize("window", [1, FIRST_CREDIT, 1 << 20])
async def test_no_more_than_the_window_waits_at_the_receiver(window: int, autojump_clock: MockClock) -> None:
    config = WebRTCConfig(receive_window=window)
    async with connected(config=config) as (one, other), trio.open_nursery() as nursery:
        nursery.start_soon(send_all, one, [bytes(100_000)] * 40)
        assert len(await take(other, 1)) == 1  # by then it has told its window
        await trio.testing.wait_all_tasks_blocked()
        waiting = other.channel.waiting_bytes
        assert max(window, FIRST_CREDIT) - 70_000 < waiting + 100_000 < max(window, FIRST_CREDIT) + 100_000
        assert len(await take(other, 39)) == 39


async def test_both_directions_full_and_then_read(autojump_clock: MockClock) -> None:
    messages = [bytes([number]) * 100_000 for number in range(60)]
    async with connected(Behaviour(rate=1e6), SMALL) as ends, trio.open_nursery() as nursery:
        for end in ends:
            nursery.start_soon(send_all, end, messages)
        await trio.sleep(60)
        assert all(end.channel.sent < 10 for end in ends)
        for end in ends:

            async def read(end: Owned = end) -> None:
                assert await take(end, len(messages)) == messages

            nursery.start_soon(read)


async def test_a_small_window_and_long_ways(autojump_clock: MockClock) -> None:
    """Credit comes early enough: a sender waits once a way, not once a message."""
    async with connected(Behaviour(delay=0.05), SMALL) as (one, other), trio.open_nursery() as nursery:
        nursery.start_soon(send_all, one, [bytes(10_000)] * 100)
        assert len(await take(other, 100)) == 100
        assert trio.current_time() < 20 * 0.05 + 100 * 0.05  # the fake's sends do not wait


# Peers that break the rules


@pytest.mark.parametrize(
    "message",
    [
        "text",
        b"",
        b"\4unknown",
        b"\1" + bytes(1023),
        b"\0" + bytes(65536),
        b"\2\0\0\0\0",
        b"\2\1",
        b"\3more",
    ],
    ids=lambda message: repr(message[:8]),
)
async def test_a_broken_rule_ends_the_link_after_what_came_before(message: bytes | str) -> None:
    async with raw() as (one, channel):
        await channel.send(b"\0good")
        await channel.send(message)
        await channel.send(b"\0ignored")
        assert await one.receive() == [b"good"]
        for _ in range(2):
            with pytest.raises(RemoteProtocolError, match="expected"):
                await one.receive()
        with pytest.raises(trio.BrokenResourceError, match="broke the protocol"):
            await one.send([b"x"])
        await one.aclose()


async def test_a_peer_that_ignores_its_credit_is_refused() -> None:
    chunk = b"\0" + bytes(60_000)
    fits = FIRST_CREDIT // cost(chunk)
    for count in (fits, fits + 1):
        async with raw(SMALL) as (one, channel):
            for _ in range(count):
                await channel.send(chunk)
            received = 0
            while received < fits:
                received += len(await one.receive())
            assert received == fits
            if count == fits:
                await channel.send(b"\0")
                assert await one.receive() == [b""]
            else:
                with pytest.raises(RemoteProtocolError, match="credit of 262144 bytes"):
                    await one.receive()


async def test_errors_of_callbacks_are_raised_as_they_are() -> None:
    class Bug(Exception):
        pass

    async with raw() as (one, _):
        one.channel.fail(Bug())
        with pytest.raises(Bug):
            await one.receive()
        one.channel.fail(Bug())
        with pytest.raises(Bug):
            await one.send([b"x"])
        one.abort()


# Cancellation


async def test_a_cancelled_receive_repeats_its_credit(autojump_clock: MockClock) -> None:
    """Whenever it is cancelled, the other side is given all credit, and once."""
    chunk = b"\0" + bytes(60_000)
    async with raw() as (one, channel):
        for steps in range(8):
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:

                    async def cancel(steps: int = steps, scope: trio.CancelScope = scope) -> None:
                        for _ in range(steps):
                            await trio.lowlevel.checkpoint()
                        scope.cancel()

                    nursery.start_soon(cancel)
                    await one.receive()
        assert await channel.receive() == [b"\2" + ((1 << 20) - FIRST_CREDIT).to_bytes(4, "big")]
        await channel.send(chunk)
        assert await one.receive() == [chunk[1:]]


async def test_two_tasks_at_once_are_refused() -> None:
    async with connected(config=SMALL) as (one, _), trio.open_nursery() as nursery:

        async def fill() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await send_all(one, [bytes(100_000)] * 5)

        async def receive() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await one.receive()

        nursery.start_soon(fill)
        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await one.send([b"x"])
        with pytest.raises(trio.BusyResourceError):
            await one.receive()
        one.abort()
