"""``trio-relay room`` as a conversation: what is said, offered, sent and saved; over WebRTC that is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.peerix.support import World
from trio_relay.cli.room_chat import Receiving
from trio_relay.exceptions import RelayError

from .room_support import settings, talking

DATA = bytes(range(256)) * 4000


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Of alice, with a file, and of bob."""
    alice, bob = tmp_path / "alice", tmp_path / "bob"
    alice.mkdir()
    bob.mkdir()
    (alice / "a film.bin").write_bytes(DATA)
    return alice, bob


def names_in(folder: Path) -> list[str]:
    """Of the files there."""
    return sorted(path.name for path in folder.iterdir())


async def test_people_see_each_other_and_talk(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World()
    wanted = settings(tmp_path)
    async with talking(world, "alice", wanted) as alice:
        async with talking(world, "bob", wanted) as bob:
            assert await alice.report.line("member") == "* bob has come"
            assert await bob.report.line("member") in ("* alice is here", "* alice has come")
            alice.type("hello", "//quit is a command", "  ", "/to bob a secret")
            assert [await bob.report.line("message") for _ in range(3)] == [
                "alice: hello",
                "alice: /quit is a command",
                "alice: a secret",
            ]
            bob.type("/to carol hi", "/nothing", "/who")
            assert await bob.report.line("error") == "* there is no member 'carol'; /who shows all"
            assert await bob.report.line("error") == "* there is no command /nothing; /help shows them"
            shown = await bob.report.line("members")
            assert shown is not None
            assert [line.partition(",")[0] for line in shown.splitlines()] == ["* you are bob", "* alice"]
            bob.type("/quit")
        assert await alice.report.line("gone") == "* bob has gone"
        alice.type("anybody?")
        assert await alice.report.line("nobody") == "* nobody is here"
    assert (alice.code, bob.code) == (0, 1)


async def test_what_a_stranger_says_does_not_control_the_terminal(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World()
    async with (
        talking(world, "bob", settings(tmp_path)) as bob,
        world.room(metadata={"name": "\x1b[31mred\n* bob has gone"}) as stranger,
    ):
        stranger.open_channel()
        await stranger.wait_members()
        await stranger.send("[bold]hi[/]\x1b]0;title\x07\nbob: forged\u202e")
        await stranger.send({"x": "\x9b1m"})
        name = "\\x1b[31mred\\n* bob has gone"
        assert await bob.report.line("member") == f"* {name} has come"
        blanks = " " * len(name)
        assert await bob.report.line("message") == (
            f"{name}: [bold]hi[/]\\x1b]0;title\\x07\n{blanks}| bob: forged\\u202e"
        )
        assert await bob.report.line("message") == f'{name}: {{"x": "\\x9b1m"}}'
        await stranger.send("x" * 70_000)
        assert await bob.report.line("lost") == f"* a message of {name} did not come: it has more than 65536 bytes"


async def test_two_with_one_name_are_told_apart(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World()
    async with (
        talking(world, "alice", settings(tmp_path)) as alice,
        world.room(metadata={"name": "bob"}) as one,
        world.room(metadata={"name": "bob"}) as other,
    ):
        await alice.report.next("member")
        await alice.report.next("member")
        assert one.me is not None
        assert other.me is not None
        alice.type("/to bob x", f"/to {other.me.id[:10]} for you")
        assert await alice.report.line("error") == "* there are several members 'bob'; /who shows all"
        with trio.fail_after(10):
            assert await (await other.receive()).read() == "for you"
            one.open_channel()
            await one.send("hi")
        assert await alice.report.line("message") == f"bob ({one.me.id[:8]}): hi"


async def test_a_file_is_offered_accepted_and_saved(folders: tuple[Path, Path]) -> None:
    world = World()
    alices, bobs = folders
    (bobs / "a film.bin").write_bytes(b"another one")
    async with talking(world, "alice", settings(alices)) as alice, talking(world, "bob", settings(bobs)) as bob:
        await alice.report.next("member")
        alice.type(f'/send "{alices / "a film.bin"}" to bob', "are you there?")
        line, offer = await bob.report.next("offer")
        assert line == "* alice sends a film.bin (1.0 MB, it says): /accept 1 or /reject 1"
        assert offer["size"] == len(DATA)
        assert names_in(bobs) == ["a film.bin"]
        bob.type("/accept 2", "/accept")
        assert await bob.report.line("error") == "* no such file is offered"
        saved = bobs / "a film (1).bin"
        assert await bob.report.line("saved") == f"* saved {saved} (1.0 MB)"
        assert saved.read_bytes() == DATA
        assert (bobs / "a film.bin").read_bytes() == b"another one"
        assert names_in(bobs) == ["a film (1).bin", "a film.bin"]
        assert await bob.report.line("message") == "alice: are you there?"
        assert [await alice.report.line("sent") for _ in range(2)] in (
            ["* sent a film.bin (1.0 MB) to bob", None],
            [None, "* sent a film.bin (1.0 MB) to bob"],
        )
        assert alice.report.bars["a film.bin to bob"][-1] == (len(DATA), len(DATA))
        assert bob.report.bars["a film.bin from alice"][-1] == (len(DATA), len(DATA))
        assert alice.report.open_bars == bob.report.open_bars == 0
    assert (alice.code, bob.code) == (0, 0)


async def test_a_file_is_rejected(folders: tuple[Path, Path]) -> None:
    world = World()
    alices, bobs = folders
    async with talking(world, "alice", settings(alices)) as alice, talking(world, "bob", settings(bobs)) as bob:
        await alice.report.next("member")
        (alices / "big").write_bytes(DATA * 9)
        alice.type(f"/send {alices / 'big'}")
        await bob.report.next("offer")
        bob.type("/reject")
        assert await bob.report.line("rejected") == "* big: rejected here"
        line = await alice.report.line("not_sent")
        assert line is not None
        assert line.startswith("* big did not reach bob: ")
        alice.type("/send /nowhere", f"/send {alices}")
        assert await alice.report.line("error") == "* No such file or directory"
        assert await alice.report.line("error") == f"* {alices} is no regular file"
    assert alice.code == 1
    assert names_in(bobs) == []


async def test_a_large_file_that_nobody_accepts_is_given_up(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World()
    async with talking(world, "bob", settings(tmp_path)) as bob, world.room() as alice:
        alice.open_channel()
        await alice.wait_members()
        small = alice.send(b"small", info={"filename": "small"})
        large = alice.send(b"x" * 9 * 1024 * 1024, info={"name": "large"})
        assert await bob.report.next("offer")
        await small
        began = trio.current_time()
        assert await bob.report.line("rejected") == "* large: nobody accepted it in time"
        assert 20 < trio.current_time() - began < 40
        with trio.fail_after(5):
            while not large.done:
                await trio.sleep(0.1)
        assert list(large.failures) == list(large.members)
        bob.type("/reject 1")  # what has come may wait
        assert await bob.report.line("rejected") == "* small: rejected here"


async def test_files_that_are_too_large_or_too_many(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World()
    receiving = Receiving(tmp_path, 1000)
    async with talking(world, "bob", settings(tmp_path, receiving=receiving)) as bob, world.room() as alice:
        alice.open_channel()
        await alice.wait_members()
        alice.send(b"x", info={"name": "claim", "size": 1001})
        line = await bob.report.line("rejected")
        assert line is not None
        assert line.endswith(" sends claim (1.0 kB, it says); rejected: it is too large")
        for number in range(17):
            alice.send(b"x", info={"name": str(number)})
        line = await bob.report.line("rejected")
        assert line is not None
        assert line.endswith(" sends 16 (a size that is not told); rejected: too many files are coming")
    assert names_in(tmp_path) == []


async def test_a_size_that_is_a_lie_and_a_name_that_is_a_path(tmp_path: Path) -> None:
    world = World()
    folder = tmp_path / "in"
    folder.mkdir()
    receiving = Receiving(folder, 1000, accept_all=True)
    async with talking(world, "bob", settings(folder, receiving=receiving)) as bob, world.room() as alice:
        alice.open_channel()
        await alice.wait_members()
        alice.send(b"x" * 2000, info={"name": "lie", "size": 10})
        line = await bob.report.line("lost")
        assert line == "* lie is not saved: it has more than 1000 bytes"
        await alice.send(b"y", info={"name": "../../etc/passwd\x00"})
        assert await bob.report.line("saved") == f"* saved {folder / 'passwd_'} (1 bytes)"
        await alice.send(b"z")
        assert await bob.report.line("saved") == f"* saved {folder / 'unnamed'} (1 bytes)"
    assert names_in(folder) == ["passwd_", "unnamed"]
    assert names_in(tmp_path) == ["in"]


async def test_sending_and_receiving_once(folders: tuple[Path, Path]) -> None:
    world = World()
    alices, bobs = folders
    receive = settings(bobs, receive=True)
    send = settings(alices, send=(alices / "a film.bin",), wait_members=1)
    with trio.fail_after(10):
        async with talking(world, None, receive, is_terminal=False) as bob, talking(world, None, send) as alice:
            pass
    assert (alice.code, bob.code) == (0, 0)
    assert (bobs / "a film.bin").read_bytes() == DATA
    assert await bob.report.line("saved") == str(bobs / "a film.bin")


async def test_nobody_comes_in_time(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World()
    for once in (settings(tmp_path, wait_members=1, timeout=5), settings(tmp_path, receive=True, timeout=5)):
        with pytest.raises(ExceptionGroup) as caught:
            async with talking(world, None, once):
                pass
        assert caught.group_contains(RelayError, match="in time", depth=1) or caught.group_contains(RelayError)
    assert trio.current_time() == pytest.approx(10, abs=6)


async def test_input_that_is_no_terminal_waits_for_members_and_for_what_is_under_way(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(delay=0.5)
    async with talking(world, "alice", settings(tmp_path, wait_members=1)) as alice:
        alice.type(*(f"line {number}" for number in range(80)))
        alice.end()
        async with talking(world, "bob", settings(tmp_path)) as bob:
            heard = [await bob.report.line("message") for _ in range(80)]
    assert heard == [f"alice: line {number}" for number in range(80)]
    assert alice.code == 0


async def test_programs_are_answered(tmp_path: Path) -> None:
    world = World()
    (tmp_path / "f.txt").write_bytes(b"file")
    machine = settings(tmp_path, machine=True)

    async def ask(text: str) -> dict[str, Any]:
        alice.type(text)
        return (await alice.report.next("error"))[1]

    async with talking(world, "alice", machine) as alice, talking(world, "bob", machine) as bob:
        await alice.report.next("member")
        joined = (await bob.report.next("joined"))[1]
        alice.type('{"send": {"data": {"x": 1}, "info": 7}, "ref": 1}')
        assert (await bob.report.next("message"))[1]["data"] == {"x": 1}
        sent = (await alice.report.next("sent"))[1]
        assert sent == {"to": [joined["id"]], "failed": [], "ref": 1}
        path = str(tmp_path / "f.txt")
        alice.type(f'{{"send": {{"file": "{path}", "to": "{joined["id"]}"}}, "ref": 2}}')
        offer = (await bob.report.next("offer"))[1]
        assert (offer["name"], offer["size"]) == ("f.txt", 4)
        bob.type('{"accept": 1, "ref": "a"}')
        assert (await bob.report.next("accepting"))[1] == {"number": 1, "ref": "a"}
        assert (await bob.report.next("saved"))[1]["path"] == str(tmp_path / "f (1).txt")
        assert (await alice.report.next("sent"))[1]["ref"] == 2
        assert (await ask('{"send": {"text": "x", "to": "nobody"}, "ref": 3}'))["ref"] == 3
        assert (await ask("no JSON"))["ref"] is None
        assert (await ask('{"accept": 9, "ref": 4}'))["message"] == "no such file is offered"
        alice.type('{"who": true, "ref": 5}')
        assert [one["id"] for one in (await alice.report.next("members"))[1]["members"]] == [joined["id"]]
    assert alice.code == 0
