"""Rooms over a broker in memory and WebRTC that is none: who sees whom, what is heard, and what happens at the end."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.peerix.support import World, next_event
from tests.transports.fake_bundle import BundleBehaviour, FakeBundle
from trio_relay.exceptions import DriverError, LocalProtocolError, PayloadTooLarge, TransferFailed
from trio_relay.peerix import events
from trio_relay.peerix.drivers.driver import Driver
from trio_relay.peerix.options import RoomLimits
from trio_relay.peerix.room import Room


async def settle(*rooms: Room, within: float = 10.0) -> None:
    """Waits until each sees all others."""
    with trio.fail_after(within):
        for room in rooms:
            await room.wait_members(len(rooms) - 1)


def ids(room: Room) -> set[str]:
    return set(room.members)


async def test_two_members_find_each_other_and_talk(autojump_clock: MockClock) -> None:
    world = World()
    async with world.room(metadata={"name": "Alice"}) as alice, world.room(metadata="Bob") as bob:
        alice.open_channel("chat")
        await settle(alice, bob)
        assert alice.me is not None
        assert bob.me is not None
        assert ids(alice) == {bob.me.id}
        assert bob.members[alice.me.id].metadata == {"name": "Alice"}
        assert alice.members[bob.me.id].metadata == "Bob"
        assert [member.state for member in alice.members.values()] == ["connected"]
        await alice.send("hello", label="chat", info={"n": 1})
        message = await bob.receive()
        assert (message.member, message.label, message.info) == (alice.me.id, "chat", {"n": 1})
        assert await message.read() == "hello"
        await bob.send({"x": [1, None]}, label="chat")
        assert await (await alice.receive()).read() == {"x": [1, None]}


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("hashed", [True, False])
async def test_options_that_all_members_share(sealed: bool, hashed: bool, autojump_clock: MockClock) -> None:
    world = World(delay=0.05)
    options: dict[str, Any] = {"signaling_encryption": sealed, "namespace_hashing": hashed, "id": "the room"}
    async with world.room(**options) as one, world.room(**options, signaling_compression=False) as other:
        await settle(one, other)
        await trio.sleep(20)
        assert len(one.members) == 1
        assert "the room" not in world.driver.namespaces
        assert ("the_room" in world.driver.namespaces) is not hashed


async def test_who_comes_later_sees_everybody_and_is_seen(autojump_clock: MockClock) -> None:
    world = World(delay=0.01)
    async with AsyncExitStack() as stack:
        rooms = []
        for number in range(10):
            rooms.append(await stack.enter_async_context(world.room(metadata=number)))
            await trio.sleep(0.02 * number)
        await settle(*rooms)
        for room in rooms:
            assert {member.metadata for member in room.members.values()} | {room.me.metadata} == set(range(10))  # type: ignore[union-attr]
        await rooms[0].leave()
        await trio.sleep(1)
        assert all(len(room.members) == 8 for room in rooms[1:])
        assert not rooms[0].members
        assert not rooms[0].active


async def test_rooms_of_other_names_do_not_meet(autojump_clock: MockClock) -> None:
    world = World()
    async with world.room("one") as one, world.room("two") as two:
        await trio.sleep(30)
        assert not one.members
        assert not two.members


async def test_leaving_is_seen_and_coming_back_is_with_another_id(autojump_clock: MockClock) -> None:
    world = World()
    async with world.room() as alice, world.room() as bob, alice.events() as seen:
        await settle(alice, bob)
        before = bob.me
        assert await bob.join() is None
        await bob.leave()
        await bob.leave()
        assert bob.me is None
        assert not bob.active
        closed = await next_event(seen, events.ConnectionClosed)
        assert closed.member.state == "closed"
        assert not alice.members
        again = await bob.join("again")
        assert again is not None
        assert before is not None
        assert again.id != before.id
        await settle(alice, bob)
        assert [member.metadata for member in alice.members.values()] == ["again"]


async def test_events_of_a_connection_and_a_channel_in_their_order(autojump_clock: MockClock) -> None:
    world = World()
    async with world.room() as alice, alice.events() as seen, world.room() as bob:
        bob.open_channel("chat")
        await settle(alice, bob)
        transfer = bob.send(b"x", label="chat")
        await transfer
        await bob.leave()
        await next_event(seen, events.ConnectionClosed)
    async with world.room() as alice, alice.events() as seen:
        async with world.room() as bob:
            bob.open_channel("chat")
            await settle(alice, bob)
            await bob.send(b"x", label="chat")
        names = []
        while "connection:closed" not in names:
            names.append((await next_event(seen, events.ConnectionEvent | events.ChannelEvent)).name)  # type: ignore[arg-type]
        assert names == [
            "connection:new",
            "connection:connecting",
            "connection:connected",
            "channel:new",
            "channel:open",
            "channel:message",
            "channel:close",
            "connection:closed",
        ]


async def test_a_channel_exists_once_whoever_opens_it(autojump_clock: MockClock) -> None:
    world = World()
    async with world.room() as alice, world.room() as bob:
        alice.open_channel("chat")
        bob.open_channel("chat")
        alice.open_channel("fast", ordered=False, max_retransmits=0)
        await settle(alice, bob)
        await trio.sleep(1)
        for room in (alice, bob):
            (member,) = room.members.values()
            assert sorted(member.channels) == ["chat", "fast"]
            assert not member.channels["fast"].ordered
            assert member.channels["chat"].open
        bob.close_channel("chat")
        await trio.sleep(1)
        assert [list(member.channels) for room in (alice, bob) for member in room.members.values()] == [["fast"]] * 2
        with pytest.raises(TransferFailed) as failed:
            await alice.send("hello", label="fast")
        assert failed.value.reason == "unsupported-channel"


async def test_a_message_to_nobody_is_complete_and_one_to_a_stranger_fails(autojump_clock: MockClock) -> None:
    world = World()
    async with world.room() as room:
        await room.send("nobody hears this")
        with pytest.raises(TransferFailed) as failed:
            await room.send("hello", to="somebody")
        assert (failed.value.member, failed.value.reason) == ("somebody", "disconnected")


async def test_a_message_on_a_channel_that_nobody_opened_fails(autojump_clock: MockClock) -> None:
    world = World()
    async with world.room() as alice, world.room() as bob:
        await settle(alice, bob)
        with pytest.raises(TransferFailed) as failed:
            await alice.send("hello", label="chat")
        assert failed.value.reason == "no-channel"


async def test_verify_keeps_members_out_whatever_it_does(autojump_clock: MockClock) -> None:
    world = World()

    async def verify(id: str, metadata: Any) -> bool:
        await trio.sleep(1)
        if metadata == "raises":
            raise ValueError("no")
        if metadata == "sleeps":
            await trio.sleep(100)
        return bool(metadata == "good")

    async with AsyncExitStack() as stack:
        host = await stack.enter_async_context(world.room(verify=verify))
        seen = await stack.enter_async_context(host.events())
        for metadata in ("bad", "raises", "sleeps", "good"):
            await stack.enter_async_context(world.room(metadata=metadata, verify=lambda id, metadata: metadata is None))
        await trio.sleep(14)
        assert [member.metadata for member in host.members.values()] == ["good"]
        assert host.statistics().counts["members_unverified"] >= 3
        error = await next_event(seen, events.ErrorEvent)
        assert "verify failed: ValueError: no" in str(error.error)


async def test_a_connection_that_fails_is_made_again(autojump_clock: MockClock) -> None:
    world = World()
    async with world.room() as alice, world.room() as bob, alice.events() as seen:
        await settle(alice, bob)
        (member,) = alice.members.values()
        assert isinstance(member.connection, FakeBundle)
        member.connection.fail("ICE: the other side no longer answers")
        failed = await next_event(seen, events.ConnectionFailed)
        assert failed.state == "failed"
        await next_event(seen, events.ConnectionClosed)
        await next_event(seen, events.ConnectionConnected)
        await settle(alice, bob)


async def test_a_member_that_can_not_be_reached_is_given_up_in_time(autojump_clock: MockClock) -> None:
    world = World()
    unreachable = world.bundles.behaving(BundleBehaviour(unreachable=True))
    async with world.room(connection_timeout=5.0) as alice, alice.events() as seen:
        began = trio.current_time()
        async with world.room(factory=unreachable):
            await next_event(seen, events.ConnectionFailed)
            assert trio.current_time() - began == pytest.approx(5, abs=1)
            await trio.sleep(120)
            assert alice.statistics().counts["invitations_sent"] < 30
        await trio.sleep(20)
        assert not alice.members


async def test_too_many_members_are_refused_and_told(autojump_clock: MockClock) -> None:
    world = World()
    async with AsyncExitStack() as stack:
        small = await stack.enter_async_context(world.room(limits=RoomLimits(members=2)))
        seen = await stack.enter_async_context(small.events())
        for _ in range(4):
            await stack.enter_async_context(world.room())
        await trio.sleep(5)
        assert len(small.members) == 2
        assert small.statistics().counts["members_refused"] > 0
        assert "2 members already" in str((await next_event(seen, events.ErrorEvent)).error)


async def test_a_storm_of_joins_and_leaves_converges(autojump_clock: MockClock) -> None:
    world = World(delay=0.02)
    async with AsyncExitStack() as stack:
        rooms = [await stack.enter_async_context(world.room()) for _ in range(10)]
        for round in range(3):
            async with trio.open_nursery() as nursery:
                for number, room in enumerate(rooms):
                    if (number + round) % 2:
                        nursery.start_soon(room.leave)
            async with trio.open_nursery() as nursery:
                for room in rooms:
                    if not room.active:
                        nursery.start_soon(room.join)
        await settle(*rooms)
        await trio.sleep(5)
        present = {room.me.id for room in rooms if room.me is not None}
        assert len(present) == 10
        for room in rooms:
            assert room.me is not None
            assert ids(room) == present - {room.me.id}
    assert world.bundles.open_bundles == 0


async def test_a_driver_that_never_becomes_active_is_an_error(autojump_clock: MockClock) -> None:
    class Deaf(Driver):
        async def run(self) -> None:
            self.deactivate("nobody answers")

        async def _subscribe(self, namespace: str) -> None:
            await self.wait_active()

        async def _unsubscribe(self, namespace: str) -> None: ...

        async def _publish(self, namespace: str, packet: bytes) -> None: ...

    with pytest.raises(DriverError, match="nobody answers"):
        async with World().room(driver=Deaf()):
            raise AssertionError("it was joined")
    assert trio.current_time() < 60


async def test_cancelling_the_block_closes_everything(autojump_clock: MockClock) -> None:
    world = World()
    async with world.room() as alice:
        with trio.move_on_after(5):
            async with world.room() as bob:
                await settle(alice, bob)
                await trio.sleep_forever()
        await trio.sleep(1)
        assert not alice.members
    assert world.bundles.open_bundles == 0


async def test_the_iteration_ends_with_the_room(autojump_clock: MockClock) -> None:
    world = World()
    async with trio.open_nursery() as nursery:
        async with world.room() as room:
            heard: list[Any] = []

            async def listen() -> None:
                async for message in room:
                    heard.append(message)
                heard.append("the end")

            nursery.start_soon(listen)
            await trio.sleep(1)
        await trio.sleep(1)
    assert heard == ["the end"]


async def test_to_json_and_statistics(autojump_clock: MockClock) -> None:
    world = World()
    async with world.room("den", metadata=1) as alice, world.room("den") as bob:
        bob.open_channel("chat")
        await settle(alice, bob)
        await trio.sleep(1)
        assert alice.me is not None
        assert bob.me is not None
        assert alice.to_json() == {
            "id": "den",
            "active": True,
            "me": {"id": alice.me.id, "metadata": 1},
            "members": [bob.me.id],
        }
        (member,) = alice.members.values()
        assert member.to_json() == {
            "id": bob.me.id,
            "metadata": None,
            "state": "connected",
            "streams": [],
            "channels": ["chat"],
        }
        assert alice.statistics().members == 1
        assert alice.statistics().connecting == 0


async def test_metadata_that_are_no_json_or_too_large_are_refused(autojump_clock: MockClock) -> None:
    world = World()
    with pytest.raises(PayloadTooLarge, match="bytes"):
        async with world.room(metadata="x" * 70000):
            pass
    with pytest.raises(LocalProtocolError):
        async with world.room(metadata=object()):
            pass


async def test_what_was_read_just_before_leaving_is_acknowledged(autojump_clock: MockClock) -> None:
    world = World()
    slow = world.bundles.behaving(BundleBehaviour(delay=0.1))
    async with world.room(factory=slow) as alice, trio.open_nursery() as nursery:

        async def read_and_leave() -> None:
            async with world.room(factory=slow) as bob:
                assert await (await bob.receive()).read() == "bye"

        nursery.start_soon(read_and_leave)
        alice.open_channel()
        await alice.wait_members()
        await alice.send("bye")


async def test_a_member_that_counts_as_connected_can_be_spoken_to(autojump_clock: MockClock) -> None:
    world = World()
    slow = world.bundles.behaving(BundleBehaviour(delay=0.1))
    async with world.room(factory=slow) as alice, alice.events() as seen, world.room(factory=slow) as bob:
        for room in (alice, bob):
            room.open_channel()
        connected = await next_event(seen, events.ConnectionConnected)
        assert connected.member.state == "connected"
        assert alice.statistics().members == 1
        transfer = alice.send("hello")
        assert transfer.members == (connected.member.id,)
        await transfer


async def test_a_flood_of_noise_leaves_room_for_other_events(autojump_clock: MockClock) -> None:
    world = World()
    async with world.room() as alice, alice.events() as seen:
        for _ in range(500):
            await world.driver.publish(world.driver.namespaces[0], b"noise")
        await trio.sleep(0.1)
        alice.emit("mine")
        assert await next_event(seen, str) == "mine"
        assert alice.statistics().counts["signals_malformed"] == 500


async def test_events_of_one_member(autojump_clock: MockClock) -> None:
    world = World()
    async with world.room() as alice, world.room() as bob, world.room() as carol:
        for room in (alice, bob, carol):
            room.open_channel()
        await settle(alice, bob, carol)
        assert bob.me is not None
        member = alice.members[bob.me.id]
        async with member.events() as seen:
            await carol.send("not of interest")
            await bob.send("of interest")
            message = await next_event(seen, events.ChannelMessage)
            assert message.id == bob.me.id
            member.emit("mine")
            assert await next_event(seen, str) == "mine"
            await bob.leave()
            told = [event.name async for event in seen if hasattr(event, "name")]
            assert told == ["channel:close", "connection:closed"]
