"""Two lasting pipes, and carriers between them that open, lag, lose and break as a test wants."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import trio

from tests.transports.fake_channel import Behaviour, FakeChannel
from trio_relay.exceptions import NegotiationFailed, PeerError
from trio_relay.peerjs.fallback.carrier import Carrier, ChannelCarrier
from trio_relay.peerjs.fallback.lasting import LastingPipe
from trio_relay.peerjs.fallback.rounds import Timing
from trio_relay.peerjs.pipe import Transport
from trio_relay.transports.webrtc import DataChannel, WebRTCConfig

__all__ = ["NEVER", "Link", "Pair", "Script", "opened", "take"]

NEVER: Final = float("inf")
CONFIG: Final = WebRTCConfig()
LATENCY: Final = 0.05

Kind: TypeAlias = Literal["webrtc", "relay"]


@dataclass(frozen=True, kw_only=True)
class Link:
    """One carrier, as it is for the originator and the answerer.

    Attributes:
        opens: seconds after both sides have come.
        fails: seconds after which the attempt fails by itself.
        behaviours: of what each side sends.
    """

    opens: tuple[float, float] = (0.1, 0.1)
    fails: tuple[float, float] = (NEVER, NEVER)
    behaviours: tuple[Behaviour, Behaviour] = (Behaviour(delay=LATENCY), Behaviour(delay=LATENCY))


BLOCKED: Final = Link(opens=(NEVER, NEVER))

Script: TypeAlias = Callable[[Kind, int], Link | None]
"""The carrier of a round; None: there is none, of a relay: neither side has one."""


class FakeRelay(ChannelCarrier):
    """A relay that needs no sealing."""

    transport: Final[Transport] = "relay"  # type: ignore[misc]


class _Place:
    """Where two sides come for one carrier."""

    def __init__(self, link: Link) -> None:
        self.link: Final = link
        self.ends: Final = [FakeChannel(behaviour, CONFIG, "", "") for behaviour in link.behaviours]
        self.ends[0].join(self.ends[1])
        self.here = [False, False]
        self.met: Final = trio.Event()


class Pair:
    """The pipes, and everything that was tried.

    Attributes:
        tried: kind and round of each attempt of the originator, and of the answerer.
        channels: the ends of each carrier.
        errors: what `LastingPipe.run` has raised.
        ended: when it returned.
    """

    def __init__(self, script: Script, timing: Timing | None, nursery: trio.Nursery) -> None:
        self.counts: Final = Counter[str]()
        self.tried: Final[tuple[list[tuple[Kind, int]], list[tuple[Kind, int]]]] = ([], [])
        self.channels: Final[dict[tuple[Kind, int], list[FakeChannel]]] = {}
        self.errors: Final[dict[int, PeerError]] = {}
        self.ended: Final[dict[int, float]] = {}
        self._script: Final = script
        self._places: Final[dict[tuple[Kind, int], _Place]] = {}
        self._nursery: Final = nursery
        sides: list[dict[str, Any]] = [{"role": "originator"}, {"role": "answerer"}]
        self.pipes: Final = [
            LastingPipe(
                negotiate=self._negotiator(side),
                open_relay=self._opener(side),
                timing=timing,
                counts=self.counts,
                **options,
            )
            for side, options in enumerate(sides)
        ]

    async def run(self, side: int) -> None:
        try:
            await self.pipes[side].run()
        except PeerError as error:
            self.errors[side] = error
        self.ended[side] = trio.current_time()

    def cut(self, kind: Kind, round_: int) -> None:
        """Breaks a carrier that is open."""
        self.channels[kind, round_][0].cut()

    def _negotiator(self, side: int) -> Callable[[int], AbstractAsyncContextManager[DataChannel]]:
        def negotiate(round_: int) -> AbstractAsyncContextManager[DataChannel]:
            if side == 0 and round_:
                self._nursery.start_soon(self._offer, round_)
            return self._come(side, "webrtc", round_)

        return negotiate

    def _opener(self, side: int) -> Callable[[int], AbstractAsyncContextManager[Carrier] | None]:
        def open_relay(round_: int) -> AbstractAsyncContextManager[Carrier] | None:
            if self._script("relay", round_) is None:
                return None
            return self._carrier(side, round_)

        return open_relay

    async def _offer(self, round_: int) -> None:
        await trio.sleep(LATENCY)
        self.pipes[1].offer_came(round_)

    @asynccontextmanager
    async def _carrier(self, side: int, round_: int) -> AsyncIterator[Carrier]:
        async with self._come(side, "relay", round_) as channel:
            yield FakeRelay(channel)

    @asynccontextmanager
    async def _come(self, side: int, kind: Kind, round_: int) -> AsyncIterator[FakeChannel]:
        self.tried[side].append((kind, round_))
        link = self._script(kind, round_)
        if link is None:
            raise NegotiationFailed("there is no way")
        place = self._places.setdefault((kind, round_), _Place(link))
        self.channels[kind, round_] = place.ends
        place.here[side] = True
        if all(place.here):
            place.met.set()
        try:
            with trio.move_on_after(link.fails[side]):
                await place.met.wait()
                await trio.sleep(link.opens[side])
                yield place.ends[side]
                return
            raise NegotiationFailed("it failed by itself")
        finally:
            place.here[side] = False
            place.ends[side].close()


@asynccontextmanager
async def opened(script: Script, timing: Timing | None = None, *, wait: bool = True) -> AsyncIterator[Pair]:
    """Two pipes whose tasks run; they end with the block."""
    async with trio.open_nursery() as nursery:
        pair = Pair(script, timing, nursery)
        for side in (0, 1):
            nursery.start_soon(pair.run, side)
        if wait:
            for pipe in pair.pipes:
                await pipe.wait_open()
        yield pair
        nursery.cancel_scope.cancel()


async def take(pipe: LastingPipe, number: int) -> list[bytes | str]:
    """So many messages."""
    messages: list[bytes | str] = []
    while len(messages) < number:
        batch = await pipe.receive()
        assert batch, "the end"
        messages += batch
    return messages
