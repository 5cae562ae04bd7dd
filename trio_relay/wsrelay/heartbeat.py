"""Notices clients that are gone without a word: pings each once in an interval, and drops who was silent since."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from typing import Final

import trio

from .config import RelayConfig
from .peer import LivePeer

__all__ = ["Heartbeat"]

_AT_ONCE: Final = 64
"""Pings in one turn of Trio's loop."""


class Heartbeat:
    """The peers by the time of their next ping.

    Whatever a client sends is a sign of life. While the relay itself does not read from it, none is expected.
    """

    def __init__(self, config: RelayConfig, counts: Counter[str]) -> None:
        self._counts: Final = counts
        self._due: Final[OrderedDict[LivePeer, float]] = OrderedDict()
        self._wake = trio.Event()
        self.configure(config)

    def configure(self, config: RelayConfig) -> None:
        """Goes by this interval from now on."""
        self._interval = config.heartbeat_interval
        latest = trio.current_time() + self._interval
        for peer, due in self._due.items():
            self._due[peer] = min(due, latest)
        self._wake.set()

    def add(self, peer: LivePeer) -> None:
        """Watches over a peer."""
        if not self._due:
            self._wake.set()
        self._due[peer] = trio.current_time() + self._interval

    def remove(self, peer: LivePeer) -> None:
        """The peer is gone."""
        self._due.pop(peer, None)

    async def run(self) -> None:
        """Pings, for ever."""
        while True:
            self._wake = trio.Event()
            with trio.move_on_at(next(iter(self._due.values()), math.inf)):
                await self._wake.wait()
            while self._beat_some():
                await trio.lowlevel.checkpoint()

    def _beat_some(self) -> bool:
        """Pings those whose time has come; returns whether there may be more of them."""
        now = trio.current_time()
        for _ in range(_AT_ONCE):
            peer, due = next(iter(self._due.items()), (None, math.inf))
            if peer is None or due > now:
                return False
            self._beat(peer, now)
        return True

    def _beat(self, peer: LivePeer, now: float) -> None:
        self._due[peer] = now + self._interval
        self._due.move_to_end(peer)
        if peer.connection.heard or peer.paused:
            peer.connection.heard = False
            peer.outbox.ping()
        else:
            self._counts["heartbeat_lost"] += 1
            self._due.pop(peer)
            peer.outbox.abort()
