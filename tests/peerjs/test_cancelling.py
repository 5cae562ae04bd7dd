"""Whatever is cancelled, or ended from outside, at whatever time: nothing stays, and nothing is lost."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.transports.fake_webrtc import Behaviour
from trio_relay.exceptions import PeerError
from trio_relay.peerjs.connections.data_connection import DataConnection
from trio_relay.peerjs.messages import ServerMessage
from trio_relay.peerjs.peer import Peer
from trio_relay.transports.webrtc import WebRTCConfig

from .support import World, open_world


async def slow_peers(world: World, fallback: str | None) -> tuple[Peer, Peer]:
    """Every step of a negotiation takes 0.1 s; so a connection takes about 0.4 s."""
    slow = WebRTCConfig(factory=world.webrtc.behaving(Behaviour(delay=0.1, closing=0.05)))
    alice = await world.open_peer("alice", config=slow, fallback=fallback)
    return alice, await world.open_peer("bob", config=slow, fallback=fallback)


async def require_nothing_left(world: World) -> None:
    await trio.sleep(100)
    assert world.webrtc.open_connections == 0
    for peer in world.peers.values():
        statistics = peer.statistics()
        assert (statistics.connections, statistics.connecting) == (0, 0)
        for _ in range(statistics.accepting):
            accepted = await peer.accept()
            assert isinstance(accepted, DataConnection)
            assert not accepted.open
            await accepted.aclose()


@pytest.mark.parametrize("fallback", [None, "relay"])
async def test_connect_is_cancelled(autojump_clock: MockClock, fallback: str | None) -> None:
    async with open_world() as world:
        alice, _ = await slow_peers(world, fallback)
        opened = 0
        for tenths in range(9):
            connection = None
            with trio.move_on_after(0.06 + tenths / 10):
                connection = await alice.connect("bob")
                opened += 1
                await trio.sleep_forever()
            if connection is not None:
                await connection.aclose()
            await require_nothing_left(world)
        assert 0 < opened < 9


async def test_accept_is_cancelled_and_loses_nothing(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        alice, bob = await world.open_peer("alice"), await world.open_peer("bob")
        accepted = list[object]()
        for turns in range(40):
            scope = trio.CancelScope()

            async def accept(scope: trio.CancelScope = scope) -> None:
                with scope:
                    accepted.append(await bob.accept())

            async with trio.open_nursery() as nursery:
                nursery.start_soon(accept)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(alice.connect, "bob")
                for _ in range(turns):
                    await trio.lowlevel.checkpoint()
                scope.cancel()
        await trio.sleep(1)
        assert 0 < len(accepted) < 40
        assert len(accepted) + bob.statistics().accepting == 40


@pytest.mark.parametrize("fallback", [None, "relay"])
@pytest.mark.parametrize("type", ["LEAVE", "EXPIRE"])
async def test_the_broker_gives_a_peer_up(autojump_clock: MockClock, type: str, fallback: str | None) -> None:
    async with open_world() as world:
        alice, _ = await slow_peers(world, fallback)
        outcomes = set[str]()

        async def give_up(after: float) -> None:
            await trio.sleep(after)
            world.broker.say("alice", ServerMessage(type, "bob"))
            world.broker.say("bob", ServerMessage(type, "alice"))

        for tenths in range(7):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(give_up, 0.06 + tenths / 10)
                try:
                    connection = await alice.connect("bob")
                    await trio.sleep(2)
                    assert connection.open
                    await connection.aclose()
                    outcomes.add("open")
                except PeerError as error:
                    outcomes.add(error.type)
            await require_nothing_left(world)
        assert outcomes >= {"open", "peer-unavailable"}


@pytest.mark.parametrize("serialization", ["binary", "MsgPack"])
async def test_send_and_receive_are_cancelled(autojump_clock: MockClock, serialization: str) -> None:
    async with open_world() as world:
        alice, bob = await slow_peers(world, None)
        ours, theirs = await alice.connect("bob", serialization=serialization), await bob.accept()
        assert isinstance(theirs, DataConnection)
        received = list[int]()
        sent = 0
        for number in range(40):
            scope = trio.CancelScope()

            async def receive(scope: trio.CancelScope = scope) -> None:
                with scope:
                    received.append(await theirs.receive())

            async with trio.open_nursery() as nursery:
                nursery.start_soon(receive)
                with trio.move_on_after(0 if number % 7 == 0 else 1):
                    await ours.send(number)
                    sent += 1
                await trio.sleep(0.1 * (number % 2))
                scope.cancel()
        await ours.aclose()
        received += [value async for value in theirs]
        assert len(received) == sent
        assert received == sorted(received)
