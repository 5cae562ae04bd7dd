"""Arguments as `argparse` wants them checked: what is wrong is an `ArgumentTypeError`."""

from __future__ import annotations

import argparse
from collections.abc import Callable

__all__ = ["checked", "count", "seconds"]


def checked(parse: Callable[[str], object]) -> Callable[[str], str]:
    """An argument that stays a text, and that `parse` raises ValueError for if it is wrong."""

    def check(text: str) -> str:
        try:
            parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error
        return text

    return check


def seconds(text: str) -> float:
    """A positive time."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a positive number of seconds, not {text!r}")
    return value


def count(text: str) -> int:
    """A whole number above 0."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, not {text!r}")
    return int(text)
