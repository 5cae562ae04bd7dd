"""The browser example: its page in two tabs, with Python nodes, and what it looks like."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import trio

import trio_relay
from trio_relay import parse_node_id

from .chat import LINES, OWN_ID, STATUS, open_tab, open_tabs, rows
from .chromium import PATIENCE, Browser, Page
from .conftest import EXAMPLES
from .test_ui import CONTRASTS

pytestmark = pytest.mark.browser

HOSTILE: Final = "<img src=x onerror=document.close()>"


async def eventually(holds: Callable[[], bool], what: str) -> None:
    """Waits until something holds that no event tells of."""
    with trio.move_on_after(PATIENCE):
        while not holds():
            await trio.sleep(0.01)
        return
    raise AssertionError(f"not within {PATIENCE:g} s: {what}")


async def test_two_tabs_talk_through_a_relay_then_directly_then_through_it_again(chromium: str, chat_url: str) -> None:
    async with trio_relay.open_node(legacy=True) as relay, open_tabs(chromium, chat_url, *relay.urls) as (ann, bob):
        await ann.say("hello", "Bob")
        await bob.wait_line("Ann to you · relayed, 1 relay: hello")
        await bob.say("hello to all")
        await ann.wait_line("Bob to everyone · relayed, 1 relay: hello to all")
        await bob.wait_line("You to everyone · by the relay: hello to all")
        with trio.fail_after(PATIENCE):
            message = await relay.receive()
        assert message.data == {"text": "hello to all", "name": "Bob", "all": True}

        await ann.press("Bob")
        await ann.wait_way("Bob", "direct")
        await bob.wait_way("Ann", "direct")
        await ann.say("and now", "Bob")
        await bob.wait_line("Ann to you · direct, WebRTC: and now")
        await bob.say("I see", "Ann")
        await ann.wait_line("Bob to you · direct, WebRTC: I see")
        await ann.say("both")
        await ann.wait_line("You to everyone · 1 direct, 1 by the relay: both")

        await bob.press("Ann")
        await ann.wait_line("The direct connection with Bob ended: the other side closed it.")
        await bob.wait_line("The direct connection with Ann ended: you closed it.")
        await bob.say("still here", "Ann")
        await ann.wait_line("Bob to you · relayed, 1 relay: still here")


async def test_both_press_at_once(chromium: str, chat_url: str) -> None:
    """One connection comes of it, on which both agree."""
    async with trio_relay.open_node(legacy=True) as relay, open_tabs(chromium, chat_url, *relay.urls) as (ann, bob):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ann.press, "Bob")
            nursery.start_soon(bob.press, "Ann")
        await ann.wait_way("Bob", "direct")
        await bob.wait_way("Ann", "direct")
        await ann.say("once", "Bob")
        await bob.wait_line("Ann to you · direct, WebRTC: once")
        for tab in (ann, bob):
            lines = await tab.page.evaluate(LINES)
            assert len([line for line in lines if "direct connection" in line]) == 1


async def test_tabs_at_two_relays_find_each_other_and_outlive_one(chromium: str, chat_url: str) -> None:
    async with (
        trio_relay.open_node(legacy=True) as first,
        trio_relay.open_node("127.0.0.1:0", first.urls, legacy=True) as second,
    ):
        await second.wait_linked()
        async with open_tabs(chromium, chat_url, first.urls[0], second.urls[0]) as (ann, bob):
            await ann.say("from afar", "Bob")
            await bob.wait_line("Ann to you · relayed, 2 relays: from afar")
            await ann.press("Bob")
            await ann.wait_way("Bob", "direct")
            await bob.wait_way("Ann", "direct")
            # Bob's relay goes: what is for others takes the direct connection, and Ann's relay.
            await bob.page.evaluate("peer.dial('ws://127.0.0.1:1'), peer.dial = () => {}")
            await bob.page.wait_for(f"{STATUS}.startsWith('No connection')")
            await bob.page.evaluate(f"peer.say({first.id.hex()!r}, {{text: 'through Ann'}})")
            with trio.fail_after(PATIENCE):
                message = await first.receive()
            assert (message.data, message.sender.hex()) == ({"text": "through Ann"}, await bob.page.evaluate(OWN_ID))
            bob.page.problems.clear()  # the refused connection


async def test_a_tab_and_a_program(browser: Browser, chat_url: str) -> None:
    async with trio_relay.open_node(legacy=True) as node:
        tab = await open_tab(browser, chat_url, node.urls[0], "Ann")
        ann = parse_node_id(await tab.page.evaluate(OWN_ID))
        values: tuple[Any, ...] = ({"name": HOSTILE, "text": HOSTILE}, "words", ["json", 1], None, b"\0")
        for data in values:
            await node.send(ann, data)
        await tab.wait_line(f"{HOSTILE} to you · direct, WebSocket: {HOSTILE}")
        for shown in ("words", '["json",1]', "null", '{"type":"Buffer","data":[0]}'):
            await tab.wait_line(f"{HOSTILE} to you · direct, WebSocket: {shown}")
        assert await tab.page.evaluate("document.images.length") == 0
        assert await tab.page.evaluate(rows()) == [HOSTILE]
        assert tab.page.problems == []


async def test_a_tab_and_a_program_connect_directly(browser: Browser, chat_url: str) -> None:
    """The tab asks; then the program does, when the tab has closed it."""
    async with (
        trio_relay.open_node(legacy=True) as relay,
        trio_relay.open_node(None, relay.urls, legacy=True, webrtc=True) as node,
    ):
        await node.wait_linked()
        tab = await open_tab(browser, chat_url, relay.urls[0], "Ann")
        ann = parse_node_id(await tab.page.evaluate(OWN_ID))
        await node.send(ann, {"name": "Python", "text": "hello"})
        await tab.wait_line("Python to you · relayed, 1 relay: hello")
        await tab.press("Python")
        await tab.wait_way("Python", "direct")
        await tab.say("and now", "Python")
        with trio.fail_after(PATIENCE):
            assert (await node.receive()).data == {"text": "and now", "name": "Ann"}
        assert node.links[ann].transport == "webrtc"
        await node.send(ann, {"name": "Python", "text": "I see"})
        await tab.wait_line("Python to you · direct, WebRTC: I see")

        await tab.press("Python")
        await tab.wait_way("Python", "by the relay")
        await eventually(lambda: ann not in node.links, "the end of the link")
        with trio.fail_after(PATIENCE):
            await node.connect(ann)
        await tab.wait_way("Python", "direct")
        await node.send(ann, "again")
        await tab.wait_line("Python to you · direct, WebRTC: again")
        await tab.page.visit("about:blank")
        await eventually(lambda: ann not in node.links, "the end of the link")
        assert tab.page.problems == []


async def test_the_program_of_the_example(browser: Browser, chat_url: str) -> None:
    command = [sys.executable, str(EXAMPLES / "browser_chat.py"), "127.0.0.1:0"]
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        printed = b""
        with trio.fail_after(3 * PATIENCE):
            while not printed.endswith(b"\n"):
                printed += await process.stdout.receive_some()
        tab = await open_tab(browser, chat_url, printed.decode().removeprefix("relay at ").strip(), "Ann")
        await tab.wait_line("Python to you · relayed, 1 relay: Hello. I say back what you say to me.")
        await tab.say("hello")
        await tab.wait_line("Python to you · relayed, 1 relay: You said: hello")
        await tab.press("Python")
        await tab.wait_way("Python", "direct")
        await tab.say("hello again", "Python")
        await tab.wait_line("Python to you · direct, WebRTC: You said: hello again")
        process.send_signal(signal.SIGINT)
        with trio.fail_after(PATIENCE):
            said = b"".join([data async for data in process.stdout])
        assert said.splitlines() == [b"'Ann' says 'hello'", b"'Ann' says 'hello again'"]
        assert await process.wait() == 0
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            await trio.aclose_forcefully(process.stdout)


async def test_who_closes_the_tab_is_gone_at_once(chromium: str, chat_url: str) -> None:
    async with trio_relay.open_node(legacy=True) as relay, open_tabs(chromium, chat_url, *relay.urls) as (ann, bob):
        await ann.press("Bob")
        await bob.wait_way("Ann", "direct")
        await bob.page.visit("about:blank")
        await ann.wait_line("Bob left.")
        assert await ann.page.evaluate(rows(".way")) == ["the relay"]


async def test_a_lost_relay_is_found_again(browser: Browser, chat_url: str) -> None:
    async with trio_relay.open_node(legacy=True) as relay:
        tab = await open_tab(browser, chat_url, relay.urls[0], "Ann")
        own = await tab.page.evaluate(OWN_ID)
        listen = relay.urls[0].removeprefix("ws://")
    await tab.page.wait_for(f"{STATUS}.startsWith('No connection')")
    await tab.say("hello?")
    await tab.wait_line("Not sent: there is no connection.")
    async with trio_relay.open_node(listen, legacy=True) as relay:
        await tab.page.wait_for(f"{STATUS}.startsWith('Connected')")
        await tab.page.wait_for(f"peer.relay === {relay.id.hex()!r}")
        await relay.send(parse_node_id(own), "back")
        await tab.page.wait_for(f"{LINES}.some((line) => line.endsWith('back'))")


async def test_what_is_no_address_is_said(page: Page, chat_url: str) -> None:
    await page.visit(f"{chat_url}?relay=nowhere:1")
    await page.wait_for(f"{STATUS}.startsWith('This is no address')")
    assert page.problems == []


# What it looks like


@pytest.mark.parametrize("width", [320, 1280])
async def test_it_can_be_read(page: Page, chat_url: str, width: int, tmp_path: Path) -> None:
    async with trio_relay.open_node(legacy=True) as node:
        await page.visit(f"{chat_url}?relay={node.urls[0]}")
        await page.wait_for(f"{STATUS}.startsWith('Connected')")
        own = parse_node_id(await page.evaluate(OWN_ID))
        await node.send(own, {"name": "A" * 50, "text": "x" * 500})
        await node.send(own, {"name": "Zoë", "text": "two\nlines", "all": True})
        await page.wait_for(f"{LINES}.length === 2")
        await page.evaluate("document.querySelector('#text').focus()")
        await page.type("A longer sentence, which needs more than one line on a phone.", enter=True)
        for dark in (False, True):
            await page.look(width, dark=dark)
            assert await page.evaluate("[innerWidth, document.documentElement.scrollWidth]") == [width, width]
            contrasts = await page.evaluate(CONTRASTS)
            assert len(contrasts) > 10
            assert min(contrasts)[0] >= 4.5, min(contrasts)
            shown = trio.Path(tmp_path / f"{width}-{'dark' if dark else 'light'}.png")
            await shown.write_bytes(await page.screenshot())  # for people
    assert page.problems == []


async def test_it_can_be_heard(chromium: str, chat_url: str) -> None:
    """What a screen reader goes by."""
    async with trio_relay.open_node(legacy=True) as relay, open_tabs(chromium, chat_url, *relay.urls) as (ann, _):
        tree = (await ann.page.command("Accessibility.getFullAXTree"))["nodes"]
    named = {(node["role"]["value"], node["name"]["value"]) for node in tree if node.get("name", {}).get("value")}
    assert {
        ("heading", "Browser chat"),
        ("group", "Send to"),
        ("radio", "Everyone"),
        ("radio", "Bob by the relay"),
        ("button", "Connect directly: Bob"),
        ("textbox", "Message to everyone"),
        ("textbox", "Your name"),
        ("button", "Send"),
        ("log", "Messages"),
    } <= named
    assert {node["role"]["value"] for node in tree} >= {"status", "main", "banner"}
