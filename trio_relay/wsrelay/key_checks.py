"""Asks the key store again about the keys of connected peers, so that who lost a key does not stay.

A store that fails or hangs for one key says nothing of that key, and keeps no other from being asked about.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Final

import trio

from ..serving.failures import log_failure
from .config import RelayConfig
from .peer import LivePeer
from .stores.keys import ChangingKeyStore, is_valid

__all__ = ["KeyChecks"]

_AT_ONCE: Final = 32
"""Keys that a store is asked about at the same time: one that takes 20 ms tells of 1,600 keys in a second."""
_TURN: Final = 64
"""Answers that came without waiting, before others have their turn."""
_RETRY: Final = 1.0
"""Seconds until a store's own tasks, having failed, are started again."""


class KeyChecks:
    """The checks of one relay.

    Args:
        peers: by key, those that are connected.
        revoke: ends a peer whose key is not good any more.
    """

    def __init__(
        self,
        config: RelayConfig,
        peers: Mapping[str, Mapping[LivePeer, None]],
        revoke: Callable[[LivePeer], None],
        counts: Counter[str],
    ) -> None:
        self._peers: Final = peers
        self._revoke: Final = revoke
        self._counts: Final = counts
        self._one_pass: Final = trio.Lock()
        self._wake = trio.Event()
        self.configure(config)

    def configure(self, config: RelayConfig) -> None:
        """Goes by this interval from now on."""
        self._config = config
        self._wake.set()

    async def run(self) -> None:
        """Checks all keys every `RelayConfig.key_check_interval`, for ever."""
        while True:
            self._wake = trio.Event()
            interval = self._config.key_check_interval
            with trio.move_on_after(math.inf if interval is None else interval) as pause:
                await self._wake.wait()
            if pause.cancelled_caught:
                await self.check()

    async def watch(self, store: ChangingKeyStore) -> None:
        """Runs a store's own task, and checks all keys whenever it says that they changed; returns if it needs none."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._again_and_again, store.watch)
            nursery.start_soon(self._again_and_again, self._follow, store)

    async def _follow(self, store: ChangingKeyStore) -> None:
        seen = store.changes
        while True:
            seen = await store.wait_change(seen)
            await self.check()

    async def _again_and_again(self, task: Callable[..., Awaitable[None]], *arguments: object) -> None:
        """Runs a task until it returns; one that fails is started again."""
        while True:
            try:
                await task(*arguments)
                return
            except Exception as error:
                self._counts["key_store_failed"] += 1
                log_failure("the key store failed, and is started again", error)
            await trio.sleep(_RETRY)

    async def check(self) -> None:
        """Asks about every key now; after a pass that is under way."""
        if self._config.key_store is False:
            return
        async with self._one_pass:
            keys = iter(list(self._peers))
            async with trio.open_nursery() as nursery:
                for _ in range(min(_AT_ONCE, len(self._peers))):
                    nursery.start_soon(self._check_some, keys)

    async def _check_some(self, keys: Iterator[str]) -> None:
        for number, key in enumerate(keys, 1):
            await self._check(key)
            if number % _TURN == 0:
                await trio.lowlevel.checkpoint()

    async def _check(self, key: str) -> None:
        try:
            with trio.fail_after(self._config.verify_timeout):
                good = await is_valid(self._config.keys, key)
        except Exception as error:
            # Whoever is in stays in while nobody can say.
            self._counts["key_store_failed"] += 1
            log_failure("the key store failed", error, key)
            return
        if not good:
            for peer in list(self._peers.get(key, ())):
                self._counts["key_revoked"] += 1
                self._revoke(peer)
