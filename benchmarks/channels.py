"""Data channels of this package between two ends of this process: as connections, and as links between two nodes.

Only host candidates: no STUN, no TURN.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import trio

from trio_relay import DeliveryError, Limits, Node, open_node
from trio_relay.transports.aio import open_factory
from trio_relay.transports.connection import Connection
from trio_relay.transports.data_channel import DataChannelConnection
from trio_relay.transports.webrtc import WebRTCConfig
from trio_relay.wire.ids import NodeId

from .bare import Fill, Tally

__all__ = ["Leaves", "acquainted_leaves", "connect", "greet", "linked_nodes", "sending_connection", "sending_nodes"]

_FIRST: Final = b"first"
_GREET_TIMEOUT: Final = 20.0
_WINDOW: Final = 768
_WINDOW_BYTES: Final = 4 * 1024 * 1024
"""Three quarters of `Limits.mailbox_messages`, and half of `Limits.mailbox_bytes`."""


# Connections


@asynccontextmanager
async def sending_connection(tally: Tally) -> AsyncIterator[Fill]:
    """A `DataChannelConnection` at each end, used as a link's writer and reader use it, but one message at a time."""
    limits, config = Limits(), WebRTCConfig()
    async with (
        open_factory(close_timeout=limits.close_timeout) as factory,
        factory(config) as offering,
        factory(config) as answering,
        trio.open_nursery() as nursery,
    ):
        answer = await answering.create_answer(await offering.create_offer("bench"))
        await offering.accept_answer(answer)
        out = DataChannelConnection(await offering.channel(), offering.selected_pair(), limits, config)
        into = DataChannelConnection(await answering.channel(), answering.selected_pair(), limits, config)
        nursery.start_soon(_count, into, tally)
        nursery.start_soon(_read, out)

        async def fill(payload: bytes) -> None:
            while not tally.stopped:
                tally.sent += 1
                await out.send((payload,))

        yield fill
        nursery.cancel_scope.cancel()


async def _count(connection: Connection, tally: Tally) -> None:
    while messages := await connection.receive():
        for message in messages:
            tally.take(message)


async def _read(connection: Connection) -> None:
    """The sender's end has to be read too, for what the other end grants."""
    while await connection.receive():
        pass


# Nodes


@dataclass(slots=True)
class Leaves:
    """Two nodes without listeners that have a session through a relay, and no link with each other.

    They take turns: `one` is who connects next. Who has disconnected refuses links for a minute, but may ask for one;
    and a node takes only so many offers a second.
    """

    one: Node
    other: Node

    async def connect(self) -> None:
        """A direct link."""
        await connect(self.one, self.other.id)

    async def disconnect(self) -> None:
        """Ends it, and returns when neither of them has it any more."""
        self.one, self.other = self.other, self.one
        async with self.one.events() as here, self.other.events() as there:
            await self.one.disconnect(self.other.id)
            while self.other.id in self.one.links:
                await anext(here)
            while self.one.id in self.other.links:
                await anext(there)


@asynccontextmanager
async def acquainted_leaves() -> AsyncIterator[Leaves]:
    """Two of them, and the relay, all in this process."""
    async with (
        open_node() as relay,
        open_node(None, relay.urls, webrtc=True) as one,
        open_node(None, relay.urls, webrtc=True) as other,
    ):
        await one.wait_linked()
        await other.wait_linked()
        await greet(one, other.id)
        await greet(other, one.id)
        await one.receive()
        await other.receive()
        yield Leaves(one, other)


async def greet(node: Node, to: NodeId) -> None:
    """Returns when a message has arrived: the two have a session then."""
    with trio.fail_after(_GREET_TIMEOUT):
        while True:
            try:
                await node.deliver(to, _FIRST, timeout=1)
                return
            except DeliveryError:
                await trio.sleep(0.1)


async def connect(node: Node, to: NodeId) -> None:
    """Makes a direct link.

    Raises:
        RuntimeError: it is no WebRTC link.
    """
    await node.connect(to)
    transport = node.links[to].transport
    if transport != "webrtc":
        raise RuntimeError(f"expected a WebRTC link, got {transport}")


@asynccontextmanager
async def linked_nodes() -> AsyncIterator[Leaves]:
    """The same with a direct link."""
    async with acquainted_leaves() as leaves:
        await leaves.connect()
        yield leaves


@asynccontextmanager
async def sending_nodes(tally: Tally) -> AsyncIterator[Fill]:
    """`Node.send` at one end, iteration at the other; sealed, as always.

    No more is under way than a mailbox holds: what comes beyond that is lost, for `send` confirms nothing.
    """
    window, lot = min(_WINDOW, max(_WINDOW_BYTES // tally.size, 1)), trio.lowlevel.ParkingLot()
    async with linked_nodes() as leaves, trio.open_nursery() as nursery:

        async def take() -> None:
            async for message in leaves.other:
                tally.take(message.data)
                if lot and tally.sent - tally.received < window // 2:
                    lot.unpark_all()

        async def fill(payload: bytes) -> None:
            one, to = leaves.one, leaves.other.id
            while not tally.stopped:
                if tally.sent - tally.received >= window:
                    await lot.park()
                tally.sent += 1
                await one.send(to, payload)

        nursery.start_soon(take)
        yield fill
        nursery.cancel_scope.cancel()
