"""Rooms over real WebRTC in one process: many members that come and go, and a message to all of them."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import aioice.ice
import pytest
import trio

from trio_relay.exceptions import TransferFailed
from trio_relay.peerix import open_room
from trio_relay.peerix.drivers.memory import MemoryDriver
from trio_relay.peerix.options import RoomLimits
from trio_relay.peerix.room import Room
from trio_relay.peerix.transfers.limits import TransferLimits
from trio_relay.transports.aio import open_bundle_factory
from trio_relay.transports.bundle import BundleFactory

PATIENCE: Final = 30.0
SIZE: Final = 10 * 1024 * 1024


@pytest.fixture(autouse=True)
def loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """aioice leaves 127.0.0.1 out; here it is the only address."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])


class World:
    """What the rooms of a test share."""

    def __init__(self, factory: BundleFactory, stack: AsyncExitStack) -> None:
        self._factory: Final = factory
        self._stack: Final = stack
        self._driver: Final = MemoryDriver(delay=0.005)

    async def enter(self, **options: Any) -> Room:
        """A room until the end of the test."""
        return await self._stack.enter_async_context(
            open_room("room", driver=self._driver, factory=self._factory, **options)
        )


@asynccontextmanager
async def open_world() -> AsyncIterator[World]:
    async with open_bundle_factory(close_timeout=2) as factory, AsyncExitStack() as stack:
        yield World(factory, stack)


async def converge(rooms: list[Room]) -> None:
    """Returns when each is connected with all others, and with nobody else.

    Beside them there may be some for a while that have left before anybody was connected with them.
    """
    with trio.fail_after(PATIENCE):
        while True:
            present = {room.me.id for room in rooms if room.me is not None}
            seen = [connected(room) for room in rooms if room.me is not None]
            if len(present) == len(rooms) and all(len(each) == len(rooms) - 1 and each < present for each in seen):
                return
            await trio.sleep(0.01)


def connected(room: Room) -> set[str]:
    return {member.id for member in room.members.values() if member.link.is_up}


async def come_back(room: Room, after: float) -> None:
    await trio.sleep(after)
    await room.leave()
    await trio.sleep(after)
    await room.join()


@pytest.mark.parametrize("size", [3, pytest.param(10, marks=pytest.mark.interop)])
async def test_storms_of_joins_and_leaves_converge(size: int) -> None:
    chance = random.Random(size)
    async with open_world() as world:
        rooms = [await world.enter() for _ in range(size)]
        await converge(rooms)
        for _ in range(2):
            async with trio.open_nursery() as nursery:
                for room in chance.sample(rooms, size // 2):
                    nursery.start_soon(come_back, room, chance.random() / 10)
            await converge(rooms)
        for room in rooms:
            assert room.statistics().members == size - 1
            assert room.statistics().counts.get("offers_unanswered", 0) == 0


class Listener:
    """Who reads all that comes; `done` when it was all of it."""

    def __init__(self, room: Room, expected: bytes) -> None:
        self._room: Final = room
        self._expected: Final = hashlib.sha256(expected).digest()
        self.most_held = 0
        self.done = trio.Event()

    async def run(self) -> None:
        digest = hashlib.sha256()
        async for chunk in await self._room.receive():
            digest.update(chunk)
            self.most_held = max(self.most_held, self._room._shared.inbox.bytes)
        assert digest.digest() == self._expected
        self.done.set()


@pytest.mark.interop
async def test_one_who_does_not_read_holds_up_nobody_else() -> None:
    data = random.Random(8).randbytes(SIZE)
    patient = RoomLimits(transfers=TransferLimits(stall_timeout=100.0, ack_timeout=100.0))
    async with trio.open_nursery() as nursery, open_world() as world:
        sender = await world.enter(limits=patient)
        readers = [Listener(await world.enter(), data) for _ in range(5)]
        idle = await world.enter(limits=patient)
        assert idle.me is not None
        sender.open_channel()
        with trio.fail_after(2 * PATIENCE):
            await sender.wait_members(6)
            for reader in readers:
                nursery.start_soon(reader.run)
            transfer = sender.send(data)
            steps: Counter[str] = Counter()
            most_buffered = 0
            async for progress in transfer:
                steps[progress.member] += 1
                channels = [channel for member in sender.members.values() for channel in member.channels.values()]
                most_buffered = max(most_buffered, *(channel.link.channel.buffered_amount for channel in channels))
                if sum(each.done for each in transfer.progress.values()) == 5:
                    break
            for reader in readers:
                await reader.done.wait()
            assert not transfer.done
            assert not transfer.failures
            assert transfer.progress[idle.me.id].current < SIZE / 2
            held = idle._shared.inbox.bytes
            transfer.cancel()
            with pytest.raises(TransferFailed) as failed:
                await transfer
            with pytest.raises(TransferFailed) as cut:
                await (await idle.receive()).read()
        assert (failed.value.member, failed.value.reason) == (idle.me.id, "cancelled")
        assert cut.value.reason == "aborted-by-sender"
        assert list(transfer.failures) == [idle.me.id]
        assert all(count > 10 for member, count in steps.items() if member != idle.me.id)
        # A chunk, and what the message itself costs, may come on top.
        allowed = patient.transfers.message_bytes + 64 * 1024
        assert all(reader.most_held <= allowed for reader in readers)
        assert 0 < held <= allowed
        assert most_buffered <= 1024 * 1024
