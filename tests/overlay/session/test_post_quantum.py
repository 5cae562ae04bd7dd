"""ML-KEM-768: its secret is in the keys, and nobody on the way can take it out, or put another one in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trio_relay.exceptions import RemoteProtocolError
from trio_relay.overlay.session.agreement import HalfOpen, Opening
from trio_relay.overlay.session.session import Session
from trio_relay.wire.frame import Flag, Kind, build_frame

from . import product, reference
from .attacker import (
    ALICE,
    ALICES_EPHEMERAL,
    ALICES_INDEX,
    BOB,
    BOBS_EPHEMERAL,
    KEM_SEED,
    alice_opens,
    bob_answers,
    refused_by_alice,
)
from .primitives import Broken, encapsulate, has_kem, kem_public, kem_secret, public_ephemeral, x25519
from .reference import agree, parse_accept, parse_open

pytestmark = pytest.mark.skipif(not has_kem(), reason="cryptography has no ML-KEM here")


def agreed_upon() -> tuple[Opening, HalfOpen]:
    opening = alice_opens(kem=True)
    half = bob_answers(opening.payload, kem=True)
    assert len(half.payload) == 42 + 1088 + 112
    return opening, half


def sealed_by_alice(session: Session) -> bytes:
    session.proof = b""
    flags, sealed = session.seal(Kind.DATA, 0, BOB.id, ALICE.id, b"message1", b"hello")
    return build_frame(Kind.DATA, BOB.id, ALICE.id, b"message1", sealed, flags=flags)


def test_both_have_the_same_keys() -> None:
    opening, half = agreed_upon()
    alice = product.accepted(opening, half.payload)
    bob = half.confirmed(alice.proof, 0.0)
    assert product.unseal(bob, BOB.id, sealed_by_alice(alice)) == (0, b"", b"hello")


def test_the_key_taken_out_of_the_offer() -> None:
    """Mallory takes the KEM key out of OPEN; Bob answers without ML-KEM, and Alice does not go on without it."""
    opening = alice_opens(kem=True)
    half = bob_answers(opening.payload[:50], kem=True)
    assert not parse_accept(half.payload).ciphertext
    refused_by_alice(opening, half.payload)


def test_the_key_replaced_by_another() -> None:
    """Mallory puts in a KEM key of her own, and so has the KEM secret; Alice refuses Bob's answer, and any other
    ciphertext in its place."""
    opening, own_seed = alice_opens(kem=True), b"\x55" * 64
    half = bob_answers(opening.payload[:50] + kem_public(own_seed), kem=True)
    accept = parse_accept(half.payload)
    assert len(kem_secret(own_seed, accept.ciphertext)) == 32
    refused_by_alice(opening, half.payload)
    refused_by_alice(opening, replace(accept, ciphertext=encapsulate(parse_open(opening.payload).kem_key)[1]).build())


def test_the_ciphertext_taken_out_or_replaced() -> None:
    """Mallory knows the secret of a ciphertext that she puts in Bob's answer; it is not the one that he signed for."""
    opening, half = agreed_upon()
    accept = parse_accept(half.payload)
    refused_by_alice(opening, replace(accept, ciphertext=b"").build())
    refused_by_alice(opening, replace(accept, ciphertext=encapsulate(parse_open(opening.payload).kem_key)[1]).build())
    refused_by_alice(opening, replace(accept, ciphertext=bytes(1088)).build())
    assert product.accepted(opening, half.payload).peer == BOB.id


def test_a_ciphertext_put_into_an_answer_without_one() -> None:
    """Bob can not do ML-KEM; Mallory lets it look as if he could."""
    opening = alice_opens(kem=True)
    accept = parse_accept(bob_answers(opening.payload, kem=False).payload)
    assert not accept.ciphertext
    refused_by_alice(opening, replace(accept, ciphertext=encapsulate(parse_open(opening.payload).kem_key)[1]).build())


def test_a_ciphertext_for_no_key() -> None:
    opening = alice_opens(kem=False)
    accept = parse_accept(bob_answers(opening.payload, kem=True).payload)
    with pytest.raises(RemoteProtocolError, match="no KEM key was offered"):
        product.accepted(opening, replace(accept, ciphertext=bytes(1088)).build())


def test_another_secret_is_another_key() -> None:
    """All else alike, down to the transcript: with another KEM secret Alice can not read even Bob's proof."""
    opening = alice_opens(kem=True)
    secret, ciphertext = encapsulate(parse_open(opening.payload).kem_key)
    with product.kem_of(secret, ciphertext):
        right = bob_answers(opening.payload, kem=True)
    with product.kem_of(bytes([secret[0] ^ 1]) + secret[1:], ciphertext):
        wrong = bob_answers(opening.payload, kem=True)
    assert right.payload[:-112] == wrong.payload[:-112]
    assert product.accepted(opening, right.payload).peer == BOB.id
    refused_by_alice(opening, wrong.payload)


@pytest.mark.parametrize("knows_kem_secret", [False, True])
def test_who_can_undo_x25519_reads_nothing_without_the_kem_secret(knows_kem_secret: bool) -> None:
    """Mallory recorded everything, and years later computes the X25519 secret. It is not enough; with the KEM secret,
    which she has only in the control, it would be."""
    opening, half = agreed_upon()
    alice = product.accepted(opening, half.payload)
    frame = sealed_by_alice(alice)
    opened, accept = parse_open(opening.payload), parse_accept(half.payload)
    secret = x25519(BOBS_EPHEMERAL, public_ephemeral(ALICES_EPHEMERAL))
    if knows_kem_secret:
        secret += kem_secret(KEM_SEED, accept.ciphertext)
    recorded = reference.Session(agree(ALICE.id, BOB.id, ALICES_INDEX, opened, accept, secret), accept.box)
    assert frame[5] == Flag.SEALED
    if knows_kem_secret:
        assert recorded.open("opener", frame) == (0, b"", b"hello")
    else:
        with pytest.raises(Broken):
            recorded.open("opener", frame)


def test_who_can_undo_ml_kem_reads_nothing_without_the_x25519_secret() -> None:
    opening, half = agreed_upon()
    frame = sealed_by_alice(product.accepted(opening, half.payload))
    opened, accept = parse_open(opening.payload), parse_accept(half.payload)
    known = kem_secret(KEM_SEED, accept.ciphertext)
    for secret in (known, bytes(32) + known):
        recorded = reference.Session(agree(ALICE.id, BOB.id, ALICES_INDEX, opened, accept, secret), accept.box)
        with pytest.raises(Broken):
            recorded.open("opener", frame)


def test_every_opening_has_a_kem_key_of_its_own() -> None:
    """The seed is part of what an opening takes of the node's randomness."""
    keys = {
        Opening(product.make_self(b"\1" * 32, 3, kem=True), BOB.id, ALICES_INDEX, bytes(32) + seed).message.kem_key
        for seed in (KEM_SEED, KEM_SEED[::-1])
    }
    assert keys == {kem_public(KEM_SEED), kem_public(KEM_SEED[::-1])}
