"""Our nodes among processes of npm peer-relay 0.0.2; no original may end before it is told to."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

import trio_relay
from trio_relay import Limits, Node, NodeId, parse_node_id
from trio_relay.transports.dial import dial_websocket
from trio_relay.transports.websocket import WebSocketConnection
from trio_relay.wire.envelope import build_id_frame

from ..node.processes import NodeProcess, run_node
from .peers import ABSENT, PATIENCE, Message, Original, Originals, eventually, open_originals

pytestmark = pytest.mark.interop

SEND_AGAIN = 1.0
"""Datagrams may be lost while a network settles."""


@pytest.fixture
async def originals(node_modules: Path) -> AsyncIterator[Originals]:
    async with open_originals() as originals:
        yield originals


def open_ours(*bootstrap: str, listen: str | None = "127.0.0.1:0", limits: Limits | None = None) -> Any:
    return trio_relay.open_node(listen, bootstrap, legacy=True, limits=limits)


class Ours:
    """Nodes of ours that come and go one by one."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._left: dict[NodeId, tuple[trio.Event, trio.Event]] = {}

    async def start(self, *bootstrap: str) -> Node:
        """A new node."""
        node: Node = await self._nursery.start(self._hold, bootstrap)
        return node

    async def _hold(self, bootstrap: tuple[str, ...], *, task_status: trio.TaskStatus[Node]) -> None:
        async with open_ours(*bootstrap) as node:
            leave, gone = self._left[node.id] = trio.Event(), trio.Event()
            task_status.started(node)
            await leave.wait()
        gone.set()

    async def leave(self, *nodes: Node) -> None:
        """Closes nodes; returns when they are gone."""
        for node in nodes:
            self._left[node.id][0].set()
        for node in nodes:
            await self._left.pop(node.id)[1].wait()

    async def leave_all(self) -> None:
        """Closes what is left."""
        for leave, _ in self._left.values():
            leave.set()


@pytest.fixture
async def ours(nursery: trio.Nursery) -> AsyncIterator[Ours]:
    ours = Ours(nursery)
    yield ours
    await ours.leave_all()


async def receive(node: Node) -> trio_relay.Message:
    with trio.fail_after(PATIENCE):
        return await node.receive()


async def wait_linked(node: Node, *peers: NodeId) -> None:
    await eventually(lambda: node.links.keys() >= set(peers), "a link")


class Detached(NodeProcess):
    """One of ours in a process of its own."""

    async def send(self, to: NodeId, data: Any) -> None:
        assert self._process.stdin is not None
        await self._process.stdin.send_all(json.dumps({"send": {"to": to.hex(), "data": data}}).encode() + b"\n")

    async def receive(self) -> Message:
        event = await self.event("message")
        return Message(event["data"], parse_node_id(event["from"]))


@asynccontextmanager
async def open_detached() -> AsyncIterator[Detached]:
    """A process; leaving kills it."""
    async with run_node("--legacy") as process:
        detached = Detached(process)
        await detached.start()
        yield detached


class Party:
    """One of ours, or an original, in a network where everybody sends to everybody."""

    def __init__(self, peer: Node | Original | Detached) -> None:
        self.peer = peer
        self.got: Counter[tuple[str, int]] = Counter()

    @property
    def id(self) -> NodeId:
        return self.peer.id

    async def send(self, to: NodeId, attempt: int) -> None:
        await self.peer.send(to, [self.id.hex(), attempt])

    async def collect(self) -> None:
        """Notes every message: by its sender, as the network says, which must be who wrote it."""
        while True:
            message = await (self.peer.receive() if isinstance(self.peer, Node) else self._wait(self.peer))
            data: Any = message.data
            sender, attempt = data
            assert sender == message.sender.hex()
            self.got[sender, attempt] += 1

    async def _wait(self, peer: Original | Detached) -> Message:
        while True:
            try:
                return await peer.receive()
            except trio.TooSlowError:
                continue

    def has_heard(self, other: Party, since: int = 0) -> bool:
        return any(sender == other.id.hex() and attempt >= since for sender, attempt in self.got)


async def everybody_hears_everybody(*peers: Node | Original) -> None:
    """Sends between every pair, again where nothing arrived, and checks that nothing arrives twice."""
    parties = [Party(peer) for peer in peers]
    pairs = list(itertools.permutations(parties, 2))
    async with trio.open_nursery() as nursery:
        for party in parties:
            nursery.start_soon(party.collect)
        with trio.move_on_after(2 * PATIENCE):
            for attempt in itertools.count():
                missing = [(sender, receiver) for sender, receiver in pairs if not receiver.has_heard(sender)]
                if not missing:
                    break
                for sender, receiver in missing:
                    await sender.send(receiver.id, attempt)
                with trio.move_on_after(SEND_AGAIN):
                    while not all(receiver.has_heard(sender) for sender, receiver in missing):
                        await trio.sleep(0.02)
        nursery.cancel_scope.cancel()
    kinds = {party.id: type(party.peer).__name__ for party in parties}
    unheard = [f"{kinds[s.id]} -> {kinds[r.id]}" for s, r in pairs if not r.has_heard(s)]
    assert unheard == []
    assert [party.got.most_common(1)[0][1] for party in parties] == [1] * len(parties)


class Crowd:
    """Everybody sends to everybody all the time, also to those that are gone."""

    PAUSE = 0.05

    def __init__(self, nursery: trio.Nursery, *peers: Node | Original | Detached) -> None:
        self._parties = {peer.id: Party(peer) for peer in peers}
        self._ids = list(self._parties)
        self._numbers = itertools.count()
        self._scopes = {node_id: trio.CancelScope() for node_id in self._ids}
        self._stopped = False
        for party in self._parties.values():
            nursery.start_soon(self._drive, party)

    async def _drive(self, party: Party) -> None:
        with self._scopes[party.id]:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(party.collect)
                while not self._stopped:
                    for to in self._ids:
                        if to != party.id:
                            await party.send(to, next(self._numbers))
                    await trio.sleep(self.PAUSE)
                nursery.cancel_scope.cancel()

    def let_go(self, *peers: Original | Detached) -> None:
        """No longer drives, nor expects anything of, peers that are about to be killed."""
        for peer in peers:
            self._scopes[peer.id].cancel()
            del self._parties[peer.id]

    async def all_hear_all(self) -> None:
        """Waits until every pair has heard something that was sent after this call; nothing may arrive twice."""
        since = next(self._numbers)
        pairs = list(itertools.permutations(self._parties.values(), 2))
        unheard = pairs
        with trio.move_on_after(PATIENCE):
            while unheard := [(s, r) for s, r in unheard if not r.has_heard(s, since)]:
                await trio.sleep(0.02)
        assert [f"{type(s.peer).__name__} -> {type(r.peer).__name__}" for s, r in unheard] == []
        assert [max(party.got.values()) for party in self._parties.values()] == [1] * len(self._parties)

    def stop(self) -> None:
        """Lets everybody finish a round: a cancelled command would reach an original as half a line."""
        self._stopped = True


@asynccontextmanager
async def stranger(url: str, node_id: NodeId) -> AsyncIterator[WebSocketConnection]:
    """A client that says an id of its own and then whatever the test wants."""
    connection = await dial_websocket(url, limits=Limits(), subprotocol=False)
    try:
        await connection.send([build_id_frame(node_id)], text=True)
        yield connection
    finally:
        connection.abort()


class TestOneLink:
    VALUES: tuple[Any, ...] = (
        "text",
        "\u00e9\U0001f600\ud800\u0000",
        0,
        -1.5,
        2**53,
        True,
        None,
        [],
        {},
        {"nested": [None, {"a": ["\u2028"]}], "__proto__": 1},
        {"type": "Buffer", "data": "no buffer"},
        "x" * 60_000,
    )

    async def test_values_both_ways(self, originals: Originals) -> None:
        async with open_ours() as node:
            original = await originals.start(*node.urls)
            await original.wait_linked(node.id)
            for value in self.VALUES:
                await original.send(node.id, value)
                message = await receive(node)
                assert message.data == value
                assert (message.sender, message.proven) == (original.id, False)
                await node.send(original.id, value)
                assert await original.receive() == Message(value, node.id)

    async def test_bytes_are_buffers_and_nothing_is_none(self, originals: Originals) -> None:
        async with open_ours() as node:
            original = await originals.start(*node.urls)
            await original.wait_linked(node.id)
            data = bytes(range(256)) * 200
            buffer = {"type": "Buffer", "data": list(data)}
            await node.send(original.id, data)
            assert (await original.receive()).data == buffer
            await original.send(node.id, buffer)
            assert (await receive(node)).data == data
            await original.send(node.id, ABSENT)
            assert (await receive(node)).data is None

    async def test_an_original_that_we_dial(self, originals: Originals) -> None:
        original = await originals.start()
        async with open_ours(original.url) as node:
            await wait_linked(node, original.id)
            await node.send(original.id, "hello")
            assert (await original.receive()).data == "hello"
            assert node.links[original.id].role == "legacy"
            async with node.events() as events:
                await node.disconnect(original.id)
                with trio.fail_after(PATIENCE):
                    assert await anext(events) == trio_relay.LinkDown(original.id, "disconnected")
        assert (await original.state()).pending == 0

    async def test_without_legacy_an_original_that_we_dial_stays_alive(self, originals: Originals) -> None:
        original = await originals.start()
        async with trio_relay.open_node(None, [original.url]) as node:
            await eventually(lambda: node.statistics().counts.get("legacy_refused", 0) > 0, "a refusal")
            assert node.links == {}
        assert (await original.state()).peers == frozenset()

    async def test_without_legacy_an_original_that_dials_us_stays_alive(self, originals: Originals) -> None:
        async with trio_relay.open_node() as node:
            original = await originals.start(*node.urls)
            await eventually(lambda: node.statistics().counts.get("legacy_refused", 0) > 0, "a refusal")
            assert (await original.state()).peers == frozenset()

    async def test_both_dial_at_once_and_one_link_lives(self, originals: Originals) -> None:
        """A second link would end the first at the original."""
        original = await originals.start()
        async with open_ours(original.url) as node:
            await wait_linked(node, original.id)
            for _ in range(3):
                async with stranger(original.url, NodeId(bytes(20))):
                    pass
                async with stranger(node.urls[0], original.id) as second:
                    with trio.fail_after(PATIENCE):
                        assert await second.receive() == []
            assert node.statistics().counts["legacy_refused_duplicate"] == 3
            await original.send(node.id, "still there")
            assert (await receive(node)).data == "still there"


class TestRelaying:
    async def test_old_new_old(self, originals: Originals) -> None:
        async with open_ours() as node:
            a, b = [await originals.start(*node.urls, listen=False) for _ in range(2)]
            await a.wait_linked(node.id)
            await b.wait_linked(node.id)
            await a.send(b.id, {"to": "b"})
            assert await b.receive() == Message({"to": "b"}, a.id)

    async def test_old_new_new_old(self, originals: Originals) -> None:
        async with open_ours() as one, open_ours(*one.urls) as two:
            await two.wait_linked()
            a, b = [await originals.start(*node.urls, listen=False) for node in (one, two)]
            await a.wait_linked(one.id)
            await b.wait_linked(two.id)
            await everybody_hears_everybody(a, b, one, two)

    async def test_old_old_new_new(self, originals: Originals) -> None:
        """The far one of ours hears of an original that only another original knows."""
        middle = await originals.start()
        far = await originals.start(middle.url, listen=False)
        async with open_ours(middle.url) as one, open_ours(*one.urls) as two:
            await wait_linked(one, middle.id)
            await two.wait_linked()
            await everybody_hears_everybody(far, middle, one, two)

    async def test_new_old_new_without_addresses(self, originals: Originals) -> None:
        """They cannot link with each other: what they say goes through the original, inside its envelopes, sealed."""
        middle = await originals.start()
        async with open_ours(middle.url, listen=None) as one, open_ours(middle.url, listen=None) as two:
            await middle.wait_linked(one.id, two.id)
            await everybody_hears_everybody(one, two, middle)
            await eventually(lambda: "legacy_tunnel_frames" in two.statistics().counts, "an introduction")
            await eventually(lambda: "legacy_tunnel_frames" in one.statistics().counts, "an introduction")
            receipt = await one.deliver(two.id, b"confirmed", timeout=PATIENCE)
            assert receipt.rtt > 0
            message = await receive(two)
            assert (message.data, message.sender, message.proven) == (b"confirmed", one.id, True)
            assert set(one.links) == {middle.id}

    async def test_new_old_new_with_addresses(self, originals: Originals) -> None:
        """They learn of each other through the original, and then link."""
        middle = await originals.start()
        async with open_ours(middle.url) as one, open_ours(middle.url) as two:
            await wait_linked(one, two.id, middle.id)
            await wait_linked(two, one.id, middle.id)
            with trio.fail_after(PATIENCE):
                assert (await one.deliver(two.id, "direct")).hops == 1

    async def test_five_and_five_then_without_some_of_each(self, originals: Originals, ours: Ours) -> None:
        """Relays go away in the middle; those that are left still reach each other."""
        first = await ours.start()
        new = [first, *[await ours.start(*first.urls) for _ in range(4)]]
        old = [await originals.start(*node.urls) for node in new]
        for node, original in zip(new, old, strict=True):
            await original.wait_linked(node.id)
        await everybody_hears_everybody(*new, *old)
        await originals.kill(old.pop(1))
        await ours.leave(new.pop(0))
        await everybody_hears_everybody(*new, *old)

    async def test_five_and_five_of_which_one_each_is_killed_in_the_middle_of_traffic(
        self, originals: Originals, ours: Ours
    ) -> None:
        """The one of ours is what all the others joined by."""
        async with open_detached() as hub:
            new = [await ours.start(*hub.urls) for _ in range(4)]
            gateways: list[Node | Detached] = [hub, *new]
            old = [await originals.start(*node.urls) for node in gateways]
            for node, original in zip(gateways, old, strict=True):
                await original.wait_linked(node.id)
            async with trio.open_nursery() as nursery:
                crowd = Crowd(nursery, hub, *new, *old)
                await crowd.all_hear_all()
                crowd.let_go(hub, old[1])
                gone = {hub.id, old[1].id}
                hub.kill()
                await originals.kill(old.pop(1))
                await crowd.all_hear_all()
                crowd.stop()
            await eventually(lambda: not any(gone & node.links.keys() for node in new), "no links with the dead")
            with trio.fail_after(PATIENCE):
                for original in old:
                    while gone & (await original.state()).peers:
                        await trio.sleep(0.05)


class TestConfirming:
    async def test_a_confirmed_message_arrives_at_an_original_and_is_not_confirmed(self, originals: Originals) -> None:
        async with open_ours() as one, open_ours(*one.urls) as two:
            await two.wait_linked()
            original = await originals.start(*one.urls)
            await original.wait_linked(one.id)
            for node in (one, two):
                with trio.fail_after(PATIENCE), pytest.raises(trio_relay.NoAcknowledgement):
                    await node.deliver(original.id, "anyway")
                assert await original.receive() == Message("anyway", node.id)

    async def test_between_ours_an_id_that_is_not_known_yet_is_confirmed(self, ours: Ours) -> None:
        first = await ours.start()
        others = [await ours.start(*first.urls) for _ in range(3)]
        for node in others:
            await node.wait_linked()
        for sender, receiver in itertools.permutations([first, *others], 2):
            with trio.fail_after(PATIENCE):
                await sender.deliver(receiver.id, "confirmed")


class TestFindingPeers:
    async def test_originals_find_each_other_through_us(self, originals: Originals) -> None:
        async with open_ours() as node:
            everybody = [await originals.start(*node.urls) for _ in range(4)]
            for original in everybody:
                others = [other.id for other in everybody if other is not original]
                state = await original.wait_linked(node.id, *others)
                assert state.pending == 0

    async def test_an_original_links_with_one_of_ours_by_its_address(self, originals: Originals) -> None:
        async with open_ours() as one, open_ours(*one.urls) as two:
            await two.wait_linked()
            original = await originals.start(*one.urls, listen=False)
            await original.wait_linked(one.id)
            await original.connect(two.id)
            state = await original.wait_linked(two.id)
            assert state.pending == 0

    async def test_one_of_ours_links_with_an_original_by_its_address(self, originals: Originals) -> None:
        middle = await originals.start()
        far = await originals.start(middle.url)
        await far.wait_linked(middle.id)
        async with open_ours(middle.url) as node:
            await wait_linked(node, middle.id)
            with trio.fail_after(PATIENCE):
                await node.connect(far.id)
                assert node.links[far.id].dialled
                await node.connect(far.id)
        assert (await far.state()).pending == 0

    async def test_one_of_ours_links_with_an_original_of_another_gateway(self, originals: Originals) -> None:
        async with open_ours() as one, open_ours(*one.urls) as two:
            await two.wait_linked()
            original = await originals.start(*one.urls)
            await original.wait_linked(one.id)
            with trio.fail_after(PATIENCE):
                await two.connect(original.id)
            assert (await original.wait_linked(one.id, two.id)).pending == 0

    async def test_an_original_without_an_address_cannot_be_linked_with(self, originals: Originals) -> None:
        middle = await originals.start()
        far = await originals.start(middle.url, listen=False)
        await far.wait_linked(middle.id)
        async with open_ours(middle.url) as node:
            await wait_linked(node, middle.id)
            with pytest.raises(trio_relay.NegotiationFailed, match="no websocket address"):
                await node.connect(far.id)

    async def test_one_that_met_twenty_of_ours_that_left_still_finds_a_fifth_peer(
        self, originals: Originals, ours: Ours
    ) -> None:
        """It stops looking when 15 links are pending or made; what is pending stays so for ever."""
        old, neighbour = await originals.start(), await originals.start()
        first = await ours.start(old.url)
        twenty = [first, *[await ours.start(*first.urls, old.url) for _ in range(19)]]
        for node in twenty:
            await wait_linked(node, old.id)
        await ours.leave(*twenty)
        with trio.fail_after(PATIENCE):
            while (state := await old.state()).peers:
                await trio.sleep(0.05)
        assert state.pending <= 3

        meeting_place = await ours.start()
        news = [neighbour, *[await originals.start(*meeting_place.urls) for _ in range(4)]]
        await news[1].wait_linked(meeting_place.id, *(each.id for each in news[2:]))
        await ours.start(old.url, neighbour.url, *meeting_place.urls)
        found = await old.wait_linked(*(each.id for each in news))
        assert len(found.peers) >= 5


HOSTILE: tuple[bytes, ...] = (
    b"",
    b"nonsense",
    b"null",
    b"[]",
    b"{}",
    b'{"to":1}',
    b"[" * 100_000,
    b'{"a":' * 1000,
    b'"' + b"\\ud800" * 1000 + b'"',
)


BAD_FIELDS: dict[str, list[Any]] = {
    "nonce": [1, None, [], {}, "", "n" * 10_000],
    "path": [None, 1, "x", {}, [1], [None], [[]], ["zz"], ["ee" * 20] * 21],
    "to": [None, 1, "", "zz", [], {}, {"type": "Buffer", "data": [1]}, {"type": "Buffer"}],
    "from": [None, 1, "", "zz", [], {"type": "Buffer", "data": [300] * 20}],
    "data": [None, 1, "user", [], {}, {"type": None}, {"type": 1}, {"type": "t" * 10_000}],
}
BAD_DATA: dict[str, list[Any]] = {
    "findPeers": [None, 1, {}, [], "", "zz"],
    "foundPeers": [None, 1, {}, "ids", [1], [None], ["zz"]],
    "handshake-answer": [1, "x", {"ws": 1}, {"ws": "http://x"}, {"ws": "ws://"}],
    "signal": [None, 1, {}, {"sdp": 1}, {"type": "offer", "sdp": "x"}],
    "trio-relay": [None, 1, "!", "AAAA"],
}


def bad_envelopes(to: NodeId, source: NodeId) -> list[bytes]:
    """Every way known to end an original's process (lib/router.js, lib/client.js), and some that only look like it."""
    numbers = itertools.count()

    def good() -> dict[str, Any]:
        nonce = f"{to[:4].hex()} {next(numbers)}"
        body = {"type": "user", "data": "hostile"}
        return {"to": to.hex(), "from": source.hex(), "path": [source.hex()], "nonce": nonce, "data": body}

    envelopes = [good() | {key: value} for key, values in BAD_FIELDS.items() for value in values]
    bodies = [{"type": key, "data": value} for key, values in BAD_DATA.items() for value in values]
    envelopes += [good() | {"data": body} for body in [*bodies, *({"type": key} for key in BAD_DATA)]]
    envelopes += [{key: value for key, value in good().items() if key != missing} for missing in BAD_FIELDS]
    return [json.dumps(envelope).encode() for envelope in envelopes]


class TestHostile:
    async def test_whatever_a_stranger_says_everybody_lives_and_traffic_flows(self, originals: Originals) -> None:
        source = NodeId(b"\xee" * 20)
        async with open_ours() as one, open_ours(*one.urls) as two:
            await two.wait_linked()
            a, b = [await originals.start(*node.urls, listen=False) for node in (one, two)]
            await a.wait_linked(one.id)
            await b.wait_linked(two.id)
            async with stranger(one.urls[0], source) as connection:
                for to in (one.id, two.id, a.id, b.id, source):
                    for text in (*HOSTILE, *bad_envelopes(to, source)):
                        await connection.send([text], text=True)
                await eventually(lambda: one.statistics().counts.get("legacy_invalid", 0) > 200, "all of it")
                await everybody_hears_everybody(a, b, one, two)
                assert source in one.links
            assert one.statistics().counts["legacy_unsafe"] > 0
            assert one.statistics().counts.get("handshakes_failed", 0) == 0
            for original in (a, b):
                assert not [m for m in original.received() if m.data == "hostile" and m.sender != source]

    async def test_a_first_message_that_is_no_id_ends_only_its_own_link(self, originals: Originals) -> None:
        async with open_ours() as node:
            original = await originals.start(*node.urls)
            await original.wait_linked(node.id)
            for first in (*HOSTILE, b'{"type":"Buffer","data":[1,2]}', b'"0707"', json.dumps(node.id.hex()).encode()):
                connection = await dial_websocket(node.urls[0], limits=Limits(), subprotocol=False)
                await connection.send([first], text=True)
                with trio.fail_after(PATIENCE):
                    assert await connection.receive() == []
                connection.abort()
            await original.send(node.id, "still here")
            assert (await receive(node)).data == "still here"
            assert len(node.links) == 1

    async def test_an_address_that_nobody_asked_for_is_not_dialled(self, originals: Originals) -> None:
        bait = await originals.start()
        source = NodeId(b"\xee" * 20)
        async with open_ours() as node, stranger(node.urls[0], source) as connection:
            answer = {"type": "handshake-answer", "data": {"ws": bait.url, "wrtc": False}}
            envelope = {"to": node.id.hex(), "from": source.hex(), "path": [source.hex()], "nonce": "1", "data": answer}
            await connection.send([json.dumps(envelope).encode()], text=True)
            await eventually(lambda: node.statistics().counts.get("legacy_unasked", 0) == 1, "the answer")
            assert set(node.links) == {source}
        assert (await bait.state()).peers == frozenset()

    async def test_an_original_does_not_speak_for_one_of_ours(self, originals: Originals) -> None:
        async with open_ours() as one, open_ours(*one.urls) as two:
            await two.wait_linked()
            async with stranger(one.urls[0], two.id) as impostor:
                with trio.fail_after(PATIENCE):
                    assert await impostor.receive() == []
            source = NodeId(b"\xee" * 20)
            async with stranger(one.urls[0], source) as connection:
                body = {"type": "user", "data": "I am two"}
                path = [two.id.hex(), source.hex()]
                forged = {"to": one.id.hex(), "from": two.id.hex(), "path": path, "nonce": "1", "data": body}
                true = forged | {"from": source.hex(), "data": {"type": "user", "data": "I am nobody"}}
                for envelope in (forged, true):
                    await connection.send([json.dumps(envelope).encode()], text=True)
                message = await receive(one)
                assert (message.sender, message.data) == (source, "I am nobody")
            assert one.statistics().counts["legacy_spoofed"] == 1


class TestDatagrams:
    async def test_sockets_exchange_datagrams(self, originals: Originals) -> None:
        async with trio_relay.open_datagram_socket(legacy=True) as sock:
            original = await originals.start(*sock.node.urls, socket=True)
            await original.bind(4321)
            with trio.fail_after(PATIENCE):
                await sock.bind(1234)
                data = bytes(range(256))
                await sock.sendto(data, (original.id.hex(), 4321))
                got, source = await original.receive_datagram()
                assert got == data
                assert source == {"address": sock.node.id.hex(), "port": 1234, "family": "peer-relay"}
                await original.send_datagram(b"answer", sock.node.id, 1234)
                assert await sock.recvfrom() == (b"answer", (original.id.hex(), 4321))

    async def test_sockets_of_originals_across_ours(self, originals: Originals) -> None:
        async with open_ours() as one, open_ours(*one.urls) as two:
            await two.wait_linked()
            a, b = [await originals.start(*node.urls, socket=True, listen=False) for node in (one, two)]
            await a.bind(1000)
            await b.bind(2000)
            with trio.fail_after(PATIENCE):
                while True:
                    await a.send_datagram(b"ping", b.id, 2000)
                    with trio.move_on_after(SEND_AGAIN):
                        got, source = await b.receive_datagram()
                        break
            assert (got, source["address"], source["port"]) == (b"ping", a.id.hex(), 1000)
