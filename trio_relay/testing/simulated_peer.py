"""One simulated peer, the ends of its links, and its fake key."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field

from ..overlay.actions import Found, Linked, Unlinked
from ..overlay.router import Router
from ..wire.content import Data
from ..wire.frame import Kind
from ..wire.ids import NodeId
from ..wire.record import id_of_key

__all__ = ["End", "SimulatedPeer", "new_key", "pair"]


@dataclass(slots=True, eq=False)
class End:
    """One end of a simulated link; what a router knows it by."""

    peer: SimulatedPeer
    other: End = field(init=False)
    up: bool = False


@dataclass(slots=True, eq=False)
class SimulatedPeer:
    """One router and what its application saw.

    Attributes:
        url: where it listens, empty when nobody can dial it.
        ground: whether its key was chosen for an id close to a victim's.
        drops: the kinds of frames that it does not forward for others.
        received: messages in the order of their arrival: (sender, data).
        acknowledged: message id -> hops of confirmed messages.
        failed: message id -> error of those given up.
        found: results of lookups.
        events: neighbours that came and went.
    """

    name: str
    url: str
    id: NodeId
    router: Router
    alive: bool = True
    ground: bool = False
    drops: frozenset[Kind] = frozenset()
    received: list[tuple[NodeId, Data]] = field(default_factory=list)
    acknowledged: dict[bytes, int] = field(default_factory=dict)
    failed: dict[bytes, Exception] = field(default_factory=dict)
    found: list[Found] = field(default_factory=list)
    events: list[Linked | Unlinked] = field(default_factory=list)
    ends: dict[End, None] = field(default_factory=dict)
    timer: float = float("inf")


def pair(dialler: SimulatedPeer, acceptor: SimulatedPeer) -> tuple[End, End]:
    """Both ends of a new link."""
    near, far = End(dialler), End(acceptor)
    near.other, far.other = far, near
    return near, far


def new_key(rng: random.Random, near: NodeId | None = None, bits: int = 0) -> bytes:
    """A fake key; its id is a real one, so an id that shares its first `bits` with `near` takes 2**bits attempts."""
    while True:
        key = hashlib.sha256(rng.randbytes(8)).digest()
        if near is None or not (int.from_bytes(id_of_key(key), "big") ^ int.from_bytes(near, "big")) >> (160 - bits):
            return key
