"""Who has a key of her own and the network, but not the victim's key, gets no session in the victim's name.

Each attack is carried out with real primitives as far as it goes; `attacker.py` has Mallory's means.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from trio_relay import Identity
from trio_relay.exceptions import RemoteProtocolError
from trio_relay.overlay.session.agreement import Opening
from trio_relay.overlay.session.proof import WrongProof
from trio_relay.wire.frame import Flag, Kind, build_frame

from . import product, reference
from .attacker import (
    ALICE,
    ALICES_EPHEMERAL,
    ALICES_INDEX,
    BOB,
    BOBS_EPHEMERAL,
    BOBS_INDEX,
    BOTH,
    KEM_SEED,
    MALLORY,
    MALLORYS_EPHEMERAL,
    MALLORYS_INDEX,
    MALLORYS_SEED,
    Forge,
    alice_opens,
    alices_proof_to_mallory,
    bob_answers,
    bobs_signature_as_accepter,
    pose_as_accepter,
    pose_as_opener,
    proven_with,
    read_box,
    refused_by_alice,
    self_of,
    signed_by_mallory,
)
from .primitives import Broken, public_ephemeral, sign, x25519
from .reference import Accepter, Agreed, Session, parse_accept, parse_open
from .vectors import forged_box


def test_without_an_attack_there_is_a_session() -> None:
    """That the attacks fail says something only if the same steps succeed for who has the key."""
    opening = alice_opens()
    half = bob_answers(opening.payload)
    assert half.confirmed(product.accepted(opening, half.payload).proof, 0.0).peer == ALICE.id
    as_herself, box, _ = pose_as_opener(MALLORY.id, signed_by_mallory(MALLORY.public_key, MALLORY.public_key))
    assert as_herself.confirmed(box, 0.0).peer == MALLORY.id
    opening = alice_opens(MALLORY)
    forge = signed_by_mallory(MALLORY.public_key, MALLORY.public_key)
    assert product.accepted(opening, pose_as_accepter(opening, forge, accepter=MALLORY.id)).peer == MALLORY.id


# Impersonation and identity misbinding


def lifted(agreed: Agreed, role: str, transcript: bytes) -> bytes:
    """Bob's key, and what he signed for Mallory."""
    return forged_box(agreed, role, transcript, BOB.public_key, bobs_signature_as_accepter())


def lifted_with_the_victims_index(agreed: Agreed, role: str, transcript: bytes) -> bytes:
    """The same, from a session that Mallory opened in Alice's name and with Alice's index."""
    signature = bobs_signature_as_accepter(ALICES_INDEX, ALICE.id)
    return forged_box(agreed, role, transcript, BOB.public_key, signature)


AS_BOB: list[tuple[str, Forge]] = [
    ("her own proof", signed_by_mallory(MALLORY.public_key, MALLORY.public_key)),
    ("his key, her signature over a MAC with his", signed_by_mallory(BOB.public_key, BOB.public_key)),
    ("his key, her signature over a MAC with hers", signed_by_mallory(BOB.public_key, MALLORY.public_key)),
    ("her key, her signature over a MAC with his", signed_by_mallory(MALLORY.public_key, BOB.public_key)),
    ("his key, no signature", proven_with(BOB.public_key, bytes(64))),
    ("a key with which anything is signed", proven_with(b"\1" + bytes(31), b"\1" + bytes(63))),
    ("his signature from a session with her", lifted),
    ("his signature from a session in Alice's name", lifted_with_the_victims_index),
]


@pytest.mark.parametrize(("name", "forge"), AS_BOB, ids=[name for name, _ in AS_BOB])
def test_posing_as_the_accepter(name: str, forge: Forge) -> None:
    """Mallory, in the middle, answers Alice's OPEN in Bob's name; she has every key of the session but Bob's own."""
    opening = alice_opens()
    accept = pose_as_accepter(opening, forge)
    with pytest.raises(WrongProof):
        product.accepted(opening, accept)
    # Bob's own answer still opens the session.
    assert product.accepted(opening, bob_answers(opening.payload).payload).peer == BOB.id


def alices_signature_for_mallory(agreed: Agreed, role: str, transcript: bytes) -> bytes:
    return forged_box(agreed, role, transcript, ALICE.public_key, alices_proof_to_mallory()[2])


AS_ALICE: list[tuple[str, Forge]] = [
    ("her own proof", signed_by_mallory(MALLORY.public_key, MALLORY.public_key)),
    ("Alice's key, Mallory's signature over a MAC with it", signed_by_mallory(ALICE.public_key, ALICE.public_key)),
    ("Alice's key, Mallory's signature over a MAC with hers", signed_by_mallory(ALICE.public_key, MALLORY.public_key)),
    ("Mallory's key, her signature over a MAC with Alice's", signed_by_mallory(MALLORY.public_key, ALICE.public_key)),
    ("Alice's key, no signature", proven_with(ALICE.public_key, bytes(64))),
    ("a key with which anything is signed", proven_with(b"\1" + bytes(31), b"\1" + bytes(63))),
    ("Alice's signature from a session with Mallory", alices_signature_for_mallory),
]


@pytest.mark.parametrize(("name", "forge"), AS_ALICE, ids=[name for name, _ in AS_ALICE])
def test_posing_as_the_opener(name: str, forge: Forge) -> None:
    """Mallory opens with Bob in Alice's name, with ephemeral keys of her own."""
    half, box, _ = pose_as_opener(ALICE.id, forge)
    with pytest.raises(WrongProof):
        half.confirmed(box, 0.0)


def test_a_victims_box_is_of_no_use_as_it_is() -> None:
    """Mallory repeats, in a session that she opens in Alice's name, a box that Alice made for Bob in another."""
    opening = alice_opens()
    box = product.accepted(opening, bob_answers(opening.payload).payload).proof
    half, _, _ = pose_as_opener(ALICE.id, lambda *_: b"")
    with pytest.raises(RemoteProtocolError) as caught:
        half.confirmed(box, 0.0)
    # It does not even open, so that the half-open session stays.
    assert not isinstance(caught.value, WrongProof)


def test_a_box_of_bob_is_of_no_use_in_another_session() -> None:
    """Mallory repeats an old ACCEPT of Bob to Alice, whole, or only its box."""
    old = bob_answers(alice_opens().payload).payload
    opening = Opening(self_of(ALICE), BOB.id, ALICES_INDEX, b"\x21" * 32 + KEM_SEED)
    refused_by_alice(opening, old)
    refused_by_alice(opening, pose_as_accepter(opening, lambda *_: old[-112:]))
    now = product.answer(self_of(BOB), ALICE.id, ALICES_INDEX, opening.payload, b"c" * 8, b"\x22" * 32).payload
    refused_by_alice(opening, now[:-112] + old[-112:])
    assert product.accepted(opening, now).peer == BOB.id


def test_the_swapped_proof_of_who_forwards_everything() -> None:
    """Mallory forwards both messages, and replaces Bob's box by hers: the keys are not hers, so she can only guess."""
    opening = alice_opens()
    half = bob_answers(opening.payload)
    said = replace(parse_accept(half.payload), box=b"")
    guess = reference.agree(ALICE.id, BOB.id, ALICES_INDEX, parse_open(opening.payload), said, bytes(32))
    for seed in (MALLORYS_SEED, b"\1" * 32):
        refused_by_alice(opening, said.without_box() + guess.prove("accepter", guess.t, seed))


# Unknown key share


def test_unknown_key_share_with_alice_as_opener() -> None:
    """Alice is to believe that she talks to Bob, Bob that he talks to Mallory, with the same keys: Mallory puts her id
    into `from` of Alice's OPEN, and sends Bob's answer back."""
    opening = alice_opens()
    half = bob_answers(opening.payload, claimed=MALLORY.id)
    assert half.opener == MALLORY.id
    refused_by_alice(opening, half.payload)
    # Nor can she prove herself to Bob, for the keys are Alice's.
    agreed = reference.agree(
        MALLORY.id, BOB.id, ALICES_INDEX, parse_open(opening.payload), parse_accept(half.payload), bytes(32)
    )
    t2 = Session(agreed, half.payload[-112:]).t2
    with pytest.raises(RemoteProtocolError):
        half.confirmed(agreed.prove("opener", t2, MALLORYS_SEED), 0.0)


def test_unknown_key_share_with_alice_as_accepter() -> None:
    """Alice opens with Mallory, knowingly; Bob is to believe that Alice opened with him: Mallory passes Alice's OPEN
    on in Alice's name, and Bob's answer back as hers."""
    opening = alice_opens(MALLORY)
    half = bob_answers(opening.payload, claimed=ALICE.id)
    refused_by_alice(opening, half.payload)
    # With a proof of her own in place of Bob's there is no session either: its keys are Alice's and Bob's.
    guess = reference.agree(
        ALICE.id, MALLORY.id, ALICES_INDEX, parse_open(opening.payload), parse_accept(half.payload), bytes(32)
    )
    refused_by_alice(opening, half.payload[:-112] + guess.prove("accepter", guess.t, MALLORYS_SEED))


def test_unknown_key_share_by_two_sessions() -> None:
    """Mallory has a session with Alice, who knows it, and one with Bob in Alice's name, with all that she can choose
    alike; Bob is to take the signature that Alice made for Mallory."""
    agreed, t2, signature = alices_proof_to_mallory()
    key = ALICE.public_key
    assert signature == sign(b"\1" * 32, agreed.signed("opener", t2, key))
    half, box, _ = pose_as_opener(ALICE.id, proven_with(key, signature), ALICES_INDEX)
    with pytest.raises(WrongProof):
        half.confirmed(box, 0.0)


@pytest.mark.parametrize("opener", [ALICE, MALLORY])
@pytest.mark.parametrize("accepter", [BOB, MALLORY])
def test_the_keys_hang_on_both_ids(opener: Identity, accepter: Identity) -> None:
    """The same ephemeral keys and indexes, everything that goes over the wire alike: between others there are other
    keys. Mallory knows the shared secret here, and still can not read Bob's box with the keys of another pair."""
    opened = alice_opens().payload
    half = bob_answers(opened, claimed=ALICE.id)
    accept, secret = parse_accept(half.payload), x25519(ALICES_EPHEMERAL, public_ephemeral(BOBS_EPHEMERAL))
    agreed = reference.agree(opener.id, accepter.id, ALICES_INDEX, parse_open(opened), accept, secret)
    t = reference.agree(ALICE.id, BOB.id, ALICES_INDEX, parse_open(opened), accept, secret).t
    if (opener, accepter) == (ALICE, BOB):
        assert read_box(agreed, "accepter", t, accept.box)[0] == BOB.public_key
    else:
        assert agreed.t != t
        with pytest.raises(Broken):
            read_box(agreed, "accepter", t, accept.box)


# Reflection


def test_alice_does_not_open_a_session_with_herself_through_her_own_answer() -> None:
    """Mallory sends Alice's OPEN back to her in Bob's name, and the ACCEPT that Alice makes of it too."""
    opening = alice_opens()
    own_answer = product.answer(
        self_of(ALICE), BOB.id, ALICES_INDEX, opening.payload, BOBS_INDEX, BOBS_EPHEMERAL
    ).payload
    refused_by_alice(opening, own_answer)


def test_an_answer_to_oneself_is_no_proof_of_anybody_else() -> None:
    """The same in Alice's own name. A node drops what comes in its own name; even if it did not, it would not do."""
    opening = alice_opens()
    own_answer = product.answer(self_of(ALICE), ALICE.id, ALICES_INDEX, opening.payload, BOBS_INDEX, BOBS_EPHEMERAL)
    refused_by_alice(opening, own_answer.payload)


def test_the_accepters_signature_sent_back_as_the_openers() -> None:
    """Mallory opens with Bob in Bob's own name, reads what he signs as the accepter, and shows it as the opener's."""

    def reflect(agreed: Agreed, role: str, transcript: bytes) -> bytes:
        signature = bobs_signature_as_accepter(claimed=BOB.id)
        return forged_box(agreed, role, transcript, BOB.public_key, signature)

    half, box, _ = pose_as_opener(BOB.id, reflect)
    with pytest.raises(WrongProof):
        half.confirmed(box, 0.0)
    # The box itself, as it came, does not open.
    with pytest.raises(RemoteProtocolError):
        half.confirmed(half.payload[-112:], 0.0)


def test_the_openers_signature_sent_back_as_the_accepters() -> None:
    """Alice opens with Mallory; what she signs is shown to her as the proof of an accepter with Alice's own id."""
    signature = alices_proof_to_mallory()[2]
    opening = alice_opens(ALICE)
    accept = pose_as_accepter(opening, proven_with(ALICE.public_key, signature), accepter=ALICE.id)
    with pytest.raises(WrongProof):
        product.accepted(opening, accept)


@pytest.mark.parametrize("opener_sends", [True, False])
@pytest.mark.parametrize("own_header", [True, False], ids=["header as it was", "header turned round"])
def test_a_sealed_frame_sent_back_to_its_sender(opener_sends: bool, own_header: bool) -> None:
    """Mallory turns a frame round: the names in the header, and the index; the counter is one that still may come."""
    opening = alice_opens()
    half = bob_answers(opening.payload)
    alice = product.accepted(opening, half.payload)
    bob = half.confirmed(alice.proof, 0.0)
    alice.proof = b""
    sender, own, peer = (alice, ALICE.id, BOB.id) if opener_sends else (bob, BOB.id, ALICE.id)
    flags, sealed = sender.seal(Kind.DATA, 0, peer, own, b"message1", b"hello")
    assert flags == Flag.SEALED
    back = sender.index + sealed[8:]
    to, source = (peer, own) if own_header else (own, peer)
    for turned in (back, sealed):
        assert sender.unseal(Kind.DATA, flags, to, source, b"message1", turned)[0] is None
    # It was good for its receiver.
    frame = build_frame(Kind.DATA, peer, own, b"message1", sealed, flags=flags)
    assert product.unseal(bob if opener_sends else alice, peer, frame) == (0, b"", b"hello")


# Answers to something else


def test_the_index_changed_in_the_answer() -> None:
    """Mallory gives the session another name, of one that Bob has with her."""
    opening = alice_opens()
    accept = bob_answers(opening.payload).payload
    refused_by_alice(opening, replace(parse_accept(accept), index=MALLORYS_INDEX).build())


def test_an_answer_to_another_opening_of_the_same_alice() -> None:
    """Mallory gives Bob's answer to one of Alice's openings as that to another, which has the same keys."""
    opening = Opening(self_of(ALICE), BOB.id, b"another1", ALICES_EPHEMERAL + KEM_SEED)
    assert opening.payload == alice_opens().payload
    refused_by_alice(opening, bob_answers(opening.payload).payload)
    accepter = Accepter(MALLORYS_SEED, MALLORYS_INDEX, MALLORYS_EPHEMERAL, BOTH)
    refused_by_alice(opening, accepter.accept(ALICE.id, opening.index, opening.payload)[0])
