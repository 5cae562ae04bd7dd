"""What the other side of a connection with many channels can do to it, and what of a connection stays."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from trio_relay.transports.aio import bundle_channels, open_bundle_factory
from trio_relay.transports.aio.loop import open_loop

from .bundles import both_bundles, connected_bundles, negotiate_bundles, receive_all, two_bundles
from .media import Tone
from .support import aiortc_of, fall_silent


async def test_channels_that_nobody_accepts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_channels, "MAX_CHANNELS", 4)
    async with connected_bundles() as ends:
        for number in range(5):
            channel = ends.one.open_channel(f"{number}")
            with trio.fail_after(5):
                await channel.wait_open()
                while len(ends.other._channels._new) < min(number + 1, 4):
                    await trio.sleep(0.001)
            await channel.aclose()
        with trio.fail_after(5):
            while ends.counters["webrtc_channels_refused"] < 1:
                await trio.sleep(0.001)
            assert [(await ends.other.accept_channel()).label for _ in range(4)] == ["0", "1", "2", "3"]
        await ends.one.open_channel("again").wait_open()
        with trio.fail_after(5):
            assert (await ends.other.accept_channel()).label == "again"


async def test_names_of_channels_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_channels, "_MAX_NAMED", 100_000)
    async with connected_bundles() as ends:
        for _ in range(2):
            ends.one.open_channel("l" * 40_000, protocol="p" * 10_001)
        with trio.fail_after(5):
            assert await ends.other.wait_state("connected") == "failed"
        assert ends.other.failure == "the other side opened data channels with too long names"
        assert ends.counters["webrtc_channels_refused"] == 1


async def test_an_association_that_ends_without_channels() -> None:
    async with two_bundles() as (one, other, _):
        one.open_channel("x")
        await negotiate_bundles(one, other)
        with trio.fail_after(5):
            channel = await other.accept_channel()
            await channel.aclose()
            while len(other._channels) + len(one._channels):
                await trio.sleep(0.001)
            await one._loop.run(one._owner, aiortc_of(one).sctp._abort)
            assert await other.wait_state("connected") == "closed"


async def test_ends_of_candidates_wait_in_one_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    async with two_bundles() as (one, _, _):
        one._loop.call(one._owner, monkeypatch.setattr, one._late_end, "_patience", 0.01)
        told: list[bool] = []
        monkeypatch.setattr(one._late_end, "_tell", lambda: told.append(True))
        await one.add_candidate(None)
        timer = one._late_end._timer
        for _ in range(20):
            await one.add_candidate(None)
        assert one._late_end._timer is timer
        with trio.fail_after(5):
            while not told:
                await trio.sleep(0.001)
        assert one._late_end._timer is None
        assert told == [True]


async def test_tracks_are_free_after_a_connection_that_never_was() -> None:
    async with open_loop(close_timeout=1) as loop, open_bundle_factory(close_timeout=1) as factory:
        async with both_bundles(factory) as (one, _):
            one.set_stream("s", [Tone()])
            await one.create_offer()
            assert len(loop.shared) == 1
        assert not loop.shared


async def test_who_does_not_answer_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aioice.ice.CONSENT_INTERVAL", 0.05)
    monkeypatch.setattr("aioice.ice.CONSENT_FAILURES", 10_000)
    monkeypatch.setattr("aioice.stun.RETRY_RTO", 0.02)
    async with connected_bundles() as ends:
        protocols: Any = aiortc_of(ends.other).ice._connection._protocols
        heard = [protocol.datagram_received for protocol in protocols]
        fall_silent(ends.other)
        with trio.fail_after(5):
            assert await ends.one.wait_state("connected") == "disconnected"
        assert ends.one.failure == ""
        for protocol, hear in zip(protocols, heard, strict=True):
            protocol.datagram_received = hear
        with trio.fail_after(5):
            assert await ends.one.wait_state("disconnected") == "connected"
            await ends.near.send("still here")
        assert await receive_all(ends.far, 1) == ["still here"]
