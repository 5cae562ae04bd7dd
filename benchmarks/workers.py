"""Processes that make traffic for a while, and waiting for what they share."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["start_workers", "wait_until"]


@contextmanager
def start_workers(*targets: Callable[[], None]) -> Iterator[list[int]]:
    """Runs each in a process of its own; yields their ids, and ends them after.

    Raises:
        RuntimeError: one of them has ended by itself.
    """
    workers = [multiprocessing.Process(target=target, daemon=True) for target in targets]
    try:
        for worker in workers:
            worker.start()
        yield [worker.pid or 0 for worker in workers]
        if not all(worker.is_alive() for worker in workers):
            raise RuntimeError("a worker ended before its time; its own output says why")
    finally:
        for worker in workers:
            worker.kill()
            worker.join()


def wait_until(condition: Callable[[], bool], timeout: float, what: str) -> None:
    """Returns when it is true.

    Raises:
        RuntimeError: it did not become true in time.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"expected within {timeout:g} s that {what}; the workers' own output may say why not")
        time.sleep(0.005)
