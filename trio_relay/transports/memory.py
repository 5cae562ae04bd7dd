"""A network inside one process, with faults that are seeded and repeatable.

Hosts have names; their URLs are ``memory://NAME``. What happens to the n-th message of a connection depends on
the seed, the two names and the number of the connection between them, and on nothing else: not on the order in
which tasks happen to run.
"""

from __future__ import annotations

import errno
import heapq
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import NoReturn, Self

import trio

from ..limits import Limits
from .memory_connection import Item, MemoryConnection
from .memory_host import MemoryHost

__all__ = ["MemoryFaults", "MemoryNetwork"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFaults:
    """What happens to messages. Times are seconds, the others probabilities of one message.

    Attributes:
        latency: what every message takes; their order is kept.
        jitter: at most so much is added.
        loss: not delivered.
        duplication: delivered twice.
        reordering: takes up to four times as long and may be overtaken; needs latency or jitter.

    Raises:
        ValueError: a value is out of range.
    """

    latency: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0

    def __post_init__(self) -> None:
        for name in ("latency", "jitter"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be >= 0, not {getattr(self, name)!r}")
        for name in ("loss", "duplication", "reordering"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, not {getattr(self, name)!r}")
        if self.reordering and not self.delayed:
            raise ValueError("reordering needs latency or jitter")

    @property
    def delayed(self) -> bool:
        """Whether messages take any time."""
        return self.latency + self.jitter > 0


class MemoryNetwork:
    """Hosts, their connections, and the faults between them.

    Without latency and jitter a message arrives in the call that sends it, and no task is needed. With them,
    one task delivers: ``async with network:``, or ``await nursery.start(network.run)``.

    Example:
        >>> network = MemoryNetwork(seed=7, loss=0.1)
        >>> a, b = network.host("a"), network.host("b")
        >>> # await nursery.start(b.serve, "b", routes); connection = await a.dial("memory://b")

    Args:
        seed: decides all faults.
        latency, jitter, loss, duplication, reordering: see `MemoryFaults`.
        limits: `close_timeout` and `unproven_connections` (as the backlog of listeners) are read.
        buffer_messages: on their way to one end of a connection before `send_nowait` returns False.
        buffer_bytes: the same in bytes.

    Attributes:
        counts: messages ``sent``, ``lost``, ``duplicated``, ``reordered``, ``partitioned``, ``delivered``.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        latency: float = 0.0,
        jitter: float = 0.0,
        loss: float = 0.0,
        duplication: float = 0.0,
        reordering: float = 0.0,
        limits: Limits | None = None,
        buffer_messages: int = 256,
        buffer_bytes: int = 256 * 1024,
    ) -> None:
        self.faults = MemoryFaults(
            latency=latency, jitter=jitter, loss=loss, duplication=duplication, reordering=reordering
        )
        self.limits = limits or Limits()
        self.counts: Counter[str] = Counter()
        self._seed = seed
        self._buffer = (buffer_messages, buffer_bytes)
        self._hosts: dict[str, MemoryHost] = {}
        self._connections: dict[MemoryConnection, None] = {}
        self._dialled: Counter[tuple[str, str]] = Counter()
        self._sides: dict[str, int] = {}
        self._due: list[tuple[float, int, MemoryConnection, Item]] = []
        self._numbers = itertools.count()
        self._scheduled: trio.Event | None = None
        self._context: AbstractAsyncContextManager[None] | None = None

    def host(self, name: str) -> MemoryHost:
        """The host of that name; made at its first mention."""
        if name not in self._hosts:
            self._hosts[name] = MemoryHost(self, name)
        return self._hosts[name]

    def new_name(self) -> str:
        """A name that no host has yet, for a host that only dials."""
        return next(name for number in itertools.count(1) if (name := f"host-{number}") not in self._hosts)

    # Faults

    def partition(self, *groups: Collection[str]) -> None:
        """Only hosts of the same group reach each other; those in no group are together in one more.

        Messages across vanish, those in flight too, and so do closes; dials fail with OSError.

        Raises:
            ValueError: a host is in two groups.
        """
        sides: dict[str, int] = {}
        for number, group in enumerate(groups):
            for name in group:
                if sides.setdefault(name, number) != number:
                    raise ValueError(f"host {name} is in two groups")
        self._sides = sides

    def heal(self) -> None:
        """Ends the partition."""
        self._sides = {}

    def reachable(self, one: str, other: str) -> bool:
        """Whether messages between two hosts get through the partition."""
        return self._sides.get(one, -1) == self._sides.get(other, -1)

    def kill(self, name: str) -> None:
        """Breaks all connections of a host at once, at both ends; its listener is its owner's to stop."""
        for connection in [c for c in self._connections if name in (c.host, c.peer_host)]:
            connection.cut()
            self._connections.pop(connection, None)

    # Delivery

    async def __aenter__(self) -> Self:
        self._context = self._running()
        await self._context.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        assert self._context is not None
        return await self._context.__aexit__(exc_type, exc, traceback)

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.run)
            yield
            nursery.cancel_scope.cancel()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Delivers messages that take time, each when it is due."""
        self._scheduled = trio.Event()
        try:
            task_status.started()
            while True:
                deadline = self._due[0][0] if self._due else float("inf")
                with trio.CancelScope(deadline=deadline):
                    await self._scheduled.wait()
                self._scheduled = trio.Event()
                while self._due and self._due[0][0] <= trio.current_time():
                    _, _, target, item = heapq.heappop(self._due)
                    self._deliver(target, item)
        finally:
            self._scheduled = None

    def connect(self, dialler: str, acceptor: str, *, subprotocol: bool) -> tuple[MemoryConnection, MemoryConnection]:
        """Both ends of a new connection; for `MemoryHost.dial`.

        Raises:
            OSError: a partition is between the hosts.
            RuntimeError: messages take time here, and nobody delivers them.
        """
        if not self.reachable(dialler, acceptor):
            raise OSError(errno.EHOSTUNREACH, f"no way from {dialler} to {acceptor}: the network is partitioned")
        if self.faults.delayed and self._scheduled is None:
            raise RuntimeError("a network with latency must run: `async with network:`")
        number = self._dialled[dialler, acceptor]
        self._dialled[dialler, acceptor] += 1
        ends = [
            MemoryConnection(
                ours,
                theirs,
                carry=self._carry,
                rng=random.Random(f"{self._seed}/{dialler}/{acceptor}/{number}/{ours}/{way}"),
                buffer=self._buffer,
                offered_subprotocol=subprotocol,
                close_timeout=self.limits.close_timeout,
            )
            for way, ours, theirs in (("out", dialler, acceptor), ("in", acceptor, dialler))
        ]
        ends[0].peer, ends[1].peer = ends[1], ends[0]
        self._connections.update(dict.fromkeys(ends))
        return ends[0], ends[1]

    def _carry(self, source: MemoryConnection, item: Item) -> None:
        """Takes an item from one end towards the other, through all the faults; ends are never lost by chance."""
        target, faults, rng = source.peer, self.faults, source.rng
        if item is None:
            self._connections.pop(source, None)
        if not self.reachable(source.host, target.host):
            self.counts["partitioned"] += item is not None
            return
        if not target.is_open:
            if item is not None:
                source.cut()
                self._connections.pop(source, None)
                raise trio.BrokenResourceError(f"the connection to {target.host} was closed by it")
            return
        copies = 1
        if item is not None:
            self.counts["sent"] += 1
            if rng.random() < faults.loss:
                self.counts["lost"] += 1
                return
            if rng.random() < faults.duplication:
                self.counts["duplicated"] += 1
                copies = 2
        for _ in range(copies):
            target.expect(item)
            self._schedule(source, item)

    def _schedule(self, source: MemoryConnection, item: Item) -> None:
        faults, rng = self.faults, source.rng
        if not faults.delayed:
            self._deliver(source.peer, item)
            return
        delay = faults.latency + faults.jitter * rng.random()
        due = trio.current_time() + delay
        if item is not None and rng.random() < faults.reordering:
            self.counts["reordered"] += 1
            due += 3 * delay * rng.random()
        else:
            due = source.last_due = max(due, source.last_due)
        heapq.heappush(self._due, (due, next(self._numbers), source.peer, item))
        if self._scheduled is not None:
            self._scheduled.set()

    def _deliver(self, target: MemoryConnection, item: Item) -> None:
        if not target.is_open:
            return
        if not self.reachable(target.host, target.peer_host):
            self.counts["partitioned"] += item is not None
            target.forget(item)
            return
        self.counts["delivered"] += item is not None
        target.arrive(item)
