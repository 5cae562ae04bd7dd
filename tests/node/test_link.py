"""One link over a connection that the test plays: direct writes, the writer task, room, and how it closes."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_relay import Limits
from trio_relay.node.link import Link
from trio_relay.node.services import open_services
from trio_relay.overlay.actions import URGENT
from trio_relay.transports.connection import Buffer, TransportName
from trio_relay.wire.hello import Reason

from .support import UNKNOWN

LIMITS = Limits(backlog_bytes=8000, backlog_frames=80, close_timeout=2)


class FakeConnection:
    """Takes what it is told to take.

    Attributes:
        open: whether it takes everything; otherwise writes wait until it is set.
        written: the messages, whole.
        log: what was called.
    """

    def __init__(self, *, direct: bool = True) -> None:
        self.transport: TransportName = "memory"
        self.direct = direct
        self.remote, self.local = "there:0", "here:0"
        self.offered_subprotocol = True
        self.control_pending = False
        self.open = trio.Event()
        self.written: list[bytes] = []
        self.log: list[str] = []
        self.broken = False
        self._left: bytes | None = None

    def take_all(self) -> None:
        self.open.set()

    def _check(self) -> None:
        if self.broken:
            raise trio.BrokenResourceError

    async def receive(self) -> list[bytes | str]:
        raise AssertionError("a link does not receive")

    def send_nowait(self, pieces: Sequence[Buffer], *, text: bool = False) -> bool:
        assert self._left is None, "expected flush before the next message"
        self._check()
        self.log.append("send_nowait")
        message = b"".join(pieces)
        if not self.open.is_set():
            self._left = message
            return False
        self.written.append(message)
        return True

    async def flush(self) -> None:
        self.log.append("flush")
        self._check()
        await self.open.wait()
        self._check()
        self.control_pending = False
        if self._left is not None:
            self.written.append(self._left)
            self._left = None

    async def send(self, pieces: Sequence[Buffer], *, text: bool = False) -> None:
        self.log.append("send text" if text else "send")
        await self.open.wait()
        self._check()
        self.written.append(b"".join(pieces))

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        self.log.append(f"aclose {code} {reason}")

    def abort(self) -> None:
        self.log.append("abort")
        self.broken = True
        self.open.set()


class Bench:
    """A link, and what belongs to it."""

    def __init__(self, link: Link, connection: FakeConnection, counts: Counter[str]) -> None:
        self.link, self.connection, self.counts = link, connection, counts

    def busy(self) -> bool:
        return self.link.busy

    def transmit(self, data: bytes, *, via: object = None, control: int = False, text: bool = False) -> None:
        self.link.transmit([data[:1], data[1:]], 1, len(data), via, control=control, text=text)


@asynccontextmanager
async def bench(*, direct: bool = True) -> AsyncIterator[Bench]:
    connection, counts = FakeConnection(direct=direct), Counter[str]()
    async with open_services() as services:
        start = services.start_soon
        yield Bench(
            Link(connection, UNKNOWN, dialled=True, limits=LIMITS, counts=counts, start_soon=start), connection, counts
        )


async def test_idle_link_is_written_at_once(autojump_clock: MockClock) -> None:
    async with bench() as it:
        it.connection.take_all()
        it.transmit(b"one")
        it.transmit(b"two")
        # No task had a turn.
        assert it.connection.written == [b"one", b"two"]
        assert it.connection.log == ["send_nowait", "send_nowait"]
        assert not it.busy()


async def test_what_a_direct_write_leaves_is_finished_by_a_writer_that_then_ends(autojump_clock: MockClock) -> None:
    async with bench() as it:
        it.transmit(b"first")
        assert it.busy()
        it.transmit(b"second")
        it.transmit(b"third")
        await wait_all_tasks_blocked()
        assert (it.link.backlog.size, it.link.backlog.frames) == (11, 2)
        assert it.connection.written == []
        it.connection.take_all()
        await it.link.wait_drained()
        # What waited is joined into one message.
        assert it.connection.written == [b"first", b"secondthird"]
        assert not it.busy()
        assert it.link.backlog.size == 0
        it.transmit(b"direct again")
        assert it.connection.log.count("send_nowait") == 2


async def test_link_that_cannot_be_written_directly_always_has_a_writer(autojump_clock: MockClock) -> None:
    async with bench(direct=False) as it:
        it.connection.take_all()
        it.transmit(b"x")
        assert it.busy()
        await it.link.wait_drained()
        assert it.connection.written == [b"x"]
        assert "send_nowait" not in it.connection.log


async def test_joined_messages_have_a_bounded_size(autojump_clock: MockClock) -> None:
    connection, counts = FakeConnection(direct=False), Counter[str]()
    async with open_services() as services:
        link = Link(connection, UNKNOWN, dialled=True, limits=Limits(), counts=counts, start_soon=services.start_soon)
        for _ in range(10):
            link.transmit([bytes(30_000)], 1, 30_000, None, control=False)
        connection.take_all()
        await link.wait_drained()
        assert [len(message) for message in connection.written] == [90_000, 90_000, 90_000, 30_000]


async def test_text_messages_are_not_joined(autojump_clock: MockClock) -> None:
    async with bench() as it:
        it.transmit(b"left over")
        it.transmit(b"{}", text=True)
        it.transmit(b"[]", text=True)
        it.transmit(b"binary")
        it.transmit(b"null", text=True)
        it.connection.take_all()
        await it.link.wait_drained()
        assert it.connection.written == [b"left over", b"{}", b"[]", b"binary", b"null"]
        assert it.connection.log.count("send text") == 3


async def test_signs_of_life_overtake_what_waits_and_nothing_else_does(autojump_clock: MockClock) -> None:
    async with bench() as it:
        it.transmit(b"left over")
        it.transmit(b"{1}", text=True)
        it.transmit(b"{2}", text=True)
        it.transmit(b"of others", via="other", control=True)
        it.transmit(b"ping", control=URGENT)
        it.transmit(b"goodbye", control=True)
        it.transmit(b"pong", control=URGENT)
        it.connection.take_all()
        await it.link.wait_drained()
        assert it.connection.written == [b"left over", b"pingpong", b"{1}", b"{2}", b"of othersgoodbye"]
        assert (it.link.backlog.size, it.link.backlog.frames) == (0, 0)


@pytest.mark.parametrize("control", [False, True, URGENT])
async def test_what_was_dropped_takes_no_more_than_as_much_room_again(control: int) -> None:
    async with bench() as it:
        for number in range(10 * LIMITS.backlog_frames):
            it.transmit(b"x", via=number % 2 or None, control=control)
        await wait_all_tasks_blocked()
        waiting = len(it.link._urgent or ()) + len(it.link._queue or ())
        assert it.link.backlog.frames <= waiting <= 4 * LIMITS.backlog_frames
        it.connection.take_all()
        await it.link.wait_drained()
        total = sum(map(len, it.connection.written)) + it.counts["backlog_full"]
        assert total == 10 * LIMITS.backlog_frames


async def test_full_backlog_drops_and_counts(autojump_clock: MockClock) -> None:
    async with bench() as it:
        for _ in range(20):
            it.transmit(bytes(1000), via="flooder")
        it.transmit(b"honest", via="other")
        await wait_all_tasks_blocked()
        # One is in the connection; the accounts hold seven eighths, one of which made room.
        assert it.counts["backlog_full"] == 13
        assert it.link.backlog.size == 6006
        it.connection.take_all()
        await it.link.wait_drained()
        assert sum(map(len, it.connection.written)) == 7006
        assert it.connection.written[-1].endswith(b"honest")


async def test_sender_with_time_waits_for_half_of_the_backlog(autojump_clock: MockClock) -> None:
    connection, counts = FakeConnection(direct=False), Counter[str]()
    limits = Limits(backlog_bytes=800_000)
    async with open_services() as services, trio.open_nursery() as nursery:
        link = Link(connection, UNKNOWN, dialled=True, limits=limits, counts=counts, start_soon=services.start_soon)
        room = trio.Event()

        async def wait() -> None:
            await link.wait_room()
            room.set()

        for _ in range(20):
            link.transmit([bytes(30_000)], 1, 30_000, None, control=False)
        assert link.high
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        assert not room.is_set()
        connection.take_all()
        await room.wait()
        assert 0 < link.backlog.size <= 400_000


async def test_waiting_for_room_ends_with_the_link(autojump_clock: MockClock) -> None:
    async with bench() as it:
        for _ in range(8):
            it.transmit(bytes(1000))
        assert it.link.high
        with trio.fail_after(1):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(it.link.wait_room)
                nursery.start_soon(it.link.wait_drained)
                await wait_all_tasks_blocked()
                it.link.abort()
        assert it.counts["link_broken"] == 8 - it.counts["backlog_full"]


async def test_close_writes_the_backlog_first(autojump_clock: MockClock) -> None:
    async with bench() as it:
        it.transmit(b"one")
        it.transmit(b"two")
        it.link.close_soon(Reason.SHUTDOWN)
        assert it.link.closing
        it.transmit(b"too late")
        assert it.counts["link_closing"] == 1
        await trio.sleep(1)
        assert not it.connection.log[-1].startswith("aclose")
        it.connection.take_all()
        await it.link.wait_closed()
        assert it.connection.written == [b"one", b"two"]
        assert it.connection.log[-2:] == ["aclose 1000 shutdown", "abort"]
        assert it.counts["link_broken"] == 0


async def test_close_does_not_wait_for_ever(autojump_clock: MockClock) -> None:
    async with bench() as it:
        it.transmit(b"one")
        it.transmit(b"two")
        began = trio.current_time()
        it.link.close_soon(Reason.UNWANTED)
        await it.link.wait_closed()
        assert trio.current_time() - began == pytest.approx(LIMITS.close_timeout)
        assert it.connection.log[-1] == "abort"
        await wait_all_tasks_blocked()
        # Both: the one that was half written, and the one that waited.
        assert it.counts["link_broken"] == 2


async def test_second_close_changes_nothing(autojump_clock: MockClock) -> None:
    async with bench() as it:
        it.connection.take_all()
        it.link.close_soon(Reason.SHUTDOWN)
        it.link.close_soon(Reason.PROTOCOL)
        await it.link.wait_closed()
        assert [entry for entry in it.connection.log if entry.startswith("aclose")] == ["aclose 1000 shutdown"]


async def test_write_that_fails_ends_the_link(autojump_clock: MockClock) -> None:
    async with bench() as it:
        it.connection.broken = True
        it.transmit(b"lost")
        assert it.link.closing
        assert it.connection.log == ["abort"]
        assert it.counts["link_broken"] == 1
        await it.link.wait_closed()


async def test_writer_that_fails_ends_the_link_and_counts_what_it_had(autojump_clock: MockClock) -> None:
    async with bench() as it:
        it.transmit(b"half")
        for _ in range(3):
            it.transmit(b"waits")
        await wait_all_tasks_blocked()
        it.connection.broken = True
        it.connection.take_all()
        await wait_all_tasks_blocked()
        assert it.link.closing
        assert not it.busy()
        assert it.counts["link_broken"] == 4
        assert it.link.backlog.size == 0


async def test_close_of_a_link_whose_writer_fails_is_done_at_once(autojump_clock: MockClock) -> None:
    async with bench() as it:
        it.transmit(b"half")
        it.link.close_soon(Reason.SHUTDOWN)
        await wait_all_tasks_blocked()
        began = trio.current_time()
        it.connection.broken = True
        it.connection.take_all()
        await it.link.wait_closed()
        await wait_all_tasks_blocked()
        assert trio.current_time() == began


async def test_interrupted_write_ends_the_connection(autojump_clock: MockClock) -> None:
    connection, counts = FakeConnection(), Counter[str]()
    async with open_services() as services:
        start = services.start_soon
        link = Link(connection, UNKNOWN, dialled=False, limits=LIMITS, counts=counts, start_soon=start)
        link.transmit([b"half"], 1, 4, None, control=False)
        await wait_all_tasks_blocked()
    assert link.closing
    assert connection.log[-1] == "abort"
    assert counts["link_broken"] == 1


async def test_pong_is_written_by_the_writer(autojump_clock: MockClock) -> None:
    async with bench() as it:
        it.connection.take_all()
        it.link.answer_control()
        assert not it.busy()
        it.connection.control_pending = True
        it.link.answer_control()
        assert it.busy()
        await it.link.wait_drained()
        assert it.connection.log == ["flush"]


async def test_info_and_repr_are_for_people(autojump_clock: MockClock) -> None:
    async with bench() as it:
        it.transmit(b"x")
        it.transmit(b"yz")
        info = it.link.info("relay", 0.5)
        assert (info.id, info.role, info.rtt, info.remote, info.backlog) == (UNKNOWN, "relay", 0.5, "there:0", 2)
        assert repr(it.link) == f"<Link {UNKNOWN[:4].hex()} memory there:0>"
        it.link.abort()


async def test_what_waits_leaves_over_the_link_that_takes_its_place(autojump_clock: MockClock) -> None:
    async with bench() as old, bench() as new:
        for number in range(4):
            old.transmit(b"%d" % number)
        await wait_all_tasks_blocked()
        old.link.hand_over(new.link)
        new.transmit(b"later")
        new.connection.take_all()
        await new.link.wait_drained()
        assert b"".join(new.connection.written) == b"123later"
        # What the old one has begun to write it writes.
        old.connection.take_all()
        await old.link.wait_drained()
        assert old.connection.written == [b"0"]
        assert not old.counts
        assert not new.counts
