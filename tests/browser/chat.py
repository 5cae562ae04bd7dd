"""People in front of the browser example, each in a tab."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

from .chromium import Browser, Page, open_browser

__all__ = ["LINES", "OWN_ID", "STATUS", "Tab", "open_tab", "open_tabs", "row", "rows"]

STATUS: Final = "document.querySelector('#status').innerText"
LINES: Final = """[...document.querySelectorAll('#log li')].map((line) => line.className === 'notice'
  ? line.textContent : line.textContent.replace(/ · \\d\\d:\\d\\d/, ': '))"""
"""JavaScript: the messages, each with its head, without the time."""
OWN_ID: Final = "peer.id"


def rows(what: str = ".who") -> str:
    """JavaScript: of every peer that the page shows, a text of its row."""
    return f"[...document.querySelectorAll('#peers .peer')].map((row) => row.querySelector({what!r}).textContent)"


def row(name: str) -> str:
    """JavaScript: the row of a peer."""
    found = "(row) => row.querySelector('.who').textContent"
    return f"[...document.querySelectorAll('#peers .peer')].find((row) => ({found})(row) === {json.dumps(name)})"


def way(name: str) -> str:
    """JavaScript: how a peer is reached, as its row says."""
    return f"{row(name)}?.querySelector('.way').textContent"


class Tab:
    """A tab with the page, and a person in front of it."""

    def __init__(self, page: Page, name: str) -> None:
        self.page: Final = page
        self.name: Final = name

    async def say(self, text: str, to: str = "") -> None:
        """Chooses whom to write to, nobody: everyone; and writes."""
        choice = f"{row(to)}.querySelector('input')" if to else "document.querySelector('[name=to]')"
        await self.page.evaluate(f"{choice}.click(), document.querySelector('#text').focus()")
        await self.page.type(text, enter=True)

    async def press(self, name: str) -> None:
        """Presses the button in the row of a peer."""
        await self.page.evaluate(f"{row(name)}.querySelector('button').click()")

    async def wait_line(self, line: str) -> None:
        """Waits until a line is among the messages."""
        await self.page.wait_for(f"{LINES}.includes({json.dumps(line)})")

    async def wait_way(self, name: str, how: str) -> None:
        """Waits until a peer is reached in a way."""
        await self.page.wait_for(f"{way(name)} === {how!r}")


async def open_tab(browser: Browser, chat_url: str, relay: str, name: str) -> Tab:
    """Opens the page, gives a name, and waits until it is connected."""
    page = await browser.open_page()
    await page.visit(f"{chat_url}?relay={relay}")
    await page.evaluate("document.querySelector('#name').focus()")
    await page.type(name, enter=True)
    await page.wait_for(f"{STATUS}.startsWith('Connected')")
    return Tab(page, name)


@asynccontextmanager
async def open_tabs(chromium: str, chat_url: str, *relays: str) -> AsyncIterator[tuple[Tab, Tab]]:
    """Ann and Bob in profiles of their own, at these relays; each sees the other."""
    async with open_browser(chromium) as one, open_browser(chromium) as other:
        tabs: dict[str, Tab] = {}

        async def open_one(browser: Browser, relay: str, name: str) -> None:
            tabs[name] = await open_tab(browser, chat_url, relay, name)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(open_one, one, relays[0], "Ann")
            nursery.start_soon(open_one, other, relays[-1], "Bob")
        ann, bob = tabs["Ann"], tabs["Bob"]
        await ann.wait_way("Bob", "by the relay")
        await bob.wait_way("Ann", "by the relay")
        yield ann, bob
        assert (ann.page.problems, bob.page.problems) == ([], [])
