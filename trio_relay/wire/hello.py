"""The three binary messages that open a link, and the refusal (docs/protocol/overlay.md section 4).

```
HELLO   acceptor -> dialler   "TRLH" 1 | first version, last version | nonce 32 | key 32 | fields
REPLY   dialler -> acceptor   "TRLH" 2 | version | nonce 32 | key 32 | fields | signature 64
PROOF   acceptor -> dialler   "TRLH" 3 | fields | signature 64
REFUSAL either way            "TRLH" 9 | reason | fields
```

Fields are (tag 1, length 2, value) triples; unknown tags are ignored, which is how the protocol grows.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from ..exceptions import RemoteProtocolError

__all__ = [
    "FIRST_VERSION",
    "LAST_VERSION",
    "MAX_HELLO",
    "SUBPROTOCOL",
    "Field",
    "Hello",
    "Proof",
    "Reason",
    "Refusal",
    "Reply",
    "is_hello",
    "parse_hello_untrusted",
    "parse_proof_untrusted",
    "parse_refusal_untrusted",
    "parse_reply_untrusted",
]

SUBPROTOCOL: Final = "trio-relay.1"
FIRST_VERSION: Final = 1
LAST_VERSION: Final = 1
MAX_HELLO: Final = 32 * 1024
"""Bytes of one message of the handshake: room for a refusal that names 16 relays."""
_MAGIC: Final = b"TRLH"
_HELLO: Final = struct.Struct("!4sBBB32s32s")
_REPLY: Final = struct.Struct("!4sBB32s32s")
_PROOF: Final = struct.Struct("!4sB")
_REFUSAL: Final = struct.Struct("!4sBB")
_SIGNATURE: Final = 64


class _Type(enum.IntEnum):
    HELLO = 1
    REPLY = 2
    PROOF = 3
    REFUSAL = 9


class Field(enum.IntEnum):
    """Tags of the fields of this version."""

    RECORD = 1
    """REPLY and PROOF: the sender's own signed record."""
    AUTHORITY = 2
    """REPLY: ``host:port`` that was dialled, ASCII."""
    FROM_RECORD = 3
    """REPLY: present when that address came from a record, so that the acceptor must advertise it."""
    PROBE = 4
    """REPLY: present when the dialler only checks reachability and will close."""
    RECORDS = 5
    """REFUSAL with FULL: relays to try instead, as in FOUND."""
    TEXT = 6
    """REFUSAL: words for people, UTF-8."""


class Reason(enum.IntEnum):
    """Why a link is refused or closed; the names stand in events and statistics."""

    VERSION = 1
    SELF = 2
    NOT_ADMITTED = 3
    WRONG_AUTHORITY = 4
    FULL = 5
    BAD_PROOF = 6
    DISCONNECTED = 7
    """The application there called `disconnect` for us within the last minute."""
    DUPLICATE = 8
    SHUTDOWN = 9
    UNWANTED = 10
    """The neighbour has better links now."""
    PROTOCOL = 11
    DIVERSITY = 12
    """Too many peers of one network range."""
    NO_ADDRESS = 13
    """REFUSED: the receiver may not or cannot dial the sender."""
    SILENT = 14
    """It did not answer a ping."""
    NO_WEBRTC = 15
    """It makes no WebRTC links."""
    FAILED = 16
    """A WebRTC connection did not come about."""


@dataclass(frozen=True, slots=True)
class Hello:
    """First message, from the acceptor; unsigned."""

    nonce: bytes
    public_key: bytes
    first_version: int = FIRST_VERSION
    last_version: int = LAST_VERSION
    fields: Mapping[int, bytes] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        head = _HELLO.pack(_MAGIC, _Type.HELLO, self.first_version, self.last_version, self.nonce, self.public_key)
        return head + _build_fields(self.fields)


@dataclass(frozen=True, slots=True)
class Reply:
    """Second message, from the dialler; `signature` covers the transcript (overlay/handshake)."""

    version: int
    nonce: bytes
    public_key: bytes
    fields: Mapping[int, bytes]
    signature: bytes = b""

    def to_bytes(self) -> bytes:
        head = _REPLY.pack(_MAGIC, _Type.REPLY, self.version, self.nonce, self.public_key)
        return head + _build_fields(self.fields) + self.signature


@dataclass(frozen=True, slots=True)
class Proof:
    """Third message, from the acceptor."""

    fields: Mapping[int, bytes]
    signature: bytes = b""

    def to_bytes(self) -> bytes:
        return _PROOF.pack(_MAGIC, _Type.PROOF) + _build_fields(self.fields) + self.signature


@dataclass(frozen=True, slots=True)
class Refusal:
    """Instead of REPLY or PROOF; the link closes after it."""

    reason: int
    fields: Mapping[int, bytes]

    def to_bytes(self) -> bytes:
        return _REFUSAL.pack(_MAGIC, _Type.REFUSAL, self.reason) + _build_fields(self.fields)

    @property
    def name(self) -> str:
        """The reason in words, ``"reason 77"`` for one of a later version."""
        try:
            return Reason(self.reason).name.lower().replace("_", " ")
        except ValueError:
            return f"reason {self.reason}"


def is_hello(data: bytes | bytearray) -> bool:
    """Whether a binary message belongs to our handshake at all."""
    return data[:4] == _MAGIC


def parse_hello_untrusted(data: bytes) -> Hello:
    """Raises RemoteProtocolError for anything but a HELLO."""
    _check(data, _Type.HELLO, _HELLO.size)
    _, _, first, last, nonce, key = _HELLO.unpack_from(data)
    return Hello(nonce, key, first, last, _parse_fields_untrusted(data[_HELLO.size :]))


def parse_reply_untrusted(data: bytes) -> Reply:
    """Raises RemoteProtocolError for anything but a REPLY."""
    _check(data, _Type.REPLY, _REPLY.size + _SIGNATURE)
    _, _, version, nonce, key = _REPLY.unpack_from(data)
    fields = _parse_fields_untrusted(data[_REPLY.size : -_SIGNATURE])
    return Reply(version, nonce, key, fields, data[-_SIGNATURE:])


def parse_proof_untrusted(data: bytes) -> Proof:
    """Raises RemoteProtocolError for anything but a PROOF."""
    _check(data, _Type.PROOF, _PROOF.size + _SIGNATURE)
    return Proof(_parse_fields_untrusted(data[_PROOF.size : -_SIGNATURE]), data[-_SIGNATURE:])


def parse_refusal_untrusted(data: bytes) -> Refusal | None:
    """A refusal, or None when the message is of another type; raises RemoteProtocolError if it is malformed."""
    if not is_hello(data) or data[4:5] != bytes([_Type.REFUSAL]):
        return None
    _check(data, _Type.REFUSAL, _REFUSAL.size)
    return Refusal(data[5], _parse_fields_untrusted(data[_REFUSAL.size :]))


def _check(data: bytes, wanted: _Type, size: int) -> None:
    if not is_hello(data):
        raise RemoteProtocolError(f"expected a handshake message, not {bytes(data[:4])!r}")
    if len(data) > MAX_HELLO:
        raise RemoteProtocolError(f"expected a handshake message of at most {MAX_HELLO} bytes, not {len(data)}")
    if len(data) < size or data[4] != wanted:
        raise RemoteProtocolError(f"expected handshake message {wanted.name}, not type {data[4:5].hex()}")


def _build_fields(fields: Mapping[int, bytes]) -> bytes:
    return b"".join(bytes([tag]) + len(fields[tag]).to_bytes(2, "big") + fields[tag] for tag in sorted(fields))


def _parse_fields_untrusted(data: bytes) -> dict[int, bytes]:
    fields: dict[int, bytes] = {}
    position = 0
    while position < len(data):
        if len(data) - position < 3:
            raise RemoteProtocolError("expected a handshake field of at least 3 bytes")
        tag = data[position]
        length = int.from_bytes(data[position + 1 : position + 3], "big")
        value = data[position + 3 : position + 3 + length]
        if len(value) != length or tag in fields:
            raise RemoteProtocolError(f"handshake field {tag} is cut short or repeated")
        fields[tag] = value
        position += 3 + length
    return fields
