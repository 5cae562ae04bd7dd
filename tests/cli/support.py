"""The installed command as a process, and what it writes; or in a thread, where the claim is about no process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import trio

from trio_relay.cli import main

DEADLINE: Final = 30.0
"""Seconds for what takes a fraction of one; never waited for when a test passes."""

COMMAND: Final = (sys.executable, "-m", "trio_relay")

NOBODY: Final = "0123456789abcdef0123456789abcdef01234567"
"""An id that no test's node has."""


def environment() -> dict[str, str]:
    """This process's, without what makes Python programs start slowly, or write otherwise than they do for users."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


async def run_command(
    *arguments: str, stdin: bytes = b"", start_new_session: bool = False
) -> subprocess.CompletedProcess[bytes]:
    """Runs a command to its end; in a session of its own it has no terminal."""
    with trio.fail_after(DEADLINE):
        return await trio.run_process(
            [*COMMAND, *arguments],
            stdin=stdin,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            start_new_session=start_new_session,
            env=environment(),
        )


async def run_here(*arguments: str) -> int:
    """Runs a command in a thread, beside the nodes of the test: quicker than a process; returns its exit code."""
    with trio.fail_after(DEADLINE):
        return await trio.to_thread.run_sync(main, arguments)


class Running:
    """A command that runs; its lines are read with a deadline.

    Attributes:
        lines: those that were read while another was waited for.
    """

    def __init__(self, process: trio.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self.process: Final = process
        self.stdin: Final = process.stdin
        self.stdout: Final = process.stdout
        self.stderr: Final = process.stderr
        self.lines: Final[list[str]] = []
        self._start: Final = bytearray()

    async def line(self, start: str = "") -> str:
        """The next line that starts so; those before it are kept in `lines`. Without its end."""
        for position, line in enumerate(self.lines):
            if line.startswith(start):
                return self.lines.pop(position)
        with trio.fail_after(DEADLINE):
            while not (line := await self._read_line()).startswith(start):
                self.lines.append(line)
        return line

    async def _read_line(self) -> str:
        while b"\n" not in self._start:
            data = await self.stdout.receive_some()
            if not data:
                errors = await self.errors()
                raise AssertionError(f"the output ended after {self.lines} and {bytes(self._start)!r}: {errors}")
            self._start.extend(data)
        end = self._start.index(b"\n")
        line = self._start[:end].decode()
        del self._start[: end + 1]
        return line

    async def rest(self) -> list[str]:
        """Every line that was not taken, to the end of the output."""
        with trio.fail_after(DEADLINE):
            async for data in self.stdout:
                self._start.extend(data)
        found = [*self.lines, *self._start.decode().splitlines()]
        self.lines.clear()
        self._start.clear()
        return found

    async def errors(self) -> str:
        """Everything on standard error, to its end."""
        with trio.fail_after(DEADLINE):
            return b"".join([data async for data in self.stderr]).decode()

    async def wait(self) -> int:
        """The exit code."""
        with trio.fail_after(DEADLINE):
            return await self.process.wait()

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Sends a signal and returns the exit code."""
        self.process.send_signal(number)
        return await self.wait()


class JsonRunning(Running):
    """``node --jsonl``."""

    async def event(self, **members: object) -> dict[str, Any]:
        """The next object with these members; those before it are kept in `lines`."""
        for position, line in enumerate(self.lines):
            if _matches(json.loads(line), members):
                return json.loads(self.lines.pop(position))  # type: ignore[no-any-return]
        with trio.fail_after(DEADLINE):
            while not _matches(value := json.loads(line := await self._read_line()), members):
                self.lines.append(line)
        return value  # type: ignore[no-any-return]

    async def write(self, data: bytes) -> None:
        """Writes to its standard input."""
        with trio.fail_after(DEADLINE):
            await self.stdin.send_all(data)

    async def ask(self, ref: object, **command: object) -> dict[str, Any]:
        """Writes a command and returns its reply."""
        await self.write(json.dumps({**command, "ref": ref}).encode() + b"\n")
        return await self.event(ref=ref)


def _matches(value: Mapping[str, object], members: Mapping[str, object]) -> bool:
    return all(name in value and value[name] == member for name, member in members.items())


@asynccontextmanager
async def open_process(*arguments: str) -> AsyncIterator[trio.Process]:
    """A process, which is killed at the end of the block if it still runs."""
    process = await trio.lowlevel.open_process(
        [*COMMAND, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                assert stream is not None
                await stream.aclose()


@asynccontextmanager
async def open_readable(*arguments: str) -> AsyncIterator[Running]:
    """``node``, for people."""
    async with open_process("node", *arguments) as process:
        yield Running(process)


@asynccontextmanager
async def open_json(*arguments: str) -> AsyncIterator[tuple[JsonRunning, dict[str, Any]]]:
    """``node --jsonl``, and its first line."""
    async with open_process("node", "--jsonl", *arguments) as process:
        running = JsonRunning(process)
        first = await running.event()
        assert first["event"] == "listening"
        yield running, first
