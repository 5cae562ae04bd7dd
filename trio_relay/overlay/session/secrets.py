"""What a session is made of: ephemeral keys, the transcript, and the keys of both (sessions.md section 3).

Randomness comes in as bytes. The one exception is the ML-KEM encapsulation, whose randomness the library takes itself.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from ...exceptions import RemoteProtocolError
from ...wire.ids import NodeId
from ...wire.session import Accept, Cipher, Open, build_accept, build_open

try:
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
except ImportError:  # pragma: no cover - releases of cryptography before ML-KEM
    MLKEM768PrivateKey = None  # type: ignore[assignment,misc]

__all__ = ["ENTROPY", "Aead", "Ephemeral", "Keys", "agree", "encapsulate", "has_kem", "make_cipher", "transcript"]

ENTROPY: Final = 32 + 64
"""Random bytes that an `Ephemeral` takes: an X25519 key, and the seed of an ML-KEM key."""

_DOMAIN: Final = b"trio-relay session 1"


class Aead(Protocol):
    """An AEAD cipher with its key."""

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        """Ciphertext and tag."""
        ...

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        """The plain text; raises cryptography's InvalidTag."""
        ...


Secret: TypeAlias = bytes


def make_cipher(cipher: int, key: Secret) -> Aead:
    """The cipher that one bit of `Cipher` names."""
    return AESGCM(key) if cipher == Cipher.AES_256_GCM else ChaCha20Poly1305(key)


def has_kem() -> bool:
    """Whether this installation of `cryptography` can do ML-KEM-768."""
    if MLKEM768PrivateKey is None:
        return False
    try:
        MLKEM768PrivateKey.from_seed_bytes(bytes(64))
    except UnsupportedAlgorithm:
        return False
    return True


class Ephemeral:
    """One side's key pair for one session; nothing of it is ever printed.

    Args:
        entropy: `ENTROPY` random bytes.
        kem: whether to make an ML-KEM key too, as openers do.
    """

    __slots__ = ("_kem", "_private", "kem_key", "public")

    def __init__(self, entropy: bytes, *, kem: bool) -> None:
        self._private: Final = X25519PrivateKey.from_private_bytes(entropy[:32])
        self.public: Final = self._private.public_key().public_bytes_raw()
        self._kem: Final = MLKEM768PrivateKey.from_seed_bytes(entropy[32:ENTROPY]) if kem else None
        self.kem_key: Final = b"" if self._kem is None else self._kem.public_key().public_bytes_raw()

    def agree(self, public: bytes) -> Secret:
        """The X25519 secret with another key (RFC 7748 section 6.1).

        Raises:
            RemoteProtocolError: the other key is of small order.
        """
        try:
            return self._private.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError as error:
            raise RemoteProtocolError("expected an X25519 key that is not of small order") from error

    def decapsulate(self, ciphertext: bytes) -> Secret:
        """The ML-KEM secret of a ciphertext, nothing for none.

        Raises:
            RemoteProtocolError: there is a ciphertext and no key that it could be for, or it is none.
        """
        if not ciphertext:
            return b""
        if self._kem is None:
            raise RemoteProtocolError("expected no KEM ciphertext, for no KEM key was offered")
        try:
            return self._kem.decapsulate(ciphertext)
        except ValueError as error:
            raise RemoteProtocolError("expected an ML-KEM-768 ciphertext") from error


def encapsulate(kem_key: bytes) -> tuple[Secret, bytes]:
    """A fresh ML-KEM secret for a key, and its ciphertext.

    Raises:
        RemoteProtocolError: it is no ML-KEM-768 key.
    """
    try:
        return MLKEM768PublicKey.from_public_bytes(kem_key).encapsulate()
    except ValueError as error:
        raise RemoteProtocolError("expected an ML-KEM-768 key") from error


def transcript(opener: NodeId, accepter: NodeId, index: bytes, opening: Open, accept: Accept) -> bytes:
    """The hash `t` of what was said before the accepter's proof."""
    said = build_open(opening.without_cookie()) + build_accept(accept)[: -len(accept.box) or None]
    return hashlib.sha256(_DOMAIN + opener + accepter + index + said).digest()


@dataclass(frozen=True, slots=True)
class Keys:
    """Everything that follows from one key agreement."""

    cipher: int
    _prk: Secret = field(repr=False)

    def derive(self, label: bytes, length: int = 32) -> Secret:
        """HKDF-Expand (RFC 5869 section 2.3); at most two blocks."""
        first = hmac.digest(self._prk, label + b"\x01", "sha256")
        if length <= len(first):
            return first[:length]
        return (first + hmac.digest(self._prk, first + label + b"\x02", "sha256"))[:length]


def agree(cipher: int, transcript: bytes, secret: Secret) -> Keys:
    """The keys of a transcript and the joined secrets."""
    return Keys(cipher, hmac.digest(transcript, secret, "sha256"))
