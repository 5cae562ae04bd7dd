"""What both sides of a connection know in the tests of relays."""

from __future__ import annotations

import hashlib
from typing import Final

from trio_relay.peerjs.fallback.sealing import RelayKey, RelaySecret, Role, agree
from trio_relay.peerjs.messages import RelayTerms
from trio_relay.wire.ids import NodeId

__all__ = ["KEYS", "MEETING", "secret_of", "terms_of"]

MEETING: Final = "0123456789abcdef" * 2
KEYS: Final[dict[Role, RelayKey]] = {
    "originator": RelayKey(hashlib.sha256(b"originator").digest()),
    "answerer": RelayKey(hashlib.sha256(b"answerer").digest()),
}


def secret_of(role: Role, round_: int = 0) -> RelaySecret:
    other: Role = "answerer" if role == "originator" else "originator"
    return agree(
        KEYS[role], KEYS[other].public, role, connection_id="dc_1", originator="alice", answerer="bob", round_=round_
    )


def terms_of(role: Role, *, broker: str | None = None, node: NodeId | None = None, round_: int = 0) -> RelayTerms:
    return RelayTerms(KEYS[role].public, broker, node, round_)
