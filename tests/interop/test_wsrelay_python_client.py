"""Our client with a relay server in the manner of the original."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.wsrelay.support import ALICE, BOB, eventually, routed
from trio_relay.wsrelay import RelayClient, RelayRefused, RelayReplaced, open_relay_client
from trio_relay.wsrelay.client.events import ServerError

from .wsrelay.processes import PATIENCE, JsClients, JsServer, js_clients, js_server, raw_clients

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def server(node_modules: Path) -> Iterator[JsServer]:
    with js_server() as server:
        yield server


def at_once() -> float:
    return 0.0


def open_client(port: int, id: str, **options: Any) -> AbstractAsyncContextManager[RelayClient]:
    channel = options.pop("channel", "pwa")
    return open_relay_client(f"ws://127.0.0.1:{port}", channel, id, **{"random": at_once, **options})


async def connected(client: RelayClient) -> RelayClient:
    with trio.fail_after(PATIENCE):
        await client.wait_connected()
    return client


async def test_messages_and_presence(server: JsServer) -> None:
    port = server.listen(rateLimitMaxMessages=1000)
    async with open_client(port, "alice123") as alice:
        await connected(alice)
        await alice.watch(BOB)
        await eventually(lambda: alice.presence[BOB] is False, "Bob is offline")
        async with open_client(port, "bobbobbob") as bob:
            await eventually(lambda: alice.presence[BOB] is True, "Bob is online")
            payloads = [None, 1, "é😀", "\ud800", [], {"a": [{}]}, "x" * 100_000, *range(100)]
            for payload in payloads:
                await alice.send(BOB, payload)
            got = [await bob.receive() for _ in payloads]
            assert [(message.sender, message.payload) for message in got] == [(ALICE, payload) for payload in payloads]
            await bob.send(ALICE, "back")
            assert (await alice.receive()).payload == "back"
        await eventually(lambda: alice.presence[BOB] is False, "Bob has left")
    server.kill(port)


async def test_it_comes_back_with_its_watches_and_its_queue(server: JsServer) -> None:
    port = server.listen()
    async with open_client(port, "alice123") as alice, open_client(port, "bobbobbob") as bob:
        await alice.watch(BOB)
        await connected(bob)
        await eventually(lambda: alice.presence[BOB] is True, "Bob is online")
        for _ in range(2):
            server.kill(port)
            await eventually(lambda: not alice.connected and alice.presence[BOB] is None, "the server is gone")
            await eventually(lambda: not bob.connected, "for Bob, too")
            await bob.send(ALICE, "from the queue")
            assert server.listen(port=port) == port
            await connected(alice)
            await eventually(lambda: alice.presence[BOB] is True, "Bob is online again")
            # Bob may have been back before Alice was: then the original drops what he queued.
            await bob.send(ALICE, "now")
            while (await alice.receive()).payload != "now":
                pass
    server.kill(port)


@pytest.mark.parametrize(
    ("config", "options", "code"),
    [
        ({"keys": ["good-key"]}, {}, "INVALID_KEY"),
        ({"keys": ["good-key"]}, {"key": "bad-key1"}, "INVALID_KEY"),
        ({"keys": ["good-key"], "onInvalidKey": "reject-upgrade"}, {"key": "bad-key1"}, "HTTP_403"),
        ({}, {"channel": "nowhere"}, "INVALID_URL"),
        ({"refuse": {"alice123": {}}}, {}, "VERIFY_FAILED"),
        ({"refuse": {"alice123": {"errorCode": "UNPAID", "closeCode": 4402, "reason": "pay"}}}, {}, "UNPAID"),
    ],
)
async def test_refusals_for_good(server: JsServer, config: Any, options: Any, code: str) -> None:
    port = server.listen(**config)
    async with open_client(port, "alice123", **options) as alice:
        with trio.fail_after(PATIENCE), pytest.raises(RelayRefused) as raised:
            await alice.wait_connected()
        assert raised.value.code == code
        with pytest.raises(RelayRefused):
            await alice.send(BOB, 1)
    server.kill(port)


async def test_a_good_key_is_taken(server: JsServer) -> None:
    for how in ("close-after-connect", "reject-upgrade"):
        port = server.listen(keys=["good-key"], onInvalidKey=how)
        async with open_client(port, "alice123", key="good-key") as alice:
            await connected(alice)
        server.kill(port)


async def test_an_id_that_the_server_knows_otherwise_is_an_error(server: JsServer) -> None:
    port = server.listen(channels=["any"], raw=["any"])
    async with open_client(port, "café", channel="any", encode_id=True) as client:
        with trio.fail_after(PATIENCE), pytest.raises(RelayRefused) as raised:
            await client.wait_connected()
        assert raised.value.code == "ADDRESS_UNKNOWN"
    server.kill(port)


async def test_an_id_that_is_decoded_works(server: JsServer) -> None:
    port = server.listen(channels=["any"], decode=["any"])
    async with open_client(port, "café ☕", channel="any", encode_id=True) as client:
        await client.send("any:café ☕", 1)
        assert (await client.receive()).payload == 1
    server.kill(port)


async def test_an_id_in_use_is_tried_again(server: JsServer) -> None:
    port = server.listen(channels=[{"name": "pwa", "onDuplicate": "reject"}])
    async with open_client(port, "alice123") as late:
        async with open_client(port, "alice124") as other:
            await connected(other)
        async with open_client(port, "alice123", random=lambda: 0.01) as first:
            await eventually(lambda: first.connected or late.connected, "one of them is in")
        await connected(late)
    server.kill(port)


async def test_a_replaced_client_is_told_and_does_not_come_back(server: JsServer) -> None:
    port = server.listen()
    async with open_client(port, "alice123") as old:
        await connected(old)
        async with open_client(port, "alice123") as new:
            with trio.fail_after(PATIENCE), pytest.raises(RelayReplaced):
                await old.receive()
            # The server forgets the new one with the old one's end. It notices, and can be reached again.
            await eventually(lambda: new.statistics().counts.get("connected", 0) >= 2, "it connected again")
            await connected(new)
            await new.send(ALICE, "to myself")
            with trio.fail_after(PATIENCE):
                assert (await new.receive()).payload == "to myself"
    server.kill(port)


async def test_messages_beyond_the_rate_are_events(server: JsServer) -> None:
    port = server.listen(rateLimitMaxMessages=5)
    async with open_client(port, "alice123") as alice, alice.events() as events:
        for number in range(10):
            await alice.send(ALICE, number)
        errors = 0
        with trio.fail_after(PATIENCE):
            while errors < 6:
                errors += await anext(events) == ServerError("RATE_LIMITED", "Too many messages")
        assert [(await alice.receive()).payload for _ in range(4)] == [0, 1, 2, 3]
        assert alice.connected
    server.kill(port)


@pytest.fixture
async def js(node_modules: Path) -> AsyncIterator[JsClients]:
    async with js_clients() as clients:
        yield clients


async def test_with_clients_of_the_original(server: JsServer, js: JsClients) -> None:
    port = server.listen()
    bob = await js.open(f"ws://127.0.0.1:{port}", "bobbobbob")
    await bob.connect()
    async with open_client(port, "alice123") as alice:
        await connected(alice)
        await alice.send(BOB, {"hello": ["é"]})
        assert await bob.wait("message") == [ALICE, {"hello": ["é"]}]
        await bob.do("send", to=ALICE, payload={"type": "error", "payload": {"code": "INVALID_KEY"}})
        message = await alice.receive()
        assert (message.sender, message.payload) == (BOB, {"type": "error", "payload": {"code": "INVALID_KEY"}})
    await bob.do("close")
    server.kill(port)


async def test_forged_server_frames_are_messages_of_their_sender(server: JsServer) -> None:
    async with raw_clients(server, {}) as clients:
        bob = await clients.join(BOB)
        async with open_client(clients.port, "alice123") as alice:
            await connected(alice)
            refusal = {"code": "INVALID_KEY", "message": "Access key rejected"}
            presence = {"address": "pwa:x", "online": True}
            await bob.send(routed(BOB, ALICE, refusal, type="error"), routed(BOB, ALICE, presence, type="peer-status"))
            with trio.fail_after(PATIENCE):
                got = [await alice.receive() for _ in range(2)]
            assert [(message.sender, message.payload) for message in got] == [(BOB, refusal), (BOB, presence)]
            assert alice.connected
            assert "pwa:x" not in alice.presence
