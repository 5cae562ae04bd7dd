"""What clients and the broker say to each other, as JSON text. Pure.

The broker reads two members of a message and passes on the bytes of its payload; what `JSON.parse` would refuse is
refused.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ...exceptions import RemoteProtocolError
from ...wire.json import JSONValue, decode_untrusted, describe, encode, require_shallow

__all__ = [
    "BEGINNINGS",
    "HEARTBEAT",
    "ID_TAKEN",
    "INVALID_UTF8",
    "OPEN",
    "OPEN_RELAYING",
    "Head",
    "encode_error",
    "encode_expire",
    "encode_leave",
    "encode_name",
    "read_head_untrusted",
]

INVALID_UTF8: Final = 1007
"""Close code (RFC 6455 section 7.4.1)."""

HEARTBEAT: Final = b'{"type":"HEARTBEAT"}'
"""As the original's clients write it."""
OPEN: Final = b'{"type":"OPEN"}'
OPEN_RELAYING: Final = b'{"type":"OPEN","payload":{"relay":true}}'
"""For a client that asked: the broker has meetings."""

BEGINNINGS: Final = {
    name: b'{"type":"%b","src":' % name.encode() for name in ("OFFER", "ANSWER", "CANDIDATE", "LEAVE", "EXPIRE")
}
"""The types that go from client to client, and how a frame of each begins."""


class Head(msgspec.Struct, frozen=True, gc=False):
    """What the broker needs of a message.

    Attributes:
        type: None if it is absent or no string.
        dst: None or ``""`` if there is none.
        payload: JSON; nothing if it is absent.
    """

    type: str | None = None
    dst: str | None = None
    payload: msgspec.Raw = msgspec.Raw()


_fast: Final = msgspec.json.Decoder(Head).decode


def read_head_untrusted(raw: bytes) -> Head:
    """The head of one message.

    Raises:
        RemoteProtocolError: it is not UTF-8 (close code 1007), not JSON, neither an object nor an array, nested more
            than 64 deep, or its ``dst`` is something else than a string.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise RemoteProtocolError("expected UTF-8 in a message", INVALID_UTF8) from None
    require_shallow(text)
    try:
        return _fast(raw)
    except (msgspec.DecodeError, ValueError, RecursionError):
        # Not an object, a member of another type, or JSON that msgspec does not know: see wire/json.py.
        return _read_slowly(decode_untrusted(text))


def _read_slowly(value: JSONValue) -> Head:
    if isinstance(value, list):
        return Head()
    if not isinstance(value, dict):
        raise RemoteProtocolError(f"expected a json object, not {describe(value)}")
    type, dst = value.get("type"), value.get("dst")
    if not (isinstance(dst, str) or not dst):
        raise RemoteProtocolError(f"expected a string as dst, not {describe(dst)}")
    payload = encode(value["payload"], non_finite_as_null=True) if "payload" in value else b""
    return Head(type if isinstance(type, str) else None, dst if isinstance(dst, str) else None, msgspec.Raw(payload))


def encode_name(name: str) -> bytes:
    """An id as JSON."""
    return encode(name)


def encode_error(text: str) -> bytes:
    """Why the broker does not let a client in. An original client that gets it disconnects."""
    return encode({"type": "ERROR", "payload": {"msg": text}})


ID_TAKEN: Final = encode({"type": "ID-TAKEN", "payload": {"msg": "ID is taken"}})


def encode_expire(absent: str, to: str) -> bytes:
    """Tells `to` that its messages did not reach `absent`."""
    return b'%b%b,"dst":%b}' % (BEGINNINGS["EXPIRE"], encode_name(absent), encode_name(to))


def encode_leave(gone: str, to: str) -> bytes:
    """Tells `to` that `gone` is not there any more."""
    return b'%b%b,"dst":%b}' % (BEGINNINGS["LEAVE"], encode_name(gone), encode_name(to))
