"""Access keys: their form, what a key store is, and the store that reads an environment variable.

No error, log line or `repr` of this file shows a key.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import re
import secrets
from collections.abc import Awaitable, Iterable
from typing import Final, Protocol, runtime_checkable

import trio

__all__ = [
    "KEY_FORMAT",
    "KEY_RULE",
    "ChangingKeyStore",
    "EnvKeyStore",
    "KeySet",
    "KeyStore",
    "close_store",
    "is_key_format",
    "is_valid",
]

KEY_FORMAT: Final = re.compile(r"\A[A-Za-z0-9_-]{8,64}\Z")
"""The form of access keys, of blob keys, and by default of peers' ids."""
KEY_RULE: Final = "8 to 64 characters of A-Z a-z 0-9 _ -"
"""The same in words, for error messages."""

_SECRET: Final = secrets.token_bytes(32)


def is_key_format(text: str) -> bool:
    """Whether the text is 8 to 64 characters of ``A-Z a-z 0-9 _ -``."""
    return KEY_FORMAT.match(text) is not None


class KeyStore(Protocol):
    """What decides which access keys are good.

    Only `validate` is required. A store may also have ``aclose()`` or ``close()``, sync or async: `close_store`. A
    store that can tell when its keys change is a `ChangingKeyStore`.
    """

    def validate(self, key: str) -> bool | Awaitable[bool]:
        """Whether the key is good; the relay asks only about keys of the right form.

        A sync method is called in the event loop and must be quick; one that waits for anything must be async.
        """
        ...


@runtime_checkable
class ChangingKeyStore(Protocol):
    """A `KeyStore` that tells when its keys change, so that connections with a removed key can be closed at once."""

    @property
    def changes(self) -> int:
        """How often the keys changed so far."""
        ...

    def validate(self, key: str) -> bool | Awaitable[bool]:
        """As in `KeyStore`."""
        ...

    async def watch(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Notices changes until it is cancelled; the relay runs it as a task."""
        ...

    async def wait_change(self, seen: int) -> int:
        """Waits until `changes` is not `seen`; returns `changes`."""
        ...


class KeySet:
    """An immutable set of keys that does not keep the keys: equality, length, and `in`.

    It holds keyed BLAKE2b digests, with a secret of this process. How long a look-up takes depends on digests only,
    and who does not know the secret can neither predict nor steer those: the time tells nothing about a key.
    """

    __slots__ = ("_digests",)

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests: Final = frozenset(map(_digest, keys))

    def __contains__(self, key: str) -> bool:
        return is_key_format(key) and _digest(key) in self._digests

    def __len__(self) -> int:
        return len(self._digests)

    def __eq__(self, other: object) -> bool:
        return self._digests == other._digests if isinstance(other, KeySet) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._digests)

    def __repr__(self) -> str:
        return f"<KeySet of {len(self)}>"


class EnvKeyStore:
    """Keys from an environment variable, separated by commas; spaces around a key and empty entries do not count.

    The variable is read once, here.

    Raises:
        ValueError: the variable is not set, has no key, or has a malformed one; the message names its position.
    """

    def __init__(self, variable: str) -> None:
        self._variable: Final = variable
        value = os.environ.get(variable)
        if value is None:
            raise ValueError(f"environment variable {variable} is not set")
        keys = []
        for position, entry in enumerate(value.split(","), 1):
            key = entry.strip()
            if key and not is_key_format(key):
                raise ValueError(f"environment variable {variable}: expected {KEY_RULE} as entry {position}")
            if key:
                keys.append(key)
        if not keys:
            raise ValueError(f"environment variable {variable} has no key")
        self._keys: Final = KeySet(keys)

    def validate(self, key: str) -> bool:
        """Whether the key is one of them."""
        return key in self._keys

    def __repr__(self) -> str:
        return f"<EnvKeyStore {self._variable}: {len(self._keys)} keys>"


async def is_valid(store: KeyStore, key: str) -> bool:
    """What the store's `validate` says, awaited if it is async; what that raises comes through."""
    verdict = store.validate(key)
    return bool(await verdict if inspect.isawaitable(verdict) else verdict)


async def close_store(store: object) -> None:
    """Calls the store's ``aclose()``, else its ``close()``, if it has one, and awaits what is awaitable."""
    close = getattr(store, "aclose", None) or getattr(store, "close", None)
    if close is not None:
        done = close()
        if inspect.isawaitable(done):
            await done


def _digest(key: str) -> bytes:
    return hashlib.blake2b(key.encode(), key=_SECRET, digest_size=32).digest()
