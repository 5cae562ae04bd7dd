"""The original peer-relay as its package ships it for browsers, `bundle.js`, in Chromium with Python nodes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

import pytest
import trio

import trio_relay
from trio_relay import Admit, Event, LinkDown, LinkUp, NegotiationFailed, Node, NodeId, parse_node_id

from .chat import open_tab
from .chromium import PATIENCE, Browser, Page, open_browser

pytestmark = [pytest.mark.browser, pytest.mark.interop]

each_browser: Final = pytest.mark.parametrize("endpoint", ["chromium", "chromium_with_addresses"])
"""With names in ``.local`` for candidates, and with addresses."""


class BundleTab:
    """A tab in which the bundle runs.

    Attributes:
        id: of its peer.
    """

    def __init__(self, page: Page, node_id: NodeId) -> None:
        self.page: Final = page
        self.id: Final = node_id

    async def send(self, to: NodeId, data: object) -> None:
        await self.page.evaluate(f"own.send(buffer({to.hex()!r}), {json.dumps(data)})")

    async def connect(self, to: NodeId) -> None:
        await self.page.evaluate(f"own.connect(buffer({to.hex()!r}))")

    async def wait_message(self, sender: NodeId, data: object) -> None:
        expected = json.dumps(json.dumps([sender.hex(), data], separators=(",", ":"), ensure_ascii=False))
        await self.page.wait_for(f"got.some((message) => JSON.stringify(message) === {expected})")

    async def wait_linked(self, peer: NodeId) -> None:
        await self.page.wait_for(f"links.includes({peer.hex()!r})")


async def open_bundle(browser: Browser, url: str, *bootstrap: str, variant: str = "") -> BundleTab:
    """Opens a tab with the bundle.

    Args:
        variant: ``as-it-is`` without what today's Chromium lacks, ``without-webrtc``.
    """
    page = await browser.open_page()
    query = urlencode([("bootstrap", relay) for relay in bootstrap])
    await page.visit(f"{url}/peer_relay.html?{variant}&{query}")
    return BundleTab(page, parse_node_id(await page.evaluate("id")))


@dataclass(frozen=True, slots=True)
class World:
    """A relay, a node of ours that can not be dialled, and a tab with the bundle; both know the relay alone.

    Attributes:
        events: of the node, the links that come and go.
    """

    relay: Node
    node: Node
    tab: BundleTab
    events: AsyncIterator[Event]

    async def next_event(self) -> Event:
        with trio.fail_after(PATIENCE):
            return await anext(self.events)

    async def check_direct_link(self, *, dialled: bool | None = None) -> None:
        """Both sides have it, and messages need nobody else."""
        event = await self.next_event()
        assert isinstance(event, LinkUp)
        link = self.node.links[self.tab.id]
        assert (link.transport, link.role) == ("webrtc", "legacy")
        assert dialled is None or link.dialled is dialled
        assert (event.id, event.transport, event.candidates) == (self.tab.id, "webrtc", link.candidates)
        assert event.candidates is not None
        assert event.candidates[0] == "host"
        assert event.candidates[1] in ("host", "prflx")
        await self.tab.page.evaluate(f"own.disconnect(buffer({self.relay.id.hex()!r}))")
        await self.tab.send(self.node.id, {"from": "the tab"})
        assert await receive(self.node) == (self.tab.id, {"from": "the tab"})
        await self.node.send(self.tab.id, ["from", "Python \N{SNAKE}"])
        await self.tab.wait_message(self.node.id, ["from", "Python \N{SNAKE}"])
        long = "x" * 50_000
        await self.tab.send(self.node.id, long)
        assert await receive(self.node) == (self.tab.id, long)
        await self.node.send(self.tab.id, long)
        await self.tab.wait_message(self.node.id, long)
        assert self.tab.page.problems == []


@asynccontextmanager
async def open_world(endpoint: str, url: str, variant: str = "") -> AsyncIterator[World]:
    async with (
        trio_relay.open_node(legacy=True) as relay,
        trio_relay.open_node(None, relay.urls, legacy=True, webrtc=True) as node,
        open_browser(endpoint) as browser,
    ):
        await node.wait_linked()
        async with node.events() as events:
            tab = await open_bundle(browser, url, *relay.urls, variant=variant)
            await tab.wait_linked(relay.id)
            yield World(relay, node, tab, events)


async def receive(node: Node) -> tuple[NodeId, object]:
    with trio.fail_after(PATIENCE):
        message = await node.receive()
    return message.sender, message.data


@asynccontextmanager
async def two_relays(*not_at_second: NodeId) -> AsyncIterator[tuple[Node, Node]]:
    """Two linked nodes; the second admits no tab with these ids."""
    admit = Admit(links=lambda node_id: node_id not in not_at_second)
    async with (
        trio_relay.open_node(legacy=True) as first,
        trio_relay.open_node("127.0.0.1:0", first.urls, legacy=True, admit=admit) as second,
    ):
        await second.wait_linked()
        yield first, second


async def test_two_tabs_talk_through_two_relays(chromium: str, originals_url: str) -> None:
    async with open_browser(chromium) as browser:
        ann = await open_bundle(browser, originals_url, variant="without-webrtc")
        bob = await open_bundle(browser, originals_url, variant="without-webrtc")
        async with two_relays(ann.id) as (first, second):
            await ann.page.evaluate(f"own.wsConnector.connect({first.urls[0]!r})")
            await bob.page.evaluate(f"own.wsConnector.connect({second.urls[0]!r})")
            await ann.wait_linked(first.id)
            await bob.wait_linked(second.id)
            await ann.send(bob.id, {"hello": "Bob \N{WAVING HAND SIGN}"})
            await bob.wait_message(ann.id, {"hello": "Bob \N{WAVING HAND SIGN}"})
            await bob.send(ann.id, [None, 1.5])
            await ann.wait_message(bob.id, [None, 1.5])
            assert ann.id not in second.links
            for node in (first, second):
                assert node.statistics().counts["legacy_carried"] > 0

            await ann.send(second.id, "to Python")
            assert await receive(second) == (ann.id, "to Python")
            await second.send(ann.id, b"bytes")
            await ann.wait_message(second.id, {"type": "Buffer", "data": list(b"bytes")})
        assert (ann.page.problems, bob.page.problems) == ([], [])


async def test_two_tabs_connect_with_each_other(browser: Browser, originals_url: str) -> None:
    """By themselves, as soon as the relay has told one of the other."""
    async with trio_relay.open_node(legacy=True) as relay:
        ann = await open_bundle(browser, originals_url, *relay.urls)
        await ann.wait_linked(relay.id)
        bob = await open_bundle(browser, originals_url, *relay.urls)
        await bob.wait_linked(ann.id)
        await ann.wait_linked(bob.id)
    await ann.send(bob.id, "without the relay")
    await bob.wait_message(ann.id, "without the relay")
    assert (ann.page.problems, bob.page.problems) == ([], [])


async def test_the_bundle_and_the_example_talk(browser: Browser, originals_url: str, chat_url: str) -> None:
    async with trio_relay.open_node(legacy=True) as relay:
        tab = await open_tab(browser, chat_url, relay.urls[0], "Ann")
        ann = parse_node_id(await tab.page.evaluate("peer.id"))
        bundle = await open_bundle(browser, originals_url, *relay.urls)
        name = f"Peer {bundle.id.hex()[:6]}"
        # The bundle connects with whomever it hears of.
        await bundle.wait_linked(ann)
        await tab.wait_way(name, "direct")
        await bundle.send(ann, "from the bundle")
        await tab.wait_line(f"{name} to you · direct, WebRTC: from the bundle")
        await tab.say("from the page", name)
        await bundle.wait_message(ann, {"text": "from the page", "name": "Ann"})
        await tab.press(name)
        await tab.wait_way(name, "by the relay")
        await tab.wait_line(f"The direct connection with {name} ended: you closed it.")
        assert tab.page.problems == []


@each_browser
async def test_python_connects_with_a_tab(endpoint: str, originals_url: str, request: pytest.FixtureRequest) -> None:
    async with open_world(request.getfixturevalue(endpoint), originals_url) as world:
        with trio.fail_after(PATIENCE):
            await world.node.connect(world.tab.id)
        await world.tab.wait_linked(world.node.id)
        await world.check_direct_link(dialled=True)

        await world.node.disconnect(world.tab.id)
        assert isinstance(await world.next_event(), LinkDown)
        # It keeps the entry (lib/wrtc.js reports no end), of a channel that has ended.
        await world.tab.page.wait_for(f"own.peers.get(buffer({world.node.id.hex()!r})).destroyed")


@each_browser
async def test_a_tab_connects_with_python(endpoint: str, originals_url: str, request: pytest.FixtureRequest) -> None:
    async with open_world(request.getfixturevalue(endpoint), originals_url) as world:
        await world.tab.connect(world.node.id)
        await world.tab.wait_linked(world.node.id)
        await world.check_direct_link(dialled=False)

        await world.tab.page.evaluate("own.destroy(() => {})")
        assert isinstance(await world.next_event(), LinkDown)


async def test_both_connect_at_once(chromium: str, originals_url: str) -> None:
    async with open_world(chromium, originals_url) as world:
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(world.node.connect, world.tab.id)
                nursery.start_soon(world.tab.connect, world.node.id)
        await world.tab.wait_linked(world.node.id)
        await world.check_direct_link()


async def test_a_tab_that_is_closed_without_a_word_is_noticed(
    chromium: str, originals_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it does not answer the checks of RFC 7675; in life half a minute later, here they are more frequent."""
    monkeypatch.setattr("aioice.ice.CONSENT_INTERVAL", 0.1)
    monkeypatch.setattr("aioice.ice.CONSENT_FAILURES", 2)
    async with open_world(chromium, originals_url) as world:
        await world.node.connect(world.tab.id)
        await world.tab.wait_linked(world.node.id)
        await world.check_direct_link()
        await world.tab.page.command("Page.close")
        down = await world.next_event()
        assert isinstance(down, LinkDown)
        assert (down.id, world.node.links.get(world.tab.id)) == (world.tab.id, None)


async def test_the_bundle_as_it_is_stays_reachable(chromium: str, originals_url: str) -> None:
    """In today's Chromium its channel opens, and it never reads it."""
    async with open_world(chromium, originals_url, variant="as-it-is") as world:
        with suppress(NegotiationFailed):
            await world.node.connect(world.tab.id)
        await world.node.send(world.tab.id, "by the relay")
        await world.tab.wait_message(world.node.id, "by the relay")
        await world.tab.send(world.node.id, "by the relay, too")
        assert await receive(world.node) == (world.tab.id, "by the relay, too")
