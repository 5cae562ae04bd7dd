"""Three nodes, each a process: A sends, R relays, B takes the messages; ours and the original's by the same rules.

A has a window of messages under way and B gives credit for a quarter of it at a time, past the relay, over a
connection of its own. Ours send bytes with `Node.send` and take them by iteration; the originals send text of the same
length with `peer.send`, since JSON is all that they carry.
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

from .processes import WARM_UP, Relay, Watch, run_relay, warm_up
from .programs import ORIGINAL_WARM_UP
from .report import Case, Options, Report, Sample, measure
from .rivals import HERE, missing_rivals, run_peer_relay

__all__ = ["run"]

_BYTES: Final = 512 * 1024
"""Most of what is under way."""
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
    """Throughput by payload size, a table for each; only the smallest has runs of full length, the others half."""
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
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return int(str(self.read()["count"]))


@contextmanager
def _run_end(program: _Trio, **options: object) -> Iterator[_Process]:
    command = [*program.end, json.dumps({**program.options, **options})]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=program.cwd, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield _Process(process)
        finally:
            process.kill()


def _throughput(program: _Trio, size: int, window: int, seconds: float) -> Sample:
    window = min(window, max(_BYTES // size, 4))
    with program.relay() as relay, _run_end(program, url=relay.url, size=size, window=window) as receiver:
        place = receiver.read()
        to, credit = place["id"], place["credit"]
        with _run_end(program, url=relay.url, size=size, window=window, to=to, credit=credit) as sender:
            sender.read()
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


def _drain(receiver: _Process, sent: int) -> int:
    """How many had arrived when all had, or when nothing came any more."""
    last, since = receiver.count(), time.monotonic()
    while last < sent and time.monotonic() - since < _DRAIN_TIMEOUT:
        time.sleep(0.01)
        if (count := receiver.count()) != last:
            last, since = count, time.monotonic()
    return last
