"""The live page of the relay server in Chromium: who is shown what, and that it can be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest
import trio

from tests.wsrelay.support import Relaying, make_config, relaying, routed

from .chromium import Browser, Page

pytestmark = pytest.mark.browser

KEY: Final = "admin-key-of-the-tests"
OPTIONS: Final[dict[str, Any]] = {"ui": True, "admin_key": KEY}
NOTHING: Final = "\N{EN DASH}"
HOSTILE: Final = "<img/src=x/onerror=document.body.remove()>"
LONG: Final = "a/channel/with/a/name/that/is/very/long/" + "x" * 60

IS_ASKING: Final = "!document.querySelector('#ask').hidden"
IS_SHOWN: Final = "!document.querySelector('#shown').hidden"
STATUS: Final = "document.querySelector('#status').innerText"
NUDGE: Final = "document.dispatchEvent(new Event('visibilitychange'))"
"""The page looks whether its tab is shown or hidden; if it is shown, it asks at once."""
HIDE: Final = "Object.defineProperty(document, 'hidden', {value: true, configurable: true})"
SHOW: Final = "delete document.hidden"


class AnyKey:
    """A store that takes every key."""

    def validate(self, key: str) -> bool:
        return True


def local(running: Relaying) -> str:
    """The page for a browser that is taken for the operator's."""
    return f"http://{running.relay.addresses[0]}/ui"


def foreign(running: Relaying) -> str:
    """The page under a name that is not this machine's: the key is needed."""
    return f"http://relay.test:{running.relay.addresses[0].rpartition(':')[2]}/ui"


def rows(table: str) -> str:
    """JavaScript: the texts of a table's cells."""
    return f"[...document.querySelectorAll('#{table} tbody tr')].map(r => [...r.cells].map(c => c.textContent))"


def card(title: str) -> str:
    """JavaScript: the number above a chart."""
    cards = "[...document.querySelectorAll('#charts li')]"
    return f"{cards}.find(c => c.innerText.startsWith('{title}')).children[1].innerText"


def total(title: str) -> str:
    """JavaScript: the number under a title at the end of the page."""
    return f"[...document.querySelectorAll('dt')].find(t => t.innerText === '{title}').nextSibling.innerText"


def assert_clean(page: Page, origin: str, refusals: int = 0) -> None:
    """Nothing went wrong but so many refused requests, and nothing was asked of another server."""
    unexpected = [problem for problem in page.problems if "status of 403" not in problem]
    assert unexpected == []
    assert len(page.problems) == refusals
    assert {url for url in page.requests if not url.startswith("data:")} == {origin, f"{origin}/data"}


async def test_a_stranger_is_asked_for_the_key(page: Page, browser: Browser) -> None:
    async with relaying(**OPTIONS) as running:
        await running.join("pwa:alice123")
        await page.visit(foreign(running))
        await page.wait_for(IS_ASKING)
        assert not await page.evaluate(IS_SHOWN)
        assert await page.evaluate("document.activeElement.labels[0].innerText") == "Admin key"
        await page.type("not the key", enter=True)
        assert "letters" in await page.wait_for("document.querySelector('#refused').innerText")
        await page.type("wrong-key", enter=True)
        await page.wait_for("document.querySelector('#refused').innerText.includes('not accept')")
        assert not await page.evaluate(IS_SHOWN)
        await page.type(KEY, enter=True)
        await page.wait_for(f"{IS_SHOWN} && {STATUS} === 'Live'")
        assert not await page.evaluate(IS_ASKING)
        # The tab remembers the key, no other does, and it is in no address.
        await page.visit(foreign(running))
        await page.wait_for(IS_SHOWN)
        assert await page.evaluate(rows("channels")) != []
        assert_clean(page, foreign(running), refusals=2)
        other = await browser.open_page()
        await other.visit(foreign(running))
        await other.wait_for(IS_ASKING)
        async with page.loading():
            await page.evaluate("document.querySelector('#forget').click()")
        await page.wait_for(f"{STATUS} === 'Locked'")
        assert await page.evaluate(f"{IS_ASKING} && !({IS_SHOWN}) && sessionStorage.length === 0")
        assert await page.evaluate(rows("channels")) == []


async def test_numbers_follow_the_traffic(page: Page) -> None:
    async with relaying(channels=["pwa", "ext", HOSTILE], key_store=AnyKey(), **OPTIONS) as running:
        await page.visit(local(running))
        await page.wait_for(IS_SHOWN)
        assert await page.evaluate("document.querySelector('#channels').nextElementSibling.innerText") != ""
        alice = await running.join("/pwa/alice123?key=key-of-alice")
        await running.join("/pwa/bobbobbob?key=key-of-bob")
        await running.join(f"/{HOSTILE}/carol123?key=key-of-carol")
        await page.wait_for(f"{card('Connections')} === '3'")
        assert await page.evaluate(rows("channels")) == [["pwa", "", "2", "2"], [HOSTILE, "", "1", "1"]]
        assert await page.evaluate("document.images.length") == 0
        assert await page.evaluate("document.title") == "3 connected · Relay"

        await alice.send(*[routed("pwa:alice123", "pwa:bobbobbob", "x" * 1000)] * 500)
        await alice.send(*[routed("pwa:alice123", "pwa:nobody12")] * 7)
        await alice.settle()
        await page.wait_for(f"{total('Messages relayed')} === '500'")
        assert await page.evaluate("document.querySelector('#charts svg .line').getAttribute('d')") != ""
        for title in ("Messages relayed", "Bytes received", "Bytes sent", "Refusals"):
            shown = await page.evaluate(card(title))
            assert shown.endswith("/s"), title
            assert not shown.startswith("0"), title
        assert await page.evaluate(rows("reasons")) == [["target_offline", "7", "7"]]
        keys = await page.evaluate(rows("keys"))
        assert [(key[0][:6], key[1]) for key in keys] == [("ke…ce-", "1"), ("ke…ob-", "1"), ("ke…ol-", "1")]
        assert all(size.endswith(" KiB") for size in (keys[0][2], keys[1][3]))
        assert "key-of" not in await page.evaluate("document.documentElement.outerHTML")

        await alice.aclose()
        await page.wait_for(f"{card('Connections')} === '2' && {card('Messages relayed')} === '0/s'")
        assert await page.evaluate(rows("channels")) == [["pwa", "", "1", "2"], [HOSTILE, "", "1", "1"]]
        assert_clean(page, local(running))


async def test_a_lost_server_is_shown_and_found_again(page: Page) -> None:
    async with relaying(**OPTIONS) as running:
        address, url = running.relay.addresses[0], local(running)
        running.relay._core.counts["malformed"] = 1000
        await page.visit(url)
        await page.wait_for(f"{STATUS} === 'Live' && {rows('reasons')}.length === 1")
    await page.evaluate(NUDGE)
    lost = await page.wait_for(f"{STATUS}.startsWith('No connection') && {STATUS}")
    assert lost.endswith("Trying again.")
    assert await page.evaluate("document.querySelector('#uptime').innerText") == "The tables show the last numbers."
    assert await page.evaluate("document.title") == "No connection · Relay"
    assert await page.evaluate(card("Connections")) == NOTHING
    async with relaying(listen=address, **OPTIONS) as running:
        await running.join("pwa:alice123")
        await page.evaluate(NUDGE)
        await page.wait_for(f"{STATUS} === 'Live' && {card('Connections')} === '1'")
        await page.wait_for(f"{card('Refusals')} === '0/s'")
        assert await page.evaluate(rows("reasons")) == []
        running.relay.configure(make_config(listen=address, admin_key=KEY))
        await page.evaluate(NUDGE)
        await page.wait_for(f"{STATUS}.startsWith('This page is turned off')")


async def test_a_server_that_began_anew_unseen_has_no_negative_rates(page: Page) -> None:
    async with relaying(**OPTIONS) as running:
        address = running.relay.addresses[0]
        running.relay._core.counts["malformed"] = 1000
        await page.visit(local(running))
        await page.wait_for(f"{rows('reasons')}.length === 1")
        await page.evaluate(f"{HIDE}; {NUDGE}")
    async with relaying(listen=address, **OPTIONS) as running:
        running.relay._core.counts["malformed"] = 5
        await page.evaluate(f"{SHOW}; {NUDGE}")
        await page.wait_for(f"{rows('reasons')}[0][2] === '5'")
        assert await page.evaluate(rows("reasons")) == [["malformed", "0", "5"]]
        assert await page.evaluate(card("Refusals")) == NOTHING
        assert_clean(page, local(running))


async def test_a_hidden_tab_asks_less(page: Page) -> None:
    async with relaying(**OPTIONS) as running:
        await page.visit(local(running))
        await page.wait_for(IS_SHOWN)
        await page.evaluate(f"{HIDE}; {NUDGE}")
        seen = len(page.requests)
        with trio.move_on_after(1.3):
            await page.wait_for_request(seen)
        assert len(page.requests) == seen
        await page.evaluate(f"{SHOW}; {NUDGE}")
        with trio.fail_after(0.9):
            await page.wait_for_request(seen)


# Every text, how much it stands out from what is behind it (WCAG 2, 1.4.3).
CONTRASTS: Final = """(() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    const found = numbers(getComputedStyle(element).backgroundColor);
    return found.length === 3 || found[3] === 1 ? found : behind(element.parentElement);
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility()) continue;
    const pair = [light(numbers(getComputedStyle(element).color)), light(behind(element))].sort((a, b) => b - a);
    found.push([(pair[0] + 0.05) / (pair[1] + 0.05), walker.currentNode.data]);
  }
  return found;
})()"""


@pytest.mark.parametrize("width", [320, 360, 640, 1280])
async def test_it_can_be_read(page: Page, width: int, tmp_path: Path) -> None:
    """640 pixels are also a window of 1280 at 200 % zoom; 320 the narrowest that WCAG 2, 1.4.10 asks for."""
    async with relaying(channels=["pwa", LONG], key_store=AnyKey(), **OPTIONS) as running:
        await running.join("/pwa/alice123?key=key-of-alice")
        await running.join(f"/{LONG}/alice123?key=key-of-bob")
        running.relay._core.counts.update(rate_limited_messages=123_456_789, slow_consumer_disconnected=12_345)
        running.relay._core.entrance.meter.record_in("key-of-alice", 123_456_789, trio.current_time())
        for dark in (False, True):
            await page.look(width, dark=dark, scale=2 if width == 640 else 1)
            await page.visit(local(running))
            await page.wait_for(f"{IS_SHOWN} && {rows('keys')}.length === 2")
            assert await page.evaluate("innerWidth") == width
            assert await page.evaluate("document.documentElement.scrollWidth") <= width
            contrasts = await page.evaluate(CONTRASTS)
            assert len(contrasts) > 40
            assert min(contrasts)[0] >= 4.5, min(contrasts)
            luminous = await page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(244, 246, 248)"
            assert luminous is not dark
            shown = trio.Path(tmp_path / f"{width}-{'dark' if dark else 'light'}.png")
            await shown.write_bytes(await page.screenshot())  # for people
        assert_clean(page, local(running))


async def test_it_can_be_heard(page: Page) -> None:
    """What a screen reader goes by."""
    async with relaying(channels=["pwa"], **OPTIONS) as running:
        await running.join("pwa:alice123")
        await page.visit(local(running))
        await page.wait_for(f"{IS_SHOWN} && {rows('channels')}.length === 1")
        tree = (await page.command("Accessibility.getFullAXTree"))["nodes"]
    named = [(node["role"]["value"], node["name"]["value"]) for node in tree if node.get("name", {}).get("value")]
    said = {(role, name) for role, name in named if role in ("heading", "table", "image", "columnheader", "rowheader")}
    assert {
        ("heading", "Relay"),
        ("heading", "The last 5 minutes"),
        ("heading", "Connections"),
        ("image", "Connections, last 5 minutes: now 1, at most 1"),
        ("image", "Connections of channel pwa, last 5 minutes: now 1, at most 1"),
        ("table", "Channels"),
        ("columnheader", "Channel"),
        ("rowheader", "pwa"),
    } <= said
    assert len([name for role, name in named if role == "image"]) == 7
    assert {node["role"]["value"] for node in tree} >= {"status", "main", "banner"}


async def test_no_other_script_runs_and_nothing_is_asked_elsewhere(page: Page) -> None:
    async with relaying(**OPTIONS) as running:
        await page.visit(local(running))
        await page.wait_for(IS_SHOWN)
        script = "const script = document.createElement('script'); script.textContent = 'window.ran = true'"
        await page.evaluate(f"{script}; document.body.append(script)")
        await page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=http://127.0.0.2/x>')")
        asked = await page.evaluate("fetch('http://127.0.0.2/').then(() => 'answered', (error) => error.name)")
        assert asked == "TypeError"
        assert await page.evaluate("window.ran === undefined")
        refused = [problem for problem in page.problems if "Content Security Policy" in problem]
        assert len(refused) == len(page.problems) >= 3
        # The page itself goes on.
        await running.join("pwa:alice123")
        await page.wait_for(f"{card('Connections')} === '1'")
