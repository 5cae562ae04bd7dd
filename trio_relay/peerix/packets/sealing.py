"""The keys of peers, and what two of them say through a broker, sealed. Pure.

A peer has a P-256 key pair for one stay in a room; its id is its public key. The key of a pair is the x coordinate
of ECDH as it is, the same for both directions; a sealed payload is a nonce of 12 bytes and what AES-256-GCM makes of
it, without additional data. So whoever knows a peer's id, which it announces, can write to it, a packet can be
repeated, and a nonce must never be used twice. That is the protocol's; what comes over WebRTC is protected by DTLS.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDH,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    derive_private_key,
)
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ...exceptions import RemoteProtocolError
from . import base62

__all__ = ["ID_SIZE", "NONCE_SIZE", "SEALING", "Keys", "PairKey", "id_of", "id_to_bytes_untrusted", "unsealed_id"]

ID_SIZE: Final = 33
"""Bytes of a peer's id: a compressed point, or random bytes where nothing is sealed."""
NONCE_SIZE: Final = 12
SEALING: Final = 28
"""By how many bytes a sealed payload is longer than what is in it."""
_CURVE: Final = SECP256R1()
_COMPRESSED: Final = (b"\x02", b"\x03")


class Keys:
    """The key pair of one peer; its private half is never printed."""

    __slots__ = ("_private", "id", "public")

    def __init__(self, private: EllipticCurvePrivateKey) -> None:
        self._private: Final = private
        self.public: Final = private.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
        """The compressed point (SEC 1 section 2.3.3): `ID_SIZE` bytes."""
        self.id: Final = id_of(self.public)
        """The peer's id as text: 44 characters."""

    @classmethod
    def from_secret(cls, secret: bytes | int) -> Keys:
        """The key pair of a private scalar.

        Args:
            secret: 1 to the order of the group less 1, big-endian if it is bytes. 32 random bytes are no such number
                once in four thousand million times: draw again.

        Raises:
            ValueError: it is not such a number.
        """
        number = int.from_bytes(secret, "big") if isinstance(secret, bytes) else secret
        return cls(derive_private_key(number, _CURVE))

    def agree_untrusted(self, public: bytes) -> PairKey:
        """The key of this peer and another one. It takes a tenth of a millisecond: keep it.

        Raises:
            RemoteProtocolError: it is no compressed point of the curve.
        """
        if len(public) == ID_SIZE and public[:1] in _COMPRESSED:
            try:
                point = EllipticCurvePublicKey.from_encoded_point(_CURVE, public)
            except ValueError:
                pass
            else:
                return PairKey(self._private.exchange(ECDH(), point))
        raise RemoteProtocolError("expected a compressed point of P-256 as a peer's id")


class PairKey:
    """What two peers share; it is never printed.

    Args:
        key: 32 bytes.
    """

    __slots__ = ("_aead",)

    def __init__(self, key: bytes) -> None:
        self._aead: Final = AESGCM(key)

    def seal(self, plaintext: bytes, nonce: bytes) -> bytes:
        """Seals one payload; it gets longer by `SEALING` bytes.

        Args:
            nonce: `NONCE_SIZE` random bytes, never used before.

        Raises:
            ValueError: the nonce is of another size.
        """
        if len(nonce) != NONCE_SIZE:
            raise ValueError(f"expected a nonce of {NONCE_SIZE} bytes, not {len(nonce)}")
        return nonce + self._aead.encrypt(nonce, plaintext, None)

    def open_untrusted(self, sealed: bytes) -> bytes:
        """The reverse of `seal`.

        Raises:
            RemoteProtocolError: it was not sealed with this key, or changed since.
        """
        if len(sealed) < SEALING:
            raise RemoteProtocolError(f"expected a sealed payload of {SEALING} bytes or more, got {len(sealed)}")
        try:
            return self._aead.decrypt(sealed[:NONCE_SIZE], sealed[NONCE_SIZE:], None)
        except InvalidTag:
            raise RemoteProtocolError("expected a payload that was sealed with the key of both peers") from None


def unsealed_id(entropy: bytes) -> str:
    """The text of a peer's id where nothing is sealed; its bytes are `entropy`, `ID_SIZE` random bytes."""
    return id_of(entropy)


def id_of(public: bytes) -> str:
    """The text of the id that is these bytes.

    Raises:
        ValueError: they are not `ID_SIZE` bytes.
    """
    if len(public) != ID_SIZE:
        raise ValueError(f"expected an id of {ID_SIZE} bytes, not {len(public)}")
    return base62.encode(public)


def id_to_bytes_untrusted(id: str) -> bytes:
    """The `ID_SIZE` bytes of the text of an id.

    Raises:
        RemoteProtocolError: it is none.
    """
    return base62.decode_untrusted(id, ID_SIZE)
