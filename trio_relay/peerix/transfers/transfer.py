"""A message on its way to several members, as the sender sees it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import trio

from ...exceptions import TransferFailed, TransferFailure
from ..packets.transfer import PayloadType
from .sources import Reader, Source, SourceFailed

__all__ = ["Part", "Progress", "Transfer", "TransferProgress"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a message has come, for one member.

    Attributes:
        member: its id.
        label: of the channel.
        current: bytes that the channel has taken.
        total: bytes of the message; None: that is not known, or not yet.
        done: the member has acknowledged all of it.
    """

    member: str
    label: str
    current: int
    total: int | None
    done: bool


class Part:
    """What one transfer sends to one member.

    Attributes:
        reader: of the source; closed when the part is over.
        current: bytes that the channel has taken.
        scope: entered by who sends it; cancelled when the part is over before all of it was sent.
        since: when it was given to the channel; seconds of Trio's clock.
        failure: why it is over, if it failed.
        over: the member has acknowledged, or it failed.
        on_over: called then; it must not wait.
    """

    __slots__ = ("_transfer", "current", "failure", "member", "on_over", "over", "reader", "scope", "since")

    def __init__(self, transfer: Transfer, member: str) -> None:
        self._transfer: Final = transfer
        self.member: Final = member
        self.reader: Final[Reader] = transfer.source.reader(self._on_excluded)
        self.current = 0
        self.scope: Final = trio.CancelScope()
        self.since = 0.0
        self.failure: TransferFailed | None = None
        self.over = False
        self.on_over: Callable[[], None] | None = None

    @property
    def type(self) -> PayloadType:
        """Of the message."""
        return self._transfer.source.type

    @property
    def info(self) -> bytes | None:
        """Of the message, as JSON."""
        return self._transfer.info

    @property
    def is_live(self) -> bool:
        """Whether its source may have nothing for a while."""
        return self._transfer.source.runs

    def advance(self, size: int) -> None:
        """The channel has taken so many more bytes."""
        self.current += size
        self._transfer.on_progress(self.member)

    def complete(self) -> None:
        """The member has acknowledged."""
        self._end(None)

    def fail(self, reason: TransferFailure, message: str, cause: BaseException | None = None) -> None:
        """It is over; the first failure counts. Whoever sends it stops."""
        failure = TransferFailed(self.member, reason, message)
        failure.__cause__ = cause
        self._end(failure)

    def _on_excluded(self) -> None:
        self.fail("timeout", "it kept other members waiting for too long, and the source can be read only once")

    def _end(self, failure: TransferFailed | None) -> None:
        if self.over:
            return
        self.over = True
        self.failure = failure
        self.scope.cancel()
        self.reader.close()
        if self.on_over is not None:
            self.on_over()
        self._transfer.on_part_over(self)


class Transfer:
    """A message on its way to members; it is sent whether or not anybody waits for it.

    ``await transfer`` waits until every member has acknowledged, or failed; then it raises the first failure, if there
    was one. It can be awaited more than once. Cancelling a task that awaits it cancels the transfer.

    ``async for progress in transfer`` watches it: see `Progress`. A slow reader gets the latest of each member, and
    holds nothing up; the last of each member always comes. The iteration ends when all members are through; it raises
    nothing for those that failed (`failures`, ``await transfer``), since the others' progress would end with the first
    of them. Who stops watching, or is cancelled while watching, does not cancel the transfer.
    """

    def __init__(
        self, source: Source, label: str, info: bytes | None = None, cancel_scope: trio.CancelScope | None = None
    ) -> None:
        """For `start_transfer`: `part` is called for each member, then `seal`, once; `run` by a task if it `runs`."""
        self.source: Final = source
        self.label: Final = label
        self.info: Final = info
        self._cancel_scope: Final = cancel_scope
        self._parts: Final[dict[str, Part]] = {}
        self._failures: Final[dict[str, TransferFailed]] = {}
        self._left = 0
        self._sealed = False
        self._over: Final = trio.Event()
        self._watchers: Final[weakref.WeakSet[TransferProgress]] = weakref.WeakSet()

    def __repr__(self) -> str:
        members = len(self._parts)
        return f"<Transfer on {self.label!r} to {members} members, {members - self._left} through>"

    @property
    def members(self) -> tuple[str, ...]:
        """The ids of those that it goes to."""
        return tuple(self._parts)

    @property
    def failures(self) -> Mapping[str, TransferFailed]:
        """Those that it did not reach, so far, by id, in the order in which they failed."""
        return MappingProxyType(self._failures)

    @property
    def done(self) -> bool:
        """Whether all members are through: each has acknowledged, or failed."""
        return self._over.is_set()

    @property
    def progress(self) -> Mapping[str, Progress]:
        """How far it is now, by member."""
        return {member: self.progress_of(member) for member in self._parts}

    def cancel(self) -> None:
        """Stops it: members that have not acknowledged yet fail as ``cancelled``, and are told. Idempotent."""
        self._fail_all("cancelled", "the transfer was cancelled here")

    def __await__(self) -> Generator[Any, None, None]:
        return self._wait().__await__()

    async def _wait(self) -> None:
        try:
            await self._over.wait()
        except trio.Cancelled:
            self.cancel()
            raise
        for failure in self._failures.values():
            # A new one: an exception that is raised by several tasks would collect all their tracebacks.
            raise TransferFailed(failure.member, failure.reason, str(failure)) from failure.__cause__

    def __aiter__(self) -> TransferProgress:
        return TransferProgress(self)

    # For who starts it

    def part(self, member: str) -> Part:
        """A new part, for one more member."""
        part = self._parts[member] = Part(self, member)
        self._left += 1
        return part

    def seal(self) -> None:
        """There are no more parts."""
        self._sealed = True
        self._check_over()

    @property
    def runs(self) -> bool:
        """Whether `run` has something to do."""
        return not self.done and (self._cancel_scope is not None or self.source.runs)

    async def run(self) -> None:
        """Feeds the source's readers, and watches the cancel scope; until all members are through."""
        try:
            with ExitStack() as stack:
                if self._cancel_scope is not None:
                    try:
                        stack.enter_context(self._cancel_scope)
                    except RuntimeError as error:
                        self._fail_all("cancelled", "expected a cancel scope that is used nowhere else", error)
                await self._feed()
        finally:
            self.cancel()

    async def _feed(self) -> None:
        if self.source.runs and not self.done:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._run_source)
                await self._over.wait()
                nursery.cancel_scope.cancel()
        else:
            await self._over.wait()

    async def _run_source(self) -> None:
        try:
            await self.source.run()
        except SourceFailed as error:
            self._fail_all("source-failed", str(error), error.__cause__)

    # For its parts

    def on_progress(self, member: str) -> None:
        """A part has come further."""
        for watcher in self._watchers:
            watcher.on_progress(member)

    def on_part_over(self, part: Part) -> None:
        """A part is through."""
        self._left -= 1
        if part.failure is not None:
            self._failures[part.member] = part.failure
        self.on_progress(part.member)
        self._check_over()

    def progress_of(self, member: str) -> Progress:
        """How far it is now, for one member."""
        part = self._parts[member]
        return Progress(member, self.label, part.current, self.source.total, part.over and part.failure is None)

    def _fail_all(self, reason: TransferFailure, message: str, cause: BaseException | None = None) -> None:
        for part in list(self._parts.values()):
            part.fail(reason, message, cause)

    def _check_over(self) -> None:
        if self._sealed and not self._left and not self._over.is_set():
            self._over.set()
            self.source.close()
            for watcher in self._watchers:
                watcher.on_over()


class TransferProgress:
    """An iteration over the progress of a transfer; it begins with what has happened so far."""

    def __init__(self, transfer: Transfer) -> None:
        self._transfer: Final = transfer
        self._news: Final = dict.fromkeys(
            member for member, now in transfer.progress.items() if now.current or now.done
        )
        self._lot: Final = trio.lowlevel.ParkingLot()
        transfer._watchers.add(self)

    def __aiter__(self) -> TransferProgress:
        return self

    async def __anext__(self) -> Progress:
        await trio.lowlevel.checkpoint()
        while not self._news:
            if self._transfer.done:
                raise StopAsyncIteration
            await self._lot.park()
        member = next(iter(self._news))
        del self._news[member]
        return self._transfer.progress_of(member)

    def on_progress(self, member: str) -> None:
        """There is something new of a member; it waits its turn, whatever comes meanwhile."""
        self._news[member] = None
        self._lot.unpark()

    def on_over(self) -> None:
        """There is nothing more to come."""
        self._lot.unpark_all()
