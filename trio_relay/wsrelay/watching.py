"""Presence: who is told that a peer came or went, and when."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import Final

import trio

from .addresses import ChannelTable, split_address
from .config import RelayConfig
from .messages import encode_error, encode_status
from .peer import LivePeer
from .presence import Announcement, Announcements
from .registry import Registry

__all__ = ["Watching"]

_AT_ONCE: Final = 8
"""Watchers told in one turn of Trio's loop: a write that wakes a reader takes 10 us, and other traffic waits for it."""
_TOO_MANY: Final = encode_error("TOO_MANY_WATCHES", "Too many addresses are watched")
_DENIED: Final = encode_error("WATCH_DENIED", "Peers of this channel may not be watched from yours")
_LONGEST: Final = 512
"""Characters in an address that anybody can have."""


class Watching:
    """Answers watches at once, and tells watchers of changes: a few at once, many in turns."""

    def __init__(self, config: RelayConfig, registry: Registry, counts: Counter[str]) -> None:
        self._registry: Final = registry
        self._counts: Final = counts
        self._announcements: Final = Announcements(counts)
        self._busy = False
        self._wake = trio.Event()
        self.configure(config)

    def configure(self, config: RelayConfig) -> None:
        """Goes by these rules from now on."""
        self._channels = ChannelTable(config.channel_list)
        self._most = config.max_watches
        for watcher in list(self._registry.peers.values()):
            for address in list(self._registry.watched(watcher)):
                if not self._may_watch(watcher, address):
                    self._registry.unwatch(watcher, address)
                    watcher.outbox.answer(_DENIED)

    def _may_watch(self, watcher: LivePeer, address: str) -> bool:
        split = split_address(address)
        channel = self._channels.get(split.channel) if split is not None else None
        return channel is None or channel.watchable_by is None or watcher.channel in channel.watchable_by

    def watch(self, watcher: LivePeer, address: str) -> None:
        """Answers with the present state, and with every later one."""
        if not watcher.registered:
            return  # its end has come in the middle of a batch, and nothing would ever take the watch away
        if address == watcher.address:
            # Whoever hears the answer is online, and does not hear of the end.
            watcher.outbox.answer(encode_status(address, True))
            return
        if len(address) > _LONGEST:
            self._counts["watch_of_nobody"] += 1
            watcher.outbox.answer(encode_status(address[:_LONGEST], False))
            return
        if not self._may_watch(watcher, address):
            self._counts["watch_denied"] += 1
            watcher.outbox.answer(_DENIED)
            return
        split = split_address(address)
        # Of a channel that there is not nobody ever comes.
        is_real = split is not None and self._channels.get(split.channel) is not None
        if is_real and not self._registry.watch(watcher, address, self._announcements.number, self._most):
            self._counts["watches_full"] += 1
            watcher.outbox.answer(_TOO_MANY)
            return
        watcher.outbox.answer(encode_status(address, address in self._registry.peers))

    def unwatch(self, watcher: LivePeer, address: str) -> None:
        """Ends a watch; no answer."""
        self._registry.unwatch(watcher, address)

    def announce(self, address: str, online: bool) -> None:
        """A peer came or went."""
        announcement = self._announcements.make(address, online)
        watchers = self._registry.watchers(address)
        if not watchers:
            return
        if len(watchers) <= _AT_ONCE and not self._busy:
            # A watcher that is too slow for this one leaves, which is announced: later, not inside of this call.
            self._busy = True
            self._tell(list(watchers), announcement, encode_status(address, online))
            self._busy = len(self._announcements) > 0
        else:
            # What comes from now on must not overtake it.
            self._busy = True
            self._announcements.add(announcement)
            self._wake.set()

    async def run(self) -> None:
        """Tells what waits to be told, for ever."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            self._busy = True
            while (announcement := self._announcements.take()) is not None:
                frame = encode_status(announcement.address, announcement.online)
                watchers = iter(list(self._registry.watchers(announcement.address)))
                while some := list(islice(watchers, _AT_ONCE)):
                    self._tell(some, announcement, frame)
                    await trio.lowlevel.checkpoint()
            self._busy = False

    def _tell(self, watchers: list[LivePeer], announcement: Announcement, frame: bytes) -> None:
        current = self._registry.watchers(announcement.address)
        for watcher in watchers:
            if current.get(watcher, announcement.number) < announcement.number:
                watcher.outbox.push(frame)
