"""Endpoints that seal, around relays which are the test's: every frame between endpoints passes it as bytes.

What must hold whatever the relays do is checked as it happens: an application sees only what was sent to it, from its
true sender, a datagram once, a confirmed message once (but for the exception of sessions.md section 6); a message is
acknowledged only when its receiver has it; no counter of a session seals two things, no session seals a message twice;
and nothing of a message is ever readable on the way.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

from trio_relay.exceptions import DeliveryError
from trio_relay.limits import Limits
from trio_relay.overlay.actions import Acknowledged, Action, CloseLink, Deliver, Dial, Failed, NotConnected, Transmit
from trio_relay.wire.content import encode_content
from trio_relay.wire.frame import (
    FIRST_LINK_LOCAL,
    HEADER_LENGTH,
    UNCHANGED,
    Flag,
    Frame,
    Kind,
    build_frame,
    parse_frames_untrusted,
)
from trio_relay.wire.ids import NodeId
from trio_relay.wire.record import PeerRecord
from trio_relay.wire.session import INDEX_LENGTH, SEALED_HEAD, Cipher, Unknown, build_unknown

from ..support import WALL, node_id, record
from .peers import Link, Message, Passing, Peer

__all__ = [
    "LATENCY",
    "LIMITS",
    "MARKER",
    "RELAY",
    "Link",
    "Message",
    "Passing",
    "Peer",
    "Relay",
    "World",
    "all_arrived",
    "load",
    "tap",
    "unknown",
    "what",
]

LATENCY: Final = 0.02
"""Seconds from one endpoint to another."""
MARKER: Final = b"what no relay may read"
RELAY: Final = 100
_STATUS_EVERY: Final = 1500.0
_KNOWN_FOR: Final = 120.0
_SEALED_ONLY: Final = {Kind.DATA, Kind.ACK, Kind.BUSY, Kind.CONNECT, Kind.REFUSED}
LIMITS: Final = Limits(ping_after=60.0, dead_after=60.0)
"""Few pings, so that simulated minutes are cheap."""


Relay = Callable[[Passing], Iterable[float]]
"""Answers a frame with the delays of its copies: none drops it."""


class World:
    """Endpoints, the relays between them, and the clock.

    Args:
        relays: for each endpoint, the numbers of the relays that it is linked with.

    Attributes:
        relay: what all relays do with the frames of endpoints; at first they pass them on.
        messages: everything that was sent, in order.
        arriving: the bytes that an endpoint is being given.
    """

    def __init__(
        self,
        count: int = 2,
        *,
        limits: Limits = LIMITS,
        relays: Mapping[int, tuple[int, ...]] | None = None,
        ciphers: int = Cipher.CHACHA20_POLY1305,
        seed: int = 0,
    ) -> None:
        self.now = 0.0
        self.rng: Final = random.Random(seed)
        self.ciphers: Final = ciphers
        self.relay: Relay = lambda _: (LATENCY,)
        self.messages: Final[list[Message]] = []
        self.arriving = b""
        self._events: Final[list[tuple[float, int, Callable[[], None]]]] = []
        self._event_count = 0
        self._sequence = 0
        self._by_counter: Final[dict[bytes, bytes]] = {}
        self._by_message: Final[dict[tuple[NodeId, bytes, bytes], set[bytes]]] = {}
        self._refusals: Final = Counter[tuple[NodeId, bytes]]()
        self._by_content: Final[dict[bytes, Message]] = {}
        self.peers: Final = [
            Peer(self, number, (relays or {}).get(number, (RELAY,)), limits) for number in range(1, count + 1)
        ]
        self._by_id: Final = {peer.id: peer for peer in self.peers}
        self._keep_relays_known()

    # Relays

    def relay_record(self, relay: int) -> PeerRecord:
        """A fresh record of a relay."""
        self._sequence += 1
        return record(relay, sequence=self._sequence, expiry=WALL + self.now + 3000)

    def _keep_relays_known(self) -> None:
        for peer in self.peers:
            for relay, link in peer.links.items():
                if link.up:
                    peer.hear_status(relay)
        self.after(_STATUS_EVERY, self._keep_relays_known)

    def inject(self, frame: bytes, relay: int | None = None) -> None:
        """Whatever bytes, to the endpoint that their header names, over its link with a relay."""
        peer = self._by_id.get(NodeId(frame[8:28]))
        if peer is not None:
            peer.hear(relay if relay in peer.relays else peer.relays[0], frame)

    def forward(self, passing: Passing) -> None:
        """What an honest relay does."""
        frame = passing.frame
        self.inject(replace(frame, hop_limit=max(0, frame.hop_limit - 1)).to_bytes(), passing.relay)

    # Time

    def after(self, delay: float, call: Callable[[], None]) -> None:
        self._event_count += 1
        heapq.heappush(self._events, (self.now + delay, self._event_count, call))

    def advance(self, seconds: float) -> None:
        """Time passes: frames arrive, and timers fire when they want to."""
        end, turns = self.now + seconds, 0
        while True:
            peer = min(self.peers, key=lambda peer: peer.router.next_deadline())
            deadline = peer.router.next_deadline()
            at = self._events[0][0] if self._events else end
            if min(at, deadline) > end or (deadline > end and not self._events):
                break
            turns = turns + 1 if min(at, deadline) <= self.now else 0
            assert turns < 10_000, "timers fire without end"
            self.now = max(self.now, min(at, deadline))
            if deadline < at:
                self.carry_out(peer, peer.router.handle_timeout(self.now))
            else:
                heapq.heappop(self._events)[2]()
        self.now = end

    # Applications

    def send(self, sender: Peer, to: Peer, size: int = 0) -> Message:
        """A datagram."""
        message, payload = self._message(sender, to, size, confirmed=False)
        self.carry_out(sender, sender.router.send(to.id, payload, self.now))
        return message

    def deliver(self, sender: Peer, to: Peer, timeout: float = 30.0, size: int = 0) -> Message:
        """A confirmed message."""
        message, payload = self._message(sender, to, size, confirmed=True)
        message.id, actions = sender.router.deliver(to.id, payload, timeout, self.now)
        sender.pending[message.id] = message
        self.carry_out(sender, actions)
        return message

    def _message(self, sender: Peer, to: Peer, size: int, *, confirmed: bool) -> tuple[Message, bytes]:
        message = Message(sender, to, confirmed, len(self.messages), self.now)
        content = b"%s %d %s" % (MARKER, message.number, bytes(size))
        self.messages.append(message)
        self._by_content[content] = message
        return message, encode_content(content)

    # What endpoints want done

    def carry_out(self, peer: Peer, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case Transmit(link=Link() as link):
                    self._transmit(link, b"".join(action.pieces))
                case Deliver():
                    self._delivered(peer, action)
                case Acknowledged():
                    message = peer.pending.pop(action.message_id)
                    assert message.seen, "acknowledged, but not in its receiver's mailbox"
                    message.acknowledged = self.now
                case Failed():
                    message = peer.pending.pop(action.message_id)
                    assert isinstance(action.error, DeliveryError)
                    assert action.error.outcome == "unknown" or not message.seen, "not delivered, but seen"
                    message.error = action.error
                case CloseLink(link=Link() as link) if link.up:
                    peer.cut(link.relay)
                case Dial(probe=True):
                    expected = action.expected
                    self.carry_out(peer, peer.router.probe_ended(expected, True, self.now))
                case NotConnected():
                    raise AssertionError("nobody asked for a link")
                case Dial():
                    assert action.expected not in self._by_id, "nobody asked for a link"
                    self.carry_out(peer, peer.router.dial_failed(action.expected, self.now))

    def _delivered(self, peer: Peer, action: Deliver) -> None:
        assert isinstance(action.data, bytes)
        message = self._by_content[action.data]
        assert (message.to, message.sender.id, True) == (peer, action.sender, action.proven)
        frame = self.arriving[HEADER_LENGTH:]
        may_repeat = message.confirmed and all(
            incarnation < peer.incarnation or (self.now >= at + _KNOWN_FOR and index != frame[:INDEX_LENGTH])
            for at, incarnation, index in message.seen
        )
        assert may_repeat or not message.seen, f"message {message.number} was delivered twice"
        message.seen.append((self.now, peer.incarnation, frame[:INDEX_LENGTH]))
        peer.mailbox.append(action.size)
        if peer.takes:
            peer.take()

    def _transmit(self, link: Link, data: bytes) -> None:
        assert link.up, "a link is used that is down"
        assert MARKER not in data, "readable on the way"
        for frame in parse_frames_untrusted(data):
            if frame.kind == Kind.PING:
                pong = build_frame(Kind.PONG, frame.source, frame.to, frame.message_id, b"", hop_limit=0, detours=0)
                self.after(LATENCY, partial(link.peer.hear, link.relay, pong))
            elif frame.kind < FIRST_LINK_LOCAL and frame.to != node_id(link.relay):
                self._pass(Passing(frame, link.peer.number, link.relay, self.now))

    def _pass(self, passing: Passing) -> None:
        frame = passing.frame
        assert frame.source == self.peers[passing.sender - 1].id
        if frame.flags & Flag.SEALED:
            self._check_sealed(frame)
        else:
            assert frame.kind not in _SEALED_ONLY
        for delay in self.relay(passing):
            self.after(delay, partial(self.forward, passing))

    def _check_sealed(self, frame: Frame) -> None:
        said, payload = frame.to_bytes()[UNCHANGED.start :], frame.payload
        head, index = payload[: SEALED_HEAD.size], payload[:INDEX_LENGTH]
        assert self._by_counter.setdefault(frame.to + head, said) == said, "a counter sealed two things"
        if frame.kind == Kind.BUSY:
            self._refusals[frame.to, frame.message_id] += 1
        elif frame.kind == Kind.DATA:
            known = self._by_message.setdefault((frame.source, frame.message_id, index), set())
            known.add(head)
            refusals = self._refusals[frame.source, frame.message_id]
            assert len(known) <= 1 + refusals, "a session sealed a message twice that was not refused"


# For relays of tests

_PLAIN: Final = {1: "OPEN", 2: "ACCEPT", 3: "COOKIE", 4: "UNKNOWN"}


def what(frame: Frame) -> str:
    """The name of a frame between endpoints; with a plus if it brings the opener's proof."""
    if not frame.flags & Flag.SEALED:
        assert frame.kind == Kind.SESSION
        return _PLAIN[frame.payload[0]]
    return Kind(frame.kind).name + "+" * bool(frame.flags & Flag.OPENING)


def tap(world: World) -> list[Passing]:
    """Everything that passes from now on, and what becomes of it stays as it is."""
    passed, relay = list[Passing](), world.relay

    def listen(passing: Passing) -> Iterable[float]:
        passed.append(passing)
        return relay(passing)

    world.relay = listen
    return passed


def load(world: World, every: float, seconds: float, *, datagrams: bool = True) -> list[Message]:
    """Both write to each other all the time."""
    messages, (a, b), until = list[Message](), world.peers, world.now + seconds
    while world.now < until:
        for sender, receiver in ((a, b), (b, a)):
            messages.append(world.deliver(sender, receiver))
            if datagrams:
                messages.append(world.send(sender, receiver))
        world.advance(every)
    return messages


def all_arrived(messages: Iterable[Message]) -> bool:
    """Each once, and the confirmed ones were acknowledged."""
    return all(len(message.seen) == 1 and bool(message.acknowledged) is message.confirmed for message in messages)


def unknown(frame: Frame) -> bytes:
    """UNKNOWN that a relay makes up for a sealed frame."""
    hint = build_unknown(Unknown(frame.payload[:INDEX_LENGTH]))
    return build_frame(Kind.SESSION, frame.source, frame.to, frame.message_id, hint)
