"""A peer's identity: an Ed25519 key pair, and the id that follows from it."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from .wire.ids import NodeId
from .wire.record import id_of_key

__all__ = ["Identity", "verify"]

_MAX_FILE: Final = 64 * 1024
"""Bytes read of a key file; one in PEM form has about 120."""


class Identity:
    """An Ed25519 key pair (RFC 8032); the private key never leaves it except through `save`.

    Attributes:
        id: first 20 bytes of SHA-256(public key).
        public_key: 32 bytes.
    """

    __slots__ = ("_private_key", "id", "public_key")

    def __init__(self, private_key: Ed25519PrivateKey) -> None:
        self._private_key: Final = private_key
        self.public_key: Final = private_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.id: Final[NodeId] = id_of_key(self.public_key)

    @classmethod
    def generate(cls) -> Identity:
        """A new key pair from the system's randomness."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_seed(cls, seed: bytes) -> Identity:
        """The key pair of a 32-byte seed (RFC 8032 section 5.1.5); for tests and vectors."""
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Identity:
        """Reads a PEM file (PKCS #8) that `save`, or OpenSSL, wrote.

        Raises:
            OSError: the file can't be read.
            ValueError: it holds no unencrypted Ed25519 private key, or others than its owner may read it.
        """
        with open(path, "rb") as file:
            if os.name == "posix" and stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise ValueError(f"{path}: others may read this private key; make it mode 0600")
            # A device never ends.
            data = file.read(_MAX_FILE)
        try:
            key = load_pem_private_key(data, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ValueError(f"{path}: expected an unencrypted Ed25519 private key in PEM form") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError(f"{path}: expected an Ed25519 private key, not {type(key).__name__}")
        return cls(key)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the private key as PEM, mode 0600, all of it or nothing (rename over the old file).

        Raises:
            OSError: the file can't be written.
        """
        pem = self._private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        target = Path(path)
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(pem)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, target)
        except BaseException:
            os.unlink(name)
            raise

    def sign(self, data: bytes) -> bytes:
        """The 64-byte signature of `data`; the caller puts a domain string in front."""
        return self._private_key.sign(data)

    def __repr__(self) -> str:
        return f"<Identity {self.id.hex()}>"


def verify(public_key: bytes, signature: bytes, data: bytes) -> bool:
    """Whether `signature` is the Ed25519 signature of `data` by the owner of `public_key`."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True
