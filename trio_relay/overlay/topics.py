"""What callers ask of a router about topics; `Router` has it. Pure."""

from __future__ import annotations

from ..wire.ids import NodeId
from .actions import Action
from .view import RouterState

__all__ = ["RouterTopics"]


class RouterTopics(RouterState):
    """The inputs of `Router` that subscribe and publish; a key is `wire.rendezvous.topic_key` of the topic."""

    @property
    def has_topic_room(self) -> bool:
        """Whether we may subscribe to one more key."""
        return self._parts.rendezvous.has_topic_room

    def has_publishing_room(self, size: int) -> bool:
        """Whether one more publication of so many bytes may be under way."""
        return self._parts.rendezvous.has_room(size)

    def subscribe(self, key: NodeId, now: float) -> list[Action]:
        """What is published under that key comes as `Published` until `unsubscribe`; `Subscribed` tells how it goes."""
        self._parts.begin(now)
        self._parts.rendezvous.subscribe(key)
        return self._parts.settle()

    def unsubscribe(self, key: NodeId, now: float) -> list[Action]:
        """No more of that."""
        self._parts.begin(now)
        self._parts.rendezvous.unsubscribe(key)
        return self._parts.settle()

    def publish_under(self, key: NodeId, data: bytes, timeout: float, now: float) -> tuple[bytes, list[Action]]:
        """Publishes; ends in `Acknowledged`, when the first relay has taken it, or `Failed`, with that token.

        Raises:
            LocalProtocolError: more than `wire.rendezvous.MAX_DATA` bytes.
        """
        self._parts.begin(now)
        token = self._parts.rendezvous.publish(key, data, timeout)
        return token, self._parts.settle()
