"""Which counters of a session came already; pure."""

from __future__ import annotations

from typing import Final

__all__ = ["WINDOW", "ReplayWindow"]

_BITS: Final = 1024
_WORDS: Final = 9
WINDOW: Final = _BITS * (_WORDS - 1)
"""Counters that far below the highest are taken for repeated: frames of one link overtake each other by a backlog."""


class ReplayWindow:
    """A sliding window in words that are reused in turn, as in RFC 6479."""

    __slots__ = ("_words", "highest")

    def __init__(self) -> None:
        self.highest = -1
        self._words: Final = [0] * _WORDS

    def is_new(self, counter: int) -> bool:
        """Whether the counter may still come."""
        if counter > self.highest:
            return True
        if counter <= self.highest - WINDOW:
            return False
        return not self._words[counter // _BITS % _WORDS] >> counter % _BITS & 1

    def add(self, counter: int) -> None:
        """Remembers a counter that `is_new`."""
        words, word = self._words, counter // _BITS
        if counter > self.highest:
            before = self.highest // _BITS
            for passed in range(max(before, word - _WORDS) + 1, word + 1):
                words[passed % _WORDS] = 0
            self.highest = counter
        words[word % _WORDS] |= 1 << counter % _BITS
