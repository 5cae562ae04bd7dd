"""Sources that can be read once, and several members that are not equally fast."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.peerix.transfers.support import open_room, read_all
from trio_relay.exceptions import TransferFailed
from trio_relay.peerix.packets.transfer import PayloadType
from trio_relay.peerix.transfers.limits import TransferLimits
from trio_relay.peerix.transfers.sources import SourceFailed
from trio_relay.peerix.transfers.window import WindowReader, WindowSource

LIMITS = TransferLimits(window=64_000)


class Counted:
    """A source of so many blocks that says how much of it was read."""

    def __init__(self, blocks: int, size: int = 1000) -> None:
        self.blocks, self.size, self.read, self.closed = blocks, size, 0, False

    async def __call__(self) -> AsyncIterator[bytes]:
        try:
            for number in range(self.blocks):
                self.read += self.size
                yield number.to_bytes(4, "big") * (self.size // 4)
        finally:
            self.closed = True


async def read(reader: WindowReader, pause: float = 0) -> bytes:
    found, last = b"", False
    while not last:
        chunk, last = await reader.read(4000)
        found += chunk
        await trio.sleep(pause)
    return found


def window(blocks: Counted, readers: int) -> tuple[WindowSource, list[WindowReader], list[int]]:
    source = WindowSource(PayloadType.BYTES, blocks(), LIMITS)
    excluded: list[int] = []
    made = [source.reader(lambda n=number: excluded.append(n)) for number in range(readers)]  # type: ignore[misc]
    return source, made, excluded


async def test_all_get_all_of_it(autojump_clock: MockClock) -> None:
    blocks = Counted(300)
    source, readers, excluded = window(blocks, 3)
    found: dict[int, bytes] = {}

    async def collect(number: int, pause: float) -> None:
        found[number] = await read(readers[number], pause)

    async with trio.open_nursery() as nursery:
        for number, pause in enumerate((0, 0.01, 0.05)):
            nursery.start_soon(collect, number, pause)
        nursery.start_soon(source.run)
    expected = b"".join(number.to_bytes(4, "big") * 250 for number in range(300))
    assert found == dict.fromkeys(range(3), expected)
    assert excluded == []
    assert blocks.closed


async def test_the_window_is_bounded_by_the_slowest(autojump_clock: MockClock) -> None:
    blocks = Counted(1000)
    source, readers, excluded = window(blocks, 2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.run)
        nursery.start_soon(read, readers[0])
        await trio.sleep(LIMITS.ack_timeout - 1)
        assert source.held == LIMITS.window
        assert blocks.read == LIMITS.window + 1000
        assert excluded == []
        began = trio.current_time()
        await trio.sleep(2)
        assert excluded == [1]
        assert blocks.read == 1_000_000  # the other one has got the rest
        assert trio.current_time() == began + 2


async def test_the_time_that_one_costs_others_adds_up(autojump_clock: MockClock) -> None:
    """Who is always a little faster than nothing is excluded, too."""
    blocks = Counted(400)
    source, readers, excluded = window(blocks, 2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.run)
        nursery.start_soon(read, readers[0])
        for _ in range(13):
            await readers[1].read(4000)
            await trio.sleep(1)
        assert excluded == [1]
        nursery.cancel_scope.cancel()


async def test_equally_slow_readers_keep_nobody_waiting(autojump_clock: MockClock) -> None:
    source, readers, excluded = window(Counted(300), 2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.run)
        for reader in readers:
            nursery.start_soon(read, reader, 20)
    assert excluded == []
    assert trio.current_time() >= 75 * 20


async def test_a_block_that_is_larger_than_the_window() -> None:
    source, readers, _ = window(Counted(2, 200_000), 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.run)
        assert len(await read(readers[0])) == 400_000


async def test_nobody_reads_any_more() -> None:
    blocks = Counted(200)
    source, readers, _ = window(blocks, 2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.run)
        await trio.testing.wait_all_tasks_blocked()
        for reader in readers:
            reader.close()
            reader.close()
    assert blocks.closed


async def test_what_is_wrong_with_the_source() -> None:
    async def blocks() -> AsyncIterator[bytes]:
        yield "text"  # type: ignore[misc]

    with pytest.raises(SourceFailed, match="TypeError"):
        await WindowSource(PayloadType.BYTES, blocks(), LIMITS).run()


async def test_memory_that_its_owner_uses_again() -> None:
    async def blocks() -> AsyncIterator[bytearray]:
        buffer = bytearray()
        for number in range(3):
            buffer += bytes([number]) * 50_000
            yield buffer
            buffer.clear()  # fails while somebody looks at it

    source = WindowSource(PayloadType.BYTES, blocks(), LIMITS)
    reader = source.reader(lambda: None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.run)
        assert await read(reader) == b"".join(bytes([number]) * 50_000 for number in range(3))


async def test_a_source_that_never_waits_and_never_ends() -> None:
    """It can be cancelled, and others have their turn."""
    taken = 0

    async def blocks() -> AsyncIterator[bytes]:
        nonlocal taken
        while taken < 10_000_000:
            taken += 1
            yield b"x"

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(WindowSource(PayloadType.BYTES, blocks(), LIMITS).run)
            for _ in range(10):
                await trio.lowlevel.checkpoint()
            scope.cancel()
    assert 0 < taken < 100_000


async def test_a_source_whose_cleaning_up_fails(autojump_clock: MockClock) -> None:
    """Who sends it has no use for that any more, and nothing else ends by it."""
    cleaned = []

    async def blocks() -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(50_000)
        finally:
            cleaned.append(True)
            raise ValueError("cleaning up failed")

    async with open_room("a", "b", mute=("b",), limits=LIMITS) as room:
        transfer = room.send(blocks(), "b")
        await trio.sleep(1)
        transfer.cancel()
        await trio.sleep(1)
        assert cleaned
        room.nursery.start_soon(read_all, room.members["a"])
        await room.send("next", "a")


async def test_one_member_that_does_not_read_a_stream(autojump_clock: MockClock) -> None:
    async def blocks() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield bytes(50_000)

    async with open_room("a", "b", mute=("b",), limits=LIMITS) as room:
        room.nursery.start_soon(read_all, room.members["a"])
        transfer = room.send(blocks())
        with pytest.raises(TransferFailed) as raised:
            await transfer
        assert (raised.value.member, raised.value.reason) == ("b", "timeout")
        assert transfer.progress["a"].done
        assert room.members["a"].messages[0].received == 5_000_000
        assert trio.current_time() <= LIMITS.ack_timeout + 1
