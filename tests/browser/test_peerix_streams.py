"""Streams between a room here and a page of our own in Chromium, negotiated again and again, also by both at once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import trio

from tests.transports.aio.media import BLUE, RED, Picture, Tone, colour_of, frequency_of
from trio_relay.transports.webrtc import RemoteTrack

from .chromium import LOOK_AGAIN, PATIENCE, Browser
from .peerix_pages import RoomPair, open_pair
from .site import serve_folders

pytestmark = pytest.mark.browser

HERE: Final = Path(__file__).parent
MEMBER: Final = "[...room.members.values()][0]"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve_folders({"pages": HERE / "pages"}) as url:
        yield url


async def wait_streams(pair: RoomPair, **expected: int) -> dict[str, tuple[RemoteTrack, ...]]:
    """Waits until the page shares just these streams, with that many tracks."""
    with trio.fail_after(PATIENCE):
        while {label: len(stream.tracks) for label, stream in pair.member.streams.items()} != expected:
            await trio.sleep(LOOK_AGAIN)
    return {label: stream.tracks for label, stream in pair.member.streams.items()}


def picture_of(tracks: tuple[RemoteTrack, ...]) -> RemoteTrack:
    (track,) = (track for track in tracks if track.kind == "video")
    return track


async def sees(track: RemoteTrack, colour: tuple[int, int, int]) -> None:
    """Soon, pictures of about that colour come from the page."""
    with trio.fail_after(PATIENCE):
        async for frame in track:
            if all(abs(mean - value) < 40 for mean, value in zip(colour_of(frame), colour, strict=True)):
                return
    raise AssertionError("the track has ended")


async def hears(track: RemoteTrack) -> None:
    """Soon, the tone of the page comes, of 440 Hz."""
    with trio.fail_after(PATIENCE):
        while not 400 < frequency_of([await track.receive() for _ in range(10)]) < 480:
            pass


async def page_sees(pair: RoomPair, label: str, colour: str) -> None:
    """Likewise; `colour` is ``"red"`` or ``"blue"``."""
    high, low = ("c[0]", "c[2]") if colour == "red" else ("c[2]", "c[0]")
    number = f"tracks.findIndex((t) => t.stream === '{label}' && t.kind === 'video' && !t.ended)"
    await pair.tab.page.wait_for(f"(n => n >= 0 && (c => c && {high} > 180 && {low} < 80)(colourOf(n)))({number})")


async def wait_shown(pair: RoomPair, *expected: str) -> None:
    """Waits until just these tracks are there in the page: label and kind of each."""
    shown = "tracks.filter(({ ended }) => !ended).map(({ stream, kind }) => `${stream} ${kind}`).sort().join()"
    await pair.tab.page.wait_for(f"{shown} === '{','.join(sorted(expected))}'")


async def page_hears(pair: RoomPair, label: str) -> None:
    """Soon, the sound of that stream is no silence in the page."""
    script = f"""
        const stats = await {MEMBER}.connection.getStats(
            tracks.find((track) => track.stream === '{label}' && track.kind === 'audio').track);
        return [...stats.values()].find(({{ type }}) => type === 'inbound-rtp')?.totalAudioEnergy > 0;
    """
    with trio.fail_after(PATIENCE):
        while not await pair.tab.do(script):
            await trio.sleep(LOOK_AGAIN)


@pytest.mark.parametrize("polite", [True, False])
async def test_streams_both_ways_and_their_ends(browser: Browser, url: str, polite: bool) -> None:
    async with open_pair(browser, url, polite=polite) as pair:
        room, run = pair.room, pair.tab.run
        await run("room.share('cam', camera('rgb(0,0,255)', true))")
        first = (await wait_streams(pair, cam=2))["cam"]
        room.share([Picture(RED), Tone()], label="face")
        room.share(Picture(BLUE), label="screen")
        await wait_shown(pair, "face audio", "face video", "screen video")
        await run("room.share('second', camera('rgb(255,0,0)'))")
        second = picture_of((await wait_streams(pair, cam=2, second=1))["second"])
        await sees(picture_of(first), BLUE)
        await hears(next(track for track in first if track.kind == "audio"))
        await sees(second, RED)
        await page_sees(pair, "face", "red")
        await page_sees(pair, "screen", "blue")
        await page_hears(pair, "face")

        offers = await pair.tab.count("offers")
        await run("room.replace('second', picture('rgb(0,0,255)'))")
        await sees(second, BLUE)
        room.share(Picture(RED), label="screen")
        await page_sees(pair, "screen", "red")
        assert await pair.tab.count("offers") == offers

        await run("room.unshare('cam')")
        await wait_streams(pair, second=1)
        assert all(track.ended for track in first)
        room.unshare("face")
        await wait_shown(pair, "screen video")
        await sees(second, BLUE)
        await page_sees(pair, "screen", "red")
        await room.send("still here", label="chat")
        assert (await pair.tab.next())["value"] == "still here"


async def test_streams_that_were_shared_before_anybody_came(browser: Browser, url: str) -> None:
    for first in ("python", "page"):
        async with open_pair(browser, url, first=first, polite=first == "page", shared=[Picture(RED)]) as pair:
            await wait_shown(pair, "early video")
            await page_sees(pair, "early", "red")
            await wait_streams(pair, early=1)
            await sees(picture_of(pair.member.streams["early"].tracks), BLUE)


@pytest.mark.parametrize("polite", [True, False])
async def test_both_share_at_the_same_moment(browser: Browser, url: str, polite: bool) -> None:
    async with open_pair(browser, url, polite=polite) as pair:
        await pair.tab.run(f"{MEMBER}.held = []; null")
        pair.room.share(Picture(RED), label="ours")
        await pair.tab.page.wait_for(f"{MEMBER}.held.length == 1")
        await pair.tab.run("room.share('theirs', camera('rgb(0,0,255)'))")
        await pair.tab.page.wait_for(f"{MEMBER}.connection.signalingState === 'have-local-offer'")
        await pair.tab.run(f"{MEMBER}.release()")
        await wait_shown(pair, "ours video")
        await page_sees(pair, "ours", "red")
        await sees(picture_of((await wait_streams(pair, theirs=1))["theirs"]), BLUE)
        assert await pair.tab.count("rollbacks") == int(not polite)
        assert await pair.tab.count("ignored") == int(polite)
        assert pair.member.link.polite is polite
        assert pair.room.statistics().counts.get("offers_ignored", 0) == int(not polite)


async def test_lines_of_streams_that_are_gone_are_used_again(browser: Browser, url: str) -> None:
    async with open_pair(browser, url) as pair:
        for number in range(8):
            await pair.tab.run(f"room.share('again', camera('rgb(255,0,0)', {str(number % 2 == 0).lower()}))")
            pair.room.share([Picture(BLUE)] if number % 3 else [Picture(BLUE), Tone()], label="again")
            tracks = (await wait_streams(pair, again=2 - number % 2))["again"]
            await wait_shown(pair, "again video", *(() if number % 3 else ("again audio",)))
            await sees(picture_of(tracks), RED)
            await page_sees(pair, "again", "blue")
            await pair.tab.run("room.unshare('again')")
            pair.room.unshare("again")
            await wait_streams(pair)
            await wait_shown(pair)
        sdp = await pair.tab.run(f"{MEMBER}.connection.localDescription.sdp")
        assert len(re.findall("^m=", sdp, re.MULTILINE)) <= 6
        assert await pair.tab.run("tracks.filter(({ video }) => video).length") == 8
