"""npm peerjs in Chromium: tabs with each other, through every broker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from tests.cli.test_serve import serving

from .chromium import PATIENCE, Browser
from .peerjs_fixtures import Broker, OpenBroker, our_broker_alone
from .peerjs_pages import PeerTab, open_peer_tab, open_tab
from .peerjs_values import BYTES_20_MB, SAMPLES, Sample

pytestmark = [pytest.mark.browser, pytest.mark.interop]


@asynccontextmanager
async def two_tabs(
    open_broker: OpenBroker, browser: Browser, url: str, first: str = "page", second: str = "page", **config: Any
) -> AsyncIterator[tuple[PeerTab, PeerTab]]:
    """Ann, whose id is chosen, and Bob, whose id the broker has chosen, with these builds of the original."""
    async with open_broker(**config) as broker:
        ann = await open_peer_tab(browser, url, "ann", broker.options, first)
        bob = await open_peer_tab(browser, url, None, broker.options, second)
        assert (ann.id, len(bob.id)) == ("ann", 36)
        yield ann, bob
        assert (ann.page.problems, bob.page.problems) == ([], [])


async def check_values(sender: PeerTab, number: int, receiver: PeerTab, received: int, samples: list[Sample]) -> None:
    await sender.send(number, *[sample.js for sample in samples])
    got = await receiver.take(received, len(samples))
    wanted = await receiver.describe([sample.received for sample in samples])
    for sample, value, expected in zip(samples, got, wanted, strict=True):
        assert (sample.js, value) == (sample.js, expected)


@our_broker_alone
async def test_values(open_broker: OpenBroker, browser: Browser, originals_url: str) -> None:
    async with two_tabs(open_broker, browser, originals_url, "all", "all") as (ann, bob):
        for serialization, samples in SAMPLES.items():
            options = {"label": f"for {serialization}", "metadata": {"of": ["ann"]}, "reliable": True}
            number = await ann.connect(bob.id, serialization=serialization, **options)
            received = await bob.accept()
            wire_name = serialization.removesuffix("-utf8")
            about = {**options, "serialization": wire_name, "type": "data", "open": True, "ordered": True}
            assert await ann.about(number) == {"peer": bob.id, **about}
            assert await bob.about(received) == {"peer": "ann", **about}
            await check_values(ann, number, bob, received, samples)
            await check_values(bob, received, ann, number, samples)


@our_broker_alone
@pytest.mark.parametrize(
    ("build", "serialization", "size"), [("page", "binary", BYTES_20_MB), ("MsgPackPeer", "MsgPack", 1_000_000)]
)
async def test_large_values(
    open_broker: OpenBroker, browser: Browser, originals_url: str, build: str, serialization: str, size: int
) -> None:
    async with two_tabs(open_broker, browser, originals_url, "all", build) as (ann, bob):
        number = await ann.connect(bob.id, serialization=serialization)
        received = await bob.accept()
        assert (await bob.about(received))["ordered"] is (serialization == "MsgPack")
        await ann.send(number, f"bytes({size})")
        assert await bob.take(received, 1, patience=30) == await bob.describe([f"bytes({size})"])


@our_broker_alone
async def test_json_that_is_too_large(open_broker: OpenBroker, browser: Browser, originals_url: str) -> None:
    async with two_tabs(open_broker, browser, originals_url) as (ann, bob):
        number = await ann.connect(bob.id, serialization="json")
        received = await bob.accept()
        await ann.send(number, "'x'.repeat(16298)", "'still open'")
        await ann.wait_event(number, "error message-too-big")
        assert await bob.take(received, 1) == await bob.describe(["'still open'"])


@our_broker_alone
@pytest.mark.parametrize("flush", [False, True])
async def test_closing(open_broker: OpenBroker, browser: Browser, originals_url: str, flush: bool) -> None:
    async with two_tabs(open_broker, browser, originals_url) as (ann, bob):
        for closes, other in ((ann, bob), (bob, ann)):
            numbers = {ann: await ann.connect(bob.id), bob: await bob.accept()}
            await closes.send(numbers[closes], "'last'")
            if not flush:
                await other.take(numbers[other], 1)  # the original throws away what is on its way
            await closes.close(numbers[closes], flush=flush)
            for tab in (ann, bob):
                await tab.wait_event(numbers[tab], "close")
                assert await tab.page.evaluate("Object.values(peer.connections).flat().length") == 0
            if flush:
                assert await other.take(numbers[other], 1) == await other.describe(["'last'"])


@our_broker_alone
async def test_a_call(open_broker: OpenBroker, browser: Browser, originals_url: str) -> None:
    async with two_tabs(open_broker, browser, originals_url) as (ann, bob):
        number = await ann.run("call", bob.id, {"metadata": "ring"})
        received = await bob.accept()
        about = await bob.about(received)
        assert (about["type"], about["peer"], about["metadata"]) == ("media", "ann", "ring")
        await bob.run("answer", received, True)
        for tab, place in ((ann, number), (bob, received)):
            media = await tab.wait_media(place)
            assert (media["tracks"], media["size"]) == (["audio", "video"], [160, 120])
            assert media["colour"][2] > 200
            await tab.wait_event(place, "willCloseOnRemote")
        await bob.close(received)
        await ann.wait_event(number, "close")


async def test_an_id_is_taken(open_broker: OpenBroker, browser: Browser, originals_url: str) -> None:
    async with open_broker() as broker:
        ann = await open_peer_tab(browser, originals_url, "ann", broker.options)
        other = await open_tab(browser, originals_url)
        assert await other.open("ann", broker.options) == "unavailable-id"
        await other.wait_peer_event("close", None)
        assert await ann.page.evaluate("peer.open")
        # It is free again when its owner is gone.
        await ann.page.evaluate("peer.destroy()")
        assert await ann.page.evaluate("events") == [["open", "ann"], ["disconnected", "ann"], ["close", None]]
        await wait_free(other, broker, "ann")


async def wait_free(tab: PeerTab, broker: Broker, peer_id: str) -> None:
    with trio.fail_after(PATIENCE):
        while (failed := await tab.open(peer_id, broker.options)) is not None:
            assert failed == "unavailable-id"


async def test_a_wrong_key(open_broker: OpenBroker, browser: Browser, originals_url: str) -> None:
    async with open_broker(key="secret", path="/app") as broker:
        tab = await open_tab(browser, originals_url)
        assert await tab.open("ann", {**broker.options, "key": "other"}) == "server-error"
        assert await tab.open(None, broker.options) is None


async def test_there_is_no_server(open_broker: OpenBroker, browser: Browser, originals_url: str) -> None:
    async with open_broker() as broker:
        await broker.stop()
        tab = await open_tab(browser, originals_url)
        assert await tab.open(None, broker.options) == "server-error"
        assert await tab.open("ann", broker.options) == "network"


async def test_the_server_is_lost_and_found(open_broker: OpenBroker, browser: Browser, originals_url: str) -> None:
    async with open_broker() as broker:
        ann = await open_peer_tab(browser, originals_url, "ann", broker.options)
        bob = await open_peer_tab(browser, originals_url, "bob", broker.options)
        number = await ann.connect("bob")
        received = await bob.accept()
        await broker.stop()
        for tab in (ann, bob):
            await tab.wait_peer_event("error", "network")
            await tab.wait_peer_event("disconnected", tab.id)
        await broker.start()
        # What is connected stays so; new connections need the broker.
        await ann.send(number, "'alive'")
        assert await bob.take(received, 1) == await bob.describe(["'alive'"])
        for tab in (ann, bob):
            assert await tab.run("reopen") is None
            assert await tab.page.evaluate("peer.id") == tab.id
        await bob.connect("ann")
        await ann.accept()


async def test_leaving_and_coming_back(open_broker: OpenBroker, browser: Browser, originals_url: str) -> None:
    async with two_tabs(open_broker, browser, originals_url, allow_discovery=True) as (ann, bob):
        name = bob.id
        await bob.page.evaluate("peer.disconnect()")
        await bob.wait_peer_event("disconnected", name)
        left = "[peer.id, peer.open, peer.disconnected, peer.destroyed]"
        assert await bob.page.evaluate(left) == [None, False, True, False]
        await bob.page.evaluate("void peer.connect('ann')")
        await bob.wait_peer_event("error", "disconnected")
        # One that comes back before the broker has noticed would not be told that it is open.
        await ann.page.wait_for("list().then((ids) => ids.length === 1)")
        assert await bob.run("reopen") is None
        await ann.connect(name)
        await bob.accept()


async def test_nobody_is_there(open_broker: OpenBroker, browser: Browser, originals_url: str) -> None:
    async with open_broker(expire_timeout=0.2, cleanup_interval=0.1) as broker:
        tab = await open_peer_tab(browser, originals_url, "ann", broker.options)
        await tab.page.evaluate("void peer.connect('nobody')")
        await tab.wait_peer_event("error", "peer-unavailable")
        assert await tab.page.evaluate("[peer.open, peer.destroyed]") == [True, False]


async def test_discovery(open_broker: OpenBroker, browser: Browser, originals_url: str) -> None:
    async with two_tabs(open_broker, browser, originals_url, allow_discovery=True) as (ann, bob):
        assert sorted(await ann.run("list")) == sorted(["ann", bob.id])
    async with open_broker() as broker:
        tab = await open_peer_tab(browser, originals_url, "ann", broker.options)
        assert await tab.run("list") == "server-error"
        await tab.wait_peer_event("disconnected", "ann")


@pytest.mark.parametrize("open_broker", ["npm"], indirect=True)
async def test_trio_relay_serve_takes_its_place(open_broker: OpenBroker, browser: Browser, originals_url: str) -> None:
    """Under an unchanged application, which names the same address, path and key."""
    async with open_broker(path="/myapp", key="k", allow_discovery=True) as broker:
        ann = await open_peer_tab(browser, originals_url, "ann", broker.options)
        await broker.stop()
        await ann.wait_peer_event("disconnected", "ann")
        arguments = ["--peerjs-path", "/myapp", "--peerjs-key", "k", "--peerjs-discovery", "--no-overlay", "--log-json"]
        async with serving("--listen", f"127.0.0.1:{broker.port}", *arguments):
            assert await ann.run("reopen") is None
            bob = await open_peer_tab(browser, originals_url, None, broker.options)
            assert sorted(await bob.run("list")) == sorted(["ann", bob.id])
            number = await bob.connect("ann", reliable=True)
            received = await ann.accept()
            await check_values(bob, number, ann, received, SAMPLES["Flipped"])
        await ann.wait_peer_event("error", "network")
