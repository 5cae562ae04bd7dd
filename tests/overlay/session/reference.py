"""A second implementation of sessions, slow and plain, made from docs/protocol/sessions.md alone.

It imports nothing of the package. `Opener` and `Accepter` are given every secret, so that what they make is always the
same; what breaks the protocol raises `Broken`. Vectors are made by `vectors.make`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from .primitives import (
    AES,
    CHACHA,
    Broken,
    aead,
    check_kem_key,
    decrypt,
    hkdf_expand,
    hkdf_extract,
    hmac_sha256,
    id_of,
    kem_public,
    kem_secret,
    public_ephemeral,
    public_identity,
    sha256,
    sign,
    x25519,
)

SESSION: Final = 10
SEALED: Final = 2
OPENING: Final = 8
OPEN, ACCEPT, COOKIE, UNKNOWN = 1, 2, 3, 4
NO_COOKIE: Final = bytes(16)
HEADER: Final = 56
MOST_FRAMES: Final = 2**22


# Section 2: messages


@dataclass(frozen=True)
class Open:
    ciphers: int
    ephemeral: bytes
    cookie: bytes = NO_COOKIE
    kem_key: bytes = b""

    def build(self) -> bytes:
        return bytes([OPEN, self.ciphers]) + self.ephemeral + self.cookie + self.kem_key

    def without_cookie(self) -> bytes:
        return Open(self.ciphers, self.ephemeral, NO_COOKIE, self.kem_key).build()


def parse_open(payload: bytes) -> Open:
    if len(payload) not in (50, 50 + 1184) or payload[0] != OPEN:
        raise Broken("no OPEN")
    if not payload[1] & CHACHA:
        raise Broken("ChaCha20-Poly1305 is not offered")
    return Open(payload[1], payload[2:34], payload[34:50], payload[50:])


@dataclass(frozen=True)
class Accept:
    cipher: int
    index: bytes
    ephemeral: bytes
    ciphertext: bytes = b""
    box: bytes = b""

    def without_box(self) -> bytes:
        return bytes([ACCEPT, self.cipher]) + self.index + self.ephemeral + self.ciphertext

    def build(self) -> bytes:
        return self.without_box() + self.box


def parse_accept(payload: bytes) -> Accept:
    if len(payload) not in (42 + 112, 42 + 1088 + 112) or payload[0] != ACCEPT:
        raise Broken("no ACCEPT")
    if payload[1] not in (AES, CHACHA):
        raise Broken("not one cipher")
    return Accept(payload[1], payload[2:10], payload[10:42], payload[42:-112], payload[-112:])


def build_cookie(cookie: bytes) -> bytes:
    return bytes([COOKIE]) + cookie


def parse_cookie(payload: bytes) -> bytes:
    if len(payload) != 17 or payload[0] != COOKIE:
        raise Broken("no COOKIE")
    return payload[1:]


def build_unknown(index: bytes) -> bytes:
    return bytes([UNKNOWN]) + index


def parse_unknown(payload: bytes) -> bytes:
    if len(payload) != 9 or payload[0] != UNKNOWN:
        raise Broken("no UNKNOWN")
    return payload[1:]


# Section 3: keys


@dataclass(frozen=True)
class Agreed:
    """What both sides know after OPEN and ACCEPT without its box."""

    opener: bytes
    accepter: bytes
    opener_index: bytes
    accepter_index: bytes
    cipher: int
    t: bytes
    prk: bytes

    def mac(self, role: str, transcript: bytes, identity_key: bytes) -> bytes:
        return hmac_sha256(hkdf_expand(self.prk, f"{role} mac".encode(), 32), transcript + identity_key)

    def signed(self, role: str, transcript: bytes, identity_key: bytes) -> bytes:
        return f"trio-relay session 1 {role}".encode() + transcript + self.mac(role, transcript, identity_key)

    def prove(self, role: str, transcript: bytes, seed: bytes) -> bytes:
        key = public_identity(seed)
        signature = sign(seed, self.signed(role, transcript, key))
        box_key = hkdf_expand(self.prk, f"{role} box".encode(), 32)
        return aead(self.cipher, box_key).encrypt(bytes(12), key + signature, transcript)

    def check(self, role: str, transcript: bytes, box: bytes) -> None:
        box_key = hkdf_expand(self.prk, f"{role} box".encode(), 32)
        proof = decrypt(self.cipher, box_key, bytes(12), box, transcript)
        key, signature = proof[:32], proof[32:]
        if id_of(key) != (self.opener if role == "opener" else self.accepter):
            raise Broken("the key of another id")
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(signature, self.signed(role, transcript, key))
        except InvalidSignature:
            raise Broken("wrong signature") from None


def agree(opener: bytes, accepter: bytes, index: bytes, opened: Open, accept: Accept, secret: bytes) -> Agreed:
    t = sha256(
        b"trio-relay session 1" + opener + accepter + index + opened.without_cookie() + accept.without_box(),
    )
    return Agreed(opener, accepter, index, accept.index, accept.cipher, t, hkdf_extract(t, secret))


@dataclass(frozen=True)
class Session:
    """Both sides of it: the keys do not depend on who asks."""

    agreed: Agreed
    accepter_box: bytes

    @property
    def t2(self) -> bytes:
        return sha256(self.agreed.t + self.accepter_box)

    def data_key(self, role: str) -> tuple[bytes, bytes]:
        """Key and iv of what the side seals."""
        output = hkdf_expand(self.agreed.prk, f"{role} data".encode() + self.t2, 44)
        return output[:32], output[32:]

    def nonce(self, role: str, counter: int) -> bytes:
        return (int.from_bytes(self.data_key(role)[1], "big") ^ counter).to_bytes(12, "big")

    def ends(self, role: str) -> tuple[bytes, bytes, bytes]:
        """The ids of sender and receiver, and the receiver's index, of a frame that the side seals."""
        if role == "opener":
            return self.agreed.opener, self.agreed.accepter, self.agreed.accepter_index
        return self.agreed.accepter, self.agreed.opener, self.agreed.opener_index

    def seal(self, role: str, header: bytes, counter: int, payload: bytes, box: bytes = b"") -> bytes:
        """A whole frame; the flags must be in its header of 56 bytes, and its length is set here."""
        start = self.ends(role)[2] + counter.to_bytes(8, "big") + box
        if counter >= MOST_FRAMES:
            raise Broken("too many frames")
        length = len(start) + len(payload) + 16
        header = header[:6] + length.to_bytes(2, "big") + header[8:HEADER]
        key = self.data_key(role)[0]
        sealed = aead(self.agreed.cipher, key).encrypt(self.nonce(role, counter), payload, header[3:] + start)
        return header + start + sealed

    def open(self, role: str, frame: bytes) -> tuple[int, bytes, bytes]:
        """Counter, box and payload of a frame that the side sealed."""
        header, body = frame[:HEADER], frame[HEADER:]
        source, to, index = self.ends(role)
        start = 16 + (112 if header[5] & OPENING else 0)
        if not header[5] & SEALED or header[4] >= 64 or len(body) < start + 16:
            raise Broken("no sealed frame")
        if (header[8:28], header[28:48], body[:8]) != (to, source, index):
            raise Broken("not of this session")
        counter = int.from_bytes(body[8:16], "big")
        key = self.data_key(role)[0]
        data = header[3:] + body[:start]
        payload = decrypt(self.agreed.cipher, key, self.nonce(role, counter), body[start:], data)
        return counter, body[16:start], payload

    def opener_box(self, seed: bytes) -> bytes:
        return self.agreed.prove("opener", self.t2, seed)

    def check_opener(self, box: bytes) -> None:
        self.agreed.check("opener", self.t2, box)


@dataclass(frozen=True)
class Opener:
    seed: bytes
    accepter: bytes
    index: bytes
    ephemeral: bytes
    ciphers: int
    kem_seed: bytes | None = None

    def open(self, cookie: bytes = NO_COOKIE) -> Open:
        kem_key = b"" if self.kem_seed is None else kem_public(self.kem_seed)
        return Open(self.ciphers, public_ephemeral(self.ephemeral), cookie, kem_key)

    def read(self, payload: bytes) -> Session:
        """What an ACCEPT of the accepter begins; its proof has been checked."""
        accept = parse_accept(payload)
        if not accept.cipher & self.ciphers:
            raise Broken("a cipher that was not offered")
        secret = x25519(self.ephemeral, accept.ephemeral)
        if accept.ciphertext:
            if self.kem_seed is None:
                raise Broken("a ciphertext without a KEM key")
            secret += kem_secret(self.kem_seed, accept.ciphertext)
        me = id_of(public_identity(self.seed))
        agreed = agree(me, self.accepter, self.index, self.open(), accept, secret)
        agreed.check("accepter", agreed.t, accept.box)
        return Session(agreed, accept.box)


@dataclass(frozen=True)
class Accepter:
    seed: bytes
    index: bytes
    ephemeral: bytes
    ciphers: int

    def accept(
        self, opener: bytes, index: bytes, payload: bytes, kem: tuple[bytes, bytes] = (b"", b"")
    ) -> tuple[bytes, Session]:
        """ACCEPT, and the half-open session; `kem` is what `encapsulate` gave for the key in OPEN, if it has one."""
        opened = parse_open(payload)
        secret, ciphertext = kem
        if opened.kem_key:
            check_kem_key(opened.kem_key)
        if ciphertext and not opened.kem_key:
            raise Broken("a ciphertext without a KEM key")
        cipher = AES if opened.ciphers & self.ciphers & AES else CHACHA
        accept = Accept(cipher, self.index, public_ephemeral(self.ephemeral), ciphertext)
        shared = x25519(self.ephemeral, opened.ephemeral) + secret
        agreed = agree(opener, id_of(public_identity(self.seed)), index, opened, accept, shared)
        box = agreed.prove("accepter", agreed.t, self.seed)
        return accept.without_box() + box, Session(agreed, box)
