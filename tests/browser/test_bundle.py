"""One connection with Chromium that is negotiated again and again: what only a browser shows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.transports.aio.media import BLUE, RED, Picture, Tone, colour_of
from trio_relay.transports.bundle import StreamTrack

from .bundle_link import BundleLink, open_bundle_link
from .chromium import PATIENCE, Browser
from .site import serve_folders

pytestmark = [pytest.mark.browser, pytest.mark.interop]

HERE = Path(__file__).parent
GREEN = (106, 71, 59)
"""``rgb(0,128,0)`` as luminance and colour differences."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve_folders({"pages": HERE / "pages"}) as url:
        yield url


async def sees(told: StreamTrack, colour: tuple[int, int, int]) -> None:
    """Soon, pictures of about that colour come from the page."""
    with trio.fail_after(PATIENCE):
        async for frame in told.track:
            if all(abs(mean - value) < 40 for mean, value in zip(colour_of(frame), colour, strict=True)):
                return
    raise AssertionError("the track has ended")


async def page_sees(link: BundleLink, number: int, colour: str) -> None:
    """Likewise; `colour` is ``"red"`` or ``"blue"``."""
    high, low = ("c[0]", "c[2]") if colour == "red" else ("c[2]", "c[0]")
    await link.page.wait_for(f"(c => c && {high} > 180 && {low} < 80)(colourOf({number}))")


@pytest.mark.parametrize("begins", ["page", "python"])
async def test_channels_whoever_begins(browser: Browser, url: str, begins: str) -> None:
    async with open_bundle_link(browser, url, polite=begins == "page", begins=begins) as link:
        await link.control.send("to the page")
        await link.run("control.send(new Uint8Array(3))")
        assert await link.control.receive() == [bytes(3)]
        await link.page.wait_for("channels[''].messages.length")
        lossy = link.bundle.open_channel("ünordered", protocol="p", ordered=False, max_retransmits=2)
        late = link.bundle.open_channel("late", max_packet_lifetime=1.5)
        await link.run("openChannel('theirs', {ordered: false, maxPacketLifeTime: 700})")
        with trio.fail_after(PATIENCE):
            theirs = await link.bundle.accept_channel()
            for channel in (lossy, late, theirs):
                await channel.wait_open()
        assert (theirs.label, theirs.ordered, theirs.reliable) == ("theirs", False, False)
        await link.page.wait_for("channels['late']")
        assert await link.run("describeChannel('ünordered')") == {
            "name": "ünordered",
            "protocol": "p",
            "ordered": False,
            "maxRetransmits": 2,
            "maxPacketLifeTime": None,
            "id": (await link.run("describeChannel('ünordered')"))["id"],
            "readyState": "open",
        }
        assert (await link.run("describeChannel('late')"))["maxPacketLifeTime"] == 1500
        ids = {(await link.run(f"describeChannel('{name}')"))["id"] for name in ("", "ünordered", "late", "theirs")}
        assert len(ids) == 4
        for size in (100_000, 1):
            await lossy.send(bytes(size))
        await link.page.wait_for("channels['ünordered'].messages.length == 2")
        await lossy.aclose()
        await link.page.wait_for("channels['ünordered'].closed")
        await link.run("channels['theirs'].channel.close()")
        with trio.fail_after(PATIENCE):
            assert await theirs.receive() == []
        assert link.bundle.state == "connected"
        assert any(".local " in candidate for candidate in link.candidates)


@pytest.mark.parametrize("polite", [True, False])
async def test_first_offers_that_meet(browser: Browser, url: str, polite: bool) -> None:
    async with open_bundle_link(browser, url, polite=polite, held=True) as link:
        await link.run("offer()")
        # A connection of Chromium that takes an offer back within 10 ms of its life may never find an address.
        await link.page.wait_for("connection.iceGatheringState === 'complete'")
        await link.offer()
        assert await link.run("counts.rollbacks") == int(not polite)
        with trio.fail_after(PATIENCE):
            while not link.control.open:
                for signal in await link.run("takeSignals()"):
                    await link.take(signal)
        assert (link.voided, link.ignored) == ((1, 0) if polite else (0, 1))


@pytest.mark.parametrize("polite", [True, False])
async def test_streams_both_ways(browser: Browser, url: str, polite: bool) -> None:
    async with open_bundle_link(browser, url, polite=polite, begins="page" if polite else "python") as link:
        first = await link.run("share('first', 'rgb(0,0,255)', true)")
        link.bundle.set_stream("camera", [Picture(RED), Tone()])
        link.bundle.set_stream("screen", [Picture(BLUE)])
        tracks = await link.accept_tracks(2)
        second = await link.run("share('second', 'rgb(255,0,0)', false)")
        tracks += await link.accept_tracks(1)
        assert sorted((told.stream, told.track.kind) for told in tracks) == sorted(
            [(first, "audio"), (first, "video"), (second, "video")]
        )
        pictures = {told.stream: told for told in tracks if told.track.kind == "video"}
        await sees(pictures[first], BLUE)
        await sees(pictures[second], RED)
        await link.page.wait_for("tracks.length == 3")
        assert [(track["stream"], track["kind"]) for track in await link.shown()] == [
            ("camera", "video"),
            ("camera", "audio"),
            ("screen", "video"),
        ]
        await page_sees(link, 0, "red")
        await page_sees(link, 2, "blue")
        link.bundle.set_stream("screen", [Picture(RED)])
        assert not link.bundle.needs_negotiation
        await page_sees(link, 2, "red")
        await link.run("replace('second', 'rgb(0,128,0)')")
        await sees(pictures[second], GREEN)
        await link.run("unshare('first')")
        await link.wait_tracks(1)
        assert pictures[first].track.ended
        link.bundle.set_stream("camera", [])
        await link.page.wait_for("tracks[0].ended && tracks[1].ended && !tracks[2].ended")
        await sees(pictures[second], GREEN)


async def test_offers_of_streams_that_meet(browser: Browser, url: str) -> None:
    for polite in (True, False):
        async with open_bundle_link(browser, url, polite=polite) as link:
            for number in range(5):
                await link.run(f"share({number}, 'rgb(255,0,0)', false)")
                link.bundle.set_stream(f"ours-{number}", [Picture(BLUE)])
                await link.accept_tracks(1)
                await link.page.wait_for(f"tracks.length == {number + 1}")
            assert link.voided + link.ignored > 0
            await sees(link.bundle.tracks[4], RED)
            await page_sees(link, 4, "blue")


async def test_thirty_times_shared_and_taken_back(browser: Browser, url: str) -> None:
    async with open_bundle_link(browser, url, polite=False) as link:
        for number in range(30):
            kept, gone = number % 2 == 0, number % 3 == 0
            await link.run("share('again', 'rgb(255,0,0)', false)")
            link.bundle.set_stream("again", [Picture(BLUE) if kept else Tone()])
            await link.page.wait_for(f"tracks.length == {number + 1}")
            [told] = await link.accept_tracks(1)
            if gone:
                await sees(told, RED)
            link.bundle.set_stream("again", [])
            await link.run("unshare('again')")
            await link.page.wait_for(f"tracks[{number}].ended")
            await link.wait_tracks(0)
        sdp = await link.run("connection.localDescription.sdp")
        assert len(re.findall("^m=", sdp, re.MULTILINE)) <= 4


async def test_a_page_that_leaves(browser: Browser, url: str) -> None:
    async with open_bundle_link(browser, url, polite=True) as link:
        await link.run("connection.close()")
        with trio.fail_after(PATIENCE):
            assert await link.bundle.wait_state("connected") == "closed"
        assert link.bundle.failure == "the other side closed the connection"
        assert await link.control.receive() == []
