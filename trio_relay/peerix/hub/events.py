"""The names of the Socket.IO events of Peerix, under each prefix that a hub takes. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, TypeAlias, get_args

__all__ = ["Action", "EventNames", "event_names"]

Action: TypeAlias = Literal["subscribe", "unsubscribe", "publish"]
"""What a client may ask for."""
EventNames: TypeAlias = dict[str, tuple[Action, str]]
"""What each name asks for, and its prefix, under which the client wants to hear."""

_ACTIONS: Final[tuple[Action, ...]] = get_args(Action)


def event_names(prefixes: Iterable[str]) -> EventNames:
    """The names that a hub knows."""
    return {f"{prefix}{action}": (action, prefix) for prefix in prefixes for action in _ACTIONS}
