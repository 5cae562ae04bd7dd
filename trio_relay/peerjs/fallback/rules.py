"""The bounds of a session. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .frames import MAX_FRAGMENT

__all__ = ["OVERHEAD", "SessionRules"]

KIB: Final = 1024

OVERHEAD: Final = 64
"""What a fragment costs beside its bytes: it bounds how many short messages may wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRules:
    """The bounds of one session; sizes are bytes.

    Attributes:
        max_message: in one message, either way; both sides have the same.
        window: what the other side may have sent that nobody has taken here.
        send_buffer: while so much is not acknowledged, no further message is taken from the application.
        fragment: in one fragment.

    Raises:
        ValueError: a message would not fit into what is granted at least.
    """

    max_message: int = 1024 * KIB
    window: int = 1536 * KIB
    send_buffer: int = 1024 * KIB
    fragment: int = MAX_FRAGMENT

    def __post_init__(self) -> None:
        pieces = -(-self.max_message // self.min_fragment) + 1
        if not 0 < self.fragment <= MAX_FRAGMENT or self.step < 1:
            raise ValueError(f"expected fragments of 1 to {MAX_FRAGMENT} bytes and a window, not {self!r}")
        if self.max_message + pieces * OVERHEAD > self.window - self.step or self.send_buffer <= 2 * self.step:
            raise ValueError(f"expected a window, and a send buffer, in which messages fit, not {self!r}")

    @property
    def step(self) -> int:
        """When so much is due, it is acknowledged or granted."""
        return self.window // 8

    @property
    def min_fragment(self) -> int:
        """Bytes of a fragment that is not the last of its message; fewer would cost more than is granted."""
        return max(self.fragment // 16, 1)
