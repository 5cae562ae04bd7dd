"""One scenario against our broker and against PeerServer of npm `peer`: clients see the same, byte for byte."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.peerjs.broker.support import Clients, message, signalling_target
from tests.wsrelay.raw_client import BINARY, CLOSE, PING, PONG, client_frame

from .broker_server import OriginalServer, clients_of, original_server

pytestmark = pytest.mark.interop

Scenario = Callable[[Clients], Awaitable[Any]]

SLOW = {"expire_timeout": 300, "cleanup_out_msgs": 50}
"""Milliseconds."""


@pytest.fixture(scope="module")
def original(node_modules: Path) -> Iterator[OriginalServer]:
    with original_server() as server:
        yield server


async def run(scenario: Scenario, server: OriginalServer | None, options: dict[str, Any]) -> Any:
    async with clients_of(server, options) as clients:
        return await scenario(clients)


SCENARIOS: list[tuple[Scenario, dict[str, Any]]] = []


def scenario(**options: Any) -> Callable[[Scenario], Scenario]:
    """The transcript that the function returns has to be the same for both servers."""

    def register(function: Scenario) -> Scenario:
        SCENARIOS.append((function, options))
        return function

    return register


# HTTP


def without(headers: dict[str, str]) -> dict[str, str]:
    """What means something to a client."""
    names = ("content-type", "vary", "location")
    return {name: value for name, value in headers.items() if name in names or name.startswith("access-control-")}


async def shown(clients: Clients, target: str, method: str = "GET", **headers: str) -> Any:
    """Status, headers and body; ids, which are random, by their form, and pages of errors by their status alone."""
    status, found, body = await clients.ask(target, method, **headers)
    if status == 404:
        return status, {name: value for name, value in without(found).items() if name != "content-type"}
    body = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", "UUID", body)
    return status, without(found), body


@scenario()
async def pages(clients: Clients) -> Any:
    targets = ["/", "/peerjs", "/peerjs/id", "/peerjs/id?ts=1&version=1.5.4", "/anything/id/", "/x/ID", "/peerjs/peers"]
    targets += ["/peerjs/peers/", "/a/b/id", "/x/y"]
    return [await shown(clients, target) for target in targets]


@scenario(path="/myapp")
async def pages_below_a_path(clients: Clients) -> Any:
    return [
        await shown(clients, target) for target in ("/", "/myapp", "/myapp/", "/myapp/x/id", "/x/id", "/myapps/x/id")
    ]


@scenario(path="/my/app/")
async def pages_below_a_path_with_a_slash(clients: Clients) -> Any:
    return [await shown(clients, target) for target in ("/my/app", "/my/app/", "/my/app/peerjs/id")]


@scenario(allow_discovery=True)
async def discovery(clients: Clients) -> Any:
    before = await shown(clients, "/peerjs/peers")
    for id in ("alice", "bob", "c d"):
        await clients.join(id, quoted=id.replace(" ", "%20"))
    return before, await shown(clients, "/key/peers")


@scenario()
async def origins(clients: Clients) -> Any:
    asked = {"Origin": "http://somewhere.test", "Access-Control-Request-Method": "GET"}
    return [
        await shown(clients, "/peerjs/id", Origin="http://somewhere.test"),
        await shown(clients, "/nowhere/at/all", Origin="http://somewhere.test"),
        await shown(clients, "/peerjs/id", "OPTIONS", **asked, **{"Access-Control-Request-Headers": "X-One, x-two"}),
        await shown(clients, "/peerjs/id", "OPTIONS"),
        await shown(clients, "/nowhere/at/all", "OPTIONS", **asked),
        await shown(clients, "/peerjs/id", "HEAD"),
        await shown(clients, "/peerjs/id", "POST"),
        await shown(clients, "/peerjs/a/t/offer", "POST"),
    ]


# Being let in


@scenario()
async def upgrades_elsewhere(clients: Clients) -> Any:
    query = "?key=peerjs&id=a&token=t"
    heads = [(await clients.upgrade(path + query))[0] for path in ("/", "/peerjs/", "/peerjs/id", "/peerjsx", "/x")]
    return [head.split()[1] for head in heads]


@scenario(path="/myapp", key="secret")
async def upgrades_below_a_path(clients: Clients) -> Any:
    heads = [(await clients.upgrade(path))[0] for path in ("/peerjs", "/myapp/secret", "/myapp", "/myapp/peerjs/")]
    wrong = await (await clients.connect("alice")).close_frame()
    await clients.join("alice", key="secret")
    return [head.split()[1] for head in heads], wrong[0]


@scenario()
async def refusals(clients: Clients) -> Any:
    seen = []
    for query in ("", "key=peerjs&id=a", "id=a&token=t", "key=peerjs&id=&token=t", "key=x&id=a&token=t", "key=x&id=a"):
        _, client = await clients.upgrade(f"/peerjs?{query}")
        seen.append((await client.close_frame())[0])
    await clients.join("alice", "secret")
    seen.append((await (await clients.connect("alice", "guess")).close_frame())[0])
    return seen


@scenario(concurrent_limit=2)
async def full(clients: Clients) -> Any:
    alice = await clients.join("alice")
    await clients.join("bob")
    seen = [(await (await clients.connect(id, "x")).close_frame())[0] for id in ("carol", "bob")]
    await alice.leave()
    await clients.join_in_time("carol")
    return seen


@scenario()
async def ids(clients: Clients) -> Any:
    quoted = "a%22%5C%0A+%C3%A9%2F%F0%9F%98%80%E2%80%A8%7F%01"
    alice = await clients.join('a"\\\n é/😀\u2028\x7f\x01', quoted=quoted)
    bob = await clients.join("b%ff", quoted="first&id=b%25%66f")
    broken = await clients.join("\ufffdx\ufffd", quoted="%ffx%c3")
    await bob.send(message("OFFER", alice.id), message("OFFER", broken.id))
    return await alice.text(), await broken.text()


# Messages


@scenario()
async def forwarding(clients: Clients) -> Any:
    alice, bob = await clients.join("alice"), await clients.join("bob")
    payload = {"sdp": {"type": "offer", "sdp": "v=0\r\n"}, "connectionId": "dc_1", "metadata": {"é": [1, None, "😀"]}}
    for type in ("OFFER", "ANSWER", "CANDIDATE", "LEAVE", "EXPIRE"):
        await alice.send(message(type, "bob", payload), message(type, "bob"), f'{{"dst":"bob","type":"{type}","a":1}}')
        await alice.send(f'{{"type":"{type}","src":"carol","dst":"bob","payload":null}}')
        await alice.send(f'{{"type":"{type}","dst":"x","dst":"bob","payload":1,"payload":""}}')
    return await alice.settle(), [await bob.text() for _ in range(25)]


@scenario()
async def strange_values(clients: Clients) -> Any:
    alice = await clients.join("alice")
    for payload in (
        "0",
        "false",
        '""',
        "[]",
        "{}",
        '"\\ud800"',
        '"\\u2028"',
        '"<\\/>"',
        '["\\ud83d\\ude00"]',
        '"é\u007f"',
    ):
        await alice.send(f'{{"type":"OFFER","dst":"alice","payload":{payload}}}')
    await alice.send(client_frame(b'{"type":"OFFER","dst":"alice","payload":"binary"}', BINARY))
    return [json.loads(frame) for frame in await alice.settle()]


@scenario()
async def not_forwarded(clients: Clients) -> Any:
    alice, bob = await clients.join("alice"), await clients.join("bob")
    frames = ["[]", "{}", '{"type":"OPEN","dst":"bob"}', '{"type":1,"dst":"bob"}', '{"type":"offer","dst":"bob"}']
    frames += ['{"type":"OFFER","dst":""}', '{"type":"OFFER"}', '{"type":"OFFER","dst":null}', '{"type":"EXPIRE"}']
    frames += ['{"type":"LEAVE","dst":"nobody"}', '{"type":"ERROR","dst":"bob"}', '{"type":"HEARTBEAT","dst":"bob"}']
    frames += ["null", "1", '"text"', "", "{", '{"a":1,}', "\ufeff{}", '{"type":"OFFER","dst":"bob"} x']
    await alice.send(*frames)
    return await alice.settle(), await bob.settle()


@scenario()
async def waiting(clients: Clients) -> Any:
    alice, bob = await clients.join("alice"), await clients.join("bob")
    await alice.send(message("OFFER", "carol", 1), message("CANDIDATE", "carol", 2), message("LEAVE", "carol"))
    await alice.settle()
    await bob.send(message("ANSWER", "carol", 3), message("EXPIRE", "carol"))
    await bob.settle()
    carol = await clients.join("carol")
    return await carol.settle(), await alice.settle(), await bob.settle()


@scenario(**SLOW)
async def waiting_in_vain(clients: Clients) -> Any:
    alice, bob = await clients.join("alice"), await clients.join("bob")
    await alice.send(
        message("OFFER", "carol", 1),
        message("CANDIDATE", "carol", 2),
        '{"type":"OFFER","dst":"da\\u0001ve\\ud800\\u00e9"}',
    )
    await alice.settle()
    await bob.send(message("OFFER", "carol", 3))
    await bob.settle()
    seen = [await alice.text(), await alice.text(), await bob.text()]
    carol = await clients.join("carol")
    return seen, await carol.settle(), await alice.settle()


@scenario()
async def leaving(clients: Clients) -> Any:
    alice, bob = await clients.join("alice"), await clients.join("bob")
    await alice.leave()
    seen = await bob.settle()
    alice = await clients.join_in_time("alice", "another")
    await alice.send(message("LEAVE"))
    await clients.join_in_time("alice", "third")
    await bob.send(message("OFFER", "bob"))
    return seen, await bob.settle()


@scenario(alive_timeout=400)
async def silent(clients: Clients) -> Any:
    alice = await clients.join("alice")
    frames, _ = await alice.close_frame()
    await clients.join_in_time("alice", "another")
    return frames


@scenario(alive_timeout=400)
async def closing(clients: Clients) -> Any:
    wrong = await clients.connect("alice", key="wrong")
    silent = await clients.join("alice")
    return await wrong.close_frame(), await silent.close_frame()


@pytest.mark.parametrize(("scenario", "options"), SCENARIOS, ids=[scenario.__name__ for scenario, _ in SCENARIOS])
async def test_both_servers_do_the_same(scenario: Scenario, options: dict[str, Any], original: OriginalServer) -> None:
    theirs = await run(scenario, original, options)
    assert await run(scenario, None, options) == theirs


# What differs, and why


async def coming_back(clients: Clients) -> Any:
    """Is a client that comes back told so, and is its old socket answered or closed?"""
    old = await clients.join("alice", "secret")
    new = await clients.connect("alice", "secret")
    frames = await new.settle()
    await old.send(client_frame(b"", PING))
    return frames, (await old.frame())[0]


async def numbers(clients: Clients) -> Any:
    """Is a payload the same text?"""
    alice = await clients.join("alice")
    await alice.send('{"type":"OFFER","dst":"alice","payload":{"b":1.0, "2":1, "b":2}}')
    return await alice.settle()


async def after_leave(clients: Clients) -> Any:
    """May somebody who gave the id back send under it?"""
    alice, bob = await clients.join("alice"), await clients.join("bob")
    await alice.send(message("LEAVE"))
    await clients.join_in_time("alice", "another")
    await alice.send(message("OFFER", "bob", "forged"), client_frame(b"", PING))
    assert (await alice.frame())[0] == PONG
    return len(await bob.settle())


async def a_wild_receiver(clients: Clients) -> Any:
    """What becomes of a message for somebody whose id nobody can have?"""
    alice = await clients.join("alice")
    await alice.send(message("OFFER", "x" * 1000))
    return len(await alice.settle() + await alice.settle())


DIFFERENCES: list[tuple[Scenario, Any, Any]] = [
    (coming_back, (['{"type":"OPEN"}'], CLOSE), ([], PONG)),
    (
        numbers,
        ['{"type":"OFFER","src":"alice","dst":"alice","payload":{"b":1.0, "2":1, "b":2}}'],
        ['{"type":"OFFER","src":"alice","dst":"alice","payload":{"2":1,"b":2}}'],
    ),
    (after_leave, 0, 1),
    (a_wild_receiver, 1, 0),
]


@pytest.mark.parametrize(("scenario", "ours", "theirs"), DIFFERENCES, ids=[row[0].__name__ for row in DIFFERENCES])
async def test_documented_differences(scenario: Scenario, ours: Any, theirs: Any, original: OriginalServer) -> None:
    assert await run(scenario, original, {}) == theirs
    assert await run(scenario, None, {}) == ours


async def test_a_bad_frame_is_an_error_of_its_sender_alone(original: OriginalServer) -> None:
    """In the original it is an event that ends the process unless somebody listens; here it is counted."""

    async def nonsense(clients: Clients) -> Any:
        alice, bob = await clients.join("alice"), await clients.join("bob")
        await alice.send("nonsense")
        return await alice.settle(), await bob.settle()

    original.errors()
    assert await run(nonsense, original, {}) == ([], [])
    assert original.errors() == 1
    assert await run(nonsense, None, {}) == ([], [])


def test_targets_are_what_original_clients_ask_for() -> None:
    assert signalling_target("alice", "t") == "/peerjs?key=peerjs&id=alice&token=t"
