"""What clients and the relay say to each other, as JSON text. Pure.

The relay reads four members of a message and passes its bytes on untouched; what `JSON.parse` would refuse is refused.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ..exceptions import RemoteProtocolError
from ..wire.json import MAX_DEPTH, JSONValue, decode_untrusted, describe, encode, require_shallow

__all__ = ["SPOOFED_TYPES", "Head", "encode_error", "encode_status", "read_head_untrusted"]

SPOOFED_TYPES: Final = frozenset({"error", "peer-status"})
"""Types of the relay's own frames: original clients look at the type before they look for a sender."""


class Head(msgspec.Struct, frozen=True, gc=False):
    """The members that the relay reads; None where one is absent or no string. An array has none of them."""

    sender: str | None = msgspec.field(name="from", default=None)
    to: str | None = None
    type: str | None = None
    address: str | None = None


_fast: Final = msgspec.json.Decoder(Head).decode


def read_head_untrusted(text: str) -> Head:
    """The head of one message.

    Raises:
        RemoteProtocolError: it is not JSON, a scalar, or nested more than 64 deep.
    """
    # Nearly all are one object around a string or a small one: a search is cheaper than the call.
    if len(text) > 2 * MAX_DEPTH and ("[" in text or text.find("{", 1) >= 0):
        require_shallow(text)
    try:
        return _fast(text)
    except (msgspec.DecodeError, ValueError, RecursionError):
        # Not an object, a member that is no string, or JSON that msgspec does not know: see wire/json.py.
        return _read_slowly(decode_untrusted(text))


def _read_slowly(value: JSONValue) -> Head:
    if isinstance(value, list):
        return Head()
    if not isinstance(value, dict):
        raise RemoteProtocolError(f"expected a json object, not {describe(value)}")
    members = (value.get(name) for name in ("from", "to", "type", "address"))
    return Head(*(member if isinstance(member, str) else None for member in members))


def encode_error(code: str, message: str, **more: str) -> bytes:
    """An error frame; `more` is members that original clients do not look at."""
    return encode({"type": "error", "payload": {"code": code, "message": message, **more}})


def encode_status(address: str, online: bool) -> bytes:
    """A presence frame."""
    return encode({"type": "peer-status", "payload": {"address": address, "online": online}})
