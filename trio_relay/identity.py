"""A peer's identity: an Ed25519 key pair, and the id that follows from it."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from .wire.ids import NodeId
from .wire.record import id_of_key

__all__ = ["MAX_PASSPHRASE", "Identity", "PassphraseMissing", "verify"]

MAX_PASSPHRASE: Final = 1023
"""Bytes; OpenSSL takes no more."""
_MAX_FILE: Final = 64 * 1024
"""Bytes read of a key file; one in PEM form has about 120, an encrypted one 300."""


class PassphraseMissing(ValueError):
    """The private key in a file is encrypted, and no passphrase was given."""


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
    def load(cls, path: str | os.PathLike[str], passphrase: str | bytes | None = None) -> Identity:
        """Reads a PEM file (PKCS #8) that `save`, or OpenSSL, wrote.

        Args:
            passphrase: of an encrypted key; `str` stands for its UTF-8. For a key that is not encrypted it is not
                needed and not looked at, as with `openssl` and `ssh-keygen`.

        Raises:
            OSError: the file can't be read.
            ValueError: it holds no Ed25519 private key, or others than its owner may read it, or the passphrase does
                not open it; a `PassphraseMissing` if there is none, or an empty one, and the key is encrypted.
        """
        secret = None if passphrase is None else _secret(passphrase)
        with open(path, "rb") as file:
            if os.name == "posix" and stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise ValueError(f"{path}: others may read this private key; make it mode 0600")
            # A device never ends.
            data = file.read(_MAX_FILE)
        key = _read_key(data, secret)
        if key is None:
            raise PassphraseMissing(f"{path}: expected a passphrase for this encrypted private key, and got none")
        if isinstance(key, str):
            raise ValueError(f"{path}: {key}")
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError(f"{path}: expected an Ed25519 private key, not {type(key).__name__}")
        return cls(key)

    def save(self, path: str | os.PathLike[str], passphrase: str | bytes | None = None) -> None:
        """Writes the private key as PEM, mode 0600, all of it or nothing (rename over the old file).

        Args:
            passphrase: encrypts it; `str` stands for its UTF-8. It should be long or random: the key is encrypted with
                AES-256-CBC under PBKDF2 with HMAC-SHA-256 and OpenSSL's 2048 rounds (PBES2), which slow a guesser
                little. What ``openssl pkcs8 -topk8 -scrypt`` makes of the file takes more, and `load` reads it.

        Raises:
            OSError: the file can't be written.
            ValueError: the passphrase is empty or too long.
        """
        encryption: KeySerializationEncryption = NoEncryption()
        if passphrase is not None:
            secret = _secret(passphrase)
            if not 0 < len(secret) <= MAX_PASSPHRASE:
                raise ValueError(f"expected a passphrase of 1 to {MAX_PASSPHRASE} bytes, not {len(secret)}")
            encryption = BestAvailableEncryption(secret)
        pem = self._private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
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


def _secret(passphrase: str | bytes) -> bytes:
    if isinstance(passphrase, bytes):
        return passphrase
    if not isinstance(passphrase, str):
        raise TypeError(f"expected a passphrase as str or bytes, not {type(passphrase).__name__}")
    try:
        # Bytes of a terminal that are not UTF-8 stay what they were.
        return passphrase.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        pass
    # Not while that error is handled: it holds the whole passphrase.
    raise ValueError("expected a passphrase that UTF-8 can express")


def _read_key(data: bytes, secret: bytes | None) -> PrivateKeyTypes | str | None:
    """The key in PEM data; a text says what is wrong with them, None that they are encrypted and `secret` is empty.

    It raises nothing, so that no error has one of the library's, which was near the passphrase, in its chain.
    """
    try:
        return load_pem_private_key(data, password=None)
    except (ValueError, UnsupportedAlgorithm):
        return "expected an Ed25519 private key in PEM form"
    except TypeError:  # it is encrypted
        pass
    if not secret:
        return None
    try:
        return load_pem_private_key(data, password=secret)
    except UnsupportedAlgorithm:
        return "expected a private key encrypted in a way that OpenSSL supports"
    except ValueError:
        # A wrong passphrase opens one file in a few hundred, to what is no key.
        return "expected the passphrase of this encrypted private key, and got another, or the file is damaged"


def verify(public_key: bytes, signature: bytes, data: bytes) -> bool:
    """Whether `signature` is the Ed25519 signature of `data` by the owner of `public_key`."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True
