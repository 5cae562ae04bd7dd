"""One scenario against our relay server and against one in the manner of the original: what do clients see?"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
import trio_websocket

from tests.wsrelay.support import (
    ALICE,
    BOB,
    CAROL,
    PATIENCE,
    Clients,
    Relaying,
    error,
    routed,
    status,
    target_of,
    unwatch,
    upgrade_request,
    watch,
)

from .wsrelay.processes import JsServer, js_server, raw_clients

pytestmark = pytest.mark.interop

Scenario = Callable[[Clients], Awaitable[Any]]


@pytest.fixture(scope="module")
def server(node_modules: Path) -> Iterator[JsServer]:
    with js_server() as server:
        yield server


async def run(scenario: Scenario, server: JsServer | None, config: dict[str, Any]) -> Any:
    async with raw_clients(server, config) as clients:
        return await scenario(clients)


SCENARIOS: list[tuple[Scenario, dict[str, Any]]] = []


def scenario(**config: Any) -> Callable[[Scenario], Scenario]:
    """The transcript that the function returns has to be the same for both servers."""

    def register(function: Scenario) -> Scenario:
        SCENARIOS.append((function, config))
        return function

    return register


@scenario()
async def conversation(clients: Clients) -> Any:
    alice, bob = await clients.join(ALICE), await clients.join(BOB)
    text = '{"from":"pwa:alice123","to":"pwa:bobbobbob","payload":{"x":1},"extra":true}'
    spaced = ' {"to" : "pwa:bobbobbob",\t"payload":"\\ud800\\u00e9é😀", "from":"pwa:\\u0061lice123"}\r\n'
    twice = '{"from":"x","from":"pwa:alice123","to":1,"to":"pwa:bobbobbob"}'
    await alice.send(text, text.encode(), spaced, twice, routed(ALICE, ALICE, 1))
    return [await bob.frame() for _ in range(4)], await alice.frame()


@scenario(channels=["pwa", "a", "a/b"])
async def presence(clients: Clients) -> Any:
    alice = await clients.join(ALICE)
    await alice.send(watch(BOB), watch("a/b:12345678"), watch("no address"), watch(ALICE), watch(BOB), unwatch("x"))
    seen = [await alice.settle()]
    bob = await clients.join(BOB)
    await clients.join("/a/b/12345678")
    seen.append(await alice.settle())
    await bob.aclose()
    seen.append(await alice.receive())
    await alice.send(unwatch(BOB))
    await clients.join(BOB)
    return [*seen, await alice.settle()]


@scenario()
async def not_forwarded(clients: Clients) -> Any:
    alice, bob = await clients.join(ALICE), await clients.join(BOB)
    frames = [routed(BOB, BOB), routed(ALICE, "pwa:offline1"), routed("", ""), {"from": ALICE}, {"to": BOB}]
    await alice.send(*frames, [], {}, "null", "1", "text", "", '{"a":1,}', b"{", {"from": 1, "to": BOB}, watch(""))
    return await alice.settle(), await bob.settle()


@scenario()
async def dispatch_order(clients: Clients) -> Any:
    alice, bob = await clients.join(ALICE), await clients.join(BOB)
    frames = [{**routed(ALICE, BOB), **watch(BOB)}, {**routed("x", BOB), **watch(CAROL)}]
    frames += [{**routed(ALICE, BOB), **unwatch(BOB)}, {**routed(ALICE, BOB), "type": "watch", "address": 1}]
    await alice.send(*frames)
    return await alice.settle(), await bob.settle()


@scenario()
async def replaced(clients: Clients) -> Any:
    old = await clients.join(ALICE)
    bob = await clients.join(BOB)
    await bob.send(watch(ALICE))
    await clients.join(ALICE)
    return await old.end(), [await bob.receive(), await bob.receive()]


@scenario(channels=[{"name": "pwa", "onDuplicate": "reject"}])
async def rejected(clients: Clients) -> Any:
    alice = await clients.join(ALICE)
    other = await clients.connect(ALICE)
    seen = await other.end(), await alice.settle()
    await alice.aclose()
    return seen


@scenario(channels=["pwa", "a", "a/b"])
async def urls(clients: Clients) -> Any:
    targets = ["/", "/pwa", "/pwa/", "/pwa/short", "/pwa/" + "x" * 65, "/x/alice123", "/a/b", "/a/b/c/12345678"]
    targets += ["/pwa/alice%2D123", "/pwa/alice123/", "//pwa/alice123", "/pwa/alice.123", "/PWA/alice123"]
    refused = [await (await clients.connect(target)).end() for target in targets]
    taken = ["/pwa/alice123?x", "/pwa/bobbobbob?x=/#/", "/a/b/12345678", "/a/12345678", "/pwa/" + "x" * 64]
    return refused, [await (await clients.connect(target)).settle() for target in taken]


KEY = "good-key"


@scenario(keys=[KEY, "other-key"])
async def keys(clients: Clients) -> Any:
    queries = ["", "?key=", "?key=short", "?key=unknown-key", f"?key=x&key={KEY}", f"?KEY={KEY}", "?key=good%20key"]
    queries += [f"?key={'k' * 65}", "?key=good+key"]
    refused = [await (await clients.connect("/pwa/alice123" + query)).end() for query in queries]
    bad_url = await (await clients.connect(f"/nowhere/x?key={KEY}")).end()
    no_url = await (await clients.connect("/nowhere/x")).end()
    taken = [f"?key={KEY}", "?x=1&key=other%2Dkey&y", f"?key={KEY}&key=x"]
    joined = [await (await clients.connect("/pwa/alice123" + query)).settle() for query in taken]
    return refused, bad_url, no_url, joined


VERDICTS: dict[str, Any] = {
    "nothing_": {},
    "reason__": {"reason": "banned"},
    "all_of_it": {"reason": "pay first", "closeCode": 4402, "errorCode": "UNPAID"},
    "throwing": "throw",
}


@scenario(refuse=VERDICTS)
async def verification(clients: Clients) -> Any:
    return [await (await clients.connect(f"/pwa/{id}")).end() for id in VERDICTS]


@scenario(rateLimitMaxConnections=2)
async def connections(clients: Clients) -> Any:
    alice = await clients.join(ALICE)
    await clients.join(BOB)
    refused = [await (await clients.connect(target)).end() for target in ("/pwa/carol123", "/nowhere/x")]
    return refused, await alice.settle()


@scenario(rateLimitMaxMessages=5)
async def message_rate(clients: Clients) -> Any:
    alice, bob = await clients.connect(ALICE), await clients.connect(BOB)
    await alice.send(watch(BOB), "text", [], *[routed(ALICE, BOB, number) for number in range(5)], watch(BOB))
    told = [await alice.receive() for _ in range(5)]
    await bob.send(routed(BOB, ALICE, "still there"))
    return told, [await bob.receive() for _ in range(2)], await alice.receive()


@scenario(decode=["any"], channels=["any"])
async def ids(clients: Clients) -> Any:
    one, two = await clients.join("/any/caf%C3%A9"), await clients.join("/any/a:b%20c")
    await one.send(routed("any:café", "any:a:b c", 1))
    return await two.frame()


def parse(answer: bytes) -> tuple[int, dict[str, str], str]:
    """Status, headers and body of a response; without the headers that no client looks at."""
    head, _, body = answer.partition(b"\r\n\r\n")
    line, *headers = head.decode().split("\r\n")
    pairs = dict(header.lower().split(": ", 1) for header in headers)
    if pairs.get("transfer-encoding") == "chunked":
        # Each chunk is the line of its length, and a line of text: there are no others in these bodies.
        body = b"".join(body.split(b"\r\n")[1::2])
    shown = {name: pairs[name] for name in pairs if name.startswith(("content-type", "access-control"))}
    return int(line.split()[1]), shown, body.decode()


def asking(line: str, body: bytes = b"") -> bytes:
    head = f"{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@scenario()
async def pages(clients: Clients) -> Any:
    alice, bob = await clients.join(ALICE), await clients.join(BOB)
    await alice.send(watch(BOB), routed(ALICE, BOB))
    await bob.receive()
    await bob.aclose()
    assert [await alice.receive(), await alice.receive()] == [status(BOB, True), status(BOB, False)]
    shown = []
    lines = ["OPTIONS /", "OPTIONS /blob/12345678", "GET /nowhere", "GET /blob/short", "GET /blob/12345678"]
    lines += ["DELETE /blob/12345678", "POST /nowhere", "GET /blob/", "GET /blob/1/2345678"]
    shown += [parse(await clients.request(asking(line))) for line in lines]
    for body in (b"", b"text", 'é"\\😀'.encode(), b"x" * 8192, b"x" * 8193):
        shown.append(parse(await clients.request(asking("PUT /blob/12345678", body))))
        shown.append(parse(await clients.request(asking("GET /blob/12345678"))))
    shown += [parse(await clients.request(asking("DELETE /blob/12345678"))) for _ in range(2)]
    health = json.loads(parse(await clients.request(asking("GET /health")))[2])
    stats = json.loads(parse(await clients.request(asking("GET /stats")))[2])
    assert min(health.pop("uptime"), stats.pop("uptime"), stats.pop("startTime")) >= 0
    return shown, list(health), health, stats


@scenario(keys=[KEY], onInvalidKey="reject-upgrade")
async def rejected_upgrades(clients: Clients) -> Any:
    queries = ["", "?key=short", "?key=unknown-key", f"?key=x&key={KEY}"]
    refused = [parse(await clients.request(upgrade_request("/pwa/alice123" + query))) for query in queries]
    client = await clients.connect(f"/pwa/alice123?key={KEY}")
    nowhere = await clients.connect(f"/nowhere/x?key={KEY}")
    return refused, await client.settle(), await nowhere.end()


@pytest.mark.parametrize(("scenario", "config"), SCENARIOS, ids=[function.__name__ for function, _ in SCENARIOS])
async def test_clients_see_the_same(scenario: Scenario, config: dict[str, Any], server: JsServer) -> None:
    theirs = await run(scenario, server, config)
    assert await run(scenario, None, config) == theirs
    assert theirs


# What we do otherwise, and that the other server is one in the manner of the original


async def forwarding_as_binary(clients: Clients) -> Any:
    alice, bob = await clients.join(ALICE), await clients.join(BOB)
    await alice.send(routed(ALICE, BOB))
    await bob.receive()
    return bob.binary


async def after_a_replacement(clients: Clients) -> Any:
    old, bob = await clients.join(ALICE), await clients.join(BOB)
    await bob.send(watch(ALICE))
    new = await clients.join(ALICE)
    await old.end()
    told = await bob.settle()
    # What must not happen gets a tenth of a second to happen.
    with trio.move_on_after(0.1 if isinstance(clients, Relaying) else PATIENCE):
        while status(ALICE, False) not in told:
            told.append(await bob.receive())
    await bob.send(routed(BOB, ALICE))
    return await bob.settle(), await new.settle(), status(ALICE, False) in told


async def is_taken_in(clients: Clients, address: str) -> bool:
    client = await clients.connect(address)
    with suppress(trio_websocket.ConnectionClosed):
        await client.send(routed(address, address))
    return bool(await client.receive() == routed(address, address))


async def after_three_refusals(clients: Clients) -> Any:
    for _ in range(3):
        await (await clients.connect("/nowhere/x")).end()
    return await is_taken_in(clients, ALICE)


async def behind_a_header(clients: Clients) -> Any:
    for number in range(3):
        await clients.connect(f"/pwa/somebody{number}", [(b"X-Forwarded-For", b"10.0.0.1")])
    return await is_taken_in(clients, ALICE)


async def forged(clients: Clients) -> Any:
    alice, bob = await clients.join(ALICE), await clients.join(BOB)
    await alice.send(routed(ALICE, BOB, type="peer-status"), routed(ALICE, BOB, type="error"))
    return [frame["payload"]["code"] for frame in await alice.settle()], len(await bob.settle())


async def two_byte_characters(clients: Clients) -> Any:
    body = ("é" * 8000).encode()
    return parse(await clients.request(asking("PUT /blob/12345678", body)))[0]


async def unsent(clients: Clients) -> Any:
    alice = await clients.join(target_of(ALICE) + "?reports=1")
    await alice.send(routed(ALICE, BOB))
    return await alice.settle()


UNDELIVERED = error("UNDELIVERED", "The receiver is not connected", to=BOB, reason="offline")
DEFECTS: list[tuple[int, Scenario, Any, Any]] = [
    (1, forwarding_as_binary, 0, 1),
    (2, after_a_replacement, ([], [routed(BOB, ALICE)], False), ([], [], True)),
    (3, after_three_refusals, True, False),
    (8, behind_a_header, False, True),
    (9, two_byte_characters, 413, 200),
    (11, forged, (["INVALID_MESSAGE"] * 2, 0), ([], 2)),
    (12, unsent, [UNDELIVERED], []),
]


@pytest.mark.parametrize(("number", "scenario", "ours", "theirs"), DEFECTS, ids=[f"defect {row[0]}" for row in DEFECTS])
async def test_defects_of_the_original(
    number: int, scenario: Scenario, ours: Any, theirs: Any, server: JsServer
) -> None:
    config = {"rateLimitMaxConnections": 3}
    assert await run(scenario, server, config) == theirs
    assert await run(scenario, None, config) == ours
