"""What a page shows as output, compared with what was printed: ids, times and ports differ, and ``...`` stands for any
lines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from .documents import Block

_VARIES: Final = (
    (re.compile(r"\b[0-9a-f]{40}\b"), "ID"),
    (re.compile(r"\b\d+\.\d+ (ms|s)\b|\b\d+\.\d+s\b"), "TIME"),
    (re.compile(r"\b127\.0\.0\.1:\d+"), "ADDRESS"),
)


def _alike(text: str) -> list[str]:
    for pattern, name in _VARIES:
        text = pattern.sub(name, text)
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def matches(shown: Sequence[str], printed: Sequence[str]) -> bool:
    """Whether lines are those that are shown, in their order; what ``...`` leaves out may be nothing."""
    if not shown:
        return not printed
    if shown[0] == "...":
        return any(matches(shown[1:], printed[start:]) for start in range(len(printed) + 1))
    return bool(printed) and shown[0] == printed[0] and matches(shown[1:], printed[1:])


def check_output(block: Block, printed: str) -> None:
    """Fails if a block does not show what was printed."""
    assert matches(_alike(block.code), _alike(printed)), f"{block} does not show what was printed:\n{printed}"
