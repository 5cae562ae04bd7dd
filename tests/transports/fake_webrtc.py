"""WebRTC without a network: connections that find each other by the descriptions that tests carry between them.

    world = FakeWebRTC()
    config = WebRTCConfig(factory=world.factory)                              # all goes well
    other = WebRTCConfig(factory=world.behaving(Behaviour(fail_at="answer")))  # one end has a fault
    ...
    assert world.open_connections == 0

Time is Trio's, so all of it works with a mock clock. What is sent arrives whether the other end's program reads or
not, as with the real one. A connection that closes loses what is still on its way.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

from tests.transports.fake_channel import Behaviour, FakeChannel, Step
from trio_relay.exceptions import NegotiationFailed, RemoteProtocolError
from trio_relay.transports.webrtc import CandidatePair, Factory, WebRTCConfig
from trio_relay.wire.description import Candidate, check_description_untrusted

__all__ = ["Behaviour", "FakeChannel", "FakeConnection", "FakeWebRTC", "Step"]

_DESCRIPTION: Final = (
    "v=0\r\no=- {number} 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n"
    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\n"
    "a=candidate:1 1 udp 2113937151 192.0.2.1 {port} typ host\r\na=end-of-candidates\r\n"
    "a=ice-ufrag:fake{number:06}\r\na=ice-pwd:passwordpasswordpassword\r\na=fingerprint:sha-256 {fingerprint}\r\n"
    "a=setup:{setup}\r\na=sctp-port:5000\r\na=max-message-size:{max_message}\r\n"
)
_NAME: Final = re.compile(r"a=ice-ufrag:fake([0-9]{6})\r?\n")


class FakeWebRTC:
    """All connections of a test.

    Attributes:
        connections: all that were ever made, in their order; those of behaviours included.
        open_connections: those whose block has not ended.
    """

    def __init__(self) -> None:
        self.connections: Final[list[FakeConnection]] = []
        self.open_connections = 0
        self.factory: Final[Factory] = self.behaving(Behaviour())

    def behaving(self, behaviour: Behaviour) -> Factory:
        """A factory of connections with this behaviour."""

        @asynccontextmanager
        async def make(config: WebRTCConfig) -> AsyncIterator[FakeConnection]:
            connection = FakeConnection(self, len(self.connections), config, behaviour)
            self.connections.append(connection)
            self.open_connections += 1
            try:
                yield connection
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(behaviour.closing)
                connection.close()
                self.open_connections -= 1

        return make

    @property
    def channels(self) -> list[FakeChannel]:
        """Both ends of all channels that are open."""
        return [c.data_channel for c in self.connections if c.data_channel is not None and c.data_channel.is_open]

    def break_channels(self) -> None:
        """All channels break, as when the network between the ends is gone and both have noticed."""
        for channel in self.channels:
            channel.cut()

    def lose(self) -> None:
        """From now on all that is sent on open channels is lost, and nobody is told."""
        for channel in self.channels:
            channel.loses_after = 0

    def find(self, description: str) -> FakeConnection:
        """Whose description it is."""
        found = _NAME.search(description)
        if found is None or int(found[1]) >= len(self.connections):
            raise NegotiationFailed("expected the description of a fake")
        return self.connections[int(found[1])]


class FakeConnection:
    """A `PeerConnection`.

    Attributes:
        candidates: what was added, in its order.
        data_channel: once it is open.
    """

    def __init__(self, world: FakeWebRTC, number: int, config: WebRTCConfig, behaviour: Behaviour) -> None:
        self.number: Final = number
        self.config: Final = config
        self.behaviour: Final = behaviour
        self.candidates: Final[list[Candidate | None]] = []
        self.data_channel: FakeChannel | None = None
        self.closed = False
        self._world: Final = world
        self._peer: FakeConnection | None = None
        self._named = ("", "")
        self._ordered = True
        self._changed: Final = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        return f"<FakeConnection {self.number}, {'closed' if self.closed else 'open'}>"

    async def create_offer(self, label: str, *, protocol: str = "", ordered: bool = True) -> str:
        """See `PeerConnection`; so below."""
        await self._step("offer")
        self._named = (label, protocol)
        self._ordered = ordered
        return self._describe("actpass")

    async def create_answer(self, offer: str) -> str:
        await self._step("answer")
        self._meet(offer)
        return self._describe("active")

    async def accept_answer(self, answer: str) -> None:
        await self._step("accept")
        self._meet(answer)

    async def add_candidate(self, candidate: Candidate | None) -> None:
        await self._step("candidate")
        self.candidates.append(candidate)
        self._wake()

    async def channel(self) -> FakeChannel:
        """Waits for ever if the other end is gone: nobody would know."""
        await self._step("channel")
        while self.data_channel is None:
            self._open()
            if self.data_channel is None:
                await self._changed.park()
        if self.behaviour.channel_error is not None:
            raise self.behaviour.channel_error
        return self.data_channel

    def selected_pair(self) -> CandidatePair | None:
        if self._peer is None:
            return None
        return CandidatePair("host", "host", f"192.0.2.1:{self._port}", f"192.0.2.1:{self._peer._port}")

    def close(self) -> None:
        """What the end of the block does, and what a host does that vanishes (without `closing`)."""
        self.closed = True
        if self.data_channel is not None:
            self.data_channel.close()
        if self._peer is not None:
            self._peer._wake()

    @property
    def _port(self) -> int:
        return 10000 + self.number

    async def _step(self, step: Step) -> None:
        assert not self.closed, "used after the end of its block"
        await trio.sleep(self.behaviour.delay)
        if self.behaviour.hang_at == step:
            await trio.sleep_forever()
        if self.behaviour.fail_at == step:
            raise NegotiationFailed(self.behaviour.reason)

    def _describe(self, setup: str) -> str:
        digits = hashlib.sha256(b"certificate %d" % self.number).hexdigest().upper()
        return _DESCRIPTION.format(
            number=self.number,
            port=self._port,
            fingerprint=":".join(digits[i : i + 2] for i in range(0, 64, 2)),
            setup=setup,
            max_message=self.behaviour.max_message,
        )

    def _meet(self, description: str) -> None:
        try:
            check_description_untrusted(description)
        except RemoteProtocolError as error:
            raise NegotiationFailed(str(error)) from error
        self._peer = self._world.find(description)
        self._peer._wake()

    def _open(self) -> None:
        """Opens both ends of the channel when both have met, and have what they need."""
        peer = self._peer
        if peer is None or peer._peer is not self:
            return
        for end in (self, peer):
            added = sum(candidate is not None for candidate in end.candidates)
            if end.closed or end.behaviour.unreachable or added < end.behaviour.candidates:
                return
        maker = self if self._named[0] or self._named[1] else peer
        mine, theirs = (FakeChannel(end.behaviour, end.config, *maker._named) for end in (self, peer))
        for channel in (mine, theirs):
            channel.ordered, channel.reliable = maker._ordered, maker.behaviour.reliable
        mine.join(theirs)
        self.data_channel, peer.data_channel = mine, theirs
        peer._wake()

    def _wake(self) -> None:
        self._changed.unpark_all()
