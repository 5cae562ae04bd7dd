"""Nodes in processes of their own, driven over their machine interface."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from trio_relay import NodeId, parse_node_id


class NodeProcess:
    """A running ``trio-relay node --jsonl``.

    Attributes:
        id, urls: what it said about itself.
    """

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._unread = b""
        self.id = NodeId(b"")
        self.urls: list[str] = []

    async def start(self) -> None:
        listening = await self.event("listening")
        self.id, self.urls = parse_node_id(listening["id"]), listening["urls"]

    async def event(self, name: str) -> dict[str, Any]:
        """The next event of that name; others are thrown away."""
        assert self._process.stdout is not None
        with trio.fail_after(20):
            while True:
                line, newline, rest = self._unread.partition(b"\n")
                if not newline:
                    chunk = await self._process.stdout.receive_some()
                    assert chunk, f"expected {name}, not the end of the process"
                    self._unread += chunk
                    continue
                self._unread = rest
                value: dict[str, Any] = json.loads(line)
                if value["event"] == name:
                    return value

    async def statistics(self) -> dict[str, Any]:
        assert self._process.stdin is not None
        await self._process.stdin.send_all(b'{"statistics":true}\n')
        found: dict[str, Any] = (await self.event("statistics"))["statistics"]
        return found

    def kill(self) -> None:
        self._process.kill()

    def stop(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)


@asynccontextmanager
async def open_process(bootstrap: Sequence[str] = (), *, descriptors: int | None = None) -> AsyncIterator[NodeProcess]:
    """A node in a process; with `descriptors` it may not have more files and sockets than that."""
    arguments = [argument for url in bootstrap for argument in ("--bootstrap", url)]

    def limit() -> None:
        if descriptors is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

    async with run_node(*arguments, stderr=subprocess.DEVNULL, preexec_fn=limit) as process:
        node = NodeProcess(process)
        await node.start()
        yield node


@asynccontextmanager
async def run_node(*arguments: str, **options: Any) -> AsyncIterator[trio.Process]:
    """``trio-relay node --jsonl`` with pipes to it; leaving kills it."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "trio_relay", "node", "--jsonl", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        **options,
    )
    try:
        yield process
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    await trio.aclose_forcefully(pipe)
