"""What conversations with brokers over streams of bytes have in common."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from trio_relay.exceptions import RemoteProtocolError
from trio_relay.peerix.drivers.byte_session import ByteSession
from trio_relay.peerix.drivers.byte_stream import ByteStream

Clock = trio.testing.MockClock


class Session(ByteSession):
    """Answers every ``?`` with a lot, and fails at a ``!``."""

    def __init__(self, stream: ByteStream) -> None:
        super().__init__(stream, keepalive=10.0, timeout=2.0)

    def received(self, data: bytes) -> None:
        for _ in range(data.count(b"?")):
            self.answer(bytes(1000 * 1000))
        if b"!" in data:
            raise RemoteProtocolError("expected no exclamation")

    def ping(self) -> bytes:
        return b"ping"

    def goodbye(self) -> bytes:
        return b"goodbye"


class Stuck(ByteStream):
    """Sends nothing until it is told to."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        super().__init__(stream)
        self.go = trio.Event()

    async def send(self, data: bytes) -> None:
        await self.go.wait()
        await super().send(data)


async def test_the_last_words_are_written_after_what_waits(autojump_clock: Clock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    session = Session(ByteStream(ours))
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.run)
            await session.write(b"1")
            scope.cancel()
    with trio.CancelScope() as scope:
        scope.cancel()
        await session.aclose()
    received = b"".join([bytes(data) async for data in theirs])
    assert received == b"1goodbye"
    with pytest.raises(trio.BrokenResourceError):
        await session.write(b"2")


async def test_closing_does_not_wait_for_a_broker_that_does_not_read(autojump_clock: Clock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    session = Session(Stuck(ours))
    with trio.move_on_after(1):
        await session.run()
    began = trio.current_time()
    await session.aclose()
    assert trio.current_time() - began == pytest.approx(1.0)
    assert await theirs.receive_some() == b""


async def test_closing_is_bounded_however_much_waits(autojump_clock: Clock) -> None:
    """What is being written comes to its end, what is behind it does not."""
    ours, theirs = trio.testing.memory_stream_pair()
    stream = Stuck(ours)
    session = Session(stream)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.run)
        await session.write(b"1")
        await trio.testing.wait_all_tasks_blocked()
        await session.write(b"2")
        nursery.cancel_scope.cancel()
        stream.go.set()
        stream.go = trio.Event()
    began = trio.current_time()
    await session.aclose()
    assert trio.current_time() - began == pytest.approx(1.0)
    assert await theirs.receive_some() == b"1"
    assert await theirs.receive_some() == b""


async def test_who_waits_for_room_goes_on_when_there_is_some(autojump_clock: Clock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    stream = Stuck(ours)
    session = Session(stream)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.run)
        await session.write(bytes(1000 * 1000))
        with trio.move_on_after(1) as scope:
            await session.write(bytes(100 * 1000))
        assert scope.cancelled_caught
        nursery.start_soon(session.write, bytes(100 * 1000))
        await trio.testing.wait_all_tasks_blocked()
        stream.go.set()
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    await session.aclose()
    assert sum([len(data) async for data in theirs]) == 1100 * 1000 + len(b"goodbye")


async def test_before_the_greeting_is_over_there_are_no_last_words(autojump_clock: Clock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    session = Session(ByteStream(ours))
    await session.aclose()
    assert await theirs.receive_some() == b""


async def test_after_half_a_packet_nothing_more_is_written(autojump_clock: Clock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    stream = Stuck(ours)
    session = Session(stream)
    with trio.move_on_after(3):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.run)
            await session.write(b"1")
    assert trio.current_time() == pytest.approx(4.0)
    stream.go.set()
    await session.aclose()
    assert await theirs.receive_some() == b""


async def test_a_broker_that_asks_and_does_not_read_is_given_up(autojump_clock: Clock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    session = Session(Stuck(ours))
    await theirs.send_all(b"??")
    await theirs.send_all(b"?")
    with pytest.raises(RemoteProtocolError, match="expected the broker to read"):
        await session.run()
    await session.aclose()


async def test_who_waits_for_room_is_told_of_the_end(autojump_clock: Clock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    session = Session(Stuck(ours))

    async def write() -> None:
        with pytest.raises(trio.BrokenResourceError):
            await session.write(bytes(1000 * 1000))
        told.set()

    told = trio.Event()
    await session.write(bytes(1000 * 1000))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        await trio.testing.wait_all_tasks_blocked()
        await theirs.send_all(b"!")
        with pytest.raises(RemoteProtocolError, match="exclamation"):
            await session.run()
        await told.wait()
    assert trio.current_time() < 1


async def test_anything_that_is_heard_is_an_answer_to_a_ping(autojump_clock: Clock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    session = Session(ByteStream(ours))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.run)
        for _ in range(3):
            assert await theirs.receive_some() == b"ping"
            await trio.sleep(1.9)
            await theirs.send_all(b".")
        await theirs.aclose()
    assert trio.current_time() > 30
