"""Message ids."""

from __future__ import annotations

import os

__all__ = ["Tokens"]


class Tokens:
    """8-byte message ids from the system's randomness, drawn in bulk: one call each would cost more than routing."""

    def __init__(self) -> None:
        self._pool = b""
        self._position = 0

    def take(self) -> bytes:
        """8 bytes."""
        if self._position == len(self._pool):
            self._pool, self._position = os.urandom(4096), 0
        self._position += 8
        return self._pool[self._position - 8 : self._position]
