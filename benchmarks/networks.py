"""Small networks of real nodes on sockets, one process each: which share of messages arrives, in how many frames."""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Final

import trio

from trio_relay import Limits, Node, open_node
from trio_relay.node.link import Link
from trio_relay.transports.connection import Buffer
from trio_relay.wire.frame import Kind, parse_frames_untrusted

from .report import Case, Options, Report, Sample, measure
from .rivals import missing_rivals
from .rivals.lines import run_lines
from .workers import start_workers, wait_until

__all__ = ["run"]

NODES: Final = (10, 30, 60, 100)
_MESSAGES: Final = 225
_RATE: Final = 150
"""Messages a second, between random pairs."""
_SIZE: Final = 100
_SETTLE: Final = 3
"""Seconds between the last node's first link and the first message."""
_DRAIN: Final = 1.5
_JOIN: Final = 0.02
_TIMEOUT: Final = 120.0


def run(report: Report, options: Options) -> None:
    """One line for each size, ours and the original."""
    cases = [Case(f"trio_relay, {nodes} nodes", partial(_ours, nodes)) for nodes in NODES]
    missing = missing_rivals() if options.rivals else None
    if missing is not None:
        report.note(f"networks: without npm peer-relay: {missing}")
    elif options.rivals:
        cases += [Case(f"peer-relay, {nodes} nodes", partial(_original, nodes)) for nodes in NODES]
    samples = measure(cases, (options.repeat + 1) // 2)
    report.table(f"networks, {_MESSAGES} messages of {_SIZE} B between random pairs", samples, loss_voids=False)
    report.note(
        "networks: data frames are those that hold such a message, all frames are whatever links carry from the first"
        " message on (pings, questions and, with ours, the opening of sessions); both are counted on every link that"
        " they cross, and divided by the messages that arrived"
    )


def _sample(arrived: int, frames: int, every: int, hops: float, links: float, exceptions: int) -> Sample:
    values = {
        "delivered %": 100 * arrived / _MESSAGES,
        "data frames/msg": frames / max(arrived, 1),
        "all frames/msg": every / max(arrived, 1),
        "hops": hops,
        "links/node": links,
        "exceptions": float(exceptions),
    }
    return Sample(values, _MESSAGES, _MESSAGES - arrived)


def _original(nodes: int) -> Sample:
    with run_lines("network.js", nodes, _SETTLE, _MESSAGES, _RATE, _SIZE) as network:
        found = network.read()
    links = 2 * found["links"] / nodes
    return _sample(found["arrived"], found["frames"], found["every"], found["hops"], links, found["faults"])


# Ours


def _ours(nodes: int) -> Sample:
    """In a process of its own, as the original is."""
    results: multiprocessing.SimpleQueue[Sample] = multiprocessing.SimpleQueue()
    with start_workers(partial(_run, nodes, results)):
        wait_until(lambda: not results.empty(), _TIMEOUT, f"a network of {nodes} nodes is measured")
        return results.get()


def _run(nodes: int, results: multiprocessing.SimpleQueue[Sample]) -> None:
    trio.run(_network, nodes, results)


class _Counter:
    """Counts frames by looking at whatever links transmit.

    Attributes:
        every: all frames, on every link that they cross.
        frames: those with a message of an application.
        hops: of those that reached their target's link, the links that they crossed.
    """

    def __init__(self, first_hop_limit: int) -> None:
        self.every = self.frames = self.hops = self.counting = 0
        transmit = Link.transmit

        def counted(link: Link, pieces: Sequence[Buffer], *rest: Any, **named: Any) -> None:
            if self.counting:
                for frame in parse_frames_untrusted(b"".join(pieces)):
                    self.every += 1
                    if frame.kind == Kind.DATA:
                        self.frames += 1
                        self.hops += (first_hop_limit + 1 - frame.hop_limit) * (frame.to == link.peer)
            transmit(link, pieces, *rest, **named)

        setattr(Link, "transmit", counted)  # noqa: B010


async def _network(count: int, results: multiprocessing.SimpleQueue[Sample]) -> None:
    counter, arrived = _Counter(Limits().hops), set[int]()
    rng = random.Random(count)
    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        nodes: list[Node] = []
        for _ in range(count):
            bootstrap = nodes[0].urls[:1] if nodes else ()
            node = await stack.enter_async_context(open_node("127.0.0.1:0", bootstrap))
            nursery.start_soon(_take, node, arrived)
            if nodes:
                await node.wait_linked()
                await trio.sleep(_JOIN)
            nodes.append(node)
        await trio.sleep(_SETTLE)
        links = sum(len(node.links) for node in nodes) / count
        counter.counting = True
        for number in range(_MESSAGES):
            source, target = rng.sample(nodes, 2)
            await source.send(target.id, number.to_bytes(8, "big") + bytes(_SIZE - 8))
            await trio.sleep(1 / _RATE)
        await trio.sleep(_DRAIN)
        hops = counter.hops / max(len(arrived), 1)
        results.put(_sample(len(arrived), counter.frames, counter.every, hops, links, 0))
        await trio.sleep_forever()  # goodbyes would take longer than all the rest


async def _take(node: Node, arrived: set[int]) -> None:
    async for message in node:
        assert isinstance(message.data, bytes)
        arrived.add(int.from_bytes(message.data[:8], "big"))
