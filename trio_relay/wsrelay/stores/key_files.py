"""Access keys from a text file that may be edited, replaced, deleted and put back while the relay runs.

Rules:

- The keys in force are those of the last good reading. A file that is missing, unreadable, too large or malformed
  changes nothing; the log says so, once for each reason.
- Threads only look at the file and parse it; what they bring is applied in Trio's thread, in the order in which the
  looks began.
- No error, log line or `repr` shows a key.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias, TypeVar, TypeVarTuple

import trio

from .keys import KEY_RULE, KeySet, is_key_format

__all__ = ["FileKeyStore", "KeyFileStatistics"]

MAX_FILE: Final = 8 * 1024 * 1024
"""Bytes in a key file."""
MAX_KEYS: Final = 100_000
"""Keys in a key file."""

_SETTLE: Final = 0.1
"""Seconds between two looks that must agree: an editor that empties the file before it writes is not believed."""
_SETTLE_LOOKS: Final = 10
"""Looks after which a file that changes all the time is taken as it is."""
_YOUNG: Final = 3.0
"""Seconds for which a new file is read at each look: file systems with times of 1 or 2 s hide a second edit."""
_PATIENCE: Final = 30.0
"""Seconds without an answer of the file system after which the log says so."""

Ts = TypeVarTuple("Ts")
T = TypeVar("T")
_Stamp: TypeAlias = tuple[int, int, int, int, int]
logger = logging.getLogger("trio_relay.wsrelay")


@dataclass(frozen=True, slots=True)
class KeyFileStatistics:
    """Counts of one `FileKeyStore`.

    Attributes:
        keys: in force now.
        changes: how often other keys came into force.
        failures: looks after which the old keys were kept because the file was missing, unreadable or malformed.
    """

    keys: int
    changes: int
    failures: int


class FileKeyStore:
    """Keys from a text file: one a line, spaces around it do not count; empty lines and lines with ``#`` do not either.

    The file is UTF-8, at most 8 MiB with 100,000 keys. It is read here, in the calling thread. A file without a key
    is a good file: every key is refused then.

    Args:
        path: of a regular file, or a link to one.
        watch: whether `watch` looks for changes.
        interval: seconds between two looks. Keys are in force 0.1 s after a look has found them, so that with the
            default a change takes 0.6 s at most where the file system is quick.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no regular file, too large, or has a malformed key; the message names the line.
    """

    def __init__(self, path: str | os.PathLike[str], *, watch: bool = True, interval: float = 0.5) -> None:
        if not (interval > 0 and math.isfinite(interval)):
            raise ValueError(f"expected an interval of more than 0 s, not {interval}")
        self._path: Final = os.fspath(path)
        self._interval: Final = interval
        self._limiter: Final = trio.CapacityLimiter(1)  # one thread, even while the file system hangs
        self._changed = trio.Event()
        self._changes = self._failures = 0
        self._begun = self._applied = 0
        self._young = math.ceil(_YOUNG / interval)
        self._fault = ""
        self.watched: Final = watch
        look = _look(self._path)
        if look.error is not None:
            raise look.error
        keys = _parse(look)
        if isinstance(keys, str):
            raise ValueError(f"key file {self._path!r}: {keys}")
        self._seen = look.without_content()
        self._keys = keys

    def validate(self, key: str) -> bool:
        """Whether the key is one of those in force."""
        return key in self._keys

    @property
    def changes(self) -> int:
        """How often other keys came into force."""
        return self._changes

    async def wait_change(self, seen: int) -> int:
        """Waits until `changes` is not `seen`; returns `changes`."""
        await trio.lowlevel.checkpoint()
        while self._changes == seen:
            await self._changed.wait()
        return self._changes

    def statistics(self) -> KeyFileStatistics:
        """Counts since the beginning."""
        return KeyFileStatistics(len(self._keys), self._changes, self._failures)

    def reload(self) -> bool:
        """Reads the file now, in this thread, which waits; while Trio runs, only from its thread.

        Returns:
            Whether the keys are now those of the file; if not, the old ones stay, and the log says why.
        """
        number = self._begin()
        look = _look(self._path)
        return self._apply(number, look, _parse(look))

    async def refresh(self) -> bool:
        """As `reload`, but a worker thread reads."""
        number = self._begin()
        look = await self._in_thread(_look, self._path)
        return self._apply(number, look, await self._in_thread(_parse, look))

    async def watch(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Looks for changes until it is cancelled; returns at once if the store was made with ``watch=False``."""
        task_status.started()
        hangs = False
        while self.watched:
            await trio.sleep(self._interval)
            with trio.move_on_after(_PATIENCE) as patience:
                await self._poll()
            if patience.cancelled_caught:
                self._failures += 1
                if not hangs:
                    logger.warning("key file %r: no answer in %g s; the old keys stay in force", self._path, _PATIENCE)
            elif hangs:
                logger.info("key file %r: it answers again", self._path)
            hangs = patience.cancelled_caught

    async def _poll(self) -> None:
        """One look, and when it shows another file than before, more until two agree."""
        number, seen = self._begin(), self._seen
        sure = self._young <= 0
        self._young -= 1
        look = await self._in_thread(_look_unless, self._path, seen.stamp if sure else None)
        if look is None or look == seen:
            return
        for _ in range(_SETTLE_LOOKS):
            await trio.sleep(_SETTLE)
            earlier, look = look, await self._in_thread(_look, self._path)
            if look == earlier:
                break
        if look != seen:
            self._apply(number, look, await self._in_thread(_parse, look), asked=False)

    async def _in_thread(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        return await trio.to_thread.run_sync(function, *args, abandon_on_cancel=True, limiter=self._limiter)

    def _begin(self) -> int:
        self._begun += 1
        return self._begun

    def _apply(self, number: int, look: _Look, keys: KeySet | str, *, asked: bool = True) -> bool:
        if number < self._applied:  # what began later is known already
            return not self._fault
        self._applied = number
        if look.stamp != self._seen.stamp:
            self._young = math.ceil(_YOUNG / self._interval)
        self._seen = look.without_content()
        if isinstance(keys, str):
            self._fail(keys, always=asked)
            return False
        if asked or self._fault or keys != self._keys:
            level = logging.INFO if keys else logging.WARNING  # without a key nobody gets in
            logger.log(level, "key file %r: %d keys in force", self._path, len(keys))
        self._fault = ""
        if keys != self._keys:
            self._keys = keys
            self._changes += 1
            self._changed.set()
            self._changed = trio.Event()
        return True

    def _fail(self, reason: str, *, always: bool = False) -> None:
        self._failures += 1
        if always or reason != self._fault:
            logger.warning("key file %r: %s; the %d old keys stay in force", self._path, reason, len(self._keys))
        self._fault = reason

    def __repr__(self) -> str:
        return f"<FileKeyStore {self._path!r}: {len(self._keys)} keys>"


@dataclass(frozen=True, slots=True)
class _Look:
    """What a look at the file showed; two are equal if the same file with the same content, or lack of it, was there.

    Attributes:
        stamp: tells this file, or this state of it, from another; None if the file could not be read.
        fault: why there is no content, or empty.
        error: the same as it was raised.
    """

    stamp: _Stamp | None
    content: bytes = field(default=b"", compare=False, repr=False)
    digest: bytes = field(default=b"", repr=False)
    fault: str = ""
    error: OSError | None = field(default=None, compare=False)

    def without_content(self) -> _Look:
        """What is kept until the next look."""
        return replace(self, content=b"", error=None)


def _stamp(status: os.stat_result) -> _Stamp:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _open_without_waiting(path: str, flags: int) -> int:
    """A named pipe without a writer would keep an opener waiting."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _look(path: str) -> _Look:
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                return _Look(_stamp(status), fault="not a regular file")
            if status.st_size > MAX_FILE or len(content := file.read(MAX_FILE + 1)) > MAX_FILE:
                return _Look(_stamp(status), fault=f"more than {MAX_FILE:,} bytes")
    except OSError as error:
        return _Look(None, fault=error.strerror or str(error), error=error)
    return _Look(_stamp(status), content, hashlib.sha256(content).digest())


def _look_unless(path: str, stamp: _Stamp | None) -> _Look | None:
    """A look; None if a file with this stamp is there."""
    if stamp is not None:
        try:
            if _stamp(os.stat(path)) == stamp:
                return None
        except OSError:
            pass  # the look tells why
    return _look(path)


def _parse(look: _Look) -> KeySet | str:
    """The keys of the content that a look found, or why there are none."""
    if look.fault:
        return look.fault
    keys = []
    # What is not UTF-8 matters only outside comments, and is malformed there.
    for number, line in enumerate(look.content.decode("utf-8", "replace").removeprefix("\ufeff").split("\n"), 1):
        key = line.strip()
        if not key or key.startswith("#"):
            continue
        if not is_key_format(key):
            return f"line {number}: expected {KEY_RULE}"
        keys.append(key)
        if len(keys) > MAX_KEYS:
            return f"more than {MAX_KEYS:,} keys"
    return KeySet(keys)
