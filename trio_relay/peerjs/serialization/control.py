"""Values that mean something to the connection itself: the key `__peerData` in the outermost object. Pure."""

from __future__ import annotations

from typing import Any, Final

from ...exceptions import LocalProtocolError
from .javascript import truthy

__all__ = ["CLOSE_VALUE", "KEY", "asks_to_close", "require_not_control"]

KEY: Final = "__peerData"
"""Where it is truthy, the originals keep the value to themselves or may do so."""

CLOSE_VALUE: Final[dict[str, Any]] = {KEY: {"type": "close"}}
"""What asks the other side to close."""


def require_not_control(value: Any) -> None:
    """Refuses what the other side would not hand to its application.

    Raises:
        LocalProtocolError: the value is an object with that key.
    """
    if isinstance(value, dict) and truthy(value.get(KEY)):
        raise LocalProtocolError(f"expected an object without {KEY!r}, which is reserved for the connection itself")


def asks_to_close(value: Any) -> bool:
    """Whether a decoded value is the request to close."""
    inner = value.get(KEY) if type(value) is dict else None
    return type(inner) is dict and inner.get("type") == "close"
