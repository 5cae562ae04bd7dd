"""Ten megabytes to five members, of which one never reads."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock

from tests.peerix.transfers.support import Room, open_room
from trio_relay.exceptions import TransferFailed
from trio_relay.peerix.transfers.inbox import Inbox
from trio_relay.peerix.transfers.limits import TransferLimits

NAMES = ("a", "b", "c", "d", "e")
SIZE, LESS = 10_000_000, 4_000_000
KIB, MIB = 1024, 1024 * 1024


async def drink(inbox: Inbox, sizes: list[int]) -> None:
    """Reads one message and keeps nothing."""
    size = 0
    async for chunk in await inbox.receive():
        size += len(chunk)
    sizes.append(size)


async def broadcast(room: Room, message: bytes) -> int:
    """Returns the most that was held on the way, by both sides."""
    sizes: list[int] = []
    for name in NAMES[:-1]:
        room.nursery.start_soon(drink, room.members[name].inbox, sizes)
    transfer = room.send(message)
    most = 0
    done: list[str] = []
    async for progress in transfer:
        sent = sum(sum(map(len, (m for _, m in b.wire._items if m))) for b in room.me.bundles.values())
        most = max(most, sent + sum(member.held for member in room.members.values()))
        if progress.done:
            done.append(progress.member)
            assert trio.current_time() < 1  # nobody waits for the one that does not read
    assert sorted(done) == ["a", "b", "c", "d"]
    assert sizes == [len(message)] * 4
    with pytest.raises(TransferFailed) as raised:
        await transfer
    assert raised.value.member == "e"
    assert list(transfer.failures) == ["e"]
    return most


async def test_bytes(autojump_clock: MockClock) -> None:
    async with open_room(*NAMES, mute=("e",)) as room:
        most = await broadcast(room, bytes(SIZE))
    assert most < 5 * (256 * KIB + 1 * MIB + 1 * MIB) + 1 * MIB


async def test_a_member_whose_application_does_not_read(autojump_clock: MockClock) -> None:
    async with open_room(*NAMES) as room:
        await broadcast(room, bytes(LESS))
        assert room.members["e"].held < TransferLimits().message_bytes + 2 * MIB


async def test_a_stream(autojump_clock: MockClock) -> None:
    async def blocks() -> AsyncIterator[bytes]:
        for _ in range(LESS // 100_000):
            yield bytes(100_000)

    limits = TransferLimits(window=1 * MIB)
    async with open_room(*NAMES, mute=("e",), limits=limits) as room:
        sizes: list[int] = []
        for name in NAMES[:-1]:
            room.nursery.start_soon(drink, room.members[name].inbox, sizes)
        transfer = room.send(blocks())
        async for _ in transfer:
            assert transfer.source.held <= limits.window  # type: ignore[attr-defined]
        assert sizes == [LESS] * 4
        assert list(transfer.failures) == ["e"]
        assert trio.current_time() <= limits.ack_timeout + 1


async def test_a_file_is_read_by_each_member_at_its_own_pace() -> None:
    sizes: list[int] = []
    reads: list[int] = []

    class Watched(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            assert size is not None
            reads.append(size)
            return super().read(size)

    async with open_room("a", "b", mute=("b",)) as room:
        room.nursery.start_soon(drink, room.members["a"].inbox, sizes)
        transfer = room.send(Watched(bytes(LESS)))
        async for progress in transfer:
            if progress.done:
                break
        assert (progress.member, sizes) == ("a", [LESS])
        assert max(reads) <= 256 * KIB
        assert LESS < sum(reads) < LESS + 2 * MIB
        transfer.cancel()
