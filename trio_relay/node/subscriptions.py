"""Topics for the application: subscriptions with a bounded buffer each, and publishing."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

from ..exceptions import PayloadTooLarge, TopicUnavailable
from ..limits import Limits
from ..overlay.actions import Action, Published, PublishingRoom, Subscribed
from ..wire.ids import NodeId
from ..wire.rendezvous import MAX_DATA, topic_key
from .desk import Waiter
from .runtime import Runtime
from .values import Publication

__all__ = ["Subscription", "Subscriptions"]

_GRACE: Final = 1.0
"""When the first relay keeps a subscription, the others have as much time, in seconds."""
_OVERHEAD: Final = 256
"""What one publication costs the buffer beside its data."""


class Subscription:
    """What is published under one topic: ``async for publication in subscription``.

    It ends when its block ends or the node is closed. What is not read waits in a buffer of
    `Limits.subscription_messages` publications and `Limits.subscription_bytes` bytes, of which one publisher has half
    at most; the newest are dropped when it is full.

    Attributes:
        topic: its name.
        lost: how many publications were dropped.
    """

    def __init__(self, topic: str, limits: Limits) -> None:
        self.topic: Final = topic
        self.lost = 0
        self._limits: Final = limits
        self._buffer: Final = deque[Publication]()
        self._by_publisher: Final = Counter[NodeId]()
        self._bytes = 0
        self._changed: Final = trio.lowlevel.ParkingLot()
        self._moving: Final = trio.lowlevel.ParkingLot()
        self._closed = False

    def __repr__(self) -> str:
        return f"<Subscription to {self.topic!r}, {len(self._buffer)} waiting>"

    def _put(self, publication: Publication) -> bool:
        """Adds a publication; False if there is no room."""
        cost, publisher, limits = len(publication.data) + _OVERHEAD, publication.publisher, self._limits
        if (
            len(self._buffer) >= limits.subscription_messages
            or self._bytes + cost > limits.subscription_bytes
            or 2 * (self._by_publisher[publisher] + cost) > limits.subscription_bytes
        ):
            self.lost += 1
            return False
        self._buffer.append(publication)
        self._bytes += cost
        self._by_publisher[publisher] += cost
        self._changed.unpark()
        return True

    def _close(self) -> None:
        self._closed = True
        self._changed.unpark_all()
        self._moving.unpark_all()

    async def wait_moved(self) -> None:
        """Waits until a relay begins to keep this subscription that did not before.

        What was published there until now was not heard here: after a network was divided, for example. Programs that
        tell each other of themselves do so again.

        Raises:
            trio.ClosedResourceError: the subscription has ended.
        """
        await trio.lowlevel.checkpoint()
        if not self._closed:
            await self._moving.park()
        if self._closed:
            raise trio.ClosedResourceError("the subscription has ended")

    def __aiter__(self) -> AsyncIterator[Publication]:
        return self

    async def __anext__(self) -> Publication:
        await trio.lowlevel.checkpoint()
        while not self._buffer:
            if self._closed:
                raise StopAsyncIteration
            await self._changed.park()
        publication = self._buffer.popleft()
        cost = len(publication.data) + _OVERHEAD
        self._bytes -= cost
        self._by_publisher[publication.publisher] -= cost
        if not self._by_publisher[publication.publisher]:
            del self._by_publisher[publication.publisher]
        return publication


class _Topic:
    """The subscriptions of this program to one topic."""

    def __init__(self, name: str) -> None:
        self.name: Final = name
        self.subscriptions: Final = list[Subscription]()
        self.kept: Subscribed | None = None
        self.changed = trio.Event()

    def tell(self, kept: Subscribed | None) -> None:
        if kept is not None and self.kept is not None and kept.moved > self.kept.moved:
            for subscription in self.subscriptions:
                subscription._moving.unpark_all()
        self.kept = kept or self.kept
        self.changed.set()
        self.changed = trio.Event()


class Subscriptions:
    """Every topic of this program, and what it publishes."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime: Final = runtime
        self._topics: Final = dict[NodeId, _Topic]()
        runtime.topics = self._act
        runtime.desk.on_closing.append(self._close)

    def _act(self, action: Action) -> bool:
        match action:
            case Subscribed():
                topic = self._topics.get(action.key)
                if topic is not None:
                    topic.tell(action)
            case Published():
                self._put(action)
            case PublishingRoom():
                self._runtime.desk.change()
            case _:
                return False
        return True

    def _put(self, action: Published) -> None:
        topic = self._topics.get(action.key)
        if topic is not None:
            publication = Publication(topic.name, action.data, action.publisher)
            for subscription in topic.subscriptions:
                if not subscription._put(publication):
                    self._runtime.counts["subscription_full"] += 1

    def _close(self) -> None:
        for topic in self._topics.values():
            topic.tell(None)
            for subscription in topic.subscriptions:
                subscription._close()

    # Subscribing

    @asynccontextmanager
    async def subscribe(self, name: str, timeout: float) -> AsyncIterator[Subscription]:
        """A subscription that lasts as long as the block, which begins when relays keep it."""
        key, runtime = topic_key(name), self._runtime
        runtime.desk.check_open()
        topic = self._topics.get(key)
        if topic is None:
            if not runtime.router.has_topic_room:
                raise TopicUnavailable("this node subscribes to too many topics already", "not_delivered")
            topic = self._topics[key] = _Topic(name)
        subscription = Subscription(name, runtime.limits)
        topic.subscriptions.append(subscription)
        try:
            if len(topic.subscriptions) == 1:
                runtime.act(runtime.router.subscribe(key, trio.current_time()))
            await self._wait_kept(topic, timeout)
            yield subscription
        finally:
            subscription._close()
            topic.subscriptions.remove(subscription)
            if not topic.subscriptions:
                del self._topics[key]
                runtime.act(runtime.router.unsubscribe(key, trio.current_time()))

    async def _wait_kept(self, topic: _Topic, timeout: float) -> None:
        await trio.lowlevel.checkpoint()
        deadline = trio.current_time() + timeout
        while True:
            kept, changed = topic.kept, topic.changed
            if kept is not None and kept.relays:
                deadline = min(deadline, trio.current_time() + _GRACE)
            if kept is not None and kept.complete:
                break
            with trio.move_on_at(deadline) as scope:
                await changed.wait()
            self._runtime.desk.check_open()
            if scope.cancelled_caught:
                break
        if kept is None or not kept.relays:
            why = kept.reason if kept is not None else ""
            raise TopicUnavailable(f"no relay keeps a subscription to {topic.name!r}: {why or 'none answered in time'}")

    # Publishing

    async def publish(self, name: str, data: bytes, timeout: float) -> None:
        """Returns when a relay has taken it."""
        if not isinstance(data, bytes):
            raise TypeError(f"expected bytes to publish, not {type(data).__name__}")
        if len(data) > MAX_DATA:
            raise PayloadTooLarge(f"expected at most {MAX_DATA} bytes to publish, not {len(data)}")
        key, runtime = topic_key(name), self._runtime
        router, desk = runtime.router, runtime.desk
        desk.check_open()
        await trio.lowlevel.checkpoint()
        deadline = trio.current_time() + timeout
        with trio.move_on_at(deadline):
            while not router.has_publishing_room(len(data)):
                await desk.wait_change()
        desk.check_open()
        now = trio.current_time()
        if not router.has_publishing_room(len(data)):
            raise TopicUnavailable(f"too many publications were under way for {timeout:g} s", "not_delivered")
        token, actions = router.publish_under(key, data, max(deadline - now, 0.0), now)
        waiter = desk.deliveries[token] = Waiter()
        try:
            runtime.act(actions)
            await waiter.get()
        finally:
            desk.deliveries.pop(token, None)
