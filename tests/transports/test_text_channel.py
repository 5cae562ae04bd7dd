"""Links with original nodes over data channels, here of the fake: one envelope in each message."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.transports.channels import open_channels
from tests.transports.fake_webrtc import Behaviour, FakeChannel
from trio_relay.exceptions import RemoteProtocolError
from trio_relay.limits import Limits
from trio_relay.transports.data_channel import TextChannelConnection

LIMITS = Limits(close_timeout=2.0, legacy_message=1000)


@asynccontextmanager
async def talking(behaviour: Behaviour | None = None) -> AsyncIterator[tuple[TextChannelConnection, FakeChannel]]:
    """A connection, and the channel of the original at the other end."""
    async with open_channels(behaviour) as ((owner, near), (_, far)):
        yield TextChannelConnection(near, owner.selected_pair(), LIMITS, Counter()), far


async def test_each_envelope_is_one_message() -> None:
    async with talking() as (connection, original):
        assert connection.transport == "webrtc"
        assert not connection.direct
        assert not connection.offered_subprotocol
        assert not connection.control_pending
        assert connection.pair is not None
        await connection.flush()
        await connection.send([b'{"a":', '"\u00fc"}'.encode()], text=True)
        await connection.send([b"\xff"])
        assert await original.receive() == ['{"a":"\u00fc"}', b"\xff"]
        for message in ("one", b"two", "\u00fc"):
            await original.send(message)
        assert await connection.receive() == ["one", b"two", "\u00fc"]
        with pytest.raises(RuntimeError, match="direct"):
            connection.send_nowait([b"x"])


async def test_what_is_too_large_for_the_other_side_is_counted() -> None:
    async with open_channels(Behaviour(max_message=10)) as ((_, near), (_, far)):
        counts = Counter[str]()
        connection = TextChannelConnection(near, None, LIMITS, counts)
        assert connection.remote == "webrtc:0"
        await connection.send(["\u00fc".encode() * 6], text=True)
        assert counts == {"legacy_too_large": 1}
        await connection.send(["\u00fc".encode() * 5], text=True)
        assert await far.receive() == ["\u00fc" * 5]


@pytest.mark.parametrize("message", ["a" * 1001, b"a" * 1001, "\u00fc" * 501, "\ud800" * 334])
async def test_messages_are_bounded_in_bytes(message: bytes | str) -> None:
    async with talking() as (connection, _):
        connection._channel.waiting.extend((0.0, m) for m in ("a" * 1000, message, "b"))  # type: ignore[attr-defined]
        assert await connection.receive() == ["a" * 1000]
        for _ in range(2):
            with pytest.raises(RemoteProtocolError, match=r"at most 1000 bytes, got 100\d") as caught:
                await connection.receive()
            assert caught.value.close_code == 1009


async def test_the_end_of_the_channel_is_the_end(autojump_clock: MockClock) -> None:
    async with talking() as (connection, original):
        await original.send("last")
        original.close()
        assert await connection.receive() == ["last"]
        for _ in range(2):
            assert await connection.receive() == []
        with pytest.raises(trio.BrokenResourceError, match="closed"):
            await connection.send([b"x"], text=True)
        await connection.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await connection.receive()
        assert trio.current_time() == 0


async def test_a_broken_channel() -> None:
    async with talking() as (connection, original):
        original.cut()
        for _ in range(2):
            with pytest.raises(trio.BrokenResourceError):
                await connection.receive()
            with pytest.raises(trio.BrokenResourceError):
                await connection.send([b"x"], text=True)
        await connection.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await connection.flush()


async def test_closing_waits_until_all_is_sent(autojump_clock: MockClock) -> None:
    async with talking(Behaviour(rate=1000.0)) as (connection, _), trio.open_nursery() as nursery:

        async def receive() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await connection.receive()

        nursery.start_soon(receive)
        await connection.send([bytes(1000)])
        await connection.aclose()
        assert trio.current_time() == pytest.approx(1.0)
        await connection.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await connection.send([b"x"])


@pytest.mark.parametrize("abort", [True, False])
async def test_closing_is_bounded(abort: bool, autojump_clock: MockClock) -> None:
    async with talking(Behaviour(rate=1.0)) as (connection, _), trio.open_nursery() as nursery:
        await connection.send([bytes(1000)])
        nursery.start_soon(connection.aclose)
        await trio.testing.wait_all_tasks_blocked()
        if abort:
            connection.abort()
    assert trio.current_time() == pytest.approx(0 if abort else LIMITS.close_timeout)


async def test_abort_wakes_who_waits(autojump_clock: MockClock) -> None:
    async with talking(Behaviour(rate=1.0)) as (connection, _), trio.open_nursery() as nursery:

        async def receive() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await connection.receive()

        async def send() -> None:
            for _ in range(2):
                await connection.send([bytes(262144)])
            with pytest.raises(trio.ClosedResourceError):
                await connection.send([bytes(262144)])

        nursery.start_soon(receive)
        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        for operation in (connection.receive, partial(connection.send, [b"x"])):
            with pytest.raises(trio.BusyResourceError):
                await operation()
        connection.abort()
        connection.abort()


async def test_a_cancelled_send_breaks_the_connection() -> None:
    async with talking() as (connection, _):
        with trio.CancelScope() as scope:
            scope.cancel()
            await connection.send([b"x"])
        with pytest.raises(trio.BrokenResourceError):
            await connection.send([b"x"])
        with pytest.raises(trio.BrokenResourceError):
            await connection.receive()
