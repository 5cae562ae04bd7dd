"""Many messages through one relay: whether the three processes keep their size, and how many ids they remember."""

from __future__ import annotations

import multiprocessing
import os
import re
import time
import urllib.request
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from typing import Final

import trio

from trio_relay import DeliveryError, Identity, Node, open_node
from trio_relay.wire.ids import NodeId

from .generator import Shared
from .hop import wait_until_drained, wait_until_ready
from .memory import MIB, resident
from .processes import Relay, run_relay
from .report import Options, Report, Sample

__all__ = ["run"]

_SIZE: Final = 100
_POINTS: Final = (100, 10, 1)
"""Measured after all messages divided by these."""
_POLL: Final = 100e-6
_STUCK: Final = 30.0
_FIRST: Final = b"first"
_TABLE: Final = re.compile(r'^trio_relay_size\{table="(\w+)"\} (\S+)$', re.MULTILINE)


def run(report: Report, options: Options) -> None:
    """One line for each of three moments, and by how much each process grew over the last nine tenths."""
    samples = _soak(options.messages, options.window)
    report.table(f"soak, {_SIZE} B, window {options.window}", samples)
    names = list(samples)
    for process in ("relay", "sender", "receiver"):
        report.ratio("soak, growth", f"{process} MiB", samples, [(names[-1], names[-2])])
    report.note(
        "soak is one run, whatever --repeat says; ids: message ids that the receiver remembers;"
        " relay entries: the sum of all tables of the relay, as it says on its page /metrics"
    )


def _soak(messages: int, window: int) -> dict[str, list[Sample]]:
    shared, remembered, seed = Shared(), Shared(), os.urandom(32)
    to = Identity.from_seed(seed).id
    with run_relay() as relay:
        ends = [
            multiprocessing.Process(target=_receiver, args=(relay.url, seed, shared, remembered), daemon=True),
            multiprocessing.Process(target=_sender, args=(relay.url, to, messages, window, shared), daemon=True),
        ]
        for end in ends:
            end.start()
        try:
            wait_until_ready(shared, ends)
            return _watch(relay, ends, messages, shared, remembered)
        finally:
            for end in ends:
                end.kill()
                end.join()


def _watch(
    relay: Relay, ends: Sequence[BaseProcess], messages: int, shared: Shared, remembered: Shared
) -> dict[str, list[Sample]]:
    samples = {}
    pids = {"relay": relay.pid, "receiver": ends[0].pid or 0, "sender": ends[1].pid or 0}
    start = time.perf_counter()
    for point in (max(messages // part, 1) for part in _POINTS):
        _wait_for(shared, point)
        elapsed = time.perf_counter() - start
        values = {f"{name} MiB": resident(pid) / MIB for name, pid in pids.items()}
        values |= {"ids": float(remembered.received.value), "relay entries": _entries(relay), "seconds": elapsed}
        samples[f"{point:,} messages"] = [Sample(values, shared.sent.value, 0)]
    lost = wait_until_drained(shared)
    samples[f"{point:,} messages"] = [Sample(values, shared.sent.value, lost)]
    return samples


def _wait_for(shared: Shared, point: int) -> None:
    """Returns when so many messages were received, or nothing comes any more."""
    last, since = 0, time.monotonic()
    while (received := shared.received.value) < point:
        if received != last:
            last, since = received, time.monotonic()
        elif shared.stopped.value:
            return
        elif time.monotonic() - since > _STUCK:
            raise RuntimeError(f"nothing was received for {_STUCK:g} s")
        time.sleep(0.01)


def _entries(relay: Relay) -> float:
    """What the relay keeps in all of its tables, by its own count."""
    with urllib.request.urlopen(relay.url.replace("ws://", "http://") + "/metrics", timeout=10) as answer:
        return sum(float(size) for _, size in _TABLE.findall(answer.read().decode()))


# Processes


def _sender(url: str, to: NodeId, messages: int, window: int, shared: Shared) -> None:
    trio.run(_send, url, to, messages, window, shared)


async def _send(url: str, to: NodeId, messages: int, window: int, shared: Shared) -> None:
    payload = os.urandom(_SIZE)
    async with open_node(None, [url]) as node:
        await node.wait_linked()
        await _meet(node, to)
        shared.ready.value += 1
        quarter, sent, received = max(window // 4, 1), 0, shared.received
        while sent < messages:
            if sent - received.value > window - quarter:
                await trio.sleep(_POLL)
                continue
            count = min(quarter, messages - sent)
            for _ in range(count):
                await node.send(to, payload)
            sent += count
            shared.sent.value = sent
        shared.stopped.value = True
        await trio.sleep_forever()


async def _meet(node: Node, to: NodeId) -> None:
    """Returns when the other node has heard of us: there is a session then."""
    while True:
        try:
            await node.deliver(to, _FIRST, timeout=1)
            return
        except DeliveryError:
            await trio.sleep(0.1)


def _receiver(url: str, seed: bytes, shared: Shared, remembered: Shared) -> None:
    trio.run(_receive, url, seed, shared, remembered)


async def _receive(url: str, seed: bytes, shared: Shared, remembered: Shared) -> None:
    async with open_node(None, [url], identity=Identity.from_seed(seed)) as node:
        await node.wait_linked()
        shared.ready.value += 1
        received = shared.received
        async for message in node:
            if message.data != _FIRST:
                received.value += 1
                if received.value % 1000 == 0:
                    remembered.received.value = node.statistics().sizes["seen"]
