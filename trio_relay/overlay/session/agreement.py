"""Both ends of the key agreement of a session, without time and tables (sessions.md sections 2 and 3); pure.

The opener: `Opening`, its `message`, then `accepted` with the answer. The accepter: `HalfOpen.answer` with the opener's
message, its `payload`, then `confirmed` with the opener's proof.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Final

from ...exceptions import RemoteProtocolError
from ...wire.ids import NodeId
from ...wire.record import Sign, Verify
from ...wire.session import Accept, Cipher, Open, build_accept, build_open
from .proof import check, prove
from .secrets import Ephemeral, Keys, agree, encapsulate, transcript
from .session import Session

__all__ = ["HalfOpen", "Opening", "Self"]


@dataclass(frozen=True, slots=True)
class Self:
    """We, as far as an agreement needs us."""

    id: NodeId
    public_key: bytes
    sign: Sign
    verify: Verify
    ciphers: int
    kem: bool


class Opening:
    """The opener's end.

    Attributes:
        index: our name for the session, and the message id of OPEN.
        message: OPEN.
    """

    def __init__(self, own: Self, peer: NodeId, index: bytes, entropy: bytes) -> None:
        self.peer: Final = peer
        self.index: Final = index
        self._own: Final = own
        self._ephemeral: Final = Ephemeral(entropy, kem=own.kem)
        self.message = Open(own.ciphers, self._ephemeral.public, self._ephemeral.kem_key)

    def show(self, cookie: bytes) -> None:
        """Puts a cookie into OPEN."""
        self.message = replace(self.message, cookie=cookie)

    @property
    def payload(self) -> bytes:
        """OPEN."""
        return build_open(self.message)

    def accepted(self, answer: Accept, now: float) -> Session:
        """The session, once the accepter has proven its id.

        Raises:
            RemoteProtocolError: the answer is not from the peer, or not to our message.
        """
        own = self._own
        if not answer.cipher & own.ciphers:
            raise RemoteProtocolError(f"expected a cipher of those offered, not {answer.cipher:#04x}")
        said = transcript(own.id, self.peer, self.index, self.message, answer)
        secret = self._ephemeral.agree(answer.ephemeral) + self._ephemeral.decapsulate(answer.kem_ciphertext)
        keys = agree(answer.cipher, said, secret)
        check(b"accepter", keys, said, answer.box, self.peer, own.verify)
        said = hashlib.sha256(said + answer.box).digest()
        proof = prove(b"opener", keys, said, own.public_key, own.sign)
        return Session(own.id, self.peer, self.index, answer.index, keys, said, proof, now)


@dataclass(frozen=True, slots=True)
class HalfOpen:
    """The accepter's end, between its answer and the opener's proof.

    Attributes:
        opener: who says that it opens.
        opener_index: its name for the session.
        message: OPEN without its cookie: the same again gets the same answer.
        made: when it was answered.
        index: our name for the session.
        payload: ACCEPT.
    """

    opener: NodeId
    opener_index: bytes
    message: Open
    index: bytes
    payload: bytes
    made: float
    _own: Self = field(repr=False)
    _keys: Keys = field(repr=False)
    _said: bytes = field(repr=False)

    @classmethod
    def answer(
        cls, own: Self, opener: NodeId, opener_index: bytes, message: Open, index: bytes, entropy: bytes, now: float
    ) -> HalfOpen:
        """Answers OPEN: one Diffie-Hellman, one signature.

        Raises:
            RemoteProtocolError: a key in it is none.
        """
        both = message.ciphers & own.ciphers
        cipher = Cipher.AES_256_GCM if both & Cipher.AES_256_GCM else Cipher.CHACHA20_POLY1305
        ephemeral = Ephemeral(entropy, kem=False)
        secret = ephemeral.agree(message.ephemeral)
        kem_secret, ciphertext = encapsulate(message.kem_key) if own.kem and message.kem_key else (b"", b"")
        unproven = Accept(cipher, index, ephemeral.public, ciphertext, b"")
        said = transcript(opener, own.id, opener_index, message, unproven)
        keys = agree(cipher, said, secret + kem_secret)
        box = prove(b"accepter", keys, said, own.public_key, own.sign)
        payload = build_accept(unproven) + box
        said = hashlib.sha256(said + box).digest()
        return cls(opener, opener_index, message.without_cookie(), index, payload, now, own, keys, said)

    def confirmed(self, box: bytes, now: float) -> Session:
        """The session, once the opener has proven its id.

        Raises:
            RemoteProtocolError: the proof is not for this session.
            WrongProof: it is, but not the opener's.
        """
        check(b"opener", self._keys, self._said, box, self.opener, self._own.verify)
        own, keys = self._own, self._keys
        session = Session(own.id, self.opener, self.index, self.opener_index, keys, self._said, b"", now)
        session.born = self.made
        return session
