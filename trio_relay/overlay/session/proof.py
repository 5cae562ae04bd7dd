"""Proofs of an identity inside a session: SIGMA's signature over a MAC, encrypted (sessions.md section 3); pure."""

from __future__ import annotations

import hmac
from typing import Final, Literal, TypeAlias

from cryptography.exceptions import InvalidTag

from ...exceptions import RemoteProtocolError
from ...wire.ids import NodeId, short
from ...wire.record import Sign, Verify, id_of_key
from .secrets import Keys, make_cipher

__all__ = ["Role", "WrongProof", "check", "prove"]

Role: TypeAlias = Literal[b"opener", b"accepter"]

_DOMAIN: Final = b"trio-relay session 1 "
_NONCE: Final = bytes(12)
"""The key of a box is used once."""


class WrongProof(RemoteProtocolError):
    """The box opened, so that it is from whoever agreed on these keys, and it proves nothing, or another id."""


def _mac(role: Role, keys: Keys, said: bytes, public_key: bytes) -> bytes:
    return hmac.digest(keys.derive(role + b" mac"), said + public_key, "sha256")


def prove(role: Role, keys: Keys, said: bytes, public_key: bytes, sign: Sign) -> bytes:
    """The box of one side: its identity key and its signature over `said`, the transcript so far."""
    signature = sign(_DOMAIN + role + said + _mac(role, keys, said, public_key))
    return make_cipher(keys.cipher, keys.derive(role + b" box")).encrypt(_NONCE, public_key + signature, said)


def check(role: Role, keys: Keys, said: bytes, box: bytes, expected: NodeId, verify: Verify) -> None:
    """Checks the other side's box: cheap checks first.

    Raises:
        RemoteProtocolError: it was not made with these keys.
        WrongProof: it was, but by somebody else than `expected`.
    """
    try:
        proof = make_cipher(keys.cipher, keys.derive(role + b" box")).decrypt(_NONCE, box, said)
    except InvalidTag:
        raise RemoteProtocolError("expected a proof made with the keys of this session") from None
    public_key, signature = proof[:32], proof[32:]
    if id_of_key(public_key) != expected:
        raise WrongProof(f"expected a proof of {short(expected)}, not of {short(id_of_key(public_key))}")
    if not verify(public_key, signature, _DOMAIN + role + said + _mac(role, keys, said, public_key)):
        raise WrongProof(f"expected a signature of {short(expected)} over this session")
