"""Two ends of a connection with many channels and streams in one process, over real sockets."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from trio_relay.transports.aio import Bundle, open_bundle_factory
from trio_relay.transports.aio.bundle_channel import BundleChannel
from trio_relay.transports.bundle import BundleFactory
from trio_relay.transports.webrtc import WebRTCConfig

from .media import decoders
from .support import CONFIG

__all__ = [
    "Ends",
    "both_bundles",
    "connected_bundles",
    "needs",
    "negotiate_bundles",
    "receive_all",
    "streams",
    "two_bundles",
]


@dataclass(frozen=True)
class Ends:
    """`one` has made the first offer; `near` and `far` are the ends of the channel that both made by themselves."""

    one: Bundle
    other: Bundle
    near: BundleChannel
    far: BundleChannel
    counters: Counter[str]


async def negotiate_bundles(one: Bundle, other: Bundle) -> str:
    """One offers, the other answers; returns the offer."""
    offer = await one.create_offer()
    await one.accept_answer(await other.accept_offer(offer))
    return offer


@asynccontextmanager
async def two_bundles(config: WebRTCConfig = CONFIG) -> AsyncIterator[tuple[Bundle, Bundle, Counter[str]]]:
    """Two that have not begun."""
    counters = Counter[str]()
    async with (
        open_bundle_factory(close_timeout=1, counters=counters) as factory,
        both_bundles(factory, config) as (one, other),
    ):
        yield one, other, counters
    assert not decoders()


@asynccontextmanager
async def both_bundles(factory: BundleFactory, config: WebRTCConfig = CONFIG) -> AsyncIterator[tuple[Bundle, Bundle]]:
    async with factory(config) as one, factory(config) as other:
        assert isinstance(one, Bundle)
        assert isinstance(other, Bundle)
        yield one, other


@asynccontextmanager
async def connected_bundles(config: WebRTCConfig = CONFIG) -> AsyncIterator[Ends]:
    """Two ends, connected."""
    async with two_bundles(config) as (one, other, counters):
        near, far = one.open_channel("", id=0), other.open_channel("", id=0)
        await negotiate_bundles(one, other)
        with trio.fail_after(5):
            await near.wait_open()
            await far.wait_open()
        yield Ends(one, other, near, far, counters)


def needs(bundle: Bundle) -> bool:
    """Whether it needs a negotiation, now."""
    return bundle.needs_negotiation


def streams(bundle: Bundle) -> list[str]:
    """Of the tracks that have not ended, now."""
    return [told.stream for told in bundle.tracks]


async def receive_all(channel: BundleChannel, count: int) -> list[bytes | str]:
    """That many messages."""
    messages: list[bytes | str] = []
    with trio.fail_after(5):
        while len(messages) < count:
            messages += await channel.receive()
    return messages
