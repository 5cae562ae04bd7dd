"""How often a node may be made to open connections: in all, and towards or on behalf of one network range; pure."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Final

from .._bounded import BoundedMap, TokenBucket
from ..wire.addresses import network_group
from ..wire.urls import host

__all__ = ["DialRates", "networks"]

_PER_SECOND: Final = 10.0
_BURST: Final = 40.0
_GROUP_PER_SECOND: Final = 1.0
_GROUP_BURST: Final = 8.0
_GROUPS: Final = 256


def networks(urls: Iterable[str]) -> set[str]:
    """The network range of each URL (`wire.addresses.network_group`); what is no URL is left out."""
    found = set()
    for url in urls:
        with contextlib.suppress(ValueError):
            found.add(network_group(host(url)))
    return found


class DialRates:
    """Foreign records say where to dial: with these rates they make neither a scanner nor a flooder of us."""

    def __init__(self, now: float) -> None:
        self._all: Final = TokenBucket(_PER_SECOND, _BURST, now)
        self._groups: Final = BoundedMap[str, TokenBucket](_GROUPS, 60.0)

    def allow(self, groups: set[str], now: float) -> bool:
        """Whether one more attempt that concerns all of these ranges is within their rates; loopback has none."""
        allowed = True
        for group in sorted(groups - {""}):
            bucket = self._groups.get(group, now)
            if bucket is None:
                bucket = TokenBucket(_GROUP_PER_SECOND, _GROUP_BURST, now)
                self._groups.set(group, bucket, now)
            allowed = bucket.take(now) and allowed
        return allowed and self._all.take(now)
