"""A member that does not keep to the rules: it signs and seals as it should, and says what it likes."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import trio

from tests.peerix.support import World
from tests.transports.fake_bundle import FakeBundle, FakeBundleChannel
from trio_relay.exceptions import RemoteProtocolError
from trio_relay.peerix.packets.namespaces import namespace
from trio_relay.peerix.packets.sealing import Keys
from trio_relay.peerix.packets.signalling import Answer, Offer, Signal
from trio_relay.peerix.signalling.exchange import Exchange
from trio_relay.transports.webrtc import WebRTCConfig

__all__ = ["Intruder", "open_intruder"]


class Intruder:
    """See above.

    Attributes:
        heard: what was said to it, or to everybody, and by whom.
        bundle, control, chat: its connection with one member, after `connect`.
    """

    def __init__(self, world: World, keys: Keys, bundle: FakeBundle) -> None:
        self.world: Final = world
        self.bundle: Final = bundle
        self.exchange: Final = Exchange(
            keys.public, keys, compression=True, strangers=1000, counts=Counter(), now=trio.current_time()
        )
        self.heard: Final[list[tuple[str, Signal]]] = []
        self.control: FakeBundleChannel
        self.chat: FakeBundleChannel

    def take(self, packet: bytes) -> None:
        with suppress(RemoteProtocolError):
            heard = self.exchange.receive_untrusted(packet, trio.current_time())
            if heard is not None:
                self.heard.append(heard)

    def encode(self, signal: Signal, to: str) -> bytes:
        return self.exchange.encode(signal, to, secrets.token_bytes(12), trio.current_time())

    async def publish(self, packet: bytes, to: str) -> None:
        """Sends bytes to a member, or to a room if its name is given."""
        await self.world.driver.publish(namespace(to, hashing=True), packet)

    async def say(self, signal: Signal, to: str) -> None:
        await self.publish(self.encode(signal, to), to)

    async def hear(self, kind: type[Signal], sender: str) -> Signal:
        with trio.fail_after(10):
            while True:
                for who, signal in self.heard:
                    if who == sender and isinstance(signal, kind):
                        self.heard.remove((who, signal))
                        return signal
                await trio.sleep(0.01)

    async def connect(self, member: str, label: str = "intruder") -> None:
        """Connects to a member, with one channel, `chat`."""
        self.control = self.bundle.open_channel("", id=0)
        await self.say(Offer(await self.bundle.create_offer()), member)
        answer = await self.hear(Answer, member)
        assert isinstance(answer, Answer)
        await self.bundle.accept_answer(answer.sdp)
        await self.control.wait_open()
        self.chat = self.bundle.open_channel(label)
        await self.chat.wait_open()


@asynccontextmanager
async def open_intruder(world: World, room: str = "room", secret: int = 4711) -> AsyncIterator[Intruder]:
    """One that hears everything in a room."""
    keys = Keys.from_secret(secret)
    async with world.driver.use(), world.bundles.factory(WebRTCConfig()) as bundle:
        assert isinstance(bundle, FakeBundle)
        intruder = Intruder(world, keys, bundle)
        for name in (room, keys.id):
            await world.driver.subscribe(namespace(name, hashing=True), intruder.take)
        yield intruder
