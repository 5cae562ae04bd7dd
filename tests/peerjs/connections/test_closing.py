"""Connections that end while something is being done with them, and what is told to whom."""

from __future__ import annotations

from functools import partial

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.peerjs.support import World, open_world, pair
from tests.transports.fake_webrtc import Behaviour
from trio_relay.exceptions import LocalProtocolError, PeerError
from trio_relay.peerjs.connections.data_connection import DataConnection
from trio_relay.peerjs.options import PeerLimits
from trio_relay.transports.webrtc import WebRTCConfig

KIB = 1024


async def slow_pair(world: World, rate: float, **options: object) -> tuple[DataConnection, DataConnection]:
    """Of which the side that connected sends slowly."""
    slow = WebRTCConfig(factory=world.webrtc.behaving(Behaviour(rate=rate)))
    alice, bob = await world.open_peer("alice", config=slow), await world.open_peer("bob")
    ours, theirs = await alice.connect("bob", **options), await bob.accept()  # type: ignore[arg-type]
    assert isinstance(theirs, DataConnection)
    return ours, theirs


@pytest.mark.parametrize("how", ["closed", "flushed", "garbage"])
async def test_who_waits_to_send_is_told_who_ended_it(autojump_clock: MockClock, how: str) -> None:
    async with open_world() as world:
        ours, theirs = await slow_pair(world, KIB)

        async def end() -> None:
            await trio.sleep(1)
            if how == "garbage":
                await world.webrtc.channels[1].send(b"\xd9\xff\xff\xff\xff")
            else:
                await theirs.aclose(flush=how == "flushed")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(end)
            expected = PeerError if how == "garbage" else trio.BrokenResourceError
            with pytest.raises(expected, match="connection"):
                await ours.send(b"x" * 500 * KIB)


async def test_a_second_closer_waits_for_the_first(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        ours, theirs = await slow_pair(world, 50 * KIB, serialization="raw")
        await ours.send(b"x" * 100 * KIB)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours.aclose)
            await trio.sleep(0.5)
            await ours.aclose()
            assert trio.current_time() >= 2
        assert [value async for value in theirs] == [b"x" * 100 * KIB]


@pytest.mark.parametrize("flush", [False, True])
async def test_both_sides_close_at_once(autojump_clock: MockClock, flush: bool) -> None:
    async with open_world() as world:
        both = await pair(world)
        for connection in both:
            await connection.send("x" * 50 * KIB)
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for connection in both:
                nursery.start_soon(partial(connection.aclose, flush=flush))
        assert trio.current_time() - began < 1
        for peer in world.peers.values():
            assert peer.statistics().connections == peer.statistics().connecting == 0


async def test_a_cancelled_close_closes_at_once(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        ours, theirs = await slow_pair(world, KIB)
        with trio.move_on_after(1):
            async with ours:
                await ours.send(b"x" * 100 * KIB)
                await trio.sleep_forever()
        assert trio.current_time() < 1.1
        assert [value async for value in theirs] == []


async def test_who_closes_is_not_held_up_by_what_nobody_received(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        alice = await world.open_peer("alice")
        bob = await world.open_peer("bob", limits=PeerLimits(receive_messages=2))
        ours, theirs = await alice.connect("bob"), await bob.accept()
        for number in range(10):
            await ours.send(number)
        await trio.sleep(1)
        assert isinstance(theirs, DataConnection)
        await theirs.aclose(flush=True)
        assert trio.current_time() < 2


async def test_who_receives_while_it_is_closed_is_told_so(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        ours, _ = await pair(world)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def receive() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await ours.receive()

            await trio.testing.wait_all_tasks_blocked()
            await ours.aclose()


@pytest.mark.parametrize("reliable", [False, True])
async def test_the_request_to_close_does_not_overtake_what_was_sent(autojump_clock: MockClock, reliable: bool) -> None:
    async with open_world() as world:
        ours, theirs = await slow_pair(world, 10 * KIB, reliable=reliable)
        await ours.send(b"x" * 10 * KIB)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: ours.aclose(flush=True))
            await trio.sleep(0.1)
            # Where the order may change, it is not on its way before the rest has arrived.
            assert len(world.webrtc.channels[1].waiting) == 1 + reliable
            assert [value async for value in theirs] == [b"x" * 10 * KIB]


@pytest.mark.parametrize("fallback", [None, "relay"])
async def test_a_peer_whose_block_was_cancelled_is_destroyed(autojump_clock: MockClock, fallback: str | None) -> None:
    async with open_world() as world:
        await world.open_peer("bob", fallback=fallback)
        with trio.move_on_after(1):
            async with world.peer("alice", fallback=fallback) as alice:
                connection = await alice.connect("bob")
                await connection.send(1)
                await trio.sleep_forever()
        assert trio.current_time() < 1.1
        assert alice.destroyed
        for call in connection.receive(), connection.send(2):
            with pytest.raises(trio.ClosedResourceError):
                await call
        await alice.destroy()
        for use in alice.accept(), alice.connect("bob"), alice.disconnect():
            with trio.fail_after(1), pytest.raises(PeerError) as caught:
                await use
            assert caught.value.type == "peer-destroyed"


async def test_a_peer_is_destroyed_while_it_connects(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        alice, _ = await world.open_peer("alice"), await world.open_peer("bob")
        world.broker.holds = True
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def connect() -> None:
                with pytest.raises(PeerError) as caught:
                    await alice.connect("bob")
                assert caught.value.type == "peer-destroyed"

            await trio.sleep(1)
            await alice.destroy()


async def test_a_cancelled_destruction_is_one(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        ours, theirs = await slow_pair(world, 1)
        await ours.send(b"x" * 100)
        alice = world.peers["alice"]
        async with alice.events() as events:
            with trio.move_on_after(1):
                await alice.destroy()
            assert trio.current_time() < 1.1
            assert [event async for event in events] == []
        assert not ours.open
        assert [value async for value in theirs] == []
        await alice.destroy()


async def test_a_second_destroyer_waits_for_the_first(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        ours, _ = await slow_pair(world, KIB)
        await ours.send(b"x" * 2 * KIB)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.peers["alice"].destroy)
            await trio.sleep(0.1)
            await world.peers["alice"].destroy()
            assert not ours.open
            assert trio.current_time() >= 2


async def test_halves_of_characters_are_sent_as_a_browser_does(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        ours, theirs = await pair(world, serialization="raw")
        await ours.send("a\ud800b")
        assert await theirs.receive() == "a\ufffdb"


async def test_what_an_offer_cannot_hold_is_refused_at_once(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        alice, _ = await world.open_peer("alice"), await world.open_peer("bob")
        for options in {"metadata": object()}, {"metadata": float("inf")}, {"label": "x" * 70_000}:
            with pytest.raises(LocalProtocolError):
                await alice.connect("bob", **options)
        with pytest.raises(ValueError, match="another peer"):
            await alice.connect("")
        assert not world.broker.carried
        metadata = {"a": 1}
        connection = await alice.connect("bob", metadata=metadata, label="")
        metadata["a"] = 2
        assert connection.metadata == {"a": 1}
        accepted = await world.peers["bob"].accept()
        assert isinstance(accepted, DataConnection)
        assert connection.label == accepted.label == connection.connection_id
        assert (connection.incoming, accepted.incoming) == (False, True)
