"""The primitives of sessions: HKDF by hand (RFC 5869), the rest from `cryptography`. Nothing of the package."""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

AES: Final = 1
CHACHA: Final = 2


class Broken(Exception):
    """Something that an implementation must not take."""


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def hmac_sha256(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def hkdf_extract(salt: bytes, secret: bytes) -> bytes:
    return hmac_sha256(salt, secret)


def hkdf_expand(prk: bytes, info: bytes, length: int) -> bytes:
    output = block = b""
    number = 1
    while len(output) < length:
        block = hmac_sha256(prk, block + info + bytes([number]))
        output += block
        number += 1
    return output[:length]


def aead(cipher: int, key: bytes) -> AESGCM | ChaCha20Poly1305:
    if cipher == AES:
        return AESGCM(key)
    if cipher == CHACHA:
        return ChaCha20Poly1305(key)
    raise Broken(f"cipher {cipher}")


def decrypt(cipher: int, key: bytes, nonce: bytes, sealed: bytes, data: bytes) -> bytes:
    try:
        return aead(cipher, key).decrypt(nonce, sealed, data)
    except InvalidTag:
        raise Broken("does not open") from None


def public_identity(seed: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def sign(seed: bytes, data: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed).sign(data)


def id_of(identity_key: bytes) -> bytes:
    return sha256(identity_key)[:20]


def public_ephemeral(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def x25519(private: bytes, public: bytes) -> bytes:
    try:
        return X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise Broken("X25519 gives zeros") from None


def has_kem() -> bool:
    """Whether this version of `cryptography`, with its OpenSSL, has ML-KEM-768."""
    try:
        kem_public(bytes(64))
    except (ImportError, UnsupportedAlgorithm):
        return False
    return True


def kem_public(seed: bytes) -> bytes:
    """The encapsulation key of a 64-byte seed (FIPS 203: d and z)."""
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey

    return MLKEM768PrivateKey.from_seed_bytes(seed).public_key().public_bytes_raw()


def kem_secret(seed: bytes, ciphertext: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey

    return MLKEM768PrivateKey.from_seed_bytes(seed).decapsulate(ciphertext)


def check_kem_key(key: bytes) -> None:
    """The modulus check of FIPS 203 section 7.2: two coefficients in three bytes, each below 3329; then the seed."""
    for position in range(0, 1152, 3):
        low, middle, high = key[position : position + 3]
        if low | (middle & 15) << 8 >= 3329 or middle >> 4 | high << 4 >= 3329:
            raise Broken("no encapsulation key")


def encapsulate(key: bytes) -> tuple[bytes, bytes]:
    """A secret and its ciphertext, new each time."""
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey

    try:
        return MLKEM768PublicKey.from_public_bytes(key).encapsulate()
    except ValueError:
        raise Broken("no encapsulation key") from None
