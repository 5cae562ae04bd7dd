"""Through the overlay: confirmed messages between the nodes of two peers.

A message is the tag of its connection, which only its two peers know (`RelaySecret.outgoing_tag`), a byte, 0 or 1 for
a goodbye, and what is carried. Confirmed messages arrive once, but may overtake each other: `REORDER` says how far.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import trio

from ...exceptions import RelayError
from ...limits import Limits
from ...node.node import Node
from ...node.values import Message
from ...wire.ids import NodeId, short
from .sealing import Medium

__all__ = ["REORDER", "OverlayHub", "OverlayPipe"]

MIB: Final = 1024 * 1024

REORDER: Final = 32
"""Messages that may overtake an earlier one."""
_AT_ONCE: Final = 8
"""Messages on the way."""
_DELIVERY: Final = 20.0
"""Seconds for one message, with all its repetitions."""
_GOODBYE_TIME: Final = 1.0
_WAITING_MESSAGES: Final = 1024
_WAITING_BYTES: Final = 4 * MIB
"""What may wait for a receiver that does not read: sessions grant less."""

_TAG: Final = 16
_CARRIED, _GOODBYE = b"\0", b"\1"
_HEAD: Final = _TAG + 1


class OverlayPipe:
    """Implements `RelayPipe`; made by `OverlayHub.open`."""

    medium: Medium = "overlay"
    reorder: int = REORDER

    def __init__(self, hub: OverlayHub, peer: NodeId, tag: bytes, nursery: trio.Nursery) -> None:
        self.max_message: Final = hub.payload - _HEAD
        self._hub: Final = hub
        self._peer: Final = peer
        self._tag: Final = tag
        self._nursery: Final = nursery
        self._changed: Final = trio.lowlevel.ParkingLot()
        self._number = 0
        self._on_the_way: Final[dict[int, int]] = {}
        """Number -> bytes, in the order in which they left."""
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._ended = False
        self._failure = ""

    @property
    def buffered_amount(self) -> int:
        """Bytes that the other node has not confirmed."""
        return sum(self._on_the_way.values())

    async def receive(self) -> list[bytes]:
        """See `RelayPipe`."""
        while not (self._waiting or self._ended):
            self._check()
            await self._changed.park()
        await trio.lowlevel.checkpoint()
        messages, self._waiting, self._waiting_bytes = self._waiting, [], 0
        return messages

    async def send(self, message: bytes) -> None:
        """See `RelayPipe`: waits while too much is not confirmed."""
        await trio.lowlevel.checkpoint()
        while not self._has_room:
            self._check()
            await self._changed.park()
        self._check()
        self._on_the_way[self._number] = len(message)
        self._nursery.start_soon(self._deliver, self._number, self._tag + _CARRIED + message)
        self._number += 1

    async def drain(self) -> None:
        """See `RelayPipe`: returns when everything was confirmed."""
        await trio.lowlevel.checkpoint()
        while self._on_the_way:
            self._check()
            await self._changed.park()

    @property
    def _has_room(self) -> bool:
        on_the_way = self._on_the_way
        return len(on_the_way) < _AT_ONCE and self._number - next(iter(on_the_way), self._number) < REORDER

    def _check(self) -> None:
        if self._failure:
            raise trio.BrokenResourceError(self._failure)

    async def _deliver(self, number: int, payload: bytes) -> None:
        try:
            await self._hub.node.deliver(self._peer, payload, _DELIVERY, sealed=True)
        except (RelayError, trio.ClosedResourceError) as error:
            self._fail(f"no way through the overlay to {short(self._peer)}: {error}")
        else:
            del self._on_the_way[number]
            self._changed.unpark_all()

    def arrived(self, message: bytes) -> None:
        """A message came, without its tag."""
        if message[:1] == _GOODBYE:
            self._ended = True
        elif len(self._waiting) >= _WAITING_MESSAGES or self._waiting_bytes + len(message) > _WAITING_BYTES:
            self._hub.counts["relay_overlay_full"] += 1
            self._fail("too much came that was not received")
        else:
            self._waiting.append(message[1:])
            self._waiting_bytes += len(message)
        self._changed.unpark_all()

    def _fail(self, reason: str) -> None:
        self._failure = self._failure or reason
        self._changed.unpark_all()

    async def say_goodbye(self) -> None:
        """Lets what is on the way arrive, and tells the other side; bounded."""
        with trio.move_on_after(_GOODBYE_TIME, shield=True), suppress(RelayError, trio.BrokenResourceError):
            await self.drain()
            if not self._ended:
                await self._hub.node.deliver(self._peer, self._tag + _GOODBYE, _GOODBYE_TIME, sealed=True)


class OverlayHub:
    """Receives for all pipes of one peer.

    Args:
        node: nobody else may receive from it.
        counts: ``relay_overlay_unknown``: messages that belong to no pipe; ``relay_overlay_foreign``: those of another
            form, or of an unproven sender; ``relay_overlay_full``: pipes that broke because nobody received.
        payload: bytes in one message, as in `Limits.payload` of the node.
    """

    def __init__(self, node: Node, counts: Counter[str], payload: int = Limits().payload) -> None:
        self.node: Final = node
        self.counts: Final = counts
        self.payload: Final = payload
        self._pipes: Final[dict[tuple[NodeId, bytes], OverlayPipe]] = {}

    def __len__(self) -> int:
        """Pipes that are open."""
        return len(self._pipes)

    async def run(self) -> None:
        """Sorts what comes, until the node is closed; then all pipes are broken."""
        try:
            async for message in self.node:
                self._sort(message)
        finally:
            for pipe in self._pipes.values():
                pipe._fail("the node was closed")

    def _sort(self, message: Message) -> None:
        data = message.data
        if not isinstance(data, bytes) or len(data) < _HEAD or not message.proven:
            self.counts["relay_overlay_foreign"] += 1
            return
        pipe = self._pipes.get((message.sender, data[:_TAG]))
        if pipe is None:
            self.counts["relay_overlay_unknown"] += 1
        else:
            pipe.arrived(data[_TAG:])

    @asynccontextmanager
    async def open(self, peer: NodeId, *, outgoing: bytes, incoming: bytes) -> AsyncIterator[OverlayPipe]:
        """A pipe to another peer's node, for the block.

        Args:
            outgoing: 16 bytes with which our messages begin; `incoming` likewise the other side's.

        Raises:
            RuntimeError: there is one already that is for the same messages.
        """
        key = peer, incoming
        if key in self._pipes:
            raise RuntimeError(f"expected one pipe to {short(peer)} for each tag")
        async with trio.open_nursery() as nursery:
            pipe = self._pipes[key] = OverlayPipe(self, peer, outgoing, nursery)
            try:
                yield pipe
            finally:
                await pipe.say_goodbye()
                del self._pipes[key]
                nursery.cancel_scope.cancel()
