"""Peers over real sockets: our broker, and WebRTC by aiortc, all in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final

import aioice.ice
import pytest
import trio

from tests.transports.aio.media import Tone
from trio_relay import Limits, PeerError, WebRTCConfig
from trio_relay.peerjs import (
    BrokerConfig,
    DataConnection,
    MediaConnection,
    Peer,
    PeerLost,
    PeerOpened,
    open_peer,
    serve_broker,
)
from trio_relay.peerjs.connections.channel_pipe import ChannelPipe
from trio_relay.transports.webrtc import DataChannel

SOON: Final = 5.0
LIMITS: Final = Limits(close_timeout=0.2)
NOON: Final = datetime(2026, 1, 1, 12, tzinfo=UTC)
NESTED: Final = {"text": "ä", "list": [1, -2.5, None, True], "dict": {"deep": []}}
VALUES: Final[dict[str, list[tuple[Any, Any]]]] = {
    "binary": [
        (NESTED, NESTED),
        (b"\0" * 100_000, b"\0" * 100_000),
        (NOON, NOON.strftime("%a %b %d %Y %H:%M:%S GMT+0000")),
    ],
    "json": [(NESTED, NESTED), ("x" * 16_000, "x" * 16_000)],
    "raw": [("text", "text"), (b"\0bytes", b"\0bytes")],
    "MsgPack": [(NESTED, NESTED), (b"\0" * 100_000, b"\0" * 100_000), (NOON, NOON)],
}
"""What is sent, and what arrives."""


@pytest.fixture(autouse=True)
def loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """aioice leaves 127.0.0.1 out; here it is the only one, and the tests need no network."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])


@asynccontextmanager
async def brokering(port: int = 0, **options: Any) -> AsyncIterator[int]:
    """A broker on 127.0.0.1, for the block; its port."""
    async with trio.open_nursery() as nursery:
        config = BrokerConfig(listen=f"127.0.0.1:{port}", limits=LIMITS, **options)
        broker = await nursery.start(serve_broker, config)
        yield int(broker.addresses[0].rpartition(":")[2])
        nursery.cancel_scope.cancel()


async def broker_task(
    port: int = 0, *, task_status: trio.TaskStatus[tuple[int, Callable[[], None]]] = trio.TASK_STATUS_IGNORED
) -> None:
    """Starts with its port, and what ends it."""
    with trio.CancelScope() as scope:
        async with brokering(port) as port:
            task_status.started((port, scope.cancel))
            await trio.sleep_forever()


def peer_at(port: int, id: str | None, **options: Any) -> Any:
    """`open_peer`, there."""
    return open_peer(
        id, host="127.0.0.1", port=port, config=WebRTCConfig(), network=LIMITS, max_reconnect_delay=0.1, **options
    )


@asynccontextmanager
async def two_peers(port: int, **options: Any) -> AsyncIterator[tuple[Peer, Peer]]:
    async with peer_at(port, "alice", **options) as alice, peer_at(port, "bob", **options) as bob:
        yield alice, bob


async def connect(one: Peer, other: Peer, **options: Any) -> tuple[DataConnection, DataConnection]:
    """Both ends."""
    assert other.id is not None
    with trio.fail_after(SOON):
        ours = await one.connect(other.id, **options)
        theirs = await other.accept()
    assert isinstance(theirs, DataConnection)
    return ours, theirs


async def receive(connection: DataConnection) -> Any:
    with trio.fail_after(SOON):
        return await connection.receive()


def channel_of(connection: DataConnection) -> DataChannel:
    assert isinstance(connection._pipe, ChannelPipe)
    return connection._pipe._channel


async def test_every_serialization_both_ways_between_both() -> None:
    async with brokering() as port, two_peers(port) as (alice, bob):
        for number, (serialization, values) in enumerate(VALUES.items()):
            one, other = (alice, bob) if number % 2 else (bob, alice)
            ours, theirs = await connect(one, other, serialization=serialization, reliable=True, metadata=NESTED)
            assert (theirs.serialization, theirs.metadata, theirs.reliable) == (serialization, NESTED, True)
            for sender, receiver in (ours, theirs), (theirs, ours):
                for sent, expected in values:
                    await sender.send(sent)
                    assert await receive(receiver) == expected
            await ours.aclose(flush=bool(number % 2))
            with trio.fail_after(SOON), pytest.raises(trio.EndOfChannel):
                await theirs.receive()
        assert not set(alice.statistics().counts) - {"broker_opened", "signals_sent"}


@pytest.mark.parametrize("fallback", [None, "relay"])
async def test_channels_are_as_the_one_who_connects_wants_them(fallback: str | None) -> None:
    wanted = [("binary", False), ("binary", True), ("MsgPack", False)]
    async with brokering() as port, two_peers(port, fallback=fallback) as (alice, bob):
        for number, (serialization, reliable) in enumerate(wanted):
            ours, theirs = await connect(
                alice, bob, serialization=serialization, reliable=reliable, label=f"label {number}"
            )
            ordered = reliable or serialization == "MsgPack"
            assert (theirs.label, theirs.reliable) == (f"label {number}", ordered)
            if fallback is None:
                for channel in channel_of(ours), channel_of(theirs):
                    assert (channel.label, channel.ordered, channel.reliable) == (f"label {number}", ordered, True)
            await theirs.send("x")
            assert await receive(ours) == "x"
            assert (ours.transport, theirs.transport) == ("webrtc", "webrtc")


async def test_a_broker_that_comes_back_on_its_port_finds_its_peers_again() -> None:
    async with trio.open_nursery() as nursery:
        port, stop = await nursery.start(broker_task)
        async with two_peers(port) as (alice, bob), alice.events() as events:
            ours, theirs = await connect(alice, bob)
            stop()
            with trio.fail_after(SOON):
                assert isinstance(await anext(events), PeerLost)
                await ours.send("without a broker")
                assert await theirs.receive() == "without a broker"
                assert (alice.open, alice.disconnected) == (False, False)
                _, stop = await nursery.start(broker_task, port)
                assert await anext(events) == PeerOpened("alice")
                while not bob.open:
                    await trio.sleep(0.01)
            again, _ = await connect(bob, alice)
            assert (again.open, ours.open) == (True, True)
        stop()


async def test_ids_are_unique_and_listed() -> None:
    async with brokering(allow_discovery=True) as port, two_peers(port) as (alice, _):
        with pytest.raises(PeerError) as caught:
            async with peer_at(port, "alice"):
                pass
        assert caught.value.type == "unavailable-id"
        assert alice.open
        async with peer_at(port, None) as other:
            assert sorted(await alice.list_all_peers()) == sorted(["alice", "bob", other.id])


async def test_brokers_that_refuse_and_that_are_not_there() -> None:
    async with brokering(key="secret") as port:
        with pytest.raises(PeerError) as wrong_key:
            async with peer_at(port, "alice"):
                pass
        with pytest.raises(PeerError) as wrong_key_without_id:
            async with peer_at(port, None):
                pass
        async with peer_at(port, "alice", key="secret") as alice:
            with pytest.raises(PeerError) as not_allowed:
                await alice.list_all_peers()
    with pytest.raises(PeerError) as nobody:
        async with peer_at(port, "alice"):
            pass
    with pytest.raises(PeerError) as nobody_without_id:
        async with peer_at(port, None):
            pass
    assert (wrong_key.value.type, wrong_key_without_id.value.type) == ("server-error", "server-error")
    assert not_allowed.value.type == "server-error"
    assert (nobody.value.type, nobody_without_id.value.type) == ("socket-error", "server-error")


async def test_a_missing_peer_is_an_error_when_its_messages_expire() -> None:
    async with brokering(expire_timeout=0.1, cleanup_interval=0.1) as port, peer_at(port, "alice") as alice:
        with trio.fail_after(SOON), pytest.raises(PeerError) as caught:
            await alice.connect("nobody")
        assert caught.value.type == "peer-unavailable"
        assert alice.statistics().connecting == 0


async def test_a_call_is_heard_on_both_sides() -> None:
    async with brokering() as port, two_peers(port) as (alice, bob):
        heard = trio.Event()

        async def answer() -> None:
            called = await bob.accept()
            assert isinstance(called, MediaConnection)
            assert called.metadata == "ring"
            await called.answer([Tone()])
            track = await called.receive_track()
            assert (await track.receive()).sample_rate == 48000
            heard.set()
            await called.wait_closed()

        with trio.fail_after(SOON):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(answer)
                call = await alice.call("bob", [Tone()], metadata="ring")
                track = await call.receive_track()
                assert (await track.receive()).sample_rate == 48000
                await heard.wait()
                await call.aclose()
