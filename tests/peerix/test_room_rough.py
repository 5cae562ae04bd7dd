"""Rooms where things happen at bad times: quickly one after the other, half done, or because somebody means harm."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.peerix.intruder import open_intruder
from tests.peerix.support import World, next_event
from tests.transports.fake_bundle import BundleBehaviour, FakeTrack
from trio_relay.exceptions import TransferFailed
from trio_relay.peerix import events
from trio_relay.peerix.addons import Addon
from trio_relay.peerix.members.member import Member
from trio_relay.peerix.packets.sealing import Keys, id_to_bytes_untrusted
from trio_relay.peerix.packets.signalling import Packet, PacketType, encode_packet
from trio_relay.peerix.room import Room


async def meet(*rooms: Room) -> None:
    with trio.fail_after(20):
        for room in rooms:
            await room.wait_members(len(rooms) - 1)


def identity(room: Room) -> str:
    assert room.me is not None
    return room.me.id


def member_of(room: Room, other: Room) -> Member:
    return room.members[identity(other)]


@pytest.mark.parametrize("kind", [PacketType.ANNOUNCE, PacketType.INVOKE])
async def test_what_everybody_can_say_in_a_members_name_costs_it_nothing(
    kind: PacketType, autojump_clock: MockClock
) -> None:
    world = World()
    async with world.room(metadata="a") as alice, world.room(metadata="b") as bob, open_intruder(world) as intruder:
        await meet(alice, bob)
        await trio.sleep(60)
        for victim, other in ((alice, bob), (bob, alice)):
            packet = encode_packet(Packet(kind, id_to_bytes_untrusted(identity(victim)), b""))
            await intruder.publish(packet, "room" if kind is PacketType.ANNOUNCE else identity(other))
            await trio.sleep(10)
        for room in (alice, bob):
            assert "members_replaced" not in room.statistics().counts
            assert room.statistics().members == 1
        assert bob.statistics().counts["invitations_ignored"] > 0


async def test_a_channel_is_closed_and_opened_again_at_once(autojump_clock: MockClock) -> None:
    world = World(delay=0.01)
    async with world.room() as alice, world.room() as bob:
        await meet(alice, bob)
        for room in (alice, bob):  # one of the two makes channels, the other one asks for them
            room.open_channel("chat")
            for _ in range(3):
                await trio.sleep(10)
                room.close_channel("chat")
                room.open_channel("chat")
                await trio.sleep(10)
                assert member_of(alice, bob).channels["chat"].open
                assert member_of(bob, alice).channels["chat"].open
            await alice.send("hello", label="chat")
            assert await (await bob.receive()).read() == "hello"
            room.close_channel("chat")
            await trio.sleep(10)
            assert not member_of(alice, bob).channels


async def test_a_second_channel_of_a_label_takes_the_place_of_the_first(autojump_clock: MockClock) -> None:
    world = World()
    async with world.room() as alice, alice.events() as seen, open_intruder(world) as intruder:
        await intruder.connect(identity(alice), "chat")
        first = (await next_event(seen, events.ChannelOpen)).channel
        intruder.bundle.open_channel("chat")
        await trio.sleep(1)
        (member,) = alice.members.values()
        assert member.channels["chat"] is not first
        assert member.channels["chat"].open
        assert not first.open
        assert alice.statistics().counts["channels_repeated"] == 1


async def test_a_message_to_a_member_that_has_gone_fails_at_once(autojump_clock: MockClock) -> None:
    world = World()
    async with world.room() as alice:
        alice.open_channel("chat")
        async with world.room() as bob:
            await meet(alice, bob)
            member = member_of(alice, bob)
        await trio.sleep(1)
        for _ in range(2):
            with trio.fail_after(1), pytest.raises(TransferFailed) as failed:
                await member.send("too late", label="chat")
            assert failed.value.reason == "disconnected"
            await alice.leave()


async def test_leave_is_cancelled(autojump_clock: MockClock) -> None:
    world = World()
    async with world.room() as alice, world.room() as bob:
        await meet(alice, bob)
        before = identity(alice)
        with trio.CancelScope() as scope:
            scope.cancel()
            await alice.leave()
        await trio.sleep(5)
        assert not alice.active
        assert alice.me is None
        assert not alice.members
        me = await alice.join()
        assert me is not None
        assert me.id != before
        await meet(alice, bob)
    with pytest.raises(trio.ClosedResourceError):
        await alice.join()


async def test_the_end_of_a_room_whatever_is_raised_in_it(autojump_clock: MockClock) -> None:
    class Bad(Addon):
        detached = 0

        async def detach(self, room: Room) -> None:
            Bad.detached += 1
            raise ValueError("not now")

    class Stuck(FakeTrack):
        def stop(self) -> None:
            raise KeyError("stuck")

    good = FakeTrack("video", "good")
    stack = AsyncExitStack()
    room = await stack.enter_async_context(World().room())
    for _ in range(2):
        await room.attach(Bad())
    room.share(Stuck("audio", "stuck"), label="stuck")
    room.share(good, label="good")
    with pytest.raises((ValueError, KeyError)):
        await stack.aclose()
    assert Bad.detached == 2
    assert good.stopped
    with pytest.raises(trio.EndOfChannel):
        await room.receive()
    async with room.events() as told:
        assert [event async for event in told] == []


async def test_a_member_that_takes_tiny_messages_only(autojump_clock: MockClock) -> None:
    """It announced that itself; it gets nothing, and nobody else notices."""
    world = World()
    async with world.room() as alice, world.room() as bob:
        alice.open_channel("chat")
        async with open_intruder(world) as intruder:
            intruder.bundle.behaviour = BundleBehaviour(max_message=4)  # type: ignore[misc]
            await intruder.connect(identity(alice))
            alice.share(FakeTrack("video", "v"), label="camera")
            await trio.sleep(5)
            assert alice.statistics().counts["control_unsent"] > 0
            await meet(bob)
            await alice.send("still here", label="chat", to=identity(bob))
            assert "camera" in member_of(bob, alice).streams


@pytest.mark.parametrize("timeout", [15.0, 0.0])
async def test_those_who_do_not_answer_hold_nobody_up_for_long(timeout: float, autojump_clock: MockClock) -> None:
    world = World()
    async with world.room(connection_timeout=timeout) as alice, open_intruder(world) as intruder:
        for secret in range(1000, 1032):
            await intruder.publish(
                encode_packet(Packet(PacketType.INVOKE, Keys.from_secret(secret).public, b"")), identity(alice)
            )
        await trio.sleep(0.1)
        assert len(alice.members) == 32
        began = trio.current_time()
        async with world.room() as bob:
            with trio.fail_after(60):
                await bob.wait_members()
            assert trio.current_time() - began < 8


async def test_a_flood_of_rubbish_does_not_hide_what_happens(autojump_clock: MockClock) -> None:
    world = World()
    async with AsyncExitStack() as stack:
        alice = await stack.enter_async_context(world.room())
        seen = await stack.enter_async_context(alice.events())
        intruder = await stack.enter_async_context(open_intruder(world))
        await intruder.connect(identity(alice))
        for _ in range(1000):
            await intruder.publish(b"rubbish", "room")
            await intruder.control.send("rubbish")
            await intruder.chat.send(b"rubbish")
        await trio.sleep(1)
        async with world.room():
            told: list[Any] = [await next_event(seen, events.ConnectionNew) for _ in range(2)]
            assert len(told) == 2
        counts = alice.statistics().counts
        assert counts["errors_untold"] > 1900
        assert counts["transfer_packets_bad"] == counts["control_malformed"] == 1000


async def test_a_stream_of_one_member_in_the_place_of_that_of_the_room(autojump_clock: MockClock) -> None:
    world = World()
    async with world.room() as alice, world.room() as bob:
        await meet(alice, bob)
        alice.share(FakeTrack("video", "all"), label="camera", managed=True)
        await trio.sleep(1)
        member_of(alice, bob).share(FakeTrack("audio", "whisper"), label="camera")
        await trio.sleep(1)
        streams = member_of(bob, alice).streams
        assert [[track.kind for track in stream.tracks] for stream in streams.values()] == [["audio"]]
        member_of(alice, bob).unshare("camera")
        await trio.sleep(1)
        streams = member_of(bob, alice).streams
        assert [(label, [track.kind for track in stream.tracks]) for label, stream in streams.items()] == [
            ("camera", ["video"])
        ]
