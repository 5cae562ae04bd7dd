"""The room on a terminal, which is a pseudo-terminal; and as processes."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

import trio_relay
from trio_relay.cli.options import UsageError
from trio_relay.cli.room_report import JsonRoomReport, PlainRoomReport
from trio_relay.cli.room_terminal import open_terminal

from .support import DEADLINE, Running, open_process

SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Both ends: what a terminal shows, and where programs write."""
    shown, written = os.openpty()
    try:
        yield shown, written
    finally:
        os.close(shown)
        os.close(written)


async def test_lines_and_bars_on_a_terminal(terminal: tuple[int, int]) -> None:
    shown, written = terminal
    text = ""
    with trio.fail_after(DEADLINE):
        async with open_terminal(written, "utf-8") as report:
            bar, other = report.bar("[red]film.mp4[/] to bob"), report.bar("other")
            await bar.advance(1_000_000, 5_000_000)
            await other.advance(0, None)
            while "1.0/5.0 MB" not in text:
                text += await trio.to_thread.run_sync(lambda: os.read(shown, 65536).decode("utf-8", "replace"))
            bar.close()
            bar.close()
            other.close()
            await report.tell("bob: [bold]hi[/] :smile: " + "x" * 200, "message")
            await report.tell(None, "sent")
        while "x" * 200 not in text:
            text += await trio.to_thread.run_sync(lambda: os.read(shown, 65536).decode("utf-8", "replace"))
    assert "[red]film.mp4[/] to bob" in SEQUENCE.sub("", text)
    last = SEQUENCE.sub("", text[text.rindex("bob: [bold]") :])
    assert last.splitlines()[0] == "bob: [bold]hi[/] :smile: " + "x" * 200
    assert text.index("\x1b[?25h") > text.index("\x1b[?25l"), "the cursor is there again"


async def test_a_terminal_that_was_stopped_does_not_hold_up_the_room(terminal: tuple[int, int]) -> None:
    shown, written = terminal
    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as nursery, open_terminal(written, "utf-8") as report:
            bar = report.bar("film")
            with trio.move_on_after(0.2) as waited:
                while True:
                    await report.tell("x" * 1000, "message")
            assert waited.cancelled_caught, "who tells more than fits waits"
            for number in range(2000):
                await bar.advance(number, None)
            nursery.start_soon(trio.to_thread.run_sync, drain, shown)


def drain(descriptor: int) -> None:
    """Reads until there is nothing for a moment."""
    while select.select([descriptor], [], [], 0.3)[0]:
        os.read(descriptor, 65536)


async def test_a_terminal_without_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)
    with pytest.raises(UsageError, match=r"pip install 'trio-relay\[room\]'"):
        async with open_terminal(1, "utf-8"):
            pass


async def test_lines_for_pipes_and_programs(capfd: pytest.CaptureFixture[str], autojump_clock: object) -> None:
    out, lines = trio.open_memory_channel[bytes](100)
    for bare in (False, True):
        plain = PlainRoomReport(out, "ascii", bare=bare)
        await plain.tell("é", "message")
        await plain.tell("* é has come", "member")
        await plain.bar("film").advance(1, 2)
        await plain.tell(None, "sent")
    report = JsonRoomReport(out)
    await report.tell("bob: hi", "message", **{"from": "bob", "text": "hi\x1b"})
    bar = report.bar("film", number=7)
    for second in range(4):
        await bar.advance(second, None)
        await trio.sleep(0.3)
    bar.close()
    out.close()
    assert [line async for line in lines] == [
        b"\\xe9",
        b"* \\xe9 has come",
        b"\\xe9",
        b'{"event":"message","from":"bob","text":"hi\\u001b"}',
        b'{"event":"progress","number":7,"current":2,"total":null}',
    ]
    assert capfd.readouterr().err == "* é has come\n"


def test_other_commands_load_neither_rich_nor_rooms(tmp_path: Path) -> None:
    code = (
        "import sys; from trio_relay.cli import main; main(['keygen', sys.argv[1]]);"
        "print(sorted({'rich', 'aiortc', 'trio_relay.peerix', 'trio_relay.cli.room'} & set(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "key")], capture_output=True, text=True, check=True, timeout=30
    )
    assert ran.stdout.splitlines()[1:] == ["[]"]


@pytest.mark.interop
async def test_two_processes_exchange_files(tmp_path: Path) -> None:
    """Over a relay and real WebRTC, 5 MB both ways, and a script that takes one."""
    data = {name: os.urandom(5_000_000) for name in ("alice", "bob")}
    folders = {name: tmp_path / name for name in (*data, "carol")}
    for name, folder in folders.items():
        folder.mkdir()
        if name in data:
            (folder / "out.bin").write_bytes(data[name])
    async with trio_relay.open_node() as relay:
        entrance = ("room", "r", "--bootstrap", relay.urls[0])

        def options(name: str) -> list[str]:
            return [*entrance, "--name", name, "--accept-all", "--download-dir", str(folders[name])]

        with trio.fail_after(2 * DEADLINE):
            async with open_process(*options("alice")) as one, open_process(*options("bob")) as other:
                alice, bob = Running(one), Running(other)
                assert await alice.line("* bob") == "* bob has come"
                assert (await bob.line("* alice")).startswith("* alice ")
                await alice.stdin.send_all(f"/send {folders['alice'] / 'out.bin'}\nhello\n".encode())
                await bob.stdin.send_all(f"/send {folders['bob'] / 'out.bin'} to alice\n".encode())
                assert await bob.line("alice: ") == "alice: hello"
                for running in (alice, bob):
                    assert await running.line("* saved ")
                    assert await running.line("* sent out.bin (5.0 MB) to ")
                await alice.stdin.aclose()
                assert await alice.wait() == 0
                assert await bob.line("* alice has gone")
                receive = [*entrance, "--name", "carol", "--receive", "--download-dir", str(folders["carol"])]
                async with open_process(*receive) as third:
                    await bob.line("* carol has come")
                    await bob.stdin.send_all(b"/send %s\n" % os.fsencode(folders["bob"] / "out.bin"))
                    carol = Running(third)
                    assert await carol.rest() == [str(folders["carol"] / "out.bin")]
                    assert await carol.wait() == 0
                assert await bob.line("* sent out.bin")
                assert await bob.stop(signal.SIGINT) == 130
    assert (folders["alice"] / "out (1).bin").read_bytes() == data["bob"]
    assert (folders["bob"] / "out (1).bin").read_bytes() == data["alice"]
    assert (folders["carol"] / "out.bin").read_bytes() == data["bob"]
