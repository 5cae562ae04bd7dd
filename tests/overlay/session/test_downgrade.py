"""Nobody makes two nodes use less than both can do, or keys that somebody else knows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trio_relay.exceptions import RemoteProtocolError
from trio_relay.overlay.session.agreement import Opening

from . import product, reference
from .attacker import (
    ALICE,
    ALICES_EPHEMERAL,
    ALICES_INDEX,
    KEM_SEED,
    MALLORY,
    MALLORYS_EPHEMERAL,
    MALLORYS_INDEX,
    MALLORYS_SEED,
    alice_opens,
    bob_answers,
    mallorys_opener,
    refused_by_alice,
    self_of,
)
from .primitives import AES, CHACHA, public_ephemeral, x25519
from .reference import Accept, parse_accept, parse_open
from .vectors import small_order


def test_ciphers_taken_out_of_the_offer() -> None:
    """Mallory takes AES-256-GCM out of OPEN, so that Bob takes the other one; Alice refuses his answer."""
    opening = alice_opens()
    opened = replace(parse_open(opening.payload), ciphers=int(CHACHA)).build()
    half = bob_answers(opened)
    assert half.payload[1] == CHACHA
    refused_by_alice(opening, half.payload)
    for cipher in (AES, CHACHA):
        refused_by_alice(opening, replace(parse_accept(half.payload), cipher=cipher).build())


def test_the_cipher_changed_in_the_answer() -> None:
    opening = alice_opens()
    accept = bob_answers(opening.payload).payload
    assert accept[1] == AES
    refused_by_alice(opening, replace(parse_accept(accept), cipher=CHACHA).build())


@pytest.mark.parametrize("cookie", [b"\xff" * 16, b"1234567890123456"])
def test_a_changed_cookie_does_not_matter(cookie: bytes) -> None:
    """It is for whoever answers OPEN, and in nobody's transcript: Mallory can change it, and changes nothing."""
    opening = alice_opens()
    shown = opening.payload[:34] + cookie + opening.payload[50:]
    half = bob_answers(shown)
    session = product.accepted(opening, half.payload)
    assert half.confirmed(session.proof, 0.0).peer == ALICE.id
    # Alice's cookie may also change between OPEN and the answer to it.
    opening.show(cookie)
    assert product.accepted(opening, half.payload).proof == session.proof


@pytest.mark.parametrize("cipher", [AES, CHACHA])
def test_a_cipher_that_was_not_offered(cipher: int) -> None:
    """Mallory accepts in her own name, with a right proof, and takes a cipher that is slow for Alice."""
    own = self_of(ALICE, ciphers=CHACHA)
    opening = Opening(own, MALLORY.id, ALICES_INDEX, ALICES_EPHEMERAL + KEM_SEED)
    said = Accept(cipher, MALLORYS_INDEX, public_ephemeral(MALLORYS_EPHEMERAL))
    opened = parse_open(opening.payload)
    secret = x25519(MALLORYS_EPHEMERAL, opened.ephemeral)
    agreed = reference.agree(ALICE.id, MALLORY.id, ALICES_INDEX, opened, said, secret)
    accept = said.without_box() + agreed.prove("accepter", agreed.t, MALLORYS_SEED)
    if cipher == CHACHA:
        assert product.accepted(opening, accept).peer == MALLORY.id
    else:
        with pytest.raises(RemoteProtocolError, match="of those offered"):
            product.accepted(opening, accept)


# A right proof for wrong keys


@pytest.mark.parametrize(("name", "key"), small_order())
def test_an_accepter_can_not_force_a_known_secret(name: str, key: bytes) -> None:
    """Mallory answers, in her own name and with a right proof, with an X25519 key that gives zeros with every other."""
    opening = alice_opens(MALLORY)
    said = reference.Accept(AES, MALLORYS_INDEX, key)
    agreed = reference.agree(ALICE.id, MALLORY.id, ALICES_INDEX, parse_open(opening.payload), said, bytes(32))
    with pytest.raises(RemoteProtocolError, match="small order"):
        product.accepted(opening, said.without_box() + agreed.prove("accepter", agreed.t, MALLORYS_SEED))


@pytest.mark.parametrize(("name", "key"), small_order())
def test_an_opener_can_not_force_a_known_secret(name: str, key: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="small order"):
        bob_answers(replace(mallorys_opener().open(), ephemeral=key).build(), claimed=MALLORY.id)
