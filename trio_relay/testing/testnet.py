"""Many real nodes inside the process, in one call."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import trio

from ..identity import Identity
from ..node.node import Node
from ..node.opening import open_node
from ..transports.memory import MemoryNetwork

__all__ = ["Testnet", "open_testnet"]

_BOOTSTRAPS: Final = 3
_FIRST_LOOK: Final = 0.001
_LONGEST_PAUSE: Final = 0.1


@dataclass(frozen=True, slots=True)
class Testnet:
    """Nodes that are linked with each other, if not each with each.

    Attributes:
        network: between their hosts; partitions, faults and counts are its matter.
        relays: nodes with a listener, on the hosts ``relay-0``, ``relay-1``, …
        leaves: nodes without one.
    """

    __test__: ClassVar[bool] = False  # pytest takes a class of this name for a test otherwise

    network: MemoryNetwork
    relays: list[Node]
    leaves: list[Node]

    @property
    def nodes(self) -> list[Node]:
        """All of them, relays first."""
        return [*self.relays, *self.leaves]


@asynccontextmanager
async def open_testnet(
    relays: int = 3,
    leaves: int = 0,
    *,
    network: MemoryNetwork | None = None,
    identities: list[Identity] | None = None,
    timeout: float = 60.0,
    **options: Any,
) -> AsyncIterator[Testnet]:
    """Opens so many nodes; when the block begins every listener relays, and every node has links with relays.

    Example:
        >>> async with open_testnet(3, leaves=2) as net:
        ...     alice, bob = net.leaves
        ...     await alice.deliver(bob.id, "hello")

    Args:
        relays: nodes with a listener, one at least.
        leaves: nodes without one.
        network: whose faults and latency count; default: a new one without.
        identities: of the relays, then of the leaves; default: new ones.
        timeout: seconds of Trio's clock until all are linked.
        options: further arguments of `open_node`, for every node.

    Raises:
        ValueError: no relay, or another number of identities than of nodes.
        trio.TooSlowError: they were not linked in time.
    """
    if relays < 1:
        raise ValueError(f"expected one relay at least, not {relays}")
    if identities is not None and len(identities) != relays + leaves:
        raise ValueError(f"expected {relays + leaves} identities, not {len(identities)}")
    owners = iter(identities if identities is not None else [Identity.generate() for _ in range(relays + leaves)])
    network = network or MemoryNetwork()
    net = Testnet(network, [], [])
    known = [f"memory://relay-{number}" for number in range(min(relays, _BOOTSTRAPS))]
    async with AsyncExitStack() as stack:

        async def add(listen: str | None) -> Node:
            node = open_node(listen, known, identity=next(owners), network=network, **options)
            return await stack.enter_async_context(node)

        for number in range(relays):
            net.relays.append(await add(f"relay-{number}"))
        for _ in range(leaves):
            net.leaves.append(await add(None))
        with trio.fail_after(timeout):
            await _until_linked(net)
        yield net


async def _until_linked(net: Testnet) -> None:
    """Looks at once, then often."""
    others = len(net.relays) - 1
    pause = _FIRST_LOOK
    while not (
        all(_relays_of(node) >= min(others, _BOOTSTRAPS) for node in net.relays)
        and all(_relays_of(node) >= min(others + 1, _BOOTSTRAPS) for node in net.leaves)
    ):
        await trio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _relays_of(node: Node) -> int:
    return sum(link.role == "relay" for link in node.links.values())
