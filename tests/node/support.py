"""What the tests of the node share: small networks, patience with a bound, and honest peers that keep exchanging."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import trio

from trio_relay import Identity, Limits, Node, NodeId, open_node
from trio_relay.testing import MemoryNetwork, Testnet, open_testnet

QUICK = Limits(ping_after=0.3, dead_after=0.5, handshake_timeout=1.0, close_timeout=0.3, http_timeout=1.0)
"""For real sockets, where a test waits as long as the clock says."""


def identity(name: str) -> Identity:
    """Always the same one for a name."""
    return Identity.from_seed(hashlib.sha256(name.encode()).digest())


UNKNOWN: NodeId = identity("nobody has this identity").id


def url(name: str) -> str:
    return f"memory://{name}"


async def until(condition: Callable[[], object], *, seconds: float = 5.0) -> None:
    """Returns when the condition holds; looks at once, then often.

    Raises:
        trio.TooSlowError: it does not in time.
    """
    pause = 0.002
    with trio.fail_after(seconds):
        while not condition():
            await trio.sleep(pause)
            pause = min(1.2 * pause, 0.05)


def relays_of(node: Node) -> int:
    """How many relays the node is linked with, as far as it has proof."""
    return sum(info.role == "relay" for info in node.links.values())


def count(node: Node, name: str) -> int:
    """A counter of the node's statistics."""
    return node.statistics().counts.get(name, 0)


def open_town(
    relays: int, leaves: int, *, network: MemoryNetwork | None = None, limits: Limits | None = None
) -> AbstractAsyncContextManager[Testnet]:
    """A test network whose nodes have the same ids each time: of their hosts, and of "leaf 0", "leaf 1", …"""
    names = [f"relay-{number}" for number in range(relays)] + [f"leaf {number}" for number in range(leaves)]
    return open_testnet(relays, leaves, network=network, identities=list(map(identity, names)), limits=limits)


async def take(node: Node, number: int) -> list[object]:
    """The data of so many messages."""
    with trio.fail_after(100):
        return [(await node.receive()).data for _ in range(number)]


@dataclass
class HonestPair:
    """Two leaves behind one node that send each other confirmed messages all the time.

    Attributes:
        exchanged: messages that were confirmed and received, each once.
    """

    sender: Node
    receiver: Node
    exchanged: int = 0
    _changed: trio.Event = field(default_factory=trio.Event)

    async def run(self) -> None:
        while True:
            await self.sender.deliver(self.receiver.id, self.exchanged, timeout=5)
            message = await self.receiver.receive()
            assert (message.data, message.sender) == (self.exchanged, self.sender.id)
            self.exchanged += 1
            self._changed.set()
            self._changed = trio.Event()
            await trio.sleep(0.005)

    async def more(self, number: int = 3) -> None:
        """Returns after so many more exchanges, none of which may fail."""
        wanted = self.exchanged + number
        with trio.fail_after(5):
            while self.exchanged < wanted:
                await self._changed.wait()


@asynccontextmanager
async def honest_pair(urls: Sequence[str], *, limits: Limits | None = None) -> AsyncIterator[HonestPair]:
    """An honest pair behind a node of real sockets; exchanges go on until the end of the block."""
    async with open_node(None, urls, limits=limits) as sender, open_node(None, urls, limits=limits) as receiver:
        await until(lambda: relays_of(sender) and relays_of(receiver))
        pair = HonestPair(sender, receiver)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.run)
            await pair.more()
            yield pair
            await pair.more()
            nursery.cancel_scope.cancel()
