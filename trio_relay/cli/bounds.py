"""``--limit NAME=VALUE``: the node's `Limits` from the command line, and the descriptors that they need."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import sys
from collections.abc import Iterable
from dataclasses import asdict
from typing import Final

from ..limits import Limits

__all__ = ["make_limits", "parse_limit", "raise_descriptor_limit"]

_DEFAULTS: Final[dict[str, int | float]] = asdict(Limits())
_SPARE_DESCRIPTORS: Final = 128
"""Listeners, files, dials, and those that the interpreter and its threads have open."""


def parse_limit(text: str) -> tuple[str, int | float]:
    """One argument, checked against the field that it names; the value is of the type of the default.

    Raises:
        argparse.ArgumentTypeError: it is not NAME=VALUE, there is no such limit, or the value is not a positive number.
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, not {text!r}")
    default = _DEFAULTS.get(name)
    if default is None:
        near = difflib.get_close_matches(name, _DEFAULTS, 1)
        raise argparse.ArgumentTypeError(f"there is no limit {name!r}{f'; is it {near[0]!r}?' if near else ''}")
    wanted = "a whole number" if isinstance(default, int) else "a number"
    try:
        number = type(default)(value)
    except ValueError:
        number = 0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected {wanted} above 0 for {name}, not {value!r}")
    return name, number


def make_limits(changes: Iterable[tuple[str, int | float]]) -> Limits:
    """The defaults with these changes; the last one of a name counts."""
    return Limits(**dict(changes))  # type: ignore[arg-type]


def raise_descriptor_limit(limits: Limits) -> None:
    """Lets the process open as many sockets as the limits admit, as far as the system allows; many allow 1,024 only."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limits.connections + _SPARE_DESCRIPTORS
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        # Some systems have a bound that they do not tell.
        with contextlib.suppress(OSError, ValueError, OverflowError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
