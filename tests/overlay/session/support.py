"""Sessions without an agreement, and what the tables of sessions are tested with."""

from __future__ import annotations

import hashlib
from itertools import count
from typing import Final

from trio_relay.overlay.session.agreement import HalfOpen, Self
from trio_relay.overlay.session.secrets import Keys
from trio_relay.overlay.session.session import Session
from trio_relay.wire.ids import NodeId
from trio_relay.wire.session import Cipher, Open

from ..support import node_id

__all__ = ["OWN", "make_half_open", "make_keys", "make_session", "node_id", "numbered"]

OWN: Final = node_id(0)
_indexes: Final = count(1_000_000)


def numbered(number: int, length: int = 8) -> bytes:
    """Unlike bytes for unlike numbers."""
    return number.to_bytes(length, "big")


def make_keys(number: int = 0) -> Keys:
    """Keys that follow from the number."""
    return Keys(Cipher.CHACHA20_POLY1305, hashlib.sha256(b"keys %d" % number).digest())


def make_session(
    peer: NodeId, *, own: NodeId = OWN, opener: bool = False, confirmed: bool = True, now: float = 0.0, number: int = 0
) -> Session:
    """A session with fresh indexes; only one that we opened may be unconfirmed."""
    index, remote_index = (numbered(next(_indexes)) for _ in range(2))
    proof = bytes(112) if opener else b""
    session = Session(own, peer, index, remote_index, make_keys(number), bytes(32), proof, now)
    if confirmed:
        session.proof = b""
    assert session.confirmed is confirmed
    return session


def make_half_open(opener: NodeId, opener_index: bytes, now: float = 0.0, *, ephemeral: bytes = bytes(32)) -> HalfOpen:
    """A half-open session with a fresh index."""
    nobody = Self(OWN, bytes(32), lambda _: bytes(64), lambda *_: False, Cipher.CHACHA20_POLY1305, False)
    message = Open(Cipher.CHACHA20_POLY1305, ephemeral)
    index = numbered(next(_indexes))
    return HalfOpen(opener, opener_index, message, index, b"ACCEPT " + index, now, nobody, make_keys(), bytes(32))
