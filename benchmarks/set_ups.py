"""What it takes to open a WebRTC connection: bare aiortc, and two nodes; all in this process."""

from __future__ import annotations

import statistics
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Final, TypeAlias

import trio

from .report import Case, Options, Report, Sample, measure

__all__ = ["BARE", "NODES", "SET_UPS", "Kind", "SetUp", "bare_set_ups", "compare_set_ups", "node_set_ups", "set_ups"]

BARE: Final = "bare aiortc"
NODES: Final = "trio_relay, two nodes"
SET_UPS: Final = 20
"""In one run, after one that is not counted."""
_RUN_TIMEOUT: Final = 120.0

SetUp: TypeAlias = Callable[[], AbstractAsyncContextManager[None]]
"""The time until its block begins is that of one set-up; the end of the block closes what was set up."""
Kind: TypeAlias = Callable[[], AbstractAsyncContextManager[SetUp]]
"""Everything that set-ups of one kind need around them."""


def compare_set_ups(report: Report, options: Options) -> None:
    """A table: bare aiortc, and `Node.connect`."""
    cases = [Case(name, partial(set_ups, kind)) for name, kind in {BARE: bare_set_ups, NODES: node_set_ups}.items()]
    samples = measure(cases, options.repeat)
    title = f"webrtc, {SET_UPS} set-ups"
    report.table(title, samples)
    report.compare(title, ("p50 ms", "CPU ms"), samples, [(NODES, BARE)])


def set_ups(kind: Kind) -> Sample:
    """One run: set-ups one after the other; closing is not measured."""
    return trio.run(_set_ups, kind)


async def _set_ups(kind: Kind) -> Sample:
    took, cpu = [], []
    with trio.fail_after(_RUN_TIMEOUT):
        async with kind() as set_up:
            async with set_up():
                pass
            for _ in range(SET_UPS):
                start, computed = time.perf_counter(), time.process_time()
                async with set_up():
                    took.append((time.perf_counter() - start) * 1e3)
                    cpu.append((time.process_time() - computed) * 1e3)
    values = {
        "p50 ms": statistics.median(took),
        "least ms": min(took),
        "most ms": max(took),
        "CPU ms": statistics.median(cpu),
    }
    return Sample(values, SET_UPS)


@asynccontextmanager
async def bare_set_ups() -> AsyncIterator[SetUp]:
    """From two new connections to a channel that is open at both ends."""
    import trio_asyncio

    from .bare import opened_pair

    @asynccontextmanager
    async def set_up() -> AsyncIterator[None]:
        async with opened_pair():
            yield

    async with trio_asyncio.open_loop():
        yield set_up


@asynccontextmanager
async def node_set_ups() -> AsyncIterator[SetUp]:
    """`Node.connect`, signalled through a relay; the two have a session already."""
    from .channels import acquainted_leaves

    async with acquainted_leaves() as leaves:

        @asynccontextmanager
        async def set_up() -> AsyncIterator[None]:
            await leaves.connect()
            yield
            await leaves.disconnect()

        yield set_up
