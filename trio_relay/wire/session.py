"""Session messages and sealed payloads as bytes (docs/protocol/sessions.md section 2); no cryptography here.

```
OPEN      0 type=1   1 ciphers   2 ephemeral 32   34 cookie 16      50 KEM key 0 or 1184
ACCEPT    0 type=2   1 cipher    2 index 8        10 ephemeral 32   42 KEM ciphertext 0 or 1088   box 112
COOKIE    0 type=3   1 cookie 16
UNKNOWN   0 type=4   1 index 8
sealed    0 index 8  8 counter 8   16 box 112 (flag OPENING only)   sealed payload
```
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from ..exceptions import RemoteProtocolError
from .frame import VERSION

__all__ = [
    "BOX_LENGTH",
    "INDEX_LENGTH",
    "MAX_SEALING",
    "NO_COOKIE",
    "PROOF_LENGTH",
    "SEALED_HEAD",
    "TAG_LENGTH",
    "Accept",
    "Cipher",
    "Cookie",
    "Open",
    "SessionMessage",
    "Unknown",
    "associated_data",
    "build_accept",
    "build_cookie",
    "build_open",
    "build_unknown",
    "parse_session_message_untrusted",
]

INDEX_LENGTH: Final = 8
TAG_LENGTH: Final = 16
PROOF_LENGTH: Final = 96
"""Identity key, signature."""
BOX_LENGTH: Final = PROOF_LENGTH + TAG_LENGTH
NO_COOKIE: Final = bytes(16)
SEALED_HEAD: Final = struct.Struct("!8sQ")
"""Index of the receiver, counter."""
MAX_SEALING: Final = SEALED_HEAD.size + BOX_LENGTH + TAG_LENGTH
"""Bytes by which a payload may grow."""

_KEM_KEY: Final = 1184
_KEM_CIPHERTEXT: Final = 1088
_OPEN: Final = struct.Struct("!BB32s16s")
_ACCEPT: Final = struct.Struct("!BB8s32s")
_HEADER: Final = struct.Struct("!BBBH20s20s8s")

assert _HEADER.size == 53


class Cipher(enum.IntFlag):
    """AEAD ciphers, as bits."""

    AES_256_GCM = 0x01
    CHACHA20_POLY1305 = 0x02


class _Type(enum.IntEnum):
    OPEN = 1
    ACCEPT = 2
    COOKIE = 3
    UNKNOWN = 4


@dataclass(frozen=True, slots=True)
class Open:
    """The opener's first message.

    Attributes:
        ciphers: the bits of `Cipher` that it offers; unknown ones pass.
        kem_key: an ML-KEM-768 encapsulation key, or nothing.
    """

    ciphers: int
    ephemeral: bytes
    kem_key: bytes = b""
    cookie: bytes = NO_COOKIE

    def without_cookie(self) -> Open:
        """What the transcript holds."""
        return replace(self, cookie=NO_COOKIE)


@dataclass(frozen=True, slots=True)
class Accept:
    """The accepter's answer.

    Attributes:
        cipher: one bit of `Cipher`.
        index: how the accepter names the session.
        kem_ciphertext: for the opener's KEM key, or nothing.
        box: the accepter's proof, encrypted.
    """

    cipher: int
    index: bytes
    ephemeral: bytes
    kem_ciphertext: bytes
    box: bytes


@dataclass(frozen=True, slots=True)
class Cookie:
    """Asks for the same OPEN again, with this cookie."""

    cookie: bytes


@dataclass(frozen=True, slots=True)
class Unknown:
    """A hint: no session here has that index."""

    index: bytes


SessionMessage: TypeAlias = Open | Accept | Cookie | Unknown


def build_open(message: Open) -> bytes:
    """The payload of OPEN."""
    return _OPEN.pack(_Type.OPEN, message.ciphers, message.ephemeral, message.cookie) + message.kem_key


def build_accept(message: Accept) -> bytes:
    """The payload of ACCEPT; with an empty box, what the transcript holds."""
    head = _ACCEPT.pack(_Type.ACCEPT, message.cipher, message.index, message.ephemeral)
    return head + message.kem_ciphertext + message.box


def build_cookie(message: Cookie) -> bytes:
    """The payload of COOKIE."""
    return bytes([_Type.COOKIE]) + message.cookie


def build_unknown(message: Unknown) -> bytes:
    """The payload of UNKNOWN."""
    return bytes([_Type.UNKNOWN]) + message.index


def parse_session_message_untrusted(payload: bytes) -> SessionMessage:
    """Reads the payload of a plain SESSION frame.

    Raises:
        RemoteProtocolError: another type, a length that does not fit it, or a cipher that is not one.
    """
    kind, length = payload[0] if payload else 0, len(payload)
    if kind == _Type.OPEN and length in (_OPEN.size, _OPEN.size + _KEM_KEY):
        _, ciphers, ephemeral, cookie = _OPEN.unpack_from(payload)
        if not ciphers & Cipher.CHACHA20_POLY1305:
            raise RemoteProtocolError(f"expected an offer with ChaCha20-Poly1305, not ciphers {ciphers:#04x}")
        return Open(ciphers, ephemeral, payload[_OPEN.size :], cookie)
    if kind == _Type.ACCEPT and length - _ACCEPT.size - BOX_LENGTH in (0, _KEM_CIPHERTEXT):
        _, cipher, index, ephemeral = _ACCEPT.unpack_from(payload)
        if cipher not in (Cipher.AES_256_GCM, Cipher.CHACHA20_POLY1305):
            raise RemoteProtocolError(f"expected one cipher, not {cipher:#04x}")
        return Accept(cipher, index, ephemeral, payload[_ACCEPT.size : -BOX_LENGTH], payload[-BOX_LENGTH:])
    if kind == _Type.COOKIE and length == 1 + len(NO_COOKIE):
        return Cookie(payload[1:])
    if kind == _Type.UNKNOWN and length == 1 + INDEX_LENGTH:
        return Unknown(payload[1:])
    raise RemoteProtocolError(f"expected a session message, not {length} bytes of type {kind}")


def associated_data(kind: int, flags: int, length: int, to: bytes, source: bytes, message_id: bytes) -> bytes:
    """Bytes 3-55 of the header of a sealed frame; `length` is that of the sealed payload."""
    return _HEADER.pack(VERSION, kind, flags, length, to, source, message_id)
