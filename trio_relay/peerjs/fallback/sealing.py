"""How what a relay carries is sealed: keys of both ends, and records that can not be read, changed or repeated. Pure.

The offer and the answer of a connection carry an X25519 key of each side. Who trusts the broker to pass on the DTLS
fingerprints of WebRTC unchanged, in the same messages, trusts it as much here, and no more. A relay sees sizes and
times.

`‖` joins bytes, numbers are big-endian, HKDF (RFC 5869) uses SHA-256, each text is UTF-8 behind its length in 4 bytes:

```
name   = "trio-relay peerjs fallback 1"
info   = name ‖ round, 4 bytes ‖ connection id ‖ originator's peer id ‖ answerer's peer id
              ‖ originator's key ‖ answerer's key
secret = HKDF-Extract(salt = SHA-256(info), X25519 of both keys)
```

Each carrier begins with a salt of 16 random bytes from each side. Then

```
key ‖ iv = HKDF-Expand(secret, "originator" or "answerer" ‖ medium ‖ originator's salt ‖ answerer's salt, 44)
```

for what that side sends. In the overlay each message begins with the 16 bytes HKDF-Expand(secret, "originator overlay
tag" or "answerer overlay tag", 16) of its sender. A message of the carrier is one of

```
SALT    0  type = 1                 RECORD  0  type = 2
        1  salt      16                     1  counter   8   0, then one more for each
                                            9  sealed, 16 bytes longer than what is in it
```

sealed with ChaCha20-Poly1305 (RFC 8439), the nonce being the iv XOR the counter, and bytes 0 to 8 additional data.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections import Counter
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from ...exceptions import RemoteProtocolError

__all__ = ["ENTROPY", "SALT_SIZE", "SEALING", "Medium", "RelayKey", "RelaySecret", "Role", "SealedCarriage", "agree"]

ENTROPY: Final = 32
"""Random bytes that a `RelayKey` takes."""
SALT_SIZE: Final = 16

Role: TypeAlias = Literal["originator", "answerer"]
"""Of a connection: whose offer it was."""
Medium: TypeAlias = Literal["broker", "overlay"]

_DOMAIN: Final = b"trio-relay peerjs fallback 1"
_SALT, _RECORD = 1, 2
_HEAD: Final = struct.Struct(">BQ")
_TAG: Final = 16
SEALING: Final = _HEAD.size + _TAG
"""By how much a record is longer than what is in it."""
_LAST_COUNTER: Final = 2**48


class RelayKey:
    """The key pair of one side for one connection; nothing of it is ever printed.

    Args:
        entropy: `ENTROPY` random bytes.
    """

    __slots__ = ("_private", "public")

    def __init__(self, entropy: bytes) -> None:
        self._private: Final = X25519PrivateKey.from_private_bytes(entropy)
        self.public: Final = self._private.public_key().public_bytes_raw()

    def exchange(self, public: bytes) -> bytes:
        """The X25519 secret with another key.

        Raises:
            RemoteProtocolError: it is no key of 32 bytes, or of small order.
        """
        try:
            return self._private.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError as error:
            raise RemoteProtocolError("expected an X25519 key of 32 bytes that is not of small order") from error


@dataclass(frozen=True, slots=True)
class RelaySecret:
    """What both sides of a round share, and nobody else."""

    role: Role
    _secret: bytes = field(repr=False)

    def derive(self, label: bytes, length: int) -> bytes:
        """HKDF-Expand (RFC 5869 section 2.3); at most two blocks."""
        first = hmac.digest(self._secret, label + b"\x01", "sha256")
        return (first + hmac.digest(self._secret, first + label + b"\x02", "sha256"))[:length]

    @property
    def outgoing_tag(self) -> bytes:
        """With which our messages of this round begin in the overlay: 16 bytes that only both sides know."""
        return self._tag(self.role)

    @property
    def incoming_tag(self) -> bytes:
        """With which the other side's messages begin."""
        return self._tag(_other(self.role))

    def _tag(self, sender: Role) -> bytes:
        return self.derive(sender.encode() + b" overlay tag", 16)


def agree(
    key: RelayKey, public: bytes, role: Role, *, connection_id: str, originator: str, answerer: str, round_: int
) -> RelaySecret:
    """The secret of one round of a connection.

    Args:
        key: ours.
        public: the other side's.
        role: ours.
        originator: the peer id of the side that made the offer; `answerer` likewise.

    Raises:
        RemoteProtocolError: `public` is no key, or our own.
    """
    if public == key.public:
        raise RemoteProtocolError("expected a key of the other side, got our own")
    keys = (key.public, public) if role == "originator" else (public, key.public)
    texts = b"".join(len(data := text.encode()).to_bytes(4) + data for text in (connection_id, originator, answerer))
    info = _DOMAIN + round_.to_bytes(4) + texts + keys[0] + keys[1]
    return RelaySecret(role, hmac.digest(hashlib.sha256(info).digest(), key.exchange(public), "sha256"))


class _Direction:
    """The cipher of one direction of one carrier."""

    def __init__(self, secret: RelaySecret, sender: Role, medium: Medium, salts: bytes) -> None:
        material = secret.derive(sender.encode() + medium.encode() + salts, 44)
        self._cipher: Final = ChaCha20Poly1305(material[:32])
        self._iv: Final = int.from_bytes(material[32:])

    def seal(self, counter: int, data: bytes) -> bytes:
        head = _HEAD.pack(_RECORD, counter)
        return head + self._cipher.encrypt((self._iv ^ counter).to_bytes(12), data, head)

    def open(self, record: bytes) -> bytes:
        head = record[: _HEAD.size]
        nonce = (self._iv ^ _HEAD.unpack(head)[1]).to_bytes(12)
        try:
            return self._cipher.decrypt(nonce, record[_HEAD.size :], head)
        except InvalidTag:
            raise RemoteProtocolError("expected a record of the other side, got one that does not open") from None


class SealedCarriage:
    """Both directions over one carrier.

    Args:
        secret: of the round.
        medium: what carries.
        salt: `SALT_SIZE` random bytes that were never used before.
        reorder: how many records may wait for an earlier one; 0: the carrier keeps the order, so that any other record
            than the next one is a violation. Otherwise records that came already are ignored, and counted.
        counts: ``relay_repeated``: records that came already.
    """

    def __init__(
        self, secret: RelaySecret, medium: Medium, salt: bytes, *, counts: Counter[str], reorder: int = 0
    ) -> None:
        self._secret: Final = secret
        self._medium: Final = medium
        self._salt: Final = salt
        self._reorder: Final = reorder
        self._counts: Final = counts
        self._outgoing: _Direction | None = None
        self._incoming: _Direction | None = None
        self._their_salt = b""
        self._sealed = 0
        self._next = 0
        self._early: Final[dict[int, bytes]] = {}
        """Records that wait for an earlier one, or for the salt."""

    @property
    def greeting(self) -> bytes:
        """What we send first."""
        return bytes([_SALT]) + self._salt

    @property
    def is_ready(self) -> bool:
        """The other side's salt has come: `seal` may be called."""
        return self._outgoing is not None

    def seal(self, data: bytes) -> bytes:
        """The next record.

        Raises:
            RuntimeError: the salt has not come, or the carrier has to be replaced.
        """
        if self._outgoing is None or self._sealed >= _LAST_COUNTER:
            raise RuntimeError("expected both salts, and another carrier after 2**48 records")
        record = self._outgoing.seal(self._sealed, data)
        self._sealed += 1
        return record

    def open(self, message: bytes) -> list[bytes]:
        """What this message of the carrier brings, in the order in which it was sealed.

        Raises:
            RemoteProtocolError: it was not made by the other side for this place; the carrier is of no use any more.
        """
        kind = message[0] if message else None
        if kind == _SALT:
            self._take_salt(message[1:])
        elif kind == _RECORD and len(message) >= SEALING:
            self._take_record(message)
        else:
            raise RemoteProtocolError(f"expected a salt or a record, got {message[:8].hex() or 'nothing'}")
        return self._in_order()

    def _take_salt(self, salt: bytes) -> None:
        if len(salt) != SALT_SIZE or salt == self._salt:
            raise RemoteProtocolError(f"expected {SALT_SIZE} bytes as a salt, and not our own, got {salt[:32].hex()}")
        if self._incoming is not None:
            if not (self._reorder and salt == self._their_salt):
                raise RemoteProtocolError("expected one salt, got another")
            return
        self._their_salt = salt
        mine, theirs = self._secret.role, _other(self._secret.role)
        salts = self._salt + salt if mine == "originator" else salt + self._salt
        self._outgoing = _Direction(self._secret, mine, self._medium, salts)
        self._incoming = _Direction(self._secret, theirs, self._medium, salts)

    def _take_record(self, record: bytes) -> None:
        counter = _HEAD.unpack_from(record)[1]
        if self._reorder and (counter < self._next or counter in self._early):
            self._counts["relay_repeated"] += 1
            return
        if not self._next <= counter <= self._next + self._reorder or (self._incoming is None and not self._reorder):
            where = f"record {self._next}" if self._incoming is not None else "a salt"
            raise RemoteProtocolError(f"expected {where}, got record {counter}")
        self._early[counter] = record

    def _in_order(self) -> list[bytes]:
        opened: list[bytes] = []
        while self._incoming is not None and (record := self._early.pop(self._next, None)) is not None:
            opened.append(self._incoming.open(record))
            self._next += 1
        return opened


def _other(role: Role) -> Role:
    return "answerer" if role == "originator" else "originator"
