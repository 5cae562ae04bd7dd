"""Both ends of data channels of the fake, and connections over them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from tests.transports.fake_webrtc import Behaviour, FakeChannel, FakeConnection, FakeWebRTC
from trio_relay.limits import Limits
from trio_relay.transports.data_channel import DataChannelConnection
from trio_relay.transports.webrtc import WebRTCConfig
from trio_relay.wire.chunks import FIRST_CREDIT

__all__ = ["CONFIG", "LIMITS", "SMALL", "Owned", "connected", "open_channels", "raw", "send_all"]

LIMITS = Limits(close_timeout=2.0)
CONFIG = WebRTCConfig()
SMALL = WebRTCConfig(receive_window=FIRST_CREDIT)


class Owned(DataChannelConnection):
    """Its `PeerConnection` is closed when it has ended, as nodes do."""

    def __init__(self, owner: FakeConnection, channel: FakeChannel, config: WebRTCConfig, limits: Limits) -> None:
        super().__init__(channel, owner.selected_pair(), limits, config)
        self.owner = owner
        self.channel = channel

    def _end(self, state: Literal["closed", "broken"]) -> None:
        super()._end(state)
        if self._state == "closed":
            self.owner.close()


@asynccontextmanager
async def open_channels(
    behaviour: Behaviour | None = None, config: WebRTCConfig = CONFIG
) -> AsyncIterator[tuple[tuple[FakeConnection, FakeChannel], tuple[FakeConnection, FakeChannel]]]:
    """Both ends of a channel; the behaviour is that of both."""
    world = FakeWebRTC()
    factory = world.behaving(behaviour or Behaviour())
    async with factory(config) as one, factory(config) as other:
        await one.accept_answer(await other.create_answer(await one.create_offer("name")))
        channels = await one.channel(), await other.channel()
        near, far = world.connections
        assert isinstance(channels[0], FakeChannel)
        assert isinstance(channels[1], FakeChannel)
        yield (near, channels[0]), (far, channels[1])
    assert world.open_connections == 0


@asynccontextmanager
async def connected(
    behaviour: Behaviour | None = None, config: WebRTCConfig = CONFIG, limits: Limits = LIMITS
) -> AsyncIterator[tuple[Owned, Owned]]:
    async with open_channels(behaviour, config) as (one, other):
        yield Owned(*one, config, limits), Owned(*other, config, limits)


@asynccontextmanager
async def raw(config: WebRTCConfig = CONFIG) -> AsyncIterator[tuple[Owned, FakeChannel]]:
    """A connection, and the bare channel of a peer that may do anything."""
    async with open_channels(config=config) as (one, (_, channel)):
        yield Owned(*one, config, LIMITS), channel


async def send_all(connection: DataChannelConnection, messages: list[bytes]) -> None:
    for message in messages:
        await connection.send([message])
