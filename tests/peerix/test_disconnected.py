"""A member that does not answer for a while."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from tests.peerix.support import World, next_event
from tests.transports.fake_bundle import FakeBundle
from trio_relay.peerix import events


async def test_a_member_that_falls_silent_and_answers_again(autojump_clock: MockClock) -> None:
    world = World()
    async with world.room() as alice, world.room() as bob, alice.events() as seen:
        for room in (alice, bob):
            room.open_channel()
        with trio.fail_after(10):
            await alice.wait_members()
            await bob.wait_members()
        (member,) = alice.members.values()
        bundle = member.connection
        assert isinstance(bundle, FakeBundle)
        bundle.set_silent(True)
        silent = await next_event(seen, events.ConnectionDisconnected)
        assert (silent.member, silent.state, member.state) == (member, "disconnected", "disconnected")
        assert (alice.statistics().members, alice.statistics().connecting) == (1, 0)
        transfer = alice.send("kept")
        bundle.set_silent(False)
        await next_event(seen, events.ConnectionConnected)
        assert alice.statistics().members == 1
        assert await (await bob.receive()).read() == "kept"
        await transfer
        bundle.set_silent(True)
        await next_event(seen, events.ConnectionDisconnected)
        bundle.fail("ICE: the other side no longer answers")
        await next_event(seen, events.ConnectionFailed)
        await next_event(seen, events.ConnectionClosed)
