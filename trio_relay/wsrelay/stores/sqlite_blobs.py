"""Blobs in an SQLite file: they survive a restart, and the process being killed.

Rules:

- `_Database` is sync and runs in worker threads, one call at a time: the limiter of `SqliteBlobStore` has one token,
  which a thread keeps until it is done, even if the task that wanted it has gone.
- Every call is one transaction, and begins by forgetting what is expired.
- One process owns the file, so that the totals are counted once, at opening. What fails leaves no trace, in the file
  or in the totals.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, Literal, TypeVar, TypeVarTuple

import trio

from .blobs import (
    DAY,
    MAX_BLOB_SIZE,
    MAX_BLOBS,
    MAX_BYTES,
    BlobBounds,
    BlobStatistics,
    BlobStoreBusy,
    BlobStoreError,
    BlobStoreFull,
    BlobTooLarge,
    Evict,
    check_blob_key,
)
from .keys import is_key_format

__all__ = ["SqliteBlobStore"]

_APPLICATION: Final = 0x54526C79
"""SQLite's application id of these files, "TRly": no other program's file is taken for one."""
_VERSION: Final = 1
_LOCK_WAIT: Final = 2.0
"""Seconds that opening waits for a process that is about to end."""
_TIMEOUT: Final = 10.0
"""Seconds for one call, waiting for the calls before included."""
_WAITING: Final = 64
"""Calls that wait; each has a blob in memory."""
_CHECKED: Final = 256 * 1024 * 1024
"""Bytes of file up to which opening checks all of it; more would take too long."""

_SCHEMA: Final = (
    "CREATE TABLE blobs (turn INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, stored REAL NOT NULL, data BLOB NOT NULL)",
    "CREATE INDEX blobs_by_time ON blobs (stored)",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {_VERSION}",
)
_TOTALS: Final = "SELECT COUNT(*), COALESCE(SUM(LENGTH(data)), 0) FROM blobs"

Ts = TypeVarTuple("Ts")
T = TypeVar("T")
logger = logging.getLogger("trio_relay.wsrelay")


class SqliteBlobStore:
    """Blobs in an SQLite file. The arguments are those of `BlobBounds`, and the file's.

    What `put` has returned for survives the process, however it ends. It survives the machine's loss of power only
    with ``sync="full"``, at the cost of a disk write for each blob. The clock is the machine's, which goes on while
    the process does not run. The file grows with what it has to hold and does not shrink; it is made readable for its
    owner only, and an existing one keeps its mode.

    Calls are done one after the other, in a worker thread. A call that is cancelled while it is done may still take
    effect.

    Args:
        path: of the file, made if absent. A second file beside it, with ``-wal`` at the end of its name, belongs to
            it while it is open and after a kill.
        sync: ``"normal"`` or ``"full"``.
        now: the clock, seconds since 1970; called in a worker thread.

    Raises:
        ValueError: as of `BlobBounds`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_blob_size: int = MAX_BLOB_SIZE,
        max_blobs: int = MAX_BLOBS,
        max_bytes: int = MAX_BYTES,
        time_to_live: float | None = DAY,
        evict: Evict = "refuse",
        sync: Literal["normal", "full"] = "normal",
        now: Callable[[], float] = time.time,
    ) -> None:
        bounds = BlobBounds(
            max_blob_size=max_blob_size,
            max_blobs=max_blobs,
            max_bytes=max_bytes,
            time_to_live=time_to_live,
            evict=evict,
        )
        if sync not in ("normal", "full"):
            raise ValueError(f"sync must be 'normal' or 'full', not {sync!r}")
        self.max_blob_size: Final = max_blob_size
        self._path: Final = os.fspath(path)
        self._database: Final = _Database(self._path, bounds, sync, now)
        self._limiter: Final = trio.CapacityLimiter(1)
        self._waiting = 0
        self._closed = self._given_up = False

    async def open(self) -> None:
        """Opens the file, which the first call does otherwise.

        Raises:
            OSError: the file cannot be made.
            BlobStoreError: it cannot be opened, is damaged, another program's, of another version, or in use by
                another process.
        """
        await self._call(self._database.open)

    async def get(self, key: str) -> bytes | None:
        """The blob, or None.

        Raises:
            BlobStoreBusy: 64 calls wait already, or no answer came in 10 s.
            BlobStoreError: the file cannot be read.
            trio.ClosedResourceError: the store is closed.
        """
        return await self._call(self._database.get, key)

    async def put(self, key: str, data: bytes) -> None:
        """Keeps the blob, for the whole time to live, instead of an earlier one.

        Raises:
            BlobTooLarge: it exceeds `max_blob_size`.
            BlobStoreFull: there is no room, by the bounds or on the disk; an earlier blob with this key is still there.
            ValueError: the key is malformed.
            BlobStoreError, trio.ClosedResourceError: as of `get`.
        """
        check_blob_key(key)
        await self._call(self._database.put, key, bytes(data))

    async def delete(self, key: str) -> bool:
        """Forgets the blob; whether there was one. Raises as `get`."""
        return await self._call(self._database.delete, key)

    async def stats(self) -> BlobStatistics:
        """Counts. Raises as `get`."""
        return await self._call(self._database.stats)

    async def aclose(self) -> None:
        """Closes the file after the calls that have begun, cancelled or not; waits 10 s at most."""
        if self._closed:
            await trio.lowlevel.checkpoint()
            return
        self._closed = True
        with trio.move_on_after(_TIMEOUT, shield=True) as patience:
            await self._in_thread(self._database.close)
        if patience.cancelled_caught:
            self._given_up = True  # the thread that is busy closes the file
            logger.warning("blob store %r: still busy after %g s, not waited for", self._path, _TIMEOUT)
        await trio.lowlevel.checkpoint_if_cancelled()

    async def _call(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        if self._closed:
            raise trio.ClosedResourceError
        if self._waiting >= _WAITING:
            raise BlobStoreBusy(f"blob store {self._path!r}: {_WAITING} calls wait already")
        self._waiting += 1
        try:
            with trio.move_on_after(_TIMEOUT):
                return await self._in_thread(function, *args)
        finally:
            self._waiting -= 1
        raise BlobStoreBusy(f"blob store {self._path!r}: no answer in {_TIMEOUT:g} s")

    async def _in_thread(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        return await trio.to_thread.run_sync(self._run, function, *args, abandon_on_cancel=True, limiter=self._limiter)

    def _run(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        try:
            return function(*args)
        finally:
            if self._given_up:
                self._database.close()

    def __repr__(self) -> str:
        return f"<SqliteBlobStore {self._path!r}>"


class _Database:
    """The file. Every method opens it if it is not open, and raises `BlobStoreError` or OSError only."""

    def __init__(self, path: str, bounds: BlobBounds, sync: str, now: Callable[[], float]) -> None:
        self._path, self._bounds, self._sync, self._now = path, bounds, sync, now
        self._connection: sqlite3.Connection | None = None
        self._entries = self._bytes = self._expired = self._evicted = self._refused = 0

    def open(self) -> None:
        if self._connection is not None:
            return
        with suppress(FileExistsError):  # a descriptor of a file that is there must not be closed: its locks would go
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        with self._errors():
            connection = sqlite3.connect(self._path, timeout=_LOCK_WAIT, isolation_level=None, check_same_thread=False)
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
        self._connection = connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        ask = connection.execute
        ask("PRAGMA locking_mode = EXCLUSIVE")
        mode = ask("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise BlobStoreError(f"blob store {self._path!r}: no write-ahead log here, but {mode!r}")
        ask(f"PRAGMA synchronous = {self._sync}")
        ask("BEGIN EXCLUSIVE")  # from here on the file is this process's
        application, version = (ask(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
        if not ask("SELECT COUNT(*) FROM sqlite_master").fetchone()[0] and not application:
            for statement in _SCHEMA:
                ask(statement)
        elif application != _APPLICATION:
            raise BlobStoreError(f"blob store {self._path!r}: this is another program's file")
        elif version != _VERSION:
            raise BlobStoreError(f"blob store {self._path!r}: version {version}, expected {_VERSION}")
        elif os.path.getsize(self._path) <= _CHECKED and (fault := ask("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise BlobStoreError(f"blob store {self._path!r}: damaged ({fault})")
        ask("COMMIT")
        self._entries, self._bytes = ask(_TOTALS).fetchone()

    def get(self, key: str) -> bytes | None:
        if not is_key_format(key):
            return None
        with self._transaction() as connection:
            row = connection.execute("SELECT data FROM blobs WHERE key = ?", (key,)).fetchone()
        return None if row is None else bytes(row[0])

    def put(self, key: str, data: bytes) -> None:
        if len(data) > self._bounds.max_blob_size:
            self._refused += 1
            raise BlobTooLarge(self._bounds.max_blob_size)
        with self._transaction() as connection:
            earlier = self._size(connection, key)
            entries, size = self._entries + (earlier is None), self._bytes + len(data) - (earlier or 0)
            kept = self._bounds.evict == "oldest" or self._bounds.fits(entries, size)
            if kept:
                self._forget(connection, key, earlier)
                self._make_room(connection, len(data))
                row = (key, self._now(), data)
                connection.execute("INSERT INTO blobs (key, stored, data) VALUES (?, ?, ?)", row)
                self._entries, self._bytes = self._entries + 1, self._bytes + len(data)
        if not kept:  # said after the end of the transaction, which forgot what was expired
            self._refused += 1
            raise self._bounds.full()

    def delete(self, key: str) -> bool:
        if not is_key_format(key):
            return False
        with self._transaction() as connection:
            size = self._size(connection, key)
            self._forget(connection, key, size)
        return size is not None

    def stats(self) -> BlobStatistics:
        with self._transaction():
            pass
        return BlobStatistics(self._entries, self._bytes, self._expired, self._evicted, self._refused)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with self._errors():
                connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self.open()
        connection = self._connection
        assert connection is not None
        before = self._entries, self._bytes, self._expired, self._evicted
        with self._errors():
            connection.execute("BEGIN IMMEDIATE")
            try:
                self._expire(connection)
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                self._entries, self._bytes, self._expired, self._evicted = before
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def _expire(self, connection: sqlite3.Connection) -> None:
        if self._bounds.time_to_live is None:
            return
        latest = (self._now() - self._bounds.time_to_live,)
        gone, size = connection.execute(f"{_TOTALS} WHERE stored <= ?", latest).fetchone()
        if gone:
            connection.execute("DELETE FROM blobs WHERE stored <= ?", latest)
            self._entries, self._bytes, self._expired = self._entries - gone, self._bytes - size, self._expired + gone

    def _make_room(self, connection: sqlite3.Connection, size: int) -> None:
        """Pushes the oldest out until one more blob, of so many bytes, fits."""
        while not self._bounds.fits(self._entries + 1, self._bytes + size):
            oldest = "SELECT key, LENGTH(data) FROM blobs ORDER BY turn LIMIT 1"
            self._forget(connection, *connection.execute(oldest).fetchone())
            self._evicted += 1

    def _size(self, connection: sqlite3.Connection, key: str) -> int | None:
        row = connection.execute("SELECT LENGTH(data) FROM blobs WHERE key = ?", (key,)).fetchone()
        return None if row is None else int(row[0])

    def _forget(self, connection: sqlite3.Connection, key: str, size: int | None) -> None:
        """Forgets the blob, whose size is given if there is one."""
        if size is not None:
            connection.execute("DELETE FROM blobs WHERE key = ?", (key,))
            self._entries, self._bytes = self._entries - 1, self._bytes - size

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """What SQLite says, in this package's words."""
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code
            if code == sqlite3.SQLITE_FULL:
                raise BlobStoreFull(f"blob store {self._path!r}: the disk is full") from error
            reason = "in use by another process" if code == sqlite3.SQLITE_BUSY else str(error)
            raise BlobStoreError(f"blob store {self._path!r}: {reason}") from error
