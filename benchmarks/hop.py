"""One relay process between two raw generators: what a hop costs, and how long it takes."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.process import BaseProcess
from typing import Final

from trio_relay.identity import Identity
from trio_relay.wire.frame import Flag
from trio_relay.wire.ids import NodeId

from .generator import Shared, receive_frames, receive_times, send_frames, send_paced
from .processes import Watch, run_relay
from .report import Case, Options, Report, Sample, measure

__all__ = ["run", "wait_until_drained", "wait_until_ready"]

WARM_UP: Final = 0.3
LATENCY_RATE: Final = 200.0
"""Messages a second, one at a time: far from saturation, so that nothing waits for anything else."""
_WINDOW_BYTES: Final = 512 * 1024
"""Half of what the relay keeps for a slow link, so that no frame need be lost."""
_START_TIMEOUT: Final = 10.0
_DRAIN_TIMEOUT: Final = 1.0
"""Without progress for so long, what is missing is lost."""


def run(report: Report, options: Options) -> None:
    """Throughput by payload size, plain frames and frames of the same size that are sealed; then latency."""
    cases = [
        Case(f"{size:,} B, {name}", partial(_throughput, size, options.window, flags, options.seconds))
        for size in options.sizes
        for name, flags in (("plain", 0), ("sealed", Flag.SEALED))
    ]
    samples = measure(cases, options.repeat)
    report.table(f"hop, window {options.window}", samples)
    pairs = [(f"{size:,} B, sealed", f"{size:,} B, plain") for size in options.sizes]
    report.ratio("hop, equal frames", "relay us/msg", samples, pairs)
    cases = [Case(f"{size:,} B", partial(_latency, size, options.seconds)) for size in options.sizes]
    report.table(f"hop, {LATENCY_RATE:.0f} msg/s", measure(cases, options.repeat))


def _throughput(size: int, window: int, flags: int, seconds: float) -> Sample:
    window = min(window, max(_WINDOW_BYTES // size, 4))
    shared, seed, to = Shared(), os.urandom(32), os.urandom(32)
    with (
        run_relay() as relay,
        _generators(
            shared,
            lambda: _start(receive_frames, relay.url, to, size, shared),
            lambda: _start(send_frames, relay.url, seed, _id(to), size, window, flags, shared),
        ) as (receiver, sender),
    ):
        time.sleep(WARM_UP)
        before, watch = shared.received.value, Watch({"relay": relay.pid, "sender": sender, "receiver": receiver})
        time.sleep(seconds)
        elapsed, cpu = watch.stop()
        received = shared.received.value - before
        if not received:
            raise RuntimeError(f"no frame of {size} bytes came through the relay")
        shared.stop.value = True
        lost = wait_until_drained(shared)
    values = {
        "msg/s": received / elapsed,
        "MB/s": received * size / elapsed / 1e6,
        "msg/CPU s": received / cpu["relay"],
        "relay us/msg": cpu["relay"] / received * 1e6,
        **{f"{name} %": seconds / elapsed * 100 for name, seconds in cpu.items()},
    }
    busy = {name: cpu[name] / elapsed for name in ("sender", "receiver")}
    return Sample(values, shared.sent.value, lost, busy)


def _latency(size: int, seconds: float) -> Sample:
    count = max(int(seconds * LATENCY_RATE), 1)
    shared, seed, to = Shared(count), os.urandom(32), os.urandom(32)
    with (
        run_relay() as relay,
        _generators(
            shared,
            lambda: _start(receive_times, relay.url, to, shared),
            lambda: _start(send_paced, relay.url, seed, _id(to), size, LATENCY_RATE, shared),
        ),
    ):
        watch = Watch({"relay": relay.pid})
        while not shared.stopped.value:
            time.sleep(0.05)
        lost = wait_until_drained(shared)
        _, cpu = watch.stop()
    pairs = zip(shared.left, shared.arrived, strict=True)
    delays = sorted((arrived - left) * 1e6 for left, arrived in pairs if arrived)
    values = {
        "p50 us": delays[len(delays) // 2],
        "p99 us": delays[len(delays) * 99 // 100],
        "relay us/msg": cpu["relay"] / len(delays) * 1e6,
    }
    return Sample(values, count, lost)


def _id(seed: bytes) -> NodeId:
    return Identity.from_seed(seed).id


def _start(target: Callable[..., None], *arguments: object) -> BaseProcess:
    process = multiprocessing.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


@contextmanager
def _generators(shared: Shared, *starts: Callable[[], BaseProcess]) -> Iterator[list[int]]:
    """Starts processes one after the other, each when the one before is ready; yields their ids, ends them after."""
    processes: list[BaseProcess] = []
    try:
        for start in starts:
            processes.append(start())
            wait_until_ready(shared, processes)
        yield [process.pid or 0 for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.join()


def wait_until_ready(shared: Shared, processes: Sequence[BaseProcess]) -> None:
    """Returns when every process has said that it is ready.

    Raises:
        RuntimeError: one ended, or took too long.
    """
    deadline = time.monotonic() + _START_TIMEOUT
    while shared.ready.value < len(processes):
        if time.monotonic() > deadline or not all(process.is_alive() for process in processes):
            raise RuntimeError("a generator did not get ready; its own output says why")
        time.sleep(0.005)


def wait_until_drained(shared: Shared) -> int:
    """Returns how many frames were lost, after the sender has stopped and nothing comes any more."""
    last, since = shared.received.value, time.monotonic()
    while not shared.stopped.value or last < shared.sent.value:
        time.sleep(0.01)
        if shared.received.value != last:
            last, since = shared.received.value, time.monotonic()
        elif time.monotonic() - since > _DRAIN_TIMEOUT:
            break
    return shared.sent.value - last
