"""Bare aiortc: two connections of this process on one asyncio loop inside Trio, and the best use that we know of them.

`Pair` is asyncio's; the functions are Trio's. Only host candidates: no STUN, no TURN.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias

import trio
import trio_asyncio
from aiortc import RTCConfiguration, RTCDataChannel, RTCPeerConnection

__all__ = ["Fill", "Pair", "Tally", "opened_pair", "sending_pair"]

_HIGH: Final = 256 * 1024
"""Bytes that may wait in a channel: what `WebRTCConfig.send_buffer` is for ours."""
_LOW: Final = _HIGH // 2
_CLOSE_TIMEOUT: Final = 5.0


@dataclass(slots=True)
class Tally:
    """What was sent, and what of it arrived whole, in messages of `size` bytes; a sender stops when it is told to."""

    size: int
    sent: int = 0
    received: int = 0
    stopped: bool = False

    def take(self, message: object) -> None:
        """Counts a message if it is one of those."""
        self.received += isinstance(message, bytes) and len(message) == self.size


Fill: TypeAlias = Callable[[bytes], Awaitable[None]]
"""Sends a payload again and again, as fast as there is room, until the tally says to stop."""


class Pair:
    """Two connections and the two ends of an ordered, reliable channel between them."""

    def __init__(self) -> None:
        self._offering, self._answering = (RTCPeerConnection(RTCConfiguration(iceServers=[])) for _ in range(2))
        self._out: Final[RTCDataChannel] = self._offering.createDataChannel("bench")
        self._in: RTCDataChannel | None = None

    async def open(self) -> None:
        """From nothing to a channel that is open at both ends."""
        offering, answering = self._offering, self._answering
        opened = asyncio.Event()
        arrived: asyncio.Future[RTCDataChannel] = asyncio.get_running_loop().create_future()
        self._out.on("open", opened.set)
        answering.on("datachannel", arrived.set_result)
        await offering.setLocalDescription(await offering.createOffer())
        await answering.setRemoteDescription(offering.localDescription)
        await answering.setLocalDescription(await answering.createAnswer())
        await offering.setRemoteDescription(answering.localDescription)
        await opened.wait()
        self._in = await arrived

    def count(self, tally: Tally) -> None:
        """Counts what arrives from now on."""
        assert self._in is not None
        self._in.on("message", tally.take)

    async def fill(self, tally: Tally, payload: bytes) -> None:
        """Sends until it is stopped; waits where much is buffered."""
        out, room = self._out, asyncio.Event()
        out.bufferedAmountLowThreshold = _LOW
        out.on("bufferedamountlow", room.set)
        while not tally.stopped:
            if out.bufferedAmount >= _HIGH:
                room.clear()
                await room.wait()
            out.send(payload)
            tally.sent += 1

    async def close(self) -> None:
        """Closes both."""
        await self._offering.close()
        await self._answering.close()


@asynccontextmanager
async def opened_pair() -> AsyncIterator[Pair]:
    """A pair whose channel is open; needs a loop around it (`trio_asyncio.open_loop`)."""
    pair = Pair()
    try:
        await trio_asyncio.aio_as_trio(pair.open)()
        yield pair
    finally:
        with trio.move_on_after(_CLOSE_TIMEOUT, shield=True):
            await trio_asyncio.aio_as_trio(pair.close)()


@asynccontextmanager
async def sending_pair(tally: Tally) -> AsyncIterator[Fill]:
    """One on a loop of its own, that counts."""
    async with trio_asyncio.open_loop(), opened_pair() as pair:
        pair.count(tally)

        async def fill(payload: bytes) -> None:
            await trio_asyncio.aio_as_trio(pair.fill)(tally, payload)

        yield fill
