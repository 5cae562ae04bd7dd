"""Calls between Python peers and npm peerjs in Chromium, through every broker."""

from __future__ import annotations

from typing import Any, Final

import pytest
import trio

from trio_relay import PeerError
from trio_relay.peerjs import MediaConnection

from .chromium import PATIENCE, Browser
from .peerjs_fixtures import OpenBroker
from .peerjs_media import Picture, Tone, colour, loudness
from .peerjs_pages import PeerTab
from .test_peerjs_python import accept, tab_and_python

pytestmark = [pytest.mark.browser, pytest.mark.interop]

each_end: Final = pytest.mark.parametrize(
    ("open_broker", "end_by"), [("ours", "python"), ("npm", "tab")], indirect=["open_broker"]
)
"""Each broker, and each side that hangs up."""


async def check_media_in_python(call: MediaConnection) -> None:
    """The page's blue picture, and its tone."""
    with trio.fail_after(PATIENCE):
        tracks = {track.kind: track for track in [await call.receive_track(), await call.receive_track()]}
        assert set(tracks) == {"audio", "video"}
        async for frame in tracks["video"]:
            if frame.width == 160:
                break
        assert frame.height == 120
        y, u, v = colour(frame)
        assert y < 100
        assert u > 180
        assert v < 140
        async for frame in tracks["audio"]:
            if loudness(frame) > 3000:
                break


async def check_media_in_tab(tab: PeerTab, number: int) -> None:
    """Python's red picture, and its tone."""
    media = await tab.wait_media(number)
    assert (media["tracks"], media["size"]) == (["audio", "video"], [160, 120])
    red, green, blue = media["colour"]
    assert red > 180
    assert green < 80
    assert blue < 80


async def check_end(call: MediaConnection, tab: PeerTab, number: int, by: str) -> None:
    with trio.fail_after(PATIENCE):
        if by == "python":
            await call.aclose()
        else:
            await tab.close(number)
        await call.wait_closed()
    await tab.wait_event(number, "close")
    assert not call.open
    assert tab.page.problems == []


@each_end
async def test_python_calls(open_broker: OpenBroker, browser: Browser, originals_url: str, end_by: str) -> None:
    async with open_broker() as broker, tab_and_python(broker, browser, originals_url) as (tab, peer):
        calls: list[MediaConnection] = []

        async def ring() -> None:
            calls.append(await peer.call("js", [Picture(), Tone()], metadata={"who": "py"}))

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ring)
                number = await tab.accept()
                about = await tab.about(number)
                assert (about["type"], about["peer"], about["metadata"]) == ("media", "py", {"who": "py"})
                await tab.run("answer", number, True)
        [call] = calls
        assert (call.open, call.peer, call.incoming) == (True, "js", False)
        await check_media_in_tab(tab, number)
        await check_media_in_python(call)
        await tab.wait_event(number, "willCloseOnRemote")
        await check_end(call, tab, number, end_by)


@each_end
async def test_a_tab_calls(open_broker: OpenBroker, browser: Browser, originals_url: str, end_by: str) -> None:
    async with open_broker() as broker, tab_and_python(broker, browser, originals_url) as (tab, peer):
        number = await tab.run("call", "py", {"metadata": {"who": "js"}})
        call = await accept(peer)
        assert isinstance(call, MediaConnection)
        assert (call.peer, call.metadata, call.incoming, call.open) == ("js", {"who": "js"}, True, False)
        with trio.fail_after(PATIENCE):
            await call.answer([Picture(), Tone()])
        await check_media_in_python(call)
        await check_media_in_tab(tab, number)
        await tab.wait_event(number, "willCloseOnRemote")
        await check_end(call, tab, number, end_by)


async def test_calls_in_one_direction(open_broker: OpenBroker, browser: Browser, originals_url: str) -> None:
    """Answers without anything to see or hear."""
    async with open_broker() as broker, tab_and_python(broker, browser, originals_url) as (tab, peer):
        number = await tab.run("call", "py", {})
        call = await accept(peer)
        with trio.fail_after(PATIENCE):
            await call.answer()
        await check_media_in_python(call)
        assert (await tab.run("media", number))["tracks"] == []
        await check_end(call, tab, number, "python")

        async def ring(*, task_status: trio.TaskStatus[Any]) -> None:
            with trio.CancelScope() as scope:
                task_status.started(scope)
                async with await peer.call("js", [Picture(), Tone()]) as ringing:
                    answered.append(ringing)
                    await ringing.wait_closed()

        answered: list[MediaConnection] = []
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                await nursery.start(ring)
                number = await tab.accept()
                await tab.run("answer", number, False)
                await check_media_in_tab(tab, number)
                assert answered[0].remote_tracks == ()
                await tab.close(number)


async def test_nobody_answers(open_broker: OpenBroker, browser: Browser, originals_url: str) -> None:
    async with (
        open_broker(expire_timeout=0.2, cleanup_interval=0.1) as broker,
        tab_and_python(broker, browser, originals_url) as (tab, peer),
    ):
        with trio.fail_after(PATIENCE), pytest.raises(PeerError) as raised:
            await peer.call("nobody", [Tone()])
        assert raised.value.type == "peer-unavailable"
        with trio.fail_after(PATIENCE), pytest.raises(PeerError) as raised:
            await peer.call("js", [Tone()], timeout=0.5)
        assert raised.value.type == "negotiation-failed"
        assert peer.connections == {}
        assert await tab.accept() == 0
