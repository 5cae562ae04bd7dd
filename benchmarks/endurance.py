"""WebRTC for longer: connections that come and go, and a large transfer; in processes of their own."""

from __future__ import annotations

import gc
import hashlib
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from typing import Any, Final

import trio

from trio_relay import open_node
from trio_relay.wire.ids import NodeId

from .channels import connect, greet
from .memory import MIB, peak, resident
from .processes import run_relay
from .report import Options, Report, Sample
from .set_ups import BARE, NODES, Kind, bare_set_ups, node_set_ups

__all__ = [
    "PIECE",
    "Side",
    "cycles",
    "growth",
    "moment",
    "points",
    "receive_all",
    "run",
    "said",
    "send_all",
    "started",
    "transfer",
    "transferred",
]

_MB: Final = 1_000_000
PIECE: Final = 32 * 1024
_END: Final = b"end"
_START_TIMEOUT: Final = 60.0
_SLOWEST: Final = 200_000.0
"""Bytes a second: a transfer that is slower is given up."""
_SETTLE: Final = 0.2
_PAUSE: Final = 0.1
"""After each connection: a node takes five offers a second, and here two nodes take turns."""
_SPAWN: Final = multiprocessing.get_context("spawn")
"""New interpreters: what this one has loaded does not count as theirs."""


def run(report: Report, options: Options) -> None:
    """What `options` asks for."""
    if options.cycles:
        for name in (BARE, NODES):
            with ProcessPoolExecutor(1, _SPAWN) as process:
                samples = process.submit(cycles, name, options.cycles).result()
            report.table(f"webrtc, {name}, opened and closed", samples)
            moments = list(samples)
            report.compare(growth(name), ("MiB", "descriptors"), samples, [(moments[-1], moments[-2])])
        report.note(
            "webrtc, opened and closed: one run each, whatever --repeat says; measured after a garbage collection; both"
            " ends, and the relay, are in one process"
        )
    if options.transfer:
        sample = transfer(options.transfer * _MB)
        report.table(f"webrtc, transfer of {options.transfer:,} MB", {NODES: [sample]})


# Connections that come and go


def points(count: int) -> tuple[int, int, int]:
    """After how many it is measured."""
    return 0, max(count // 10, 1), max(count, 2)


def moment(point: int) -> str:
    """The name of a row."""
    return f"after {point:,}"


def growth(name: str) -> str:
    """The title of the ratios between the last two rows."""
    return f"webrtc, {name}, growth"


def cycles(name: str, count: int) -> dict[str, list[Sample]]:
    """What this process holds before, after a tenth of them, and after all."""
    return trio.run(_cycles, {BARE: bare_set_ups, NODES: node_set_ups}[name], count)


async def _cycles(kind: Kind, count: int) -> dict[str, list[Sample]]:
    samples, done = {}, 0
    async with kind() as set_up:
        for point in points(count):
            start, cpu = time.perf_counter(), time.process_time()
            while done < point:
                async with set_up():
                    done += 1
                await trio.sleep(_PAUSE)
            elapsed, cpu = time.perf_counter() - start, time.process_time() - cpu
            await trio.sleep(_SETTLE)
            samples[moment(point)] = [Sample(_held(elapsed, cpu), point)]
    return samples


def _held(elapsed: float, cpu: float) -> dict[str, float]:
    gc.collect()
    return {
        "MiB": resident(os.getpid()) / MIB,
        "descriptors": float(len(os.listdir("/proc/self/fd")) - 1),
        "tasks": float(trio.lowlevel.current_statistics().tasks_living),
        "connections": float(sum(type(each).__name__ == "RTCPeerConnection" for each in gc.get_objects())),
        "seconds": elapsed,
        "CPU s": cpu,
    }


# A large transfer


@dataclass(frozen=True, slots=True)
class Side:
    """What a process says when the transfer is over.

    Attributes:
        since: when the first piece left, or the last one arrived, on the clock that all processes share.
        digest: of all pieces, in the order in which they were sent or came.
        before, peak: bytes of memory, before the first piece and at most.
    """

    since: float
    pieces: int
    digest: str
    cpu: float
    before: int
    peak: int


def transfer(size: int) -> Sample:
    """Pieces of a payload from one process to another over a direct link.

    Raises:
        RuntimeError: it took too long, or is not what was sent; or the link was another one.
    """
    patience = _START_TIMEOUT + size / _SLOWEST
    with run_relay() as relay, started(_receive, relay.url) as receiver:
        to = said(receiver, _START_TIMEOUT)
        with started(_send, relay.url, to, max(size // PIECE, 1)) as sender:
            sent: Side = said(sender, patience)
            came: Side = said(receiver, _START_TIMEOUT)
    return transferred(sent, came)


def transferred(sent: Side, came: Side) -> Sample:
    """What the two say; `lost` counts pieces.

    Raises:
        RuntimeError: every piece came, but not what was sent.
    """
    if came.pieces == sent.pieces and came.digest != sent.digest:
        raise RuntimeError("every piece arrived, but the digests differ")
    elapsed = came.since - sent.since
    values = {"MB/s": came.pieces * PIECE / elapsed / 1e6, "seconds": elapsed}
    for name, side in (("sender", sent), ("receiver", came)):
        values |= {
            f"{name} peak MiB": side.peak / MIB,
            f"{name} before MiB": side.before / MIB,
            f"{name} %": side.cpu / elapsed * 100,
        }
    return Sample(values, sent.pieces, sent.pieces - came.pieces)


@contextmanager
def started(target: Callable[..., None], *arguments: object) -> Iterator[Pipe]:
    """One that says something over a pipe, and is ended at the end of the block."""
    ours, theirs = _SPAWN.Pipe(duplex=False)
    process = _SPAWN.Process(target=target, args=(theirs, *arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        process.kill()
        process.join()
        ours.close()


def said(pipe: Pipe, timeout: float) -> Any:
    """What it says next.

    Raises:
        RuntimeError: it says nothing for so many seconds.
        EOFError: it has ended.
    """
    if not pipe.poll(timeout):
        raise RuntimeError(f"a process said nothing for {timeout:g} s; its own output may say why")
    return pipe.recv()


def _receive(pipe: Pipe, url: str) -> None:
    trio.run(receive_all, pipe, url)


async def receive_all(pipe: Pipe, url: str) -> None:
    """Says its id, and when everything has come what it was."""
    digest, pieces, last, before, cpu = hashlib.sha256(), 0, 0.0, 0, 0.0
    async with open_node(None, [url], webrtc=True) as node:
        await node.wait_linked()
        pipe.send(bytes(node.id))
        async for message in node:
            data = message.data
            if data == _END:
                pipe.send(Side(last, pieces, digest.hexdigest(), time.process_time() - cpu, before, _peak()))
                await trio.sleep_forever()
            if not isinstance(data, bytes) or len(data) != PIECE:
                continue
            if not pieces:
                before, cpu = resident(os.getpid()), time.process_time()
            digest.update(data)
            pieces, last = pieces + 1, time.monotonic()


def _send(pipe: Pipe, url: str, to: bytes, pieces: int) -> None:
    trio.run(send_all, pipe, url, NodeId(to), pieces)


async def send_all(pipe: Pipe, url: str, to: NodeId, pieces: int) -> None:
    """Says what it was when everything has arrived."""
    digest = hashlib.sha256()
    async with open_node(None, [url], webrtc=True) as node:
        await node.wait_linked()
        await greet(node, to)
        await connect(node, to)
        link = node.links[to]
        before, cpu, start = resident(os.getpid()), time.process_time(), time.monotonic()
        for _ in range(pieces):
            data = os.urandom(PIECE)
            digest.update(data)
            await node.send(to, data)
        await node.deliver(to, _END, timeout=_START_TIMEOUT)
        if to not in node.links or node.links[to].since != link.since:
            raise RuntimeError("the link did not last")
        pipe.send(Side(start, pieces, digest.hexdigest(), time.process_time() - cpu, before, _peak()))
        await trio.sleep_forever()


def _peak() -> int:
    return peak(os.getpid())
