"""One loop for a run: shared, ended when nobody needs it, and an embedding program's own where there is one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
import trio_asyncio

from trio_relay.exceptions import NegotiationFailed
from trio_relay.transports.aio import PeerConnection, open_factory
from trio_relay.transports.aio.loop import Owner, open_loop

from .support import CONFIG, loop_of, negotiate, two_connections


def trio_tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


class Faults:
    def take(self, error: BaseException) -> None:
        raise AssertionError from error


@asynccontextmanager
async def one() -> AsyncIterator[PeerConnection]:
    async with open_factory(close_timeout=1) as factory, factory(CONFIG) as connection:
        assert isinstance(connection, PeerConnection)
        yield connection


async def test_two_nodes_share_a_loop_which_ends_with_the_last_of_them() -> None:
    before = trio_tasks()
    async with one() as first:
        async with one() as second:
            loop = loop_of(first)
            assert loop_of(second) is loop
        assert loop.is_running()
    assert loop.is_closed()
    assert trio_tasks() == before


async def test_the_loop_survives_the_one_who_started_it() -> None:
    started, leave = trio.Event(), trio.Event()

    async def starter() -> None:
        async with one():
            started.set()
            await leave.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(starter)
        await started.wait()
        async with open_factory(close_timeout=1) as factory:
            leave.set()
            await trio.testing.wait_all_tasks_blocked(0.01)
            async with two_connections(factory) as (left, right):
                assert await negotiate(left, right)


async def test_a_loop_is_started_anew() -> None:
    loops = set()
    for _ in range(2):
        async with one() as connection:
            loops.add(loop_of(connection))
    assert len(loops) == 2


async def test_nothing_of_asyncio_is_in_the_callers_context() -> None:
    async with one() as connection:
        await connection.create_offer("x")
        assert trio_asyncio.current_loop.get() is None
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()


async def test_being_cancelled_while_the_loop_starts_leaves_nothing() -> None:
    before = trio_tasks()
    with trio.CancelScope() as scope:
        scope.cancel()
        async with one():
            raise AssertionError("not reached")
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert trio_tasks() == before


async def test_when_the_loop_ends_everybody_who_waits_gets_an_error() -> None:
    async def forever() -> None:
        await asyncio.sleep(1000)

    async with open_factory(close_timeout=1) as factory, two_connections(factory) as (left, right):
        channels = await negotiate(left, right)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def reader() -> None:
                with pytest.raises(trio.BrokenResourceError, match="the asyncio loop of WebRTC has ended"):
                    await channels[0].receive()

            @nursery.start_soon
            async def caller() -> None:
                with pytest.raises(trio.BrokenResourceError, match="the asyncio loop of WebRTC ended"):
                    await left._loop.run(left._owner, forever)

            await trio.testing.wait_all_tasks_blocked(0.01)
            loop_of(left).stop()
        with pytest.raises(trio.BrokenResourceError, match="ended"):
            await channels[0].send("x")
        with pytest.raises(NegotiationFailed, match="ended"):
            await left.add_candidate(None)
        with pytest.raises(NegotiationFailed, match="ended"):
            async with factory(CONFIG):
                pass
    async with one() as fresh:
        assert await fresh.create_offer("a new loop")


async def test_a_loop_that_fails_does_not_end_the_run(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise ZeroDivisionError("somebody broke it")

    async with open_factory(close_timeout=1) as factory, two_connections(factory) as (left, _):
        nursery: trio.Nursery = left._loop.aio._nursery  # type: ignore[attr-defined]
        nursery.start_soon(fail)
        with trio.fail_after(2), pytest.raises(NegotiationFailed, match="the asyncio loop of WebRTC has ended"):
            await left.channel()
    assert "the asyncio loop of WebRTC failed" in caplog.text


async def test_an_embedding_programs_loop_is_used_and_left_as_it_was() -> None:
    errors: list[dict[str, Any]] = []
    async with trio_asyncio.open_loop() as loop:
        handler = lambda _, context: errors.append(context)  # noqa: E731
        loop.set_exception_handler(handler)
        async with open_factory(close_timeout=1) as factory, two_connections(factory) as (left, right):
            assert loop_of(left) is loop
            assert await negotiate(left, right)

            async def fail() -> None:
                raise ZeroDivisionError

            async def start_own() -> None:
                asyncio.get_running_loop().create_task(fail())
                await asyncio.sleep(0.01)

            await trio_asyncio.aio_as_trio(start_own)()
            assert [type(context["exception"]) for context in errors] == [ZeroDivisionError]
            left._loop.spawn(left._owner, fail)
            with trio.fail_after(2), pytest.raises(trio.BrokenResourceError, match="aiortc failed: ZeroDivisionError"):
                await (await left.channel()).receive()
            assert len(errors) == 1
        assert loop.is_running()
        assert loop.get_exception_handler() is handler
        assert loop.get_task_factory() is None
        assert not asyncio.all_tasks(loop)


async def test_outside_of_an_embedding_programs_loop_another_is_used() -> None:
    async with one() as outside, trio_asyncio.open_loop() as loop, one() as inside:
        assert loop_of(inside) is loop
        assert loop_of(outside) is not loop


async def test_cancelling_a_call_ends_its_task_and_an_exception_on_the_way_is_not_lost_to_a_warning() -> None:
    async def stubborn() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            raise ZeroDivisionError

    async with open_loop(close_timeout=1) as loop:
        owner = Owner(loop, Faults().take, Counter())
        with trio.move_on_after(0.01) as scope:
            await loop.run(owner, stubborn)
        assert scope.cancelled_caught
        assert not asyncio.all_tasks(loop.aio)
        assert not owner.counters
