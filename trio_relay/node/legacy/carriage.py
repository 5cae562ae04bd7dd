"""The payload of a DATA frame with the LEGACY flag: an original's envelope on its way between two of our nodes.

```
0  length of the head, 16 bits big-endian
2  head      the envelope as JSON; if its type is "user", without the value
   content   the value (`wire.content`); nothing when the message has none, or is not of type "user"
```

As JSON, bytes would take four times their room, and the largest payload would not fit a frame.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ...exceptions import LocalProtocolError, RemoteProtocolError
from ...wire.content import decode_content_untrusted
from ...wire.envelope import Envelope, build_envelope, parse_envelope_untrusted
from ...wire.frame import MAX_PAYLOAD
from ...wire.json import buffer_to_bytes, bytes_to_buffer, encode
from ...wire.session import MAX_SEALING

__all__ = ["MAX_CARRIED", "carry", "parse_carried_untrusted"]

MAX_CARRIED: Final = MAX_PAYLOAD - MAX_SEALING
"""Bytes: what a sealed frame has room for."""

_LENGTH: Final = 2


def carry(envelope: Envelope) -> bytes:
    """The payload for an envelope.

    Raises:
        LocalProtocolError: it has no such form: it is too large, or an original would throw on it.
    """
    content = b""
    if envelope.body_type == "user" and envelope.has_data:
        octets = buffer_to_bytes(envelope.data)
        content = b"\x01" + encode(envelope.data, non_finite_as_null=True) if octets is None else b"\x00" + octets
        envelope = replace(envelope, data=None, has_data=False)
    head = build_envelope(envelope)
    size = _LENGTH + len(head) + len(content)
    if size > MAX_CARRIED:
        raise LocalProtocolError(f"expected an envelope of at most {MAX_CARRIED} bytes to carry, not {size}")
    return len(head).to_bytes(_LENGTH, "big") + head + content


def parse_carried_untrusted(payload: bytes) -> Envelope:
    """The reverse.

    Raises:
        RemoteProtocolError: anything else.
    """
    end = _LENGTH + int.from_bytes(payload[:_LENGTH], "big")
    if not _LENGTH < end <= len(payload):
        raise RemoteProtocolError(f"expected a carried envelope with a head of {end - _LENGTH} bytes")
    envelope = parse_envelope_untrusted(payload[_LENGTH:end])
    if end == len(payload):
        return envelope
    if envelope.body_type != "user" or envelope.has_data:
        raise RemoteProtocolError("expected nothing after a carried envelope that has its data in the head")
    data = decode_content_untrusted(payload[end:])
    return replace(envelope, data=bytes_to_buffer(data) if isinstance(data, bytes) else data, has_data=True)
