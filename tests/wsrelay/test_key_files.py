"""Keys from a file that changes in every way in which files change.

Trio's clocks do not wait for worker threads, so no clock jumps here: this one runs 50 times as fast as the real one.
"""

# ruff: noqa: ASYNC240 - small files, on the machine's own disk

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from trio_relay.wsrelay.stores import key_files
from trio_relay.wsrelay.stores.key_files import FileKeyStore
from trio_relay.wsrelay.stores.keys import ChangingKeyStore, is_valid

ONE, TWO, THREE = "key-number-1", "key-number-2", "key-number-3"
LONG = 3000.0
"""Seconds of the fast clock after which a test fails that would hang otherwise."""


@pytest.fixture
def fast_clock() -> MockClock:
    return MockClock(rate=50)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "keys.txt"
    path.write_text(f"{ONE}\n{TWO}\n")
    return path


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, logger="trio_relay.wsrelay")
    return caplog


def good(store: FileKeyStore) -> list[str]:
    return [key for key in (ONE, TWO, THREE) if store.validate(key)]


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(LONG):
        while not condition():
            await trio.sleep(0.05)


# Reading it again when asked to.


def test_reload_outside_trio(path: Path, log: pytest.LogCaptureFixture) -> None:
    store = FileKeyStore(path)
    path.write_text(f"{TWO}\n{THREE}\n")
    assert good(store) == [ONE, TWO]
    assert store.reload()
    assert good(store) == [TWO, THREE]
    assert store.changes == 1
    assert store.reload()
    assert store.changes == 1
    for content in (f"{THREE}\nbad key\n", f"{THREE}\nbad key\n"):
        path.write_text(content)
        assert not store.reload()
    path.unlink()
    assert not store.reload()
    assert good(store) == [TWO, THREE]
    assert store.statistics() == key_files.KeyFileStatistics(keys=2, changes=1, failures=3)
    warnings = [record.getMessage() for record in log.records if record.levelno == logging.WARNING]
    assert ["line 2" in text for text in warnings] == [True, True, False]  # whoever asks is told, each time
    assert "No such file" in warnings[-1]
    assert not any(word in log.text + repr(store) for word in (ONE, TWO, THREE, "bad key"))


def test_a_file_without_a_key_refuses_everybody(path: Path, log: pytest.LogCaptureFixture) -> None:
    store = FileKeyStore(path)
    path.write_text("# nobody\n")
    assert store.reload()
    assert good(store) == []
    assert [record.levelname for record in log.records] == ["WARNING"]


async def test_refresh_reads_in_a_thread(path: Path) -> None:
    store = FileKeyStore(path)
    path.write_text(THREE)
    assert await store.refresh()
    assert good(store) == [THREE]
    path.write_text("bad key")
    assert not await store.refresh()
    assert good(store) == [THREE]


async def test_a_slow_look_does_not_undo_a_later_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileKeyStore(path)
    looked, may_go_on = threading.Event(), threading.Event()
    look = key_files._look

    def slow_look(path: str) -> key_files._Look:
        seen = look(path)
        looked.set()
        assert may_go_on.wait(60)
        return seen

    answers: list[bool] = []
    async with trio.open_nursery() as nursery:
        with monkeypatch.context() as patch:
            patch.setattr(key_files, "_look", slow_look)
            nursery.start_soon(lambda: _append(answers, store))
            while not looked.is_set():
                await trio.sleep(0.001)
        path.write_text(THREE)
        assert store.reload()
        may_go_on.set()
    assert answers == [True]
    assert good(store) == [THREE]
    assert store.changes == 1


async def _append(answers: list[bool], store: FileKeyStore) -> None:
    answers.append(await store.refresh())


# Watching it.


def edit(path: Path, text: str) -> None:
    path.write_text(text)


def replace(path: Path, text: str) -> None:
    other = path.with_suffix(".new")
    other.write_text(text)
    os.replace(other, path)


def same_size_and_time(path: Path, text: str) -> None:
    """An editor that sets the time back; here the size is the same too."""
    before = path.stat()
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


@pytest.mark.parametrize("change", [edit, replace, same_size_and_time])
async def test_every_change_is_noticed(
    path: Path, fast_clock: MockClock, nursery: trio.Nursery, change: Callable[[Path, str], None]
) -> None:
    store = FileKeyStore(path)
    assert isinstance(store, ChangingKeyStore)
    await nursery.start(store.watch)
    for number, keys in enumerate([[TWO, THREE], [ONE, TWO], [ONE, THREE]]):
        change(path, "".join(f"{key}\n" for key in keys))
        with trio.fail_after(LONG):
            assert await store.wait_change(number) == number + 1
        assert good(store) == keys
        assert await is_valid(store, keys[0])
        if number == 1:
            await trio.sleep(key_files._YOUNG + 1)  # from now on only the stamp tells


async def test_a_link_to_another_file_is_noticed(path: Path, fast_clock: MockClock, nursery: trio.Nursery) -> None:
    folder = path.parent
    (folder / "other.txt").write_text(f"{THREE}\n{TWO}\n")
    (folder / "link").symlink_to(path)
    store = FileKeyStore(folder / "link")
    await nursery.start(store.watch)
    (folder / "next").symlink_to(folder / "other.txt")
    os.replace(folder / "next", folder / "link")
    with trio.fail_after(LONG):
        await store.wait_change(0)
    assert good(store) == [TWO, THREE]


async def test_edits_that_the_times_of_a_file_hide_are_noticed(
    path: Path, fast_clock: MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_files, "_stamp", lambda status: (0, 0, status.st_size, 0, 0))
    store = FileKeyStore(path)
    await nursery.start(store.watch)
    for number, keys in enumerate([[ONE, THREE], [ONE, TWO, THREE], [TWO, ONE, ONE]]):
        if number == 1:
            await trio.sleep(key_files._YOUNG + 1)
        path.write_text("".join(f"{key}\n" for key in keys))
        with trio.fail_after(LONG):
            await store.wait_change(number)
        assert good(store) == sorted(set(keys))


async def test_deletion_and_reappearance(
    path: Path, fast_clock: MockClock, nursery: trio.Nursery, log: pytest.LogCaptureFixture
) -> None:
    store = FileKeyStore(path)
    await nursery.start(store.watch)
    path.unlink()
    await until(lambda: store.statistics().failures > 0)
    await trio.sleep(3)
    assert good(store) == [ONE, TWO]
    assert len(log.records) == 1
    assert "No such file or directory; the 2 old keys stay in force" in log.text
    path.write_text(f"{THREE}\n")
    with trio.fail_after(LONG):
        await store.wait_change(0)
    assert good(store) == [THREE]
    path.unlink()
    await until(lambda: store.statistics().failures > 1)
    path.write_text(f"{THREE}\n")
    await until(lambda: len(log.records) == 4)  # gone, back, gone, back
    assert store.changes == 1


async def test_a_bad_file_keeps_the_keys_and_is_told_once(
    path: Path, fast_clock: MockClock, nursery: trio.Nursery, log: pytest.LogCaptureFixture
) -> None:
    store = FileKeyStore(path)
    await nursery.start(store.watch)
    path.write_text(f"{THREE}\nhalf a k")
    await until(lambda: store.statistics().failures > 0)
    await trio.sleep(2)
    assert good(store) == [ONE, TWO]
    assert len(log.records) == 1
    assert "line 2" in log.text
    assert "half a k" not in log.text
    path.write_text(f"{THREE}\nhalf a key\n")
    await until(lambda: store.statistics().failures > 1)
    assert len(log.records) == 1
    path.write_text(f"{THREE}\n")
    with trio.fail_after(LONG):
        await store.wait_change(0)
    assert good(store) == [THREE]


async def test_a_file_that_is_being_written_is_not_believed(
    path: Path, fast_clock: MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Emptied, then half there with a line that is a key by chance, then complete: one change."""
    store = FileKeyStore(path)
    states = iter(["", f"{ONE}\n{TWO[:9]}", f"{ONE}\n{TWO}\n{THREE}\n"])
    looks = []
    look = key_files._look

    def look_before_it_goes_on(path: str) -> key_files._Look:
        seen = look(path)
        looks.append(seen.content.decode())
        if (text := next(states, None)) is not None:
            Path(path).write_text(text)
        return seen

    monkeypatch.setattr(key_files, "_look", look_before_it_goes_on)
    await nursery.start(store.watch)
    await until(lambda: store.changes > 0)
    assert good(store) == [ONE, TWO, THREE]
    assert store.statistics() == key_files.KeyFileStatistics(keys=3, changes=1, failures=0)
    assert "" in looks
    assert f"{ONE}\n{TWO[:9]}" in looks


async def test_a_file_that_never_rests_is_taken_as_it_is(
    path: Path, fast_clock: MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FileKeyStore(path)
    look = key_files._look
    number = 0

    def look_and_write(path: str) -> key_files._Look:
        nonlocal number
        number += 1
        Path(path).write_text(f"{THREE}\n# {number}\n")
        return look(path)

    monkeypatch.setattr(key_files, "_look", look_and_write)
    await nursery.start(store.watch)
    with trio.fail_after(LONG):
        await store.wait_change(0)
    assert good(store) == [THREE]


async def test_a_file_system_that_hangs_holds_up_nobody(
    path: Path, fast_clock: MockClock, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    store = FileKeyStore(path)
    monkeypatch.setattr(key_files, "_PATIENCE", 1.0)
    may_go_on = threading.Event()
    threads = []
    look = key_files._look

    def hang(path: str) -> key_files._Look:
        threads.append(threading.current_thread())
        assert may_go_on.wait(60)
        return look(path)

    monkeypatch.setattr(key_files, "_look", hang)
    async with trio.open_nursery() as nursery:
        await nursery.start(store.watch)
        await until(lambda: store.statistics().failures >= 2)
        assert good(store) == [ONE, TWO]
        assert len(threads) == 1
        assert log.text.count("no answer in 1 s") == 1
        may_go_on.set()
        await until(lambda: "answers again" in log.text)
        may_go_on.clear()
        await until(lambda: len(threads) >= 3)
        nursery.cancel_scope.cancel()  # the end of a relay does not wait for the file system
    may_go_on.set()


async def test_without_watching_nothing_runs(path: Path) -> None:
    store = FileKeyStore(path, watch=False)
    async with trio.open_nursery() as nursery:
        await nursery.start(store.watch)
    assert not store.watched
