"""What nodes say to a rendezvous relay, and it to them (docs/protocol/overlay.md section 17); pure.

```
SUBSCRIBE    0 type=1   1 key 20                PUBLISH   0 type=3   1 publication
UNSUBSCRIBE  0 type=2   1 key 20                EVENT     0 type=4   1 publication
GONE         0 type=5   1 key 20
UNTIMELY     0 type=6   1 key 20   21 number of the publication 8   29 its receiver's clock 8

publication  0 version=1   1 key 20   21 publisher's public key 32   53 number 8   61 data   … signature 64
```

They are the payloads of DATA frames with the flag RENDEZVOUS. A key is the first 20 bytes of SHA-256 of the topic.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from ..exceptions import LocalProtocolError, RemoteProtocolError
from .ids import ID_LENGTH, NodeId
from .record import Sign, Verify, id_of_key

__all__ = [
    "MAX_DATA",
    "PUBLICATION_DOMAIN",
    "Event",
    "Gone",
    "Publication",
    "Publish",
    "RendezvousMessage",
    "Subscribe",
    "Unsubscribe",
    "Untimely",
    "build_publication",
    "parse_rendezvous_untrusted",
    "topic_key",
]

PUBLICATION_DOMAIN: Final = b"trio-relay publication 1\0"
MAX_DATA: Final = 56 * 1024
"""Bytes of data in one publication: with all that is around it, it fits a frame."""

_SUBSCRIBE: Final = 1
_UNSUBSCRIBE: Final = 2
_PUBLISH: Final = 3
_EVENT: Final = 4
_GONE: Final = 5
_UNTIMELY: Final = 6
_VERSION: Final = 1
_HEAD: Final = struct.Struct("!B20s32sQ")
_UNTIMELY_FORM: Final = struct.Struct("!B20sQQ")
_SIGNATURE_LENGTH: Final = 64
_SHORTEST: Final = _HEAD.size + _SIGNATURE_LENGTH


def topic_key(topic: str) -> NodeId:
    """Where a topic's subscribers and publishers meet: the first 20 bytes of SHA-256 of its UTF-8 form.

    Raises:
        ValueError: it has no UTF-8 form.
    """
    return NodeId(hashlib.sha256(topic.encode()).digest()[:ID_LENGTH])


@dataclass(frozen=True, slots=True)
class Publication:
    """Some data under a key, signed by whoever publishes it. Whether the signature is right is the reader's to ask.

    Attributes:
        number: larger than in every publication that its publisher made before (microseconds since 1970).
        raw: the bytes as they are sent, signature included.
    """

    key: NodeId
    public_key: bytes
    number: int
    data: bytes = field(repr=False)
    raw: bytes = field(repr=False)

    @property
    def publisher(self) -> NodeId:
        """The id of the key."""
        return id_of_key(self.public_key)

    def is_signed(self, verify: Verify) -> bool:
        """Whether the publisher did sign it."""
        signed, signature = self.raw[:-_SIGNATURE_LENGTH], self.raw[-_SIGNATURE_LENGTH:]
        return verify(self.public_key, signature, PUBLICATION_DOMAIN + signed)


def build_publication(public_key: bytes, sign: Sign, *, key: NodeId, number: int, data: bytes) -> Publication:
    """Builds and signs a publication.

    Raises:
        LocalProtocolError: more than `MAX_DATA` bytes, or a number that does not fit eight.
    """
    if len(data) > MAX_DATA:
        raise LocalProtocolError(f"expected at most {MAX_DATA} bytes in a publication, not {len(data)}")
    try:
        body = _HEAD.pack(_VERSION, key, public_key, number) + data
    except struct.error as error:
        raise LocalProtocolError(f"a number does not fit its field of a publication: {error}") from error
    return Publication(key, public_key, number, data, body + sign(PUBLICATION_DOMAIN + body))


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Its sender wants what is published under that key."""

    key: NodeId

    def to_bytes(self) -> bytes:
        return bytes([_SUBSCRIBE]) + self.key


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Its sender wants it no more."""

    key: NodeId

    def to_bytes(self) -> bytes:
        return bytes([_UNSUBSCRIBE]) + self.key


@dataclass(frozen=True, slots=True)
class Publish:
    """From its publisher to a rendezvous relay."""

    publication: Publication

    def to_bytes(self) -> bytes:
        return bytes([_PUBLISH]) + self.publication.raw


@dataclass(frozen=True, slots=True)
class Event:
    """From a rendezvous relay to a subscriber."""

    publication: Publication

    def to_bytes(self) -> bytes:
        return bytes([_EVENT]) + self.publication.raw


@dataclass(frozen=True, slots=True)
class Gone:
    """From a rendezvous relay to a subscriber: it keeps that subscription no more."""

    key: NodeId

    def to_bytes(self) -> bytes:
        return bytes([_GONE]) + self.key


@dataclass(frozen=True, slots=True)
class Untimely:
    """From a rendezvous relay to a publisher: it does not take a publication, for its clock says another time.

    Attributes:
        number: of the publication.
        clock: of the relay, in microseconds since 1970.
    """

    key: NodeId
    number: int
    clock: int

    def to_bytes(self) -> bytes:
        return _UNTIMELY_FORM.pack(_UNTIMELY, self.key, self.number, self.clock)


RendezvousMessage: TypeAlias = Subscribe | Unsubscribe | Publish | Event | Gone | Untimely


_OF_A_KEY: Final[dict[int, type[Subscribe] | type[Unsubscribe] | type[Gone]]] = {
    _SUBSCRIBE: Subscribe,
    _UNSUBSCRIBE: Unsubscribe,
    _GONE: Gone,
}


def parse_rendezvous_untrusted(payload: bytes) -> RendezvousMessage:
    """Reads a payload. It verifies no signature.

    Raises:
        RemoteProtocolError: another type, version or length than there are.
    """
    kind = payload[0] if payload else 0
    if kind in _OF_A_KEY:
        if len(payload) != 1 + ID_LENGTH:
            raise RemoteProtocolError(f"expected a key of {ID_LENGTH} bytes, got {len(payload) - 1}")
        return _OF_A_KEY[kind](NodeId(payload[1:]))
    if kind == _UNTIMELY:
        if len(payload) != _UNTIMELY_FORM.size:
            raise RemoteProtocolError(f"expected a key and two numbers of 8 bytes, got {len(payload) - 1} bytes")
        _, key, number, clock = _UNTIMELY_FORM.unpack(payload)
        return Untimely(NodeId(key), number, clock)
    if kind not in (_PUBLISH, _EVENT):
        raise RemoteProtocolError(f"expected the type of a rendezvous message, got {kind}")
    publication = _parse_publication(payload[1:])
    return Publish(publication) if kind == _PUBLISH else Event(publication)


def _parse_publication(raw: bytes) -> Publication:
    if not _SHORTEST <= len(raw) <= _SHORTEST + MAX_DATA:
        raise RemoteProtocolError(
            f"expected a publication of {_SHORTEST} to {_SHORTEST + MAX_DATA} bytes, got {len(raw)}"
        )
    version, key, public_key, number = _HEAD.unpack_from(raw)
    if version != _VERSION:
        raise RemoteProtocolError(f"expected a publication of version {_VERSION}, got {version}")
    return Publication(NodeId(key), public_key, number, raw[_HEAD.size : -_SIGNATURE_LENGTH], raw)
