"""How connections of a client end, and which of them are refusals for good. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ...exceptions import RelayError
from .core import ErrorFrame, printable

__all__ = ["ADDRESS_UNKNOWN", "Ending", "RelayRefused", "RelayReplaced", "refusal"]

ADDRESS_UNKNOWN: Final = "ADDRESS_UNKNOWN"
"""Our own code: connection after connection, the server says that nobody is online under our address."""

_TRIES_UNKNOWN: Final = 3
"""An original server forgets a connection once when an older one with its address ends, so once proves nothing."""

_NEVER_FATAL: Final = frozenset(
    {"RATE_LIMITED", "ID_IN_USE", "INVALID_MESSAGE", "SHUTTING_DOWN", "TOO_SLOW", "UNDELIVERED"}
)
_FATAL: Final = frozenset({"INVALID_KEY", "INVALID_URL", "VERIFY_FAILED"})
_FATAL_STATUS: Final = frozenset({401, 403})
_TEMPORARY: Final = frozenset({1001, 1011, 1012, 1013, 1014})
"""Close codes of a server that has trouble or goes away (RFC 6455 section 7.4.1 and its registry)."""
_BROKEN: Final = frozenset({None, 1005, 1006})
"""No close code came from the server."""


class RelayRefused(RelayError):
    """A relay server refused this client for good: trying again would not help.

    As a string it is one line: what is not printable in the server's words is escaped. The attributes are as they came.

    Attributes:
        code: the server's, like ``"INVALID_KEY"``; ``"HTTP_403"`` when it refused the upgrade; ``"ADDRESS_UNKNOWN"``
            when it knows this client under another address than the client itself.
        reason: what it says to people.
    """

    _what = "the relay server refused this client"

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(printable(f"{self._what}: {code} {reason}".rstrip()))
        self.code: Final = code
        self.reason: Final = reason


class RelayReplaced(RelayRefused):
    """Another connection took over this client's address. Coming back would take it away from that one again."""

    _what = "another connection took over this client's address"


@dataclass(frozen=True, slots=True)
class Ending:
    """How one attempt to be connected ended.

    Attributes:
        reason: in words.
        code: the server's close code; 1005 without one, 1006 without a close frame, None without a connection.
        error: the server's last word, if that was an error frame.
        status: the HTTP status that refused the upgrade.
        accepted_for: seconds since the server took us in, None if it never did.
        unknown: how often in a row, this one included, the server said that nobody is online under our address.
    """

    reason: str
    code: int | None = None
    error: ErrorFrame | None = None
    status: int | None = None
    accepted_for: float | None = None
    unknown: int = 0


def refusal(ending: Ending) -> RelayRefused | None:
    """The error that this ending is for good, None if another attempt can help."""
    if ending.status in _FATAL_STATUS:
        return RelayRefused(f"HTTP_{ending.status}", ending.reason)
    if ending.unknown >= _TRIES_UNKNOWN:
        return RelayRefused(ADDRESS_UNKNOWN, ending.reason)
    error = ending.error
    if error is None or error.code in _NEVER_FATAL:
        return None
    if error.code == "REPLACED":
        return RelayReplaced(error.code, error.message)
    # Nothing that we send will ever pass: the server knows us under another address.
    if error.code == "INVALID_FROM" or (error.code in _FATAL and ending.code not in _TEMPORARY):
        return RelayRefused(error.code, error.message)
    # A verification of the server's own may answer with any code, but not after it has let us in.
    if ending.accepted_for is None and ending.code not in _TEMPORARY | _BROKEN:
        return RelayRefused(error.code, error.message)
    return None
