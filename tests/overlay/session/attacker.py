"""Mallory: a key of her own, every primitive of the reference, and the network. No key of anybody else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import pytest

from trio_relay import Identity
from trio_relay.exceptions import RemoteProtocolError
from trio_relay.identity import verify
from trio_relay.overlay.session.agreement import HalfOpen, Opening, Self
from trio_relay.wire.session import Cipher

from . import product, reference
from .primitives import AES, CHACHA, decrypt, hkdf_expand, public_ephemeral, sign, x25519
from .reference import Accept, Accepter, Agreed, Opener, agree, parse_open
from .vectors import forged_box

ALICE, BOB, MALLORY = (Identity.from_seed(bytes([number]) * 32) for number in (1, 2, 3))
MALLORYS_SEED: Final = b"\3" * 32
ALICES_INDEX, BOBS_INDEX, MALLORYS_INDEX = (letter * 8 for letter in (b"a", b"b", b"m"))
ALICES_EPHEMERAL, BOBS_EPHEMERAL, MALLORYS_EPHEMERAL = (bytes([number]) * 32 for number in (11, 12, 13))
KEM_SEED: Final = bytes(range(64))
BOTH: Final = AES | CHACHA

Forge: TypeAlias = Callable[[Agreed, str, bytes], bytes]
"""What keys are agreed upon, the role to play, and the transcript: the box with which she tries."""


def self_of(identity: Identity, *, ciphers: int = BOTH, kem: bool = False) -> Self:
    """An honest node."""
    return Self(identity.id, identity.public_key, identity.sign, verify, Cipher(ciphers), kem)


def alice_opens(to: Identity = BOB, *, kem: bool = False) -> Opening:
    return Opening(self_of(ALICE, kem=kem), to.id, ALICES_INDEX, ALICES_EPHEMERAL + KEM_SEED)


def bob_answers(
    opened: bytes, *, claimed: bytes = ALICE.id, index: bytes = ALICES_INDEX, kem: bool = False
) -> HalfOpen:
    return product.answer(self_of(BOB, kem=kem), claimed, index, opened, BOBS_INDEX, BOBS_EPHEMERAL)


def refused_by_alice(opening: Opening, accept: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        product.accepted(opening, accept)


# Mallory's part


def pose_as_accepter(opening: Opening, forge: Forge, *, accepter: bytes = BOB.id) -> bytes:
    """She answers Alice's OPEN with an ephemeral key of her own, so that she knows every key but Bob's identity."""
    opened = parse_open(opening.payload)
    said = Accept(opened.ciphers & AES or CHACHA, MALLORYS_INDEX, public_ephemeral(MALLORYS_EPHEMERAL))
    secret = x25519(MALLORYS_EPHEMERAL, opened.ephemeral)
    agreed = agree(ALICE.id, accepter, opening.index, opened, said, secret)
    return said.without_box() + forge(agreed, "accepter", agreed.t)


def mallorys_opener(accepter: bytes = BOB.id, index: bytes = MALLORYS_INDEX) -> Opener:
    return Opener(MALLORYS_SEED, accepter, index, MALLORYS_EPHEMERAL, BOTH)


def pose_as_opener(claimed: bytes, forge: Forge, index: bytes = MALLORYS_INDEX) -> tuple[HalfOpen, bytes, Agreed]:
    """She opens with Bob in the name of `claimed`: his half-open session, the box with which she tries, the keys."""
    opened = mallorys_opener(index=index).open()
    half = bob_answers(opened.build(), claimed=claimed, index=index)
    answer = reference.parse_accept(half.payload)
    agreed = agree(claimed, BOB.id, index, opened, answer, x25519(MALLORYS_EPHEMERAL, answer.ephemeral))
    t2 = reference.Session(agreed, answer.box).t2
    return half, forge(agreed, "opener", t2), agreed


def proven_with(key: bytes, signature: bytes) -> Forge:
    """A box with that key and signature."""
    return lambda agreed, role, transcript: forged_box(agreed, role, transcript, key, signature)


def signed_by_mallory(key: bytes, key_in_mac: bytes) -> Forge:
    """A box with one key, signed with hers over a MAC with either; all else as it should be."""

    def forge(agreed: Agreed, role: str, transcript: bytes) -> bytes:
        signature = sign(MALLORYS_SEED, agreed.signed(role, transcript, key_in_mac))
        return forged_box(agreed, role, transcript, key, signature)

    return forge


def read_box(agreed: Agreed, role: str, transcript: bytes, box: bytes) -> tuple[bytes, bytes]:
    """Identity key and signature in somebody's box, for who knows the keys."""
    proof = decrypt(agreed.cipher, hkdf_expand(agreed.prk, f"{role} box".encode(), 32), bytes(12), box, transcript)
    return proof[:32], proof[32:]


def bobs_signature_as_accepter(index: bytes = MALLORYS_INDEX, claimed: bytes = MALLORY.id) -> bytes:
    """What Bob signs for anybody who opens with him; Mallory reads it, as the box is for her keys."""
    half, _, agreed = pose_as_opener(claimed, lambda *_: b"", index)
    key, signature = read_box(agreed, "accepter", agreed.t, half.payload[-112:])
    assert key == BOB.public_key
    return signature


def alices_proof_to_mallory() -> tuple[Agreed, bytes, bytes]:
    """Alice opens with Mallory, who is who she says: keys, transcript and signature of Alice's proof."""
    opening = alice_opens(MALLORY)
    accepter = Accepter(MALLORYS_SEED, MALLORYS_INDEX, MALLORYS_EPHEMERAL, BOTH)
    accept, session = accepter.accept(ALICE.id, ALICES_INDEX, opening.payload)
    key, signature = read_box(session.agreed, "opener", session.t2, product.accepted(opening, accept).proof)
    assert key == ALICE.public_key
    return session.agreed, session.t2, signature
