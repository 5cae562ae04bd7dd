"""Calls for every message are points of cancellation; other tasks have their turn now and then."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio
import trio.testing
from trio.testing import MockClock

from trio_relay import Node
from trio_relay.node.turns import Turns

from .support import open_town


async def turns_during(calls: Callable[[], Awaitable[None]]) -> int:
    """How many turns another task had."""
    count = 0

    async def other() -> None:
        nonlocal count
        while True:
            await trio.lowlevel.checkpoint()
            count += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        await trio.lowlevel.checkpoint()
        before = count
        await calls()
        result = count - before
        nursery.cancel_scope.cancel()
    return result


async def test_others_have_their_turn_every_32_calls(mock_clock: MockClock) -> None:
    turns = Turns()

    async def calls() -> None:
        for _ in range(320):
            await turns.give_way()

    assert 9 <= await turns_during(calls) <= 12


async def test_others_have_their_turn_every_millisecond(mock_clock: MockClock) -> None:
    turns = Turns()

    async def calls() -> None:
        for _ in range(10):
            mock_clock.jump(0.001)
            for _ in range(3):
                await turns.give_way()

    assert 9 <= await turns_during(calls) <= 12


async def test_every_call_is_a_point_of_cancellation(mock_clock: MockClock) -> None:
    turns = Turns()
    await turns.give_way()
    with trio.CancelScope() as scope:
        scope.cancel()
        await turns.give_way()
    assert scope.cancelled_caught


async def receive_for_ever(node: Node) -> None:
    async for _ in node:
        pass


async def test_a_message_is_not_taken_by_a_call_that_is_cancelled(autojump_clock: MockClock) -> None:
    async with open_town(1, 0) as town:
        (node,) = town.relays
        for number in range(3):
            await node.send(node.id, number)
        assert (await node.receive()).data == 0
        with trio.CancelScope() as scope:
            scope.cancel()
            await node.receive()
        assert scope.cancelled_caught
        assert (await node.receive()).data == 1


async def test_a_receiver_with_much_to_do_lets_others_work(autojump_clock: MockClock) -> None:
    async with open_town(1, 0) as town, trio.open_nursery() as nursery:
        (node,) = town.relays
        for number in range(1000):
            node.send_nowait(node.id, number)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(receive_for_ever, node)
        turns = 0
        while node.statistics().sizes["mailbox_messages"]:
            await trio.lowlevel.checkpoint()
            turns += 1
        assert turns > 1000 / 40
        nursery.cancel_scope.cancel()
