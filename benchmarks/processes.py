"""The relay as a process, and the CPU time of processes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

__all__ = ["Relay", "Watch", "cpu_seconds", "run_relay"]

_CPU_CLOCK: Final = 2
"""CPUCLOCK_SCHED: what the scheduler has counted."""


@dataclass(frozen=True, slots=True)
class Relay:
    """A running relay: where it listens, and its process id."""

    url: str
    pid: int


@contextmanager
def run_relay() -> Iterator[Relay]:
    """``trio-relay node --jsonl`` on a port of the system's choice, ended by the end of its input.

    Raises:
        RuntimeError: it did not start.
    """
    command = [sys.executable, "-m", "trio_relay", "node", "--listen", "127.0.0.1:0", "--jsonl"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"the relay ended with exit code {process.wait()} before it listened")
            yield Relay(json.loads(line)["urls"][0], process.pid)
        finally:
            process.stdin.close()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far, all its threads (Linux).

    The kernel makes a process's CPU clock from its id (clock_getcpuclockid(3)); unlike the times in ``/proc``, which
    are counted in ticks of 10 ms, it is exact.
    """
    return time.clock_gettime(~pid << 3 | _CPU_CLOCK)


class Watch:
    """Wall and CPU time of some processes since it was made."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids: Final = pids
        self._start: Final = time.perf_counter()
        self._cpu: Final = {name: cpu_seconds(pid) for name, pid in pids.items()}

    def stop(self) -> tuple[float, dict[str, float]]:
        """Seconds that passed, and those that each process computed."""
        cpu = {name: cpu_seconds(pid) - self._cpu[name] for name, pid in self._pids.items()}
        return time.perf_counter() - self._start, cpu
