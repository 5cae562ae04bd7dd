"""Connections and peers without a socket, for what stands between the relay and a client."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, cast

import trio

from trio_relay.serving.outbox import Outbox, QueueRules, SlowConsumer
from trio_relay.serving.rates import MessageWindow
from trio_relay.transports.websocket import WebSocketConnection
from trio_relay.wsrelay.addresses import PeerAddress
from trio_relay.wsrelay.peer import LivePeer

StartSoon = Callable[[Callable[[], Awaitable[None]]], None]


class FakeConnection:
    """Takes as many bytes as a test lets it, and no message twice.

    Attributes:
        room: bytes that it takes before it is full.
        wire: the messages that it took whole.
        begun: bytes that it took of the next one.
        pings: those that it took.
        heard: as of the real one.
        most_held: bytes that were given to it and not taken, at most.
    """

    def __init__(self, *, direct: bool = True, room: int = 1 << 40) -> None:
        self.direct: Final = direct
        self.room = room
        self.wire: Final[list[bytes]] = []
        self.begun = 0
        self.pings = 0
        self.heard = True
        self.broken = self.closed = False
        self.most_held = 0
        self._left: Final[deque[bytes]] = deque()
        self._ping_due = False
        self._changed = trio.Event()

    @property
    def unwritten(self) -> int:
        return sum(map(len, self._left)) - self.begun

    # What tests do

    def give_room(self, size: int) -> None:
        self.room += size
        self._wake()

    def fail(self) -> None:
        """The client is gone."""
        self.broken = True
        self._wake()

    @property
    def frames(self) -> list[Any]:
        return [json.loads(message) for message in self.wire]

    # What an outbox does

    @property
    def control_pending(self) -> bool:
        return bool(self._left) or self._ping_due

    def ping_soon(self) -> None:
        self._ping_due = True
        if self.direct and not self._left and not (self.broken or self.closed):
            self._take()

    def send_nowait(self, pieces: Sequence[bytes], *, text: bool, each: bool) -> bool:
        assert self.direct
        assert text
        assert each
        self._check()
        assert not self._left, "expected flush to return before the next message"
        self._left.extend(pieces)
        return self._take()

    async def send(self, pieces: Sequence[bytes], *, text: bool, each: bool) -> None:
        assert text
        assert each
        await trio.lowlevel.checkpoint()
        self._check()
        assert not self._left
        self._left.extend(pieces)
        await self.flush()

    async def flush(self) -> None:
        await trio.lowlevel.checkpoint()
        self._check()
        try:
            while not self._take():
                await self._changed.wait()
                self._check()
        except trio.Cancelled:
            self.broken = True
            raise

    def abort(self) -> None:
        self.closed = True
        self._left.clear()
        self._wake()

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        await trio.lowlevel.checkpoint()
        self.abort()

    def _check(self) -> None:
        if self.closed:
            raise trio.ClosedResourceError
        if self.broken:
            raise trio.BrokenResourceError

    def _take(self) -> bool:
        while self._left and self.room >= len(self._left[0]) - self.begun:
            self.room -= len(self._left[0]) - self.begun
            self.begun = 0
            self.wire.append(self._left.popleft())
        if self._left:
            self.begun += self.room
            self.room = 0
        elif self._ping_due and self.room:
            self._ping_due = False
            self.pings += 1
        self.most_held = max(self.most_held, sum(map(len, self._left)) - self.begun)
        return not self._left

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


def make_rules(
    start_soon: StartSoon,
    counts: Counter[str],
    overflow: Callable[[Outbox], None] = lambda outbox: None,
    *,
    policy: SlowConsumer = "pause",
    most_bytes: int = 1 << 20,
    most_messages: int = 8192,
) -> QueueRules:
    return QueueRules(
        policy=policy,
        most_bytes=most_bytes,
        most_messages=most_messages,
        start_soon=start_soon,
        overflow=overflow,
        counts=counts,
    )


def starting_in(nursery: trio.Nursery) -> StartSoon:
    """Starts writer tasks in a nursery."""

    def start_soon(function: Callable[[], Awaitable[None]]) -> None:
        nursery.start_soon(function)

    return start_soon


def make_outbox(connection: FakeConnection, rules: QueueRules) -> Outbox:
    return Outbox(cast("WebSocketConnection", connection), rules)


def make_peer(address: str, connection: FakeConnection, rules: QueueRules) -> LivePeer:
    channel, _, peer_id = address.partition(":")
    return LivePeer(
        PeerAddress(channel, peer_id),
        "203.0.113.1",
        None,
        0.0,
        connection=cast("WebSocketConnection", connection),
        outbox=make_outbox(connection, rules),
        window=MessageWindow(1_000_000, 60.0),
        rate_name="203.0.113.1",
        reports=False,
    )


def never_started(function: Callable[[], Awaitable[None]]) -> None:
    raise AssertionError("expected nothing to wait")


def connection_of(peer: LivePeer) -> FakeConnection:
    return cast("FakeConnection", peer.connection)
