"""What a room shows of itself. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Me", "RoomStatistics"]


@dataclass(frozen=True, slots=True)
class Me:
    """We, as the other members see us.

    Attributes:
        id: our public key, in base 62; another one after each `Room.join`.
        metadata: what we said about ourselves; None if nothing.
    """

    id: str
    metadata: Any


@dataclass(frozen=True, slots=True)
class RoomStatistics:
    """A snapshot of a room.

    Attributes:
        members: those that are connected, those included that do not answer at the moment.
        connecting: those whose connection is being made.
        counts: drops, refusals and failures by name, those of the driver included; one that never happened is not
            there.
    """

    members: int
    connecting: int
    counts: Mapping[str, int]
