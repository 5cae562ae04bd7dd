"""A node that admits originals: what its application waits for, and that nothing is lost without a count."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_relay import Limits, NoAcknowledgement, Node, NodeId, PeerUnreachable, SessionTimeout, open_node
from trio_relay.testing import MemoryNetwork
from trio_relay.transports.memory_connection import MemoryConnection
from trio_relay.wire.envelope import build_id_frame, parse_envelope_untrusted

from .legacy_world import node_id
from .support import count, identity, relays_of, take, until, url

ORIGINAL = node_id(700)


class Sender:
    """Sends numbers as fast as `Node.send` lets it."""

    def __init__(self, node: Node, to: NodeId, number: int) -> None:
        self.node, self.to, self.number = node, to, number
        self.sent = 0

    async def run(self) -> None:
        for number in range(self.number):
            await self.node.send(self.to, str(number).ljust(1000))
            self.sent += 1


@asynccontextmanager
async def open_linked(limits: Limits | None = None) -> AsyncIterator[tuple[Node, MemoryConnection]]:
    """A node and the original's end of a link with it, of which nobody has read anything."""
    network = MemoryNetwork()
    async with open_node("a", identity=identity("a"), network=network, legacy=True, limits=limits) as node:
        connection = await network.host("original").dial(url("a"), subprotocol=False)
        await connection.send([build_id_frame(ORIGINAL)], text=True)
        await until(lambda: ORIGINAL in node.links)
        yield node, connection


async def test_before_the_first_link_send_waits_and_everything_arrives(autojump_clock: MockClock) -> None:
    network, other = MemoryNetwork(), identity("b")
    limits = Limits(unlinked_wait=60)
    async with (
        open_node(None, [url("b")], network=network, legacy=True, limits=limits) as node,
        trio.open_nursery() as nursery,
    ):
        sender = Sender(node, other.id, 1000)
        nursery.start_soon(sender.run)
        await wait_all_tasks_blocked()
        assert sender.sent == node.statistics().sizes["unlinked"] == limits.unlinked_messages
        with pytest.raises(trio.WouldBlock):
            node.send_nowait(other.id, "no room")
        async with open_node("b", identity=other, network=network, legacy=True) as receiver:
            received = await take(receiver, 1000)
        assert received == [str(number).ljust(1000) for number in range(1000)]
        assert not {"unlinked_full", "unlinked_expired", "no_way", "legacy_no_way"} & set(node.statistics().counts)


async def test_without_any_link_every_message_ends_in_a_count(autojump_clock: MockClock) -> None:
    async with open_node(None, [url("nobody")], network=MemoryNetwork(), legacy=True) as node:
        await Sender(node, node_id(9), 1000).run()
        await trio.sleep(60)
        assert count(node, "messages_sent") == count(node, "unlinked_expired") == 1000


async def test_a_lookup_without_a_relay_to_ask_does_not_make_the_id_unknown(autojump_clock: MockClock) -> None:
    """With a link of an original alone: every message asks again, for a relay may be there by then."""
    async with open_linked() as (node, connection):
        await node.send(node_id(9), "first")
        remembered = node.statistics().sizes["legacy_remembered"]
        await node.send(node_id(10), "second")
        assert node.statistics().sizes["legacy_remembered"] == remembered
        texts = [text for text in await connection.receive() if text != build_id_frame(node.id).decode()]
        assert [parse_envelope_untrusted(text).to for text in texts[-2:]] == [node_id(9), node_id(10)]


async def test_what_must_be_sealed_never_reaches_an_original(autojump_clock: MockClock) -> None:
    """Nobody of that id can open it: it waits, expires, and is counted; `deliver` says so."""
    async with open_linked() as (node, connection):
        await node.send(ORIGINAL, "secret", sealed=True)
        node.send_nowait(ORIGINAL, "secret", sealed=True)
        with pytest.raises(SessionTimeout) as caught:
            await node.deliver(ORIGINAL, "secret", 20, sealed=True)
        assert caught.value.outcome == "not_delivered"
        assert count(node, "session_waiting_expired") == 2
        await node.send(ORIGINAL, "public")
        texts = [str(text) for text in await connection.receive()]
        assert not [text for text in texts if "secret" in text]
        assert "public" in texts[-1]


@asynccontextmanager
async def open_gateway() -> AsyncIterator[tuple[Node, MemoryNetwork, MemoryConnection]]:
    """A node, its network, and the end that an original has of a link with it."""
    network = MemoryNetwork(latency=0.01)
    async with network, open_node("a", network=network, legacy=True) as gateway:
        connection = await network.host("original").dial(url("a"), subprotocol=False)
        await connection.send([build_id_frame(ORIGINAL)], text=True)
        await until(lambda: ORIGINAL in gateway.links)
        yield gateway, network, connection


async def hears(words: str, connection: MemoryConnection) -> bool:
    """Whether such a text comes within five seconds."""
    with trio.move_on_after(5):
        while not any(words in str(text) for text in await connection.receive()):
            pass
        return True
    return False


@pytest.mark.parametrize("confirmed", [False, True])
async def test_last_words_to_an_original_wait_for_the_lookup(autojump_clock: MockClock, confirmed: bool) -> None:
    """It is known as such by its gateway's record, and is asked about before anything is said in plain text."""
    async with open_gateway() as (_, network, connection):
        async with open_node(None, [url("a")], network=network, legacy=True) as node:
            await until(lambda: relays_of(node))
            if confirmed:
                with pytest.raises(NoAcknowledgement):
                    await node.deliver(ORIGINAL, "last words")
            else:
                await node.send(ORIGINAL, "last words")
        assert await hears("last words", connection)


async def test_a_gateway_speaks_for_its_originals_while_it_has_a_link_with_them(autojump_clock: MockClock) -> None:
    """From the first moment, when no other relay keeps its record of them yet."""
    async with open_gateway() as (gateway, network, connection):
        await connection.aclose()
        await until(lambda: ORIGINAL not in gateway.links)
        async with open_node(None, [url("a")], network=network, legacy=True) as node:
            await until(lambda: relays_of(node))
            with pytest.raises(PeerUnreachable) as caught:
                await node.deliver(ORIGINAL, "gone", timeout=5)
            assert caught.value.outcome == "not_delivered"


async def test_send_waits_while_too_many_messages_wait_for_a_lookup(autojump_clock: MockClock) -> None:
    network, limits = MemoryNetwork(latency=0.1), Limits(unlinked_messages=5)
    async with (
        network,
        open_node("relay", network=network),
        open_node(None, [url("relay")], network=network, legacy=True, limits=limits) as node,
    ):
        await until(lambda: relays_of(node))
        with trio.fail_after(20):
            await Sender(node, node_id(9), 50).run()
        await until(lambda: count(node, "messages_sent") == 50)
        assert count(node, "legacy_waiting_full") == count(node, "legacy_dropped") == 0


async def test_send_waits_for_an_original_that_does_not_read(autojump_clock: MockClock) -> None:
    async with open_linked() as (node, connection), trio.open_nursery() as nursery:
        sender = Sender(node, ORIGINAL, 3000)
        nursery.start_soon(sender.run)
        await wait_all_tasks_blocked()
        assert 0 < sender.sent < sender.number
        with pytest.raises(trio.WouldBlock):
            node.send_nowait(ORIGINAL, "no room")
        got: list[object] = []
        with trio.fail_after(20):
            while len(got) < sender.number:
                envelopes = [parse_envelope_untrusted(t) for t in await connection.receive() if len(t) > 1000]
                got += [envelope.data for envelope in envelopes]
        assert got == [str(number).ljust(1000) for number in range(sender.number)]
        assert count(node, "backlog_full") == 0


async def test_send_goes_on_when_the_original_that_did_not_read_is_gone(autojump_clock: MockClock) -> None:
    limits = Limits(unlinked_messages=5)
    async with open_linked(limits) as (node, connection), trio.open_nursery() as nursery:
        sender = Sender(node, ORIGINAL, 3000)
        nursery.start_soon(sender.run)
        await wait_all_tasks_blocked()
        before = sender.sent
        connection.abort()
        await until(lambda: node.statistics().sizes["unlinked"] == limits.unlinked_messages)
        assert sender.sent >= before + limits.unlinked_messages
        assert count(node, "link_broken") > 0
        nursery.cancel_scope.cancel()
