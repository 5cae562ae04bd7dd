"""A tab with one RTCPeerConnection (`pages/bundle.js`), and a `Bundle` here; signals are carried between them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import trio

from trio_relay.exceptions import NegotiationFailed
from trio_relay.transports.aio import Bundle, open_bundle_factory
from trio_relay.transports.aio.bundle_channel import BundleChannel
from trio_relay.transports.bundle import StreamTrack
from trio_relay.transports.webrtc import WebRTCConfig
from trio_relay.wire.description import parse_candidate_untrusted

from .chromium import LOOK_AGAIN, PATIENCE, Browser, BrowserError, Page

__all__ = ["BundleLink", "open_bundle_link"]


class BundleLink:
    """Both ends.

    Attributes:
        control: our end of the channel with the id 0.
        candidates: what the page has told of its addresses.
        ignored: offers of the page that came while ours was under way.
        voided: offers of ours that gave way.
    """

    def __init__(self, page: Page, bundle: Bundle, *, polite: bool) -> None:
        self.page: Final = page
        self.bundle: Final = bundle
        self.polite: Final = polite
        self.control: Final[BundleChannel] = bundle.open_channel("", id=0)
        self.candidates: Final[list[str]] = []
        self.ignored = self.voided = 0
        self._offering = False

    async def run(self, expression: str) -> Any:
        """The value of an expression in the page; as if a person did it."""
        result = await self.page.command(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True
        )
        if "exceptionDetails" in result:
            raise BrowserError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    async def carry(self) -> None:
        """Negotiates whenever one of them wants to, until the page leaves: perfect negotiation of this side."""
        try:
            while True:
                if self.bundle.needs_negotiation:
                    await self.offer()
                for signal in await self.run("takeSignals()"):
                    await self.take(signal)
                await trio.sleep(LOOK_AGAIN)
        except NegotiationFailed:
            if self.bundle.state != "closed":
                raise

    async def offer(self) -> None:
        """Makes an offer and hands it to the page, which may ignore it."""
        self._offering = True
        await self.deliver("offer", await self.bundle.create_offer())

    async def take(self, signal: dict[str, Any]) -> None:
        """One signal of the page."""
        if "candidate" in signal:
            value = signal["candidate"]
            self.candidates.append(value["candidate"] if value is not None else "")
            await self.bundle.add_candidate(None if value is None else parse_candidate_untrusted(value))
            return
        description = signal["description"]
        if description["type"] == "answer":
            self._offering = False
            await self.bundle.accept_answer(description["sdp"])
        elif self._offering and not self.polite:
            self.ignored += 1
        else:
            self.voided += self._offering
            self._offering = False
            await self.deliver("answer", await self.bundle.accept_offer(description["sdp"]))

    async def deliver(self, type: str, sdp: str) -> None:
        await self.run(f"deliver({json.dumps({'description': {'type': type, 'sdp': sdp}})})")

    async def accept_tracks(self, count: int) -> list[StreamTrack]:
        with trio.fail_after(PATIENCE):
            return [await self.bundle.accept_track() for _ in range(count)]

    async def wait_tracks(self, count: int) -> None:
        """Waits until so many of the page have not ended."""
        with trio.fail_after(PATIENCE):
            while len(self.bundle.tracks) != count:
                await trio.sleep(LOOK_AGAIN)

    async def shown(self) -> list[dict[str, Any]]:
        """The tracks that have come to the page."""
        shown: list[dict[str, Any]] = await self.run("shownTracks()")
        return shown


@asynccontextmanager
async def open_bundle_link(
    browser: Browser, url: str, *, polite: bool, begins: str = "python", held: bool = False
) -> AsyncIterator[BundleLink]:
    """Both ends.

    Args:
        polite: this side gives way, else the page does.
        begins: ``"page"`` or ``"python"`` makes the first offer.
        held: nobody negotiates yet.
    """
    page = await browser.open_page()
    await page.command("Emulation.setFocusEmulationEnabled", enabled=True)  # timers of hidden tabs are slow
    await page.visit(f"{url}/pages/bundle.html")
    async with open_bundle_factory(close_timeout=2) as factory, factory(WebRTCConfig()) as bundle:
        assert isinstance(bundle, Bundle)
        link = BundleLink(page, bundle, polite=polite)
        await link.run(f"hold = {json.dumps(held or begins != 'page')}; begin({json.dumps(not polite)})")
        async with trio.open_nursery() as nursery:
            if begins == "page":
                await page.wait_for("outbox.length > 0")
                await link.take((await link.run("outbox.splice(0, 1)"))[0])
            if not held:
                nursery.start_soon(link.carry)
                with trio.fail_after(PATIENCE):
                    await link.control.wait_open()
                await link.run("hold = false")
            yield link
            nursery.cancel_scope.cancel()
    assert await page.evaluate("failures") == []
