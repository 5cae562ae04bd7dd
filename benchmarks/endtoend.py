"""Three nodes, each a process: A sends with `Node.send`, R relays, B takes messages by iteration."""

from __future__ import annotations

import multiprocessing
import os
import time
from functools import partial
from typing import Final

import trio

from trio_relay import DeliveryError, Identity, open_node
from trio_relay.wire.ids import NodeId

from .generator import Shared
from .hop import WARM_UP, wait_until_drained, wait_until_ready
from .processes import Watch, run_relay
from .report import Case, Options, Report, Sample, measure

__all__ = ["run"]

_POLL: Final = 100e-6
_FIRST: Final = b"first"
_BYTES: Final = 512 * 1024


def run(report: Report, options: Options) -> None:
    """Throughput by payload size, sealed and plain, and the ratio of the two."""
    cases = [
        Case(f"{size:,} B, {name}", partial(_throughput, size, options.window, sealed, options.seconds))
        for size in options.sizes
        for name, sealed in (("sealed", True), ("plain", False))
    ]
    samples = measure(cases, options.repeat)
    report.table(f"endtoend, window {options.window}", samples)
    pairs = [(f"{size:,} B, sealed", f"{size:,} B, plain") for size in options.sizes]
    report.ratio("endtoend", "msg/s", samples, pairs)
    report.ratio("endtoend", "relay us/msg", samples, pairs)


def _throughput(size: int, window: int, sealed: bool, seconds: float) -> Sample:
    window = min(window, max(_BYTES // size, 4))
    shared, seed = Shared(), os.urandom(32)
    to = Identity.from_seed(seed).id
    with run_relay() as relay:
        receiver = multiprocessing.Process(target=_receiver, args=(relay.url, seed, sealed, shared), daemon=True)
        sender = multiprocessing.Process(
            target=_sender, args=(relay.url, to, size, window, sealed, shared), daemon=True
        )
        processes = [receiver, sender]
        for process in processes:
            process.start()
        try:
            wait_until_ready(shared, processes)
            time.sleep(WARM_UP)
            before = shared.received.value
            watch = Watch({"relay": relay.pid, "sender": sender.pid or 0, "receiver": receiver.pid or 0})
            time.sleep(seconds)
            elapsed, cpu = watch.stop()
            received = shared.received.value - before
            shared.stop.value = True
            lost = wait_until_drained(shared)
        finally:
            for process in processes:
                process.kill()
                process.join()
    values = {
        "msg/s": received / elapsed,
        **{f"{name} us/msg": spent / max(received, 1) * 1e6 for name, spent in cpu.items()},
    }
    return Sample(values, shared.sent.value, lost)


def _sender(url: str, to: NodeId, size: int, window: int, sealed: bool, shared: Shared) -> None:
    trio.run(_send, url, to, size, window, sealed, shared)


async def _send(url: str, to: NodeId, size: int, window: int, sealed: bool, shared: Shared) -> None:
    payload = os.urandom(size)
    async with open_node(None, [url], sealed=sealed) as node:
        await node.wait_linked()
        while True:
            try:
                await node.deliver(to, _FIRST, timeout=1)
                break
            except DeliveryError:
                await trio.sleep(0.1)
        shared.ready.value += 1
        quarter = max(window // 4, 1)
        sent, received, stop = 0, shared.received, shared.stop
        while not stop.value:
            # A full window waits for a quarter of it: else the slowest process would set the pace of each send.
            if sent - received.value > window - quarter:
                await trio.sleep(_POLL)
                continue
            for _ in range(quarter):
                await node.send(to, payload)
            sent += quarter
            shared.sent.value = sent
        shared.stopped.value = True
        await trio.sleep_forever()


def _receiver(url: str, seed: bytes, sealed: bool, shared: Shared) -> None:
    trio.run(_receive, url, seed, sealed, shared)


async def _receive(url: str, seed: bytes, sealed: bool, shared: Shared) -> None:
    async with open_node(None, [url], identity=Identity.from_seed(seed), sealed=sealed) as node:
        await node.wait_linked()
        shared.ready.value += 1
        received = shared.received
        async for message in node:
            if message.data != _FIRST:
                received.value += 1
