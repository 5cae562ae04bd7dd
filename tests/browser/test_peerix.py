"""Rooms with a page of our own (`pages/peerix.js`) in Chromium: who meets whom, and what happens at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import aioice.ice
import pytest
import trio

from tests.peerix.support import next_event
from trio_relay.peerix import events, open_room

from .chromium import LOOK_AGAIN, PATIENCE, Browser
from .peerix_pages import IMPOLITE, POLITE, RoomPair, open_hub, open_pair, open_room_tab, python_driver
from .site import serve_folders

pytestmark = pytest.mark.browser

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve_folders({"pages": HERE / "pages"}) as url:
        yield url


async def talk(pair: RoomPair) -> None:
    """A message arrives in both directions."""
    await pair.room.send("hi", label="chat")
    assert (await pair.tab.next())["value"] == "hi"
    await pair.tab.do("await room.send('chat', 'ho')")
    assert await (await pair.next()).read() == "ho"


@pytest.mark.parametrize("polite", [True, False])
@pytest.mark.parametrize("first", ["python", "page"])
async def test_they_meet_whoever_comes_first(browser: Browser, url: str, first: str, polite: bool) -> None:
    door = "sse" if polite else "socketio"
    async with open_pair(browser, url, door=door, polite=polite, first=first) as pair:
        assert pair.room.me is not None
        assert pair.member.id == pair.tab.id
        assert pair.member.metadata == {"name": "page"}
        assert await pair.tab.members() == [[pair.room.me.id, {"name": "python"}]]
        # The one that came later offers.
        assert await pair.tab.count("offers") == int(first == "python")
        await talk(pair)
        candidates = await pair.tab.run("room.candidates")
        assert candidates
        assert all(".local " in candidate for candidate in candidates)


@pytest.mark.parametrize("polite", [True, False])
async def test_both_offer_at_once(browser: Browser, url: str, polite: bool) -> None:
    async with open_hub() as hub, open_room_tab(browser, url) as tab:
        await tab.join(hub, secret=IMPOLITE if polite else POLITE, held=True)
        await tab.run("room.open('chat')")
        async with open_room("t", driver=python_driver(hub)) as room:
            room.open_channel("chat")
            pair = RoomPair(hub, room, tab)
            held = "room.held.map(([type]) => type)"
            await tab.page.wait_for(f"{held}.includes(1)")
            await tab.run("room.announce()")
            await tab.page.wait_for(f"{held}.includes(2)")
            await tab.run("room.takeHeld(1)")
            await tab.page.wait_for(f"{held}.includes(3)")  # that of Python
            await tab.run("room.takeHeld(2)")
            await tab.page.wait_for("[...room.members.values()][0].connection.signalingState === 'have-local-offer'")
            await tab.run("room.release()")
            await pair.meet()
            await talk(pair)
            assert pair.member.link.polite is polite
            assert await tab.count("failures") == 0
            assert (await tab.count("rollbacks"), await tab.count("ignored")) == ((0, 1) if polite else (1, 0))
            assert room.statistics().counts.get("offers_ignored", 0) == int(not polite)


async def test_a_page_that_is_not_let_in_and_one_that_lets_nobody_in(browser: Browser, url: str) -> None:
    asked: list[object] = []

    async def verify(id: str, metadata: object) -> bool:
        asked.append(metadata)
        return metadata == "good"

    async with (
        open_hub() as hub,
        open_room("t", driver=python_driver(hub), verify=verify, metadata="python") as room,
        AsyncExitStack() as stack,
    ):
        good, bad, choosy = [await stack.enter_async_context(open_room_tab(browser, url)) for _ in range(3)]
        await bad.join(hub, door="socketio", metadata="bad")
        await choosy.join(hub, door="socketio", metadata="good", verify="metadata !== 'python'")
        await good.join(hub, door="socketio", metadata="good")
        with trio.fail_after(PATIENCE):
            await room.wait_members()
        await good.page.wait_for("upMembers().length === 3")
        await choosy.page.wait_for("room.counts.refused")
        for tab, expected in ((bad, ["good", "good"]), (choosy, ["bad", "good"])):
            await tab.page.wait_for("upMembers().length === 2")
            assert sorted(metadata for _, metadata in await tab.members()) == expected
        assert [member.id for member in room.members.values() if member.state == "connected"] == [good.id]
        assert "bad" in asked
        assert room.statistics().counts["members_unverified"] >= 1


async def test_three_pages_and_three_rooms_converge(browser: Browser, url: str) -> None:
    async with open_hub() as hub, AsyncExitStack() as stack:
        tabs = [await stack.enter_async_context(open_room_tab(browser, url)) for _ in range(3)]
        nursery = await stack.enter_async_context(trio.open_nursery())
        for number, tab in enumerate(tabs):
            # A browser opens six connections with a hub at once, and each event stream takes one.
            nursery.start_soon(partial(tab.join, hub, door="socketio", metadata=number))
        rooms = []
        for number in range(3):
            driver = python_driver(hub, ("sse", "socketio")[number % 2])
            rooms.append(await stack.enter_async_context(open_room("t", driver=driver, metadata=number + 3)))
        with trio.fail_after(2 * PATIENCE):
            for room in rooms:
                await room.wait_members(5)
        for number, tab in enumerate(tabs):
            await tab.page.wait_for("upMembers().length === 5")
            seen = {metadata for _, metadata in await tab.members()}
            assert seen == set(range(6)) - {number}
        for number, room in enumerate(rooms):
            assert {member.metadata for member in room.members.values()} == set(range(6)) - {number + 3}
        await tabs[0].run("room.leave()")
        await rooms[0].leave()
        for tab in tabs[1:]:
            await tab.page.wait_for("upMembers().length === 3")
        with trio.fail_after(PATIENCE):
            while any(len(room.members) != 3 for room in rooms[1:]):
                await trio.sleep(LOOK_AGAIN)


async def test_a_page_that_leaves_and_comes_back(browser: Browser, url: str) -> None:
    async with open_pair(browser, url) as pair, pair.room.events() as seen:
        before = pair.tab.id
        await pair.tab.run("room.leave()")
        assert (await next_event(seen, events.ConnectionClosed)).member.id == before
        assert not pair.room.members
        await pair.tab.join(pair.hub)
        await pair.tab.run("room.open('chat')")
        await pair.meet()
        assert pair.member.id == pair.tab.id != before
        assert "invitations_spared" not in pair.room.statistics().counts


async def test_a_room_that_is_left_is_seen_at_once(browser: Browser, url: str) -> None:
    async with open_pair(browser, url) as pair:
        await pair.room.leave()
        await pair.tab.page.wait_for("room.members.size === 0")
        await pair.room.join("again")
        await pair.meet()
        assert [metadata for _, metadata in await pair.tab.members()] == ["again"]


async def test_a_page_that_is_gone_without_a_word(browser: Browser, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "CONSENT_INTERVAL", 0.1)  # instead of 5 s, six times
    async with open_pair(browser, url) as pair, pair.room.events() as seen:
        with trio.fail_after(PATIENCE):
            await pair.tab.page.visit("about:blank")
            ended = await next_event(seen, events.ConnectionClosed)
        assert ended.member.id == pair.tab.id
        assert not pair.room.members


async def test_a_connection_that_the_page_gives_up_is_made_again(browser: Browser, url: str) -> None:
    async with open_pair(browser, url) as pair, pair.room.events() as seen:
        await pair.tab.run("[...room.members.values()][0].fail(); null")
        await next_event(seen, events.ConnectionClosed)
        await next_event(seen, events.ConnectionConnected)
        await pair.meet()
        await talk(pair)
