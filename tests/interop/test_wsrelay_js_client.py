"""A JavaScript client in the manner of the original with our relay server, which it takes for the original's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.wsrelay.support import ALICE, BOB, eventually, relaying, routed, status, watch
from trio_relay.wsrelay import Hooks, Refusal

from .wsrelay.processes import JsClient, JsClients, JsServer, js_clients, js_server, our_options

pytestmark = pytest.mark.interop


@pytest.fixture
async def js(node_modules: Path) -> AsyncIterator[JsClients]:
    async with js_clients() as clients:
        yield clients


@pytest.mark.parametrize("browser", [False, True])
async def test_messages_in_both_directions_and_order(js: JsClients, browser: bool) -> None:
    async with relaying() as relay:
        url = relay.relay.urls[0]
        alice, bob = await js.open(url, "alice123", browser=browser), await js.open(url + "/", "bobbobbob")
        assert await alice.wait("opened") == [ALICE, False]
        for client in (alice, bob):
            await client.connect()
        payloads = [None, 1, "é😀", [], {"a": [{}]}, "x" * 100_000, *range(100)]
        for payload in payloads:
            await bob.do("send", to=ALICE, payload=payload)
        assert [await alice.wait("message") for _ in payloads] == [[BOB, payload] for payload in payloads]
        await alice.do("send", to=BOB, payload="back")
        assert await bob.wait("message") == [ALICE, "back"]
        await alice.do("send", to=ALICE, payload="self")
        assert await alice.wait("message") == [ALICE, "self"]


async def test_a_browser_reads_nothing_from_the_original(js: JsClients) -> None:
    # Why ours leave as text: the first of the original's defects.
    with js_server() as server:
        url = f"ws://127.0.0.1:{server.listen()}"
        alice, bob = await js.open(url, "alice123", browser=True), await js.open(url, "bobbobbob")
        for client in (alice, bob):
            await client.connect()
        await bob.do("send", to=ALICE, payload=1)
        await bob.settle()
        await alice.settle()
        assert alice.seen("message") == []
        await alice.do("send", to=BOB, payload=1)
        assert await bob.wait("message") == [ALICE, 1]


async def test_presence(js: JsClients) -> None:
    async with relaying() as relay:
        alice, bob = await js.open(relay.relay.urls[0], "alice123"), await js.open(relay.relay.urls[0], "bobbobbob")
        await alice.connect()
        await alice.do("watch", address=BOB)
        assert await alice.wait("peer-status") == [BOB, False]
        await bob.connect()
        assert await alice.wait("peer-status") == [BOB, True]
        await bob.do("close")
        assert await alice.wait("peer-status") == [BOB, False]
        await alice.do("unwatch", address=BOB)
        await alice.settle()
        await bob.connect()
        await alice.settle()
        assert alice.seen("peer-status") == []
        # Closing on purpose is no event.
        assert bob.seen("close") == []


async def test_a_client_that_is_replaced_is_told_and_the_new_one_stays(js: JsClients) -> None:
    async with relaying() as relay:
        url = relay.relay.urls[0]
        old, new = await js.open(url, "alice123", reconnect=False), await js.open(url, "alice123", reconnect=False)
        await old.connect()
        await new.connect()
        assert await old.wait("error") == ["REPLACED", "Replaced by new connection"]
        assert await old.wait("close") == []
        await new.do("send", to=ALICE, payload="to myself")
        assert await new.wait("message") == [ALICE, "to myself"]
        assert [peer.address for peer in relay.relay.registry] == [ALICE]


async def refused(client: JsClient) -> list[object]:
    """The error that a client is refused with, after it was open, and before it is closed."""
    await client.connect()
    error = await client.wait("error")
    assert await client.wait("close") == []
    return error


async def test_refusals_come_after_opening_as_errors(js: JsClients) -> None:
    config = {"keys": ["good-key"], "channels": [{"name": "pwa", "onDuplicate": "reject"}]}
    hooks = Hooks(verify_peer=lambda who: Refusal("banned", 4000, "BANNED") if who.address.id == "mallory1" else None)
    async with relaying(**{**our_options(config), "hooks": hooks}) as relay:
        options: dict[str, Any] = {"url": relay.relay.urls[0], "reconnect": False}
        none = await js.open(id="alice123", **options)
        bad = await js.open(id="alice123", key="bad-key1", **options)
        malformed = await js.open(id="alice123", key="bad key", **options)
        nowhere = await js.open(id="alice123", key="good-key", channel="nowhere", **options)
        banned = await js.open(id="mallory1", key="good-key", **options)
        good = await js.open(id="alice123", key="good-key", **options)
        again = await js.open(id="alice123", key="good-key", **options)
        assert await refused(none) == ["INVALID_KEY", "Missing or invalid access key"]
        assert await refused(bad) == ["INVALID_KEY", "Access key rejected"]
        assert await malformed.wait("thrown") == ["invalid key"]
        assert await refused(nowhere) == ["INVALID_URL", "Invalid connection URL"]
        assert await refused(banned) == ["BANNED", "banned"]
        await good.connect()
        await good.settle()
        assert await refused(again) == ["ID_IN_USE", "ID already connected on this channel"]


async def test_messages_beyond_the_rate_are_errors_and_the_client_stays(js: JsClients) -> None:
    async with relaying(rate_limit_max_messages=3) as relay:
        alice = await js.open(relay.relay.urls[0], "alice123")
        await alice.connect()
        for number in range(5):
            await alice.do("send", to=ALICE, payload=number)
        assert [await alice.wait("error") for _ in range(2)] == [["RATE_LIMITED", "Too many messages"]] * 2
        assert [await alice.wait("message") for _ in range(3)] == [[ALICE, number] for number in range(3)]
        assert alice.seen("close") == []


@pytest.mark.parametrize("kind", ["raw", "decode"])
async def test_ids_that_have_to_be_encoded(js: JsClients, kind: str) -> None:
    async with relaying(**our_options({"channels": ["any"], kind: ["any"]})) as relay:
        client = await js.open(relay.relay.urls[0], "café ☕/?", channel="any")
        await client.connect()
        address = "any:café ☕/?"
        await client.do("send", to=address, payload=1)
        if kind == "decode":
            assert await client.wait("message") == [address, 1]
        else:
            assert await client.wait("error") == ["INVALID_FROM", "From field does not match sender identity"]


async def test_it_comes_back_after_a_restart_on_the_same_port(js: JsClients) -> None:
    async with relaying(drain_timeout=0.05) as relay:
        port = relay.port
        alice = await js.open(relay.relay.urls[0], "alice123", maxReconnectDelay=1000)
        await alice.connect()
        await alice.do("watch", address=BOB)
        assert await alice.wait("peer-status") == [BOB, False]
        await relay.relay.aclose()
        assert await alice.wait("error") == ["SHUTTING_DOWN", "Server is shutting down"]
        assert await alice.wait("close") == []
    async with relaying(listen=f"127.0.0.1:{port}") as relay:
        await alice.wait("open")
        await eventually(lambda: relay.relay.registry.has("pwa", "alice123"), "Alice is back")
        # It forgot its watches, as the original does.
        bob = await relay.join(BOB)
        await bob.send(watch(ALICE), routed(BOB, ALICE, "hello again"))
        assert await bob.receive() == status(ALICE, True)
        assert await alice.wait("message") == [BOB, "hello again"]
        assert alice.seen("peer-status") == []


async def test_the_same_session_with_either_server(js: JsClients) -> None:
    async def session(url: str) -> list[object]:
        alice, bob = await js.open(url, "alice123"), await js.open(url, "bobbobbob")
        seen: list[object] = []
        await alice.connect()
        await alice.do("watch", address=BOB)
        seen.append(await alice.wait("peer-status"))
        await alice.do("send", to=BOB, payload="to nobody")
        await bob.connect()
        seen.append(await alice.wait("peer-status"))
        for number in range(10):
            await alice.do("send", to=BOB, payload=number)
        seen += [await bob.wait("message") for _ in range(10)]
        await bob.do("forget", event="message")
        await alice.do("send", to=BOB, payload="not heard")
        await alice.settle()
        await bob.settle()
        await bob.do("close")
        seen.append(await alice.wait("peer-status"))
        await alice.do("close")
        return [*seen, *bob.seen("message"), *alice.seen("close"), *alice.seen("error"), *bob.seen("error")]

    with js_server() as server:
        theirs = await session(f"ws://127.0.0.1:{server.listen()}")
    async with relaying() as relay:
        assert await session(relay.relay.urls[0]) == theirs
    assert len(theirs) == 13


def test_the_other_server_stops_when_told(node_modules: Path) -> None:
    with js_server() as server:
        assert isinstance(server, JsServer)
        port = server.listen()
        server.kill(port)
        assert server.listen(port=port) == port
