"""How a confirmed message was sealed, so that its copies are the same bytes; pure."""

from __future__ import annotations

from dataclasses import dataclass

from .session import Session

__all__ = ["Copy"]


@dataclass(slots=True, eq=False)
class Copy:
    """How copies of a confirmed message were sealed.

    Attributes:
        refused: whether the receiver answered one of them "busy", so that it takes none of them.
    """

    session: Session
    counter: int
    flags: int
    refused: bool = False
