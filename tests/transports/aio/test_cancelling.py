"""A negotiation that is cancelled, wherever it happens to be, leaves no task, no socket and no warning."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

import aioice.ice
import pytest
import trio

from trio_relay.transports.aio import open_factory
from trio_relay.transports.aio.loop import open_loop
from trio_relay.transports.webrtc import Factory, IceServer, WebRTCConfig
from trio_relay.wire.description import Candidate

from .support import CONFIG, descriptors, negotiate, two_connections

NAME = Candidate("candidate:1 1 udp 1 0b1a4b6e-0000-4000-8000-000000000000.local 4000 typ host", "0", 0)


class CancelAfter(trio.abc.Instrument):
    """Cancels when tasks have been scheduled so many times."""

    def __init__(self, steps: int, counts: Callable[[trio.lowlevel.Task], bool]) -> None:
        self.left = steps
        self.scope = trio.CancelScope()
        self._counts = counts

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._counts(task):
            self.left -= 1
            if self.left == 0:
                self.scope.cancel()


async def attempt(factory: Factory, steps: int, *, everywhere: bool) -> bool:
    """Connects, talks and closes; whether it was cancelled before it was done."""
    here = trio.lowlevel.current_task()
    instrument = CancelAfter(steps, lambda task: everywhere or task is here)
    trio.lowlevel.add_instrument(instrument)
    try:
        with instrument.scope:
            async with two_connections(factory) as (left, right):
                await right.add_candidate(NAME)
                channels = await negotiate(left, right)
                await channels[0].send(bytes(5000))
                await channels[1].receive()
                await channels[0].drain()
    finally:
        trio.lowlevel.remove_instrument(instrument)
    return instrument.scope.cancelled_caught


@pytest.fixture(autouse=True)
def two_interfaces(loopback: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """aioice forgets the first socket when it is cancelled while it makes the second."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1", "127.0.0.2"])


async def sweep(*, everywhere: bool, stride: int) -> int:
    """Cancels later and later, until it comes too late; how many times that was."""
    steps, attempts = 1, 0
    async with open_loop(close_timeout=1) as loop, open_factory(close_timeout=1) as factory:
        before = descriptors()
        while await attempt(factory, steps, everywhere=everywhere):
            assert asyncio.all_tasks(loop.aio) == set(), f"after {steps} steps"
            assert descriptors() == before, f"after {steps} steps"
            steps, attempts = steps + stride, attempts + 1
        gc.collect()
    return attempts


async def test_cancelled_at_every_checkpoint_of_the_caller() -> None:
    assert await sweep(everywhere=False, stride=1) >= 10


async def test_cancelled_at_every_so_many_steps_of_the_loop() -> None:
    assert await sweep(everywhere=True, stride=11) >= 20


@pytest.mark.parametrize("policy", ["all", "relay"])
async def test_cancelled_while_it_asks_servers_that_do_not_answer(policy: str) -> None:
    servers = (IceServer(urls="stun:127.0.0.1:9"), IceServer(urls="turn:127.0.0.1:9", username="me", credential="key"))
    config = WebRTCConfig(ice_servers=servers, ice_transport_policy="all" if policy == "all" else "relay")
    async with open_loop(close_timeout=1) as loop, open_factory(close_timeout=1) as factory:
        before = descriptors()
        for pause in (0, 0.001, 0.005, 0.02):
            with trio.move_on_after(pause) as scope, trio.fail_after(1):
                async with factory(config) as left:
                    await left.create_offer("x")
            assert scope.cancelled_caught
            assert not asyncio.all_tasks(loop.aio)
            assert descriptors() == before


async def test_a_close_that_does_not_end_is_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    from collections import Counter

    counters = Counter[str]()
    async with open_loop(close_timeout=1) as loop:
        before = descriptors()
        async with open_factory(close_timeout=0.05, counters=counters) as factory:
            async with factory(CONFIG) as left:
                await left.create_offer("x")

                async def hang() -> None:
                    await asyncio.sleep(1000)

                left._aio.close = hang  # type: ignore[attr-defined]
            assert descriptors() == before
            assert not asyncio.all_tasks(loop.aio)
    assert counters["webrtc_close_timeouts"] == 1
    assert "did not close in 0.05 s" in caplog.text
