"""Traffic per access key, in windows of time with a history. Pure: `now` is seconds of one clock that never goes back.

The windows are those of `@sumicom/ws-relay` 0.1.2: a key's first one begins when the key is first seen; one that is
`window` seconds old moves to the history, and empty windows with it for the intervals in which nothing was asked.
Here only windows with traffic are kept in memory, and a long idle time costs no more than a short one.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from typing import Final, NamedTuple

__all__ = ["MAX_KEYS", "Account", "KeyTraffic", "TrafficMeter", "Window"]

MAX_KEYS: Final = 100_000
"""Keys with a connection or with traffic in the history.

One takes about 400 bytes, and 100 more for each past window with traffic.
"""


class Window(NamedTuple):
    """Bytes received from and sent to the connections of a key since `start`, for one window's length."""

    bytes_in: int
    bytes_out: int
    start: float


class KeyTraffic(NamedTuple):
    """What is known of one key: its connections now, the window that is running, and those before, oldest first."""

    connections: int
    current: Window
    history: tuple[Window, ...]


_LOOKS_AT_ONCE: Final = 100
"""Keys that one call may forget, so that none takes long; `statistics` forgets all."""


class Account:
    """The traffic of one key; made by `TrafficMeter`.

    Good for as long as the key has a connection, and for the length of the history after that; what is added later
    is in no statistics.
    """

    # fmt: off
    __slots__ = (
        "_begun", "_counted_in", "_counted_out", "_end", "_index", "_kept", "_last", "_past", "_window",
        "connections", "queued", "total_in", "total_out",
    )
    # fmt: on

    def __init__(self, window: float, kept: int, now: float) -> None:
        self.total_in = self.total_out = 0
        self.connections = 0
        self.queued = False
        self._window, self._kept = window, kept
        self._begun = now
        self._index = 0  # of the window that is running; it ends at `_end`
        self._end = now + window
        self._last = 0  # the last window in which the key was seen, unless the running one has traffic
        self._counted_in = self._counted_out = 0  # the totals when it began
        self._past: list[tuple[int, int, int]] = []  # index, in, out of those with traffic

    def add_in(self, n: int, now: float) -> None:
        """`n` bytes came from a connection of the key."""
        if now >= self._end:
            self._roll(now)
        self.total_in += n

    def add_out(self, n: int, now: float) -> None:
        """`n` bytes went to a connection of the key."""
        if now >= self._end:
            self._roll(now)
        self.total_out += n

    def traffic(self, now: float) -> KeyTraffic:
        """What is known of the key."""
        if now >= self._end:
            self._roll(now)
        history = [Window(0, 0, self._start(index)) for index in range(self._oldest(), self._index)]
        for index, bytes_in, bytes_out in self._past:
            history[index - self._index] = Window(bytes_in, bytes_out, self._start(index))
        return KeyTraffic(self.connections, Window(*self._running(), self._start(self._index)), tuple(history))

    def running(self, now: float) -> int:
        """Bytes both ways in the window that is running; changes nothing, so that looking at all keys is cheap."""
        if now >= self._end:
            return 0
        return self.total_in + self.total_out - self._counted_in - self._counted_out

    def current(self, now: float) -> KeyTraffic:
        """What is known of the key, without the past."""
        if now >= self._end:
            self._roll(now)
        return KeyTraffic(self.connections, Window(*self._running(), self._start(self._index)), ())

    def touch(self, now: float) -> None:
        """The key was seen, with or without traffic."""
        if now >= self._end:
            self._roll(now)
        self._last = self._index

    def quiet_from(self, now: float) -> float:
        """When the whole history will have passed without traffic and without `touch`, if nothing more comes."""
        if now >= self._end:
            self._roll(now)
        last = self._last if self._running() == (0, 0) else self._index
        return self._start(last + self._kept + 1)

    def _roll(self, now: float) -> None:
        """Moves to the window that `now` is in."""
        running = self._running()
        if running != (0, 0):
            self._past.append((self._index, *running))
            self._counted_in, self._counted_out = self.total_in, self.total_out
            self._last = self._index
        index = max(self._index + 1, math.floor((now - self._begun) / self._window))
        # The division may round to a neighbour.
        if now >= self._start(index + 1):
            index += 1
        elif index > self._index + 1 and now < self._start(index):
            index -= 1
        self._index, self._end = index, self._start(index + 1)
        while self._past and self._past[0][0] < self._oldest():
            del self._past[0]

    def _running(self) -> tuple[int, int]:
        return self.total_in - self._counted_in, self.total_out - self._counted_out

    def _start(self, index: int) -> float:
        return self._begun + index * self._window

    def _oldest(self) -> int:
        return max(0, self._index - self._kept)


class TrafficMeter:
    """The accounts of all keys.

    A key without a connection is forgotten when its whole history has passed without one and without traffic.

    Args:
        window: seconds in a window.
        history: windows kept besides the running one.
        now: when the meter begins.
        max_keys: of the keys that are new beyond this many, the traffic counts in the totals only.

    Attributes:
        unlisted: how often a key found no room.

    Raises:
        ValueError: a number is out of range.
    """

    def __init__(self, window: float, history: int, now: float, *, max_keys: int = MAX_KEYS) -> None:
        if not (window > 0 and math.isfinite(window)):
            raise ValueError(f"expected a window of more than 0 seconds, not {window}")
        if history < 0 or max_keys < 0:
            raise ValueError(f"expected a history and max_keys of at least 0, not {history} and {max_keys}")
        self.unlisted = 0
        self._window, self._history = window, history
        self._max_keys = max_keys
        self._accounts: Final[dict[str, Account]] = {}
        self._rest: Final = Account(window, 0, now)
        # A key that has found no room stays unlisted until its last connection ends: never half here, half there.
        self._rest_connections: Final[Counter[str]] = Counter()
        # When to look at a key without connections again; at most one entry a key.
        self._due: Final[list[tuple[float, str]]] = []
        self._forgotten_in = self._forgotten_out = 0

    @property
    def total_in(self) -> int:
        """Bytes received, those of forgotten and unlisted keys included; takes a moment if there are many keys."""
        return self._forgotten_in + self._rest.total_in + sum(account.total_in for account in self._accounts.values())

    @property
    def total_out(self) -> int:
        """Bytes sent, likewise."""
        return self._forgotten_out + self._rest.total_out + sum(each.total_out for each in self._accounts.values())

    def account(self, key: str, now: float) -> Account:
        """The account of `key`, to be kept by its connections: adding to it is cheaper than `record_in`."""
        if self._due and self._due[0][0] <= now:
            self._forget(now, _LOOKS_AT_ONCE)
        account = self._accounts.get(key)
        if account is not None:
            return account
        if len(self._accounts) >= self._max_keys or key in self._rest_connections:
            self.unlisted += 1
            return self._rest
        account = self._accounts[key] = Account(self._window, self._history, now)
        self._look_again(key, account, now)
        return account

    def record_in(self, key: str, n: int, now: float) -> None:
        """`n` bytes came from a connection of `key`."""
        self.account(key, now).add_in(n, now)

    def record_out(self, key: str, n: int, now: float) -> None:
        """`n` bytes went to a connection of `key`."""
        self.account(key, now).add_out(n, now)

    def add_connection(self, key: str, now: float) -> Account:
        """A connection of `key` begins; returns the key's account."""
        account = self.account(key, now)
        if account is self._rest:
            self._rest_connections[key] += 1
        else:
            account.connections += 1
        return account

    def remove_connection(self, key: str, now: float) -> None:
        """A connection of `key` has ended; nothing if there is none."""
        if key in self._rest_connections:
            self._rest_connections[key] -= 1
            if not self._rest_connections[key]:
                del self._rest_connections[key]
            return
        account = self._accounts.get(key)
        if account is not None and account.connections:
            account.connections -= 1
            account.touch(now)
            if not account.connections:
                self._look_again(key, account, now)

    def statistics(self, now: float) -> dict[str, KeyTraffic]:
        """Every listed key, in the order in which they came."""
        self._forget(now, len(self._due))
        return {key: account.traffic(now) for key, account in self._accounts.items()}

    def busiest(self, most: int, now: float) -> dict[str, KeyTraffic]:
        """Up to `most` keys with traffic in the window that is running, the one with most bytes first.

        Without the history; a look at every listed key, about 0.2 us each.
        """
        busy = ((size, key) for key, account in self._accounts.items() if (size := account.running(now)))
        return {key: self._accounts[key].current(now) for _, key in heapq.nlargest(most, busy)}

    def _look_again(self, key: str, account: Account, now: float) -> None:
        if not account.queued:
            account.queued = True
            heapq.heappush(self._due, (account.quiet_from(now), key))

    def _forget(self, now: float, most: int) -> None:
        """Looks at up to `most` of the keys that are due, and drops those that are quiet."""
        for _ in range(most):
            if not self._due or self._due[0][0] > now:
                return
            key = heapq.heappop(self._due)[1]
            account = self._accounts[key]
            account.queued = False
            if account.connections:
                continue  # the end of the last one queues it again
            if account.quiet_from(now) > now:
                self._look_again(key, account, now)
            else:
                self._forgotten_in += account.total_in
                self._forgotten_out += account.total_out
                del self._accounts[key]
