"""`admit` where originals take part: links by `links`, messages by `messages`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

import pytest
from trio.testing import MockClock

from trio_relay import Admit, Node, NodeId, open_node
from trio_relay.testing import MemoryNetwork
from trio_relay.transports.memory_connection import MemoryConnection
from trio_relay.wire.body import User
from trio_relay.wire.envelope import build_envelope, build_id_frame, make_envelope

from .legacy_world import node_id
from .support import count, identity, relays_of, take, until, url

ORIGINAL, UNHEARD = node_id(700), node_id(702)
RELAY, GATE = identity("relay-0"), identity("gate")


@asynccontextmanager
async def original(network: MemoryNetwork, node_id: NodeId, host: str) -> AsyncIterator[MemoryConnection]:
    """An original's end of a connection with a node."""
    connection = await network.host(f"original {node_id.hex()}").dial(url(host), subprotocol=False)
    await connection.send([build_id_frame(node_id)], text=True)
    yield connection
    connection.abort()


async def say(connection: MemoryConnection, source: NodeId, to: Node, text: str) -> None:
    envelope = make_envelope(User(text), to=to.id, source=source, nonce=text)
    await connection.send([build_envelope(envelope)], text=True)


@pytest.mark.parametrize(
    ("admit", "welcome"),
    [
        ({ORIGINAL}, True),
        (Admit(links={ORIGINAL}, messages={RELAY.id}), True),
        (Admit(messages={RELAY.id}), True),
        ({RELAY.id}, False),
        (Admit(links={RELAY.id}), False),
    ],
    ids=["bare", "links", "messages", "bare other", "other"],
)
async def test_links_rules_who_may_link(
    admit: Admit | Collection[NodeId], welcome: bool, autojump_clock: MockClock
) -> None:
    network = MemoryNetwork()
    async with (
        open_node("gate", network=network, legacy=True, admit=admit) as node,
        original(network, ORIGINAL, "gate"),
    ):
        await until(lambda: ORIGINAL in node.links or count(node, "legacy_refused_not_admitted"))
        assert (ORIGINAL in node.links) is welcome


async def test_messages_rules_who_may_send(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    async with (
        open_node("gate", network=network, legacy=True, admit=Admit(messages={ORIGINAL})) as node,
        original(network, ORIGINAL, "gate") as heard,
        original(network, UNHEARD, "gate") as unheard,
    ):
        await until(lambda: len(node.links) == 2)
        await say(unheard, UNHEARD, node, "listen")
        await until(lambda: count(node, "legacy_not_admitted") == 1)
        await say(heard, ORIGINAL, node, "hello")
        assert await take(node, 1) == ["hello"]
        assert node.statistics().sizes["mailbox_messages"] == 0
        assert len(node.links) == 2


async def test_a_node_that_links_with_its_relay_alone_hears_originals_elsewhere(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    async with (
        open_node("relay-0", network=network, identity=RELAY),
        open_node("gate", [url("relay-0")], network=network, legacy=True, identity=GATE) as gate,
        open_node(None, [url("relay-0")], network=network, legacy=True, admit=Admit(links={RELAY.id})) as shy,
        original(network, ORIGINAL, "gate") as connection,
    ):
        await until(lambda: relays_of(shy) and relays_of(gate) and ORIGINAL in gate.links)
        await say(connection, ORIGINAL, shy, "hello")
        assert await take(shy, 1) == ["hello"]
        assert count(shy, "not_admitted") == 0
