"""Rooms beside bare aiortc: a message to one member, one to five, and how long ten take to find each other.

All ends are in this process, over one broker in memory.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from .memory import MIB, resident
from .report import Case, Options, Report, Sample, measure
from .set_ups import BARE
from .webrtc import missing_webrtc, throughput

if TYPE_CHECKING:
    from trio_relay.peerix import MemoryDriver, Message, Room

    from .bare import Fill, Tally

__all__ = ["run"]

_CHUNK: Final = 16_320
"""Bytes of a message in one packet (docs/protocol/peerix.md)."""
_ROOM: Final = "trio_relay, room"
_LABEL: Final = "bench"
_BROADCAST: Final = 10_000_000
_MEMBERS: Final = 10
_TIMEOUT: Final = 120.0
_POLL: Final = 0.05


def run(report: Report, options: Options) -> None:
    """A table for each of the three."""
    missing = missing_webrtc()
    if missing is not None:
        report.note(f"peerix: not measured: {missing}")
        return
    _compare_throughput(report, options)
    _compare_broadcasts(report, options)
    report.table(
        f"peerix, {_MEMBERS} members come at once",
        measure([Case(_ROOM, partial(trio.run, _gather, _MEMBERS))], options.repeat),
    )


def _compare_throughput(report: Report, options: Options) -> None:
    from .bare import sending_pair

    title = f"peerix, {_CHUNK:,} B in a packet"
    cases = [
        Case(BARE, partial(throughput, sending_pair, _CHUNK, options.seconds)),
        Case(_ROOM, partial(throughput, _sending_room, _CHUNK, options.seconds)),
    ]
    samples = measure(cases, options.repeat)
    report.table(title, samples)
    report.compare(title, ("MB/s", "CPU us/msg"), samples, [(_ROOM, BARE)])


def _compare_broadcasts(report: Report, options: Options) -> None:
    title, many = f"peerix, {_BROADCAST // 1_000_000} MB to all members", f"{_ROOM}, 5 members"
    pairs = f"{BARE}, 5 pairs"
    cases = [
        Case(f"{_ROOM}, 1 member", partial(trio.run, _broadcast, 1, False)),
        Case(pairs, partial(trio.run, _fill_pairs, 5)),
        Case(many, partial(trio.run, _broadcast, 5, False)),
        Case(f"{many}, and one that does not read", partial(trio.run, _broadcast, 5, True)),
    ]
    samples = measure(cases, options.repeat)
    report.table(title, samples)
    report.compare(title, ("MB/s, all members", "CPU s"), samples, [(many, pairs)])


@asynccontextmanager
async def _open_rooms(count: int) -> AsyncIterator[list[Room]]:
    """Rooms that all see each other, with a channel."""
    from trio_relay.peerix import MemoryDriver

    async with AsyncExitStack() as stack:
        driver = await stack.enter_async_context(MemoryDriver())
        rooms = [await _enter(stack, driver) for _ in range(count)]
        for room in rooms:
            await room.wait_members(count - 1)
        yield rooms


async def _enter(stack: AsyncExitStack, driver: MemoryDriver) -> Room:
    from trio_relay.peerix import open_room

    room = await stack.enter_async_context(open_room("bench", driver=driver))
    room.open_channel(_LABEL)
    return room


@asynccontextmanager
async def _sending_room(tally: Tally) -> AsyncIterator[Fill]:
    """Two rooms; one sends a single message without an end, and the other reads it as it comes."""
    async with _open_rooms(2) as (one, other), trio.open_nursery() as nursery:
        nursery.start_soon(_count, other, tally)

        async def fill(payload: bytes) -> None:
            async def pieces() -> AsyncIterator[bytes]:
                while not tally.stopped:
                    tally.sent += 1
                    yield payload

            await one.send(pieces(), label=_LABEL)

        yield fill
        nursery.cancel_scope.cancel()


async def _count(room: Room, tally: Tally) -> None:
    async for message in room:
        async for chunk in message:
            tally.take(chunk)


# One message to many


async def _broadcast(count: int, slow: bool) -> Sample:
    """How long until so many members have all of it; with a further one that reads nothing of it."""
    payload = os.urandom(_BROADCAST)
    with trio.fail_after(_TIMEOUT):
        async with _open_rooms(count + 1 + slow) as rooms, trio.open_nursery() as nursery:
            sender, *readers = rooms[: count + 1]
            for room in readers:
                nursery.start_soon(_swallow, room)
            watch = _Watch(nursery)
            transfer = sender.send(payload, label=_LABEL)
            wanted = {room.me.id for room in readers if room.me is not None}
            done: set[str] = set()
            steps = 0
            async for progress in transfer:
                steps += 1
                if progress.done:
                    done.add(progress.member)
                if done >= wanted:
                    break
            sample = watch.sample(count, steps)
            transfer.cancel()
            nursery.cancel_scope.cancel()
    return sample


async def _fill_pairs(count: int) -> Sample:
    """The same amount over so many bare channels at once."""
    import trio_asyncio

    from .bare import Tally, opened_pair

    messages = -(-_BROADCAST // _CHUNK)
    with trio.fail_after(_TIMEOUT):
        async with trio_asyncio.open_loop(), AsyncExitStack() as stack, trio.open_nursery() as nursery:
            pairs = [await stack.enter_async_context(opened_pair()) for _ in range(count)]
            tallies = [Tally(_CHUNK) for _ in pairs]
            watch = _Watch(nursery)
            for pair, tally in zip(pairs, tallies, strict=True):
                pair.count(tally)
                nursery.start_soon(trio_asyncio.aio_as_trio(pair.fill), tally, os.urandom(_CHUNK))
            while any(tally.received < messages for tally in tallies):
                await trio.sleep(0.005)
                for tally in tallies:
                    tally.stopped = tally.sent >= messages
            sample = watch.sample(count, 0)
            nursery.cancel_scope.cancel()
    return sample


class _Watch:
    """What it takes, from now on."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._before = self._most = resident(os.getpid())
        self._began, self._cpu = time.perf_counter(), time.process_time()
        nursery.start_soon(self._run)

    async def _run(self) -> None:
        while True:
            self._most = max(self._most, resident(os.getpid()))
            await trio.sleep(_POLL)

    def sample(self, count: int, steps: int) -> Sample:
        """Until now."""
        elapsed, cpu = time.perf_counter() - self._began, time.process_time() - self._cpu
        values = {
            "MB/s, all members": count * _BROADCAST / elapsed / 1e6,
            "seconds": elapsed,
            "CPU s": cpu,
            "steps of progress": float(steps),
            "MiB more at most": (self._most - self._before) / MIB,
        }
        return Sample(values, count)


async def _swallow(room: Room) -> None:
    async for message in room:
        await _read(message)


async def _read(message: Message) -> None:
    async for _ in message:
        pass


# Members that come


async def _gather(count: int) -> Sample:
    began, cpu = time.perf_counter(), time.process_time()
    with trio.fail_after(_TIMEOUT):
        async with _open_rooms(count):
            elapsed, cpu = time.perf_counter() - began, time.process_time() - cpu
    connections = count * (count - 1) / 2
    return Sample({"seconds": elapsed, "CPU s": cpu, "CPU ms per connection": cpu / connections * 1e3}, count)
