"""Lines and progress bars on a terminal, drawn by rich.

rich waits for the terminal while it writes, which somebody may have stopped with Ctrl-S: so it draws in a thread, one
drawing at a time, and the room goes on meanwhile. It is loaded by this file alone.
"""

from __future__ import annotations

import os
import select
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import trio

from ..wire.json import JSONValue
from .options import UsageError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["TerminalReport", "open_terminal"]

_LINES: Final = 64
"""Lines that wait to be drawn; then whoever has one more waits."""
_EVERY: Final = 0.1
"""Seconds between two drawings of progress."""
_LAST_WORDS: Final = 5.0


class TerminalReport:
    """A `RoomReport` for a terminal."""

    is_terminal: Final = True

    def __init__(self, descriptor: int, encoding: str) -> None:
        self._send, self._lines = trio.open_memory_channel[str](_LINES)
        self._bars: Final[dict[TerminalBar, None]] = {}
        self._changed = trio.Event()
        self._canvas: Final = _Canvas(descriptor, encoding)
        self._closed = False

    async def tell(self, line: str | None, event: str, **members: JSONValue) -> None:
        """See `RoomReport`; so below."""
        if line is not None:
            self.wake()
            await self._send.send(line)

    def bar(self, title: str, **members: JSONValue) -> TerminalBar:
        bar = TerminalBar(self, title)
        self._bars[bar] = None
        return bar

    def wake(self) -> None:
        """There is something to draw."""
        self._changed.set()

    def remove(self, bar: TerminalBar) -> None:
        """It is over."""
        self._bars.pop(bar, None)
        self.wake()

    def close(self) -> None:
        """Nothing more is told: `run` draws what is left, without bars, and ends."""
        self._closed = True
        self._bars.clear()
        self.wake()

    async def run(self) -> None:
        """Draws, until `close`."""
        try:
            closed = False
            while not closed:
                await self._changed.wait()
                self._changed = trio.Event()
                closed = self._closed
                lines = self._take_lines()
                bars = [(bar, bar.title, bar.current, bar.total) for bar in self._bars]
                await trio.to_thread.run_sync(self._canvas.draw, lines, bars, abandon_on_cancel=True)
                if not (closed or lines):
                    await trio.sleep(_EVERY)
        finally:
            self._lines.close()

    def _take_lines(self) -> list[str]:
        lines = []
        while True:
            try:
                lines.append(self._lines.receive_nowait())
            except trio.WouldBlock:
                return lines


class TerminalBar:
    """A `Bar`."""

    def __init__(self, report: TerminalReport, title: str) -> None:
        self.title: Final = title
        self.current = 0
        self.total: int | None = None
        self._report: Final = report

    async def advance(self, current: int, total: int | None) -> None:
        """See `Bar`; so below."""
        self.current, self.total = current, total
        self._report.wake()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        self._report.remove(self)


class _Canvas:
    """rich's side; all of it happens in one thread at a time."""

    def __init__(self, descriptor: int, encoding: str) -> None:
        try:
            from rich import console, progress, text
        except ImportError as error:
            raise UsageError(
                "a room on a terminal needs rich, which is not installed: pip install 'trio-relay[room]'"
            ) from error
        self._text: Final = text.Text
        self._console: Final = console.Console(
            file=_Descriptor(descriptor, encoding),  # type: ignore[arg-type]
            force_terminal=True,
            markup=False,
            emoji=False,
            highlight=False,
        )
        self._progress: Final[Progress] = progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.DownloadColumn(),
            progress.TransferSpeedColumn(),
            progress.TimeRemainingColumn(),
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._tasks: Final[dict[TerminalBar, TaskID]] = {}
        self._started = False

    def draw(self, lines: list[str], bars: list[tuple[TerminalBar, str, int, int | None]]) -> None:
        """Lines above, bars below them; without bars nothing is left of them."""
        present = {bar for bar, *_ in bars}
        for bar in [bar for bar in self._tasks if bar not in present]:
            self._progress.remove_task(self._tasks.pop(bar))
        if self._started and not bars:
            self._progress.stop()
            self._started = False
        for line in lines:
            self._console.print(self._text(line), soft_wrap=True)
        if bars and not self._started:
            self._progress.start()
            self._started = True
        for bar, title, current, total in bars:
            if bar not in self._tasks:
                self._tasks[bar] = self._progress.add_task(title, total=total)
            self._progress.update(self._tasks[bar], completed=current, total=total)
        if self._started:
            self._progress.refresh()


class _Descriptor:
    """A file of text as rich writes one, without the lock of `sys.stdout`: see `stdio`."""

    def __init__(self, descriptor: int, encoding: str) -> None:
        self._descriptor: Final = descriptor
        self.encoding: Final = encoding

    def write(self, text: str) -> int:
        left = memoryview(text.encode(self.encoding, "backslashreplace"))
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:
                select.select([], [self._descriptor], [])
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor


@asynccontextmanager
async def open_terminal(descriptor: int, encoding: str) -> AsyncIterator[TerminalReport]:
    """A report for the terminal of a descriptor; what was told is drawn at the end, within a few seconds.

    Raises:
        UsageError: rich is not installed.
        OSError: the terminal can't be written.
    """
    report = TerminalReport(descriptor, encoding)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(report.run)
        try:
            yield report
        finally:
            report.close()
            nursery.cancel_scope.shield = True
            nursery.cancel_scope.deadline = trio.current_time() + _LAST_WORDS
