"""The zlib format (RFC 1950), which browsers call "deflate". Pure."""

from __future__ import annotations

import zlib
from typing import Final

from ...exceptions import RemoteProtocolError

__all__ = ["compress", "inflate_untrusted"]

_TOO_BIG: Final = 1009
"""Close code of RFC 6455 section 7.4.1."""


def compress(data: bytes) -> bytes | None:
    """The compressed bytes, or None if they are not fewer."""
    compressed = zlib.compress(data)
    return compressed if len(compressed) < len(data) else None


def inflate_untrusted(data: bytes, most: int) -> bytes:
    """The reverse of `compress`; no more memory is taken than `most` and a little.

    Raises:
        RemoteProtocolError: it is not exactly one whole zlib stream, or holds more than `most` bytes.
    """
    inflater = zlib.decompressobj()
    try:
        inflated = inflater.decompress(data, most + 1)
    except zlib.error as error:
        raise RemoteProtocolError(f"expected zlib data: {error}") from None
    if len(inflated) > most:
        raise RemoteProtocolError(f"expected at most {most} inflated bytes, got more", _TOO_BIG)
    if not inflater.eof or inflater.unused_data:
        raise RemoteProtocolError("expected one whole zlib stream, got less or more")
    return inflated
