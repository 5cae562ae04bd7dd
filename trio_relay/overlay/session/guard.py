"""What strangers may make us spend on sessions: budgets, and cookies above them (sessions.md section 4); pure."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Final, TypeAlias

from ..._bounded import BoundedMap, TokenBucket
from ...wire.ids import NodeId
from ...wire.session import NO_COOKIE, Open, build_open

__all__ = ["Guard"]

_REMEMBERED: Final = 4096
_REMEMBERED_FOR: Final = 60.0
_SECRET_FOR: Final = 60.0

_Rate: TypeAlias = tuple[float, float]
"""So many a second, and so many at once."""


class _Budget:
    """Bounded for each id over each link, for each link, and in all: whoever is loud leaves room for others, and who
    speaks in another's name takes only of what comes over the same link."""

    def __init__(self, now: float, *, source: _Rate, link: _Rate, total: _Rate) -> None:
        self._source: Final = source
        self._link: Final = link
        self._buckets: Final = BoundedMap[bytes, TokenBucket](_REMEMBERED, _REMEMBERED_FOR)
        self._links: Final = BoundedMap[bytes, TokenBucket](_REMEMBERED, _REMEMBERED_FOR)
        self._total: Final = TokenBucket(*total, now)

    def take(self, via: NodeId, source: NodeId, now: float) -> bool:
        """Whether one more is within the budget; it is then spent."""
        of_source = _bucket(self._buckets, via + source, self._source, now)
        return of_source.take(now) and _bucket(self._links, via, self._link, now).take(now) and self._total.take(now)


class Guard:
    """Decides whether an OPEN may cost a signature (0.3 ms), and whether one more COOKIE or UNKNOWN may leave."""

    def __init__(self, entropy: Callable[[int], bytes], now: float) -> None:
        self._entropy: Final = entropy
        self._unproven: Final = _Budget(now, source=(4.0, 8.0), link=(20.0, 50.0), total=(100.0, 200.0))
        self._proven: Final = _Budget(now, source=(2.0, 4.0), link=(50.0, 100.0), total=(200.0, 400.0))
        self._replies: Final = _Budget(now, source=(4.0, 8.0), link=(200.0, 400.0), total=(2000.0, 4000.0))
        self._secret = self._old_secret = entropy(32)
        self._change_at = now + _SECRET_FOR

    def allows(self, via: NodeId, source: NodeId, index: bytes, message: Open, now: float) -> bool:
        """Whether to answer an OPEN that came over the link with `via`; if not, `cookie` is what to ask for.

        Whoever shows a cookie gets what is sent to `source`; he has budgets that others can not spend.
        """
        if message.cookie != NO_COOKIE:
            self._renew(now)
            for secret in (self._secret, self._old_secret):
                if hmac.compare_digest(message.cookie, _cookie(secret, source, index, message)):
                    return self._proven.take(via, source, now)
        return self._unproven.take(via, source, now)

    def cookie(self, source: NodeId, index: bytes, message: Open, now: float) -> bytes:
        """The cookie that an opener must show to be heard above the budget."""
        self._renew(now)
        return _cookie(self._secret, source, index, message)

    def may_reply(self, via: NodeId, source: NodeId, now: float) -> bool:
        """Whether one more COOKIE or UNKNOWN may answer what came from `source` over the link with `via`."""
        return self._replies.take(via, source, now)

    def _renew(self, now: float) -> None:
        if now >= self._change_at:
            fresh = self._entropy(32)
            self._old_secret = self._secret if now < self._change_at + _SECRET_FOR else fresh
            self._secret = fresh
            self._change_at = now + _SECRET_FOR


def _bucket(buckets: BoundedMap[bytes, TokenBucket], key: bytes, rate: _Rate, now: float) -> TokenBucket:
    bucket = buckets.get(key, now) or TokenBucket(*rate, now)
    buckets.set(key, bucket, now)
    return bucket


def _cookie(secret: bytes, source: NodeId, index: bytes, message: Open) -> bytes:
    said = source + index + build_open(message.without_cookie())
    return hmac.digest(secret, said, "sha256")[: len(NO_COOKIE)]
