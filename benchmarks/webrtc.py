"""WebRTC beside bare aiortc: throughput of a data channel, and what it takes to open one; all in this process.

With `cycles` or `transfer`, those are measured instead: see `benchmarks.endurance`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, TypeAlias

import trio

from . import endurance, peerjs_transfer
from .report import Case, Options, Report, Sample, measure
from .set_ups import BARE, NODES, compare_set_ups

if TYPE_CHECKING:
    from .bare import Fill, Tally

__all__ = [
    "CONNECTION",
    "missing_webrtc",
    "run",
    "throughput",
]

CONNECTION: Final = "trio_relay, connection"
WARM_UP: Final = 2.0
"""Seconds of traffic before it is measured: the congestion window opens until datagrams are lost, and recovers."""
_DRAIN_TIMEOUT: Final = 2.0
"""Without progress for so long, what is missing is lost."""
_POLL: Final = 0.01
_RUN_TIMEOUT: Final = 120.0
_Sending: TypeAlias = "Callable[[Tally], AbstractAsyncContextManager[Fill]]"


def missing_webrtc() -> str | None:
    """Why nothing here can be measured, or None."""
    absent = [name for name in ("aiortc", "trio_asyncio") if find_spec(name) is None]
    return f"{' and '.join(absent)} not installed" if absent else None


def run(report: Report, options: Options) -> None:
    """Throughput by message size, a table for each, then set-ups; or what `options` asks for instead."""
    missing = missing_webrtc()
    if missing is not None:
        report.note(f"webrtc: not measured: {missing}")
        return
    if options.cycles or options.transfer:
        endurance.run(report, options)
        if options.transfer:
            peerjs_transfer.run(report, options)
        return
    _compare_throughput(report, options)
    compare_set_ups(report, options)


# Throughput


def _compare_throughput(report: Report, options: Options) -> None:
    from .bare import sending_pair
    from .channels import sending_connection, sending_nodes

    kinds: dict[str, _Sending] = {BARE: sending_pair, CONNECTION: sending_connection, NODES: sending_nodes}
    for size in options.sizes:
        cases = [Case(name, partial(throughput, kind, size, options.seconds)) for name, kind in kinds.items()]
        samples = measure(cases, options.repeat)
        title = f"webrtc, {size:,} B"
        report.table(title, samples)
        report.compare(title, ("MB/s", "CPU us/msg"), samples, [(name, BARE) for name in kinds if name != BARE])


def throughput(kind: _Sending, size: int, seconds: float) -> Sample:
    """One run; only what arrived within it counts."""
    return trio.run(_throughput, kind, size, seconds)


async def _throughput(kind: _Sending, size: int, seconds: float) -> Sample:
    from .bare import Tally

    tally = Tally(size)
    with trio.fail_after(_RUN_TIMEOUT):
        async with kind(tally) as fill, trio.open_nursery() as nursery:
            nursery.start_soon(fill, os.urandom(size))
            await _beyond(tally, 0)
            await trio.sleep(WARM_UP)
            received, start, cpu = tally.received, time.perf_counter(), time.process_time()
            await trio.sleep(seconds)
            await _beyond(tally, received)
            received, elapsed = tally.received - received, time.perf_counter() - start
            cpu = time.process_time() - cpu
            tally.stopped = True
            lost = await _drain(tally)
            # A sender that is stuck is not waited for: what it had to send is lost.
            nursery.cancel_scope.cancel()
    values = {
        "MB/s": received * size / elapsed / 1e6,
        "msg/s": received / elapsed,
        "CPU us/msg": cpu / received * 1e6,
        "CPU %": cpu / elapsed * 100,
    }
    return Sample(values, tally.sent, lost)


async def _beyond(tally: Tally, count: int) -> None:
    """Returns when more than so many have arrived."""
    while True:
        await trio.sleep(_POLL)
        if tally.received > count:
            return


async def _drain(tally: Tally) -> int:
    """How many are missing when all have arrived, or when nothing comes any more."""
    last, since = tally.received, time.monotonic()
    while tally.received < tally.sent and time.monotonic() - since < _DRAIN_TIMEOUT:
        await trio.sleep(_POLL)
        if tally.received != last:
            last, since = tally.received, time.monotonic()
    return tally.sent - tally.received


# Set-ups
