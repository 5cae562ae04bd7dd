"""Streams of connections that are negotiated again and again: what one side shares, the other sees, until it ends."""

from __future__ import annotations

import asyncio
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
import trio
from aiortc import MediaStreamTrack
from av import AudioFrame

from trio_relay.exceptions import NegotiationFailed
from trio_relay.transports.aio import open_bundle_factory
from trio_relay.transports.bundle import StreamTrack
from trio_relay.wire.bundle_description import MAX_BUNDLE_SECTIONS

from .bundles import both_bundles, connected_bundles, needs, negotiate_bundles, streams
from .media import BLUE, RED, Picture, Tone, colour_of


async def sees(told: StreamTrack, colour: tuple[int, int, int]) -> int:
    """Soon, pictures of that colour come; returns the time of the first one."""
    with trio.fail_after(3):
        async for frame in told.track:
            if all(abs(mean - value) < 10 for mean, value in zip(colour_of(frame), colour, strict=True)):
                return int(frame.pts)
    raise AssertionError("the track has ended")


async def ends_soon(told: StreamTrack) -> None:
    with trio.fail_after(3):
        async for _ in told.track:
            pass
    assert told.track.ended


async def test_streams_both_ways_replaced_and_removed() -> None:
    pictures = Picture(RED), Picture(BLUE), Picture(BLUE)
    async with connected_bundles() as ends:
        ends.one.set_stream("camera", [pictures[0], Tone()])
        ends.other.set_stream("screen", [pictures[1]])
        for offering, answering in ((ends.one, ends.other), (ends.other, ends.one)):
            with trio.fail_after(1):
                await offering.wait_negotiation_needed()
            await negotiate_bundles(offering, answering)
            assert not needs(offering)
        with trio.fail_after(1):
            seen, heard, back = [await end.accept_track() for end in (ends.other, ends.other, ends.one)]
        assert [told.stream for told in (seen, heard, back)] == ["camera", "camera", "screen"]
        assert [told.track.kind for told in (seen, heard, back)] == ["video", "audio", "video"]
        before = await sees(seen, RED)
        await sees(back, BLUE)
        ends.one.set_stream("camera", [pictures[2]])
        assert needs(ends.one)  # of the sound, which is gone
        assert 0 < await sees(seen, BLUE) - before < 90000 * 3  # the new track has times of its own; these go on
        await negotiate_bundles(ends.one, ends.other)
        assert ends.other.tracks == (seen,)
        await ends_soon(heard)
        ends.one.set_stream("camera", [])
        # The other side's offer finds it gone, too; it needs no offer of its own.
        await negotiate_bundles(ends.other, ends.one)
        assert not needs(ends.one)
        assert seen.track.ended
        assert [picture.readyState for picture in pictures] == ["live"] * 3


class Telephone(MediaStreamTrack):
    """Silence, in another form than `Tone` has."""

    kind = "audio"
    sent = 0

    async def recv(self) -> Any:
        await asyncio.sleep(0.002)
        frame = AudioFrame(format="s16", layout="stereo", samples=160)
        frame.pts, frame.sample_rate, frame.time_base = 160 * self.sent, 8000, Fraction(1, 8000)
        self.sent += 1
        return frame


async def test_a_sound_of_another_form_takes_its_place() -> None:
    async with connected_bundles() as ends:
        times: list[int] = []
        for number, tone in enumerate((Tone(pause=0.002), Telephone(), Tone(pause=0.002))):
            ends.one.set_stream("s", [tone])
            if not number:
                await negotiate_bundles(ends.one, ends.other)
            with trio.fail_after(3):
                times += [(await ends.other.tracks[0].track.receive()).pts for _ in range(15)]
        assert all(0 < after - before < 48000 for before, after in pairwise(times))


async def test_places_are_used_again() -> None:
    tone = Tone()
    async with connected_bundles() as ends:
        offers: list[str] = []
        for number in range(12):
            ends.one.set_stream(f"stream-{number}", [tone])
            ends.other.set_stream("other", [Picture()] if number % 2 else [Tone()])
            offers.append(await negotiate_bundles(ends.one, ends.other))
            await negotiate_bundles(ends.other, ends.one)
            assert streams(ends.other) == [f"stream-{number}"]
            ends.one.set_stream(f"stream-{number}", [])
            ends.other.set_stream("other", [])
            offers.append(await negotiate_bundles(ends.one, ends.other))
            await negotiate_bundles(ends.other, ends.one)
            assert streams(ends.one) == streams(ends.other) == []
        assert max(offer.count("m=") for offer in offers) == 3
        assert len(ends.one._transport.getReceivers()) == 0


async def test_one_track_over_two_connections() -> None:
    picture = Picture(RED)
    async with open_bundle_factory(close_timeout=1) as factory, both_bundles(factory) as (one, other):
        async with both_bundles(factory) as others:
            for sender, receiver in (others, (one, other)):
                sender.set_stream("s", [picture])
                await negotiate_bundles(sender, receiver)
                await sees(await receiver.accept_track(), RED)
        before = picture.sent
        with trio.fail_after(3):
            while picture.sent < before + 3:
                await other.tracks[0].track.receive()
        one.set_stream("s", [])
        sent = picture.sent
        await trio.sleep(0.03)
        assert picture.sent <= sent + 1  # nobody reads it any more
        assert picture.readyState == "live"


async def test_what_cannot_be_shared() -> None:
    async with connected_bundles() as ends:
        tone, tones = Tone(), [Tone() for _ in range(17)]
        with pytest.raises(ValueError, match="without spaces"):
            ends.one.set_stream("a b", [tone])
        with pytest.raises(ValueError, match="each track once"):
            ends.one.set_stream("s", [tone, tone])
        with pytest.raises(ValueError, match="at most 16 tracks"):
            ends.one.set_stream("s", tones)
        ends.one.set_stream("s", tones[:16])
        with pytest.raises(ValueError, match="at most 16 tracks"):
            ends.one.set_stream("t", [tone])
        await negotiate_bundles(ends.one, ends.other)
        offer = await ends.one.create_offer()
        section = offer[offer.rindex("m=audio") :]
        more, names = "", ""
        for number in range(16, MAX_BUNDLE_SECTIONS - 1):
            more += section.replace("a=mid:t15", f"a=mid:t{number}").replace("a=ssrc:", f"a=ssrc:{number}")
            names += f" t{number}"
        answer = await ends.other.accept_offer(offer.replace(" t15", f" t15{names}", 1) + more)
        assert answer.count("m=audio 0 ") == 47 - 24
        assert len(ends.other.tracks) == 24
        assert ends.counters["webrtc_tracks_refused"] == 47 - 24
        with pytest.raises(NegotiationFailed, match="1 to 48 sections"):
            await ends.other.accept_offer(offer + more + section)


async def test_a_track_that_is_refused_is_not_offered_again() -> None:
    async with connected_bundles() as ends:
        ends.one.set_stream("s", [Picture()])
        offer = await ends.one.create_offer()
        unknown = offer.replace("VP8/90000", "AV1/90000").replace("H264/90000", "VP9/90000")
        answer = await ends.other.accept_offer(unknown)
        assert "m=video 0 " in answer
        await ends.one.accept_answer(answer)
        assert not needs(ends.one)
        assert not streams(ends.other)
        ends.one.set_stream("s", [])
        ends.one.set_stream("s", [Picture(BLUE)])
        await negotiate_bundles(ends.one, ends.other)
        await sees(ends.other.tracks[0], BLUE)


async def test_the_end_of_a_connection_ends_its_tracks() -> None:
    async with connected_bundles() as ends:
        ends.one.set_stream("s", [Picture(RED)])
        await negotiate_bundles(ends.one, ends.other)
        told = await ends.other.accept_track()
        await sees(told, RED)
        await ends.one.aclose(1)
        await ends_soon(told)
        assert ends.other.tracks == ()
        assert told.track.ended
