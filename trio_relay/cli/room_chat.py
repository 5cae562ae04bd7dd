"""A room as a conversation: who comes and goes, what is said, files that are offered, sent and saved.

Rules of this file:

1. Messages of one member are shown in the order in which they came; a file that comes does not hold them up.
2. No file is written before somebody has accepted it. An offer whose file does not fit into memory
   (`TransferLimits.message_bytes`) is rejected after `_PATIENCE`: until then its sender waits, and what it says on
   this channel behind it.
3. Everything that waits is bounded: offers, lines, and messages that are being sent.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import trio

from ..exceptions import RelayError, TransferFailed
from ..peerix import (
    ConnectionClosed,
    ConnectionConnected,
    DriverActive,
    DriverFailed,
    DriverInactive,
    ErrorEvent,
    Message,
    Room,
)
from ..wire.json import JSONValue
from .room_files import save
from .room_names import Names
from .room_report import RoomReport
from .room_text import as_json, clean, file_info, readable_size, said

__all__ = ["Chat", "Receiving"]

_logger: Final = logging.getLogger("trio_relay.cli.room")

_TEXT: Final = 64 * 1024
"""Bytes of a text or a JSON value that is shown."""
_LINES: Final = 64
"""Texts of one member that wait to be shown."""
_OFFERS: Final = 16
"""Files that wait to be accepted, or are coming."""
_PATIENCE: Final = 30.0
_LINGER: Final = 0.5
_UNASKED: Final = 10
"""With ``accept_all``: so many files of the largest size, together, in one run."""


@dataclass(frozen=True, slots=True)
class Receiving:
    """What becomes of files.

    Attributes:
        folder: where they are written.
        most: bytes of one.
        accept_all: without being asked.
    """

    folder: Path
    most: int
    accept_all: bool = False


class Offer:
    """A file that somebody sends.

    Attributes:
        name: as its sender calls it, fit for a terminal.
    """

    def __init__(self, number: int, message: Message) -> None:
        name, self.size = file_info(message.info)
        self.number: Final = number
        self.message: Final = message
        self.raw_name: Final = name
        self.name: Final = clean(name[-200:]) or "a file without a name"
        self.answered: Final = trio.Event()
        self.accepted = False

    @property
    def about(self) -> dict[str, JSONValue]:
        """For programs."""
        return {"number": self.number, "from": self.message.member, "name": self.raw_name, "size": self.size}


class Chat:
    """Shows a room; `watch`, `watch_driver` and `receive` are to be run as tasks, `jobs` is where they start others."""

    def __init__(self, room: Room, report: RoomReport, receiving: Receiving, jobs: trio.Nursery) -> None:
        self.names: Final = Names(room)
        self._room: Final = room
        self._report: Final = report
        self._receiving: Final = receiving
        self._jobs: Final = jobs
        self._unasked = _UNASKED * receiving.most if receiving.accept_all else 0
        self._lines: Final[dict[str, deque[Message]]] = {}
        self._offers: Final[dict[int, Offer]] = {}
        self._number = self._busy = 0
        self._idle: Final = trio.lowlevel.ParkingLot()
        self._gone: Final = trio.lowlevel.ParkingLot()
        self._came_at = -_LINGER

    # Ends

    def hold(self) -> None:
        """Something is under way that the end of input waits for, until `release`."""
        self._busy += 1

    def release(self) -> None:
        """It is over."""
        self._busy -= 1
        if not self._busy:
            self._idle.unpark_all()

    async def settle(self) -> None:
        """Waits until nothing is under way; offers that nobody has accepted are not."""
        await trio.lowlevel.checkpoint()
        while self._busy:
            await self._idle.park()

    async def linger(self) -> None:
        """Gives the acknowledgement of what came last time to leave: who leaves the room at once loses it."""
        while self._room.members and trio.current_time() < self._came_at + _LINGER:
            with trio.move_on_at(self._came_at + _LINGER):
                await self._gone.park()

    # Who is there

    async def watch(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Tells who comes and goes; begins with those that are there."""
        async with self._room.events() as events:
            present = [member for member in self._room.members.values() if member.state == "connected"]
            for member in present:
                await self._tell_member("is here", "member", member.id, member.metadata)
            task_status.started()
            async for event in events:
                match event:
                    case ConnectionConnected(member) if member not in present:
                        present.append(member)
                        await self._tell_member("has come", "member", member.id, member.metadata)
                    case ConnectionClosed(member) if member in present:
                        present.remove(member)
                        self._gone.unpark_all()
                        await self._tell_member("has gone", "gone", member.id, member.metadata)
                    case ErrorEvent(error, id):
                        _logger.info("%s: %s", self.names.of(id) if id is not None else "room", clean(str(error)))
                    case _:
                        pass

    async def _tell_member(self, what: str, event: str, id: str, metadata: Any) -> None:
        self.names.remember(id, metadata)
        await self._report.tell(f"* {self.names.of(id)} {what}", event, id=id, metadata=metadata)

    async def watch_driver(self) -> None:
        """Tells when the broker is lost, and found again; those who are connected go on without it."""
        async with self._room.driver.events() as events:
            async for event in events:
                match event:
                    case DriverInactive(reason):
                        await self._report.tell(
                            f"* the broker is lost: {clean(reason)}", "broker", active=False, reason=reason
                        )
                    case DriverActive():
                        await self._report.tell("* the broker is there", "broker", active=True)
                    case DriverFailed(error):
                        _logger.info("broker: %s", clean(str(error)))
                    case _:
                        pass

    # What comes

    async def receive(self) -> None:
        """Shows what members send, until the room is left."""
        async for message in self._room:
            if message.type in ("blob", "bytes"):
                await self._take_file(message)
            else:
                await self._take_text(message)

    async def _take_text(self, message: Message) -> None:
        waiting = self._lines.get(message.member)
        if waiting is None:
            self._lines[message.member] = deque([message])
            self._jobs.start_soon(self._show_texts, message.member)
        elif len(waiting) < _LINES:
            waiting.append(message)
        else:
            message.cancel()
            await self._report.tell(
                f"* a message of {self.names.of(message.member)} is dropped: too many are coming",
                "dropped",
                **{"from": message.member},
            )

    async def _show_texts(self, member: str) -> None:
        waiting = self._lines[member]
        while waiting:
            await self._show_text(waiting[0])
            waiting.popleft()
        del self._lines[member]

    async def _show_text(self, message: Message, *, bare: bool = False) -> bool:
        name = self.names.of(message.member)
        about: dict[str, JSONValue] = {"from": message.member, "info": message.info}
        try:
            value = await message.read(_TEXT)
        except RelayError as error:
            await self._report.tell(f"* a message of {name} did not come: {clean(str(error))}", "lost", **about)
            return False
        self._came_at = trio.current_time()
        is_text = message.type == "text"
        text = value if is_text else as_json(value)
        await self._report.tell(
            text if bare else said(name, text), "message", **about, **{"text" if is_text else "data": value}
        )
        return True

    async def _take_file(self, message: Message) -> None:
        self._number += 1
        offer = Offer(self._number, message)
        name = self.names.of(message.member)
        size = "a size that is not told" if offer.size is None else f"{readable_size(offer.size)}, it says"
        what = f"* {name} sends {offer.name} ({size})"
        if len(self._offers) >= _OFFERS or (offer.size or 0) > self._receiving.most:
            message.cancel()
            why = "too many files are coming" if len(self._offers) >= _OFFERS else "it is too large"
            await self._report.tell(f"{what}; rejected: {why}", "rejected", **offer.about, reason=why)
            return
        self._offers[offer.number] = offer
        if (offer.size or 0) <= self._unasked and self._receiving.accept_all:
            self._decide(offer, True)
            await self._report.tell(what, "offer", **offer.about)
        else:
            await self._report.tell(f"{what}: /accept {offer.number} or /reject {offer.number}", "offer", **offer.about)
        self._jobs.start_soon(self._handle_offer, offer)

    async def _handle_offer(self, offer: Offer) -> None:
        try:
            with trio.move_on_after(_PATIENCE):
                await offer.answered.wait()
            if not offer.answered.is_set() and offer.message.complete:
                await offer.answered.wait()
            if offer.accepted:
                await self._save(offer)
            else:
                offer.message.cancel()
                why = "rejected here" if offer.answered.is_set() else "nobody accepted it in time"
                await self._report.tell(f"* {offer.name}: {why}", "rejected", **offer.about, reason=why)
        finally:
            del self._offers[offer.number]
            if offer.accepted:
                self.release()

    async def _save(self, offer: Offer, *, bare: bool = False) -> bool:
        message, receiving = offer.message, self._receiving
        bar = self._report.bar(f"{offer.name} from {self.names.of(message.member)}", number=offer.number)
        most = min(receiving.most, self._unasked) if receiving.accept_all else receiving.most

        async def watch(size: int) -> None:
            await bar.advance(size, offer.size)

        try:
            path = await save(message, receiving.folder, offer.raw_name, most, watch)
        except (TransferFailed, OSError) as error:
            why = error.strerror or str(error) if isinstance(error, OSError) else str(error)
            await self._report.tell(f"* {offer.name} is not saved: {clean(why)}", "lost", **offer.about, reason=why)
            return False
        finally:
            bar.close()
        self._came_at = trio.current_time()
        if receiving.accept_all:
            self._unasked -= message.received
        line = str(path) if bare else f"* saved {clean(str(path))} ({readable_size(message.received)})"
        told = {**offer.about, "path": str(path), "size": message.received}
        await self._report.tell(line, "saved", **told)
        return True

    def answer(self, number: int | None, accepted: bool) -> int | None:
        """Accepts or rejects an offer, the oldest one by default; returns its number, None if there is none."""
        open_offers = [offer for offer in self._offers.values() if not offer.answered.is_set()]
        chosen = [offer for offer in open_offers if number in (None, offer.number)][:1]
        for offer in chosen:
            self._decide(offer, accepted)
        return chosen[0].number if chosen else None

    def _decide(self, offer: Offer, accepted: bool) -> None:
        offer.accepted = accepted
        offer.answered.set()
        if accepted:
            self.hold()

    async def take_at_once(self, message: Message) -> bool:
        """Shows a text, or saves a file without being asked, and nothing else; returns whether all of it came."""
        if message.type not in ("blob", "bytes"):
            return await self._show_text(message, bare=not self._report.is_terminal)
        offer = Offer(1, message)
        if (offer.size or 0) > self._receiving.most:
            message.cancel()
            await self._report.tell(f"* {offer.name} is too large", "rejected", **offer.about, reason="it is too large")
            return False
        return await self._save(offer, bare=not self._report.is_terminal)
