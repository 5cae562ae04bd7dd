"""One relay and many pairs of leaves: which share of a moderate load arrives, and when. Leaves are real nodes."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Final, TypeAlias

import trio

from trio_relay import DeliveryError, Identity, Node, open_node

from .generator import Shared
from .processes import Watch, run_relay
from .report import Case, Options, Report, Sample, measure
from .rivals import missing_rivals, run_peer_relay
from .rivals.lines import Lines, run_lines
from .workers import start_workers, wait_until

__all__ = ["run"]

PAIRS: Final = (5, 10, 20, 50, 100, 500)
RIVAL_PAIRS: Final = (5, 10, 20, 50, 100)
_RATE: Final = 500
"""Messages a second, in all."""
_SIZE: Final = 100
_SETTLE: Final = 1.5
"""Between the last link and the first message: whatever nodes tell each other first is told by then."""
_DRAIN: Final = 1.0
_START_TIMEOUT: Final = 60.0
_FIRST: Final = b"first"

_End: TypeAlias = Callable[[str, bytes, int, Shared], Awaitable[None]]


def run(report: Report, options: Options) -> None:
    """One line for each number of pairs, ours and the original."""
    messages = max(int(_RATE * options.seconds * 1.25), 1)
    cases = [Case(f"trio_relay, {pairs} pairs", partial(_ours, pairs, messages)) for pairs in PAIRS]
    missing = missing_rivals() if options.rivals else None
    if missing is not None:
        report.note(f"star: without npm peer-relay: {missing}")
    elif options.rivals:
        cases += [Case(f"peer-relay, {pairs} pairs", partial(_original, pairs, messages)) for pairs in RIVAL_PAIRS]
    samples = measure(cases, (options.repeat + 1) // 2)
    report.table(f"star, {messages:,} messages of {_SIZE} B, {_RATE}/s in all", samples, loss_voids=False)


def _sample(messages: int, delays: Sequence[float], elapsed: float, relay_cpu: float) -> Sample:
    ordered = sorted(delays) or [float("nan")]
    values = {
        "delivered %": 100 * len(delays) / messages,
        "p50 ms": ordered[len(ordered) // 2] * 1e3,
        "p99 ms": ordered[len(ordered) * 99 // 100] * 1e3,
        "relay %": relay_cpu / elapsed * 100,
        "relay us/msg": relay_cpu / messages * 1e6,
    }
    return Sample(values, messages, messages - len(delays))


# Ours


def _ours(pairs: int, messages: int) -> Sample:
    shared, seed = Shared(messages), os.urandom(32)
    with run_relay() as relay:
        ends = (partial(_run, end, relay.url, seed, pairs, shared) for end in (_receive, _send))
        with start_workers(*ends):
            wait_until(lambda: shared.ready.value == pairs, _START_TIMEOUT, "every pair has met")
            time.sleep(_SETTLE)
            watch = Watch({"relay": relay.pid})
            shared.stop.value = True  # of waiting
            wait_until(lambda: bool(shared.stopped.value), messages / _RATE + _START_TIMEOUT, "all is sent")
            elapsed, cpu = watch.stop()
            time.sleep(_DRAIN)
            times = zip(shared.left, shared.arrived, strict=True)
            return _sample(messages, [arrived - left for left, arrived in times if arrived], elapsed, cpu["relay"])


def _run(
    end: Callable[[str, bytes, int, Shared], Awaitable[None]], url: str, seed: bytes, pairs: int, shared: Shared
) -> None:
    trio.run(end, url, seed, pairs, shared)


def _identity(seed: bytes, number: int) -> Identity:
    """Of a receiver."""
    return Identity.from_seed(hashlib.sha256(seed + number.to_bytes(4, "big")).digest())


async def _receive(url: str, seed: bytes, pairs: int, shared: Shared) -> None:
    arrived = shared.arrived

    async def take(node: Node) -> None:
        async for message in node:
            assert isinstance(message.data, bytes)
            if message.data != _FIRST:
                arrived[int.from_bytes(message.data[:8], "big")] = time.monotonic()

    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        for number in range(pairs):
            node = await stack.enter_async_context(open_node(None, [url], identity=_identity(seed, number)))
            nursery.start_soon(take, node)
            await node.wait_linked()
        await trio.sleep_forever()


async def _send(url: str, seed: bytes, pairs: int, shared: Shared) -> None:
    targets = [_identity(seed, number).id for number in range(pairs)]
    nodes: list[Node] = []
    async with AsyncExitStack() as stack:
        for target in targets:
            node = await stack.enter_async_context(open_node(None, [url]))
            await node.wait_linked()
            nodes.append(node)
            while True:
                try:
                    await node.deliver(target, _FIRST, timeout=1)
                    break
                except DeliveryError:
                    await trio.sleep(0.1)
            shared.ready.value += 1
        await trio.to_thread.run_sync(wait_until, lambda: bool(shared.stop.value), _START_TIMEOUT, "the start is given")
        start, rest = trio.current_time(), bytes(_SIZE - 8)
        for number in range(len(shared.left)):
            await trio.sleep_until(start + number / _RATE)
            shared.left[number] = time.monotonic()
            await nodes[number % pairs].send(targets[number % pairs], number.to_bytes(8, "big") + rest)
        shared.stopped.value = True
        await trio.sleep_forever()


# The original


def _original(pairs: int, messages: int) -> Sample:
    """The pairs link one after the other, so that a full relay refuses whole pairs: that loses the fewest messages."""
    with (
        run_peer_relay(compression=True) as relay,
        run_lines("star.js", relay.url) as receivers,
        run_lines("star.js", relay.url) as senders,
    ):
        targets = []
        for _ in range(pairs):
            targets.append(_opened(receivers))
            _opened(senders)
        time.sleep(_SETTLE)
        watch = Watch({"relay": relay.pid})
        senders.write({"send": targets, "rate": _RATE, "messages": messages, "size": _SIZE})
        senders.read()
        elapsed, cpu = watch.stop()
        time.sleep(_DRAIN)
        receivers.end()
        return _sample(messages, receivers.read()["delays"], elapsed, cpu["relay"])


def _opened(ends: Lines) -> str:
    ends.write({"open": True})
    node_id = ends.read()["id"]
    assert isinstance(node_id, str)
    return node_id
