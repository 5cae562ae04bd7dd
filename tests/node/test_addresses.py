"""Records whose addresses are none: nobody is dialled there, and the node goes on."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from trio_relay import Identity, Limits, open_node
from trio_relay.testing import MemoryNetwork
from trio_relay.transports.websocket import WebSocketConnection
from trio_relay.wire.frame import Kind
from trio_relay.wire.record import PeerRecord, join_records

from .raw_peer import RawPeer, make_record
from .support import count, identity, relays_of, until, url

PATIENT = Limits(dead_after=1e6)
ODD = ["nonsense", "http://[", "memory://", "ws://", "wss://x:99999"]


def odd_record(own: Identity, text: str) -> PeerRecord:
    """Its owner claims to relay at an address that is none."""
    return make_record(own, sequence=2, expiry=int(time.time()) + 3000, urls=(text,), roles=1)


async def dial(network: MemoryNetwork, name: str, own: Identity) -> RawPeer:
    connection = await network.host("liar").dial(url(name))
    # What a raw peer needs of its connection all connections have.
    return RawPeer(cast(WebSocketConnection, cast(Any, connection)), own)


@pytest.mark.parametrize("text", ODD)
async def test_address_that_is_no_url_is_of_no_consequence(autojump_clock: MockClock, text: str) -> None:
    """The neighbour's own, and one that it tells about, while bootstrap addresses are compared with both."""
    network, liar, nobody = MemoryNetwork(), identity("liar"), identity("nobody")
    async with (
        open_node("relay", network=network) as relay,
        open_node("node", [url("relay"), url("never")], network=network, limits=PATIENT) as node,
    ):
        await until(lambda: relays_of(node), seconds=60)
        peer = await dial(network, "node", liar)
        dialler = peer.dialler("node:0")
        dialler.record = odd_record(liar, text).raw
        await peer.send(dialler.receive_hello(await peer.message()))
        dialler.receive_proof(await peer.message())
        await peer.send(peer.frame(node.id, join_records([odd_record(nobody, text)]), kind=Kind.STORE))
        attempts = count(node, "handshakes_failed")
        await trio.sleep(600)
        # Both bootstrap addresses are looked after as before, and the dials to the others led nowhere.
        assert count(node, "handshakes_failed") > attempts
        assert (await node.lookup(nobody.id)).urls == (text,)
        assert node.links[liar.id].role == "leaf"
        assert nobody.id not in node.links
        assert relay.id in node.links
        assert (await node.deliver(relay.id, "still here")).hops == 1
        network.kill("relay")
        assert (await node.deliver(relay.id, "again", timeout=100)).hops == 1
        peer.connection.abort()
