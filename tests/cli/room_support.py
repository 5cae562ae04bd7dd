"""Conversations in a room without processes, networks and terminals."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio

from tests.peerix.support import World
from trio_relay.cli.room import LIMITS, RoomSettings, converse
from trio_relay.cli.room_chat import Receiving
from trio_relay.cli.room_driver import Broker

__all__ = ["Recorder", "Talker", "settings", "talking"]

DEADLINE: Final = 60.0


class Recorder:
    """A `RoomReport` that keeps what it is told.

    Attributes:
        told: event, line and the rest, in their order.
        bars: title, and each advance.
        open_bars: that were not closed.
    """

    def __init__(self, *, is_terminal: bool = True) -> None:
        self.is_terminal: Final = is_terminal
        self.told: Final[list[tuple[str, str | None, dict[str, Any]]]] = []
        self.bars: Final[dict[str, list[tuple[int, int | None]]]] = {}
        self.open_bars = 0
        self._news: Final = trio.lowlevel.ParkingLot()
        self._seen: Final[dict[str, int]] = {}

    async def tell(self, line: str | None, event: str, **members: Any) -> None:
        """See `RoomReport`; so below."""
        self.told.append((event, line, members))
        self._news.unpark_all()
        await trio.lowlevel.checkpoint()

    def bar(self, title: str, **members: Any) -> RecordedBar:
        self.open_bars += 1
        return RecordedBar(self, self.bars.setdefault(title, []))

    async def next(self, event: str) -> tuple[str | None, dict[str, Any]]:
        """The next one of an event that was not returned yet: its line, and the rest."""
        with trio.fail_after(DEADLINE):
            while True:
                found = [(line, members) for name, line, members in self.told if name == event]
                number = self._seen.get(event, 0)
                if len(found) > number:
                    self._seen[event] = number + 1
                    return found[number]
                await self._news.park()

    async def line(self, event: str) -> str | None:
        """The next one's line."""
        return (await self.next(event))[0]


class RecordedBar:
    """A `Bar`."""

    def __init__(self, recorder: Recorder, advances: list[tuple[int, int | None]]) -> None:
        self._recorder: Final = recorder
        self._advances: Final = advances
        self._open = True

    async def advance(self, current: int, total: int | None) -> None:
        self._advances.append((current, total))
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        self._recorder.open_bars -= self._open
        self._open = False


class Talker:
    """One who talks.

    Attributes:
        code: the exit code, when it is over.
    """

    def __init__(self, report: Recorder) -> None:
        self.report: Final = report
        self.code: int | None = None
        self._send, self._receive = trio.open_memory_channel[bytes](100)

    def type(self, *lines: str) -> None:
        """Lines that it types."""
        for line in lines:
            self._send.send_nowait(line.encode())

    def end(self) -> None:
        """The end of its input."""
        self._send.close()

    async def receive(self) -> list[bytes | None]:
        """As `LineReader`."""
        try:
            return [await self._receive.receive()]
        except trio.EndOfChannel:
            return []


def settings(folder: Path, **members: Any) -> RoomSettings:
    """Settings for a conversation; those of the driver mean nothing."""
    receiving = members.pop("receiving", Receiving(folder, 10_000_000))
    return RoomSettings(room="room", broker=Broker(), receiving=receiving, options={}, **members)


@asynccontextmanager
async def talking(world: World, name: str | None, wanted: RoomSettings, **options: Any) -> AsyncIterator[Talker]:
    """Somebody in the room, until its conversation ends; the end of the block ends its input."""
    talker = Talker(Recorder(is_terminal=options.pop("is_terminal", True)))
    metadata = {"name": name} if name is not None else None
    async with trio.open_nursery() as nursery:

        async def talk(*, task_status: trio.TaskStatus[None]) -> None:
            async with world.room(metadata=metadata, limits=LIMITS, **options) as room:
                room.open_channel(wanted.label)
                task_status.started()
                talker.code = await converse(room, talker.report, wanted, talker)

        await nursery.start(talk)
        yield talker
        talker.end()
