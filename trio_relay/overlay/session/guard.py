"""What strangers may make us spend on sessions: budgets, and cookies above them (sessions.md section 4); pure."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Final

from ..._bounded import BoundedMap, TokenBucket
from ...wire.session import NO_COOKIE, Open, build_open
from ..table import Neighbour

__all__ = ["Guard"]

_PER_LINK: Final = 20.0
_LINK_BURST: Final = 50.0
_WITH_COOKIE: Final = 200.0
_COOKIE_BURST: Final = 400.0
"""For all links together: at 0.3 ms each, 6 % of a processor."""
_WITH_COOKIE_FROM: Final = 2.0
_FROM_BURST: Final = 4.0
_WITH_COOKIE_LINK: Final = 50.0
_COOKIE_LINK_BURST: Final = 100.0
_REMEMBERED: Final = 4096
_REPLIES: Final = 50.0
_REPLIES_BURST: Final = 100.0
"""COOKIE and UNKNOWN for what comes over one link, so that a flood there hides nothing from the others."""
_SECRET_FOR: Final = 60.0


class Guard:
    """Decides whether an OPEN may cost a signature."""

    def __init__(self, entropy: Callable[[int], bytes], now: float) -> None:
        self._entropy: Final = entropy
        self._proven: Final = TokenBucket(_WITH_COOKIE, _COOKIE_BURST, now)
        self._sources: Final = BoundedMap[bytes, TokenBucket](_REMEMBERED, 60.0)
        self._links: Final = BoundedMap[bytes, TokenBucket](_REMEMBERED, 60.0)
        self._secret = self._old_secret = entropy(32)
        self._change_at = now + _SECRET_FOR

    def allows(self, via: Neighbour, source: bytes, index: bytes, message: Open, now: float) -> bool:
        """Whether to answer; if not, `cookie` is what to ask for."""
        if message.cookie != NO_COOKIE:
            self._renew(now)
            for secret in (self._secret, self._old_secret):
                if hmac.compare_digest(message.cookie, _cookie(secret, source, index, message)):
                    return self._allows_proven(via, source, now)
        if via.openings is None:
            via.openings = TokenBucket(_PER_LINK, _LINK_BURST, now)
        return via.openings.take(now)

    def _allows_proven(self, via: Neighbour, source: bytes, now: float) -> bool:
        """Whoever shows a cookie gets what is sent to `source`: bounded for each, for each link, and in all."""
        of_source = _bucket(self._sources, source, _WITH_COOKIE_FROM, _FROM_BURST, now)
        of_link = _bucket(self._links, via.id, _WITH_COOKIE_LINK, _COOKIE_LINK_BURST, now)
        return of_source.take(now) and of_link.take(now) and self._proven.take(now)

    def cookie(self, source: bytes, index: bytes, message: Open, now: float) -> bytes:
        """The cookie that an opener must show to be heard above the budget."""
        self._renew(now)
        return _cookie(self._secret, source, index, message)

    @staticmethod
    def may_reply(via: Neighbour, now: float) -> bool:
        """Whether one more COOKIE or UNKNOWN may leave for what came over that link."""
        if via.replies is None:
            via.replies = TokenBucket(_REPLIES, _REPLIES_BURST, now)
        return via.replies.take(now)

    def _renew(self, now: float) -> None:
        if now >= self._change_at:
            fresh = self._entropy(32)
            self._old_secret = self._secret if now < self._change_at + _SECRET_FOR else fresh
            self._secret = fresh
            self._change_at = now + _SECRET_FOR


def _bucket(buckets: BoundedMap[bytes, TokenBucket], key: bytes, rate: float, burst: float, now: float) -> TokenBucket:
    bucket = buckets.get(key, now) or TokenBucket(rate, burst, now)
    buckets.set(key, bucket, now)
    return bucket


def _cookie(secret: bytes, source: bytes, index: bytes, message: Open) -> bytes:
    said = source + index + build_open(message.without_cookie())
    return hmac.digest(secret, said, "sha256")[: len(NO_COOKIE)]
