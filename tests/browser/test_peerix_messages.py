"""Messages between a room here and a page of our own in Chromium: all kinds, large ones, and those that are stopped."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import trio

from trio_relay.exceptions import TransferFailed
from trio_relay.peerix.options import RoomLimits
from trio_relay.peerix.transfers.limits import TransferLimits
from trio_relay.peerix.transfers.message import Message

from .chromium import PATIENCE, Browser, BrowserError
from .peerix_pages import RoomPair, open_pair
from .site import serve_folders

pytestmark = pytest.mark.browser

HERE: Final = Path(__file__).parent
MESSAGES: Final[list[Any]] = [
    "hällo",
    "",
    "x" * 16321,
    {"a": [1, None, "ü"]},
    0,
    None,
    b"\x00\x01\xff",
    b"",
]
SCRIPTS: Final = [
    ("'hällo'", "text", "hällo"),
    ("''", "text", ""),
    ("'é'.repeat(20000)", "text", "é" * 20000),
    ("{a: [1, null, 'ü']}", "json", {"a": [1, None, "ü"]}),
    ("undefined", "json", None),
    ("Uint8Array.of(0, 1, 255)", "bytes", b"\x00\x01\xff"),
    ("new Uint8Array()", "bytes", b""),
    ("new Blob(['blob'])", "blob", b"blob"),
    ("new Blob()", "blob", b""),
]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve_folders({"pages": HERE / "pages"}) as url:
        yield url


@pytest.mark.parametrize("polite", [True, False])
async def test_messages_of_all_kinds(browser: Browser, url: str, polite: bool) -> None:
    async with open_pair(browser, url, polite=polite) as pair:
        for number, message in enumerate(MESSAGES):
            info = {"number": number, "filler": "ü" * 4000}
            await pair.room.send(message, label="chat", info=info)
            came = await pair.tab.next()
            kind = "text" if isinstance(message, str) else "bytes" if isinstance(message, bytes) else "json"
            value = list(message) if isinstance(message, bytes) else message
            assert (came["type"], came["value"], came["info"], came["label"]) == (kind, value, info, "chat")
        for script, kind, value in SCRIPTS:
            await pair.tab.do(f"await room.send('chat', {script}, {{info: {{from: 'page'}}}})")
            theirs = await pair.next()
            assert (theirs.type, await theirs.read(), theirs.info) == (kind, value, {"from": "page"})
        assert pair.room.statistics().counts.get("transfer_packets_bad", 0) == 0


async def hashed(message: Message) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    async for chunk in message:
        digest.update(chunk)
        size += len(chunk)
    return size, digest.hexdigest()


async def test_twenty_megabytes_both_ways_at_once(browser: Browser, url: str) -> None:
    size = 20 * 1024 * 1024
    data = random.Random(8).randbytes(size)
    async with open_pair(browser, url) as pair:
        await pair.tab.begin(
            f"const bytes = randomBytes({size}), seen = [];"
            "await room.send('chat', bytes, {onProgress: (sent, total) => void seen.push([sent, total])});"
            "return [seen.length, seen.at(-1), await sha256(bytes)];"
        )
        transfer = pair.room.send(data, label="chat", info={"filename": "x"})
        theirs = await pair.next()
        heard: list[tuple[int, str]] = []
        async with trio.open_nursery() as nursery:

            async def listen() -> None:
                heard.append(await hashed(theirs))

            nursery.start_soon(listen)
            with trio.fail_after(60):
                seen = [progress async for progress in transfer]
                await transfer
        assert [progress.current for progress in seen] == sorted(progress.current for progress in seen)
        assert (seen[-1].member, seen[-1].current, seen[-1].total, seen[-1].done) == (pair.tab.id, size, size, True)
        assert len(seen) > 20
        came = await pair.tab.next(patience=60)
        assert came["value"] == [size, hashlib.sha256(data).hexdigest()]
        steps, last, digest = await pair.tab.result()
        assert heard == [(size, digest)]
        assert (steps, last) == (1286, [size, size])


async def still_works(pair: RoomPair) -> None:
    """What follows a message that was stopped arrives in both directions."""
    await pair.room.send("after", label="chat")
    assert (await pair.tab.next())["value"] == "after"
    await pair.tab.do("await room.send('chat', 'after')")
    assert await (await pair.next()).read() == "after"


async def test_messages_that_are_stopped_here(browser: Browser, url: str) -> None:
    async with open_pair(browser, url) as pair:
        transfer = pair.room.send(bytes(20_000_000), label="chat")
        async for progress in transfer:
            if progress.current > 1_000_000:
                transfer.cancel()
        with pytest.raises(TransferFailed, match="cancelled") as failed:
            await transfer
        assert (failed.value.member, failed.value.reason) == (pair.tab.id, "cancelled")
        stopped = await pair.tab.next()
        assert (stopped["error"], 1_000_000 < stopped["received"] < 20_000_000) == ("Aborted by sender", True)
        await still_works(pair)

        await pair.tab.begin("await room.send('chat', new Uint8Array(20000000))")
        theirs = await pair.next()
        size = 0
        async for chunk in theirs:
            size += len(chunk)
            if size > 1_000_000:
                break
        theirs.cancel()
        with pytest.raises(BrowserError, match="Aborted by receiver"):
            await pair.tab.result()
        await still_works(pair)


@pytest.mark.parametrize("wrongly", [False, True], ids=["as it should be", "as the original does"])
async def test_messages_that_the_page_stops(browser: Browser, url: str, wrongly: bool) -> None:
    async with open_pair(browser, url) as pair:
        options = f"{{wrongly: {str(wrongly).lower()}, onProgress: (sent) => sent > 1000000 && 'abort'}}"
        await pair.tab.begin(f"await room.send('chat', new Uint8Array(20000000), {options})")
        theirs = await pair.next()
        with pytest.raises(TransferFailed) as failed, trio.fail_after(PATIENCE):
            await hashed(theirs)
        assert (failed.value.reason, theirs.received) == ("aborted-by-sender", 16320 * 62)
        with pytest.raises(BrowserError, match="aborted here"):
            await pair.tab.result()
        await still_works(pair)


async def test_a_message_that_the_page_does_not_want(browser: Browser, url: str) -> None:
    async with open_pair(browser, url) as pair:
        await pair.tab.run("room.abortAfter = 1000000")
        transfer = pair.room.send(bytes(20_000_000), label="chat")
        with pytest.raises(TransferFailed) as failed, trio.fail_after(PATIENCE):
            await transfer
        assert (failed.value.member, failed.value.reason) == (pair.tab.id, "aborted-by-receiver")
        assert transfer.progress[pair.tab.id].current < 20_000_000
        assert (await pair.tab.next())["error"] == "aborted here"
        await still_works(pair)


async def test_an_abort_of_the_original_that_may_be_meant_for_ours(browser: Browser, url: str) -> None:
    """Messages with the same number go both ways: ours is stopped, and theirs when nothing more comes of it."""
    limits = RoomLimits(transfers=TransferLimits(idle_timeout=0.5))
    async with open_pair(browser, url, limits=limits) as pair:
        options = "{wrongly: true, onProgress: (sent) => sent > 1000000 && 'abort'}"
        await pair.tab.begin(f"await room.send('chat', new Uint8Array(20000000), {options})")
        transfer = pair.room.send(bytes(60_000_000), label="chat")
        with pytest.raises(TransferFailed) as theirs, trio.fail_after(PATIENCE):
            await hashed(await pair.next())
        with pytest.raises(TransferFailed) as ours, trio.fail_after(PATIENCE):
            await transfer
        assert (theirs.value.reason, ours.value.reason) == ("timeout", "aborted-by-receiver")
        with pytest.raises(BrowserError, match="aborted here"):
            await pair.tab.result()
        assert (await pair.tab.next())["error"] == "Aborted by sender"
        await still_works(pair)


@pytest.mark.parametrize("polite", [True, False])
async def test_channels_that_carry_messages_as_they_are(browser: Browser, url: str, polite: bool) -> None:
    async with open_pair(browser, url, polite=polite) as pair:
        pair.room.open_channel("lossy", ordered=False, max_retransmits=0)
        await pair.tab.run("room.open('named', {protocol: 'p', maxPacketLifeTime: 500})")
        await pair.tab.page.wait_for("[...room.members.values()][0].channels.size == 3")
        for label, expected in (("lossy", [False, "", 0, None]), ("named", [True, "p", None, 500])):
            raw = f"[...room.members.values()][0].channels.get('{label}').channel"
            properties = ("ordered", "protocol", "maxRetransmits", "maxPacketLifeTime")
            assert await pair.tab.run(f"{json.dumps(properties)}.map((name) => {raw}[name])") == expected
            channel = pair.member.channels[label]
            await channel.wait_open()
            await channel.send(b"\x01\x02")
            await channel.send("text")
            got = [await pair.tab.next(), await pair.tab.next()]
            assert sorted((one["label"], str(one["value"])) for one in got) == [(label, "[1, 2]"), (label, "text")]
            await pair.tab.page.wait_for(f"{raw}.readyState === 'open'")
            await pair.tab.run(f"(c => {{ c.send('text'); c.send(Uint8Array.of(3)); }})({raw})")
            theirs = [await pair.next(), await pair.next()]
            assert sorted([(one.label, one.type, str(await one.read())) for one in theirs]) == [
                (label, "bytes", "b'\\x03'"),
                (label, "text", "text"),
            ]
            assert all(one.raw for one in theirs)
        with pytest.raises(TransferFailed) as failed:
            await pair.room.send("hello", label="lossy")
        assert failed.value.reason == "unsupported-channel"
        # Only the polite side asks; whether for "chat", too, depends on who was faster.
        assert await pair.tab.count("requests") in ((1, 2) if polite else (0,))
        pair.room.close_channel("named")
        await pair.tab.page.wait_for("![...room.members.values()][0].channels.has('named')")
        await pair.tab.run("[...room.members.values()][0].channels.get('lossy').channel.close()")
        with trio.fail_after(PATIENCE):
            while "lossy" in pair.member.channels:
                await trio.sleep(0.01)
        await still_works(pair)


async def test_text_on_a_channel_of_pieces_comes_as_it_is(browser: Browser, url: str) -> None:
    async with open_pair(browser, url) as pair:
        await pair.tab.run("[...room.members.values()][0].channels.get('chat').channel.send('plain')")
        theirs = await pair.next()
        assert (theirs.raw, theirs.type, await theirs.read()) == (True, "text", "plain")
        await still_works(pair)
