"""The fake itself: what tests of rooms rely on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from tests.transports.fake_bundle import BundleBehaviour, FakeBundle, FakeBundles, FakeTrack, negotiate
from trio_relay.exceptions import NegotiationFailed
from trio_relay.transports.bundle import Bundle
from trio_relay.transports.webrtc import WebRTCConfig
from trio_relay.wire.description import Candidate

CANDIDATE = Candidate("candidate:1 1 udp 1 192.0.2.9 9 typ host", "0", 0)


@asynccontextmanager
async def pair(
    behaviour: BundleBehaviour | None = None, config: WebRTCConfig | None = None
) -> AsyncIterator[tuple[FakeBundle, FakeBundle]]:
    """Two that have not negotiated; the behaviour is that of both."""
    world = FakeBundles()
    make = world.behaving(behaviour or BundleBehaviour())
    config = config or WebRTCConfig(send_buffer=1000, receive_window=2000)
    async with make(config), make(config):
        one, other = world.bundles
        yield one, other
    assert world.open_bundles == 0


@asynccontextmanager
async def connected(
    behaviour: BundleBehaviour | None = None,
) -> AsyncIterator[tuple[FakeBundle, FakeBundle]]:
    async with pair(behaviour) as (one, other):
        controls = [end.open_channel("", id=0) for end in (one, other)]
        await negotiate(one, other)
        for control in controls:
            await control.wait_open()
        yield one, other


def needs(end: Bundle) -> bool:
    return end.needs_negotiation


def ids(end: Bundle) -> list[str]:
    return [told.track.id for told in end.tracks]


def states(*ends: Bundle) -> list[str]:
    return [end.state for end in ends]


async def test_channels_negotiated_and_announced() -> None:
    async with pair() as (one, other):
        assert states(one, other) == ["new", "new"]
        assert not [end for end in (one, other) if needs(end)]
        near, far = (end.open_channel("", id=0) for end in (one, other))
        assert needs(one)
        await negotiate(one, other)
        assert states(one, other) == ["connected", "connected"]
        assert not needs(one)
        assert not needs(other)
        await near.send(b"1")
        await far.send("2")
        assert await far.receive() == [b"1"]
        assert await near.receive() == ["2"]
        chat = other.open_channel("chat", protocol="p", ordered=False, max_retransmits=0)
        taken = await one.accept_channel()
        assert (taken.label, taken.protocol, taken.ordered, taken.reliable) == ("chat", "p", False, False)
        await taken.send("three")
        await taken.aclose()
        assert await chat.receive() == ["three"]
        assert await chat.receive() == []
        with pytest.raises(trio.BrokenResourceError, match="the other side closed"):
            await chat.send("four")
        with pytest.raises(trio.ClosedResourceError):
            await taken.receive()
        assert (states(one), near.open, chat.open) == (["connected"], True, False)


async def test_glare_voids_the_offer_that_gives_way() -> None:
    async with connected() as (one, other):
        for end in (one, other):
            end.set_stream("s", [FakeTrack("audio", f"of-{end.number}")])
        first, second = await one.create_offer(), await other.create_offer()
        assert not needs(other)
        answer = await other.accept_offer(first)
        assert needs(other)
        with pytest.raises(NegotiationFailed, match="no offer that it answers"):
            await other.accept_answer(answer.replace("1", "0"))
        await one.accept_answer(answer)
        assert [track.stream for track in other.tracks] == ["s"]
        assert ids(one) == []
        stale = await one.accept_offer(second)
        with pytest.raises(NegotiationFailed, match="no offer that it answers"):
            await other.accept_answer(stale)
        await negotiate(other, one)
        assert ids(one) == ["of-1"]
        with pytest.raises(NegotiationFailed, match="no offer that it answers"):
            await one.accept_answer(answer)


async def test_tracks_are_replaced_or_removed() -> None:
    async with connected() as (one, other):
        sound, picture, other_picture = FakeTrack("audio", "a"), FakeTrack("video", "b"), FakeTrack("video", "c")
        one.set_stream("s", [sound, picture])
        with trio.fail_after(1):
            await one.wait_negotiation_needed()
        await negotiate(one, other)
        told = [await other.accept_track() for _ in range(2)]
        assert [(track.stream, track.track.kind, track.track.id) for track in told] == [
            ("s", "audio", "a"),
            ("s", "video", "b"),
        ]
        one.set_stream("s", [sound, other_picture])
        assert not needs(one)
        assert told[1].track.track is other_picture
        one.set_stream("s", [other_picture])
        assert needs(one)
        await negotiate(one, other)
        assert other.tracks == (told[1],)
        with pytest.raises(trio.EndOfChannel):
            await told[0].track.receive()
        with pytest.raises(ValueError, match="each track once"):
            one.set_stream("t", [sound, sound])
        assert not any(track.stopped for track in (sound, picture, other_picture))


async def test_goodbye_and_silence() -> None:
    async with connected() as (one, other):
        channel = one.open_channel("x")
        taken = await other.accept_channel()
        await taken.send("last words")
        other.close()
        assert await one.wait_state("connected") == "closed"
        assert one.failure == "the other side closed the connection"
        assert await channel.receive() == ["last words"]
        assert await channel.receive() == []
        with pytest.raises(trio.BrokenResourceError):
            one.open_channel("y")
        with pytest.raises(trio.ClosedResourceError):
            await other.accept_channel()
    async with connected() as (one, other):
        one.cut()
        assert states(one, other) == ["failed", "failed"]
        with pytest.raises(trio.BrokenResourceError, match="no longer answers"):
            await one.accept_channel()
        with pytest.raises(NegotiationFailed, match="no longer answers"):
            await one.create_offer()


async def test_delay_rate_and_window(autojump_clock: MockClock) -> None:
    async with connected(BundleBehaviour(delay=0.5, rate=100.0)) as (one, _):
        assert trio.current_time() == 2.0  # three steps of the negotiation, and then it connects
        near = one.open_channel("x")
        far = await one.peer.accept_channel()
        start = trio.current_time()
        await near.send(bytes(100))
        assert await far.receive() == [bytes(100)]
        assert trio.current_time() - start == pytest.approx(1.5)
    async with connected() as (one, other):
        near, far = one.open_channel("x"), await other.accept_channel()
        for _ in range(32):  # the window, the send buffer, and one more each
            await near.send(bytes(100))
        with trio.move_on_after(1) as scope:
            await near.send(bytes(100))
        assert scope.cancelled_caught
        assert sum(map(len, await far.receive())) == 2100
        await near.send(b"there is room again")


async def test_faults(autojump_clock: MockClock) -> None:
    config = WebRTCConfig(negotiation_timeout=7)
    async with pair(BundleBehaviour(unreachable=True), config) as (one, other):
        one.open_channel("", id=0)
        await negotiate(one, other)
        assert await one.wait_state("connecting") == "failed"
        assert trio.current_time() == 7
    async with pair(BundleBehaviour(fail_at="accept_offer", reason="no")) as (one, other):
        with pytest.raises(NegotiationFailed, match="no"):
            await negotiate(one, other)
        assert other.state == "new"
    async with pair(BundleBehaviour(candidates=1)) as (one, other):
        ends: tuple[Bundle, Bundle] = (one, other)
        await ends[0].add_candidate(CANDIDATE)
        await negotiate(one, other)
        assert one.state == "connecting"
        await other.add_candidate(CANDIDATE)
        assert await one.wait_state("connecting") == "connected"


async def test_an_end_that_falls_silent_for_a_while() -> None:
    async with connected() as (one, other):
        channel = one.open_channel("x")
        await channel.wait_open()
        taken = await other.accept_channel()
        one.set_silent(True)
        assert states(one, other) == ["disconnected", "connected"]
        await channel.send("kept")
        assert await taken.receive() == ["kept"]
        one.set_silent(False)
        assert await one.wait_state("disconnected") == "connected"
        one.set_silent(True)
        one.cut()
        assert await one.wait_state("disconnected") == "failed"
