"""How a connection to the broker ends, and which endings are for good. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ...exceptions import PeerError
from ...wire.json import JSONValue
from ..messages import ServerMessage

__all__ = ["Ending", "ending_of", "printable"]

_MAX_SHOWN: Final = 200
_FOR_GOOD: Final = ("Invalid key provided", "No id, token, or key supplied to websocket server")
"""Texts of ERROR that will be the same next time."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt to be registered, or a registration, ended.

    Attributes:
        final: trying again would not help, even after it worked once.
        open_for: seconds that the peer was registered; None: it was not.
    """

    error: PeerError
    final: bool = False
    open_for: float | None = None


def ending_of(message: ServerMessage) -> Ending | None:
    """The ending that a message of the broker brings, None if it brings none."""
    if message.type == "ID-TAKEN":
        return Ending(PeerError("unavailable-id", "the id is taken: another peer has it at this broker"), final=True)
    if message.type == "INVALID-KEY":
        return Ending(PeerError("invalid-key", "the broker has another key"), final=True)
    if message.type == "ERROR":
        text = _text_of(message.payload)
        return Ending(PeerError("server-error", text or "the broker reports an error"), final=text in _FOR_GOOD)
    return None


def printable(text: str) -> str:
    """A stranger's words on one line, not too long."""
    return "".join(character if character.isprintable() else "?" for character in text[:_MAX_SHOWN])


def _text_of(payload: JSONValue) -> str:
    text = payload.get("msg") if isinstance(payload, dict) else None
    return printable(text) if isinstance(text, str) else ""
