"""How much one peer, key or IP may do: connections at once, messages in a window, bytes a second. Pure.

Every limit is asked before something happens and says whether it may. `now` is seconds of one clock that never goes
back. There is no "unlimited": the caller asks no limit where there is none.
"""

from __future__ import annotations

import heapq
import math
from typing import Final

from .._bounded import TokenBucket

__all__ = ["ByteRates", "ConnectionCounter", "MessageWindow"]


class ConnectionCounter:
    """Connections at once by IP; what holds none takes no memory.

    Attributes:
        most: connections of one IP; may be changed, those that are there stay.
    """

    __slots__ = ("_counts", "most")

    def __init__(self, most: int) -> None:
        self.most = most
        self._counts: Final[dict[str, int]] = {}

    def take(self, ip: str) -> bool:
        """Whether `ip` may have one more; counts it if so, until `release`."""
        count = self._counts.get(ip, 0)
        if count >= self.most:
            return False
        self._counts[ip] = count + 1
        return True

    def release(self, ip: str) -> None:
        """A connection that was taken has ended; nothing if there is none."""
        count = self._counts.get(ip, 0)
        if count > 1:
            self._counts[ip] = count - 1
        else:
            self._counts.pop(ip, None)

    def __len__(self) -> int:
        """IPs that have a connection."""
        return len(self._counts)


class MessageWindow:
    """The messages of one connection in a window of time, as `@sumicom/ws-relay` 0.1.2 counts them.

    A window begins with the first message that comes more than `window` seconds after the last one began.
    """

    __slots__ = ("_count", "_start", "most", "window")

    def __init__(self, most: int, window: float) -> None:
        self.most, self.window = most, window
        self._count = 0
        self._start = -math.inf

    def take(self, n: int, now: float) -> int:
        """How many of `n` messages that came together are allowed: the first so many of them."""
        if now - self._start > self.window and n:
            self._start, self._count = now, 0
        left = self.most - self._count
        self._count += n
        return n if n <= left else max(left, 0)


class ByteRates:
    """Token buckets by name: each may take `rate` a second on average and `burst` at once.

    A bucket that is full again is as good as none and is forgotten, two at most in one call. Where there is no room
    for a new one, the fullest goes, of those that are full the one that has been so for longest. So a name that
    has used up its burst is the last to get a new one.

    Args:
        rate: more than 0.
        burst: at least 1; more than this is never allowed at once.
        capacity: buckets kept.

    Attributes:
        evicted: buckets that were not full when they had to go.

    Raises:
        ValueError: a number is out of range.
    """

    def __init__(self, rate: float, burst: float, capacity: int) -> None:
        if not (0 < rate < math.inf and 1 <= burst < math.inf and capacity >= 1):
            given = f"{rate}, {burst} and {capacity}"
            raise ValueError(f"expected a rate above 0, a burst and a capacity of at least 1, all finite, not {given}")
        self.evicted = 0
        self._rate, self._burst, self._capacity = rate, burst, capacity
        self._buckets: Final[dict[str, _Bucket]] = {}
        # One entry a bucket: when it was to be full at the time of the entry. It never gets full earlier than that.
        self._full_at: Final[list[tuple[float, str]]] = []

    def take(self, name: str, n: float, now: float) -> bool:
        """Whether `name` may have `n` more now; takes it if so."""
        self._forget(now)
        bucket = self._buckets.get(name)
        if bucket is not None:
            return bucket.take(now, n)
        bucket = _Bucket(self._rate, self._burst, now)
        if not bucket.take(now, n):
            return False
        while len(self._buckets) >= self._capacity:
            self._drop_fullest(now)
        self._buckets[name] = bucket
        heapq.heappush(self._full_at, (bucket.full_at(), name))
        return True

    def __len__(self) -> int:
        """Buckets kept."""
        return len(self._buckets)

    def _forget(self, now: float) -> None:
        for _ in range(2):
            if not self._full_at or self._full_at[0][0] > now:
                return
            self._renew_or_drop(now)

    def _drop_fullest(self, now: float) -> None:
        while True:
            then, name = self._full_at[0]
            full_at = self._buckets[name].full_at()
            if full_at <= then:
                break
            heapq.heapreplace(self._full_at, (full_at, name))
        heapq.heappop(self._full_at)
        del self._buckets[name]
        self.evicted += then > now

    def _renew_or_drop(self, now: float) -> None:
        """Sees to the first entry: its bucket is full, or has been used since."""
        name = self._full_at[0][1]
        full_at = self._buckets[name].full_at()
        if full_at > now:
            heapq.heapreplace(self._full_at, (full_at, name))
        else:
            heapq.heappop(self._full_at)
            del self._buckets[name]


class _Bucket(TokenBucket):
    """One that knows when it will be full."""

    __slots__ = ()

    def full_at(self) -> float:
        return self._then + (self._burst - self._level) / self._rate
