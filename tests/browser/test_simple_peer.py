"""Pages with simple-peer 9, and envelopes of peer-relay around its signals, with `trio-relay node` as a process."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

import trio_relay
from tests.node.processes import NodeProcess, run_node
from trio_relay import Node

from .chromium import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.interop]


class WebRTCProcess(NodeProcess):
    """A running ``trio-relay node --legacy --webrtc``."""

    async def do(self, **command: object) -> None:
        assert self._process.stdin is not None
        await self._process.stdin.send_all(json.dumps(command).encode() + b"\n")

    async def wait_link(self, peer: str) -> dict[str, Any]:
        """The event of a link that came up; others of other peers are thrown away."""
        while (event := await self.event("link_up"))["id"] != peer:
            pass
        return event


@asynccontextmanager
async def open_process(bootstrap: str) -> AsyncIterator[WebRTCProcess]:
    options = ["--listen", "none", "--bootstrap", bootstrap, "--legacy", "--webrtc"]
    async with run_node(*options) as process:
        node = WebRTCProcess(process)
        await node.start()
        yield node


async def open_page(browser: Browser, url: str, relay: Node, variant: str) -> tuple[Page, str]:
    """A page that is connected with the relay, and its id."""
    page = await browser.open_page()
    await page.visit(f"{url}/simple_peer.html?relay={relay.urls[0]}&{variant}")
    await page.wait_for("relay !== ''")
    return page, await page.evaluate("id")


async def check_direct_link(node: WebRTCProcess, page: Page, peer: str) -> None:
    event = await node.wait_link(peer)
    assert event["transport"] == "webrtc"
    assert event["candidates"]["local"] == "host"
    own = node.id.hex()
    await page.wait_for(f"links.includes({own!r})")
    await page.evaluate(f"send({own!r}, {{type: 'user', data: {{from: 'the page'}}}})")
    message = await node.event("message")
    assert (message["from"], message["proven"], message["data"]) == (peer, False, {"from": "the page"})
    await node.do(send={"to": peer, "data": ["from", "Python"]})
    await page.wait_for("got.length === 1")
    assert await page.evaluate("got") == [[own, ["from", "Python"], "webrtc"]]
    await page.evaluate(f"sessions.get({own!r}).destroy()")
    assert (await node.event("link_down"))["id"] == peer
    assert page.problems == []


@pytest.mark.parametrize("variant", ["trickle", "whole"])
async def test_pages_with_simple_peer_9(browser: Browser, originals_url: str, variant: str) -> None:
    async with trio_relay.open_node(legacy=True) as relay, open_process(relay.urls[0]) as node:
        with trio.fail_after(20):
            while node.id not in relay.links:
                await trio.sleep(0.01)
        page, peer = await open_page(browser, originals_url, relay, variant)
        await node.do(connect=peer, ref="offer")
        await check_direct_link(node, page, peer)

        page, peer = await open_page(browser, originals_url, relay, variant)
        await page.evaluate(f"send({node.id.hex()!r}, {{type: 'handshake-offer'}})")
        await check_direct_link(node, page, peer)
