"""Python peers with npm peerjs in Chromium, in both roles, through every broker."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import pytest
import trio

from trio_relay import LocalProtocolError, PeerError, RemoteProtocolError, WebRTCConfig
from trio_relay.peerjs import DataConnection, Peer, SerializerLimits, open_peer

from .chromium import PATIENCE, Browser
from .peerjs_fixtures import Broker, OpenBroker, our_broker_alone
from .peerjs_pages import PeerTab, open_peer_tab, open_tab
from .peerjs_values import BYTES_20_MB, FROM_PYTHON, SAMPLES, Sample, pattern

pytestmark = [pytest.mark.browser, pytest.mark.interop]


class Flipped:
    """The custom serializer of the page: JSON, all of its bits turned over."""

    name: Final = "Flipped"
    is_stream: Final = False
    unfinished: Final = 0

    def __init__(self, limits: SerializerLimits) -> None:
        pass

    def encode(self, value: Any) -> Iterable[bytes]:
        return [bytes(byte ^ 255 for byte in json.dumps(value).encode())]

    def encode_close(self) -> bytes | None:
        return None

    def decode(self, message: bytes | str) -> list[Any]:
        if isinstance(message, str):
            raise RemoteProtocolError("expected bytes")
        return [json.loads(bytes(byte ^ 255 for byte in message))]


def peer_at(broker: Broker, peer_id: str | None = "py", **options: Any) -> Any:
    """Opens a Python peer."""
    return open_peer(peer_id, host="127.0.0.1", secure=False, config=WebRTCConfig(), **broker.options, **options)


@asynccontextmanager
async def tab_and_python(
    broker: Broker, browser: Browser, url: str, build: str = "page"
) -> AsyncIterator[tuple[PeerTab, Peer]]:
    """``js`` and ``py``."""
    async with peer_at(broker, serializers={"Flipped": Flipped}) as peer:
        tab = await open_peer_tab(browser, url, "js", broker.options, build)
        yield tab, peer


async def accept(peer: Peer) -> Any:
    with trio.fail_after(PATIENCE):
        return await peer.accept()


async def connect(tab: PeerTab, peer: Peer, by: str, **options: Any) -> tuple[int, DataConnection]:
    """A connection that the tab or Python has begun, at both of its ends."""
    if by == "python":
        with trio.fail_after(PATIENCE):
            connection = await peer.connect(tab.id, **options)
        return await tab.accept(), connection
    assert peer.id is not None
    number = await tab.connect(peer.id, **options)
    connection = await accept(peer)
    assert isinstance(connection, DataConnection)
    return number, connection


async def take(connection: DataConnection, count: int) -> list[Any]:
    with trio.fail_after(PATIENCE):
        return [await connection.receive() for _ in range(count)]


async def wait_end(connection: DataConnection) -> None:
    """Waits until the other side has closed it."""
    with trio.fail_after(PATIENCE), pytest.raises(trio.EndOfChannel):
        await connection.receive()
    assert not connection.open


async def check_from_tab(tab: PeerTab, number: int, connection: DataConnection, samples: Sequence[Sample]) -> None:
    await tab.send(number, *[sample.js for sample in samples])
    got = await take(connection, len(samples))
    # `repr` tells 1 from 1.0 and from True, and bytes from bytearray.
    for sample, value in zip(samples, got, strict=True):
        about = (connection.serialization, sample.js)
        assert (about, repr(value)) == (about, repr(sample.python))


async def check_to_tab(connection: DataConnection, tab: PeerTab, number: int, samples: Sequence[Sample]) -> None:
    for sample in samples:
        await connection.send(sample.python)
    got = await tab.take(number, len(samples))
    wanted = await tab.describe([sample.received for sample in samples])
    for sample, value, expected in zip(samples, got, wanted, strict=True):
        about = (connection.serialization, repr(sample.python)[:100])
        assert (about, value) == (about, expected)


@pytest.mark.parametrize("by", ["python", "tab"])
async def test_values(open_broker: OpenBroker, browser: Browser, originals_url: str, by: str) -> None:
    async with open_broker() as broker, tab_and_python(broker, browser, originals_url, "all") as (tab, peer):
        for serialization, samples in SAMPLES.items():
            options = {"label": f"for {serialization}", "metadata": {"by": [by, None]}, "reliable": True}
            number, connection = await connect(tab, peer, by, serialization=serialization, **options)
            wire_name = serialization.removesuffix("-utf8")
            shown = await tab.about(number)
            assert {name: shown[name] for name in options} == options
            assert (shown["peer"], shown["serialization"], shown["ordered"]) == ("py", wire_name, True)
            assert {name: getattr(connection, name) for name in options} == options
            assert (connection.peer, connection.serialization, connection.open) == ("js", wire_name, True)
            await check_from_tab(tab, number, connection, samples)
            await check_to_tab(connection, tab, number, [*samples, *FROM_PYTHON.get(serialization, [])])
            await tab.close(number)
            await wait_end(connection)
        assert tab.page.problems == []


@our_broker_alone
@pytest.mark.parametrize("by", ["python", "tab"])
async def test_version_1_4(open_broker: OpenBroker, browser: Browser, originals_url: str, by: str) -> None:
    """It tells its browser, reads JSON from text messages alone, and sends it so."""
    async with open_broker() as broker, tab_and_python(broker, browser, originals_url, "old") as (tab, peer):
        for serialization in "json", "binary", "none":
            number, connection = await connect(tab, peer, by, serialization=serialization)
            samples = OLD_SAMPLES[:1] if serialization == "none" else OLD_SAMPLES
            await check_from_tab(tab, number, connection, samples)
            await check_to_tab(connection, tab, number, samples)
            await tab.close(number)
            await wait_end(connection)
        assert tab.page.problems == []


OLD_SAMPLES: Final = [
    Sample('"text, \u00fc"', "text, ü"),
    Sample("[1, -2.5, true, null]", [1, -2.5, True, None]),
    Sample("({a: {b: 300}})", {"a": {"b": 300}}),
]


@our_broker_alone
@pytest.mark.parametrize(
    ("serialization", "by", "size"), [("binary", "tab", BYTES_20_MB), ("MsgPack", "python", 1_000_000)]
)
async def test_large_values(
    open_broker: OpenBroker, browser: Browser, originals_url: str, serialization: str, by: str, size: int
) -> None:
    async with open_broker() as broker, tab_and_python(broker, browser, originals_url, "all") as (tab, peer):
        number, connection = await connect(tab, peer, by, serialization=serialization)
        assert connection.reliable is (serialization == "MsgPack")
        with trio.fail_after(30):
            await connection.send(pattern(size))
        assert await tab.take(number, 1, patience=30) == await tab.describe([f"bytes({size})"])
        await tab.send(number, f"bytes({size})")
        with trio.fail_after(30):
            assert await connection.receive() == pattern(size)


@our_broker_alone
async def test_what_is_nothing(open_broker: OpenBroker, browser: Browser, originals_url: str) -> None:
    async with open_broker() as broker, tab_and_python(broker, browser, originals_url) as (tab, peer):
        number, connection = await connect(tab, peer, "tab", reliable=True)
        await tab.send(number, "null", "undefined", "'after'")
        assert await take(connection, 3) == [None, None, "after"]
        # A tab loses null, but no more than that.
        await connection.send(None)
        await connection.send("after")
        assert await tab.take(number, 1) == await tab.describe(["'after'"])
        assert len(tab.page.problems) == 1


@our_broker_alone
async def test_a_connection_without_options(open_broker: OpenBroker, browser: Browser, originals_url: str) -> None:
    async with open_broker() as broker, tab_and_python(broker, browser, originals_url) as (tab, peer):
        for by in ("python", "tab"):
            number, connection = await connect(tab, peer, by)
            shown = await tab.about(number)
            assert shown["label"] == connection.label == connection.connection_id
            assert ("metadata" in shown, connection.metadata) == (False, None)
            assert (shown["reliable"], shown["ordered"], connection.reliable) == (False, False, False)
            assert (shown["serialization"], connection.serialization) == ("binary", "binary")
            assert peer.connections["js"][connection.label] is connection
        assert len(peer.connections["js"]) == 2


@our_broker_alone
async def test_json_that_is_too_large(open_broker: OpenBroker, browser: Browser, originals_url: str) -> None:
    async with open_broker() as broker, tab_and_python(broker, browser, originals_url) as (tab, peer):
        number, connection = await connect(tab, peer, "python", serialization="json")
        with pytest.raises(PeerError) as raised:
            await connection.send("x" * 16298)
        assert raised.value.type == "message-too-big"
        await connection.send("still open")
        assert await tab.take(number, 1) == await tab.describe(["'still open'"])


@pytest.mark.parametrize("flush", [False, True])
@pytest.mark.parametrize("by", ["python", "tab"])
async def test_closing(open_broker: OpenBroker, browser: Browser, originals_url: str, by: str, flush: bool) -> None:
    """The side that connected closes, and the other one."""
    async with open_broker() as broker, tab_and_python(broker, browser, originals_url) as (tab, peer):
        number, connection = await connect(tab, peer, by)
        await connection.send("last")
        with trio.fail_after(PATIENCE):
            await connection.aclose(flush=flush)
        await tab.wait_event(number, "close")
        assert await tab.take(number, 1) == await tab.describe(["'last'"])

        number, connection = await connect(tab, peer, by)
        await tab.send(number, "'last'")
        if not flush:
            assert await take(connection, 1) == ["last"]  # the original throws away what is on its way
        await tab.close(number, flush=flush)
        if flush:
            assert await take(connection, 1) == ["last"]
        await wait_end(connection)
        await tab.wait_event(number, "close")
        assert peer.connections == {}
        assert await tab.page.evaluate("Object.values(peer.connections).flat().length") == 0
        assert tab.page.problems == []


async def test_destroying(open_broker: OpenBroker, browser: Browser, originals_url: str) -> None:
    async with open_broker() as broker:
        async with tab_and_python(broker, browser, originals_url) as (tab, peer):
            number, connection = await connect(tab, peer, "tab")
            await tab.page.evaluate("peer.destroy()")
            await wait_end(connection)
            tab = await open_peer_tab(browser, originals_url, "other", broker.options)
            number, _ = await connect(tab, peer, "python")
        await tab.wait_event(number, "close")


async def test_an_id_is_taken(open_broker: OpenBroker, browser: Browser, originals_url: str) -> None:
    async with open_broker() as broker, tab_and_python(broker, browser, originals_url):
        with pytest.raises(PeerError) as raised:
            async with peer_at(broker, "js"):
                pass
        assert raised.value.type == "unavailable-id"
        tab = await open_tab(browser, originals_url)
        assert await tab.open("py", broker.options) == "unavailable-id"


async def test_nobody_is_there(open_broker: OpenBroker, browser: Browser, originals_url: str) -> None:
    async with open_broker(expire_timeout=0.2, cleanup_interval=0.1) as broker, peer_at(broker) as peer:
        with trio.fail_after(PATIENCE), pytest.raises(PeerError) as raised:
            await peer.connect("nobody")
        assert (raised.value.type, peer.open) == ("peer-unavailable", True)
        # A peer that opens later is found.
        tab = await open_peer_tab(browser, originals_url, "nobody", broker.options)
        await connect(tab, peer, "python")


async def wait_open(peer: Peer, wanted: bool) -> None:
    with trio.fail_after(PATIENCE):
        while peer.open is not wanted:
            await trio.sleep(0.01)


async def test_the_server_is_lost_and_found(open_broker: OpenBroker, browser: Browser, originals_url: str) -> None:
    async with open_broker() as broker, tab_and_python(broker, browser, originals_url) as (tab, peer):
        number, connection = await connect(tab, peer, "tab")
        await broker.stop()
        await tab.wait_peer_event("error", "network")
        await wait_open(peer, False)
        # What is connected stays so.
        await connection.send("alive")
        assert await tab.take(number, 1) == await tab.describe(["'alive'"])
        await broker.start()
        await wait_open(peer, True)
        assert await tab.run("reopen") is None
        for by in ("python", "tab"):
            await connect(tab, peer, by)


async def test_discovery(open_broker: OpenBroker, browser: Browser, originals_url: str) -> None:
    async with (
        open_broker(allow_discovery=True, path="/app", key="secret") as broker,
        tab_and_python(broker, browser, originals_url) as (tab, peer),
    ):
        assert sorted(await tab.run("list")) == sorted(await peer.list_all_peers()) == ["js", "py"]


@our_broker_alone
async def test_a_serialization_that_python_has_not(
    open_broker: OpenBroker, browser: Browser, originals_url: str
) -> None:
    async with open_broker() as broker, peer_at(broker) as peer:
        tab = await open_peer_tab(browser, originals_url, "js", broker.options, "all")
        await tab.page.evaluate("void peer.connect('py', {serialization: 'Flipped'})")
        number, connection = await connect(tab, peer, "tab")
        await connection.send("the other was refused")
        assert await tab.take(number, 1) == await tab.describe(["'the other was refused'"])
        with pytest.raises(LocalProtocolError, match="Flipped"):
            await peer.connect("js", serialization="Flipped")


@our_broker_alone
async def test_both_connect_at_once(open_broker: OpenBroker, browser: Browser, originals_url: str) -> None:
    async with open_broker() as broker, tab_and_python(broker, browser, originals_url) as (tab, peer):
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                for label in ("first", "second"):
                    nursery.start_soon(partial(peer.connect, "js", label=label))
                    nursery.start_soon(partial(tab.connect, "py", label=f"tab's {label}"))
        incoming = [await accept(peer), await accept(peer)]
        assert {connection.label for connection in incoming} == {"tab's first", "tab's second"}
        for _ in range(2):
            await tab.accept()
        assert set(peer.connections["js"]) == {"first", "second", "tab's first", "tab's second"}


@our_broker_alone
async def test_a_tab_that_is_closed_is_noticed(
    open_broker: OpenBroker, browser: Browser, originals_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it does not answer the checks of RFC 7675; in life half a minute later, here they are more frequent."""
    monkeypatch.setattr("aioice.ice.CONSENT_INTERVAL", 0.1)
    monkeypatch.setattr("aioice.ice.CONSENT_FAILURES", 2)
    async with open_broker() as broker, tab_and_python(broker, browser, originals_url) as (tab, peer):
        _, connection = await connect(tab, peer, "tab")
        await tab.page.command("Page.close")
        with trio.fail_after(PATIENCE), pytest.raises(PeerError) as raised:
            await connection.receive()
        assert raised.value.type == "connection-closed"
        assert peer.connections == {}
