"""Rooms over every driver, each with its real broker, and real WebRTC: two meet, talk, share a picture, and part."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aioice.ice
import pytest
import trio

from tests.interop import brokers
from tests.node.support import QUICK, relays_of, until
from tests.transports.aio.media import RED, Picture, colour_of
from trio_relay import Node, open_node
from trio_relay.peerix import open_room
from trio_relay.peerix.drivers.driver import Driver
from trio_relay.peerix.drivers.memory import MemoryDriver
from trio_relay.peerix.drivers.overlay import RelayDriver
from trio_relay.peerix.packets.namespaces import namespace
from trio_relay.peerix.room import Room
from trio_relay.wire.ids import distance
from trio_relay.wire.rendezvous import topic_key

from .serving import serving
from .test_client_drivers import EACH, running

pytestmark = pytest.mark.interop

ROOM: Final = "here"
SIZE: Final = 2 * 1024 * 1024
PATIENCE: Final = brokers.PATIENCE

MakeDriver = Callable[[], Driver]


@pytest.fixture(autouse=True)
def loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """aioice leaves 127.0.0.1 out; here it is the only address."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])


class Overlay:
    """Relays of the overlay on sockets of this machine, and leaves of it."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery: Final = nursery
        self._relays: Final[dict[Node, trio.CancelScope]] = {}
        self._urls: Final[list[str]] = []

    async def add_relay(self) -> None:
        node, scope = await self._nursery.start(self._run, "127.0.0.1:0")
        self._relays[node] = scope
        self._urls.append(node.urls[0])

    async def add_leaf(self) -> Node:
        """One that is linked with relays."""
        node, _ = await self._nursery.start(self._run, None)
        assert isinstance(node, Node)
        await until(lambda: relays_of(node) >= 2, seconds=PATIENCE)
        return node

    async def wait_linked(self) -> None:
        await until(lambda: all(relays_of(node) == 3 for node in self._relays), seconds=PATIENCE)

    def kill_keepers(self, *which: int) -> None:
        """Some of the three relays that keep the room's topic, the closest being 0."""
        key = topic_key(f"peerix:{namespace(ROOM, hashing=True)}")
        closest = sorted(self._relays, key=lambda node: distance(node.id, key))
        for number in which:
            self._relays.pop(closest[number]).cancel()

    async def _run(self, listen: str | None, *, task_status: trio.TaskStatus[tuple[Node, trio.CancelScope]]) -> None:
        with trio.CancelScope() as scope:
            async with open_node(listen, self._urls, limits=QUICK) as node:
                task_status.started((node, scope))
                await trio.sleep_forever()


@asynccontextmanager
async def open_overlay() -> AsyncIterator[Overlay]:
    """Four relays."""
    async with trio.open_nursery() as nursery:
        overlay = Overlay(nursery)
        for _ in range(4):
            await overlay.add_relay()
        await overlay.wait_linked()
        yield overlay
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def drivers(kind: str, folder: Path) -> AsyncIterator[MakeDriver]:
    """What makes drivers that reach each other."""
    if kind == "memory":
        driver = MemoryDriver()
        yield lambda: driver
    elif kind == "overlay":
        async with open_overlay() as overlay:
            leaves = [await overlay.add_leaf() for _ in range(2)]
            yield lambda: RelayDriver(leaves.pop())
    elif " of " not in kind:
        async with serving(kind, folder) as (_, make):
            yield make
    else:
        door, server_kind = kind.split(" of ")
        async with running(server_kind) as server:
            yield lambda: server.driver(door)


async def see_each_other(*rooms: Room) -> None:
    """Returns when everybody is connected with everybody else, and with nobody beside them."""
    with trio.fail_after(PATIENCE):
        for room in rooms:
            await room.wait_members(len(rooms) - 1)
        while any(len(room.members) != len(rooms) - 1 for room in rooms):
            await trio.sleep(brokers.LOOK_AGAIN)


def names(room: Room) -> list[Any]:
    return sorted(member.metadata["name"] for member in room.members.values())


async def exchange(first: Room, second: Room) -> None:
    """What two do in a room."""
    first.open_channel("chat")
    for sender, receiver in ((first, second), (second, first)):
        if sender is second:
            second.open_channel("chat")
        await sender.send("hällo", label="chat", info={"n": 1})
        message = await receiver.receive()
        assert (await message.read(), message.info) == ("hällo", {"n": 1})
    data = random.Random(8).randbytes(SIZE)
    transfer = first.send(data, label="chat")
    assert await (await second.receive()).read() == data
    progress = [step async for step in transfer]
    await transfer
    assert (progress[-1].current, progress[-1].total, progress[-1].done) == (SIZE, SIZE, True)
    first.share(Picture(RED), label="camera")
    (member,) = second.members.values()
    while "camera" not in member.streams:
        await trio.sleep(brokers.LOOK_AGAIN)
    (track,) = member.streams["camera"].tracks
    assert all(abs(mean - value) < 40 for mean, value in zip(colour_of(await track.receive()), RED, strict=True))
    await second.leave()
    while first.members:
        await trio.sleep(brokers.LOOK_AGAIN)


def each_kind() -> list[Any]:
    doors = [f"{door} of {server}" for server, door in EACH]
    real = [pytest.param(kind, marks=pytest.mark.brokers) for kind in ("nats", "nats websocket", "mqtt")]
    return ["memory", "overlay", *doors, *real]


@pytest.mark.parametrize("kind", each_kind())
async def test_two_meet_talk_and_part(kind: str, tmp_path: Path, node_modules: Path) -> None:
    async with (
        drivers(kind, tmp_path) as make,
        open_room(ROOM, driver=make(), metadata={"name": "first"}) as first,
        open_room(ROOM, driver=make(), metadata={"name": "second"}) as second,
    ):
        await see_each_other(first, second)
        assert (names(first), names(second)) == (["second"], ["first"])
        with trio.fail_after(PATIENCE):
            await exchange(first, second)


@pytest.mark.parametrize(("server_kind", "door"), EACH)
async def test_who_comes_after_the_broker_was_started_again(server_kind: str, door: str, node_modules: Path) -> None:
    async with running(server_kind) as server, AsyncExitStack() as stack:

        async def enter(name: str) -> Room:
            room = open_room(ROOM, driver=server.driver(door), metadata={"name": name})
            return await stack.enter_async_context(room)

        first, second = await enter("first"), await enter("second")
        first.open_channel("chat")
        await see_each_other(first, second)
        await server.stop()
        await first.send("without a broker", label="chat")
        await server.start()
        third = await enter("third")
        await see_each_other(first, second, third)
        assert (names(first), names(second)) == (["second", "third"], ["first", "third"])


@pytest.mark.parametrize("lost", [(0, 1), (0, 2), (1, 2)])
async def test_two_of_three_relays_are_lost(lost: tuple[int, int]) -> None:
    async with open_overlay() as overlay, AsyncExitStack() as stack:

        async def enter(name: str) -> Room:
            room = open_room(ROOM, driver=RelayDriver(await overlay.add_leaf()), metadata={"name": name})
            return await stack.enter_async_context(room)

        first, second = await enter("first"), await enter("second")
        await see_each_other(first, second)
        overlay.kill_keepers(*lost)
        third = await enter("third")
        await see_each_other(first, second, third)
        assert names(third) == ["first", "second"]
        await second.leave()
        await second.join({"name": "again"})
        await see_each_other(first, second, third)
        assert names(third) == ["again", "first"]
