"""The fake itself: what tests of nodes rely on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from tests.transports.fake_webrtc import Behaviour, FakeChannel, FakeConnection, FakeWebRTC, Step
from trio_relay.exceptions import NegotiationFailed
from trio_relay.transports.webrtc import WebRTCConfig
from trio_relay.wire.description import Candidate, check_description_untrusted

CANDIDATE = Candidate("candidate:1 1 udp 1 192.0.2.9 9 typ host", "0", 0)


@asynccontextmanager
async def negotiated(
    world: FakeWebRTC, behaviour: Behaviour | None = None
) -> AsyncIterator[tuple[FakeConnection, FakeConnection]]:
    """Offerer, of the behaviour, and answerer; descriptions are exchanged."""
    config = WebRTCConfig(send_buffer=1000)
    async with world.behaving(behaviour or Behaviour())(config) as one, world.factory(config) as other:
        offer = await one.create_offer("name", protocol="subprotocol")
        check_description_untrusted(offer)
        answer = await other.create_answer(offer)
        check_description_untrusted(answer)
        await one.accept_answer(answer)
        assert isinstance(one, FakeConnection)
        assert isinstance(other, FakeConnection)
        yield one, other


async def channels(ends: tuple[FakeConnection, FakeConnection]) -> tuple[FakeChannel, FakeChannel]:
    return await ends[0].channel(), await ends[1].channel()


async def test_messages_both_ways() -> None:
    world = FakeWebRTC()
    async with negotiated(world) as ends:
        near, far = await channels(ends)
        assert near.label == far.label == "name"
        assert near.protocol == far.protocol == "subprotocol"
        for sender, receiver in ((near, far), (far, near)):
            await sender.send(b"bytes")
            await sender.send("text")
            assert await receiver.receive() == [b"bytes", "text"]
        pair, other = ends[0].selected_pair(), ends[1].selected_pair()
        assert pair is not None
        assert other is not None
        assert (pair.local_address, pair.remote_address) == (other.remote_address, other.local_address)
        assert world.open_connections == 2
        with pytest.raises(ValueError, match="at most 262144 bytes"):
            await near.send(bytes(262145))
    assert world.open_connections == 0
    with pytest.raises(trio.ClosedResourceError):
        await near.receive()


async def test_the_end_of_one_block_is_seen_at_the_other() -> None:
    world = FakeWebRTC()
    async with world.factory(WebRTCConfig()) as one:
        async with world.factory(WebRTCConfig()) as other:
            await one.accept_answer(await other.create_answer(await one.create_offer("")))
            await (await other.channel()).send(b"last")
            near = await one.channel()
        assert await near.receive() == [b"last"]
        assert await near.receive() == []
        with pytest.raises(trio.BrokenResourceError):
            await near.send(b"x")


@pytest.mark.parametrize("step", ["offer", "answer", "accept", "candidate", "channel"])
async def test_every_step_can_fail_or_hang(step: Step, autojump_clock: MockClock) -> None:
    world = FakeWebRTC()

    async def negotiate(behaviour: Behaviour) -> None:
        factory = world.behaving(behaviour)
        async with factory(WebRTCConfig()) as one, factory(WebRTCConfig()) as other:
            answer = await other.create_answer(await one.create_offer("name"))
            await one.add_candidate(CANDIDATE)
            await one.accept_answer(answer)
            await one.channel()

    with pytest.raises(NegotiationFailed, match="out of order"):
        await negotiate(Behaviour(fail_at=step, reason="out of order"))
    with pytest.raises(trio.TooSlowError), trio.fail_after(100):
        await negotiate(Behaviour(hang_at=step))
    assert world.open_connections == 0


async def test_delays_are_of_the_clock(autojump_clock: MockClock) -> None:
    world = FakeWebRTC()
    async with negotiated(world, Behaviour(delay=1.0, closing=5.0)) as ends:
        near, far = await channels(ends)
        assert trio.current_time() == pytest.approx(3.0)
        await near.send(b"x")
        assert await far.receive() == [b"x"]
        assert trio.current_time() == pytest.approx(4.0)
    assert trio.current_time() == pytest.approx(9.0)


async def test_a_rate_fills_the_buffer(autojump_clock: MockClock) -> None:
    async with negotiated(FakeWebRTC(), Behaviour(rate=1000.0)) as ends:
        near, far = await channels(ends)
        await near.send(bytes(3000))
        assert near.buffered_amount == 3000
        await near.send(b"")
        assert trio.current_time() == pytest.approx(2.0)
        await near.drain()
        assert trio.current_time() == pytest.approx(3.0)
        assert far.waiting_bytes == 3000


async def test_candidates_that_are_needed(autojump_clock: MockClock) -> None:
    async with negotiated(FakeWebRTC(), Behaviour(candidates=1)) as ends:
        for candidate in (None, CANDIDATE):
            with trio.move_on_after(10) as scope:
                await ends[1].channel()
            assert scope.cancelled_caught
            await ends[0].add_candidate(candidate)
        await channels(ends)
        assert ends[0].candidates == [None, CANDIDATE]


async def test_channels_that_never_open(autojump_clock: MockClock) -> None:
    async with negotiated(FakeWebRTC(), Behaviour(unreachable=True)) as ends:
        for end in ends:
            with trio.move_on_after(100) as scope:
                await end.channel()
            assert scope.cancelled_caught


async def test_channels_that_break_or_lose(autojump_clock: MockClock) -> None:
    world = FakeWebRTC()
    async with negotiated(world, Behaviour(loses_after=1, breaks_after=3)) as ends:
        near, far = await channels(ends)
        for _ in range(2):
            await near.send(b"x")
        assert await far.receive() == [b"x"]
        with trio.move_on_after(100) as scope:
            await far.receive()
        assert scope.cancelled_caught
        await near.send(b"x")
        for operation in (near.receive, far.receive, near.drain):
            with pytest.raises(trio.BrokenResourceError):
                await operation()
    async with negotiated(world) as ends:
        near, far = await channels(ends)
        assert world.channels == [near, far]
        world.lose()
        await far.send(b"x")
        assert not near.waiting
        world.break_channels()
        assert not world.channels


async def test_bugs_are_raised_by_who_waits() -> None:
    class Bug(Exception):
        pass

    async with negotiated(FakeWebRTC(), Behaviour(channel_error=Bug())) as ends:
        with pytest.raises(Bug):
            await ends[0].channel()
        far = await ends[1].channel()
        far.fail(Bug())
        with pytest.raises(Bug):
            await far.receive()


async def test_garbage_is_a_failed_negotiation() -> None:
    async with FakeWebRTC().factory(WebRTCConfig()) as one:
        with pytest.raises(NegotiationFailed, match="expected"):
            await one.create_answer("garbage")
