"""Signals, by which two nodes negotiate a WebRTC link (docs/protocol/overlay.md section 11); pure.

```
OFFER    0 type=1   1 flags   2 sequence number 8   10 session description, UTF-8
ANSWER   0 type=2   1 flags   2 sequence number 8   10 session description, UTF-8
OVER     0 type=3   1 flags   2 reason 1
```

They are the payloads of SIGNAL frames, whose message id names the negotiation.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, TypeAlias

from ..exceptions import RemoteProtocolError
from .description import MAX_DESCRIPTION, check_description_untrusted

__all__ = ["MAX_SIGNAL", "Answer", "Offer", "Over", "Signal", "is_offer", "parse_signal_untrusted"]

_OFFER: Final = 1
_ANSWER: Final = 2
_OVER: Final = 3
_PREFERRED: Final = 0x01
_HEAD: Final = struct.Struct("!BBQ")
_OVER_LENGTH: Final = 3
MAX_SIGNAL: Final = _HEAD.size + MAX_DESCRIPTION


@dataclass(frozen=True, slots=True)
class Offer:
    """Its sender wants a WebRTC link.

    Attributes:
        sequence: larger than in every offer and answer that its sender made before; the same in repeats.
        preferred: whether the link is to be used before a WebSocket.
    """

    sequence: int
    description: str
    preferred: bool = False

    def to_bytes(self) -> bytes:
        return _HEAD.pack(_OFFER, _PREFERRED * self.preferred, self.sequence) + self.description.encode()


@dataclass(frozen=True, slots=True)
class Answer:
    """The receiver of an offer takes part; `sequence` as in `Offer`."""

    sequence: int
    description: str

    def to_bytes(self) -> bytes:
        return _HEAD.pack(_ANSWER, 0, self.sequence) + self.description.encode()


@dataclass(frozen=True, slots=True)
class Over:
    """For its sender that negotiation is over, or never began; the reason is a `wire.hello.Reason` or a later one."""

    reason: int

    def to_bytes(self) -> bytes:
        return bytes([_OVER, 0, self.reason])


Signal: TypeAlias = Offer | Answer | Over


def is_offer(payload: bytes) -> bool:
    """Whether a payload, good or not, is meant to be an offer."""
    return payload[:1] == bytes([_OFFER])


def parse_signal_untrusted(payload: bytes) -> Signal:
    """Reads a payload, and checks the description in it.

    Raises:
        RemoteProtocolError: another type, length or flags than there are, or a description that is not taken.
    """
    kind = payload[0] if payload else 0
    if kind == _OVER:
        if len(payload) != _OVER_LENGTH or payload[1]:
            raise RemoteProtocolError(f"expected {_OVER_LENGTH} bytes without flags, got {payload[:16].hex()}")
        return Over(payload[2])
    if kind not in (_OFFER, _ANSWER):
        raise RemoteProtocolError(f"expected the type of a signal, got {kind}")
    if not _HEAD.size < len(payload) <= MAX_SIGNAL:
        raise RemoteProtocolError(f"expected a signal of {_HEAD.size + 1} to {MAX_SIGNAL} bytes, got {len(payload)}")
    _, flags, sequence = _HEAD.unpack_from(payload)
    if flags & ~(_PREFERRED if kind == _OFFER else 0):
        raise RemoteProtocolError(f"expected no unknown flags, got {flags:#04x}")
    try:
        description = payload[_HEAD.size :].decode("utf-8")
    except UnicodeDecodeError as error:
        raise RemoteProtocolError(f"expected a session description in UTF-8: {error.reason}") from error
    check_description_untrusted(description)
    return Offer(sequence, description, bool(flags)) if kind == _OFFER else Answer(sequence, description)
