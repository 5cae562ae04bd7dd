"""Blob stores: the one in memory, one way to call any, and a machine that compares a store with a naive model."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from trio.testing import MockClock

from trio_relay.exceptions import RelayError
from trio_relay.wsrelay.stores.blobs import (
    DAY,
    BlobBounds,
    Blobs,
    BlobStatistics,
    BlobStore,
    BlobStoreFull,
    BlobTooLarge,
    MemoryBlobStore,
)
from trio_relay.wsrelay.stores.sqlite_blobs import SqliteBlobStore

KEYS = [f"blob-key-{number}" for number in range(5)]
BOUNDS: dict[str, Any] = {"max_blob_size": 8, "max_blobs": 3, "max_bytes": 16}
blob_keys = st.sampled_from(KEYS)


def returned(function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> Any:
    """What a call returns, or the type of what it raises."""

    async def call() -> Any:
        try:
            return await function(*args)
        except RelayError as error:
            return type(error)

    return trio.run(call)


class Model:
    """What a store should hold: a list of (key, data, time), looked through from end to end at every call."""

    def __init__(self, time_to_live: float | None, evict: str) -> None:
        self.time_to_live, self.evict = time_to_live, evict
        self.rows: list[tuple[str, bytes, float]] = []
        self.expired = self.evicted = self.refused = 0

    def expire(self, now: float) -> None:
        live = [row for row in self.rows if self.time_to_live is None or now - row[2] < self.time_to_live]
        self.expired += len(self.rows) - len(live)
        self.rows = live

    def get(self, key: str) -> bytes | None:
        return next((data for name, data, _ in self.rows if name == key), None)

    def put(self, key: str, data: bytes, now: float) -> type[RelayError] | None:
        rows = [row for row in self.rows if row[0] != key]
        fault = None
        if len(data) > BOUNDS["max_blob_size"]:
            fault = BlobTooLarge
        while fault is None and (len(rows) >= BOUNDS["max_blobs"] or self.size(rows) + len(data) > BOUNDS["max_bytes"]):
            if self.evict == "refuse":
                self.refused += 1
                return BlobStoreFull
            rows = rows[1:]
            self.evicted += 1
        if fault is not None:
            self.refused += 1
            return fault
        self.rows = [*rows, (key, data, now)]
        return None

    def delete(self, key: str) -> bool:
        before = len(self.rows)
        self.rows = [row for row in self.rows if row[0] != key]
        return len(self.rows) < before

    @staticmethod
    def size(rows: list[tuple[str, bytes, float]]) -> int:
        return sum(len(data) for _, data, _ in rows)

    def stats(self) -> BlobStatistics:
        return BlobStatistics(len(self.rows), self.size(self.rows), self.expired, self.evicted, self.refused)


class BlobMachine(RuleBasedStateMachine):
    """One store and the model, asked the same; each subclass says how a store is made."""

    store: MemoryBlobStore | SqliteBlobStore
    evict: Literal["refuse", "oldest"] = "refuse"
    time_to_live: float | None = 10.0

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def make(self) -> MemoryBlobStore | SqliteBlobStore:
        raise NotImplementedError

    @initialize(evict=st.sampled_from(["refuse", "oldest"]), time_to_live=st.sampled_from([None, 10.0]))
    def begin(self, evict: Literal["refuse", "oldest"], time_to_live: float | None) -> None:
        self.evict, self.time_to_live = evict, time_to_live
        self.model = Model(time_to_live, evict)
        self.store = self.make()

    @rule(key=blob_keys, size=st.integers(0, 9), filling=st.sampled_from([b"\0", b"a", b"\xff"]))
    def put(self, key: str, size: int, filling: bytes) -> None:
        self.model.expire(self.now)
        assert returned(self.store.put, key, filling * size) == self.model.put(key, filling * size, self.now)
        self.look()

    @rule(key=blob_keys)
    def get(self, key: str) -> None:
        self.model.expire(self.now)
        assert returned(self.store.get, key) == self.model.get(key)

    @rule(key=blob_keys)
    def delete(self, key: str) -> None:
        self.model.expire(self.now)
        assert returned(self.store.delete, key) == self.model.delete(key)

    @rule()
    def look(self) -> None:
        """Everything that can be seen."""
        self.model.expire(self.now)
        assert returned(self.see) == ([self.model.get(key) for key in KEYS], self.model.stats())

    async def see(self) -> tuple[list[bytes | None], BlobStatistics]:
        return [await self.store.get(key) for key in KEYS], await self.store.stats()

    @rule(seconds=st.sampled_from([0.5, 4.0, 5.5, 10.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds


class MemoryMachine(BlobMachine):
    def make(self) -> MemoryBlobStore:
        return MemoryBlobStore(**BOUNDS, evict=self.evict, time_to_live=self.time_to_live, now=lambda: self.now)


TestMemoryMachine = MemoryMachine.TestCase
TestMemoryMachine.settings = settings(max_examples=25, stateful_step_count=15)


# The bounds and the store in memory.


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"max_blob_size": 0}, "max_blob_size must be >= 1, not 0"),
        ({"max_blobs": -1}, "max_blobs must be >= 1"),
        ({"max_bytes": 8191}, r"max_blob_size \(8192\) must be <= max_bytes \(8191\)"),
        ({"time_to_live": 0}, "time_to_live must be > 0 or None"),
        ({"time_to_live": float("nan")}, "time_to_live must be > 0 or None"),
        ({"evict": "newest"}, "evict must be 'refuse' or 'oldest', not 'newest'"),
    ],
)
def test_bad_bounds_are_refused(bounds: dict[str, Any], message: str) -> None:
    for make in (BlobBounds, MemoryBlobStore):
        with pytest.raises(ValueError, match=message):
            make(**bounds)


async def test_a_blob_lives_a_day_of_trios_clock(autojump_clock: MockClock) -> None:
    store = MemoryBlobStore()
    await store.put(KEYS[0], b"offer")
    await trio.sleep(DAY - 1)
    assert await store.get(KEYS[0]) == b"offer"
    await store.put(KEYS[0], b"answer")
    await trio.sleep(DAY - 1)
    assert await store.get(KEYS[0]) == b"answer"  # a new day began with it
    await trio.sleep(1)
    assert await store.get(KEYS[0]) is None
    assert await store.stats() == BlobStatistics(entries=0, bytes=0, expired=1)


async def test_the_limit_is_inclusive_and_in_bytes() -> None:
    store = MemoryBlobStore()
    await store.put(KEYS[0], bytes(8192))
    with pytest.raises(BlobTooLarge, match=r"^Blob exceeds max size \(8192 bytes\)$") as caught:
        await store.put(KEYS[0], bytes(8193))
    assert caught.value.limit == store.max_blob_size == 8192
    assert await store.get(KEYS[0]) == bytes(8192)


async def test_a_full_store_refuses_and_keeps_what_it_has() -> None:
    store = MemoryBlobStore(max_blobs=2)
    for key in KEYS[:2]:
        await store.put(key, key.encode())
    with pytest.raises(BlobStoreFull, match="2 blobs or 16777216 bytes"):
        await store.put(KEYS[2], b"")
    await store.put(KEYS[1], b"other")
    assert [await store.get(key) for key in KEYS[:3]] == [KEYS[0].encode(), b"other", None]
    assert await store.stats() == BlobStatistics(entries=2, bytes=15, refused=1)


@pytest.mark.parametrize("kind", [MemoryBlobStore, SqliteBlobStore])
async def test_the_oldest_makes_room_if_wanted(
    tmp_path: Path, kind: type[MemoryBlobStore] | type[SqliteBlobStore]
) -> None:
    bounds: dict[str, Any] = {"max_blob_size": 10, "max_blobs": 3, "max_bytes": 20, "evict": "oldest"}
    store = SqliteBlobStore(tmp_path / "f", **bounds) if kind is SqliteBlobStore else MemoryBlobStore(**bounds)
    for number in (0, 2, 1, 0, 3):  # 0 is renewed, 2 is the oldest when 3 comes
        await store.put(KEYS[number], bytes(5))
    assert [await store.get(key) is not None for key in KEYS] == [True, True, False, True, False]
    await store.put(KEYS[4], bytes(10))
    assert [await store.get(key) is not None for key in KEYS] == [True, False, False, True, True]
    assert await store.stats() == BlobStatistics(entries=3, bytes=20, evicted=2)
    await Blobs(store).aclose()


async def test_keys_are_checked() -> None:
    store = MemoryBlobStore()
    with pytest.raises(ValueError, match="8 to 64 characters"):
        await store.put("k" * 65, b"")
    assert await store.get("k" * 65) is None
    assert not await store.delete("k" * 65)


async def test_every_call_is_a_checkpoint() -> None:
    store = MemoryBlobStore()
    for call in (lambda: store.put(KEYS[0], b""), lambda: store.get(KEYS[0]), lambda: store.delete(KEYS[0])):
        with trio.testing.assert_checkpoints():
            await call()
    with trio.testing.assert_checkpoints():
        await store.stats()


async def test_a_store_keeps_its_own_copy() -> None:
    store = MemoryBlobStore()
    data: Any = bytearray(b"offer")
    await store.put(KEYS[0], data)
    data[:] = b"other"
    assert await store.get(KEYS[0]) == b"offer"


# One way to call any store.


class SyncStore:
    """As an application may write one."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.calls: list[str] = []

    def open(self) -> None:
        self.calls.append("open")

    def get(self, key: str) -> bytes | None:
        return self.blobs.get(key)

    def put(self, key: str, data: bytes) -> None:
        if len(data) > 4:
            raise BlobTooLarge(4)
        self.blobs[key] = data

    def delete(self, key: str) -> bool:
        return self.blobs.pop(key, None) is not None

    def stats(self) -> Mapping[str, int]:
        return {"entries": len(self.blobs), "of its own": 7}

    def close(self) -> None:
        self.calls.append("close")


class AsyncStore:
    max_blob_size: ClassVar = 4

    def __init__(self) -> None:
        self.inner = SyncStore()
        self.calls = self.inner.calls

    async def open(self) -> None:
        await trio.lowlevel.checkpoint()
        self.inner.open()

    async def get(self, key: str) -> bytes | None:
        await trio.lowlevel.checkpoint()
        return self.inner.get(key)

    async def put(self, key: str, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.inner.put(key, data)

    async def delete(self, key: str) -> bool:
        await trio.lowlevel.checkpoint()
        return self.inner.delete(key)

    async def stats(self) -> BlobStatistics:
        await trio.lowlevel.checkpoint()
        return BlobStatistics(entries=len(self.inner.blobs))

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
        self.inner.close()


@pytest.mark.parametrize(("make", "limit"), [(SyncStore, None), (AsyncStore, 4)])
async def test_stores_may_be_sync_or_async(make: Callable[[], SyncStore | AsyncStore], limit: int | None) -> None:
    store = make()
    blobs = Blobs(store)
    await blobs.open()
    assert blobs.max_blob_size == limit
    await blobs.put(KEYS[0], b"1234")
    with pytest.raises(BlobTooLarge):
        await blobs.put(KEYS[0], b"12345")
    assert await blobs.get(KEYS[0]) == b"1234"
    assert await blobs.stats() == BlobStatistics(entries=1)
    assert [await blobs.delete(KEYS[0]), await blobs.delete(KEYS[0])] == [True, False]
    assert await blobs.get(KEYS[0]) is None
    await blobs.aclose()
    assert store.calls == ["open", "close"]


async def test_a_store_needs_neither_open_nor_close() -> None:
    blobs = Blobs(MemoryBlobStore())
    await blobs.open()
    await blobs.aclose()
    assert await blobs.stats() == BlobStatistics(entries=0)


def test_our_stores_are_blob_stores(tmp_path: Path) -> None:
    stores: list[BlobStore] = [MemoryBlobStore(max_blob_size=5), SqliteBlobStore(tmp_path / "file", max_blob_size=5)]
    assert [Blobs(store).max_blob_size for store in stores] == [5, 5]
    assert repr(stores) == f"[<MemoryBlobStore: 0 blobs, 0 bytes>, <SqliteBlobStore '{tmp_path}/file'>]"
