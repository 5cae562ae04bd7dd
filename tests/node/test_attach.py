"""Links over connections that the embedding program opened with trio-websocket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trio_websocket

from trio_relay import HandshakeError, Limits, LinkDown, LinkUp, Node, open_node
from trio_relay.wire.hello import SUBPROTOCOL

from .support import QUICK, relays_of, take, until

Accepted = trio_websocket.WebSocketConnection


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Accepted, Accepted]]:
    """Both ends of a WebSocket of the program's own, dialler first."""
    ends: trio.MemorySendChannel[Accepted]
    ends, accepted = trio.open_memory_channel(1)

    async def accept(request: trio_websocket.WebSocketRequest) -> None:
        connection = await request.accept(subprotocol=SUBPROTOCOL)
        await ends.send(connection)
        await closed.wait()

    closed = trio.Event()
    async with trio.open_nursery() as nursery:
        serve = partial(trio_websocket.serve_websocket, accept, "127.0.0.1", 0, None)
        server = await nursery.start(serve)
        port = server.listeners[0].port
        # trio-websocket leaves a stream open that ended without a close frame.
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            dialled = await trio_websocket.wrap_client_stream(
                nursery, stream, "127.0.0.1", "/", subprotocols=[SUBPROTOCOL]
            )
            yield dialled, await accepted.receive()
            closed.set()
        nursery.cancel_scope.cancel()


async def link(one: Node, other: Node, ends: tuple[Accepted, Accepted]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.attach, ends[0])
        nursery.start_soon(other.attach, ends[1])


async def test_two_nodes_attach_the_ends_of_one_connection() -> None:
    async with connected() as ends, open_node(None) as alice, open_node(None) as bob, bob.events() as events:
        with trio.fail_after(5):
            await link(alice, bob, ends)
            assert alice.links[bob.id].transport == bob.links[alice.id].transport == "attached"
            assert (alice.links[bob.id].dialled, bob.links[alice.id].dialled) == (True, False)
            receipt = await alice.deliver(bob.id, bytes(60_000))
            assert receipt.hops == 1
            for number in range(50):
                await bob.send(alice.id, number)
            assert await take(alice, 50) == list(range(50))
            await bob.disconnect(alice.id)
            seen = [await anext(events) for _ in range(2)]
            assert seen == [LinkUp(alice.id, "attached"), LinkDown(alice.id, "disconnected")]
            await until(lambda: not alice.links)


async def test_attached_peer_takes_part_in_the_overlay() -> None:
    async with (
        connected() as ends,
        open_node() as relay,
        open_node(None, relay.urls) as far,
        open_node(None) as leaf,
    ):
        with trio.fail_after(5):
            await link(leaf, relay, ends)
            await until(lambda: relays_of(far))
            assert (await far.deliver(leaf.id, "over the attached link")).hops == 2


async def test_goodbye_over_an_attached_link() -> None:
    async with connected() as ends, open_node(None) as stays:
        async with open_node(None) as leaves:
            await link(leaves, stays, ends)
        await until(lambda: not stays.links)
        assert ends[0].closed


@pytest.mark.parametrize("dialled", [True, False], ids=["dialler", "acceptor"])
async def test_other_end_that_says_nothing(dialled: bool) -> None:
    limits = Limits(handshake_timeout=0.1, close_timeout=0.1)
    async with connected() as ends, open_node(None, limits=limits) as node:
        ours = ends[0] if dialled else ends[1]
        with trio.fail_after(2), pytest.raises(HandshakeError, match="timed out"):
            await node.attach(ours)
        assert ours.closed
        assert node.links == {}


async def test_other_end_is_an_original_node() -> None:
    async with connected() as ends, open_node(None, limits=QUICK) as node:
        await ends[1].send_message('{"type":"handshake"}')
        with trio.fail_after(2), pytest.raises(HandshakeError, match="original peer-relay node"):
            await node.attach(ends[0])


async def test_connection_that_is_closed_already() -> None:
    async with connected() as ends, open_node(None, limits=QUICK) as node:
        await ends[0].aclose()
        with pytest.raises(HandshakeError):
            await node.attach(ends[0])


async def test_caller_that_gives_up_leaves_no_connection() -> None:
    async with connected() as ends, open_node(None) as node:
        with trio.move_on_after(0.05):
            await node.attach(ends[0])
        assert ends[0].closed
