"""NKeys: the Ed25519 keys by which a NATS server may know its users. Pure.

A seed is what the tools of NATS print: ``SU`` and 56 more characters of base32, which hold two bytes of prefix, the
32 bytes of the private key, and a CRC-16 (little-endian, polynomial 0x1021).
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["UserKey"]

_SEED: Final = 18 << 3
_USER: Final = 20 << 3


class UserKey:
    """A user's key.

    Args:
        seed: begins with ``SU``.

    Raises:
        ValueError: it is not the seed of a user's key. The message does not show it.
    """

    def __init__(self, seed: str) -> None:
        try:
            raw = base64.b32decode(seed + "=" * (-len(seed) % 8))
        except (binascii.Error, ValueError):
            raw = b""
        head = bytes((_SEED | _USER >> 5, (_USER & 31) << 3))
        if len(raw) != 36 or raw[:2] != head or _checksum(raw[:-2]) != raw[-2:]:
            raise ValueError("expected a seed of a user's NKey: SU and 56 more characters")
        self._key: Final = Ed25519PrivateKey.from_private_bytes(raw[2:-2])

    @property
    def public(self) -> str:
        """What the server knows: ``U`` and 55 more characters. No secret."""
        body = bytes((_USER,)) + self._key.public_key().public_bytes_raw()
        return base64.b32encode(body + _checksum(body)).decode().rstrip("=")

    def sign(self, nonce: str) -> str:
        """The proof that a server asks for."""
        signature = self._key.sign(nonce.encode())
        return base64.urlsafe_b64encode(signature).decode().rstrip("=")


def _checksum(data: bytes) -> bytes:
    return binascii.crc_hqx(data, 0).to_bytes(2, "little")
