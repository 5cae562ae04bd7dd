"""Who wants to hear of which topic. Pure."""

from __future__ import annotations

import enum
from collections.abc import Collection, Sequence
from typing import Final, Generic, TypeVar

__all__ = ["EVERY", "Full", "TopicBounds", "Topics"]

EVERY: Final = "*"
"""The selector of all topics."""

S = TypeVar("S")


class Full(enum.Enum):
    """Why there is no room for a subscription."""

    TOPICS = "topics_full"
    """There are as many topics as there may be."""
    SUBSCRIBERS = "subscribers_full"
    """The topic has as many subscribers as it may have."""
    EACH = "subscriptions_full"
    """The subscriber has as many topics as it may have."""


class TopicBounds:
    """How much there may be; all may be changed, what is there stays.

    Attributes:
        topics: that somebody listens to.
        subscribers: of one topic.
        each: topics of one subscriber.
    """

    __slots__ = ("each", "subscribers", "topics")

    def __init__(self, topics: int, subscribers: int, each: int) -> None:
        self.topics, self.subscribers, self.each = topics, subscribers, each


class Topics(Generic[S]):
    """A topic is there as long as somebody listens to it; nothing of what was said is kept.

    Subscribers are hashable, and equal to themselves alone.
    """

    def __init__(self, bounds: TopicBounds) -> None:
        self.bounds: Final = bounds
        self._subscribers: Final[dict[str, dict[S, None]]] = {}
        self._topics: Final[dict[S, dict[str, None]]] = {}
        self._subscriptions = 0

    def judge(self, subscriber: S | None, topics: Sequence[str]) -> Full | None:
        """Whether there is no room for a subscriber, who may be there already, to hear of all of these topics."""
        mine: Collection[str] = self._topics.get(subscriber, ()) if subscriber is not None else ()
        wanted = [topic for topic in dict.fromkeys(topics) if topic not in mine]
        if len(mine) + len(wanted) > self.bounds.each:
            return Full.EACH
        if len(self._subscribers) + sum(topic not in self._subscribers for topic in wanted) > self.bounds.topics:
            return Full.TOPICS
        if any(len(self._subscribers.get(topic, ())) >= self.bounds.subscribers for topic in wanted):
            return Full.SUBSCRIBERS
        return None

    def subscribe(self, subscriber: S, topics: Sequence[str]) -> Full | None:
        """Adds subscriptions to all of the topics, or, where there is no room for one, to none."""
        refusal = self.judge(subscriber, topics)
        if refusal is None:
            mine = self._topics.setdefault(subscriber, {})
            before = len(mine)
            for topic in topics:
                mine[topic] = None
                self._subscribers.setdefault(topic, {})[subscriber] = None
            self._subscriptions += len(mine) - before
        return refusal

    def unsubscribe(self, subscriber: S, topic: str) -> None:
        """Ends one subscription, if it is there."""
        mine = self._topics.get(subscriber)
        if mine is None or topic not in mine:
            return
        del mine[topic]
        if not mine:
            del self._topics[subscriber]
        self._forget(subscriber, topic)

    def leave(self, subscriber: S) -> None:
        """Ends all subscriptions of one subscriber."""
        for topic in self._topics.pop(subscriber, ()):
            self._forget(subscriber, topic)

    def receivers(self, topics: Sequence[str], but: S | None = None) -> dict[S, str]:
        """Who hears of something that is said under several topics, and under which of them.

        Everybody is there once, with the first of the topics that it listens to; who listens to all topics, with the
        first one.
        """
        found: dict[S, str] = {}
        for topic in topics:
            for subscriber in self._subscribers.get(topic, ()):
                found.setdefault(subscriber, topic)
        for subscriber in self._subscribers.get(EVERY, ()):
            found.setdefault(subscriber, topics[0])
        if but is not None:
            found.pop(but, None)
        return found

    def of(self, subscriber: S) -> Collection[str]:
        """The topics that a subscriber listens to."""
        return self._topics.get(subscriber, {}).keys()

    @property
    def topics(self) -> int:
        """Topics that somebody listens to."""
        return len(self._subscribers)

    @property
    def subscribers(self) -> int:
        """Those who listen to any."""
        return len(self._topics)

    @property
    def subscriptions(self) -> int:
        """Of all subscribers."""
        return self._subscriptions

    def _forget(self, subscriber: S, topic: str) -> None:
        self._subscriptions -= 1
        there = self._subscribers[topic]
        del there[subscriber]
        if not there:
            del self._subscribers[topic]
