"""What the application waits for, and its subscriptions, without a network."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_relay import EventsLost, Limits, LinkUp, Message
from trio_relay.node.desk import Desk, Waiter
from trio_relay.node.events import Events
from trio_relay.node.values import Event

from .support import UNKNOWN, identity

UP = [LinkUp(identity(f"peer {number}").id, "memory") for number in range(9)]


async def test_first_result_counts(autojump_clock: MockClock) -> None:
    waiter = Waiter()
    waiter.put(1)
    waiter.put(2)
    assert await waiter.get() == 1
    assert await waiter.get() == 1


async def test_result_that_is_an_exception_is_raised(autojump_clock: MockClock) -> None:
    waiter = Waiter()
    waiter.put(KeyError("x"))
    with pytest.raises(KeyError):
        await waiter.get()


async def test_settling_what_nobody_waits_for_is_harmless(autojump_clock: MockClock) -> None:
    desk = Desk(Limits())
    desk.settle(b"id", None)
    desk.grant(UNKNOWN, None)
    waiter = desk.deliveries[b"id"] = Waiter()
    desk.settle(b"id", "done")
    assert await waiter.get() == "done"
    assert desk.deliveries == {}


async def test_wish_is_granted_to_everybody_who_has_it(autojump_clock: MockClock) -> None:
    desk = Desk(Limits())
    with desk.wish(UNKNOWN) as one, desk.wish(UNKNOWN) as other:
        desk.grant(UNKNOWN, "link")
        assert [await one.get(), await other.get()] == ["link", "link"]


async def test_closing_ends_every_waiting_with_an_exception_of_its_own(autojump_clock: MockClock) -> None:
    desk = Desk(Limits())
    raised: list[trio.ClosedResourceError] = []

    async def wait(waiter: Waiter) -> None:
        with pytest.raises(trio.ClosedResourceError) as caught:
            await waiter.get()
        raised.append(caught.value)

    delivery = desk.deliveries[b"id"] = Waiter()
    with desk.wish(UNKNOWN) as wish, desk.looking() as lookup:
        async with trio.open_nursery() as nursery:
            for waiter in (delivery, wish, lookup):
                nursery.start_soon(wait, waiter)
            await wait_all_tasks_blocked()
            desk.begin_closing()
    assert len(set(map(id, raised))) == 3
    with pytest.raises(trio.ClosedResourceError):
        desk.check_open()
    with trio.fail_after(1), pytest.raises(trio.ClosedResourceError):
        await desk.wait_change()


async def test_messages_outlive_the_end_and_later_ones_are_counted(autojump_clock: MockClock) -> None:
    desk = Desk(Limits())
    message = Message(1, UNKNOWN, proven=True)
    desk.put(message, 10)
    desk.close()
    desk.put(message, 10)
    assert desk.lost == 1
    assert await desk.receive() == (message, 10)
    with pytest.raises(trio.EndOfChannel):
        await desk.receive()


async def test_events_that_do_not_fit_are_told_in_their_place(autojump_clock: MockClock) -> None:
    events = Events[Event](2)
    async with events.subscribe() as stream:
        for event in UP[:5]:
            events.publish(event)
        assert [await anext(stream), await anext(stream)] == UP[:2]
        events.publish(UP[5])
        assert [await anext(stream), await anext(stream)] == [EventsLost(3), UP[5]]


async def test_loss_takes_a_place_too(autojump_clock: MockClock) -> None:
    events = Events[Event](2)
    async with events.subscribe() as stream:
        for event in UP[:3]:
            events.publish(event)
        await anext(stream)
        # One place is free, and the loss needs it.
        events.publish(UP[3])
        events.close()
        assert [event async for event in stream] == [UP[1], EventsLost(2)]


async def test_nothing_is_published_after_the_end(autojump_clock: MockClock) -> None:
    events = Events[Event](2)
    async with events.subscribe() as early:
        events.close()
        events.close()
        events.publish(UP[0])
        async with events.subscribe() as late:
            assert [event async for event in early] == [event async for event in late] == []


async def test_subscriptions_are_independent(autojump_clock: MockClock) -> None:
    events = Events[Event](1)
    async with events.subscribe() as one:
        events.publish(UP[0])
        async with events.subscribe() as other:
            events.publish(UP[1])
            assert await anext(other) == UP[1]
        assert await anext(one) == UP[0]
