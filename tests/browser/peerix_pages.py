"""Tabs in which a member of Peerix rooms runs: `pages/peerix.js`. They meet rooms here at a hub of ours."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import trio
from cryptography.hazmat.primitives.asymmetric import ec

from trio_relay.peerix import open_room
from trio_relay.peerix.drivers.driver import Driver
from trio_relay.peerix.drivers.socketio import SocketIoDriver
from trio_relay.peerix.drivers.sse import SseDriver
from trio_relay.peerix.hub.config import HubConfig
from trio_relay.peerix.hub.serving import Hub, serve_hub
from trio_relay.peerix.members.member import Member
from trio_relay.peerix.room import Room
from trio_relay.peerix.sharing import Shareable
from trio_relay.peerix.transfers.message import Message

from .chromium import LOOK_AGAIN, PATIENCE, Browser, BrowserError, Page

__all__ = ["IMPOLITE", "POLITE", "RoomPair", "RoomTab", "open_hub", "open_pair", "open_room_tab", "soon"]

IMPOLITE: Final = 83819
POLITE: Final = 65122
"""Secret keys whose ids are smaller and greater than those of a hundred thousand others."""


class RoomTab:
    """A tab in a room.

    Attributes:
        id: of its member.
    """

    def __init__(self, page: Page) -> None:
        self.page: Final = page
        self.id = ""
        self._taken = 0

    async def run(self, expression: str) -> Any:
        """The value of an expression in the page; as if a person did it."""
        result = await self.page.command(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True
        )
        if "exceptionDetails" in result:
            raise BrowserError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    async def join(self, hub: Hub, *, door: str = "sse", secret: int | None = None, **options: Any) -> None:
        """Enters the room ``t``, unless the options say another `name`."""
        options = {"hub": hub.urls[0], "door": door, "name": "t", "jwk": _jwk(secret), **options}
        shown = {name: value for name, value in options.items() if value is not None}
        self.id = await self.run(f"join({json.dumps(shown)})")

    async def begin(self, script: str) -> None:
        """Starts an asynchronous script; `result` gives its value."""
        await self.run(
            f"window.outcome = null; (async () => {{ {script} }})().then("
            "(value) => (window.outcome = { value: value ?? null }),"
            "(error) => (window.outcome = { error: String(error) }),"
            "); null"
        )

    async def result(self, *, patience: float = PATIENCE) -> Any:
        """What the script returns.

        Raises:
            BrowserError: what it threw.
        """
        with trio.fail_after(patience):
            while (outcome := await self.run("outcome")) is None:
                await trio.sleep(LOOK_AGAIN)
        if "error" in outcome:
            raise BrowserError(outcome["error"])
        return outcome["value"]

    async def do(self, script: str, *, patience: float = PATIENCE) -> Any:
        """The value of an asynchronous script, however long it takes."""
        await self.begin(script)
        return await self.result(patience=patience)

    async def next(self, *, patience: float = PATIENCE) -> dict[str, Any]:
        """The next message that has come, when all of it has."""
        with trio.fail_after(patience):
            while await self.run("room.inbox.length") <= self._taken:
                await trio.sleep(LOOK_AGAIN)
        message: dict[str, Any] = await self.run(f"describe(room.inbox[{self._taken}])")
        self._taken += 1
        return message

    async def count(self, name: str) -> int:
        """How often that happened."""
        number: int = await self.run(f"room.counts.{name}")
        return number

    async def members(self) -> list[Any]:
        """Those that it can speak to: pairs of id and metadata."""
        members: list[Any] = await self.run("upMembers()")
        return members


class RoomPair:
    """A room here and one in a tab, which see nobody but each other, once they do."""

    def __init__(self, hub: Hub, room: Room, tab: RoomTab) -> None:
        self.hub: Final = hub
        self.room: Final = room
        self.tab: Final = tab

    @property
    def member(self) -> Member:
        """The tab, as it is seen here."""
        (member,) = self.room.members.values()
        return member

    async def meet(self) -> None:
        """Waits until they have a channel."""
        with trio.fail_after(2 * PATIENCE):
            await self.room.wait_members()
            while "chat" not in self.member.channels or not self.member.channels["chat"].open:
                await trio.sleep(LOOK_AGAIN)
        await self.tab.page.wait_for("upMembers().length == 1 && [...room.members.values()][0].channels.has('chat')")

    async def next(self) -> Message:
        """The next message of the tab, which may still be coming."""
        with trio.fail_after(PATIENCE):
            return await self.room.receive()


def python_driver(hub: Hub, door: str = "sse") -> Driver:
    """One of ours for a door of the hub."""
    if door == "sse":
        return SseDriver(f"{hub.urls[0]}/.well-known/mercure")
    return SocketIoDriver(hub.urls[0], prefix="peerix:")


def _jwk(secret: int | None) -> dict[str, str] | None:
    if secret is None:
        return None
    public = ec.derive_private_key(secret, ec.SECP256R1()).public_key().public_numbers()
    numbers = {"d": secret, "x": public.x, "y": public.y}
    texts = {name: base64.urlsafe_b64encode(value.to_bytes(32, "big")) for name, value in numbers.items()}
    return {"kty": "EC", "crv": "P-256", **{name: text.decode().rstrip("=") for name, text in texts.items()}}


async def soon(tab: RoomTab, expression: str) -> Any:
    """The value of an expression in the page once it is true."""
    return await tab.page.wait_for(expression)


@asynccontextmanager
async def open_hub() -> AsyncIterator[Hub]:
    """As of ``trio-relay serve --hub``."""
    async with trio.open_nursery() as nursery:
        hub: Hub = await nursery.start(serve_hub, HubConfig(listen="127.0.0.1:0", drain_timeout=0.1))
        yield hub
        with trio.CancelScope(shield=True):
            await hub.aclose()
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_room_tab(browser: Browser, url: str) -> AsyncIterator[RoomTab]:
    """A tab in no room yet; at the end, nothing has gone wrong in it."""
    page = await browser.open_page()
    await page.command("Emulation.setFocusEmulationEnabled", enabled=True)  # timers of hidden tabs are slow
    await page.visit(f"{url}/pages/peerix.html")
    tab = RoomTab(page)
    await page.wait_for("window.join !== undefined")
    yield tab
    assert await tab.run("window.room ? room.errors : []") == []


@asynccontextmanager
async def open_pair(
    browser: Browser,
    url: str,
    *,
    door: str = "sse",
    polite: bool = True,
    first: str = "python",
    shared: Shareable = None,
    **options: Any,
) -> AsyncIterator[RoomPair]:
    """Both ends, in a room with a channel ``chat``.

    Args:
        polite: this side gives way, else the page does.
        first: who comes first, ``"python"`` or ``"page"``.
        shared: as ``early`` from the beginning, by both; the page has a blue picture.
        options: of the room here.
    """
    early = "room.share('early', camera('rgb(0,0,255)'))" if shared is not None else ""

    async def join() -> None:
        await tab.run(f"window.prepare = () => {{ room.open('chat'); {early} }}; null")
        await tab.join(hub, door=door, secret=IMPOLITE if polite else POLITE, metadata={"name": "page"})

    async with open_hub() as hub, open_room_tab(browser, url) as tab:
        if first == "page":
            await join()
        async with open_room("t", driver=python_driver(hub, door), metadata={"name": "python"}, **options) as room:
            room.open_channel("chat")
            if shared is not None:
                room.share(shared, label="early")
            if first == "python":
                await join()
            pair = RoomPair(hub, room, tab)
            await pair.meet()
            yield pair
