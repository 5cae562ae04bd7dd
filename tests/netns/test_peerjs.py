"""PeerJS connections between hosts: with UDP, without it, and when it ends; with our broker, and with the original."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import pytest
import trio

from tests.cli.support import COMMAND, JsonRunning, environment
from tests.netns.hosts import Host, find_program
from tests.netns.layouts import Layout, routed

pytestmark = pytest.mark.netns

PORT: Final = 9000
MB: Final = 1_000_000
MIB: Final = 1024 * 1024
PATIENCE: Final = ("--fallback", "--patience", "2")
"""For what does not measure how long it takes until WebRTC is given up."""


class Peer(JsonRunning):
    """`peerjs_peer` on a host."""

    _commands = 0

    async def begin(self, do: str, **arguments: object) -> int:
        """Gives a command; `end` has its reply."""
        self._commands += 1
        await self.write(encode({"do": do, "ref": self._commands, **arguments}))
        return self._commands

    async def end(self, command: int) -> dict[str, Any]:
        return await self.event(ref=command)

    async def do(self, do: str, **arguments: object) -> dict[str, Any]:
        return await self.end(await self.begin(do, **arguments))


def encode(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"


@asynccontextmanager
async def program(host: Host, command: Sequence[str], folder: Path | None = None) -> AsyncIterator[trio.Process]:
    process = await trio.lowlevel.open_process(
        host.command(*command),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=environment(),
        cwd=folder,
    )
    try:
        yield process
    finally:
        kill(process)
        with trio.CancelScope(shield=True):
            await process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                assert stream is not None
                await stream.aclose()


def kill(process: trio.Process) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


@asynccontextmanager
async def our_broker(layout: Layout) -> AsyncIterator[trio.Process]:
    """With a node of the overlay, on one port."""
    async with program(layout.relay, [*COMMAND, "serve", "--peerjs", "--listen", f"0.0.0.0:{PORT}"]) as process:
        await Running(process).line("listening")
        yield process


@asynccontextmanager
async def original_broker(layout: Layout) -> AsyncIterator[trio.Process]:
    """PeerServer of npm `peer`."""
    install(INTEROP)
    async with program(layout.relay, ["node", "peerjs/server.mjs"], INTEROP) as process:
        running = JsonRunning(process)
        await running.write(encode({"do": "listen", "options": {"host": layout.address, "port": PORT}}))
        assert (await running.event())["port"] == PORT
        yield process


@asynccontextmanager
async def open_peers(layout: Layout, *options: str) -> AsyncIterator[tuple[Peer, Peer]]:
    """Alice and Bob, registered."""
    async with AsyncExitStack() as stack:
        peers = []
        for name, host in ("alice", layout.alice), ("bob", layout.bob):
            command = [sys.executable, "-m", "tests.netns.peerjs_peer", name, layout.address, str(PORT), *options]
            peers.append(Peer(await stack.enter_async_context(program(host, command))))
        alice, bob = peers
        for peer in peers:
            await peer.event(event="registered")
        yield alice, bob
