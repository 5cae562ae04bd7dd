"""Rooms without a broker: the relays of the overlay carry the packets, under topics."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import trio

from ...exceptions import DriverError, PayloadTooLarge, TopicUnavailable
from ...node.node import Node
from ...node.subscriptions import Subscription
from .driver import Driver

__all__ = ["RelayDriver"]

_SETTLES_AFTER: Final = 1.0
"""When one subscription has moved, others soon have, too."""
_ANEW_EVERY: Final = 60.0


class _Topic:
    """A namespace that somebody subscribed to; `settled` when relays keep it, or when it failed."""

    def __init__(self) -> None:
        self.scope: Final = trio.CancelScope()
        self.settled: Final = trio.Event()
        self.error: str | None = "the driver ended"


class RelayDriver(Driver):
    """Carries packets through a node: a namespace is the topic ``prefix + namespace``.

    It is active while the node has a link, or can itself be dialled. It becomes active anew, so that rooms announce
    their members again, when the node gets its first link again, and at most once a minute when other relays begin to
    keep what it subscribed to: after a network was divided, members may be there whom nobody here has heard.

    A packet has at most 57,344 bytes, and there are at most 128 namespaces. Packets also come to the driver that
    published them.

    Args:
        node: that must stay open as long as the driver is; closing the driver does not close it.
        prefix: what programs that share rooms have in common.
        timeout: seconds that relays have to confirm a subscription or a packet.
    """

    def __init__(self, node: Node, *, prefix: str = "peerix:", timeout: float = 10.0) -> None:
        super().__init__(timeout=timeout)
        self._node: Final = node
        self._prefix: Final = prefix
        self._topics: Final[dict[str, _Topic]] = {}
        self._nursery: trio.Nursery | None = None
        self._started = trio.Event()
        self._moved = trio.Event()

    async def run(self) -> None:
        """Follows the node's links, and runs a task for each namespace."""
        try:
            async with trio.open_nursery() as nursery, self._node.events() as events:
                self._nursery = nursery
                nursery.start_soon(self._announce_moves)
                self._started.set()
                linked = False
                while True:
                    if self._node.links and not linked:
                        # Whoever is in reach now has heard nothing of what was published before.
                        self.deactivate("the node was not linked with anybody")
                    linked = bool(self._node.links)
                    if linked or self._node.urls:
                        self.activate()
                    else:
                        self.deactivate("the node is not linked with anybody")
                    if await anext(events, None) is None:
                        break
                self.deactivate("the node was closed")
                self._nursery = None
                nursery.cancel_scope.cancel()
        finally:
            self._nursery = None

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[None]:
        self._started = trio.Event()
        async with super()._open():
            yield

    async def _subscribe(self, namespace: str) -> None:
        await self._started.wait()
        topic = self._topics.get(namespace)
        if topic is None:
            if self._nursery is None:
                raise DriverError(f"the driver is inactive: {self.why_inactive}")
            topic = self._topics[namespace] = _Topic()
            self._nursery.start_soon(self._listen, namespace, topic)
        await topic.settled.wait()
        if topic.error is not None:
            raise DriverError(topic.error)

    async def _announce_moves(self) -> None:
        while True:
            await self._moved.wait()
            await trio.sleep(_SETTLES_AFTER)
            self._moved = trio.Event()
            if self.active:
                self.deactivate("other relays carry packets now")
                self.activate()
            await trio.sleep(_ANEW_EVERY - _SETTLES_AFTER)

    async def _watch(self, subscription: Subscription) -> None:
        with suppress(trio.ClosedResourceError):
            while True:
                await subscription.wait_moved()
                self._moved.set()

    async def _listen(self, namespace: str, topic: _Topic) -> None:
        try:
            with topic.scope:
                async with self._node.subscribe(self._prefix + namespace, timeout=self._timeout) as subscription:
                    topic.error = None
                    topic.settled.set()
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._watch, subscription)
                        async for publication in subscription:
                            self.deliver(namespace, publication.data)
        except (TopicUnavailable, trio.ClosedResourceError) as error:
            topic.error = str(error)
        finally:
            topic.settled.set()
            if self._topics.get(namespace) is topic:
                del self._topics[namespace]

    def _dropped(self, namespace: str) -> None:
        topic = self._topics.pop(namespace, None)
        if topic is not None:
            topic.scope.cancel()

    async def _unsubscribe(self, namespace: str) -> None:
        await trio.lowlevel.checkpoint()

    async def _publish(self, namespace: str, packet: bytes) -> None:
        try:
            await self._node.publish(self._prefix + namespace, packet, timeout=self._timeout)
        except (TopicUnavailable, PayloadTooLarge, trio.ClosedResourceError) as error:
            raise DriverError(str(error)) from error
