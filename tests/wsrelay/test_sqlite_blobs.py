"""Blobs in an SQLite file: the same machine as in memory, with restarts; kills, damage, other processes, slow disks."""

# ruff: noqa: ASYNC240 - small files, on the machine's own disk

from __future__ import annotations

import hashlib
import os
import random
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
import trio
from hypothesis import settings
from hypothesis.stateful import rule
from trio.testing import MockClock

from trio_relay.wsrelay.stores import sqlite_blobs
from trio_relay.wsrelay.stores.blobs import BlobStatistics, BlobStoreBusy, BlobStoreError, BlobStoreFull
from trio_relay.wsrelay.stores.sqlite_blobs import SqliteBlobStore

from .test_blobs import BOUNDS, KEYS, BlobMachine


class SqliteMachine(BlobMachine):
    store: SqliteBlobStore

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.file = Path(self.folder.name, "blobs.db")

    def make(self) -> SqliteBlobStore:
        return SqliteBlobStore(
            self.file, **BOUNDS, evict=self.evict, time_to_live=self.time_to_live, now=lambda: self.now
        )

    @rule()
    def restart(self) -> None:
        trio.run(self.store.aclose)
        self.store = self.make()
        self.model.expired = self.model.evicted = self.model.refused = 0

    def teardown(self) -> None:
        if hasattr(self, "store"):
            trio.run(self.store.aclose)
        self.folder.cleanup()


TestSqliteMachine = SqliteMachine.TestCase
TestSqliteMachine.settings = settings(max_examples=20, stateful_step_count=15)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "blobs.db"


async def test_time_goes_on_while_nothing_runs(path: Path) -> None:
    now = 1_000_000.0
    store = SqliteBlobStore(path, time_to_live=60, now=lambda: now)
    await store.put(KEYS[0], b"\0old")
    now += 59
    await store.put(KEYS[1], b"new")
    await store.aclose()
    now += 1
    store = SqliteBlobStore(path, time_to_live=60, now=lambda: now)
    assert await store.stats() == BlobStatistics(entries=1, bytes=3, expired=1)
    assert [await store.get(key) for key in KEYS[:2]] == [None, b"new"]
    await store.aclose()


async def test_only_its_owner_may_read_the_file(path: Path) -> None:
    before = os.umask(0)
    try:
        store = SqliteBlobStore(path)
        await store.put(KEYS[0], b"offer")
    finally:
        os.umask(before)
    files = sorted(path.parent.iterdir())
    assert [file.name for file in files] == ["blobs.db", "blobs.db-wal"]
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600, 0o600]
    await store.aclose()
    assert [file.name for file in path.parent.iterdir()] == ["blobs.db"]


async def test_keys_and_arguments_are_checked(path: Path) -> None:
    store = SqliteBlobStore(path)
    with pytest.raises(ValueError, match="8 to 64 characters"):
        await store.put("k" * 65, b"")
    assert await store.get("\udc80" * 8) is None
    assert not await store.delete("\udc80" * 8)
    assert not path.exists()  # nothing was asked of the file yet
    with pytest.raises(ValueError, match="max_blobs must be >= 1"):
        SqliteBlobStore(path, max_blobs=0)
    with pytest.raises(ValueError, match="sync must be 'normal' or 'full'"):
        SqliteBlobStore(path, sync="off")  # type: ignore[arg-type]


async def test_a_closed_store_says_so(path: Path) -> None:
    store = SqliteBlobStore(path, sync="full")
    await store.put(KEYS[0], b"offer")
    await store.aclose()
    await store.aclose()
    for call in (store.open, store.stats, lambda: store.get(KEYS[0])):
        with pytest.raises(trio.ClosedResourceError):
            await call()


# What is killed.

WRITER = """
import hashlib, random, sys, trio
from trio_relay.wsrelay.stores.sqlite_blobs import SqliteBlobStore

async def main():
    store = SqliteBlobStore(sys.argv[1])
    numbers = random.Random(int(sys.argv[2]))
    for _ in range(1_000_000):
        key = f"blob-key-{numbers.randrange(200)}"
        if numbers.random() < 0.2:
            await store.delete(key)
            print(key, "-", flush=True)
        else:
            data = numbers.randbytes(numbers.randrange(8193))
            await store.put(key, data)
            print(key, hashlib.sha256(data).hexdigest(), flush=True)

trio.run(main)
"""


def test_what_was_acknowledged_survives_a_kill(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_blobs, "_LOCK_WAIT", 0.05)
    held: dict[str, str] = {}
    for seed, calls in ((1, 40), (2, 100)):
        command = [sys.executable, "-c", WRITER, str(path), str(seed)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            lines = [writer.stdout.readline() for _ in range(calls)]
            with pytest.raises(BlobStoreError, match="in use by another process"):
                trio.run(SqliteBlobStore(path).open)
            writer.kill()
            lines += writer.stdout.readlines()  # acknowledged before the kill, read after it
        assert writer.returncode == -9
        held.update((line.split()[0], line.split()[1]) for line in lines)
        held.pop(next_call(seed, len(lines)), None)
        assert len(held) > 30
        assert found(path, held) == held


def next_call(seed: int, done: int) -> str:
    """The key of the writer's call after so many: it may have been done or not when it was killed."""
    numbers = random.Random(seed)
    for _ in range(done + 1):
        key = f"blob-key-{numbers.randrange(200)}"
        if numbers.random() >= 0.2:
            numbers.randbytes(numbers.randrange(8193))
    return key


def found(path: Path, held: dict[str, str]) -> dict[str, str]:
    """What the file holds of these keys: digests, "-" for nothing."""

    async def look() -> dict[str, str]:
        store = SqliteBlobStore(path)
        blobs = {key: await store.get(key) for key in held}
        await store.aclose()
        return {key: "-" if data is None else hashlib.sha256(data).hexdigest() for key, data in blobs.items()}

    return trio.run(look)


# What is not a blob store, or not this process's.


async def test_two_stores_of_one_process_are_told_apart(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_blobs, "_LOCK_WAIT", 0.05)
    first, second = SqliteBlobStore(path), SqliteBlobStore(path)
    await first.put(KEYS[0], b"offer")
    with pytest.raises(BlobStoreError, match="in use"):
        await second.open()
    await second.aclose()
    assert await first.get(KEYS[0]) == b"offer"
    await first.aclose()


async def test_a_file_of_another_kind_is_left_alone(path: Path) -> None:
    path.write_bytes(b"keys, not blobs\n" * 100)
    with pytest.raises(BlobStoreError, match="not a database"):
        await SqliteBlobStore(path).open()
    assert path.read_bytes() == b"keys, not blobs\n" * 100
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE blobs (name TEXT)")
    with pytest.raises(BlobStoreError, match="another program's file"):
        await SqliteBlobStore(path).open()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA application_id = {sqlite_blobs._APPLICATION}")
        connection.execute("PRAGMA user_version = 2")
    with pytest.raises(BlobStoreError, match="version 2, expected 1"):
        await SqliteBlobStore(path).open()


async def store_opened(path: Path) -> SqliteBlobStore:
    store = SqliteBlobStore(path)
    await store.open()
    return store


@pytest.mark.parametrize("start", [100, 4096 + 3, 3 * 4096])
async def test_damage_is_found_at_the_start(path: Path, start: int) -> None:
    store = await store_opened(path)
    for key in KEYS:
        await store.put(key, bytes(8000))
    await store.aclose()
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xa5" * 2000)
    with pytest.raises(BlobStoreError, match=r"damaged|malformed"):
        await store_opened(path)


async def test_a_file_that_cannot_be_made_or_opened(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await SqliteBlobStore(tmp_path / "absent" / "blobs.db").open()
    with pytest.raises(BlobStoreError, match="unable to open database file"):
        await SqliteBlobStore(tmp_path).open()


async def test_a_full_disk_keeps_what_there_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare = sqlite_blobs._Database._prepare

    def prepare_small(self: sqlite_blobs._Database, connection: sqlite3.Connection) -> None:
        prepare(self, connection)
        connection.execute("PRAGMA max_page_count = 12")

    monkeypatch.setattr(sqlite_blobs._Database, "_prepare", prepare_small)
    store = SqliteBlobStore(path, max_blob_size=100_000)
    await store.put(KEYS[0], bytes(8000))
    await store.put(KEYS[1], bytes(8000))
    for key in KEYS[1:3]:
        with pytest.raises(BlobStoreFull, match="the disk is full"):
            await store.put(key, bytes(8192 * 3))
    before = await store.stats()
    assert before == BlobStatistics(entries=2, bytes=16000)
    assert await store.get(KEYS[1]) == bytes(8000)
    await store.aclose()
    store = await store_opened(path)
    assert (await store.stats()).entries == before.entries
    await store.aclose()


# A disk that does not answer.


class SlowClock:
    """The store's clock, which the worker thread reads: it waits until told."""

    def __init__(self) -> None:
        self.read, self.may_go_on = threading.Event(), threading.Event()
        self.reads = 0

    async def wait_read(self) -> None:
        """Until the worker thread is where it waits."""
        assert await trio.to_thread.run_sync(self.read.wait, 60)

    def __call__(self) -> float:
        self.reads += 1
        self.read.set()
        assert self.may_go_on.wait(60)
        return 1000.0


async def test_calls_have_a_deadline_and_a_queue_with_an_end(
    path: Path, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_blobs, "_WAITING", 3)
    disk = SlowClock()
    store = SqliteBlobStore(path, now=disk)
    results: list[str] = []

    async def put(key: str) -> None:
        try:
            await store.put(key, b"offer")
            results.append("done")
        except BlobStoreBusy as error:
            results.append(str(error).rpartition(": ")[2])

    async with trio.open_nursery() as nursery:
        for key in KEYS[:4]:
            nursery.start_soon(put, key)
        await disk.wait_read()
        assert results == ["3 calls wait already"]
        mock_clock.jump(10)
    assert results == ["3 calls wait already", *["no answer in 10 s"] * 3]
    assert disk.reads == 1  # one thread at a time
    disk.may_go_on.set()
    assert (await store.stats()).entries in (0, 1)  # of the first call nobody knows
    await store.put(KEYS[4], b"answer")
    assert await store.get(KEYS[4]) == b"answer"
    await store.aclose()


async def test_closing_waits_for_a_call_that_was_cancelled(path: Path) -> None:
    disk = SlowClock()
    store = SqliteBlobStore(path, now=disk)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.put, KEYS[0], b"offer")
        await disk.wait_read()
        nursery.cancel_scope.cancel()
    with trio.CancelScope() as scope:
        scope.cancel()
        threading.Timer(0.02, disk.may_go_on.set).start()
        await store.aclose()
    assert scope.cancelled_caught
    assert [file.name for file in path.parent.iterdir()] == ["blobs.db"]  # closed in order
    store = SqliteBlobStore(path, now=disk)
    assert await store.get(KEYS[0]) == b"offer"
    await store.aclose()


async def test_closing_gives_up_in_the_end(path: Path, mock_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    disk = SlowClock()
    store = SqliteBlobStore(path, now=disk)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.put, KEYS[0], b"offer")
        await disk.wait_read()
        nursery.cancel_scope.cancel()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.aclose)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(10)
    assert "still busy after 10 s" in caplog.text
    assert len(list(path.parent.iterdir())) == 2
    disk.may_go_on.set()
    while len(list(path.parent.iterdir())) == 2:  # the thread closes the file when it can
        await trio.to_thread.run_sync(time.sleep, 0.001)
