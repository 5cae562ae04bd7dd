"""Relays that want no good, as one: what they see is recorded, and comes again in every way that bytes can."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from trio_relay.wire.frame import HEADER_LENGTH, Flag, Frame, Kind
from trio_relay.wire.record import join_records
from trio_relay.wire.session import (
    BOX_LENGTH,
    INDEX_LENGTH,
    SEALED_HEAD,
    Accept,
    Cipher,
    Cookie,
    Open,
    Unknown,
    build_accept,
    build_cookie,
    build_open,
    build_unknown,
)

from .world import LATENCY, Passing, World

__all__ = ["FATES", "FORGERIES", "Hostile"]

_TAPE: Final = 600

FATES: Final = ("pass", "drop", "delay", "double", "shuffle", "reflect", "truncate", "flip", "rename", "redirect")
"""What becomes of a frame on its way."""


class Hostile:
    """Sits on every path between the endpoints of a world.

    Attributes:
        weights: how often each of `FATES` happens to a frame.
        handshake_weights: the same for plain SESSION frames.
        dropping: a relay that drops everything, whatever the weights.
        tape: the frames that passed, the newest last.
    """

    def __init__(self, world: World) -> None:
        self.world: Final = world
        self.weights: dict[str, int] = {"pass": 1}
        self.handshake_weights = self.weights
        self.dropping: int | None = None
        self.tape: Final[deque[Frame]] = deque(maxlen=_TAPE)
        self._handshakes: Final[deque[Frame]] = deque(maxlen=_TAPE)
        self._sealed: Final[deque[Frame]] = deque(maxlen=_TAPE)
        world.relay = self.relay

    def relay(self, passing: Passing) -> Iterable[float]:
        """Decides over one frame."""
        frame, rng = passing.frame, self.world.rng
        self.tape.append(frame)
        weights = self.weights
        if passing.relay == self.dropping:
            return ()
        if frame.flags & Flag.SEALED:
            self._sealed.append(frame)
        if frame.kind == Kind.SESSION and not frame.flags:
            self._handshakes.append(frame)
            weights = self.handshake_weights
        fate = rng.choices(list(weights), list(weights.values()))[0]
        if fate == "pass":
            return (LATENCY,)
        if fate == "drop":
            return ()
        if fate == "delay":
            return (rng.choice((1.0, 5.0, 11.0, 70.0, 130.0)),)
        if fate == "double":
            return (LATENCY, LATENCY, rng.choice((0.5, 3.0, 20.0, 100.0)))
        if fate == "shuffle":
            return (LATENCY + rng.random(),)
        self._send(self.change(frame, fate))
        return () if rng.random() < 0.5 else (LATENCY,)

    def _send(self, data: bytes) -> None:
        self.world.after(LATENCY, lambda: self.world.inject(data))

    # What was seen, changed

    def change(self, frame: Frame, fate: str) -> bytes:
        """The bytes of a frame that is not what it was."""
        rng, others = self.world.rng, [peer.id for peer in self.world.peers]
        if fate == "reflect":
            return replace(frame, to=frame.source, source=rng.choice((frame.to, frame.source))).to_bytes()
        if fate == "truncate":
            return replace(frame, payload=frame.payload[: rng.randrange(len(frame.payload) + 1)]).to_bytes()
        if fate == "rename":
            return replace(frame, source=rng.choice(others)).to_bytes()
        if fate == "redirect":
            return replace(frame, to=rng.choice(others)).to_bytes()
        data = bytearray(frame.to_bytes())
        position = rng.choice((4, 5, 48, rng.randrange(HEADER_LENGTH, len(data) + 1) - 1, rng.randrange(len(data))))
        data[position] ^= 1 << rng.randrange(8)
        return bytes(data)

    def repeat(self, back: int, count: int, fate: str) -> None:
        """Recorded frames come again, the same or changed."""
        frames = list(self.tape)[: len(self.tape) - back % (len(self.tape) or 1)][-count:]
        for frame in frames:
            self.world.inject(frame.to_bytes() if fate in ("pass", "drop") else self.change(frame, fate))

    # What was never said

    def forge(self, what: str, back: int) -> None:
        """Makes up an answer to something that was seen, or a beginning."""
        seen = self._sealed if what in _TO_SEALED else self._handshakes if what in _TO_HANDSHAKES else self.tape
        if seen:
            frame = seen[-1 - back % len(seen)]
            self.world.inject(FORGERIES[what](self, frame).to_bytes())

    def _answer(self, frame: Frame, kind: Kind, payload: bytes, flags: int = 0) -> Frame:
        """To the sender of a frame, in the name of its receiver."""
        return Frame(
            kind=kind, to=frame.source, source=frame.to, message_id=frame.message_id, payload=payload, flags=flags
        )

    def _unknown(self, frame: Frame) -> Frame:
        return self._answer(frame, Kind.SESSION, build_unknown(Unknown(frame.payload[:INDEX_LENGTH].ljust(8, b"\0"))))

    def _cookie(self, frame: Frame) -> Frame:
        return self._answer(frame, Kind.SESSION, build_cookie(Cookie(self.world.rng.randbytes(16))))

    def _unreachable(self, frame: Frame) -> Frame:
        return self._answer(frame, Kind.UNREACHABLE, frame.to + bytes([frame.attempt]))

    def _acknowledgement(self, frame: Frame) -> Frame:
        return self._answer(frame, Kind.ACK, bytes([16, frame.attempt]))

    def _busy(self, frame: Frame) -> Frame:
        return self._answer(frame, Kind.BUSY, bytes([frame.attempt]))

    def _data(self, frame: Frame) -> Frame:
        flags = self.world.rng.choice((0, Flag.CONFIRM))
        return self._answer(frame, Kind.DATA, b"\0forged", flags)

    def _connect(self, frame: Frame) -> Frame:
        [number] = [peer.number for peer in self.world.peers if peer.id == frame.to] or [1]
        return self._answer(frame, Kind.CONNECT, join_records([self.world.relay_record(number)]))

    def _refused(self, frame: Frame) -> Frame:
        return self._answer(frame, Kind.REFUSED, b"\1")

    def _accept(self, frame: Frame) -> Frame:
        said = self.world.rng.randbytes
        answer = Accept(Cipher.CHACHA20_POLY1305, said(8), said(32), b"", said(BOX_LENGTH))
        return self._answer(frame, Kind.SESSION, build_accept(answer))

    def _open(self, frame: Frame) -> Frame:
        said = self.world.rng.randbytes
        payload = build_open(
            Open(self.world.rng.choice((2, 3)), said(32), b"", self.world.rng.choice((bytes(16), said(16))))
        )
        forged = self._answer(frame, Kind.SESSION, payload)
        return forged if self.world.rng.random() < 0.5 else replace(forged, message_id=said(8))

    def _rubbish(self, frame: Frame) -> Frame:
        rng = self.world.rng
        return self._answer(frame, Kind.SESSION, bytes([rng.randrange(6)]) + rng.randbytes(rng.randrange(200)))

    def _garbage(self, frame: Frame) -> Frame:
        """With an index that was seen, for its true receiver, but not the right keys."""
        rng = self.world.rng
        head = frame.payload[:INDEX_LENGTH].ljust(8, b"\0") + rng.choice((bytes(8), rng.randbytes(8)))
        assert len(head) == SEALED_HEAD.size
        flags = Flag.SEALED | rng.choice((0, Flag.OPENING, Flag.CONFIRM))
        return replace(frame, kind=rng.randrange(1, 12), flags=flags, payload=head + rng.randbytes(rng.randrange(200)))


FORGERIES: Final[dict[str, Callable[[Hostile, Frame], Frame]]] = {
    "UNKNOWN": Hostile._unknown,
    "COOKIE": Hostile._cookie,
    "UNREACHABLE": Hostile._unreachable,
    "ACK": Hostile._acknowledgement,
    "BUSY": Hostile._busy,
    "DATA": Hostile._data,
    "CONNECT": Hostile._connect,
    "REFUSED": Hostile._refused,
    "ACCEPT": Hostile._accept,
    "OPEN": Hostile._open,
    "rubbish": Hostile._rubbish,
    "sealed": Hostile._garbage,
}
_TO_SEALED: Final = {"UNKNOWN", "ACK", "BUSY", "DATA", "sealed"}
_TO_HANDSHAKES: Final = {"COOKIE", "ACCEPT", "OPEN"}
