"""Whole routers with real keys, each linked with one relay; every frame passes through the test's hands."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from trio_relay import Identity, Limits
from trio_relay.identity import verify
from trio_relay.overlay.actions import Acknowledged, Action, Deliver, Failed, Transmit
from trio_relay.overlay.admission import Admission
from trio_relay.overlay.router import Router
from trio_relay.overlay.session.sessions import Sealing
from trio_relay.wire.content import encode_content
from trio_relay.wire.frame import FIRST_LINK_LOCAL, Flag, Frame, Kind, build_frame, parse_frames_untrusted
from trio_relay.wire.ids import NodeId
from trio_relay.wire.record import PeerRecord, build_record
from trio_relay.wire.session import NO_COOKIE

from ..support import WALL
from .primitives import AES, CHACHA

QUIET: Final = Limits(ping_after=1e6, dead_after=1e6, record_lifetime=1e6)
"""No pings, so that only what is tested leaves."""
ACCEPT, COOKIE, UNKNOWN = 2, 3, 4


def identity(number: int) -> Identity:
    return Identity.from_seed(number.to_bytes(32, "big"))


class Side:
    """One node.

    Attributes:
        delivered: what its application got: sender, data, whether it is proven.
        actions: everything that its router wanted.
        ended: ids of confirmed messages that were acknowledged or failed, and which.
        entropy: everything that its sessions took of its randomness.
        signatures: how often it signed a proof.
    """

    def __init__(
        self,
        number: int,
        *,
        limits: Limits = QUIET,
        ciphers: int = AES | CHACHA,
        kem: bool = False,
        admits: Callable[[NodeId], bool] = lambda _: True,
        now: float = 0.0,
        incarnation: int = 0,
        relay: int = 900,
        webrtc: int = 0,
    ) -> None:
        self.identity: Final = identity(number)
        self.id: Final = self.identity.id
        self.now = now
        self.delivered: Final[list[tuple[NodeId, object, bool]]] = []
        self.actions: Final[list[Action]] = []
        self.ended: Final[dict[bytes, str]] = {}
        self.entropy: Final[list[bytes]] = []
        self.signatures = 0
        self._random: Final = random.Random(f"{number} {incarnation}")
        self.router: Final = Router(
            self.id,
            self.identity.public_key,
            sign=self._sign,
            verify=verify,
            rng=random.Random(number),
            token=lambda: self._random.randbytes(8),
            now=now,
            wall_offset=WALL,
            limits=limits,
            admission=Admission(admits, admits),
            sealing=Sealing(self._take_entropy, ciphers, kem),
            webrtc=webrtc,
        )
        self.relays: Final[dict[int, NodeId]] = {}
        self.link(relay)

    def _take_entropy(self, length: int) -> bytes:
        self.entropy.append(self._random.randbytes(length))
        return self.entropy[-1]

    def _sign(self, data: bytes) -> bytes:
        self.signatures += data.startswith(b"trio-relay session")
        return self.identity.sign(data)

    def link(self, relay: int) -> list[Frame]:
        """A link with a relay, which trusts us."""
        record = relay_record(relay)
        self.relays[relay] = record.id
        left = self._carry_out(
            self.router.link_up(relay, record.id, self.now, dialled=True, url=record.urls[0], record=record)
        )
        status = build_frame(Kind.STATUS, self.id, record.id, bytes(8), b"\1" + record.raw, hop_limit=0, detours=0)
        left += self.receive(status, relay=relay)
        assert record.id in {neighbour.id for neighbour in self.router.table.relays}
        return left

    # Inputs; each returns the frames that leave for other ids than relays

    def receive(self, *frames: Frame | bytes, relay: int | None = None) -> list[Frame]:
        """Frames arrive over the link with a relay, the first if none is named."""
        link = next(iter(self.relays)) if relay is None else relay
        left: list[Frame] = []
        for frame in frames:
            data = frame if isinstance(frame, bytes) else frame.to_bytes()
            left += self._carry_out(self.router.receive(link, [data], self.now))
        return left

    def send(self, to: NodeId, data: bytes = b"hello") -> list[Frame]:
        """A datagram."""
        return self._carry_out(self.router.send(to, encode_content(data), self.now))

    def act(self, actions: Iterable[Action]) -> list[Frame]:
        """What its router wants after another input."""
        return self._carry_out(actions)

    def deliver(self, to: NodeId, data: bytes = b"hello", timeout: float = 30.0) -> tuple[bytes, list[Frame]]:
        """A confirmed message."""
        message_id, actions = self.router.deliver(to, encode_content(data), timeout, self.now)
        return message_id, self._carry_out(actions)

    def advance(self, seconds: float) -> list[Frame]:
        """Time passes."""
        end, left = self.now + seconds, list[Frame]()
        while (deadline := self.router.next_deadline()) <= end:
            self.now = max(self.now, deadline)
            left += self._carry_out(self.router.handle_timeout(self.now))
        self.now = end
        return left

    def _carry_out(self, actions: Iterable[Action]) -> list[Frame]:
        left: list[Frame] = []
        for action in actions:
            self.actions.append(action)
            if isinstance(action, Transmit):
                left += parse_frames_untrusted(b"".join(action.pieces))
            elif isinstance(action, Deliver):
                self.delivered.append((action.sender, action.data, action.proven))
                self.router.taken(action.size)
            elif isinstance(action, Acknowledged | Failed):
                self.ended[action.message_id] = type(action).__name__
        relays = set(self.relays.values())
        return [frame for frame in left if frame.to not in relays and frame.kind < FIRST_LINK_LOCAL]

    # What tests read

    def count(self, reason: str) -> int:
        return self.router.counts().get(reason, 0)

    def size(self, table: str) -> int:
        return self.router.sizes()[table]


def relay_record(number: int) -> PeerRecord:
    """A record of a relay; relays are numbered from 900."""
    own = identity(number)
    return build_record(
        own.public_key,
        own.sign,
        sequence=1,
        expiry=int(WALL + 1e6),
        urls=[f"ws://relay{number}.example:80"],
        roles=1,
    )


def exchange(one: Side, other: Side, frames: Iterable[Frame]) -> list[Frame]:
    """An honest relay between two, until nothing more is said; returns everything that passed."""
    sides = {one.id: one, other.id: other}
    waiting, passed = list(frames), list[Frame]()
    while waiting:
        frame = waiting.pop(0)
        passed.append(frame)
        assert len(passed) < 1000, "they talk without end"
        if frame.to in sides:
            waiting += sides[frame.to].receive(replace(frame, hop_limit=frame.hop_limit - 1))
    return passed


def open_session(one: Side, other: Side) -> list[Frame]:
    """One opens a session with the other, by a datagram; returns what passed."""
    before = len(other.delivered)
    passed = exchange(one, other, one.send(other.id, b"first"))
    assert other.delivered[before:] == [(one.id, b"first", True)]
    assert one.router.has_session(other.id)
    assert other.router.has_session(one.id)
    return passed


def is_plain(frame: Frame, type_: int) -> bool:
    """Whether it is a plain SESSION frame of that type."""
    return frame.kind == Kind.SESSION and not frame.flags & Flag.SEALED and frame.payload[0] == type_


def is_open(frame: Frame) -> bool:
    return is_plain(frame, 1)


def cookie_of(frame: Frame) -> bytes:
    assert is_open(frame)
    return frame.payload[34 : 34 + len(NO_COOKIE)]
