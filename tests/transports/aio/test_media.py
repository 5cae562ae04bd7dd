"""Calls over real sockets: what one side shows and plays is what the other sees and hears, until one hangs up."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from contextlib import AsyncExitStack

import aioice.ice
import aioice.stun
import pytest
import trio
import trio_asyncio
from aiortc.contrib.media import MediaBlackhole

from trio_relay.exceptions import NegotiationFailed
from trio_relay.transports.aio import open_media_factory
from trio_relay.transports.webrtc import MediaTrack, RemoteTrack

from .media import (
    BLUE,
    RED,
    Picture,
    Tone,
    both,
    colour_of,
    decoders,
    frequency_of,
    in_call,
    negotiate_media,
    two_peers,
)
from .support import aiortc_of, fall_silent, loop_of


async def sees(track: RemoteTrack, colour: tuple[int, int, int]) -> None:
    with trio.fail_after(3):
        frame = await track.receive()
    assert (frame.width, frame.height) == (64, 48)
    assert all(abs(mean - value) < 10 for mean, value in zip(colour_of(frame), colour, strict=True))


async def hears(track: RemoteTrack, frequency: float) -> None:
    with trio.fail_after(3):
        frames = [await track.receive() for _ in range(12)]
    assert abs(frequency_of(frames[4:]) - frequency) < 0.02 * frequency


def kinds(tracks: Sequence[RemoteTrack | MediaTrack]) -> list[str]:
    return [track.kind for track in tracks]


async def test_sound_and_pictures_both_ways() -> None:
    async with in_call([Tone(1000), Picture(RED)], [Picture(BLUE), Tone(500)]) as call:
        at_caller, at_callee = call.caller.remote_tracks, call.callee.remote_tracks
        assert kinds(at_caller) == kinds(at_callee) == ["audio", "video"]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hears, at_callee[0], 1000)
            nursery.start_soon(sees, at_callee[1], RED)
            nursery.start_soon(hears, at_caller[0], 500)
            nursery.start_soon(sees, at_caller[1], BLUE)
        assert not any(track.muted or track.ended for track in (*at_caller, *at_callee))
        pair = call.caller.selected_pair()
        assert pair is not None
        assert pair.local_address.startswith("127.0.0.1:")


async def test_one_way_only() -> None:
    async with in_call([Picture(RED)]) as call:
        assert call.caller.remote_tracks == ()
        assert kinds(call.callee.remote_tracks) == ["video"]
        await sees(call.callee.remote_tracks[0], RED)


async def test_two_pictures_of_one_stream_are_told_apart() -> None:
    tracks = [Picture(RED), Picture(BLUE)]
    async with two_peers() as call:
        offer = await call.caller.create_offer(tracks)
        streams = re.findall(r"a=msid:([^ ]+) ([^ \r]+)", offer)
        assert [track for _, track in streams] == [track.id for track in tracks]
        assert len({stream for stream, _ in streams}) == 1
        await call.caller.accept_answer(await call.callee.create_answer(offer))
        first, second = call.callee.remote_tracks
        assert [first.id, second.id] == [track.id for track in tracks]
        await sees(second, BLUE)
        await sees(first, RED)


@pytest.mark.parametrize("hangs_up", ["caller", "callee"])
async def test_who_hangs_up_is_noticed_and_the_tracks_end(hangs_up: str) -> None:
    picture = Picture(pause=0.005)
    async with in_call([Tone(), picture], [Tone()]) as call:
        sides = {"caller": call.caller, "callee": call.callee}
        gone = sides.pop(hangs_up)
        (left,) = sides.values()
        own, others = gone.remote_tracks[0], left.remote_tracks[0]
        await others.receive()
        await gone.aclose(1)
        with trio.fail_after(2):
            assert await left.wait_closed() == "the other side has hung up"
            async for _ in others:
                pass
        with pytest.raises(trio.ClosedResourceError, match="closed here"):
            await own.receive()
        with pytest.raises(trio.EndOfChannel):
            await others.receive()
        assert others.ended
        assert await gone.wait_closed() == "the connection was closed here"
        await left.aclose(1)
        assert picture.readyState == "ended"
        assert decoders() == []
    assert call.counters["webrtc_close_timeouts"] == call.counters["webrtc_faults"] == 0


async def test_an_old_peer_without_the_data_channel_hangs_up() -> None:
    async with two_peers() as call:
        pc = aiortc_of(call.caller)
        create, pc.createDataChannel = pc.createDataChannel, lambda *_, **__: FakeChannel()
        offer = await call.caller.create_offer([Tone()])
        assert "m=application" not in offer
        pc.createDataChannel = create
        await call.caller.accept_answer(await call.callee.create_answer(offer))
        await call.callee.wait_connected()
        await call.caller.aclose(1)
        with trio.fail_after(2):
            assert await call.callee.wait_closed() == "the other side closed the connection"


class FakeChannel:
    def on(self, event: str, callback: object) -> None:
        assert event == "close"


async def test_a_side_that_vanishes_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "CONSENT_INTERVAL", 0.02)
    monkeypatch.setattr(aioice.ice, "CONSENT_FAILURES", 1)
    monkeypatch.setattr(aioice.stun, "RETRY_RTO", 0.05)
    async with in_call([Tone()]) as call:
        fall_silent(call.callee)
        with trio.fail_after(3):
            assert await call.caller.wait_closed() == "ICE: the other side no longer answers"


async def test_a_track_that_nobody_reads_costs_nothing_and_can_be_read_later() -> None:
    async with in_call([Picture(RED, pause=0.001), Tone(pause=0.001)]) as call:
        video, audio = call.callee.remote_tracks
        with trio.fail_after(3):
            while any(track._receiver._enabled for track in (video, audio)):
                await trio.sleep(0.005)
        assert call.counters["webrtc_frames_dropped"] > 60
        assert video._frames.qsize() == audio._frames.qsize() == 0
        await sees(video, RED)
        await hears(audio, 1000)


async def test_datagrams_that_are_no_media_do_not_harm() -> None:
    async with in_call([Tone()]) as call:
        agent = aiortc_of(call.callee).sctp.transport.transport._connection
        for data in (b"", b"\x00", b"\x40garbage", b"\xff" * 20):
            agent.data_received(data, 1)
        assert call.counters["webrtc_datagrams_dropped"] == 4
        for data in (b"\x80", b"\x80\xc8", b"\xbf" + bytes(40), b"\x80\xc9" + bytes(60)):
            agent.data_received(data, 1)
        await hears(call.callee.remote_tracks[0], 1000)
        assert call.counters["webrtc_datagrams_dropped"] == 4


async def test_packets_of_too_many_sources_are_dropped() -> None:
    async with in_call([Tone()]) as call:
        dtls, sender = aiortc_of(call.caller).sctp.transport, aiortc_of(call.caller).getSenders()[0]
        await call.callee.remote_tracks[0].receive()

        async def flood() -> None:
            for number in range(60):
                header = b"\x80\x60" + bytes([0, number]) + bytes(4) + (sender._ssrc + 1 + number).to_bytes(4, "big")
                await dtls._send_rtp(header + b"payload")

        await call.caller._loop.run(call.caller._owner, flood)
        with trio.fail_after(2):
            while call.counters["webrtc_datagrams_dropped"] < 37:
                await trio.sleep(0.005)
        assert len(aiortc_of(call.callee).sctp.transport._rtp_router.ssrc_table) <= 24
        await hears(call.callee.remote_tracks[0], 1000)


async def test_further_channels_are_refused() -> None:
    async with in_call([Tone()]) as call:
        for number in range(20):
            call.caller._loop.call(call.caller._owner, aiortc_of(call.caller).createDataChannel, f"{number}")
        with trio.fail_after(2):
            assert await call.callee.wait_closed() == "the other side opened more than 16 data channels"
        assert call.counters["webrtc_channels_refused"] == 17


async def test_tracks_are_refused_before_anything_is_done_with_them() -> None:
    picture = Picture()
    async with two_peers() as call:
        for wrong in ([], [Tone() for _ in range(8)], [picture, picture]):
            with pytest.raises(ValueError, match="track"):
                await call.caller.create_offer(wrong)
        offer = await call.caller.create_offer([Tone()])
        with pytest.raises(ValueError, match="expected at most 0 tracks of video"):
            await call.callee.create_answer(offer, [picture])
        answer = await call.callee.create_answer(offer)
        assert "a=recvonly" in answer
        await call.caller.accept_answer(answer)
        await call.caller.wait_connected()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda sdp: "", "the offer: expected audio or video"),
        (lambda sdp: sdp.replace("a=group:BUNDLE 0 1", "a=group:BUNDLE 0"), "the offer: expected all sections"),
        (lambda sdp: re.sub("a=rtpmap:.*\r\n|a=rtcp-fb:.*\r\n|a=fmtp:.*\r\n", "", sdp), "taking the offer: Operation"),
        (lambda sdp: sdp.replace("a=rtcp:9", "a=rtcp:x"), "taking the offer: ValueError"),
    ],
)
async def test_bad_descriptions_fail_with_the_reason(change: object, reason: str) -> None:
    assert callable(change)
    async with two_peers() as call:
        offer = change(await call.caller.create_offer([Tone()]))
        with pytest.raises(NegotiationFailed, match=reason):
            await call.callee.create_answer(offer)


async def test_the_waits_end_when_it_is_closed() -> None:
    async with two_peers() as call:
        await call.caller.create_offer([Tone()])

        async def fails() -> None:
            with pytest.raises(NegotiationFailed, match="the connection was closed"):
                await call.caller.wait_connected()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails)
            await trio.testing.wait_all_tasks_blocked()
            await call.caller.aclose(1)


async def test_closing_while_frames_are_encoded_leaves_no_thread_at_work() -> None:
    for moment in range(4):
        async with in_call([Picture(pause=0), Tone(pause=0)], [Picture(pause=0)]) as call:
            await call.callee.remote_tracks[0].receive()
            await trio.sleep(0.003 * moment)
            loop, owner = loop_of(call.caller), call.caller._owner
            await call.caller.aclose(1)
            assert owner._works == 0
            assert not owner.pending()
            await call.callee.aclose(1)
            assert decoders() == []
            assert not asyncio.all_tasks(loop)
        assert call.counters["webrtc_close_timeouts"] == 0


async def test_a_close_that_is_cut_off_leaves_no_thread() -> None:
    async with in_call([Picture()]) as call:
        await call.callee.remote_tracks[0].receive()
        assert decoders() == ["video-decoder"]
        aiortc_of(call.callee).close = asyncio.Event().wait
        await call.callee.aclose(0.05)
        assert decoders() == []
        assert call.counters["webrtc_close_timeouts"] == 1


async def test_a_programs_loop_that_has_ended_leaves_no_thread() -> None:
    async with AsyncExitStack() as stack:
        async with trio_asyncio.open_loop():
            factory = await stack.enter_async_context(open_media_factory(close_timeout=1))
            caller, callee = await stack.enter_async_context(both(factory))
            await negotiate_media(caller, callee, [Picture()])
            await callee.remote_tracks[0].receive()
        assert "ended" in await callee.wait_closed()
    assert decoders() == []


async def test_a_track_can_be_given_to_what_aiortc_has_for_tracks() -> None:
    picture = Picture()
    async with (
        trio_asyncio.open_loop(),
        open_media_factory(close_timeout=1) as factory,
        both(factory) as (caller, callee),
    ):
        await negotiate_media(caller, callee, [picture])
        (track,) = callee.remote_tracks
        hole = MediaBlackhole()
        hole.addTrack(track.track)
        await trio_asyncio.aio_as_trio(hole.start)()
        with trio.fail_after(2):
            while picture.sent < 20 or track.muted:
                await trio.sleep(0.01)
        assert track._frames.qsize() <= 1
        await trio_asyncio.aio_as_trio(hole.stop)()
    assert decoders() == []
