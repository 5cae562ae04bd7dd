"""What is typed in a room, or written by a program, carried out; files that are sent, with their progress.

Every line of a program gets exactly one reply with its ``ref``.
"""

from __future__ import annotations

import mimetypes
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import trio

from ..exceptions import RelayError, TransferFailed
from ..peerix import Room, Transfer
from ..wire.json import JSONValue
from .commands import BadInput
from .reports import describe_failure
from .room_chat import Chat
from .room_commands import HELP, RoomCommand
from .room_report import Bar, RoomReport
from .room_text import clean, nick_of, readable_size

__all__ = ["Sending"]

_AT_ONCE: Final = 32
"""Messages on their way; then input waits. Fewer than `TransferLimits.queue`: a channel always takes one more."""


class Sending:
    """Sends for a conversation.

    Attributes:
        failures: how many messages did not reach everybody whom they were for.
    """

    def __init__(self, room: Room, report: RoomReport, chat: Chat, label: str, jobs: trio.Nursery) -> None:
        self.failures = 0
        self._room: Final = room
        self._report: Final = report
        self._chat: Final = chat
        self._label: Final = label
        self._jobs: Final = jobs
        self._free: Final = trio.Semaphore(_AT_ONCE)

    async def execute(self, command: RoomCommand) -> bool:
        """Carries a command out, or begins to; returns False for the one that ends it all."""
        try:
            match command.verb:
                case "quit":
                    return False
                case "help":
                    await self._report.tell(HELP, "help", ref=command.ref)
                case "who":
                    await self._tell_who(command)
                case "accept" | "reject":
                    await self._answer_offer(command)
                case _:
                    await self._begin(command)
        except (RelayError, ValueError, OSError, trio.WouldBlock, BadInput) as error:
            self.failures += command.verb in ("send", "file")
            await self.refuse(error, command.ref)
        return True

    async def refuse(self, error: Exception, ref: JSONValue) -> None:
        """Says why a line was not carried out."""
        why = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        told = {**describe_failure(error), "message": why}
        await self._report.tell(f"* {clean(why)}", str(told.pop("event")), **told, ref=ref)

    async def _begin(self, command: RoomCommand) -> None:
        to = None if command.to is None else [self._chat.names.find(name) for name in command.to]
        message, info = command.value, command.info
        if command.verb == "file":
            message, about = await trio.to_thread.run_sync(find_file, command.path)
            info = {**about, **info} if isinstance(info, dict) else about
        await self._free.acquire()
        try:
            transfer = self._room.send(message, label=self._label, info=info, to=to)
        except BaseException:
            self._free.release()
            raise
        if command.verb == "send" and not transfer.members:
            await self._report.tell("* nobody is here", "nobody")
        self._chat.hold()
        self._jobs.start_soon(self._follow, transfer, command)

    async def _follow(self, transfer: Transfer, command: RoomCommand) -> None:
        try:
            await self._finish(transfer, command)
        finally:
            self._chat.release()
            self._free.release()

    async def _finish(self, transfer: Transfer, command: RoomCommand) -> None:
        """Shows progress until the transfer is over, and tells how it ended."""
        name = clean(Path(command.path).name)
        if command.verb == "file":
            await self._show_progress(transfer, name)
        try:
            await transfer
        except TransferFailed:
            self.failures += 1
        for id, failure in transfer.failures.items():
            what = name or "a message"
            await self._report.tell(
                f"* {what} did not reach {self._chat.names.of(id)}: {clean(str(failure))}",
                "not_sent",
                to=id,
                reason=failure.reason,
                message=str(failure),
                ref=command.ref,
            )
        await self._tell_sent(transfer, command, name)

    async def _tell_sent(self, transfer: Transfer, command: RoomCommand, name: str) -> None:
        reached = [id for id in transfer.members if id not in transfer.failures]
        line = None
        if command.verb == "file" and reached:
            size = max(progress.current for progress in transfer.progress.values())
            line = f"* sent {name} ({readable_size(size)}) to {', '.join(map(self._chat.names.of, reached))}"
        elif command.verb == "file" and not transfer.members:
            line = f"* {name} is sent to nobody: nobody is here"
        failed: list[JSONValue] = list(transfer.failures)
        await self._report.tell(line, "sent", to=[*reached], failed=failed, ref=command.ref)

    async def _show_progress(self, transfer: Transfer, name: str) -> None:
        bars: dict[str, Bar] = {}
        async with AsyncExitStack() as stack:
            async for progress in transfer:
                bar = bars.get(progress.member)
                if bar is None:
                    title = f"{name} to {self._chat.names.of(progress.member)}"
                    bar = bars[progress.member] = self._report.bar(title, to=progress.member, file=name)
                    stack.callback(bar.close)
                await bar.advance(progress.current, progress.total)
                if progress.done:
                    bar.close()

    async def _tell_who(self, command: RoomCommand) -> None:
        members = self._room.members.values()
        me = self._room.me
        lines = [f"* you are {clean(nick_of(me.metadata) or 'nameless')}, {me.id}"] if me is not None else []
        lines += [f"* {self._chat.names.of(one.id)}, {clean(one.id)}, {one.state}" for one in members]
        about: list[JSONValue] = [{"id": one.id, "metadata": one.metadata, "state": one.state} for one in members]
        await self._report.tell("\n".join(lines), "members", members=about, ref=command.ref)

    async def _answer_offer(self, command: RoomCommand) -> None:
        accepted = command.verb == "accept"
        number = self._chat.answer(command.number, accepted)
        if number is None:
            raise BadInput("no such file is offered")
        await self._report.tell(None, "accepting" if accepted else "rejecting", number=number, ref=command.ref)


def find_file(name: str) -> tuple[Path, dict[str, JSONValue]]:
    """A file, and what goes with it, as pages with Peerix expect it: ``name``, ``size``, ``type``.

    Raises:
        OSError: it can't be read.
        ValueError: it is no file.
    """
    path = Path(name).expanduser()
    if not path.is_file():
        path.stat()  # which says best what is wrong
        raise ValueError(f"{path} is no regular file")
    with path.open("rb"):
        size = path.stat().st_size
    kind = mimetypes.guess_type(path.name)[0]
    return path, {"name": path.name, "size": size, "type": kind or "application/octet-stream"}
