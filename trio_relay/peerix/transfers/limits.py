"""The bounds of messages in pieces: value, unit, and the reason for it."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Final

__all__ = ["TransferLimits"]

KIB: Final = 1024
MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferLimits:
    """What a room holds of messages that it sends and receives. Sizes are bytes, times are seconds.

    Raises:
        ValueError: a value is not positive.
    """

    queue: int = 64
    """Messages that wait, on one channel of one member, for the one that is being sent."""
    unacknowledged: int = 32
    """Messages that were sent on one channel and may wait for their acknowledgements at once; with 1, the next one is
    sent after the acknowledgement of the one before it, as originals do."""
    window: int = 4 * MIB
    """Held of a source that can be read only once: how far the members that it goes to may be apart."""
    ack_timeout: float = 10.0
    """For a member to take something, and to acknowledge after the last piece; originals wait as long. In all, it is
    also how long one member may keep others waiting for a source that can be read only once."""

    incoming: int = 16
    """Messages under way at once on one channel: originals send one after the other."""
    message_bytes: int = 1 * MIB
    """Of one message that is under way, received and not read: as much as a network of 80 Mbit/s and 100 ms holds."""
    member_messages: int = 256
    """Of one member, received and not read: a burst of chat."""
    member_bytes: int = 8 * MIB
    """Of one member, received and not read, in all."""
    total_messages: int = 4096
    """Of all members, received and not read: sixteen members that use their budget."""
    total_bytes: int = 64 * MIB
    """Likewise in bytes."""
    stall_timeout: float = 8.0
    """How long a channel is not read from when there is no room for what comes: less than the ten seconds after which
    a sender gives up, so that the one that waits gets through when another message is dropped for it."""
    idle_timeout: float = 30.0
    """After so long without a piece a message that is under way is given up: its sender is asked to stop."""
    read_bytes: int = 64 * MIB
    """Of one message, for `Message.read`; a larger one has to be read in chunks, or with a bound of its own."""
    answers: int = 1024
    """Acknowledgements and aborts that wait to be sent on one channel; more are lost, counted: their receiver
    takes nothing."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0 < getattr(self, field.name) < math.inf:
                raise ValueError(f"expected a positive {field.name}, not {getattr(self, field.name)!r}")
