"""One identity key signs sessions, links and records: none of these signatures is good for another purpose."""

from __future__ import annotations

from itertools import permutations

import pytest

from trio_relay.exceptions import RemoteProtocolError
from trio_relay.identity import verify
from trio_relay.overlay.handshake import Refused
from trio_relay.overlay.session.agreement import Opening, Self
from trio_relay.overlay.session.proof import WrongProof
from trio_relay.wire import hello
from trio_relay.wire.hello import Field, Reply
from trio_relay.wire.record import build_record, parse_record_untrusted

from ..test_handshake import RECORDS, acceptor_of, dialler_of
from . import product
from .attacker import (
    ALICE,
    ALICES_EPHEMERAL,
    ALICES_INDEX,
    BOB,
    BOTH,
    KEM_SEED,
    MALLORY,
    alice_opens,
    alices_proof_to_mallory,
    bobs_signature_as_accepter,
    pose_as_accepter,
    pose_as_opener,
    proven_with,
)


def link_signatures() -> tuple[bytes, bytes]:
    """What Alice signs as the dialler of a link, and Bob as its acceptor."""
    acceptor, dialler = acceptor_of(BOB), dialler_of(ALICE)
    reply = dialler.receive_hello(acceptor.greet())
    proof, _ = acceptor.receive(reply)
    dialler.receive_proof(proof)
    return reply[-64:], proof[-64:]


def test_a_signature_for_a_link_or_a_record_is_no_proof_of_the_accepter() -> None:
    """Mallory answers Alice's OPEN in Bob's name, with everything else that Bob ever signs."""
    for signature in (link_signatures()[1], RECORDS[BOB.id].raw[-64:]):
        opening = alice_opens()
        with pytest.raises(WrongProof, match="signature"):
            product.accepted(opening, pose_as_accepter(opening, proven_with(BOB.public_key, signature)))


def test_a_signature_for_a_link_or_a_record_is_no_proof_of_the_opener() -> None:
    """Mallory opens with Bob in Alice's name, with everything else that Alice ever signs."""
    for signature in (link_signatures()[0], RECORDS[ALICE.id].raw[-64:]):
        half, box, _ = pose_as_opener(ALICE.id, proven_with(ALICE.public_key, signature))
        with pytest.raises(WrongProof, match="signature"):
            half.confirmed(box, 0.0)


def test_a_proof_of_a_session_does_not_dial_a_link() -> None:
    """Alice opens a session with Mallory, who dials Bob in Alice's name with her signature."""
    _, _, signature = alices_proof_to_mallory()
    acceptor = acceptor_of(BOB)
    acceptor.greet()
    unsigned = Reply(1, b"n" * 32, ALICE.public_key, {Field.RECORD: RECORDS[ALICE.id].raw}).to_bytes()
    with pytest.raises(Refused, match="signature"):
        acceptor.receive(unsigned + signature)


def test_a_proof_of_a_session_does_not_accept_a_link() -> None:
    """Mallory opens a session with Bob, and accepts a link in his name with his signature."""
    signature = bobs_signature_as_accepter()
    dialler = dialler_of(ALICE)
    dialler.receive_hello(hello.Hello(b"n" * 32, BOB.public_key).to_bytes())
    proof = hello.Proof({Field.RECORD: RECORDS[BOB.id].raw}).to_bytes()
    with pytest.raises(Refused, match="signature"):
        dialler.receive_proof(proof + signature)


def test_a_proof_of_a_session_signs_no_record() -> None:
    """Mallory sends Bob's peers to herself."""
    signature = bobs_signature_as_accepter()
    forged = build_record(
        BOB.public_key, lambda _: signature, sequence=2, expiry=2**40, urls=["ws://mallory.example:1"], roles=1
    )
    with pytest.raises(RemoteProtocolError, match="wrong signature"):
        parse_record_untrusted(forged.raw, verify)


def test_what_is_signed_for_one_purpose_never_begins_like_another() -> None:
    """So whatever Mallory gets signed for one purpose, by her choice of nonces, names or addresses, it is of no use for
    another. The strings are those that the package signs."""
    signed: list[bytes] = []

    def sign(data: bytes) -> bytes:
        signed.append(data)
        return ALICE.sign(data)

    own = Self(ALICE.id, ALICE.public_key, sign, verify, BOTH, False)
    opening = Opening(own, MALLORY.id, ALICES_INDEX, ALICES_EPHEMERAL + KEM_SEED)
    mallory = product.make_self(b"\3" * 32, BOTH)
    half = product.answer(mallory, ALICE.id, ALICES_INDEX, opening.payload, b"m" * 8, b"\4" * 32)
    product.accepted(opening, half.payload)
    product.answer(own, MALLORY.id, ALICES_INDEX, opening.payload, b"a" * 8, b"\4" * 32)
    build_record(ALICE.public_key, sign, sequence=1, expiry=1)
    dialler, acceptor = dialler_of(ALICE), acceptor_of(ALICE)
    dialler.sign = acceptor.sign = sign
    dialler.receive_hello(acceptor_of(BOB).greet())
    acceptor.receive(dialler_of(MALLORY, expected=ALICE.id).receive_hello(acceptor.greet()))

    begins = [
        b"trio-relay session 1 opener",
        b"trio-relay session 1 accepter",
        b"trio-relay record 1\0",
        b"trio-relay link 1\0dialler\0",
        b"trio-relay link 1\0acceptor\0",
    ]
    assert len(signed) == len(begins)
    for data, begin in zip(signed, begins, strict=True):
        assert data.startswith(begin)
    assert [len(data) - len(begin) for data, begin in zip(signed[:2], begins[:2], strict=True)] == [64, 64]
    for one, other in permutations(begins, 2):
        assert not one.startswith(other)
