"""Peer records: signed statements of a peer about itself, or of a gateway about an original node.

Layout (docs/protocol/overlay.md section 5), integers big-endian:

```
 0  version = 1          1  kind (1 peer, 2 legacy)     2  roles (bit 0 relay, bit 1 admits original nodes,
                                                           bit 2 keeps subscriptions)
 3  sequence number, 8   11 expiry, Unix seconds, 8     19 subject id, 20
39  public key, 32       71 number of URLs, then per URL one length byte and ASCII text
    signature, 64, over b"trio-relay record 1\\0" and everything before it
```
"""

from __future__ import annotations

import enum
import hashlib
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ..exceptions import LocalProtocolError, RemoteProtocolError
from .ids import ID_LENGTH, NodeId

__all__ = [
    "MAX_RECORDS",
    "MAX_URLS",
    "RECORD_DOMAIN",
    "PeerRecord",
    "RecordKind",
    "Role",
    "Sign",
    "Verify",
    "build_record",
    "id_of_key",
    "join_records",
    "parse_record_untrusted",
    "split_records_untrusted",
]

RECORD_DOMAIN: Final = b"trio-relay record 1\0"
MAX_URLS: Final = 4
MAX_RECORDS: Final = 16
_HEAD: Final = struct.Struct("!BBBQQ20s32sB")
_SIGNATURE_LENGTH: Final = 64

Sign = Callable[[bytes], bytes]
Verify = Callable[[bytes, bytes, bytes], bool]
"""(public key, signature, signed bytes) -> whether the signature is right."""


class RecordKind(enum.IntEnum):
    """Who signs for whom."""

    PEER = 1
    """The subject speaks for itself: its id is the hash of the key."""
    LEGACY = 2
    """The key's owner is a gateway that holds a link with the subject, an original node."""


class Role(enum.IntFlag):
    """What a peer does for others."""

    RELAY = 1
    LEGACY = 2
    """Opened with ``legacy=True``: original nodes may dial it."""
    RENDEZVOUS = 4
    """It keeps subscriptions for others (`wire.rendezvous`)."""


_KNOWN_ROLES: Final = Role.RELAY | Role.LEGACY | Role.RENDEZVOUS


def id_of_key(public_key: bytes) -> NodeId:
    """First 20 bytes of SHA-256 of the 32-byte Ed25519 public key."""
    return NodeId(hashlib.sha256(public_key).digest()[:ID_LENGTH])


@dataclass(frozen=True, slots=True)
class PeerRecord:
    """One record, its signature already verified by whoever built it.

    Attributes:
        id: the subject.
        gateway: the signer's id; equal to `id` unless `kind` is LEGACY.
        kind: PEER, the subject speaks for itself; or LEGACY, a gateway speaks for an original node.
        roles: RELAY, LEGACY and RENDEZVOUS, or none: what the subject does for others.
        urls: at most four WebSocket URLs.
        sequence: a later record of the same signer has a larger one (microseconds since 1970 by custom).
        expiry: Unix time in seconds.
        public_key: the signer's, 32 bytes.
        raw: the signed bytes as they came, signature included.
    """

    id: NodeId
    gateway: NodeId
    kind: RecordKind
    roles: Role
    urls: tuple[str, ...]
    sequence: int
    expiry: int
    public_key: bytes
    raw: bytes

    @property
    def relay(self) -> bool:
        """Whether the peer says that it relays."""
        return self.kind is RecordKind.PEER and Role.RELAY in self.roles

    @property
    def rendezvous(self) -> bool:
        """Whether the peer says that it keeps subscriptions for others."""
        return self.relay and Role.RENDEZVOUS in self.roles


def build_record(
    public_key: bytes,
    sign: Sign,
    *,
    sequence: int,
    expiry: int,
    urls: Sequence[str] = (),
    roles: int = 0,
    legacy_id: NodeId | None = None,
) -> PeerRecord:
    """Builds and signs a record; with `legacy_id` one of kind LEGACY.

    Raises:
        LocalProtocolError: more than four URLs, one that is not 1 to 255 printable ASCII characters, a number that
            does not fit its field, or a `legacy_id` that is the signer's own or not 20 bytes.
    """
    if len(urls) > MAX_URLS:
        raise LocalProtocolError(f"expected at most {MAX_URLS} URLs in a record, not {len(urls)}")
    gateway = id_of_key(public_key)
    kind = RecordKind.PEER if legacy_id is None else RecordKind.LEGACY
    subject = legacy_id if legacy_id is not None else gateway
    if len(subject) != ID_LENGTH or (kind is RecordKind.LEGACY and subject == gateway):
        raise LocalProtocolError(f"expected the id of an original node, not {subject.hex()}")
    try:
        parts = [_HEAD.pack(1, kind, roles, sequence, expiry, subject, public_key, len(urls))]
    except struct.error as error:
        raise LocalProtocolError(f"a number does not fit its field of a record: {error}") from error
    for url in urls:
        if not (url.isascii() and url.isprintable() and 0 < len(url) < 256):
            raise LocalProtocolError(f"expected a URL of 1 to 255 printable ASCII characters, not {url[:80]!r}")
        parts.append(bytes([len(url)]) + url.encode())
    body = b"".join(parts)
    raw = body + sign(RECORD_DOMAIN + body)
    return PeerRecord(
        subject, gateway, kind, Role(roles & _KNOWN_ROLES), tuple(urls), sequence, expiry, public_key, raw
    )


def parse_record_untrusted(raw: bytes, verify: Verify) -> PeerRecord:
    """Reads and verifies one record, the cheap checks first. Expiry is the caller's to judge.

    Raises:
        RemoteProtocolError: malformed, of another version, for an id that its key does not own, or not signed by it.
    """
    if len(raw) < _HEAD.size + _SIGNATURE_LENGTH:
        raise RemoteProtocolError(f"expected a record of at least 136 bytes, not {len(raw)}")
    version, kind, roles, sequence, expiry, subject, public_key, count = _HEAD.unpack_from(raw)
    if version != 1 or kind not in (RecordKind.PEER, RecordKind.LEGACY):
        raise RemoteProtocolError(f"expected record version 1 of kind 1 or 2, not {version} of kind {kind}")
    if count > MAX_URLS:
        raise RemoteProtocolError(f"expected at most {MAX_URLS} URLs in a record, not {count}")
    body, signature = raw[:-_SIGNATURE_LENGTH], raw[-_SIGNATURE_LENGTH:]
    urls = _parse_urls_untrusted(body, count)
    signer = id_of_key(public_key)
    if (kind == RecordKind.PEER) != (signer == subject):
        raise RemoteProtocolError(f"the key of record {subject.hex()} does not fit its id and kind")
    if not verify(public_key, signature, RECORD_DOMAIN + body):
        raise RemoteProtocolError(f"record {subject.hex()} has a wrong signature")
    return PeerRecord(
        NodeId(subject), signer, RecordKind(kind), Role(roles & _KNOWN_ROLES), urls, sequence, expiry, public_key, raw
    )


def _parse_urls_untrusted(body: bytes, count: int) -> tuple[str, ...]:
    urls: list[str] = []
    position = _HEAD.size
    for _ in range(count):
        length = body[position] if position < len(body) else 0
        url = body[position + 1 : position + 1 + length]
        if not length or len(url) != length or not url.isascii() or not url.decode().isprintable():
            raise RemoteProtocolError("expected a URL of 1 to 255 printable ASCII characters in a record")
        urls.append(url.decode())
        position += 1 + length
    if position != len(body):
        raise RemoteProtocolError(f"expected {position} bytes before the signature of a record, not {len(body)}")
    return tuple(urls)


def join_records(records: Sequence[PeerRecord]) -> bytes:
    """The payload of FOUND and STORE: per record two bytes of length and the record."""
    return b"".join(len(record.raw).to_bytes(2, "big") + record.raw for record in records)


def split_records_untrusted(payload: bytes) -> list[bytes]:
    """The reverse of `join_records`; the records are neither parsed nor verified.

    Raises:
        RemoteProtocolError: lengths do not match, or there are more than 16.
    """
    raws: list[bytes] = []
    position = 0
    while position < len(payload):
        length = int.from_bytes(payload[position : position + 2], "big")
        raw = payload[position + 2 : position + 2 + length]
        if not length or len(raw) != length:
            raise RemoteProtocolError(f"expected a record of {length} bytes, not {len(raw)}")
        if len(raws) == MAX_RECORDS:
            raise RemoteProtocolError(f"expected at most {MAX_RECORDS} records in a frame")
        raws.append(raw)
        position += 2 + length
    return raws
