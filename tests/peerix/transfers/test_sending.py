"""Messages that arrive: what was sent, its progress, its end."""

from __future__ import annotations

import io
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tests.peerix.transfers.support import LABEL, open_room, packets, read_all
from trio_relay.exceptions import LocalProtocolError, PayloadTooLarge, TransferFailed
from trio_relay.peerix.packets.transfer import Piece, encode_ack
from trio_relay.peerix.transfers.files import FileSource
from trio_relay.peerix.transfers.limits import TransferLimits
from trio_relay.peerix.transfers.transfer import Progress

VECTORS = [
    ("hi", None, "08011800200130014202 6869"),
    ("hi", {"a": 1}, "08011800200130013a077b2261223a317d42026869"),
    ({"x": 1}, None, "080118002002300142077b2278223a317d"),
    (None, None, "080118002002300142046e756c6c"),
    (b"", None, "08011800200430014200"),
    ("", None, "08011800200130014200"),
]


@pytest.mark.parametrize(("message", "info", "packet"), VECTORS)
async def test_vectors(message: Any, info: Any, packet: str) -> None:
    async with open_room("a", "b", mute=("a", "b")) as room:
        transfer = room.send(message, "a", info=info)
        assert await room.channels["a"].receive() == [bytes.fromhex(packet)]
        assert not transfer.done
        await room.channels["a"].send(bytes.fromhex("080110013001"))
        await transfer
    async with open_room("a", mute=("a",)) as room:
        await room.channels["a"].send(bytes.fromhex(packet))
        received = await room.me.inbox.receive()
        assert (await received.read(), received.info, received.label) == (message, info, LABEL)
        assert await room.channels["a"].receive() == [bytes.fromhex("080110013001")]


async def test_a_long_text_goes_in_two_pieces_as_originals_send_it() -> None:
    async with open_room("a", mute=("a",)) as room:
        room.send("x" * 16321)
        await trio.testing.wait_all_tasks_blocked()
        one, other = await room.channels["a"].receive()
        assert isinstance(one, bytes)
        assert one[:11] == bytes.fromhex("0801 1800 2001 3000 42c07f")
        assert other == bytes.fromhex("0801 1801 3001 4201 78")


async def test_info_takes_room_in_the_first_piece() -> None:
    async with open_room("a", mute=("a",)) as room:
        room.send(bytes(16320), info="x" * 98)
        one, other = await packets(room.channels["a"], 2)
        assert isinstance(one, Piece)
        assert isinstance(other, Piece)
        assert (len(one.chunk), len(other.chunk)) == (16220, 100)
        with pytest.raises(PayloadTooLarge):
            room.send(b"", info="x" * 16318)


class Blocks:
    def __init__(self, *blocks: bytes) -> None:
        self.blocks = list(blocks)

    def __aiter__(self) -> Blocks:
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if self.blocks:
            return self.blocks.pop(0)
        raise StopAsyncIteration


@pytest.mark.parametrize(
    ("message", "type", "content"),
    [
        ("é\ud800", "text", "é\ufffd"),
        (bytearray(b"abc"), "bytes", b"abc"),
        (memoryview(b"abcdef")[::2], "bytes", b"ace"),
        ({"a": [None, 1.5]}, "json", {"a": [None, 1.5]}),
        (io.BytesIO(b"file" * 9000), "blob", b"file" * 9000),
        (Blocks(b"12", b"", b"345" * 7000), "bytes", b"12" + b"345" * 7000),
        (Blocks(), "bytes", b""),
    ],
)
async def test_what_can_be_sent(message: Any, type: str, content: Any) -> None:
    async with open_room("a", "b") as room:
        transfer = room.send(message, info=[1])
        for member in room.members.values():
            received = await member.inbox.receive()
            assert await received.read() == content
            assert (received.type, received.info, received.raw, received.member) == (type, [1], False, "me")
            assert received.complete
        await transfer
        assert transfer.done
        assert transfer.failures == {}


async def test_what_can_not_be_sent() -> None:
    async with open_room("a") as room:
        for message in (object(), {1: 2}, open, float("nan"), [b""]):
            with pytest.raises(LocalProtocolError):
                room.send(message)
        await room.send("still")


async def test_files_are_read_by_each_member(tmp_path: Path) -> None:
    path = tmp_path / "file"
    content = bytes(range(256)) * 2500
    path.write_bytes(content)
    async with open_room("a", "b") as room, await trio.open_file(path, "rb") as trio_file:
        with path.open("rb") as file:
            file.seek(1000)
            for message, expected in ((path, content), (trio.Path(path), content), (file, content[1000:])):
                transfer = room.send(message)
                for member in room.members.values():
                    received = await member.inbox.receive()
                    assert await received.read() == expected
                await transfer
                assert {p.total for p in transfer.progress.values()} == {len(expected)}
        transfer = room.send(trio_file)
        assert await (await room.members["b"].inbox.receive()).read() == content
        await transfer


async def test_a_pipe_is_read_once() -> None:
    class Pipe(io.RawIOBase):
        left = 100_000

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            take = min(self.left, 30_000, size)
            self.left -= take
            return b"p" * take

    async with open_room("a", "b") as room:
        transfer = room.send(Pipe())
        for member in room.members.values():
            received = await member.inbox.receive()
            assert (await received.read(), received.type) == (b"p" * 100_000, "blob")
        await transfer
        assert transfer.progress["a"] == Progress("a", LABEL, 100_000, None, True)


async def test_sources_that_fail(tmp_path: Path) -> None:
    async def blocks() -> Any:
        yield b"first"
        await trio.testing.wait_all_tasks_blocked()
        raise KeyError("broken")

    class Shrinking(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            self.truncate(10)
            return super().read(size)

    class NoIterator:
        def __aiter__(self) -> AsyncIterator[bytes]:
            raise LookupError("nothing to iterate over")

    cases = [
        (blocks(), KeyError),
        (tmp_path / "none", FileNotFoundError),
        (Blocks("text"), TypeError),  # type: ignore[arg-type]
        (NoIterator(), LookupError),
        (Shrinking(bytes(50)), EOFError),
    ]
    async with open_room("a") as room:
        for source, cause in cases:
            transfer = room.send(source)
            with pytest.raises(TransferFailed) as raised:
                await transfer
            assert raised.value.reason == "source-failed"
            assert isinstance(raised.value.__cause__, cause)
        await room.send("next")
        received = await room.members["a"].inbox.receive()
        with pytest.raises(TransferFailed) as raised:
            await received.read()
        assert raised.value.reason == "aborted-by-sender"


async def test_a_transfer_to_nobody_is_done() -> None:
    async with open_room() as room:
        transfer = room.send("hello")
        assert transfer.done
        await transfer
        assert transfer.members == ()
        assert [progress async for progress in transfer] == []


async def test_awaited_by_several_and_again() -> None:
    async with open_room("a", mute=("a",)) as room:
        transfer = room.send("hello")
        seen: list[str] = []

        async def wait() -> None:
            await transfer
            seen.append("done")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            nursery.start_soon(wait)
            await room.channels["a"].receive()
            assert seen == []
            await room.channels["a"].send(encode_ack(1))
        await wait()
        assert seen == ["done"] * 3


async def test_progress_counts_bytes_and_ends() -> None:
    async with open_room("a", "b") as room:
        for member in room.members.values():
            room.nursery.start_soon(read_all, member)
        transfer = room.send(bytes(50_000))
        seen: dict[str, list[Progress]] = {"a": [], "b": []}
        async for progress in transfer:
            assert (progress.label, progress.total) == (LABEL, 50_000)
            seen[progress.member].append(progress)
        for steps in seen.values():
            counts = [step.current for step in steps]
            assert counts == sorted(counts)
            assert steps[-1].current == 50_000
            assert [step.done for step in steps] == [False] * (len(steps) - 1) + [True]
        assert [progress async for progress in transfer] == [steps[-1] for steps in seen.values()]


async def test_a_slow_reader_of_progress_gets_the_latest_of_each() -> None:
    async with open_room("a", "b") as room:
        for member in room.members.values():
            room.nursery.start_soon(read_all, member)
        transfer = room.send(bytes(500_000))
        watcher = aiter(transfer)
        await transfer  # nobody reads the progress meanwhile
        latest = [progress async for progress in watcher]
        assert sorted(progress.member for progress in latest) == ["a", "b"]
        assert all(progress.done and progress.current == 500_000 for progress in latest)


async def test_both_ways_at_once() -> None:
    async with open_room("a") as room:
        other = room.members["a"]
        room.nursery.start_soon(read_all, room.me)
        room.nursery.start_soon(read_all, other)
        back = [other.start({"me": other.links["me"]}, bytes(300_000), room.nursery) for _ in range(3)]
        for transfer in [*back, *(room.send(bytes(400_000)) for _ in range(3))]:
            await transfer
        assert room.me.counts == other.counts == {}
        assert [message.received for message in room.me.messages] == [300_000] * 3
        assert [message.received for message in other.messages] == [400_000] * 3


async def test_numbers_begin_again_after_the_last() -> None:
    limits = TransferLimits()
    async with open_room("a", limits=limits) as room:
        room.me.links["a"]._outgoing._id = 65534
        for text in "abc":
            await room.send(text)
        assert room.me.links["a"]._outgoing._id == 2
        assert [await (await room.members["a"].inbox.receive()).read() for _ in range(3)] == ["a", "b", "c"]


async def test_files_that_we_opened_are_closed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(3_000_000))
    async with open_room("a", "b", mute=("b",)) as room:
        room.nursery.start_soon(read_all, room.members["a"])
        for cancelled in (False, True):
            transfer = room.send(path, *(() if cancelled else ("a",)))
            source = transfer.source
            assert isinstance(source, FileSource)
            async for progress in transfer:
                assert cancelled or progress.done or source._file is not None
                if cancelled and progress.done:
                    transfer.cancel()
            while source._alone.borrowed_tokens:
                await trio.sleep(0.001)
            assert source._file is None


async def test_a_file_that_hangs_holds_nothing_up(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    async with open_room("a") as room:
        transfer = room.send(pipe)
        source = transfer.source
        assert isinstance(source, FileSource)
        while not source._alone.borrowed_tokens:
            await trio.sleep(0.001)
        transfer.cancel()
        await room.send("next")
        while source._alone.borrowed_tokens:  # lets the thread go, which has not opened it, perhaps, or never will
            with suppress(OSError):
                os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
            await trio.sleep(0.001)
        assert source._file is None
        assert list(transfer.failures) == ["a"]
