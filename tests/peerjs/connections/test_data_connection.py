"""What goes over a data connection, how it ends, and what the other side can do to it."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.peerjs.support import open_world, pair
from tests.transports.fake_webrtc import Behaviour
from trio_relay.exceptions import LocalProtocolError, PeerError
from trio_relay.peerjs.connections.data_connection import DataConnection
from trio_relay.peerjs.options import PeerLimits
from trio_relay.transports.webrtc import WebRTCConfig

KIB = 1024
MIB = 1024 * KIB

VALUES: dict[str, list[Any]] = {
    "binary": [0, -1, 1.5, "", "ü", None, True, b"", b"x" * 20_000, [1, [2]], {"a": {"b": [None]}}, "y" * 100_000],
    "json": [0, -1, 1.5, "", "ü", None, True, [1, [2]], {"a": {"b": [None]}}],
    "raw": ["", "ü", b"", b"\x00\xff", "y" * 100_000],
    "MsgPack": [0, -1, 1.5, "", "ü", None, True, b"", b"x" * 100_000, [1, [2]], {"a": {"b": [None]}}],
}


@pytest.mark.parametrize("serialization", VALUES)
async def test_values_arrive_as_they_were_sent(autojump_clock: MockClock, serialization: str) -> None:
    async with open_world() as world:
        ours, theirs = await pair(world, serialization=serialization)
        for sender, receiver in (ours, theirs), (theirs, ours):
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def send(sender: Any = sender) -> None:
                    for value in VALUES[serialization]:
                        await sender.send(value)

                for value in VALUES[serialization]:
                    assert await receiver.receive() == value


async def test_text_json_is_answered_with_text_json(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        ours, theirs = await pair(world, serialization="json")
        ours_channel, theirs_channel = world.webrtc.channels
        await ours.send(1)
        assert [message for _, message in theirs_channel.waiting] == [b"1"]
        await ours_channel.send('{"old": true}')
        assert await theirs.receive() == 1
        assert await theirs.receive() == {"old": True}
        await theirs.send(2)
        assert [message for _, message in ours_channel.waiting] == ["2"]


@pytest.mark.parametrize("type", ["OFFER", "ANSWER"])
async def test_old_originals_get_text_json(autojump_clock: MockClock, type: str) -> None:
    async with open_world() as world:
        world.broker.adds[type] = {"browser": "Chrome"}
        ours, theirs = await pair(world, serialization="json")
        suited = theirs if type == "OFFER" else ours
        for connection, channel in zip((ours, theirs), reversed(world.webrtc.channels), strict=True):
            await connection.send(1)
            assert [message for _, message in channel.waiting] == ["1" if connection is suited else b"1"]


async def test_a_value_without_a_form_harms_nothing(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        ours, theirs = await pair(world)
        for value in object(), {1.5: 2}, 1 << 70, {"__peerData": 1}:
            with pytest.raises(LocalProtocolError):
                await ours.send(value)
        await ours.send("fine")
        assert await theirs.receive() == "fine"


async def test_messages_that_are_too_big(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        json, theirs = await pair(world, serialization="json")
        raw = await world.peers["alice"].connect("bob", serialization="raw")
        for connection, size in (json, 16_300), (raw, 300 * KIB):
            with pytest.raises(PeerError) as caught:
                await connection.send("x" * size)
            assert caught.value.type == "message-too-big"
            assert connection.open
        await json.send("y" * 16_000)
        assert await theirs.receive() == "y" * 16_000


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("flush", [False, True])
async def test_either_side_closes(autojump_clock: MockClock, side: int, flush: bool) -> None:
    async with open_world() as world:
        both = await pair(world)
        closing, other = both[side], both[1 - side]
        await closing.send("last words")
        await closing.aclose(flush=flush)
        assert not closing.open
        assert [value async for value in other] == ["last words"]
        assert not other.open
        for call in closing.send(1), closing.receive():
            with pytest.raises(trio.ClosedResourceError):
                await call
        with pytest.raises(trio.BrokenResourceError, match="the other side closed"):
            await other.send(1)
        with pytest.raises(trio.EndOfChannel):
            await other.receive()
        await closing.aclose()
        await other.aclose()
        await other.wait_closed()
        for peer in world.peers.values():
            assert peer.statistics().connections == 0
            assert not peer.connections
    assert world.webrtc.open_connections == 0


async def test_closing_waits_for_what_was_sent_and_no_longer_than_allowed(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        slow = WebRTCConfig(factory=world.webrtc.behaving(Behaviour(rate=50 * KIB)))
        alice = await world.open_peer("alice", config=slow, limits=PeerLimits(close_timeout=4.0))
        bob = await world.open_peer("bob")
        for size, lost in (100 * KIB, False), (200 * KIB + 56 * KIB, True):
            ours = await alice.connect("bob", serialization="raw")
            theirs = await bob.accept()
            await ours.send(b"x" * size)
            began = trio.current_time()
            await ours.aclose()
            assert trio.current_time() - began <= 4.1
            received = [value async for value in theirs]
            assert received == ([] if lost else [b"x" * size])


async def test_a_broken_connection_is_an_error_after_what_arrived(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        ours, theirs = await pair(world)
        await ours.send(1)
        await trio.sleep(1)
        world.webrtc.break_channels()
        assert await theirs.receive() == 1
        for call in theirs.receive(), theirs.send(2), ours.receive(), ours.send(2):
            with pytest.raises(PeerError) as caught:
                await call
            assert caught.value.type == "connection-closed"
        await trio.sleep(1)
        assert world.peers["alice"].statistics().connections == 0


async def test_who_is_sending_when_it_breaks_is_told_so(autojump_clock: MockClock) -> None:
    """Whichever of its tasks Trio wakes first."""
    async with open_world() as world:
        stuck = WebRTCConfig(factory=world.webrtc.behaving(Behaviour(rate=1)))
        alice = await world.open_peer("alice", config=stuck)
        await world.open_peer("bob")

        async def send(connection: DataConnection) -> None:
            with pytest.raises(PeerError) as caught:
                await connection.send(b"x" * MIB)
            assert caught.value.type == "connection-closed"

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(send, await alice.connect("bob"))
            await trio.sleep(1)
            world.webrtc.break_channels()


GARBAGE: list[tuple[str, bytes | str]] = [
    ("binary", b"\xd9\xff\xff\xff\xff"),
    ("binary", b"\xdd\xff\xff\xff\xff"),
    ("binary", b"\x91" * 100_000),
    ("binary", "text"),
    ("binary", b""),
    ("json", b"{"),
    ("json", b"[" * 10_000),
    ("MsgPack", b"\xc1"),
    ("MsgPack", b"\xdd\xff\xff\xff\xff" * 3),
    ("MsgPack", "text"),
]


@pytest.mark.parametrize(("serialization", "garbage"), GARBAGE)
async def test_garbage_ends_its_own_connection_alone(
    autojump_clock: MockClock, serialization: str, garbage: bytes | str
) -> None:
    async with open_world() as world:
        ours, theirs = await pair(world, serialization=serialization)
        await world.peers["alice"].connect("bob")
        other = await world.peers["bob"].accept()
        channel = next(c.data_channel for c in world.webrtc.connections if c.data_channel is not None)
        await channel.send(garbage)
        await channel.send(garbage)
        with pytest.raises(PeerError, match="the other side broke the protocol") as caught:
            await theirs.receive()
        assert caught.value.type == "connection-closed"
        bob = world.peers["bob"]
        assert bob.statistics().counts["connection_bad_data"] == 1
        await trio.sleep(1)
        assert list(bob.connections["alice"].values()) == [other]
        assert ours.open is False


async def test_who_does_not_receive_stops_who_sends(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        fast = WebRTCConfig(factory=world.webrtc.behaving(Behaviour(rate=10 * MIB)))
        alice = await world.open_peer("alice", config=fast)
        bob = await world.open_peer("bob", limits=PeerLimits(receive_bytes=64 * KIB, receive_messages=10))
        ours = await alice.connect("bob")
        theirs = await bob.accept()
        for number in range(100):
            await ours.send(number)
        await trio.sleep(1)
        inbox = theirs._inbox  # type: ignore[union-attr]
        assert len(inbox) == 10
        assert [await theirs.receive() for _ in range(100)] == list(range(100))  # type: ignore[union-attr]


async def test_several_tasks_send_and_receive(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        ours, theirs = await pair(world)
        received: list[Any] = []

        async def send(first: int) -> None:
            for number in range(first, first + 20):
                await ours.send({"number": number, "padding": b"x" * 20_000})

        async def receive() -> None:
            async for value in theirs:
                received.append(value["number"])

        async with trio.open_nursery() as readers:
            for _ in range(3):
                readers.start_soon(receive)
            async with trio.open_nursery() as writers:
                for first in 0, 20, 40:
                    writers.start_soon(send, first)
            await ours.aclose()
        assert sorted(received) == list(range(60))


async def test_a_cancelled_send_breaks_a_stream_and_nothing_else(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        slow = WebRTCConfig(factory=world.webrtc.behaving(Behaviour(rate=100 * KIB)))
        alice = await world.open_peer("alice", config=slow)
        bob = await world.open_peer("bob")
        for serialization, survives in ("binary", True), ("MsgPack", False):
            ours = await alice.connect("bob", serialization=serialization)
            theirs = await bob.accept()
            with trio.move_on_after(1):
                await ours.send(b"x" * MIB)
            await trio.sleep(20)
            assert ours.open is survives
            if survives:
                await ours.send("next")
                assert await theirs.receive() == "next"  # type: ignore[union-attr]
            else:
                with pytest.raises(PeerError, match="cut off"):
                    await ours.send("next")


class Reversed:
    """A serialization of somebody's own."""

    name = "reversed"
    is_stream = False
    unfinished = 0

    def __init__(self, limits: object) -> None: ...

    def encode(self, value: str) -> list[str | bytes]:
        return [value[::-1]]

    def decode(self, message: bytes | str) -> list[Any]:
        return [message[::-1]]

    def encode_close(self) -> None: ...


async def test_a_serialization_of_ones_own(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        for name in "alice", "bob":
            await world.open_peer(name, serializers={"reversed": Reversed})
        ours = await world.peers["alice"].connect("bob", serialization="reversed")
        theirs = await world.peers["bob"].accept()
        await ours.send("abc")
        assert [message for _, message in world.webrtc.channels[1].waiting] == ["cba"]
        assert await theirs.receive() == "abc"  # type: ignore[union-attr]
        with pytest.raises(LocalProtocolError, match="serialization"):
            await world.peers["alice"].connect("bob", serialization="unheard of")
