"""Three nodes, each a process: A sends, R relays, B takes the messages; ours and the original's by the same rules.

A has a window of messages under way and B gives credit for a quarter of it at a time, past the relay, over a
connection of its own. Ours send bytes with `Node.send` and take them by iteration; the originals send text of the same
length with `peer.send`, since JSON is all that they carry. For the latency, A sends at a fixed rate, far from any
limit, and each message has the time at which it left.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from .hop import LATENCY_RATE, LATENCY_WARM_UP
from .processes import WARM_UP, Relay, Watch, run_relay, warm_up
from .programs import ORIGINAL_WARM_UP
from .report import Case, Options, Report, Sample, measure
from .rivals import HERE, missing_rivals, run_peer_relay

__all__ = ["run"]

_BYTES: Final = 512 * 1024
"""Most of what is under way."""
_STAMPED: Final = 24
"""Bytes that a message with the time in decimal digits has at least."""
_DRAIN_TIMEOUT: Final = 1.0
"""Without progress for so long, what is missing is lost."""


@dataclass(frozen=True, slots=True)
class _Trio:
    """How the relay and both ends are started."""

    name: str
    relay: Callable[[], AbstractContextManager[Relay]]
    end: Sequence[str]
    options: Mapping[str, object]
    cwd: Path | None = None
    warm_up: float = WARM_UP


_OURS: Final = (sys.executable, "-m", "benchmarks.end")
_ORIGINAL: Final = ("node", "--no-deprecation", "end.js")
_SEALED: Final = _Trio("trio_relay, sealed", run_relay, _OURS, {"sealed": True})
_PLAIN: Final = _Trio("trio_relay, plain", run_relay, _OURS, {"sealed": False})
_RIVALS: Final = tuple(
    _Trio(name, partial(run_peer_relay, compression=compression), _ORIGINAL, {}, HERE, ORIGINAL_WARM_UP)
    for name, compression in (("peer-relay", True), ("peer-relay, no compression", False))
)


def run(report: Report, options: Options) -> None:
    """Throughput by payload size, a table for each, then latency.

    Only the smallest size has runs of full length in the tables of throughput, the others half.
    """
    missing = missing_rivals() if options.rivals else None
    rivals = _RIVALS if options.rivals and missing is None else ()
    if missing is not None:
        report.note(f"peer-relay, end to end: not measured: {missing}")
    programs, least = (_SEALED, _PLAIN, *rivals), min(options.sizes)
    cases = [
        Case(f"{size} {each.name}", partial(_throughput, each, size, options.window, seconds))
        for size, seconds in ((size, options.seconds / (1 if size == least else 2)) for size in options.sizes)
        for each in programs
    ]
    samples = measure(cases, options.repeat)
    pairs = [(ours.name, rival.name) for rival in rivals for ours in (_SEALED, _PLAIN)]
    for size in options.sizes:
        title, table = f"endtoend, {size:,} B", {each.name: samples[f"{size} {each.name}"] for each in programs}
        report.table(title, table)
        report.compare(title, ("msg/s", "us/msg, all three"), table, [(_SEALED.name, _PLAIN.name), *pairs])
    size = max(least, _STAMPED)
    cases = [Case(each.name, partial(_latency, each, size, options.window, options.seconds)) for each in programs]
    samples = measure(cases, options.repeat)
    title, columns = f"endtoend, {size:,} B, {LATENCY_RATE:.0f} msg/s", ("p50 us", "p99 us", "us/msg, all three")
    report.table(title, samples)
    report.compare(title, columns, samples, [(_SEALED.name, _PLAIN.name), *pairs])


class _Process:
    """An end: a line of input has a line of output."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process: Final = process
        self.pid: Final = process.pid

    def read(self) -> dict[str, object]:
        """Its next line.

        Raises:
            RuntimeError: it has ended.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"an end stopped with exit code {self._process.wait()}; its own output says why")
        said: dict[str, object] = json.loads(line)
        return said

    def count(self, command: str = "count") -> int:
        """How many messages it has sent or received."""
        return int(str(self._ask(command)["count"]))

    def delays(self) -> list[float]:
        """Microseconds that each message took which it has received since this was called before."""
        delays = self._ask("delays")["delays"]
        assert isinstance(delays, list)
        return delays

    def _ask(self, command: str) -> dict[str, object]:
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self.read()


@contextmanager
def _run_end(program: _Trio, **options: object) -> Iterator[_Process]:
    command = [*program.end, json.dumps({**program.options, **options})]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=program.cwd, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield _Process(process)
        finally:
            process.kill()


@contextmanager
def _run_ends(program: _Trio, **options: object) -> Iterator[tuple[Relay, _Process, _Process]]:
    """The relay, the sender and the receiver, when the first message has arrived."""
    with program.relay() as relay, _run_end(program, url=relay.url, **options) as receiver:
        place = receiver.read()
        with _run_end(program, url=relay.url, to=place["id"], credit=place["credit"], **options) as sender:
            sender.read()
            yield relay, sender, receiver


def _throughput(program: _Trio, size: int, window: int, seconds: float) -> Sample:
    window = min(window, max(_BYTES // size, 4))
    with _run_ends(program, size=size, window=window) as (relay, sender, receiver):
        warm_up([relay.pid, sender.pid, receiver.pid], 3 * program.warm_up)
        watch = Watch({"relay": relay.pid, "sender": sender.pid, "receiver": receiver.pid})
        before = receiver.count()
        time.sleep(seconds)
        received = receiver.count() - before
        elapsed, cpu = watch.stop()
        if not received:
            raise RuntimeError(f"no message of {size} bytes came through {program.name}")
        sent = sender.count("stop")
        lost = sent - _drain(receiver, sent)
    values = {
        "msg/s": received / elapsed,
        "MB/s": received * size / elapsed / 1e6,
        "us/msg, all three": sum(cpu.values()) / received * 1e6,
        **{f"{name} us": spent / received * 1e6 for name, spent in cpu.items()},
        **{f"{name} %": spent / elapsed * 100 for name, spent in cpu.items()},
    }
    busy = {name: cpu[name] / elapsed for name in ("sender", "receiver")}
    return Sample(values, sent, lost, busy)


def _latency(program: _Trio, size: int, window: int, seconds: float) -> Sample:
    """From `Node.send` to the receiver's iteration, one way; warm-up at the same rate, so many seconds for everyone."""
    with _run_ends(program, size=size, window=window, rate=LATENCY_RATE) as (relay, sender, receiver):
        time.sleep(LATENCY_WARM_UP)
        receiver.delays()
        watch = Watch({"relay": relay.pid, "sender": sender.pid, "receiver": receiver.pid})
        time.sleep(seconds)
        delays = sorted(receiver.delays())
        _, cpu = watch.stop()
        if not delays:
            raise RuntimeError(f"no message of {size} bytes came through {program.name}")
        sent = sender.count("stop")
        lost = sent - _drain(receiver, sent)
    values = {
        "p50 us": delays[len(delays) // 2],
        "p99 us": delays[len(delays) * 99 // 100],
        "us/msg, all three": sum(cpu.values()) / len(delays) * 1e6,
        **{f"{name} us/msg": spent / len(delays) * 1e6 for name, spent in cpu.items()},
    }
    return Sample(values, sent, lost)


def _drain(receiver: _Process, sent: int) -> int:
    """How many had arrived when all had, or when nothing came any more."""
    last, since = receiver.count(), time.monotonic()
    while last < sent and time.monotonic() - since < _DRAIN_TIMEOUT:
        time.sleep(0.01)
        if (count := receiver.count()) != last:
            last, since = count, time.monotonic()
    return last
