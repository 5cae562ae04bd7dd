"""What this node keeps for others as a rendezvous relay: who subscribed to which key; pure.

Rules of this file:

1. Subscribers prove their id, publishers sign what they publish, and both are bounded: by key, by id, and by the link
   that they come over, so that one hostile node can not take all places.
2. A subscription that is not renewed ends by itself; nothing here outlives `LIFETIME`.
3. Whatever is not taken is counted. What could be taken later is answered "busy", what never could is not answered,
   but for what comes from a clock that is wrong: its owner is told.
4. Whoever made us send much of late leaves half of what we may send to others.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable
from typing import Final

from .._bounded import BoundedMap, TokenBucket
from ..wire.ids import NodeId
from ..wire.record import Verify
from ..wire.rendezvous import Publication
from .rendezvous_numbers import is_timely

__all__ = ["LIFETIME", "TOPICS_PER_SUBSCRIBER", "Board", "Verdict"]

LIFETIME: Final = 150.0
"""Seconds for which a subscription holds: two refreshes may be lost."""
TOPICS_PER_SUBSCRIBER: Final = 128

_KIB: Final = 1024
_MIB: Final = 1024 * 1024
_SUBSCRIPTIONS: Final = 8192
"""Of all topics, of which there are never more."""
_SUBSCRIBERS: Final = 256
"""Of one topic."""
_SHARE: Final = 4
"""One link has at most a quarter of the places: of all, and of those of one topic."""
_PUBLISHER_IN, _LINK_IN = (128.0 * _KIB, 1.0 * _MIB), (1.0 * _MIB, 8.0 * _MIB)
"""Bytes a second, and at once, that come in; each publication costs a signature check."""
_PUBLISHER_OUT, _LINK_OUT = (2.0 * _MIB, 16.0 * _MIB), (4.0 * _MIB, 16.0 * _MIB)
_TOPIC_OUT, _ALL_OUT = (2.0 * _MIB, 16.0 * _MIB), (8.0 * _MIB, 32.0 * _MIB)
"""The same of what goes out to subscribers, for one publication becomes many: of what a publisher made, what came in
over a link, of a topic, and of all. Who has used up half of its own leaves half of the last two to others."""
_OVERHEAD: Final = 1024
"""What a publication costs beside its bytes."""
_PUBLISHERS: Final = 4096
_LINKS: Final = 1024
_FORGOTTEN_AFTER: Final = 60.0
"""A bucket that was not used so long is full again."""


class Verdict(enum.Enum):
    """What becomes of a message."""

    TAKEN = 1
    FULL = 2
    """There is no room now."""
    REFUSED = 3
    UNTIMELY = 4
    """Refused, for its number is not near enough to our clock."""


class _Topic:
    """Subscribers of one key: id -> (when its place ends, the neighbour that it came over)."""

    __slots__ = ("out", "places")

    def __init__(self, now: float) -> None:
        self.places: dict[NodeId, tuple[float, NodeId]] = {}
        self.out = TokenBucket(*_TOPIC_OUT, now)


class Board:
    """Subscriptions by key.

    Args:
        own: our id; our own subscriptions are in no link's share.
        counts: what is refused, by reason.
    """

    def __init__(self, own: NodeId, verify: Verify, counts: Counter[str], now: float) -> None:
        self._own: Final = own
        self._verify: Final = verify
        self._counts: Final = counts
        self._topics: Final = dict[NodeId, _Topic]()
        self._by_subscriber: Final = Counter[NodeId]()
        self._by_link: Final = Counter[NodeId]()
        self._count = 0
        self._publishers: Final = BoundedMap[NodeId, TokenBucket](_PUBLISHERS, _FORGOTTEN_AFTER)
        self._links_in: Final = BoundedMap[NodeId, TokenBucket](_LINKS, _FORGOTTEN_AFTER)
        self._publishers_out: Final = BoundedMap[NodeId, TokenBucket](_PUBLISHERS, _FORGOTTEN_AFTER)
        self._links_out: Final = BoundedMap[NodeId, TokenBucket](_LINKS, _FORGOTTEN_AFTER)
        self._out: Final = TokenBucket(*_ALL_OUT, now)

    def __len__(self) -> int:
        """Topics with subscribers."""
        return len(self._topics)

    @property
    def subscriptions(self) -> int:
        """Subscribers of all topics."""
        return self._count

    # Subscribers

    def subscribe(self, via: NodeId, subscriber: NodeId, key: NodeId, now: float) -> Verdict:
        """Someone wants what is published under that key, for `LIFETIME` from now on; `via`: the neighbour."""
        topic = self._topics.get(key)
        if topic is None or subscriber not in topic.places:
            if not self._has_room(via, subscriber, topic):
                return Verdict.FULL
            if topic is None:
                topic = self._topics[key] = _Topic(now)
            self._by_subscriber[subscriber] += 1
            self._count += 1
        else:
            self._leave_link(topic.places[subscriber][1])
        self._by_link[via] += 1
        topic.places[subscriber] = now + LIFETIME, via
        return Verdict.TAKEN

    def _has_room(self, via: NodeId, subscriber: NodeId, topic: _Topic | None) -> bool:
        if self._by_subscriber[subscriber] >= TOPICS_PER_SUBSCRIBER:
            self._counts["subscriber_topics_full"] += 1
        elif self._count >= _SUBSCRIPTIONS:
            self._counts["subscriptions_full"] += 1
        elif via != self._own and self._by_link[via] >= _SUBSCRIPTIONS // _SHARE:
            self._counts["link_subscriptions_full"] += 1
        elif topic is None:
            return True
        elif len(topic.places) >= _SUBSCRIBERS:
            self._counts["topic_subscribers_full"] += 1
        elif via != self._own and sum(place[1] == via for place in topic.places.values()) >= _SUBSCRIBERS // _SHARE:
            self._counts["link_subscriptions_full"] += 1
        else:
            return True
        return False

    def unsubscribe(self, subscriber: NodeId, key: NodeId) -> None:
        """Someone wants it no more."""
        topic = self._topics.get(key)
        if topic is not None and subscriber in topic.places:
            self._remove(key, topic, subscriber)

    def _remove(self, key: NodeId, topic: _Topic, subscriber: NodeId) -> None:
        _, via = topic.places.pop(subscriber)
        self._leave_link(via)
        self._count -= 1
        self._by_subscriber[subscriber] -= 1
        if not self._by_subscriber[subscriber]:
            del self._by_subscriber[subscriber]
        if not topic.places:
            del self._topics[key]

    def _leave_link(self, via: NodeId) -> None:
        self._by_link[via] -= 1
        if not self._by_link[via]:
            del self._by_link[via]

    def clear(self) -> list[tuple[NodeId, NodeId]]:
        """Ends everything; returns who subscribed, and to what."""
        ended = [(who, key) for key, topic in self._topics.items() for who in topic.places]
        for who, key in ended:
            self.unsubscribe(who, key)
        return ended

    def expire(self, now: float) -> None:
        """Ends what was not renewed."""
        for key, topic in list(self._topics.items()):
            for subscriber in [who for who, (until, _) in topic.places.items() if until <= now]:
                self._remove(key, topic, subscriber)
                self._counts["subscriptions_expired"] += 1
        self._publishers.expire(now)
        self._publishers_out.expire(now)
        self._links_in.expire(now)
        self._links_out.expire(now)

    # Publications

    def publish(
        self, via: NodeId, source: NodeId, publication: Publication, now: float, wall: float
    ) -> tuple[Verdict, Iterable[NodeId]]:
        """A publication, and to whom it goes.

        Args:
            source: who sent it to us; nobody publishes what somebody else has signed.
        """
        if publication.publisher != source:
            self._counts["publications_foreign"] += 1
            return Verdict.REFUSED, ()
        size = len(publication.raw) + _OVERHEAD
        if not self._may_come(via, source, size, now):
            self._counts["publications_rate"] += 1
            return Verdict.FULL, ()
        if not is_timely(publication, wall):
            self._counts["publications_untimely"] += 1
            return Verdict.UNTIMELY, ()
        if not publication.is_signed(self._verify):
            self._counts["publications_forged"] += 1
            return Verdict.REFUSED, ()
        topic = self._topics.get(publication.key)
        subscribers = [] if topic is None else [who for who in topic.places if who != source]
        if topic is not None and not self._may_go(via, source, topic, size * len(subscribers), now):
            self._counts["publications_rate"] += 1
            return Verdict.FULL, ()
        self._counts["publications_taken"] += 1
        return Verdict.TAKEN, subscribers

    def _may_come(self, via: NodeId, source: NodeId, size: int, now: float) -> bool:
        """Whether publisher and link are within their rates."""
        return _bucket(self._publishers, source, _PUBLISHER_IN, now).take(now, size) and (
            via == self._own or _bucket(self._links_in, via, _LINK_IN, now).take(now, size)
        )

    def _may_go(self, via: NodeId, source: NodeId, topic: _Topic, size: int, now: float) -> bool:
        """Whether publisher, link, topic, and all topics together may send so much."""
        publisher = _bucket(self._publishers_out, source, _PUBLISHER_OUT, now)
        link = None if via == self._own else _bucket(self._links_out, via, _LINK_OUT, now)
        # Measured before anything is taken: what is refused costs nobody's share.
        heavy = publisher.level(now) < _PUBLISHER_OUT[1] / 2 or (
            link is not None and link.level(now) < _LINK_OUT[1] / 2
        )
        shared = (topic.out, _TOPIC_OUT[1]), (self._out, _ALL_OUT[1])
        if any(bucket.level(now) - size < heavy * burst / 2 for bucket, burst in shared):
            return False
        own = [publisher] if link is None else [publisher, link]
        if any(bucket.level(now) < size for bucket in own):
            return False
        return all(bucket.take(now, size) for bucket in (*own, topic.out, self._out))


def _bucket(
    buckets: BoundedMap[NodeId, TokenBucket], name: NodeId, rate_and_burst: tuple[float, float], now: float
) -> TokenBucket:
    bucket = buckets.get(name, now) or TokenBucket(*rate_and_burst, now)
    buckets.set(name, bucket, now)
    return bucket
