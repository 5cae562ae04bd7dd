"""What another peer may do to ours: it ends its own connection, and nothing else; memory stays bounded."""

from __future__ import annotations

import base64
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.transports.fake_webrtc import Behaviour
from trio_relay.exceptions import PeerError, RemoteProtocolError
from trio_relay.peerjs.connections.data_connection import DataConnection
from trio_relay.peerjs.connections.media_connection import MediaConnection
from trio_relay.peerjs.fallback.frames import Ack, Fragment, Hello, Reset, encode_frame
from trio_relay.peerjs.fallback.sealing import RelayKey
from trio_relay.peerjs.messages import ServerMessage, parse_server_message_untrusted
from trio_relay.peerjs.options import PeerLimits
from trio_relay.peerjs.peer import Peer
from trio_relay.peerjs.serialization.chunks import split
from trio_relay.peerjs.serialization.raw import RawSerializer
from trio_relay.transports.webrtc import DataChannel, WebRTCConfig

from .support import World, open_world, pair

KIB = 1024


def offer(world: World, sdp: str, **members: Any) -> None:
    """Mallory offers bob a connection."""
    payload = {"sdp": {"type": "offer", "sdp": sdp}, "type": "data", "connectionId": "dc_evil", **members}
    world.broker.say("bob", ServerMessage("OFFER", "mallory", payload))


@asynccontextmanager
async def raw_channel(world: World, **members: Any) -> AsyncIterator[DataChannel]:
    """A channel from mallory to bob, without anything of PeerJS at mallory's end."""
    async with world.webrtc.factory(WebRTCConfig()) as connection:
        offer(world, await connection.create_offer("evil"), **members)
        await trio.sleep(0.1)
        answer = world.broker.carried[-1]
        assert (answer["type"], answer["dst"]) == ("ANSWER", "mallory")
        await connection.accept_answer(answer["payload"]["sdp"]["sdp"])
        yield await connection.channel()


@asynccontextmanager
async def bystanders(**options: Any) -> AsyncIterator[tuple[World, Peer]]:
    """Bob, who has a connection with alice that must go on after the block."""
    async with open_world() as world:
        alice, bob = await world.open_peer("alice", **options), await world.open_peer("bob", **options)
        ours, theirs = await alice.connect("bob"), await bob.accept()
        assert isinstance(theirs, DataConnection)
        yield world, bob
        await ours.send("unharmed")
        assert await theirs.receive() == "unharmed"
        assert bob.open


@pytest.mark.parametrize("type", ["OFFER", "ANSWER"])
async def test_a_key_of_small_order_ends_one_connection(autojump_clock: MockClock, type: str) -> None:
    async with bystanders(fallback="relay") as (world, bob):
        dead = WebRTCConfig(factory=world.webrtc.behaving(Behaviour(unreachable=True)))
        mallory = await world.open_peer("mallory", config=dead, fallback="relay")
        world.broker.adds[type] = {"relay": {"key": base64.b64encode(bytes(32)).decode()}}
        with pytest.raises(PeerError):
            await mallory.connect("bob", timeout=100)
        victim = bob if type == "OFFER" else mallory
        assert victim.statistics().counts["lasting_bad_keys"] >= 1
        await trio.sleep(100)
        assert bob.statistics().connecting == 0


FRAMES = [
    b"",
    b"\xff",
    "text",
    encode_frame(Reset()),
    encode_frame(Ack(1 << 60, 1 << 60)),
    encode_frame(Hello(5, 0, 0)),
    encode_frame(Hello(0, 0, 1 << 62)) * 2,
    encode_frame(Hello(0, 0, 1 << 62)) + encode_frame(Fragment(4, 0, b"")) + encode_frame(Reset()),
    encode_frame(Hello(0, 0, 1 << 62)) + encode_frame(Fragment(2, 0, b"\xff")),
    encode_frame(Hello(0, 0, 1 << 62)) + encode_frame(Fragment(0, 0, b"\x91" * 1000)),
    encode_frame(Hello(0, 0, 1 << 62)) + encode_frame(Fragment(4, 0, b"")),
]


@pytest.mark.parametrize("frame", FRAMES)
async def test_bad_frames_of_a_lasting_connection(autojump_clock: MockClock, frame: bytes | str) -> None:
    async with bystanders(fallback="relay") as (world, bob):
        key = base64.b64encode(RelayKey(bytes(31) + b"x").public).decode()
        async with raw_channel(world, relay={"key": key}) as channel:
            with suppress(trio.BrokenResourceError):
                for _ in range(3):
                    await channel.send(frame)
            await trio.sleep(100)
        await trio.sleep(100)
        statistics = bob.statistics()
        assert (statistics.connections, statistics.connecting) == (1, 0)


async def test_lone_surrogates_as_a_name_are_no_message() -> None:
    with pytest.raises(RemoteProtocolError, match="UTF-8"):
        parse_server_message_untrusted('{"type":"OFFER","src":"\\ud800"}')


async def test_large_metadata_are_not_kept(autojump_clock: MockClock) -> None:
    async with bystanders(limits=PeerLimits(metadata=1000)) as (world, bob):
        offer(world, "nonsense", metadata=[[]] * 400)
        assert bob.statistics().counts["signals_bad"] == 1
        assert bob.statistics().connecting == 0
        offer(world, "nonsense", metadata=[[]] * 300)
        assert bob.statistics().connecting == 1


async def test_calls_that_are_over_do_not_wait_to_be_accepted(autojump_clock: MockClock) -> None:
    async with bystanders() as (world, bob):
        for number in range(64):
            offer(world, "nonsense", type="media", connectionId=f"mc_{number}")
        await trio.sleep(1)
        assert bob.statistics().accepting == 64
        await trio.sleep(120)
        assert bob.statistics().accepting == 0
        offer(world, "nonsense", type="media")
        call = await bob.accept()
        assert isinstance(call, MediaConnection)
        await call.aclose()


async def test_offers_for_one_id_replace_each_other(autojump_clock: MockClock) -> None:
    async with bystanders() as (world, bob):
        living = trio.lowlevel.current_statistics().tasks_living
        sdp = world.broker.carried[0]["payload"]["sdp"]["sdp"]
        for _ in range(500):
            offer(world, sdp)
        await trio.sleep(1)
        assert trio.lowlevel.current_statistics().tasks_living < living + 10
        assert bob.statistics().connecting == 1
        assert bob.statistics().counts["connections_failed"] == 499


async def test_an_offer_does_not_wait_for_its_turn_for_ever(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        patient = WebRTCConfig(factory=world.webrtc.factory, negotiations=1, negotiation_timeout=100)
        bob, _ = await world.open_peer("bob", config=patient), await world.open_peer("mallory")
        async with world.webrtc.factory(WebRTCConfig()) as connection:
            sdp = await connection.create_offer("evil")
            async with bob.events() as events:
                for number in range(3):
                    offer(world, sdp, connectionId=f"dc_{number}")
                for _ in range(2):
                    assert "too many other connections" in str((await anext(events)).error)  # type: ignore[union-attr]
                assert trio.current_time() < 31


@pytest.mark.parametrize("bound", ["negotiations", "connections"])
async def test_one_peer_does_not_take_all_places(autojump_clock: MockClock, bound: str) -> None:
    async with open_world() as world:
        config = WebRTCConfig(factory=world.webrtc.factory, negotiations=4 if bound == "negotiations" else 16)
        limits = PeerLimits(connections=8 if bound == "connections" else 256)
        bob = await world.open_peer("bob", config=config, limits=limits)
        alice, _ = await world.open_peer("alice"), await world.open_peer("mallory")
        async with world.webrtc.factory(WebRTCConfig()) as connection:
            sdp = await connection.create_offer("evil")
            for number in range(20):
                offer(world, sdp, connectionId=f"dc_{number}")
            await trio.sleep(1)
            await alice.connect("bob")
            assert trio.current_time() < 2
            assert bob.statistics().counts.get("connections_full", 0) == (16 if bound == "connections" else 0)


CHUNKS = list(split([bytes(600 * KIB)], 1))


async def test_all_connections_together_hold_so_much(autojump_clock: MockClock) -> None:
    limits = PeerLimits(receive_total=1024 * KIB, connections=8)
    async with bystanders(limits=limits) as (world, bob), trio.open_nursery() as nursery:
        ended = list[str]()

        async def hoard(name: str) -> None:
            async with raw_channel(world, connectionId=name) as channel:
                with suppress(trio.BrokenResourceError):
                    for chunk in CHUNKS[:-1]:
                        await channel.send(chunk)
                    await trio.sleep(10)
                    return
            ended.append(name)

        for name in "dc_1", "dc_2":
            nursery.start_soon(hoard, name)
            await trio.sleep(1)
        first, second = await bob.accept(), await bob.accept()
        assert isinstance(first, DataConnection)
        assert isinstance(second, DataConnection)
        assert first.open
        with pytest.raises(PeerError, match="all connections together hold"):
            await second.receive()
        assert bob.statistics().counts["receive_total_full"] == 1
        assert bob._board.held.bytes == sum(len(data) for data in CHUNKS[:-1]) - _heads(CHUNKS[:-1])
        alice = world.peers["alice"]
        await (await alice.connect("bob")).send(b"y" * 50 * KIB)
        honest = await bob.accept()
        assert isinstance(honest, DataConnection)
        assert await honest.receive() == b"y" * 50 * KIB
        await trio.sleep(10)
        del first, second
        gc.collect()
        assert bob._board.held.bytes == 0


def _heads(chunks: list[bytes]) -> int:
    """What in chunks is not the slices."""
    return sum(map(len, chunks)) - 16300 * len(chunks)


async def test_what_is_received_or_never_will_be_counts_no_more(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        ours, theirs = await pair(world)
        held = world.peers["bob"]._board.held
        for _ in range(3):
            await ours.send(b"x" * 1000)
        await trio.sleep(1)
        assert held.bytes == 3 * 1003
        await theirs.receive()
        assert held.bytes == 2 * 1003
        await ours.aclose()
        await trio.sleep(1)
        assert held.bytes == 2 * 1003  # they can still be received
        await theirs.aclose()
        assert held.bytes == 0


BAD_CHUNKS: list[list[bytes]] = [
    [CHUNKS[0], CHUNKS[0]],
    [next(split([bytes(20 * KIB)], 1)), CHUNKS[1]],
    [CHUNKS[0].replace(b"\xb5total\x26", b"\xb5total\xce\x80\x00\x00\x00")],
    [CHUNKS[0].replace(b"\xb1n\x00", b"\xb1n\x7f")],
]


@pytest.mark.parametrize("number", range(len(BAD_CHUNKS)))
async def test_chunks_that_do_not_fit_together(autojump_clock: MockClock, number: int) -> None:
    async with bystanders() as (world, bob), raw_channel(world) as channel:
        for chunk in BAD_CHUNKS[number]:
            await channel.send(chunk)
        connection = await bob.accept()
        assert isinstance(connection, DataConnection)
        with pytest.raises(PeerError, match="broke the protocol") as caught:
            await connection.receive()
        assert caught.value.type == "connection-closed"


class Careless(RawSerializer):
    """An application's own, which does not expect strangers."""

    def decode(self, message: bytes | str) -> list[Any]:
        return [int(message)]


async def test_a_careless_serializer_ends_one_connection(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        bystanders(serializers={"raw": Careless}) as (world, bob),
        raw_channel(world, serialization="raw") as raw,
    ):
        await raw.send("1")
        await raw.send("one")
        connection = await bob.accept()
        assert isinstance(connection, DataConnection)
        assert await connection.receive() == 1
        with pytest.raises(PeerError, match="could not be read: ValueError"):
            await connection.receive()
        assert "could not read a message" in caplog.text
