"""Connections come and go, and nothing of them stays."""

from __future__ import annotations

import asyncio
import gc
import weakref

import trio

from trio_relay.transports.aio import open_factory
from trio_relay.transports.aio.loop import open_loop

from .support import aiortc_of, descriptors, negotiate, two_connections


async def test_twenty_connections_one_after_the_other() -> None:
    gone: list[weakref.ref[object]] = []
    async with open_loop(close_timeout=1) as loop, open_factory(close_timeout=1) as factory:
        before = descriptors(), trio.lowlevel.current_statistics().tasks_living
        for _ in range(20):
            async with two_connections(factory) as (left, right):
                channels = await negotiate(left, right)
                await channels[0].send("x")
                assert await channels[1].receive() == ["x"]
                gone += [weakref.ref(left), weakref.ref(aiortc_of(right))]
            assert not asyncio.all_tasks(loop.aio)
            assert descriptors() == before[0]
        del left, right, channels
        await trio.lowlevel.checkpoint()
        assert trio.lowlevel.current_statistics().tasks_living == before[1]
        gc.collect()
        assert not [reference for reference in gone if reference() is not None]
