"""Nodes on hosts: two without listeners, of which each knows the relay and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import trio

from tests.cli.support import COMMAND, JsonRunning, environment

from .hosts import Host
from .layouts import Layout

__all__ = ["KEEPALIVE", "Peer", "open_peers"]

KEEPALIVE: Final = 1.0
"""Seconds after which whoever is silent is gone."""
QUICK: Final = (
    *("--limit", f"ping_after={KEEPALIVE / 2}"),
    *("--limit", f"dead_after={KEEPALIVE / 2}"),
)

PORT: Final = 9001


class Peer(JsonRunning):
    """``node --jsonl`` on a host.

    Attributes:
        id: its own, in hexadecimal.
    """

    id: str = ""
    _deliveries = 0

    async def deliver(self, to: Peer, data: object) -> dict[str, Any]:
        """The reply, which may be an error."""
        self._deliveries += 1
        return await self.ask(f"delivery {self._deliveries}", deliver={"to": to.id, "data": data})

    async def exchange(self, other: Peer, data: object) -> int:
        """Delivers one message each way; returns how many hops the first one took."""
        there = await self.deliver(other, data)
        assert there["event"] == "delivered", there
        assert (await other.event(event="message", **{"from": self.id}))["data"] == data
        back = await other.deliver(self, data)
        assert back["event"] == "delivered", back
        assert (await self.event(event="message", **{"from": other.id}))["data"] == data
        hops: int = there["hops"]
        return hops

    async def connect(self, other: Peer) -> dict[str, Any]:
        """Makes a direct link; returns what its event says of it."""
        reply = await self.ask("connect", connect=other.id)
        assert reply["event"] == "connected", reply
        await other.event(event="link_up", id=self.id)
        return await self.event(event="link_up", id=other.id)

    async def fail_to_connect(self, other: Peer) -> str:
        """Why there is no direct link."""
        reply = await self.ask("connect", connect=other.id)
        assert (reply["event"], reply["error"]) == ("error", "NegotiationFailed"), reply
        message: str = reply["message"]
        return message


@asynccontextmanager
async def open_peers(layout: Layout, *options: str) -> AsyncIterator[tuple[Peer, Peer]]:
    """Alice's node and Bob's, with these options, when they are linked with the relay."""
    place = f"{layout.address}:{PORT}"
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(_open_node(layout.relay, "--listen", place, *QUICK))
        await relay.event(event="listening")
        arguments = ("--listen", "none", "--bootstrap", f"ws://{place}", *QUICK, *options)
        alice = await stack.enter_async_context(_open_node(layout.alice, *arguments))
        bob = await stack.enter_async_context(_open_node(layout.bob, *arguments))
        for peer in (alice, bob):
            peer.id = (await peer.event(event="listening"))["id"]
            await peer.event(event="link_up")
        yield alice, bob


@asynccontextmanager
async def _open_node(host: Host, *arguments: str) -> AsyncIterator[Peer]:
    process = await trio.lowlevel.open_process(
        host.command(*COMMAND, "node", "--jsonl", *arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=environment(),
    )
    try:
        yield Peer(process)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        with trio.CancelScope(shield=True):
            await process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                assert stream is not None
                await stream.aclose()
