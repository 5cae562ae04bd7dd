"""Relays that carry: meetings at a real broker, and the overlay between two nodes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, cast

import pytest
import trio
from trio.testing import MockClock

from tests.node.support import identity, open_town, until
from tests.transports.support import serving
from trio_relay import Node
from trio_relay.exceptions import HandshakeError, NegotiationFailed, RemoteProtocolError
from trio_relay.limits import Limits
from trio_relay.node.values import Message
from trio_relay.peerjs.broker.config import BrokerConfig, RelayedConfig
from trio_relay.peerjs.broker.relayed import MAX_RELAYED, Meetings
from trio_relay.peerjs.fallback.broker_pipe import open_broker_pipe
from trio_relay.peerjs.fallback.carrier import Carrier, SealedCarrier
from trio_relay.peerjs.fallback.lasting import LastingPipe
from trio_relay.peerjs.fallback.overlay_pipe import REORDER, OverlayHub
from trio_relay.peerjs.fallback.relays import Relays
from trio_relay.peerjs.fallback.sealing import Role
from trio_relay.testing import MemoryNetwork
from trio_relay.transports.routes import Route
from trio_relay.transports.webrtc import DataChannel
from trio_relay.wire.content import Data

from .fake_carriers import take
from .support import MEETING, secret_of, terms_of

LIMITS: Final = Limits(close_timeout=0.5)
TOKENS: Final = {"alice": "a", "bob": "b"}
IDS: Final[dict[Role, str]] = {"originator": "alice", "answerer": "bob"}
ROLES: Final[tuple[Role, Role]] = ("originator", "answerer")


def no_channel(_round: int) -> AbstractAsyncContextManager[DataChannel]:
    raise NegotiationFailed("no UDP here")


@asynccontextmanager
async def broker(counts: Counter[str], **relayed: float) -> AsyncIterator[str]:
    """A broker that has meetings only; its URL."""
    config = BrokerConfig(relayed=RelayedConfig(**relayed), limits=LIMITS)  # type: ignore[arg-type]
    meetings = Meetings(config, lambda id_, token: TOKENS.get(id_) == token, counts)
    async with serving([Route("/peerjs/relay", upgrade=meetings.accept, max_message=MAX_RELAYED)]) as served:
        yield served.url
        meetings.abort()


def over_broker(url: str, role: Role, *, key: str = "peerjs") -> Relays:
    me = IDS[role]

    def meeting_url(peer: str, meeting: str) -> str:
        return f"{url}/peerjs/relay?key={key}&id={me}&token={TOKENS[me]}&peer={peer}&meeting={meeting}"

    return Relays(meeting_url=meeting_url, limits=LIMITS)


def open_relay(
    relays: Relays, role: Role, round_: int = 0, nodes: dict[Role, Node] | None = None
) -> AbstractAsyncContextManager[SealedCarrier] | None:
    other: Role = "answerer" if role == "originator" else "originator"
    ours, theirs = (
        terms_of(side, broker=MEETING, node=None if nodes is None else nodes[side].id, round_=round_)
        for side in (role, other)
    )
    return relays.open(IDS[other], ours, theirs, secret_of(role, round_))


@asynccontextmanager
async def lasting(
    relays: dict[Role, Relays], nodes: dict[Role, Node] | None = None
) -> AsyncIterator[list[LastingPipe]]:
    """Both ends of a connection that has nothing but a relay."""

    def opener(role: Role):  # type: ignore[no-untyped-def]
        def open_round(round_: int) -> AbstractAsyncContextManager[Carrier] | None:
            return open_relay(relays[role], role, round_, nodes)

        return open_round

    async with trio.open_nursery() as nursery:
        pipes = [LastingPipe(role, no_channel, opener(role), counts=Counter()) for role in ROLES]
        for pipe in pipes:
            nursery.start_soon(pipe.run)
        with trio.fail_after(30):
            for pipe in pipes:
                await pipe.wait_open()
        yield pipes
        nursery.cancel_scope.cancel()


async def transfer(pipes: list[LastingPipe], size: int) -> None:
    """So many bytes in each direction at once, then both sides close."""
    messages = [os.urandom(16_355) for _ in range(size // 16_355)]

    async def send(pipe: LastingPipe) -> None:
        for message in messages:
            await pipe.send(message)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for pipe in pipes:
                nursery.start_soon(send, pipe)
            for pipe in pipes:
                assert await take(pipe, len(messages)) == messages
        await pipes[0].aclose()
        assert await pipes[1].receive() == []
        await pipes[1].aclose()


# The broker


async def test_a_meeting_carries_a_connection() -> None:
    counts = Counter[str]()
    async with broker(counts) as url:
        async with lasting({role: over_broker(url, role) for role in ROLES}) as pipes:
            assert [pipe.transport for pipe in pipes] == ["relay", "relay"]
            await transfer(pipes, 2_000_000)
        assert 3_980_000 < counts["meetings_bytes"] < 4_200_000
        assert counts["meetings_begun"] == 1


async def test_what_the_broker_says_is_in_the_error() -> None:
    async with broker(Counter(), wait=0.05) as url:
        opening = open_relay(over_broker(url, "originator"), "originator")
        assert opening is not None
        with pytest.raises(trio.BrokenResourceError, match="4408 the other peer did not come"):
            async with opening:
                raise AssertionError("nobody came")
        refused = open_relay(over_broker(url, "originator", key="other"), "originator")
        assert refused is not None
        with pytest.raises(trio.BrokenResourceError, match="4400 expected key"):
            async with refused:
                raise AssertionError("not with that key")
        with pytest.raises(HandshakeError):
            async with open_broker_pipe(f"{url}/nowhere", limits=LIMITS):
                raise AssertionError("there is no such path")


async def test_a_peer_with_other_keys_is_found_out() -> None:
    async with broker(Counter()) as url, trio.open_nursery() as nursery:
        failed = list[str]()

        async def meet(role: Role, round_: int) -> None:
            opening = open_relay(over_broker(url, role), role, round_)
            assert opening is not None
            async with opening as carrier:
                await carrier.send(b"hello")
                try:
                    await carrier.receive()
                except RemoteProtocolError as error:
                    failed.append(str(error))

        with trio.fail_after(5):
            async with trio.open_nursery() as both:
                both.start_soon(meet, "originator", 0)
                both.start_soon(meet, "answerer", 1)
        assert failed
        assert all("does not open" in error for error in failed)
        nursery.cancel_scope.cancel()


async def test_text_in_a_meeting_is_refused() -> None:
    async def say_text(connection, _request) -> None:  # type: ignore[no-untyped-def]
        await connection.send([b"text"], text=True)

    async with (
        serving([Route("/text", upgrade=say_text)]) as served,
        open_broker_pipe(f"{served.url}/text", limits=LIMITS) as pipe,
    ):
        with pytest.raises(RemoteProtocolError, match="binary messages"):
            await pipe.receive()


# The overlay


@asynccontextmanager
async def nodes_and_hubs(
    network: MemoryNetwork | None = None,
) -> AsyncIterator[tuple[dict[Role, Node], dict[Role, OverlayHub], Counter[str]]]:
    """Two leaves behind relays, whose hubs run."""
    counts = Counter[str]()
    async with open_town(3, 2, network=network) as net, trio.open_nursery() as nursery:
        nodes: dict[Role, Node] = dict(zip(ROLES, net.leaves, strict=True))
        hubs: dict[Role, OverlayHub] = {role: OverlayHub(node, counts) for role, node in nodes.items()}
        for hub in hubs.values():
            nursery.start_soon(hub.run)
        yield nodes, hubs, counts
        nursery.cancel_scope.cancel()


async def test_the_overlay_carries_a_connection(autojump_clock: MockClock) -> None:
    async with nodes_and_hubs() as (nodes, hubs, counts):
        relays = {role: Relays(hub=hub, counts=counts) for role, hub in hubs.items()}
        async with lasting(relays, nodes) as pipes:
            await transfer(pipes, 500_000)
        assert not any(map(len, hubs.values()))
        assert not counts["relay_overlay_foreign"] + counts["relay_overlay_full"]


async def test_the_overlay_carries_although_it_loses_and_reorders(autojump_clock: MockClock) -> None:
    network = MemoryNetwork(seed=4, latency=0.02, jitter=0.1, loss=0.02, duplication=0.02, reordering=0.1)
    async with network, nodes_and_hubs(network) as (nodes, hubs, counts):
        relays = {role: Relays(hub=hub, counts=counts) for role, hub in hubs.items()}
        async with lasting(relays, nodes) as pipes:
            await transfer(pipes, 300_000)


async def test_who_comes_later_finds_the_other_one(autojump_clock: MockClock) -> None:
    async with nodes_and_hubs() as (nodes, hubs, counts), trio.open_nursery() as nursery:
        heard = list[bytes]()

        async def come(role: Role, delay: float) -> None:
            await trio.sleep(delay)
            opening = open_relay(Relays(hub=hubs[role], counts=counts), role, 0, nodes)
            assert opening is not None
            async with opening as carrier:
                await carrier.send(role.encode())
                heard.extend(await carrier.receive())
                if role == "originator":  # the other one leaves
                    assert await carrier.receive() == []

        nursery.start_soon(come, "originator", 0)
        nursery.start_soon(come, "answerer", 8)
        with trio.fail_after(30):
            await until(lambda: len(heard) == 2, seconds=30)
        assert sorted(heard) == [b"answerer", b"originator"]
        assert counts["relay_overlay_unknown"] >= 1  # the first greeting of who came first


async def test_messages_of_others_are_counted_and_change_nothing(autojump_clock: MockClock) -> None:
    async with nodes_and_hubs() as (nodes, hubs, counts):
        originator, answerer = (nodes[role] for role in ROLES)
        secret = secret_of("originator")
        tags = {"outgoing": secret.outgoing_tag, "incoming": secret.incoming_tag}
        async with hubs["originator"].open(answerer.id, **tags) as pipe:
            strange: list[Data] = [b"short", {"json": 1}, bytes(17), secret.outgoing_tag + b"\0wrong direction"]
            for data in strange:
                await answerer.deliver(originator.id, data)
            await answerer.deliver(originator.id, secret.incoming_tag + b"\0right")
            assert await pipe.receive() == [b"right"]
            assert (counts["relay_overlay_foreign"], counts["relay_overlay_unknown"]) == (2, 2)
            with pytest.raises(RuntimeError, match="one pipe to"):
                async with hubs["originator"].open(answerer.id, **tags):
                    pass
            await answerer.deliver(originator.id, secret.incoming_tag + b"\1")
            assert await pipe.receive() == []


async def test_only_so_much_is_on_the_way(autojump_clock: MockClock) -> None:
    async with nodes_and_hubs() as (nodes, hubs, _):
        secret = secret_of("originator")
        async with hubs["originator"].open(
            nodes["answerer"].id, outgoing=secret.outgoing_tag, incoming=secret.incoming_tag
        ) as pipe:
            assert pipe.max_message == 60 * 1024 - 17
            most = 0
            for _ in range(3 * REORDER):
                await pipe.send(bytes(1000))
                most = max(most, pipe.buffered_amount)
            assert most == 8000
            await pipe.drain()
            assert pipe.buffered_amount == 0


class StubbornNode:
    """Confirms every message but the first."""

    def __init__(self) -> None:
        self.delivered: Final = list[object]()

    async def deliver(self, _to: object, data: object, *_timeout: object, **_options: object) -> None:
        self.delivered.append(data)
        if len(self.delivered) == 1:
            await trio.sleep_forever()


async def test_nothing_is_sent_that_would_be_too_far_ahead(autojump_clock: MockClock) -> None:
    node = StubbornNode()
    hub = OverlayHub(cast("Node", node), Counter())
    async with hub.open(identity("bob").id, outgoing=b"o" * 16, incoming=b"i" * 16) as pipe:
        with trio.move_on_after(10):
            while True:
                await pipe.send(b"x")
        assert len(node.delivered) == REORDER


async def test_what_is_not_proven_or_too_much_is_counted(autojump_clock: MockClock) -> None:
    counts = Counter[str]()
    hub, bob = OverlayHub(cast("Node", StubbornNode()), counts), identity("bob").id
    async with hub.open(bob, outgoing=b"o" * 16, incoming=b"i" * 16) as pipe:
        message = Message(b"i" * 16 + b"\0" + bytes(50_000), bob, False)
        hub._sort(message)
        assert counts == {"relay_overlay_foreign": 1}
        for _ in range(85):
            hub._sort(Message(message.data, bob, True))
        assert counts["relay_overlay_full"] == 2
        assert len(await pipe.receive()) == 83
        with pytest.raises(trio.BrokenResourceError, match="too much came"):
            await pipe.receive()


async def test_a_node_that_is_gone_breaks_the_pipe(autojump_clock: MockClock) -> None:
    async with nodes_and_hubs() as (_nodes, hubs, _):
        secret = secret_of("originator")
        nobody = identity("nobody has this identity").id
        tags = {"outgoing": secret.outgoing_tag, "incoming": secret.incoming_tag}
        async with hubs["originator"].open(nobody, **tags) as pipe:
            await pipe.send(b"hello?")
            for wait in (pipe.receive, pipe.drain):
                with pytest.raises(trio.BrokenResourceError, match="no way through the overlay"):
                    await wait()
            with pytest.raises(trio.BrokenResourceError, match="no way through the overlay"):
                await pipe.send(b"again")


# Which


def test_the_overlay_comes_first_then_the_broker_then_nothing() -> None:
    alice, bob = identity("alice").id, identity("bob").id
    url = Relays(meeting_url=lambda _peer, _meeting: "ws://x")
    ours, theirs = terms_of("originator", broker=MEETING, node=alice), terms_of("answerer", broker=MEETING, node=bob)
    secret = secret_of("originator")
    assert Relays().open("bob", ours, theirs, secret) is None
    assert url.open("bob", ours, terms_of("answerer", node=bob), secret) is None
    assert url.open("bob", ours, terms_of("answerer", broker=MEETING[::-1]), secret) is None
    assert url.open("bob", ours, theirs, secret) is not None
    assert "ws://" not in repr(url)
