"""What the tests of the node share: small networks, patience with a bound, and honest peers that keep exchanging."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import trio

from trio_relay import Identity, Limits, Node, NodeId, open_node
from trio_relay.testing import MemoryNetwork

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


@dataclass
class Town:
    """Relays that know each other, and leaves that dial them, on a network in memory."""

    network: MemoryNetwork
    relays: list[Node]
    leaves: list[Node]


@asynccontextmanager
async def open_town(
    relays: int, leaves: int, *, network: MemoryNetwork | None = None, limits: Limits | None = None
) -> AsyncIterator[Town]:
    """Relays ``r0``, ``r1``, …; each leaf has all of them as bootstrap. All are linked when the block begins."""
    network = network or MemoryNetwork()
    async with AsyncExitStack() as stack:
        names = [f"r{number}" for number in range(relays)]
        town = Town(network, [], [])
        for number, name in enumerate(names):
            known = [url(other) for other in names[:number]]
            town.relays.append(
                await stack.enter_async_context(
                    open_node(name, known, identity=identity(name), network=network, limits=limits)
                )
            )
        for number in range(leaves):
            own = identity(f"leaf {number}")
            town.leaves.append(
                await stack.enter_async_context(
                    open_node(None, [url(name) for name in names], identity=own, network=network, limits=limits)
                )
            )
        await until(lambda: all(relays_of(node) == relays - 1 for node in town.relays), seconds=60)
        await until(lambda: all(relays_of(node) == relays for node in town.leaves), seconds=60)
        yield town


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
