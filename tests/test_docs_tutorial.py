"""The tutorial, step by step as it stands: its files, its commands, what they print. And the examples that are
processes: `relay.py`, `relay_server.py`.

Commands that go on (nodes, the greeter) run as processes until the end; the others run here, but for pytest. Port 9001
is a free one, `ID` is what the process printed that was started last.
"""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Final

import pytest
import trio

from trio_relay import Identity
from trio_relay.cli import main
from trio_relay.wsrelay import open_relay_client

from .documents import DOCS, Block, blocks
from .shown import check_output

DEADLINE: Final = 30.0
"""Seconds for what takes a fraction of one; never waited for when a test passes."""
ENVIRONMENT: Final = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
GO_ON: Final = ("trio-relay node", "python greeter.py")
ADDRESS: Final = "127.0.0.1:9001"


def argv_of(line: str) -> list[str]:
    """How a process runs a line, whatever is on the path."""
    words = shlex.split(line)
    return [sys.executable, *(["-m", "trio_relay", *words[1:]] if words[0] == "trio-relay" else words[1:])]


@contextmanager
def running(line: str) -> Iterator[subprocess.Popen[str]]:
    """A process, for as long as the block; then SIGTERM ends it, in order if it can."""
    pipe = subprocess.PIPE
    with subprocess.Popen(argv_of(line), stdin=pipe, stdout=pipe, text=True, env=ENVIRONMENT) as process:
        watch = threading.Timer(DEADLINE, process.kill)
        watch.start()
        try:
            yield process
        finally:
            watch.cancel()
            process.terminate()
            try:
                process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                process.kill()


def read_lines(process: subprocess.Popen[str], count: int) -> str:
    assert process.stdout is not None
    return "".join([process.stdout.readline() for _ in range(count)])


class Walk:
    """Whoever follows the tutorial: one folder, several terminals."""

    def __init__(
        self, terminals: ExitStack, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self._terminals: Final = terminals
        self._capsys: Final = capsys
        self._monkeypatch: Final = monkeypatch
        self._begun: Final = dict[str, subprocess.Popen[str]]()
        self._address = "127.0.0.1:0"
        self._id = ""

    def begin(self, line: str) -> None:
        """Starts what takes long, and needs nothing but the files, before its turn."""
        self._begun[line] = self._terminals.enter_context(running(line))

    def take(self, block: Block, shown: Block | None) -> None:
        """One shell block."""
        for written in block.code.splitlines():
            line = re.sub(r"\bID\b", self._id, written.replace(ADDRESS, self._address))
            if line.startswith(GO_ON):
                assert shown is not None, f"{block}: whoever starts it wants to know what it shows"
                process = self._terminals.enter_context(running(line))
                printed = read_lines(process, len(shown.code.splitlines()))
                self._id = re.findall(r"\b[0-9a-f]{40}\b", printed)[0]
                self._address = next(iter(re.findall(r"listening on ws://(\S+)", printed)), self._address)
            else:
                printed = self._run(line)
            if shown is not None:
                check_output(shown, printed)

    def _run(self, line: str) -> str:
        command, *arguments = shlex.split(line)
        if command == "trio-relay":
            assert main(arguments) == 0
        elif arguments[0] == "-m":
            process = self._begun.pop(line)
            printed, _ = process.communicate(timeout=DEADLINE)
            assert process.returncode == 0, printed
            return printed
        else:
            self._monkeypatch.setattr(sys, "argv", arguments)
            runpy.run_path(arguments[0], run_name="__main__")
        return self._capsys.readouterr().out


def test_every_step_of_the_tutorial(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = blocks(DOCS / "tutorial.md")
    steps = 0
    with ExitStack() as terminals:
        walk = Walk(terminals, capsys, monkeypatch)
        for block in found:
            if block.mark == "file":
                (tmp_path / block.reason.partition(", as ")[0]).write_text(block.code, encoding="utf-8")
        walk.begin("python -m pytest -q test_greeter.py")
        for block, following in zip_longest(found, found[1:]):
            if block.language == "sh":
                steps += 1
                walk.take(block, following if following is not None and following.mark == "output" else None)
            else:
                assert block.mark in ("file", "output"), f"{block} is no step"
    assert steps >= 8


def test_the_relay_of_the_examples_ends_in_order(tmp_path: Path) -> None:
    key, guests = tmp_path / "relay.pem", tmp_path / "guests.txt"
    Identity.generate().save(key)
    guests.write_text(f"{Identity.generate().id.hex()}\n{Identity.generate().id.hex()}\n", encoding="utf-8")
    with running(f"python {DOCS / 'examples' / 'relay.py'} {key} {guests} 127.0.0.1:0") as process:
        assert read_lines(process, 1).startswith(f"relay {Identity.load(key).id.hex()} ws://127.0.0.1:")
    assert process.returncode == 0


def test_the_relay_server_of_the_examples_ends_in_order(tmp_path: Path) -> None:
    keys = tmp_path / "keys.txt"
    keys.write_text("# those who may connect\nfirst-key\n", encoding="utf-8")

    async def talk(url: str) -> object:
        with trio.fail_after(DEADLINE):
            async with open_relay_client(url, "chat", "alice-0001", key="first-key") as client:
                await client.send("chat:alice-0001", "a message to myself")
                return (await client.receive()).payload

    with running(f"python {DOCS / 'examples' / 'relay_server.py'} {keys} 127.0.0.1:0") as process:
        url = read_lines(process, 1).removeprefix("relay server at ").strip()
        assert trio.run(talk, url) == "a message to myself"
    assert process.returncode == 0
