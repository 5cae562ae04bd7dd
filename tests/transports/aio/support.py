"""Two connections in one process, over real sockets."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import trio

from trio_relay.transports.aio import PeerConnection, open_factory
from trio_relay.transports.aio.data_channel import Channel
from trio_relay.transports.aio.guarded import Guarded
from trio_relay.transports.webrtc import Factory, WebRTCConfig

CONFIG: Final = WebRTCConfig(negotiation_timeout=5)


@dataclass(frozen=True)
class Pair:
    """`left` has made the offer."""

    left: PeerConnection
    right: PeerConnection
    from_left: Channel
    from_right: Channel
    counters: Counter[str]


async def negotiate(left: PeerConnection, right: PeerConnection) -> tuple[Channel, Channel]:
    """An offer from the left, an answer from the right, and the open channel at both ends."""
    offer = await left.create_offer("talk", protocol="test.1")
    await left.accept_answer(await right.create_answer(offer))
    with trio.fail_after(5):
        return await left.channel(), await right.channel()


@asynccontextmanager
async def connected(left: WebRTCConfig = CONFIG, right: WebRTCConfig = CONFIG) -> AsyncIterator[Pair]:
    """Two ends with an open data channel."""
    counters = Counter[str]()
    async with open_factory(close_timeout=1, counters=counters) as factory, factory(left) as one, factory(right) as two:
        assert isinstance(one, PeerConnection)
        assert isinstance(two, PeerConnection)
        channels = await negotiate(one, two)
        yield Pair(one, two, *channels, counters)


@asynccontextmanager
async def two_connections(factory: Factory) -> AsyncIterator[tuple[PeerConnection, PeerConnection]]:
    """Two ends that have not begun."""
    async with factory(CONFIG) as left, factory(CONFIG) as right:
        assert isinstance(left, PeerConnection)
        assert isinstance(right, PeerConnection)
        yield left, right


async def receive_count(channel: Channel, count: int) -> list[bytes | str]:
    """That many messages."""
    messages: list[bytes | str] = []
    with trio.fail_after(5):
        while len(messages) < count:
            messages += await channel.receive()
    assert len(messages) == count
    return messages


def loop_of(connection: Guarded) -> asyncio.AbstractEventLoop:
    return connection._loop.aio


def aiortc_of(connection: Guarded) -> Any:
    """What is inside."""
    return connection._connection


def fall_silent(connection: Guarded) -> None:
    """Its sockets hear nothing any more: as if its host were gone."""
    for protocol in aiortc_of(connection).sctp.transport.transport._connection._protocols:
        protocol.datagram_received = lambda *_: None


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def without_candidates(sdp: str) -> str:
    return "".join(f"{line}\r\n" for line in sdp.splitlines() if not line.startswith(("a=candidate:", "a=end-of")))
