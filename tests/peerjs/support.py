"""Peers in one process, without sockets: a broker and WebRTC that tests can break.

    async with open_world() as world:
        alice, bob = await world.open_peer("alice"), await world.open_peer("bob")
        connection = await alice.connect("bob")

Time is Trio's, so all of it works with a mock clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import trio

from tests.transports.fake_webrtc import FakeWebRTC
from trio_relay.exceptions import PeerError
from trio_relay.node.negotiation import WebRTC
from trio_relay.node.services import open_services
from trio_relay.peerjs.connections.data_connection import DataConnection
from trio_relay.peerjs.messages import ServerMessage
from trio_relay.peerjs.opening import build_peer
from trio_relay.peerjs.options import PeerOptions
from trio_relay.peerjs.peer import Peer
from trio_relay.peerjs.signalling.desk import Desk
from trio_relay.transports.webrtc import WebRTCConfig
from trio_relay.wire.json import decode_untrusted

__all__ = ["EXPIRE_AFTER", "FakeBroker", "World", "open_world", "pair"]

EXPIRE_AFTER: Final = 5.0


class FakeBroker:
    """Carries messages between peers of one process.

    Attributes:
        signallers: who is connected, by id.
        carried: every frame that was sent, decoded.
        holds: while true, what is sent stays here, see `release`.
        adds: type of a message -> members that its payload gets on the way.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self.signallers: Final[dict[str, FakeSignaller]] = {}
        self.carried: Final[list[dict[str, Any]]] = []
        self.holds = False
        self.adds: Final[dict[str, dict[str, Any]]] = {}
        self._held: list[tuple[str, dict[str, Any]]] = []
        self._nursery: Final = nursery

    def take(self, src: str, frame: bytes) -> None:
        """A peer sent a frame."""
        message: Any = decode_untrusted(frame)
        message["payload"] |= self.adds.get(message["type"], {})
        self.carried.append(message)
        if self.holds:
            self._held.append((src, message))
        else:
            self._forward(src, message)

    def release(self) -> None:
        """What was held goes on."""
        self.holds = False
        held, self._held = self._held, []
        for src, message in held:
            self._forward(src, message)

    def say(self, to: str, message: ServerMessage) -> None:
        """The broker says something to a peer, whatever it is."""
        self.signallers[to].desk.on_message(message)

    def _forward(self, src: str, message: dict[str, Any]) -> None:
        receiver = self.signallers.get(message["dst"])
        if receiver is not None:
            receiver.desk.on_message(ServerMessage(message["type"], src, message.get("payload")))
        else:
            self._nursery.start_soon(self._expire, src, message["dst"])

    async def _expire(self, src: str, dst: str) -> None:
        await trio.sleep(EXPIRE_AFTER)
        if src in self.signallers:
            self.say(src, ServerMessage("EXPIRE", dst))


class FakeSignaller:
    """Implements `registration.Signals`."""

    def __init__(self, broker: FakeBroker, id: str, desk: Desk) -> None:
        self.desk: Final = desk
        self.open = False
        self._broker: Final = broker
        self._id: Final = id
        self._done: Final = trio.Event()

    async def run(self) -> None:
        await trio.lowlevel.checkpoint()
        if self._id in self._broker.signallers:
            self.desk.on_over(PeerError("unavailable-id", f"ID {self._id!r} is taken"))
            return
        self._broker.signallers[self._id] = self
        self.open = True
        self.desk.on_open(self._id, False)
        await self._done.wait()

    def lose(self) -> None:
        """The connection to the broker breaks, and is tried again."""
        self.open = False
        del self._broker.signallers[self._id]
        self.desk.on_lost(PeerError("network", "lost"))

    def give_up(self, error: PeerError) -> None:
        """The broker refuses this peer for good."""
        self.open = False
        del self._broker.signallers[self._id]
        self._done.set()
        self.desk.on_over(error)

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()
        self.open = False
        if self._broker.signallers.get(self._id) is self:
            del self._broker.signallers[self._id]
        self._done.set()

    def send(self, frame: bytes) -> None:
        self._broker.take(self._id, frame)

    async def list_peers(self) -> list[str]:
        await trio.lowlevel.checkpoint()
        return list(self._broker.signallers)


class World:
    """See the module.

    Attributes:
        webrtc: its connections.
        peers: those of `open_peer`, by id.
    """

    def __init__(self, broker: FakeBroker, stack: AsyncExitStack) -> None:
        self.broker: Final = broker
        self.webrtc: Final = FakeWebRTC()
        self.peers: Final[dict[str, Peer]] = {}
        self._stack: Final = stack
        self._ids = 0

    async def open_peer(self, id: str | None = None, **options: Any) -> Peer:
        """A peer that lasts as long as the world."""
        peer = await self._stack.enter_async_context(self.peer(id, **options))
        assert peer.id is not None
        self.peers[peer.id] = peer
        return peer

    @asynccontextmanager
    async def peer(self, id: str | None = None, **options: Any) -> AsyncIterator[Peer]:
        """A peer for the block, with the same end as `open_peer`'s."""
        config = options.pop("config", WebRTCConfig(factory=self.webrtc.factory))
        made = PeerOptions(config=config, **options)
        assert config.factory is not None

        async with open_services() as services:
            webrtc, counts = WebRTC(config.factory, config), Counter[str]()
            peer, registration = build_peer(made, services, webrtc, _no_media, self, counts, id)
            await registration.connect()
            try:
                yield peer
                await peer.destroy()
            finally:
                peer.abandon()

    def make_signaller(self, id: str | None, known: bool, desk: Desk) -> FakeSignaller:
        """Makes the world a `opening.Broker`."""
        self._ids += 1
        return FakeSignaller(self.broker, id if id is not None else f"peer{self._ids}", desk)

    def meeting_url(self, id: str, peer: str, meeting: str) -> str:
        """Nobody listens there."""
        return f"ws://127.0.0.1:9/{id}/{peer}/{meeting}"


def _no_media(config: WebRTCConfig) -> Any:
    raise AssertionError("no media here")


@asynccontextmanager
async def open_world() -> AsyncIterator[World]:
    """See the module."""
    async with trio.open_nursery() as nursery:
        async with AsyncExitStack() as stack:
            yield World(FakeBroker(nursery), stack)
        nursery.cancel_scope.cancel()


async def pair(world: World, **options: Any) -> tuple[DataConnection, DataConnection]:
    """Both ends of a connection from the new peer ``alice`` to the new peer ``bob``."""
    alice, bob = await world.open_peer("alice"), await world.open_peer("bob")
    ours = await alice.connect("bob", **options)
    theirs = await bob.accept()
    assert isinstance(theirs, DataConnection)
    return ours, theirs
