"""A negotiation that is cancelled, wherever it happens to be, leaves no task, no socket and no warning."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import aioice.ice
import pytest
import trio
import trio_asyncio

from trio_relay.transports.aio import open_factory
from trio_relay.transports.aio.loop import open_loop
from trio_relay.transports.webrtc import Factory, IceServer, WebRTCConfig
from trio_relay.wire.description import Candidate

from .support import CONFIG, aiortc_of, descriptors, negotiate, two_connections

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
    assert await sweep(everywhere=True, stride=7) >= 20


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


@pytest.mark.parametrize("url", ["stun:name.example", "turn:name.example"])
@pytest.mark.parametrize("embedded", [False, True])
async def test_nobody_waits_for_a_resolver(url: str, embedded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread can't be interrupted; what it says afterwards must not end the loop, either."""
    go_on = threading.Event()
    lookup = socket.getaddrinfo

    def look_up(host: str, *args: Any, **options: Any) -> Any:
        if host != "name.example":
            return lookup(host, *args, **options)
        go_on.wait(5)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(socket, "gethostbyname", look_up)
    config = WebRTCConfig(ice_servers=(IceServer(urls=url, username="me", credential="key"),))
    async with AsyncExitStack() as stack:
        if embedded:
            program = await stack.enter_async_context(trio_asyncio.open_loop())
            executor = program._default_executor
        with trio.fail_after(2):
            async with open_loop(close_timeout=1) as loop, open_factory(close_timeout=1) as factory:
                with trio.move_on_after(0.02) as scope:
                    async with factory(config) as left:
                        await left.create_offer("x")
                assert scope.cancelled_caught
                assert not asyncio.all_tasks(loop.aio)
                go_on.set()
                async with two_connections(factory) as (left, right):
                    assert await negotiate(left, right)
        assert not embedded or program._default_executor is executor


async def test_an_association_that_begins_during_the_close_leaves_no_timer() -> None:
    """It would start a task on the loop every few seconds, for minutes."""
    async with open_factory(close_timeout=1) as factory, two_connections(factory) as (left, right):
        offer = await left.create_offer("x")
        sctp = aiortc_of(left).sctp
        start, stop = sctp.transport.start, sctp.stop
        secured, go_on = trio.Event(), asyncio.Event()

        async def start_slowly(parameters: object) -> None:
            await start(parameters)
            secured.set()
            await go_on.wait()

        async def stop_slowly() -> None:
            await stop()
            go_on.set()
            await asyncio.sleep(0.01)

        sctp.transport.start, sctp.stop = start_slowly, stop_slowly
        await left.accept_answer(await right.create_answer(offer))
        await secured.wait()
        await left.aclose(1)
        assert sctp.state == "connecting"
        assert sctp._t1_handle is None


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
