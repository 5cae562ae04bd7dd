"""``trio-relay demo``: messages between peers that have no link with each other, while a relay goes away."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final

import trio

from ..exceptions import DeliveryError
from ..node.node import Node
from ..node.opening import open_node

__all__ = ["run"]

_NAMES: Final = ("alice", "bob", "carol", "dave")
_PATIENCE: Final = 30
"""Seconds; it takes a fraction of one."""
_PICTURE: Final = r"""
Two relays and four peers, each a node of its own, over WebSocket on this machine;
every peer is linked with both relays, and with no other peer:

     alice    bob    carol    dave
        \      |       |      /
      relay 1 ----------- relay 2
"""


async def run() -> int:
    """Runs the demonstration on loopback sockets; 0 when every message arrived."""
    print(_PICTURE)
    async with open_node() as second, trio.open_nursery() as nursery:
        leave = trio.Event()
        first: Node = await nursery.start(_relay, second.urls, leave)
        arrived = await _peers(first, second, leave)
        leave.set()
    expected = 2 * len(_NAMES) * (len(_NAMES) - 1)
    print(f"\n{arrived} of {expected} messages arrived between peers that have no link with each other.")
    return 0 if arrived == expected else 1


async def _relay(
    bootstrap: Sequence[str], leave: trio.Event, *, task_status: trio.TaskStatus[Node] = trio.TASK_STATUS_IGNORED
) -> None:
    async with open_node(bootstrap=bootstrap) as node:
        task_status.started(node)
        await leave.wait()


async def _peers(first: Node, second: Node, leave: trio.Event) -> int:
    """Two rounds of messages, the second one after relay 1 has gone; returns how many arrived in time."""
    arrived = 0
    async with AsyncExitStack() as stack:
        bootstrap = [*first.urls, *second.urls]
        peers = [await stack.enter_async_context(open_node(None, bootstrap)) for _ in _NAMES]
        with trio.move_on_after(_PATIENCE) as patience:
            for node in peers:
                await node.wait_linked(2)
            arrived += await _round(peers, "hello")
            print("\nrelay 1 goes away.\n", flush=True)
            leave.set()
            arrived += await _round(peers, "still here")
        if patience.cancelled_caught:
            print(f"that took more than {_PATIENCE} seconds")
    return arrived


async def _round(peers: Sequence[Node], text: str) -> int:
    """Everybody writes to everybody; prints each arrival and returns how many there were."""
    names = {node.id: name for node, name in zip(peers, _NAMES, strict=True)}
    arrived = 0
    for sender in peers:
        for receiver in peers:
            if receiver is sender or receiver.id in sender.links:
                continue
            way = f"{names[sender.id]:>5} -> {names[receiver.id]:<5}"
            try:
                receipt = await sender.deliver(receiver.id, f"{text}, {names[receiver.id]}", timeout=10)
            except DeliveryError as error:
                print(f"  {way}  {error}")
                continue
            message = await receiver.receive()
            arrived += message.sender == sender.id
            print(
                f"  {way}  {message.data!r:<20} "
                f"in the mailbox after {receipt.hops} links and {receipt.rtt * 1000:.1f} ms"
            )
    return arrived
