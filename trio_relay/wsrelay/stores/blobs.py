"""Blob stores: what one is, one way to call any of them, and the store in memory.

A blob is a short piece of signalling data under a key that its owner made up: bytes here, text over HTTP.
"""

from __future__ import annotations

import inspect
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias

import trio

from ...exceptions import RelayError
from .keys import KEY_RULE, close_store, is_key_format

__all__ = [
    "DAY",
    "MAX_BLOBS",
    "MAX_BLOB_SIZE",
    "MAX_BYTES",
    "BlobBounds",
    "BlobStatistics",
    "BlobStore",
    "BlobStoreBusy",
    "BlobStoreError",
    "BlobStoreFull",
    "BlobTooLarge",
    "Blobs",
    "Evict",
    "MemoryBlobStore",
]

MAX_BLOB_SIZE: Final = 8192
"""Bytes of one blob, inclusive: the original's default, though it counts UTF-16 units."""
MAX_BLOBS: Final = 4096
MAX_BYTES: Final = 16 * 1024 * 1024
DAY: Final = 86_400.0
"""Seconds that a blob lives. The original keeps blobs until it ends; what signals a connection is old in minutes."""

Evict: TypeAlias = Literal["refuse", "oldest"]


class BlobStoreError(RelayError):
    """A blob store could not do what it was asked."""


class BlobTooLarge(BlobStoreError):
    """A blob exceeds the size that the store takes.

    Attributes:
        limit: bytes that the store takes.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(f"Blob exceeds max size ({limit} bytes)")  # the original's text, which its clients look for
        self.limit: Final = limit


class BlobStoreFull(BlobStoreError):
    """The store has no room for another blob."""


class BlobStoreBusy(BlobStoreError):
    """The store has too much to do, or did not answer in time; whether it did what was asked is not known then."""


@dataclass(frozen=True, slots=True)
class BlobStatistics:
    """Counts of one blob store.

    Attributes:
        entries: blobs now.
        bytes: of those blobs.
        expired: blobs whose time was over, since the store was opened.
        evicted: blobs that made room for newer ones, likewise.
        refused: blobs that were too large or found no room, likewise.
    """

    entries: int
    bytes: int = 0
    expired: int = 0
    evicted: int = 0
    refused: int = 0


class BlobStore(Protocol):
    """What keeps blobs; each method may be sync or async.

    A sync method is called in the event loop and must be quick; one that waits for anything must be async. Keys have
    the form of `is_key_format`. A store may also have ``open()``, called before the relay accepts anybody,
    ``aclose()`` or ``close()``, and an attribute ``max_blob_size`` in bytes, with which a relay refuses a larger blob
    before it reads it.
    """

    def get(self, key: str) -> bytes | Awaitable[bytes | None] | None:
        """The blob, or None."""
        ...

    def put(self, key: str, data: bytes) -> Awaitable[None] | None:
        """Keeps the blob instead of an earlier one.

        Raises:
            BlobTooLarge: it exceeds what the store takes.
            BlobStoreFull: there is no room; an earlier blob with this key is still there.
            BlobStoreError: it could not be kept.
        """
        ...

    def delete(self, key: str) -> bool | Awaitable[bool]:
        """Forgets the blob; whether there was one."""
        ...

    def stats(self) -> BlobStatistics | Mapping[str, int] | Awaitable[BlobStatistics | Mapping[str, int]]:
        """Counts, ``entries`` at least."""
        ...


class Blobs:
    """One way to call any `BlobStore`: every method is async."""

    def __init__(self, store: BlobStore) -> None:
        self.store: Final = store
        limit = getattr(store, "max_blob_size", None)
        self.max_blob_size: Final[int | None] = limit if isinstance(limit, int) else None

    async def open(self) -> None:
        """Calls the store's ``open``, if it has one."""
        if (opening := getattr(self.store, "open", None)) is not None and inspect.isawaitable(done := opening()):
            await done

    async def aclose(self) -> None:
        """Calls the store's ``aclose`` or ``close``, if it has one."""
        await close_store(self.store)

    async def get(self, key: str) -> bytes | None:
        """The blob, or None."""
        blob = self.store.get(key)
        return await blob if inspect.isawaitable(blob) else blob

    async def put(self, key: str, data: bytes) -> None:
        """Keeps the blob instead of an earlier one; raises what the store raises."""
        if inspect.isawaitable(done := self.store.put(key, data)):
            await done

    async def delete(self, key: str) -> bool:
        """Forgets the blob; whether there was one."""
        was_there = self.store.delete(key)
        return bool(await was_there if inspect.isawaitable(was_there) else was_there)

    async def stats(self) -> BlobStatistics:
        """Counts; of a mapping only the names of `BlobStatistics` are taken."""
        shown = self.store.stats()
        counts = await shown if inspect.isawaitable(shown) else shown
        if isinstance(counts, BlobStatistics):
            return counts
        return BlobStatistics(**{name: counts[name] for name in BlobStatistics.__slots__ if name in counts})


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobBounds:
    """What the stores of this package take.

    Attributes:
        max_blob_size: bytes of one blob, inclusive.
        max_blobs: blobs at once.
        max_bytes: of all blobs together, keys and overhead not counted.
        time_to_live: seconds after which a blob is gone, None for never.
        evict: what a new blob does that finds no room after the expired ones went: ``"refuse"`` it, so that nobody's
            blob goes silently, or push the ``"oldest"`` out, which is counted.

    Raises:
        ValueError: a bound is not positive, or one blob may be larger than all.
    """

    max_blob_size: int = MAX_BLOB_SIZE
    max_blobs: int = MAX_BLOBS
    max_bytes: int = MAX_BYTES
    time_to_live: float | None = DAY
    evict: Evict = "refuse"

    def __post_init__(self) -> None:
        for name in ("max_blob_size", "max_blobs", "max_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, not {getattr(self, name)}")
        if self.max_blob_size > self.max_bytes:
            raise ValueError(f"max_blob_size ({self.max_blob_size}) must be <= max_bytes ({self.max_bytes})")
        if self.time_to_live is not None and not (self.time_to_live > 0 and math.isfinite(self.time_to_live)):
            raise ValueError(f"time_to_live must be > 0 or None, not {self.time_to_live}")
        if self.evict not in ("refuse", "oldest"):
            raise ValueError(f"evict must be 'refuse' or 'oldest', not {self.evict!r}")

    def fits(self, entries: int, size: int) -> bool:
        """Whether so many blobs with so many bytes may be there."""
        return entries <= self.max_blobs and size <= self.max_bytes

    def full(self) -> BlobStoreFull:
        """The error that says so."""
        return BlobStoreFull(f"the blob store is full ({self.max_blobs} blobs or {self.max_bytes} bytes)")


def check_blob_key(key: str) -> None:
    """Raises ValueError if the key is malformed: the room that keys take is bounded by their form."""
    if not is_key_format(key):
        raise ValueError(f"expected {KEY_RULE} as the key of a blob")


class MemoryBlobStore:
    """Blobs in memory, gone when the process ends. The arguments are those of `BlobBounds`, and a clock.

    Args:
        now: the clock, seconds; default: Trio's.

    Raises:
        ValueError: as of `BlobBounds`.
    """

    def __init__(
        self,
        *,
        max_blob_size: int = MAX_BLOB_SIZE,
        max_blobs: int = MAX_BLOBS,
        max_bytes: int = MAX_BYTES,
        time_to_live: float | None = DAY,
        evict: Evict = "refuse",
        now: Callable[[], float] = trio.current_time,
    ) -> None:
        self._bounds: Final = BlobBounds(
            max_blob_size=max_blob_size,
            max_blobs=max_blobs,
            max_bytes=max_bytes,
            time_to_live=time_to_live,
            evict=evict,
        )
        self.max_blob_size: Final = max_blob_size
        self._now: Final = now
        self._blobs: Final = OrderedDict[str, tuple[float, bytes]]()  # key -> (time stored, data), oldest first
        self._bytes = self._expired = self._evicted = self._refused = 0

    async def get(self, key: str) -> bytes | None:
        """The blob, or None."""
        await trio.lowlevel.checkpoint()
        self._expire()
        entry = self._blobs.get(key)
        return entry[1] if entry is not None else None

    async def put(self, key: str, data: bytes) -> None:
        """Keeps the blob, for the whole time to live, instead of an earlier one.

        Raises:
            BlobTooLarge: it exceeds `max_blob_size`.
            BlobStoreFull: there is no room; an earlier blob with this key is still there.
            ValueError: the key is malformed.
        """
        check_blob_key(key)
        await trio.lowlevel.checkpoint()
        if len(data) > self.max_blob_size:
            self._refused += 1
            raise BlobTooLarge(self.max_blob_size)
        self._expire()
        blobs, bounds = self._blobs, self._bounds
        earlier = blobs.get(key)
        entries = len(blobs) + (earlier is None)
        size = self._bytes + len(data) - (len(earlier[1]) if earlier is not None else 0)
        if bounds.evict == "refuse" and not bounds.fits(entries, size):
            self._refused += 1
            raise bounds.full()
        self._forget(key)
        while not bounds.fits(len(blobs) + 1, self._bytes + len(data)):
            self._forget(next(iter(blobs)))
            self._evicted += 1
        blobs[key] = self._now(), bytes(data)
        self._bytes += len(data)

    async def delete(self, key: str) -> bool:
        """Forgets the blob; whether there was one."""
        await trio.lowlevel.checkpoint()
        self._expire()
        return self._forget(key)

    async def stats(self) -> BlobStatistics:
        """Counts."""
        await trio.lowlevel.checkpoint()
        self._expire()
        return BlobStatistics(len(self._blobs), self._bytes, self._expired, self._evicted, self._refused)

    def _expire(self) -> None:
        """Times never decrease along the map, so that only what goes is looked at."""
        if self._bounds.time_to_live is None:
            return
        latest = self._now() - self._bounds.time_to_live
        while self._blobs:
            key, (stored, _) = next(iter(self._blobs.items()))
            if stored > latest:
                return
            self._forget(key)
            self._expired += 1

    def _forget(self, key: str) -> bool:
        entry = self._blobs.pop(key, None)
        self._bytes -= len(entry[1]) if entry is not None else 0
        return entry is not None

    def __repr__(self) -> str:
        return f"<MemoryBlobStore: {len(self._blobs)} blobs, {self._bytes} bytes>"
