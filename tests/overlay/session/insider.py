"""A peer made of the reference: it has an identity and a real session, and seals whatever it likes in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from trio_relay.wire.frame import Flag, Frame, Kind
from trio_relay.wire.ids import NodeId

from . import reference
from .primitives import AES, CHACHA
from .reference import ACCEPT, HEADER, Accepter, Opener, Session
from .sides import Side, identity, is_open, is_plain

BOTH: Final = AES | CHACHA
_INDEX: Final = b"insider."


@dataclass
class Insider:
    """One side of a session with a node.

    Attributes:
        role: "opener" or "accepter".
        box: its proof, if it opened.
    """

    number: int
    victim: Side
    role: str
    session: Session
    box: bytes
    index: bytes

    @property
    def id(self) -> NodeId:
        return identity(self.number).id

    @classmethod
    def half_open(cls, number: int, victim: Side, *, index: bytes = _INDEX, ephemeral: bytes = b"\7" * 32) -> Insider:
        """It opened, and the node answered; the proof was not sent yet."""
        opener = Opener(number.to_bytes(32, "big"), victim.id, index, ephemeral, BOTH)
        own = identity(number).id
        answers = victim.receive(plain(own, victim.id, index, opener.open().build()))
        [answer] = [frame for frame in answers if is_plain(frame, ACCEPT)]
        session = opener.read(answer.payload)
        return cls(number, victim, "opener", session, session.opener_box(opener.seed), index)

    @classmethod
    def opened(cls, number: int, victim: Side, *, index: bytes = _INDEX, ephemeral: bytes = b"\7" * 32) -> Insider:
        """It opened a session with the node, with an empty frame."""
        insider = cls.half_open(number, victim, index=index, ephemeral=ephemeral)
        victim.receive(insider.frame(0, b"", kind=Kind.SESSION, box=insider.box))
        assert victim.router.has_session(insider.id)
        return insider

    @classmethod
    def accepted(cls, number: int, victim: Side, data: bytes = b"first") -> tuple[Insider, list[Frame]]:
        """The node opened a session with it; and what the node sealed then, which it did not answer yet."""
        own = identity(number).id
        [opened] = [frame for frame in victim.send(own, data) if is_open(frame)]
        accepter = Accepter(number.to_bytes(32, "big"), _INDEX, b"\7" * 32, BOTH)
        accept, session = accepter.accept(victim.id, opened.message_id, opened.payload)
        sealed = victim.receive(plain(own, victim.id, opened.message_id, accept))
        return cls(number, victim, "accepter", session, b"", _INDEX), sealed

    def frame(
        self,
        counter: int,
        payload: bytes,
        *,
        kind: int = Kind.DATA,
        flags: int = 0,
        message_id: bytes = b"",
        source: bytes = b"",
        to: bytes = b"",
        box: bytes = b"",
    ) -> bytes:
        """A whole frame, sealed; by default in its own name, with a message id that follows from the counter."""
        flags |= Flag.SEALED | (Flag.OPENING if box else 0)
        header = bytes([16, 0, 2, 1, kind, flags, 0, 0]) + (to or self.victim.id) + (source or self.id)
        header += message_id or counter.to_bytes(8, "big")
        assert len(header) == HEADER
        return self.session.seal(self.role, header, counter, payload, box)

    def open(self, frame: Frame) -> bytes:
        """What the node sealed for it."""
        other = "accepter" if self.role == "opener" else "opener"
        return self.session.open(other, frame.to_bytes())[2]


def plain(source: bytes, to: bytes, message_id: bytes, payload: bytes) -> Frame:
    """A plain SESSION frame."""
    return Frame(kind=Kind.SESSION, to=NodeId(to), source=NodeId(source), message_id=message_id, payload=payload)


def unknown(insider: Insider, index: bytes) -> Frame:
    """UNKNOWN in its name."""
    return plain(insider.id, insider.victim.id, b"message1", reference.build_unknown(index))
