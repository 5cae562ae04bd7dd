"""WebRTC connections with many channels and streams, without a network; tests carry their descriptions.

    world = FakeBundles()
    async with world.factory(config) as one, world.behaving(BundleBehaviour(delay=0.1))(config) as other:
        await negotiate(one, other)
    assert world.open_bundles == 0

Time is Trio's, so all of it works with a mock clock. A test may break things: see `FakeBundle.cut`, `vanish`, `fail`.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Final

import trio

from tests.transports.fake_bundle_channel import (
    BundleBehaviour,
    BundleStep,
    ChannelOptions,
    FakeBundleChannel,
    Wire,
)
from tests.transports.fake_bundle_end import Agenda, FakeEnd
from tests.transports.fake_bundle_tracks import FakeTrack, Place, RemoteTracks, Streams
from trio_relay.exceptions import NegotiationFailed
from trio_relay.transports.bundle import Bundle, BundleFactory, StreamTrack
from trio_relay.transports.bundle_checks import MAX_CHANNELS, check_channel
from trio_relay.transports.webrtc import CandidatePair, MediaTrack, WebRTCConfig
from trio_relay.wire.description import Candidate

__all__ = ["BundleBehaviour", "FakeBundle", "FakeBundleChannel", "FakeBundles", "FakeTrack", "negotiate"]

MAX_WAITING: Final = 64
"""Channels that nobody has accepted."""

_DESCRIPTION: Final = re.compile(r"a=x-(offer|answer):(\d+) (\d+) (\d)\r\n")


class FakeBundles:
    """All bundles of a test: all ever made; how many of their blocks have not ended; `counts` as the real ones'."""

    def __init__(self) -> None:
        self.bundles: Final[list[FakeBundle]] = []
        self.open_bundles = 0
        self.counts: Final = Counter[str]()
        self.agenda: Final = Agenda()
        self.factory: Final[BundleFactory] = self.behaving(BundleBehaviour())

    def behaving(self, behaviour: BundleBehaviour) -> BundleFactory:
        """A factory of bundles with this behaviour."""

        @asynccontextmanager
        async def make(config: WebRTCConfig) -> AsyncIterator[FakeBundle]:
            bundle = FakeBundle(self, len(self.bundles), config, behaviour)
            self.bundles.append(bundle)
            self.open_bundles += 1
            try:
                yield bundle
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(behaviour.closing)
                bundle.close()
                self.open_bundles -= 1

        return make


class FakeBundle(FakeEnd):
    """A `Bundle`.

    Attributes:
        candidates: what was added, in its order.
        negotiations: how many of its offers were answered.
        held: bytes that it has not read, of all channels.
        lost: messages to it that were.
        wire: what it sends.
    """

    def __init__(self, world: FakeBundles, number: int, config: WebRTCConfig, behaviour: BundleBehaviour) -> None:
        super().__init__(world.agenda)
        self.number: Final = number
        self.config: Final = config
        self.behaviour: Final = behaviour
        self.candidates: Final[list[Candidate | None]] = []
        self.negotiations = self.held = self.lost = 0
        self.wire: Final = Wire(self)
        self.channels: Final[list[FakeBundleChannel]] = []
        self._world: Final = world
        self._peer: FakeBundle | None = None
        self._serials: Final = count(1)
        self._offered: tuple[int, list[Place], bool] | None = None
        self._has_channels = self._busy = False
        self._streams: Final = Streams(self)
        self._remote: Final = RemoteTracks(self, world.counts)
        self._new_channels: Final[deque[FakeBundleChannel]] = deque()

    def __repr__(self) -> str:
        return f"<FakeBundle {self.number}, {self._state}>"

    # Channels

    def open_channel(
        self,
        label: str,
        *,
        protocol: str = "",
        ordered: bool = True,
        max_retransmits: int | None = None,
        max_packet_lifetime: float | None = None,
        id: int | None = None,
    ) -> FakeBundleChannel:
        """See `Bundle`; so below."""
        check_channel(label, protocol, max_retransmits, max_packet_lifetime, id)
        if id is not None and self.find_negotiated(id) is not None:
            raise ValueError(f"expected the id of no other channel, not {id}")
        self.raise_if_over()
        if len(self.channels) >= MAX_CHANNELS:
            raise ValueError(f"expected at most {MAX_CHANNELS} data channels")
        options = ChannelOptions(label, protocol, ordered, max_retransmits, max_packet_lifetime, id)
        channel = FakeBundleChannel(self, options)
        self.channels.append(channel)
        self._announce(channel)
        self.agenda.wake()
        return channel

    async def accept_channel(self) -> FakeBundleChannel:
        await trio.lowlevel.checkpoint()
        await self.agenda.wait(lambda: bool(self._new_channels) or self.is_over)
        if not self._new_channels or self.closed_here:
            self.raise_if_over()
        return self._new_channels.popleft()

    def find_negotiated(self, id: int | None) -> FakeBundleChannel | None:
        return next((channel for channel in self.channels if channel.options.id == id is not None), None)

    def forget(self, channel: FakeBundleChannel) -> None:
        """It was closed."""
        if channel in self.channels:
            self.channels.remove(channel)

    def _announce(self, channel: FakeBundleChannel) -> None:
        """Lets a channel open, on both sides, when it can."""
        if not self.is_up or not self._has_channels:
            return
        if channel.options.id is not None:
            channel.on_open()
        else:
            self.agenda.after(self.behaviour.delay, lambda: self._arrive(channel))

    def _arrive(self, channel: FakeBundleChannel) -> None:
        peer = self.peer
        if channel.is_over or channel.other is not None or self.is_over or peer.is_over:
            return
        channel.on_open()
        if len(peer._new_channels) >= MAX_WAITING or len(peer.channels) >= MAX_CHANNELS:
            self._world.counts["webrtc_channels_refused"] += 1
            channel.take(None)
            return
        other = FakeBundleChannel(peer, channel.options)
        other.other, channel.other = channel, other
        other.on_open()
        peer.channels.append(other)
        peer._new_channels.append(other)

    # Streams

    def set_stream(self, stream: str, tracks: Sequence[MediaTrack]) -> None:
        self._streams.set(stream, tracks)
        self.agenda.wake()

    def find_sent(self, name: str) -> MediaTrack | None:
        return self._streams.find(name)

    async def accept_track(self) -> StreamTrack:
        await trio.lowlevel.checkpoint()
        await self.agenda.wait(lambda: bool(self._remote.new) or self.is_over)
        self.raise_if_over()
        return self._remote.new.popleft()

    @property
    def tracks(self) -> tuple[StreamTrack, ...]:
        self.agenda.catch_up()
        return () if self.is_over else tuple(self._remote.tracks)

    # Negotiation

    @property
    def needs_negotiation(self) -> bool:
        self.agenda.catch_up()
        wants_channels = bool(self.channels) and not self._has_channels
        return (
            not self.is_over
            and self._offered is None
            and (wants_channels or self._streams.wanted != self._streams.told)
        )

    async def wait_negotiation_needed(self) -> None:
        await trio.lowlevel.checkpoint()
        await self.agenda.wait(lambda: self.needs_negotiation or self.is_over)
        self.raise_if_over()

    async def create_offer(self) -> str:
        async with self._step("create_offer"):
            serial = next(self._serials)
            wanted, has_channels = list(self._streams.wanted), bool(self.channels) or self._has_channels
            self._offered = serial, wanted, has_channels
            return self._describe("offer", serial, wanted, has_channels)

    async def accept_offer(self, offer: str) -> str:
        async with self._step("accept_offer"):
            serial, has_channels = self._read("offer", offer)
            self._offered = None
            self._has_channels = self._has_channels or has_channels
            self._remote.take(offer)
            self._begin()
            return self._describe("answer", serial, [], has_channels)

    async def accept_answer(self, answer: str) -> None:
        async with self._step("accept_answer"):
            offered, self._offered = self._offered, None
            serial, _ = self._read("answer", answer)
            if offered is None or offered[0] != serial:
                raise NegotiationFailed("the answer: there is no offer that it answers")
            _, self._streams.told, self._has_channels = offered
            self.negotiations += 1
            self._begin()
            self.peer._meet()

    async def add_candidate(self, candidate: Candidate | None) -> None:
        async with self._step("add_candidate", alone=False):
            self.candidates.append(candidate)
            if self._peer is not None and self._peer.has_met:
                self._meet()
                self._peer._meet()

    @asynccontextmanager
    async def _step(self, step: BundleStep, *, alone: bool = True) -> AsyncIterator[None]:
        if alone and self._busy:
            raise trio.BusyResourceError("another task negotiates")
        self._busy = alone or self._busy
        try:
            self.check_negotiation()
            await trio.sleep(self.behaviour.delay)
            if self.behaviour.hang_at == step:
                await trio.sleep_forever()
            if self.behaviour.fail_at == step:
                raise NegotiationFailed(self.behaviour.reason)
            self.check_negotiation()
            yield
            self.agenda.wake()
        finally:
            self._busy = self._busy and not alone

    def _describe(self, kind: str, serial: int, places: list[Place], has_channels: bool) -> str:
        lines = [
            "v=0",
            f"o=- {self.number} {serial} IN IP4 127.0.0.1",
            "s=-",
            "t=0 0",
            f"a=ice-ufrag:fake{self.number:06}",
            f"a=x-{kind}:{self.number} {serial} {int(has_channels)}",
            *(place.line for place in places),
        ]
        return "".join(f"{line}\r\n" for line in lines)

    def _read(self, kind: str, description: str) -> tuple[int, bool]:
        found = _DESCRIPTION.search(description)
        if found is None or found[1] != kind or int(found[2]) >= len(self._world.bundles):
            raise NegotiationFailed(f"the {kind}: expected that of a fake, got {description[:200]!r}")
        peer = self._world.bundles[int(found[2])]
        if peer is self or (self._peer not in (None, peer)):
            raise NegotiationFailed(f"the {kind}: it is of another connection")
        self._peer = peer
        return int(found[3]), found[4] == "1"

    def _begin(self) -> None:
        if self._state == "new":
            self.set_state("connecting")
            if self.behaviour.unreachable or self.peer.behaviour.unreachable:
                self.agenda.after(self.config.negotiation_timeout, lambda: self.fail("ICE: no pair of addresses works"))
        for channel in list(self.channels):
            self._announce(channel)

    def _meet(self) -> None:
        """Both ends connect if they have what they need."""
        for end in (self, self.peer):
            added = sum(candidate is not None for candidate in end.candidates)
            if end._state != "connecting" or end.behaviour.unreachable or added < end.behaviour.candidates:
                return
        for end in (self, self.peer):
            self.agenda.after(end.behaviour.delay, end._connect)

    def _connect(self) -> None:
        if self._state == "connecting":
            self.set_state("connected")
        for end in (self, self.peer):
            for channel in list(end.channels) if self.peer._state == "connected" else ():
                end._announce(channel)

    # Its end

    @property
    def has_met(self) -> bool:
        return self._peer is not None

    @property
    def peer(self) -> FakeBundle:
        """The other end."""
        assert self._peer is not None, "the other end is not known yet"
        return self._peer

    def selected_pair(self) -> CandidatePair | None:
        if not self.is_up:
            return None
        ours, theirs = (f"192.0.2.1:{10000 + end.number}" for end in (self, self.peer))
        return CandidatePair("host", "host", ours, theirs)

    def close(self) -> None:
        """What the end of the block does: the other end hears of it."""
        was_over, self.closed_here = self.is_over, True
        self.end("closed", "the connection was closed here")
        if self._peer is not None and not was_over and not self.wire.is_cut:
            peer = self._peer
            self.agenda.after(self.behaviour.delay, lambda: peer.end("closed", "the other side closed the connection"))

    def cut(self) -> None:
        """The network between the ends is gone, and both have noticed."""
        for end in (self, self._peer):
            if end is not None:
                end.fail("ICE: the other side no longer answers")

    def vanish(self) -> None:
        """From now on all that it sends is lost, its goodbye, too; the other end notices after 30 s of silence."""
        self.wire.is_cut = True
        self.agenda.after(30, lambda: self.peer.fail("ICE: the other side no longer answers"))


async def negotiate(one: Bundle, other: Bundle) -> None:
    """One offers, the other answers."""
    await one.accept_answer(await other.accept_offer(await one.create_offer()))
