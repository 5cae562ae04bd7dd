"""Sessions alone: handshakes a second, and what sealing and opening one frame costs; pure, on one core."""

from __future__ import annotations

import os
import time
from functools import partial
from typing import Final

from trio_relay.identity import Identity, verify
from trio_relay.overlay.session.agreement import HalfOpen, Opening, Self
from trio_relay.overlay.session.secrets import ENTROPY
from trio_relay.overlay.session.session import MOST_FRAMES, Session
from trio_relay.wire.frame import HEADER_LENGTH, Kind
from trio_relay.wire.session import Accept, Cipher, Open, parse_session_message_untrusted

from .report import Case, Options, Report, Sample, measure

__all__ = ["run"]

_BATCH: Final = 256
_MESSAGE_ID: Final = bytes(8)
_CIPHERS: Final = {"AES-256-GCM": Cipher.AES_256_GCM, "ChaCha20-Poly1305": Cipher.CHACHA20_POLY1305}


def run(report: Report, options: Options) -> None:
    """Handshakes with and without ML-KEM-768, then frames by cipher and payload size."""
    kems = {"X25519": False, "X25519 and ML-KEM-768": True}
    cases = [Case(name, partial(_handshakes, kem, options.seconds)) for name, kem in kems.items()]
    report.table("handshake", measure(cases, options.repeat))
    cases = [
        Case(f"{name}, {size:,} B", partial(_frames, cipher, size, options.seconds))
        for name, cipher in _CIPHERS.items()
        for size in options.sizes
    ]
    report.table("seal and open", measure(cases, options.repeat))


class _Pair:
    """Two ids that open sessions with each other, and the time that each has spent on it."""

    def __init__(self, *, kem: bool, ciphers: int = Cipher.AES_256_GCM | Cipher.CHACHA20_POLY1305) -> None:
        self._opener, self._accepter = (
            Self(own.id, own.public_key, own.sign, verify, ciphers, kem)
            for own in (Identity.generate(), Identity.generate())
        )
        self.opener_seconds = self.accepter_seconds = 0.0
        self.bytes = 0

    def open(self) -> tuple[Session, Session]:
        """The opener's session and the accepter's."""
        own, peer = self._opener, self._accepter
        start = time.thread_time()
        opening = Opening(own, peer.id, os.urandom(8), os.urandom(ENTROPY))
        opened = time.thread_time()
        message = parse_session_message_untrusted(opening.payload)
        assert isinstance(message, Open)
        half = HalfOpen.answer(peer, own.id, opening.index, message, os.urandom(8), os.urandom(ENTROPY), 0.0)
        answered = time.thread_time()
        answer = parse_session_message_untrusted(half.payload)
        assert isinstance(answer, Accept)
        session = opening.accepted(answer, 0.0)
        accepted = time.thread_time()
        confirmed = half.confirmed(session.proof, 0.0)
        end = time.thread_time()
        self.opener_seconds += opened - start + accepted - answered
        self.accepter_seconds += answered - opened + end - accepted
        self.bytes = 3 * HEADER_LENGTH + len(opening.payload) + len(half.payload) + len(session.proof)
        return session, confirmed


def _handshakes(kem: bool, seconds: float) -> Sample:
    pair, count = _Pair(kem=kem), 0
    while (spent := pair.opener_seconds + pair.accepter_seconds) < seconds:
        pair.open()
        count += 1
    values = {
        "handshakes/s": count / spent,
        "opener us": pair.opener_seconds / count * 1e6,
        "accepter us": pair.accepter_seconds / count * 1e6,
        "bytes": float(pair.bytes),
    }
    return Sample(values, count, 0)


def _frames(cipher: int, size: int, seconds: float) -> Sample:
    """Payloads are sealed by one side and opened by the other; every counter is used once, as in real life."""
    pair = _Pair(kem=False, ciphers=cipher | Cipher.CHACHA20_POLY1305)
    payload = os.urandom(size)
    count, sealing, opening, broken = 0, 0.0, 0.0, 0
    sender, receiver = pair.open()
    while sealing + opening < seconds:
        if sender.sealed + _BATCH > MOST_FRAMES:
            sender, receiver = pair.open()
        sender.proof = b""
        start = time.thread_time()
        sealed = [_seal(sender, receiver, payload) for _ in range(_BATCH)]
        between = time.thread_time()
        opened = [_open(sender, receiver, *frame) for frame in sealed]
        sealing, opening = sealing + between - start, opening + time.thread_time() - between
        broken += sum(plain != payload for plain in opened)
        count += _BATCH
    values = {
        "frames/s": count / (sealing + opening),
        "seal us": sealing / count * 1e6,
        "open us": opening / count * 1e6,
        "MB/s": count * size / (sealing + opening) / 1e6,
    }
    return Sample(values, count, broken)


def _seal(sender: Session, receiver: Session, payload: bytes) -> tuple[int, bytes]:
    return sender.seal(Kind.DATA, 0, sender.peer, receiver.peer, _MESSAGE_ID, payload)


def _open(sender: Session, receiver: Session, flags: int, sealed: bytes) -> bytes | None:
    return receiver.unseal(Kind.DATA, flags, sender.peer, receiver.peer, _MESSAGE_ID, sealed)[0]
