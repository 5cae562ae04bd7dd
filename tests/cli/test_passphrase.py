"""Encrypted identity files: the passphrase comes from the terminal or from a file, and shows up nowhere."""

from __future__ import annotations

import getpass
import os
import pty
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
import trio

from trio_relay.cli import main
from trio_relay.cli.options import UsageError
from trio_relay.cli.passphrase import ask_new
from trio_relay.identity import MAX_PASSPHRASE, Identity

from .support import COMMAND, DEADLINE, NOBODY, environment, open_json, run_command

Capture = pytest.CaptureFixture[str]

PASSPHRASE: Final = "open sesame"
SEND: Final = ("send", NOBODY, "hello", "--bootstrap", "ws://127.0.0.1:1", "--timeout", "0.1")
NO_TERMINAL: Final = "trio-relay: expected a terminal to ask for the passphrase, or --passphrase-file\n"
WRONG: Final = "expected the passphrase of this encrypted private key, and got another, or the file is damaged"

ON_TERMINAL: Final = """\
import fcntl, os, sys, termios
fcntl.ioctl(os.open(sys.argv[1], os.O_RDWR), termios.TIOCSCTTY, 0)
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Gives a new session its terminal; standard input, output and error may be others."""


class Terminal:
    """What a person at a terminal sees and types.

    Attributes:
        process: what runs there, with pipes as standard input, output and error.
        seen: all of the terminal's text so far.
    """

    def __init__(self, process: trio.Process, stream: trio.lowlevel.FdStream) -> None:
        self.process: Final = process
        self.seen = ""
        self._stream: Final = stream

    async def answer(self, prompt: str, line: str) -> None:
        """Waits for a prompt, which has not been answered yet, and types a line."""
        with trio.fail_after(DEADLINE):
            while not self.seen.endswith(prompt):
                self.seen += (await self._stream.receive_some()).decode()
            await self._stream.send_all(f"{line}\n".encode())

    async def finish(self) -> tuple[int, str, str]:
        """Waits for the end of the process; returns its exit code, and what it wrote to its output and errors."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        with trio.fail_after(DEADLINE):
            code = await self.process.wait()
            out, err = [b"".join([data async for data in pipe]) for pipe in (self.process.stdout, self.process.stderr)]
            # What it wrote to the terminal is there already; the line end that is typed here comes after all that.
            await self._stream.send_all(b"\n")
            while not self.seen.endswith("\r\n\r\n"):
                self.seen += (await self._stream.receive_some()).decode()
        return code, out.decode(), err.decode()


@asynccontextmanager
async def open_on_terminal(*arguments: str) -> AsyncIterator[Terminal]:
    """A command with a controlling terminal."""
    here, there = pty.openpty()
    async with trio.lowlevel.FdStream(here) as stream:
        try:
            process = await trio.lowlevel.open_process(
                [sys.executable, "-c", ON_TERMINAL, os.ttyname(there), *COMMAND, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                env=environment(),
            )
            try:
                yield Terminal(process, stream)
            finally:
                if process.poll() is None:
                    process.kill()
                with trio.CancelScope(shield=True):
                    await process.wait()
                    for pipe in (process.stdin, process.stdout, process.stderr):
                        assert pipe is not None
                        await pipe.aclose()
        finally:
            os.close(there)


@pytest.fixture
def encrypted(tmp_path: Path) -> Path:
    """The file of an encrypted identity."""
    path = tmp_path / "key.pem"
    Identity.generate().save(path, PASSPHRASE)
    return path


def type_in(monkeypatch: pytest.MonkeyPatch, *answers: str | Exception) -> list[str]:
    """Answers `getpass`; the questions come into the list that it returns."""
    asked: list[str] = []
    waiting = iter(answers)

    def answer(prompt: str) -> str:
        asked.append(prompt)
        reply = next(waiting)
        if isinstance(reply, Exception):
            raise reply
        return reply

    monkeypatch.setattr(getpass, "getpass", answer)
    return asked


def refusal(arguments: list[str], capture: Capture) -> str:
    """What the only line on standard error says."""
    assert main(arguments) == 2
    shown = capture.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert PASSPHRASE not in shown.err
    return shown.err.removeprefix("trio-relay: ").removesuffix("\n")


# At a terminal


async def test_keygen_asks_twice(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    async with open_on_terminal("keygen", "--passphrase", str(path)) as terminal:
        await terminal.answer(f"New passphrase for '{path}': ", PASSPHRASE)
        await terminal.answer("The same again: ", PASSPHRASE)
        code, out, err = await terminal.finish()
    assert (code, err) == (0, "")
    assert out == Identity.load(path, PASSPHRASE).id.hex() + "\n"
    assert PASSPHRASE not in terminal.seen


async def test_node_asks_once(encrypted: Path) -> None:
    """Its standard input is for commands; the end of it ends the node."""
    async with open_on_terminal("node", "--jsonl", "--verbose", "--identity", str(encrypted)) as terminal:
        await terminal.answer(f"Passphrase for '{encrypted}': ", PASSPHRASE)
        assert terminal.process.stdin is not None
        await terminal.process.stdin.aclose()
        code, out, err = await terminal.finish()
    assert (code, err) == (0, "")
    assert f'"id":"{Identity.load(encrypted, PASSPHRASE).id.hex()}"' in out.splitlines()[0]
    assert PASSPHRASE not in terminal.seen


# Without one


async def test_without_a_terminal(encrypted: Path) -> None:
    finished = await run_command(*SEND, "--identity", str(encrypted), start_new_session=True)
    assert (finished.returncode, finished.stdout) == (2, b"")
    assert finished.stderr.decode() == NO_TERMINAL


async def test_keygen_without_a_terminal(tmp_path: Path) -> None:
    arguments = ("keygen", "--passphrase", str(tmp_path / "key.pem"))
    finished = await run_command(*arguments, stdin=b"hunter2\nhunter2\n", start_new_session=True)
    assert (finished.returncode, finished.stdout) == (2, b"")
    assert finished.stderr.decode() == NO_TERMINAL
    assert os.listdir(tmp_path) == []


# What is typed

UNDECODABLE: Final = UnicodeDecodeError("utf-8", PASSPHRASE.encode() + b"\xff", 11, 12, "invalid start byte")


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([PASSPHRASE, PASSPHRASE + " "], "the two passphrases differ; nothing was written"),
        ([PASSPHRASE, ""], "the two passphrases differ; nothing was written"),
        ([""], "expected a passphrase, not an empty one; without --passphrase, the key is not encrypted"),
        ([EOFError()], "expected a passphrase, and the input ended"),
        ([UNDECODABLE], "expected a passphrase in the terminal's encoding"),
        ([OSError(5, "Input/output error")], "can't ask for the passphrase: Input/output error"),
        (["\ud800", "\ud800"], "expected a passphrase that UTF-8 can express"),
        (["x" * 1024, "x" * 1024], "expected a passphrase of 1 to 1023 bytes, not 1024"),
    ],
)
def test_keygen_refuses_what_is_typed(
    answers: list[str | Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    asked = type_in(monkeypatch, *answers)
    assert refusal(["keygen", "--passphrase", str(tmp_path / "key.pem")], capfd) == message
    assert len(asked) == len(answers)
    assert list(tmp_path.iterdir()) == []


def test_no_error_hangs_on_one_that_has_the_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    type_in(monkeypatch, UNDECODABLE)
    with pytest.raises(UsageError) as caught:
        ask_new("key.pem")
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def test_keygen_does_not_ask_in_vain(encrypted: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture) -> None:
    asked = type_in(monkeypatch)
    assert refusal(["keygen", "--passphrase", str(encrypted)], capfd) == f"{encrypted} exists; --force overwrites it"
    assert asked == []


def test_nothing_is_typed(encrypted: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture) -> None:
    type_in(monkeypatch, "")
    expected = f"{encrypted}: expected a passphrase for this encrypted private key, not an empty one"
    assert refusal(["node", "--identity", str(encrypted)], capfd) == expected


def test_a_wrong_passphrase_is_not_asked_for_again(
    encrypted: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    asked = type_in(monkeypatch, "hunter2")
    assert refusal(["node", "--identity", str(encrypted)], capfd) == f"{encrypted}: {WRONG}"
    assert asked == [f"Passphrase for '{encrypted}': "]


def test_only_an_encrypted_key_is_asked_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture) -> None:
    path = tmp_path / "key.pem"
    Identity.generate().save(path)
    asked = type_in(monkeypatch)
    assert main([*SEND, "--identity", str(path)]) == 1
    assert capfd.readouterr().err.startswith("trio-relay: not delivered: no link with ")
    assert asked == []


def test_it_is_asked_before_trio_runs(encrypted: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture) -> None:
    in_trio: list[bool] = []

    def answer(prompt: str) -> str:
        try:
            trio.lowlevel.current_trio_token()
        except RuntimeError:
            in_trio.append(False)
        else:
            in_trio.append(True)
        return PASSPHRASE

    monkeypatch.setattr(getpass, "getpass", answer)
    assert main([*SEND, "--identity", str(encrypted)]) == 1
    assert capfd.readouterr().err.startswith("trio-relay: not delivered: no link with ")
    assert in_trio == [False]


def test_a_passphrase_is_no_argument(tmp_path: Path, capfd: Capture) -> None:
    for arguments in (["keygen", str(tmp_path / "key.pem"), "--passphrase=x"], ["node", "--passphrase", "x"]):
        assert refusal(arguments, capfd).endswith("--help")
    assert list(tmp_path.iterdir()) == []


# Passphrase files


@pytest.mark.parametrize("content", ["{}", "{}\n", "{}\r\nsecond line\n"], ids=["no line end", "line", "lines"])
def test_keygen_takes_a_passphrase_file(content: str, tmp_path: Path, capfd: Capture) -> None:
    path, secret, passphrase = tmp_path / "key.pem", tmp_path / "secret", f" {PASSPHRASE} \t"
    secret.write_bytes(content.format(passphrase).encode())
    assert main(["keygen", str(path), "--passphrase-file", str(secret)]) == 0
    assert capfd.readouterr() == (f"{Identity.load(path, passphrase).id.hex()}\n", "")


async def test_node_takes_a_passphrase_file(encrypted: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(f"{PASSPHRASE}\n")
    async with open_json("--identity", str(encrypted), "--passphrase-file", str(secret)) as (running, first):
        assert first["id"] == Identity.load(encrypted, PASSPHRASE).id.hex()
        assert await running.stop() == 0
        assert await running.errors() == ""


def test_send_takes_a_passphrase_file(encrypted: Path, tmp_path: Path, capfd: Capture) -> None:
    secret = tmp_path / "secret"
    secret.write_text(PASSPHRASE)
    assert main([*SEND, "--identity", str(encrypted), "--passphrase-file", str(secret)]) == 1
    assert capfd.readouterr().err.startswith("trio-relay: not delivered: no link with ")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "can't read passphrase file {}: No such file or directory"),
        (Path.mkdir, "can't read passphrase file {}: Is a directory"),
        (lambda path: path.write_bytes(b""), "{}: expected a passphrase of 1 to 1023 bytes on the first line"),
        (lambda path: path.write_bytes(b"\r\nx"), "{}: expected a passphrase of 1 to 1023 bytes on the first line"),
        (lambda path: path.symlink_to("/dev/zero"), "{}: expected a passphrase of 1 to 1023 bytes on the first line"),
    ],
    ids=["missing", "directory", "empty", "empty line", "device"],
)
@pytest.mark.parametrize("command", ["keygen", "node", "send"])
def test_unusable_passphrase_file(
    command: str, write: Callable[[Path], object], message: str, encrypted: Path, tmp_path: Path, capfd: Capture
) -> None:
    secret, new = tmp_path / "secret", tmp_path / "new.pem"
    write(secret)
    arguments = {
        "keygen": ["keygen", str(new)],
        "node": ["node", "--identity", str(encrypted)],
        "send": [*SEND, "--identity", str(encrypted)],
    }[command]
    assert refusal([*arguments, "--passphrase-file", str(secret)], capfd) == message.format(secret)
    assert not new.exists()


def test_the_longest_passphrase(tmp_path: Path, capfd: Capture) -> None:
    path, secret = tmp_path / "key.pem", tmp_path / "secret"
    secret.write_bytes(b"x" * MAX_PASSPHRASE + b"\r\n")
    assert main(["keygen", str(path), "--passphrase-file", str(secret)]) == 0
    assert capfd.readouterr().out == Identity.load(path, "x" * MAX_PASSPHRASE).id.hex() + "\n"


def test_a_passphrase_file_with_another_passphrase(encrypted: Path, tmp_path: Path, capfd: Capture) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2\n")
    arguments = ["node", "--identity", str(encrypted), "--passphrase-file", str(secret)]
    assert refusal(arguments, capfd) == f"{encrypted}: {WRONG}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["node", "--passphrase-file", "secret"], "expected --identity beside --passphrase-file"),
        ([*SEND, "--passphrase-file", "secret"], "expected --identity beside --passphrase-file"),
        (
            ["keygen", "key.pem", "--passphrase", "--passphrase-file", "secret"],
            "argument --passphrase-file: not allowed with argument --passphrase; see trio-relay keygen --help",
        ),
    ],
    ids=["node", "send", "keygen"],
)
def test_options_that_do_not_fit(arguments: list[str], message: str, capfd: Capture) -> None:
    assert refusal(arguments, capfd) == message
