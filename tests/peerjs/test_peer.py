"""A peer with its broker: who is there, who is not, who comes back."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
import trio.lowlevel
import trio.testing
from trio.testing import MockClock

from tests.transports.fake_webrtc import Behaviour
from trio_relay.exceptions import PeerError
from trio_relay.peerjs.connections.data_connection import DataConnection
from trio_relay.peerjs.events import ConnectionFailed, PeerLost, PeerOpened
from trio_relay.peerjs.messages import ServerMessage
from trio_relay.peerjs.options import PeerLimits, PeerOptions
from trio_relay.peerjs.peer import Peer
from trio_relay.transports.webrtc import WebRTCConfig

from .support import EXPIRE_AFTER, World, open_world, pair


async def test_two_peers_tell_each_other_who_they_are(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        ours, theirs = await pair(world, label="chat", metadata={"a": None}, serialization="json", reliable=True)
        assert (ours.peer, theirs.peer) == ("bob", "alice")
        for connection in ours, theirs:
            assert connection.open
            assert connection.label == "chat"
            assert connection.metadata == {"a": None}
            assert connection.serialization == "json"
            assert connection.reliable
            assert connection.transport == "webrtc"
            assert connection.type == "data"
        assert ours.connection_id == theirs.connection_id
        assert ours.connection_id.startswith("dc_")


async def test_what_is_not_said_has_the_originals_defaults(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        ours, theirs = await pair(world)
        offer = next(m["payload"] for m in world.broker.carried if m["type"] == "OFFER")
        assert "metadata" not in offer
        assert (offer["serialization"], offer["reliable"], offer["label"]) == ("binary", False, ours.connection_id)
        assert theirs.metadata is None
        assert not theirs.reliable
        assert not world.webrtc.channels[0].ordered


@pytest.mark.parametrize("alias", ["default", "binary", "binary-utf8"])
async def test_aliases_stand_in_offers_under_one_name(autojump_clock: MockClock, alias: str) -> None:
    async with open_world() as world:
        ours, theirs = await pair(world, serialization=alias)
        assert ours.serialization == theirs.serialization == "binary"


async def test_connections_are_found_by_peer_and_label(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        first, theirs = await pair(world, label="one")
        alice, bob = world.peers["alice"], world.peers["bob"]
        second = await alice.connect("bob", label="one")
        third = await alice.connect("bob", label="two")
        assert alice.connections == {"bob": {"one": first, second.connection_id: second, "two": third}}
        assert alice.get_connection("bob", second.connection_id) is second
        assert bob.get_connection("alice", first.connection_id) is theirs
        assert alice.get_connection("bob", "dc_none") is None
        await first.aclose()
        assert set(alice.connections["bob"]) == {"one", "two"}


async def test_a_missing_peer_is_an_error_within_the_expiry_time(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        alice = await world.open_peer("alice")
        began = trio.current_time()
        with pytest.raises(PeerError, match="could not connect to peer nobody") as caught:
            await alice.connect("nobody")
        assert caught.value.type == "peer-unavailable"
        assert trio.current_time() - began <= EXPIRE_AFTER + 0.1
        assert alice.statistics().connecting == 0
    assert world.webrtc.open_connections == 0


async def test_a_peer_that_does_not_answer_is_an_error_in_time(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        alice = await world.open_peer("alice")
        await world.open_peer("bob")
        world.broker.holds = True
        with pytest.raises(PeerError) as caught:
            await alice.connect("bob", timeout=3)
        assert caught.value.type == "negotiation-failed"
        assert trio.current_time() < 4
        assert not alice.connections
        assert alice.get_connection("bob", "x") is None
    assert world.webrtc.open_connections == 0


async def test_a_cancelled_connect_leaves_nothing(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        alice = await world.open_peer("alice")
        world.broker.holds = True
        with trio.move_on_after(1):
            await alice.connect("bob")
        assert alice.statistics().connecting == 0
        await trio.lowlevel.checkpoint()
        assert world.webrtc.open_connections == 0


async def test_a_peer_does_not_connect_to_itself(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        alice = await world.open_peer("alice")
        with pytest.raises(ValueError, match="another peer"):
            await alice.connect("alice")


async def test_connections_outlive_the_broker(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        ours, theirs = await pair(world)
        alice = world.peers["alice"]
        async with alice.events() as events:
            world.broker.signallers["alice"].lose()
            event = await anext(events)
        assert isinstance(event, PeerLost)
        assert not event.final
        assert event.error.type == "network"
        assert not alice.open
        assert not alice.disconnected
        assert alice.id == "alice"
        await ours.send("still here")
        assert await theirs.receive() == "still here"


@pytest.mark.parametrize("type", ["EXPIRE", "LEAVE"])
async def test_what_the_broker_cannot_reach_may_still_be_connected(autojump_clock: MockClock, type: str) -> None:
    async with open_world() as world:
        ours, theirs = await pair(world)
        world.broker.say("alice", ServerMessage(type, "bob"))
        await ours.send(1)
        assert await theirs.receive() == 1


async def test_a_disconnected_peer_says_so_until_it_comes_back(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        ours, theirs = await pair(world)
        alice = world.peers["alice"]
        with pytest.raises(RuntimeError, match="expected a disconnected peer"):
            await alice.reconnect()
        await alice.disconnect()
        await alice.disconnect()
        assert (alice.disconnected, alice.open) == (True, False)
        for call in alice.connect("bob"), alice.accept(), alice.list_all_peers():
            with pytest.raises(PeerError) as caught:
                await call
            assert caught.value.type == "disconnected"
        await ours.send(2)
        assert await theirs.receive() == 2
        async with alice.events() as events:
            await alice.reconnect()
            assert await anext(events) == PeerOpened("alice")
        assert (alice.disconnected, alice.open) == (False, True)
        assert sorted(await alice.list_all_peers()) == ["alice", "bob"]
        assert await alice.connect("bob")


async def test_who_waits_for_connections_is_told_that_none_can_come(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        alice = await world.open_peer("alice")
        caught: list[str] = []

        async def wait() -> None:
            try:
                await alice.accept()
            except PeerError as error:
                caught.append(error.type)

        for end in (
            alice.disconnect,
            lambda: _give_up(world, PeerError("invalid-key", "no such key")),
            alice.destroy,
        ):
            if alice.disconnected:
                await alice.reconnect()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
                await end()
        assert caught == ["disconnected", "invalid-key", "peer-destroyed"]


async def _give_up(world: World, error: PeerError) -> None:
    world.broker.signallers["alice"].give_up(error)


async def test_a_destroyed_peer_is_good_for_nothing(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        ours, theirs = await pair(world)
        alice = world.peers["alice"]
        await alice.destroy()
        await alice.destroy()
        assert alice.destroyed
        assert not ours.open
        assert [value async for value in theirs] == []
        calls = [
            alice.connect("bob"),
            alice.call("bob", []),
            alice.accept(),
            alice.disconnect(),
            alice.reconnect(),
            alice.list_all_peers(),
        ]
        for call in calls:
            with pytest.raises(PeerError) as caught:
                await call
            assert caught.value.type == "peer-destroyed"
        assert [connection async for connection in alice] == []
        assert "alice" not in world.broker.signallers


async def test_an_id_that_is_taken_ends_the_opening(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        await world.open_peer("alice")
        with pytest.raises(PeerError) as caught:
            await world.open_peer("alice")
        assert caught.value.type == "unavailable-id"


async def test_the_broker_gives_an_id(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        peer = await world.open_peer()
        assert peer.id == "peer1"


async def test_more_connections_than_allowed_are_refused(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        alice = await world.open_peer("alice", limits=PeerLimits(connections=2))
        bob = await world.open_peer("bob")
        for _ in range(2):
            await alice.connect("bob")
        with pytest.raises(PeerError, match="there are 2 connections"):
            await alice.connect("bob")
        with pytest.raises(PeerError):
            await bob.connect("alice", timeout=2)
        assert alice.statistics().counts["connections_full"] == 1


async def test_incoming_connections_that_nobody_accepts_are_closed_and_counted(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        alice = await world.open_peer("alice")
        bob = await world.open_peer("bob", limits=PeerLimits(backlog=1))
        first = await alice.connect("bob")
        second = await alice.connect("bob")
        with pytest.raises(trio.EndOfChannel):
            await second.receive()
        assert bob.statistics().counts["accept_full"] == 1
        accepted = await bob.accept()
        assert isinstance(accepted, DataConnection)
        assert accepted.connection_id == first.connection_id


async def test_a_failed_offer_is_told_as_an_event(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        bob = await world.open_peer("bob")
        await world.open_peer("alice")
        offer = {"sdp": {"type": "offer", "sdp": "nonsense"}, "type": "data", "connectionId": "dc_1"}
        async with bob.events() as events:
            world.broker.say("bob", ServerMessage("OFFER", "alice", offer))  # type: ignore[arg-type]
            event = await anext(events)
        assert isinstance(event, ConnectionFailed)
        assert (event.peer, event.connection_id, event.error.type) == ("alice", "dc_1", "negotiation-failed")
        assert bob.statistics().connecting == 0


@pytest.mark.parametrize(
    "message",
    [
        ServerMessage("OFFER", "alice", None),
        ServerMessage("OFFER", "alice", {"type": "data"}),
        ServerMessage("OFFER", "alice", {"type": "tea", "connectionId": "x", "sdp": {"type": "offer", "sdp": ""}}),
        ServerMessage(
            "OFFER",
            "alice",
            {"type": "data", "connectionId": "x", "serialization": "x", "sdp": {"type": "offer", "sdp": ""}},
        ),
        ServerMessage("ANSWER", "alice", [1]),
        ServerMessage("CANDIDATE", "alice", {"connectionId": 1}),
    ],
)
async def test_bad_signals_are_counted_and_harm_nobody(autojump_clock: MockClock, message: ServerMessage) -> None:
    async with open_world() as world:
        ours, theirs = await pair(world)
        world.broker.say("bob", message)
        assert world.peers["bob"].statistics().counts["signals_bad"] == 1
        await ours.send(3)
        assert await theirs.receive() == 3


async def test_unknown_messages_of_the_broker_are_counted(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        alice = await world.open_peer("alice")
        world.broker.say("alice", ServerMessage("TEA"))
        assert alice.statistics().counts["signals_unknown"] == 1


async def test_forged_ids_of_connections_reach_only_the_forger(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        ours, theirs = await pair(world)
        await world.open_peer("mallory")
        payload = {
            "sdp": {"type": "offer", "sdp": "nonsense"},
            "type": "data",
            "connectionId": ours.connection_id,
            "serialization": "json",
        }
        for type in "OFFER", "ANSWER", "CANDIDATE":
            world.broker.say("bob", ServerMessage(type, "mallory", payload))  # type: ignore[arg-type]
        await trio.sleep(1)
        await ours.send("unharmed")
        assert await theirs.receive() == "unharmed"
        assert theirs.serialization == "binary"


async def test_a_second_offer_with_the_same_id_takes_the_place_of_the_connection(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        _, theirs = await pair(world)
        offer = next(m for m in world.broker.carried if m["type"] == "OFFER")
        other = dict(offer["payload"])
        other["label"] = "second"
        world.broker.say("bob", ServerMessage("OFFER", "alice", other))
        assert [value async for value in theirs] == []
        assert not theirs.open


async def test_candidates_before_their_offer_are_kept(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        alice, bob = await world.open_peer("alice"), await world.open_peer("bob")
        world.broker.holds = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(alice.connect, "bob")
            await trio.testing.wait_all_tasks_blocked()
            connection_id = world.broker.carried[0]["payload"]["connectionId"]
            line = "candidate:1 1 udp 2113937151 192.0.2.7 4000 typ host"
            candidate = {"candidate": line, "sdpMid": "0", "sdpMLineIndex": 0}
            payload = {"type": "data", "connectionId": connection_id, "candidate": candidate}
            world.broker.say("bob", ServerMessage("CANDIDATE", "alice", payload))
            world.broker.release()
            await bob.accept()
        answerer = world.webrtc.connections[1]
        assert [kept.candidate for kept in answerer.candidates if kept is not None] == [line]


async def test_many_peers_connect_at_once_both_ways(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        alice, bob = await world.open_peer("alice"), await world.open_peer("bob")
        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(alice.connect, "bob")
                nursery.start_soon(bob.connect, "alice")
        assert alice.statistics().connections == bob.statistics().connections == 60
    assert world.webrtc.open_connections == 0


@pytest.mark.parametrize("fallback", [None, "relay"])
async def test_a_peer_is_destroyed_while_connections_are_made(autojump_clock: MockClock, fallback: str | None) -> None:
    async with open_world() as world:
        for delay in 0.0, 0.1, 0.25, 0.35, 0.45, 0.6, 3.0:
            slow = WebRTCConfig(factory=world.webrtc.behaving(Behaviour(delay=0.1)))
            async with (
                world.peer("alice", config=slow, fallback=fallback) as alice,
                world.peer("bob", config=slow, fallback=fallback) as bob,
                trio.open_nursery() as nursery,
            ):
                failures: list[PeerError] = []
                nursery.start_soon(_try, alice, failures)
                await trio.sleep(delay)
                for peer in bob, alice:
                    began = trio.current_time()
                    await peer.destroy()
                    assert trio.current_time() - began < 6.5
            assert len(failures) <= 1
            assert world.webrtc.open_connections == 0


async def _try(peer: Peer, failures: list[PeerError]) -> None:
    try:
        await peer.connect("bob")
    except PeerError as error:
        failures.append(error)


def test_options_are_checked() -> None:
    for options in (
        {"port": 0},
        {"host": ""},
        {"debug": 4},
        {"ping_interval": 0.0},
        {"fallback": "carrier pigeon"},
    ):
        with pytest.raises(ValueError, match="expected"):
            PeerOptions(**options)
    with pytest.raises(ValueError, match="expected a positive backlog"):
        PeerLimits(backlog=0)


def test_the_default_broker_is_the_originals() -> None:
    options = PeerOptions()
    assert (options.host, options.port, options.path, options.key) == ("0.peerjs.com", 443, "/", "peerjs")
    assert options.is_secure
    assert not PeerOptions(host="127.0.0.1").is_secure
    assert [server.urls for server in options.config.ice_servers] == [
        "stun:stun.l.google.com:19302",
        "turn:eu-0.turn.peerjs.com:3478",
        "turn:us-0.turn.peerjs.com:3478",
    ]
    assert replace(options, config=WebRTCConfig()).config.ice_servers == ()
