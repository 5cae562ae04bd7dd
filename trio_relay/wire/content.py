"""The payload of a DATA frame: one byte that says what follows, then bytes or JSON."""

from __future__ import annotations

from typing import Final, TypeAlias

from ..exceptions import RemoteProtocolError
from .json import JSONValue, decode_untrusted, encode

__all__ = ["Data", "decode_content_untrusted", "encode_content"]

Data: TypeAlias = bytes | JSONValue
"""What an application sends and receives: `bytes`, or any JSON value."""

_BYTES: Final = b"\x00"
_JSON: Final = b"\x01"


def encode_content(data: Data) -> bytes:
    """The payload for `data`; `bytearray` and `memoryview` count as `bytes`.

    Raises:
        LocalProtocolError: neither bytes nor a JSON value.
    """
    if isinstance(data, (bytes, bytearray, memoryview)):
        return _BYTES + bytes(data)
    return _JSON + encode(data)


def decode_content_untrusted(payload: bytes) -> Data:
    """The reverse.

    Raises:
        RemoteProtocolError: an unknown type byte, or not JSON.
    """
    kind = payload[:1]
    if kind == _BYTES:
        return payload[1:]
    if kind == _JSON:
        return decode_untrusted(payload[1:])
    raise RemoteProtocolError(f"expected a payload that starts with 00 or 01, not {kind.hex() or 'nothing'}")
