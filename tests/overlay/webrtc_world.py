"""Routers that make links with each other over signalling that loses, repeats and delays, and WebRTC and WebSocket
connections that come about, fail and end when the test says so."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from trio_relay.limits import Limits
from trio_relay.overlay.actions import (
    Action,
    Answered,
    CloseLink,
    Connected,
    Dial,
    EndNegotiation,
    Linked,
    Negotiate,
    NotConnected,
    Preference,
    Relinked,
    Transmit,
    Unlinked,
)
from trio_relay.overlay.router import Router
from trio_relay.wire.frame import FIRST_LINK_LOCAL, Frame, Kind, parse_frames_untrusted
from trio_relay.wire.ids import NodeId
from trio_relay.wire.record import id_of_key, join_records

from .support import WALL, key, record, signature, url, verify

RELAY: Final = 99
LIMITS: Final = Limits(dead_after=1e6, lookup_timeout=1.0)
_FINGERPRINT: Final = ":".join(f"{n:02X}" for n in range(32))


def description(number: int) -> str:
    """A session description that no other number has."""
    lines = [
        "v=0",
        f"o=- {number} 1 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        "c=IN IP4 0.0.0.0",
        "a=ice-ufrag:abcd",
        "a=ice-pwd:0123456789abcdef012345",
        f"a=fingerprint:sha-256 {_FINGERPRINT}",
        "a=setup:actpass",
        "a=sctp-port:5000",
    ]
    return "".join(f"{line}\r\n" for line in lines)


@dataclass(eq=False)
class End:
    """One end of a link between two sides, a handle for its router."""

    side: Side
    dialled: bool
    negotiation: bytes = b""
    state: str = "new"
    other: End = field(init=False)
    inbox: deque[bytes] = field(default_factory=deque)
    """What the other end sent, and b"" for its close."""

    def __repr__(self) -> str:
        return f"<{'WebRTC' if self.negotiation else 'WebSocket'} {self.side.number}-{self.other.side.number}>"


@dataclass(eq=False)
class Try:
    """An attempt as its side carries it out."""

    action: Negotiate
    description: str = ""
    answer: str = ""
    end: End | None = None


class Side:
    """A router, its end of each link, and its attempts."""

    def __init__(self, number: int, *, webrtc: int, listening: bool) -> None:
        own = key(number)
        tokens = count(1)
        self.number = number
        self.id: NodeId = id_of_key(own)
        self.router = Router(
            self.id,
            own,
            sign=lambda data: signature(own, data),
            verify=verify,
            rng=random.Random(number),
            token=lambda: bytes([number]) + next(tokens).to_bytes(7, "big"),
            now=0.0,
            wall_offset=WALL,
            limits=LIMITS,
            webrtc=webrtc,
        )
        self.listening = listening
        self.ends: list[End] = []
        self.tries: dict[bytes, Try] = {}
        self.dials: list[Dial] = []
        self.waiting: dict[NodeId, set[Preference]] = {}
        """What calls of `connect` without an end prefer."""
        self.outcomes: list[Action] = []
        self.linked: set[NodeId] = set()


class World:
    """Sides 0, 1, ...; every one has a link with a relay, which the world plays."""

    def __init__(self, sides: int = 2, *, webrtc: int = 4, listening: Iterable[int] = (), known: bool = True) -> None:
        self.now = 0.0
        self.numbers = count(1)
        self.wire: list[tuple[Side, bytes]] = []
        """Frames between sides that are under way through the relay."""
        self.dials_hang = False
        """Whether `settle` leaves dials alone."""
        self.sides = [Side(n, webrtc=webrtc, listening=n in set(listening)) for n in range(sides)]
        self.by_id = {side.id: side for side in self.sides}
        relay = record(RELAY)
        for side in self.sides:
            router, link = side.router, f"relay of {side.number}"
            if side.listening:
                router.advertise([url(side.number)], 0.0)
            self.act(side, router.link_up(link, relay.id, 0.0, dialled=True, url=url(RELAY), record=relay))
            status = Frame(
                kind=Kind.STATUS, to=side.id, source=relay.id, message_id=bytes(8), payload=b"\1" + relay.raw,
                hop_limit=0, detours=0,
            )  # fmt: skip
            self.act(side, router.receive(link, [status.to_bytes()], 0.0))
        if known:
            for side in self.sides:
                for other in self.sides:
                    if other is not side:
                        records = join_records([other.router.record])
                        self.act(side, side.router.learn(records, 0, 0.0))

    # What routers want

    def act(self, side: Side, actions: Iterable[Action]) -> list[Action]:
        done = list(actions)
        for action in done:
            match action:
                case Transmit():
                    self._transmit(side, action)
                case Negotiate():
                    assert action.negotiation not in side.tries
                    assert all(t.action.id != action.id for t in side.tries.values()), "two with one peer"
                    side.tries[action.negotiation] = Try(action)
                case Answered():
                    attempt = side.tries[action.negotiation]
                    assert attempt.action.offer is None
                    assert not attempt.answer
                    assert attempt.description
                    attempt.answer = action.answer
                case EndNegotiation():
                    self._drop(side.tries.pop(action.negotiation))
                case Dial(probe=False):
                    side.dials.append(action)
                case CloseLink(link=End() as end):
                    self._close(end)
                case Connected() | NotConnected():
                    left = side.waiting.pop(action.id, set())
                    if isinstance(action, Connected) and action.only is not None and left - {action.only}:
                        side.waiting[action.id] = left - {action.only}
                    side.outcomes.append(action)
                case Linked():
                    side.linked.add(action.id)
                case Unlinked():
                    side.linked.discard(action.id)
                case _:
                    assert isinstance(action, Dial | Relinked), action
        return done

    def _transmit(self, side: Side, action: Transmit) -> None:
        message = b"".join(action.pieces)
        if isinstance(action.link, End):
            if action.link.state == "up":
                action.link.other.inbox.append(message)
            return
        for frame in parse_frames_untrusted(message):
            to = self.by_id.get(frame.to)
            if frame.kind < FIRST_LINK_LOCAL and to is not None and to is not side:
                self.wire.append((to, frame.to_bytes()))

    def _drop(self, attempt: Try) -> None:
        """The attempt's connection, if there is one, ends at this side."""
        if attempt.end is not None:
            self._close(attempt.end)

    def _close(self, end: End) -> None:
        if end.state != "closed":
            end.state = "closed"
            end.other.inbox.append(b"")

    # What happens

    def arrive(self, position: int, *, again: bool = False) -> None:
        """One of the frames under way arrives; `again`: and another copy of it stays under way."""
        side, frame = self.wire[position] if again else self.wire.pop(position)
        self.act(side, side.router.receive(f"relay of {side.number}", [frame], self.now))

    def describe(self, side: Side, attempt: Try) -> None:
        attempt.description = description(next(self.numbers))
        negotiation = attempt.action.negotiation
        self.act(side, side.router.described(negotiation, attempt.description, self.now))

    def undescribed(self) -> list[tuple[Side, Try]]:
        return [(s, t) for s in self.sides for t in s.tries.values() if not t.description]

    def fail(self, side: Side, attempt: Try) -> None:
        """It fails at that side."""
        negotiation = attempt.action.negotiation
        self._drop(side.tries.pop(negotiation))
        self.act(side, side.router.negotiation_failed(negotiation, "no way through", self.now))

    def connectable(self) -> list[tuple[Side, Try, Side, Try]]:
        """Attempts of which both ends have the other's description."""
        found = []
        for side in self.sides:
            for attempt in side.tries.values():
                other = self.by_id[attempt.action.id]
                theirs = other.tries.get(attempt.action.negotiation)
                if not attempt.answer or attempt.end is not None or theirs is None or theirs.end is not None:
                    continue
                if (theirs.description, theirs.action.offer) == (attempt.answer, attempt.description):
                    found.append((side, attempt, other, theirs))
        return found

    def open(self, side: Side, attempt: Try, other: Side, theirs: Try) -> None:
        """A connection comes about; its ends come up one after the other."""
        attempt.end, theirs.end = self._ends(side, other, attempt.action.negotiation)

    def _ends(self, dialler: Side, acceptor: Side, negotiation: bytes = b"") -> tuple[End, End]:
        ends = End(dialler, True, negotiation), End(acceptor, False, negotiation)
        ends[0].other, ends[1].other = ends[1], ends[0]
        dialler.ends.append(ends[0])
        acceptor.ends.append(ends[1])
        return ends

    def dialled(self, side: Side, *, success: bool) -> None:
        """The oldest dial of that side ends."""
        dial = side.dials.pop(0)
        other = self.by_id.get(dial.expected)
        if success and other is not None and other.listening:
            self._ends(side, other)
        else:
            self.act(side, side.router.dial_failed(dial.expected, self.now))

    def new_ends(self) -> list[End]:
        return [end for side in self.sides for end in side.ends if end.state == "new"]

    def come_up(self, end: End) -> None:
        """The link is proven at that end."""
        side, peer = end.side, end.other.side
        if b"" in end.inbox:
            self.read(end)
            return
        if not end.negotiation and not end.dialled and side.router.admit(peer.id, False, False, self.now) is not None:
            self._close(end)
            return
        end.state = "up"
        side.tries.pop(end.negotiation, None)
        address = url(peer.number) if end.dialled and not end.negotiation else ""
        self.act(
            side,
            side.router.link_up(
                end,
                peer.id,
                self.now,
                dialled=end.dialled,
                url=address,
                record=peer.router.record,
                negotiation=end.negotiation,
            ),
        )

    def read(self, end: End) -> None:
        """The next message of the other end, or its close, comes."""
        message = end.inbox.popleft() if end.state == "up" or b"" not in end.inbox else b""
        router = end.side.router
        if end.state == "up":
            if message:
                self.act(end.side, router.receive(end, [message], self.now))
            else:
                self._close(end)
                self.act(end.side, router.link_down(end, "closed", self.now, alive=True))
        elif end.state == "new" and not message:
            self._close(end)
            if end.negotiation in end.side.tries:
                self.fail(end.side, end.side.tries[end.negotiation])
            elif end.dialled and not end.negotiation:
                self.act(end.side, router.dial_failed(end.other.side.id, self.now))
        if end.state == "closed":
            end.inbox.clear()

    def readable(self) -> list[End]:
        return [end for side in self.sides for end in side.ends if end.inbox and end.state == "up"]

    def cut(self, end: End) -> None:
        """A link breaks; each end sees it for itself."""
        self._close(end.other)
        self._close(end)
        for each in (end, end.other):
            self.act(each.side, each.side.router.link_down(each, "broken", self.now))

    # The application

    def connect(self, side: Side, other: Side, prefer: Preference = "websocket") -> None:
        started, actions = side.router.connect(other.id, self.now, prefer)
        if started:
            side.waiting.setdefault(other.id, set()).add(prefer)
        self.act(side, actions)

    def cancel(self, side: Side, other: Side) -> None:
        side.waiting.pop(other.id, None)
        self.act(side, side.router.cancel_connect(other.id))

    def disconnect(self, side: Side, other: Side) -> None:
        self.act(side, side.router.disconnect(other.id, self.now))

    # Time

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        fired = 0
        while True:
            side = min(self.sides, key=lambda s: s.router.next_deadline())
            deadline = side.router.next_deadline()
            if deadline > end:
                break
            self.now = max(self.now, deadline)
            self.act(side, side.router.handle_timeout(self.now))
            fired += 1
            assert fired < 3000, "the timers do not come forward"
        self.now = end

    def settle(self, seconds: float, *, step: float = 0.25) -> None:
        """Everything that is under way arrives, and everything that can come about does, for so long."""
        end = self.now + seconds
        while self.now < end:
            self._settle_now()
            self.advance(step)
        self._settle_now()

    def _settle_now(self) -> None:
        for _ in range(1000):
            busy = False
            while self.wire:
                self.arrive(0)
                busy = True
            for side, attempt in self.undescribed():
                self.describe(side, attempt)
                busy = True
            for found in self.connectable():
                self.open(*found)
                busy = True
            for side in self.sides:
                while side.dials and not self.dials_hang:
                    self.dialled(side, success=True)
                    busy = True
            for link in self.new_ends():
                self.come_up(link)
                busy = True
            for link in self.readable():
                self.read(link)
                busy = True
            if not busy:
                return
        raise AssertionError("the sides do not come to rest")
