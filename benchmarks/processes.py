"""The relay and its rivals as processes, and the CPU time of processes."""

from __future__ import annotations

import atexit
import functools
import json
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = [
    "WARM_UP",
    "Certificate",
    "Relay",
    "Watch",
    "certificate",
    "cpu_seconds",
    "raise_descriptor_limit",
    "run_program",
    "run_relay",
    "warm_up",
]

WARM_UP: Final = 0.3
"""CPU seconds for which a program works before it is measured."""
_CPU_CLOCK: Final = 2
"""CPUCLOCK_SCHED: what the scheduler has counted."""


@dataclass(frozen=True, slots=True)
class Relay:
    """A running relay: where it listens, and its process id."""

    url: str
    pid: int


@contextmanager
def run_relay(*, tls: bool = False, limits: Mapping[str, int] | None = None) -> Iterator[Relay]:
    """``trio-relay node --jsonl`` on a port of the system's choice; with `tls`, the certificate of `certificate`.

    What it says of each link is not read: once the pipe is full it counts the rest as lost.
    """
    options = ["--tls-cert", certificate().chain, "--tls-key", certificate().key] if tls else []
    options += [f"--limit={name}={value}" for name, value in (limits or {}).items()]
    command = [sys.executable, "-m", "trio_relay", "node", "--listen", "127.0.0.1:0", "--jsonl", *options]
    with run_program(command) as relay:
        yield relay


@contextmanager
def run_program(command: Sequence[str], cwd: Path | None = None) -> Iterator[Relay]:
    """A program whose first line of output is JSON with its `urls`; it is ended by the end of its input.

    Raises:
        RuntimeError: it did not start.
    """
    with subprocess.Popen(command, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"{shlex.join(command)} ended with exit code {process.wait()} before it listened")
            yield Relay(json.loads(line)["urls"][0], process.pid)
        finally:
            process.stdin.close()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()


@dataclass(frozen=True, slots=True)
class Certificate:
    """Names of PEM files: a chain for 127.0.0.1, its private key, and the authority that signed it."""

    chain: str
    key: str
    authority: str


@functools.cache
def certificate() -> Certificate:
    """One certificate for every listener of this run; its files go away with this process.

    Raises:
        ImportError: `trustme` is not installed.
    """
    import trustme

    folder = tempfile.TemporaryDirectory(prefix="benchmarks-")
    atexit.register(folder.cleanup)
    made = Certificate(*(str(Path(folder.name, name)) for name in ("chain.pem", "key.pem", "authority.pem")))
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    for blob in issued.cert_chain_pems:
        blob.write_to_path(made.chain, append=True)
    issued.private_key_pem.write_to_path(made.key)
    authority.cert_pem.write_to_path(made.authority)
    return made


def raise_descriptor_limit() -> int:
    """Raises the soft limit on descriptors of this process, and of those that it starts, to the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 20


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far, all its threads (Linux).

    The kernel makes a process's CPU clock from its id (clock_getcpuclockid(3)); unlike the times in ``/proc``, which
    are counted in ticks of 10 ms, it is exact.
    """
    return time.clock_gettime(~pid << 3 | _CPU_CLOCK)


def warm_up(pids: Sequence[int], seconds: float) -> None:
    """Waits until processes have computed so long, in all, from now on; at most four times as long."""
    started, deadline = sum(map(cpu_seconds, pids)), time.monotonic() + 4 * seconds
    while sum(map(cpu_seconds, pids)) - started < seconds and time.monotonic() < deadline:
        time.sleep(0.01)


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
