"""The browser example with a relay, and peers behind it, that do what they should not."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

import pytest
import trio
import trio_websocket

from .chat import LINES, row, rows
from .chromium import PATIENCE, Page

pytestmark = pytest.mark.browser

RELAY_ID: Final = "a5" * 20
OTHER_ID: Final = "5c" * 20

SOURCES: Final[tuple[Any, ...]] = (
    None,
    "zz" * 20,
    {"type": "Buffer", "data": [1]},
    {"type": "Buffer", "data": [256] * 20},
    [0.5] * 20,
)
PATHS: Final[tuple[Any, ...]] = ("x", [3], [OTHER_ID] * 21)
NONCES: Final[tuple[Any, ...]] = (5, "x" * 65)
WRONG: Final[tuple[dict[str, Any], ...]] = (
    *({"from": source} for source in SOURCES),
    *({"path": path} for path in PATHS),
    *({"nonce": nonce} for nonce in NONCES),
    {"to": 7},
)
BODIES: Final[tuple[Any, ...]] = (None, [], {"type": 3}, {"type": "__proto__"}, {"type": "constructor"}, {})
DATA: Final[tuple[Any, ...]] = (None, 1, {"candidate": 1}, {"sdp": "x", "type": "answer"}, [], {"renegotiate": True})


class Rogue:
    """A relay that sends whatever a test wants; it tells the page that `OTHER_ID` exists.

    Attributes:
        got: the envelopes that the page sent.
        left: set when the page has closed the connection.
    """

    def __init__(self, connection: trio_websocket.WebSocketConnection, own: str) -> None:
        self._connection = connection
        self._own = own
        self._number = 0
        self.got: Final[list[dict[str, Any]]] = []
        self.left: Final = trio.Event()

    async def raw(self, *frames: str | bytes) -> None:
        for frame in frames:
            await self._connection.send_message(frame)

    async def say(self, body: object, *, source: object = OTHER_ID, **changes: object) -> None:
        """An envelope for the page, or one that is wrong in some way."""
        self._number += 1
        envelope = {"to": self._own, "from": source, "path": [OTHER_ID, RELAY_ID], "nonce": str(self._number)}
        await self.raw(json.dumps({**envelope, "data": body, **changes}))

    async def read(self) -> None:
        with suppress(trio_websocket.ConnectionClosed):
            while True:
                self.got.append(json.loads(await self._connection.get_message()))
        self.left.set()

    def bodies(self, kind: str, to: str = OTHER_ID) -> list[dict[str, Any]]:
        """The bodies of a type that the page has sent to an id."""
        return [envelope["data"] for envelope in self.got if (envelope["data"]["type"], envelope["to"]) == (kind, to)]

    async def wait(self, kind: str, to: str = OTHER_ID) -> dict[str, Any]:
        """The first of these."""
        with trio.fail_after(PATIENCE):
            while not (found := self.bodies(kind, to)):
                await trio.sleep(0.01)
        return found[0]


async def with_rogue(page: Page, chat_url: str, script: Callable[[Rogue], Awaitable[None]]) -> None:
    """Opens the page at a rogue relay, and does what a test says."""
    done = trio.Event()

    async def handle(request: trio_websocket.WebSocketRequest) -> None:
        connection = await request.accept()
        own = bytes(json.loads(await connection.get_message())["data"]).hex()
        async with trio.open_nursery() as nursery:
            rogue = Rogue(connection, own)
            await rogue.raw(json.dumps(RELAY_ID))
            nursery.start_soon(rogue.read)
            await script(rogue)
            nursery.cancel_scope.cancel()
        done.set()

    async with trio.open_nursery() as nursery:
        serve = partial(trio_websocket.serve_websocket, handle, "127.0.0.1", 0, ssl_context=None)
        server: trio_websocket.WebSocketServer = await nursery.start(serve)
        await page.visit(f"{chat_url}?relay=ws://127.0.0.1:{server.port}")
        with trio.fail_after(3 * PATIENCE):
            await done.wait()
        nursery.cancel_scope.cancel()
    assert page.problems == []


async def test_garbage_changes_nothing(page: Page, chat_url: str) -> None:
    async def script(rogue: Rogue) -> None:
        await rogue.raw("", "{", "[]", "null", '"x"', "1e999", b"\xff\xfe", b"[]", "[" * 100_000, f'"{"x" * 300_000}"')
        for wrong in WRONG:
            await rogue.say({"type": "user", "data": "not shown"}, **wrong)
        for body in BODIES:
            await rogue.say(body)
        for data in DATA:
            for kind in ("findPeers", "foundPeers", "handshake-answer", "signal", "chat-name"):
                await rogue.say({"type": kind, "data": data})
        await rogue.say({"type": "foundPeers", "data": ["x", None, *(f"{number:040x}" for number in range(500))]})
        await rogue.say({"type": "user", "data": "shown"}, source={"type": "Buffer", "data": [0x5C] * 20})
        await page.wait_for(f"{LINES}.length")
        assert await page.evaluate(LINES) == ["Peer 5c5c5c to you · relayed, 1 relay: shown"]
        assert await page.evaluate("peer.peers.size") == 50

    await with_rogue(page, chat_url, script)


async def test_a_negotiation_that_fails_is_the_end_of_nothing_else(page: Page, chat_url: str) -> None:
    async def script(rogue: Rogue) -> None:
        await rogue.say({"type": "chat-name", "data": "Eve"})
        await rogue.say({"type": "handshake-offer"})
        assert (await rogue.wait("handshake-answer"))["data"] == {"ws": None, "wrtc": True}
        await rogue.say({"type": "signal", "data": {"candidate": {"candidate": "candidate:nonsense", "sdpMid": "0"}}})
        await rogue.say({"type": "signal", "data": {"type": "offer", "sdp": "v=0\r\ngarbage"}})
        await page.wait_for(f"{LINES}.some((line) => line.startsWith('No direct connection with Eve: '))")
        await rogue.say({"type": "user", "data": "words"})
        await page.wait_for(f"{LINES}.includes('Eve to you · relayed, 1 relay: words')")

        await page.evaluate(f"{row('Eve')}.querySelector('button').click()")
        await rogue.wait("handshake-offer")
        await rogue.say({"type": "handshake-answer", "data": {"ws": None, "wrtc": False}})
        await page.wait_for(f"{LINES}.includes('No direct connection with Eve: it has no WebRTC.')")

    await with_rogue(page, chat_url, script)


async def test_who_does_not_answer_is_gone(page: Page, chat_url: str) -> None:
    """First a peer, then the relay."""

    async def script(rogue: Rogue) -> None:
        await rogue.say({"type": "chat-name", "data": "Eve"})
        await page.wait_for(f"{rows()}.includes('Eve')")
        await page.evaluate("for (let number = 0; number < 4; number += 1) peer.ask()")
        assert await page.evaluate(rows()) == ["Eve"]
        await rogue.say({"type": "foundPeers", "data": []}, source=RELAY_ID)
        await page.wait_for(f"{rows()}.length === 2")
        await page.evaluate("peer.ask()")
        assert await page.evaluate(LINES) == ["Eve left."]
        await page.evaluate("for (let number = 0; number < 4; number += 1) peer.ask()")
        with trio.fail_after(PATIENCE):
            await rogue.left.wait()

    await with_rogue(page, chat_url, script)


async def test_a_program_that_could_be_dialled_takes_a_direct_connection_later(page: Page, chat_url: str) -> None:
    """It offers its address first; the page waits for what comes then."""

    async def script(rogue: Rogue) -> None:
        await rogue.say({"type": "chat-name", "data": "Eve"})
        await page.wait_for(f"{rows()}.includes('Eve')")
        await page.evaluate(f"{row('Eve')}.querySelector('button').click()")
        await rogue.wait("handshake-offer")
        await rogue.say({"type": "handshake-answer", "data": {"ws": "ws://127.0.0.1:1", "wrtc": False}})
        await rogue.say({"type": "handshake-answer", "data": {"ws": None, "wrtc": True}})
        assert (await rogue.wait("signal"))["data"]["type"] == "offer"
        assert await page.evaluate(f"{row('Eve')}.querySelector('button').textContent") == "Connecting…"

    await with_rogue(page, chat_url, script)


async def test_of_two_offers_that_cross_the_smaller_id_counts(page: Page, chat_url: str) -> None:
    small, large = "00" * 20, "ff" * 20

    async def script(rogue: Rogue) -> None:
        for peer, name in ((large, "Large"), (small, "Small")):
            await rogue.say({"type": "chat-name", "data": name}, source=peer)
            await page.wait_for(f"{rows()}.includes({name!r})")
            await page.evaluate(f"{row(name)}.querySelector('button').click()")
            await rogue.wait("handshake-offer", peer)
            await rogue.say({"type": "handshake-offer"}, source=peer)
        await rogue.wait("handshake-answer", small)
        assert rogue.bodies("handshake-answer", large) == []

    await with_rogue(page, chat_url, script)


async def test_an_answer_without_an_offer_leads_to_nothing(page: Page, chat_url: str) -> None:
    async def script(rogue: Rogue) -> None:
        await rogue.say({"type": "handshake-answer", "data": {"ws": "ws://127.0.0.1:1", "wrtc": True}})
        await rogue.say({"type": "findPeers", "data": OTHER_ID})
        await rogue.wait("foundPeers")
        assert await page.evaluate(f"peer.peers.get({OTHER_ID!r}).link === null")

    await with_rogue(page, chat_url, script)


async def test_candidates_may_come_before_the_offer(page: Page, chat_url: str) -> None:
    """One side knows no candidate of the other, and so depends on its own, which the other got first."""
    await page.visit(f"{chat_url}?relay=nowhere:1")
    script = """new Promise((done) => {
      const signals = [];
      const nothing = { frame() {}, close() {}, open() {} };
      const answerer = new DirectLink(false, {
        ...nothing, signal: (signal) => signal.sdp && offerer.take({ ...signal, sdp: bare(signal.sdp) }), frame: done,
      });
      const bare = (sdp) => sdp.split("\\r\\n").filter((line) => !line.startsWith("a=candidate")).join("\\r\\n");
      const offerer = new DirectLink(true, {
        ...nothing, open: () => offerer.send("through"), signal: (signal) => signals.push(signal),
      });
      setTimeout(() => {
        const offer = signals.find(({ sdp }) => sdp);
        signals.filter(({ candidate }) => candidate).forEach((signal) => answerer.take(signal));
        answerer.take({ ...offer, sdp: bare(offer.sdp) });
      }, 300);
    })"""
    assert await page.evaluate(script) == "through"
