"""PeerJS connections between hosts that can not reach each other by UDP, or from some moment on can not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import pytest
import trio

from tests.cli.support import JsonRunning, environment
from tests.netns.hosts import Host
from tests.netns.layouts import Layout, routed, separate

pytestmark = pytest.mark.netns

PORT: Final = 9000
SIZE: Final = 20_000_000
PROGRAM: Final = (sys.executable, "-m", "tests.netns.fallback_program")


@asynccontextmanager
async def program(host: Host, *arguments: str) -> AsyncIterator[JsonRunning]:
    process = await trio.lowlevel.open_process(
        host.command(*PROGRAM, *arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=environment(),
    )
    try:
        yield JsonRunning(process)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        with trio.CancelScope(shield=True):
            await process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                assert stream is not None
                await stream.aclose()


@asynccontextmanager
async def call(layout: Layout, size: int) -> AsyncIterator[tuple[JsonRunning, JsonRunning]]:
    """Alice's program, which calls, and Bob's, which answers, when the connection is open."""
    place = (layout.address, str(PORT))
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(program(layout.relay, "broker", *place))
        await broker.event(event="listening")
        bob = await stack.enter_async_context(program(layout.bob, "answer", *place))
        await bob.event(event="registered")
        alice = await stack.enter_async_context(program(layout.alice, "call", *place, str(size)))
        await alice.event(event="registered")
        yield alice, bob


async def test_without_udp_everything_goes_through_the_broker() -> None:
    with separate() as layout:
        async with call(layout, SIZE) as (alice, bob):
            assert (await alice.event(event="open"))["transport"] == "relay"
            await alice.event(event="tenth")
            await alice.write(b"\n")
            compared = await alice.event(event="compared")
            assert compared == {"event": "compared", "equal": True, "bytes": SIZE, "transport": "relay"}
            assert (await bob.event(event="closed"))["transport"] == "relay"


async def test_when_udp_ends_in_the_middle_the_broker_carries_the_rest() -> None:
    with routed() as layout:
        async with call(layout, SIZE) as (alice, bob):
            assert (await alice.event(event="open"))["transport"] == "webrtc"
            assert (await alice.event(event="tenth"))["transport"] == "webrtc"
            layout.cut(True)
            await alice.write(b"\n")
            await trio.sleep(15)  # until the silence is noticed on both sides, and WebRTC was tried again
            compared = await alice.event(event="compared")
            assert compared == {"event": "compared", "equal": True, "bytes": SIZE, "transport": "relay"}
            assert (await bob.event(event="closed"))["transport"] == "relay"
