"""Rooms whose signalling goes over real NATS servers and Mosquitto, also while these are restarted."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from tests.interop.brokers import PATIENCE
from tests.interop.peerix.serving import KINDS, serving
from trio_relay.peerix import open_room
from trio_relay.peerix.room import Room

pytestmark = pytest.mark.brokers


async def see_each_other(*rooms: Room) -> None:
    """Returns when everybody is connected to everybody else, and to nobody beside them."""
    with trio.fail_after(PATIENCE):
        while not all(
            len(room.members) == len(rooms) - 1 and all(each.state == "connected" for each in room.members.values())
            for room in rooms
        ):
            await trio.sleep(0.01)


@pytest.mark.parametrize("kind", KINDS)
async def test_members_meet_also_after_a_restart_of_the_broker(tmp_path: Path, kind: str) -> None:
    async with serving(kind, tmp_path) as (broker, make), AsyncExitStack() as stack:
        shared = await stack.enter_async_context(make())
        first, second = [
            await stack.enter_async_context(open_room("here", driver=driver, metadata=name))
            for name, driver in (("first", shared), ("second", make()))
        ]
        await see_each_other(first, second)
        assert [each.metadata for each in first.members.values()] == ["second"]
        await broker.stop()
        await broker.start()
        # On the driver of the first, which the broker sends nothing back that it published.
        third = await stack.enter_async_context(open_room("here", driver=shared, metadata="third"))
        await see_each_other(first, second, third)
        assert sorted(each.metadata for each in third.members.values()) == ["first", "second"]
