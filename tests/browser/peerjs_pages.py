"""Tabs in which npm peerjs runs: `pages/peerjs.js`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import trio

from .chromium import LOOK_AGAIN, PATIENCE, Browser, BrowserError, Page

__all__ = ["PeerTab", "open_peer_tab", "open_tab"]


class PeerTab:
    """A tab with one Peer.

    Connections and calls have numbers, in the order of their coming.

    Attributes:
        id: of its Peer; ``""`` before it is open.
    """

    def __init__(self, page: Page) -> None:
        self.page: Final = page
        self.id = ""
        self._accepted = 0

    async def run(self, function: str, *arguments: object) -> Any:
        """What a function of the page, with these arguments, returns or is resolved with; as if a person did it."""
        expression = f"{function}({', '.join(json.dumps(argument) for argument in arguments)})"
        result = await self.page.command(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True
        )
        if "exceptionDetails" in result:
            raise BrowserError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    async def open(self, peer_id: str | None, options: dict[str, Any], build: str = "page") -> str | None:
        """Makes its Peer; None when that is open, else the type of the error."""
        failed: str | None = await self.run("open", peer_id, options, build)
        self.id = await self.page.evaluate("peer.id") or ""
        return failed

    async def connect(self, to: str, **options: object) -> int:
        """The number of a new connection, which is open."""
        number: int = await self.run("connect", to, options)
        return number

    async def accept(self) -> int:
        """The number of the next connection or call of another peer; a connection is open."""
        self._accepted += 1
        await self.page.wait_for(f"incoming.length >= {self._accepted}")
        number: int = await self.page.evaluate(f"incoming[{self._accepted - 1}]")
        if await self.page.evaluate(f"links[{number}].connection.type === 'data'"):
            await self.wait_event(number, "open")
        return number

    async def send(self, number: int, *values: str) -> None:
        """Sends values that are written in JavaScript."""
        await self.page.evaluate(f"send({number}, [{', '.join(values)}])")

    async def take(self, number: int, count: int, *, patience: float = PATIENCE) -> Any:
        """Waits for so many values, and returns all that are there, described."""
        with trio.fail_after(patience):
            while await self.page.evaluate(f"links[{number}].values.length") < count:
                await trio.sleep(LOOK_AGAIN)
        return await self.run("takeAll", number)

    async def describe(self, values: Sequence[str]) -> Any:
        """Descriptions of values that are written in JavaScript."""
        return await self.page.evaluate(f"describeAll([{', '.join(values)}])")

    async def about(self, number: int) -> Any:
        """What a connection says of itself."""
        return await self.run("about", number)

    async def wait_event(self, number: int, name: str) -> None:
        """Waits until that happened to a connection: ``open``, ``close``, ``error TYPE``, ``willCloseOnRemote``."""
        await self.page.wait_for(f"links[{number}].events.includes({name!r})")

    async def close(self, number: int, *, flush: bool = False) -> None:
        await self.page.evaluate(f"links[{number}].connection.close({json.dumps({'flush': flush})})")

    async def wait_peer_event(self, name: str, detail: object) -> None:
        """Waits until that happened to the Peer: ``open``, ``close``, ``disconnected``, ``error``."""
        wanted = json.dumps(json.dumps([name, detail], separators=(",", ":")))
        await self.page.wait_for(f"events.some((event) => JSON.stringify(event) === {wanted})")

    async def wait_media(self, number: int) -> Any:
        """What has come of a call, once there are some pictures and some sound."""
        with trio.fail_after(PATIENCE):
            while (found := await self.run("media", number))["frames"] < 5 or not found["energy"]:
                await trio.sleep(LOOK_AGAIN)
        return found


async def open_tab(browser: Browser, url: str) -> PeerTab:
    """A tab without a Peer yet."""
    page = await browser.open_page()
    await page.command("Emulation.setFocusEmulationEnabled", enabled=True)  # timers of hidden tabs are slow
    await page.visit(f"{url}/peerjs.html")
    return PeerTab(page)


async def open_peer_tab(
    browser: Browser, url: str, peer_id: str | None, options: dict[str, Any], build: str = "page"
) -> PeerTab:
    """A tab with a Peer that is open."""
    tab = await open_tab(browser, url)
    failed = await tab.open(peer_id, options, build)
    assert failed is None, failed
    return tab
