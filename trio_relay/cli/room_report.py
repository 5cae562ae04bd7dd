"""What `trio-relay room` says: lines for people or for pipes, JSON for programs. For terminals: `room_terminal`."""

from __future__ import annotations

import sys
from typing import Final, Protocol

import trio

from ..wire.json import JSONValue
from .reports import encode_line
from .stdio import Out

__all__ = ["Bar", "JsonRoomReport", "PlainRoomReport", "RoomReport"]

_BARE: Final = frozenset({"message", "saved"})
_EVERY: Final = 0.5
"""Seconds between two reports of one transfer's progress."""


class Bar(Protocol):
    """How far a transfer has come."""

    async def advance(self, current: int, total: int | None) -> None:
        """So many bytes of so many; None: that is not known."""
        ...

    def close(self) -> None:
        """Plain. It is over. Idempotent."""
        ...


class RoomReport(Protocol):
    """Where everything is told.

    Attributes:
        is_terminal: lines go to a terminal, where control characters do harm.
    """

    @property
    def is_terminal(self) -> bool:
        """See above."""
        ...

    async def tell(self, line: str | None, event: str, **members: JSONValue) -> None:
        """Something has happened: as a line for people, without control characters, and as an object for programs.

        Args:
            line: None: people need not be told.
        """
        ...

    def bar(self, title: str, **members: JSONValue) -> Bar:
        """A transfer begins."""
        ...


class PlainRoomReport:
    """Lines, without progress.

    Args:
        encoding: of standard output; what it lacks is written as an escape.
        bare: only what came is written there, as it is, for scripts; everything else goes to standard error.
    """

    is_terminal: Final = False

    def __init__(self, out: Out, encoding: str, *, bare: bool = False) -> None:
        self._out: Final = out
        self._encoding: Final = encoding
        self._bare: Final = bare

    async def tell(self, line: str | None, event: str, **members: JSONValue) -> None:
        """See `RoomReport`; so below."""
        if line is None:
            await trio.lowlevel.checkpoint()
        elif self._bare and event not in _BARE:
            print(line, file=sys.stderr, flush=True)
        else:
            await self._out.send(line.encode(self._encoding, "backslashreplace"))

    def bar(self, title: str, **members: JSONValue) -> Bar:
        return _NoBar()


class _NoBar:
    async def advance(self, current: int, total: int | None) -> None:
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        pass


class JsonRoomReport:
    """One object a line; docs/cli.md has the table."""

    is_terminal: Final = False

    def __init__(self, out: Out) -> None:
        self._out: Final = out

    async def tell(self, line: str | None, event: str, **members: JSONValue) -> None:
        """See `RoomReport`; so below."""
        await self._out.send(encode_line({"event": event, **members}))

    def bar(self, title: str, **members: JSONValue) -> Bar:
        return _JsonBar(self, members)


class _JsonBar:
    def __init__(self, report: JsonRoomReport, members: dict[str, JSONValue]) -> None:
        self._report: Final = report
        self._members: Final = members
        self._next = trio.current_time() + _EVERY

    async def advance(self, current: int, total: int | None) -> None:
        now = trio.current_time()
        if now < self._next:
            await trio.lowlevel.checkpoint()
            return
        self._next = now + _EVERY
        await self._report.tell(None, "progress", **self._members, current=current, total=total)

    def close(self) -> None:
        pass
