"""One process between two raw generators: what a hop costs, and how long it takes."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from multiprocessing.process import BaseProcess
from typing import Final

from .ends import Traffic
from .generator import Shared, receive_counted, receive_timed, send_paced, send_windowed
from .processes import Watch, warm_up
from .programs import FORWARDER, OURS, SEALED, SECURE_FORWARDER, SECURE_OURS, Program, choose_rivals
from .report import Case, Options, Report, Sample, measure

__all__ = [
    "LATENCY_RATE",
    "LATENCY_WARM_UP",
    "PAIR_WINDOW",
    "Variant",
    "generators",
    "measure_latency",
    "measure_sizes",
    "measure_variants",
    "run",
    "start",
    "wait_until_drained",
    "wait_until_ready",
]

LATENCY_RATE: Final = 200.0
"""Messages a second, one at a time: far from saturation, so that nothing waits for anything else."""
_WINDOW_BYTES: Final = 512 * 1024
"""Half of what the relay keeps for a slow link, so that no frame need be lost."""
LATENCY_WARM_UP: Final = 2.0
"""Seconds at the same rate before those that are counted."""
_SHORTER: Final = 3
"""Runs that matter less are so many times shorter: else this takes ten minutes instead of four."""
PAIR_WINDOW: Final = 16
"""Messages under way on each of many pairs."""
_FORK: Final = multiprocessing.get_context("fork")
"""Generators inherit the eventfd and the certificate's name."""
_START_TIMEOUT: Final = 10.0
_DRAIN_TIMEOUT: Final = 1.0
"""Without progress for so long, what is missing is lost."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A line of a table of variants.

    Attributes:
        window: messages under way on each of many pairs.
    """

    name: str
    program: Program
    pairs: int = 1
    window: int = PAIR_WINDOW


def run(report: Report, options: Options) -> None:
    """Throughput by payload size against the rivals; sealed frames, TLS and many pairs; then latency.

    Only the smallest size has runs of full length in the first table; the other runs have a part of it.
    """
    rivals = choose_rivals(report, options)
    measure_sizes(report, options, "hop", OURS, rivals)
    _run_variants(report, options, rivals)
    measure_latency(report, options, "hop", OURS, rivals)


def measure_sizes(report: Report, options: Options, name: str, ours: Program, rivals: Sequence[Program]) -> None:
    """Every program with every size, on one pair; a table for each size, but all runs in turn."""
    programs, least = (ours, *rivals), min(options.sizes)
    cases = [
        Case(f"{size} {program.name}", partial(_throughput, program, size, options, seconds))
        for size, seconds in ((size, options.seconds / (1 if size == least else _SHORTER)) for size in options.sizes)
        for program in programs
    ]
    samples = measure(cases, options.repeat)
    for size in options.sizes:
        title, table = f"{name}, {size:,} B", {each.name: samples[f"{size} {each.name}"] for each in programs}
        report.table(title, table)
        report.compare(title, ("msg/s", "msg/CPU s"), table, [(ours.name, rival.name) for rival in rivals])


def _run_variants(report: Report, options: Options, rivals: Sequence[Program]) -> None:
    """The smallest size once more: sealed frames, TLS, and many pairs.

    The original has no row with many pairs: it keeps at most 20 links in each range of distances and is deaf on others.
    """
    many = f", {options.pairs} pairs"
    beside = [FORWARDER] if FORWARDER in rivals else []
    variants = [Variant(each.name, each) for each in (OURS, SEALED, *beside)]
    pairs = [(SEALED.name, OURS.name)]
    if options.tls and find_spec("trustme") is None:
        report.note("TLS: not measured: trustme is not installed")
    elif options.tls:
        secure = [SECURE_OURS, *(SECURE_FORWARDER for _ in beside)]
        variants += [Variant(each.name, each) for each in secure]
        pairs += [(SECURE_OURS.name, other.name) for other in (OURS, *secure[1:])]
    if options.pairs > 1:
        variants += [Variant(each.name + many, each, options.pairs) for each in (OURS, *beside)]
        pairs += [(OURS.name + many, other) for other in (OURS.name, *(each.name + many for each in beside))]
    measure_variants(report, options, "hop", variants, pairs)


def measure_variants(
    report: Report, options: Options, name: str, variants: Sequence[Variant], pairs: Sequence[tuple[str, str]]
) -> None:
    """Throughput with the smallest size; `pairs` names those that are compared."""
    size, seconds = min(options.sizes), options.seconds / _SHORTER
    cases = [
        Case(each.name, partial(_throughput, each.program, size, options, seconds, each.pairs, each.window))
        for each in variants
    ]
    samples = measure(cases, options.repeat)
    title = f"{name}, {size:,} B, variants"
    report.table(title, samples)
    report.compare(title, ("msg/s", "msg/CPU s"), samples, pairs)


def measure_latency(report: Report, options: Options, name: str, ours: Program, rivals: Sequence[Program]) -> None:
    """Of every program, with the smallest size."""
    size, programs = min(options.sizes), (ours, *rivals)
    cases = [Case(each.name, partial(_latency, each, size, options.seconds)) for each in programs]
    samples = measure(cases, options.repeat)
    title = f"{name}, {size:,} B, {LATENCY_RATE:.0f} msg/s"
    report.table(title, samples)
    report.compare(title, ("p50 us", "p99 us", "relay us/msg"), samples, [(ours.name, each.name) for each in rivals])


def _throughput(
    program: Program, size: int, options: Options, seconds: float, pairs: int = 1, each: int = PAIR_WINDOW
) -> Sample:
    window = min(each if pairs > 1 else options.window, max(_WINDOW_BYTES // size, 4)) * pairs
    shared, traffic = Shared(), program.traffic(size)
    with (
        program.run() as relay,
        _eventfd() as credit,
        generators(
            shared,
            *(
                partial(start, target, traffic, relay.url, pairs, window, shared, credit)
                for target in (receive_counted, send_windowed)
            ),
        ) as (receiver, sender),
    ):
        warm_up([relay.pid], program.warm_up)
        before, watch = shared.received.value, Watch({"relay": relay.pid, "sender": sender, "receiver": receiver})
        time.sleep(seconds)
        elapsed, cpu = watch.stop()
        received = shared.received.value - before
        if not received:
            raise RuntimeError(f"no message of {size} bytes came through {program.name}")
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
    return Sample(values, shared.sent.value, lost, busy, cpu["relay"] / elapsed)


def _latency(program: Program, size: int, seconds: float) -> Sample:
    warm = int(LATENCY_WARM_UP * LATENCY_RATE)
    count = warm + max(int(seconds * LATENCY_RATE), 1)
    shared, traffic = Shared(count), program.traffic(size)
    with (
        program.run() as relay,
        generators(
            shared,
            partial(start, receive_timed, traffic, relay.url, shared),
            partial(start, send_paced, traffic, relay.url, LATENCY_RATE, shared),
        ),
    ):
        time.sleep(LATENCY_WARM_UP)
        before, watch = shared.received.value, Watch({"relay": relay.pid})
        while not shared.stopped.value:
            time.sleep(0.05)
        lost = wait_until_drained(shared)
        received = shared.received.value - before
        _, cpu = watch.stop()
    pairs = zip(shared.left[warm:], shared.arrived[warm:], strict=True)
    delays = sorted((arrived - left) * 1e6 for left, arrived in pairs if arrived)
    values = {
        "p50 us": delays[len(delays) // 2],
        "p99 us": delays[len(delays) * 99 // 100],
        "relay us/msg": cpu["relay"] / received * 1e6,
    }
    return Sample(values, count, lost)


@contextmanager
def _eventfd() -> Iterator[int]:
    credit = os.eventfd(0)
    try:
        yield credit
    finally:
        os.close(credit)


def start(target: Callable[..., None], traffic: Traffic, url: str, *arguments: object) -> BaseProcess:
    """Starts a generator."""
    process = _FORK.Process(target=target, args=(traffic, url, *arguments), daemon=True)
    process.start()
    return process


@contextmanager
def generators(shared: Shared, *starts: Callable[[], BaseProcess]) -> Iterator[list[int]]:
    """Starts processes one after the other, each when the one before is ready; yields their ids, ends them after."""
    processes: list[BaseProcess] = []
    try:
        for each in starts:
            processes.append(each())
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
