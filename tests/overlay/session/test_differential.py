"""The package against the reference, in both roles: what one makes the other takes, byte for byte the same."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from trio_relay.exceptions import RemoteProtocolError
from trio_relay.overlay.session.session import Session
from trio_relay.wire.frame import Flag, build_frame

from . import product, reference
from .primitives import AES, CHACHA, Broken, encapsulate, has_kem, id_of, public_identity

MOST = 2**22
seeds = st.binary(min_size=32, max_size=32)
eight = st.binary(min_size=8, max_size=8)
ciphers = st.sampled_from([CHACHA, AES | CHACHA])


@dataclass(frozen=True)
class Case:
    """Everything that two sides choose, but the secret that ML-KEM brings."""

    opener: bytes
    accepter: bytes
    opener_ephemeral: bytes
    accepter_ephemeral: bytes
    opener_index: bytes
    accepter_index: bytes
    opener_ciphers: int
    accepter_ciphers: int
    kem_seed: bytes | None
    accepter_kem: bool

    @property
    def ids(self) -> tuple[bytes, bytes]:
        return id_of(public_identity(self.opener)), id_of(public_identity(self.accepter))

    @property
    def cipher(self) -> int:
        return AES if self.opener_ciphers & self.accepter_ciphers & AES else CHACHA


kem_seeds = st.binary(min_size=64, max_size=64) if has_kem() else st.none()
cases = st.builds(
    Case, seeds, seeds, seeds, seeds, eight, eight, ciphers, ciphers, st.none() | kem_seeds, st.booleans()
).filter(lambda case: case.opener != case.accepter)


@dataclass(frozen=True)
class Sent:
    """One frame."""

    side: str
    kind: int
    flags: int
    counter: int
    message_id: bytes
    payload: bytes
    relayed: tuple[int, int, int]


octets = st.integers(0, 255)
counters = st.integers(0, MOST - 1) | st.integers(0, 70) | st.just(MOST - 1)
sent = st.builds(
    Sent,
    st.sampled_from(["opener", "accepter"]),
    st.integers(0, 63),
    octets.map(lambda flags: (flags | Flag.SEALED) & ~Flag.OPENING),
    counters,
    eight,
    st.binary(max_size=200),
    st.tuples(octets, octets, octets),
)
conversations = st.lists(sent, max_size=12, unique_by=lambda one: (one.side, one.counter))


class Both:
    """One session as the package has it on one side, and as the reference has it."""

    def __init__(self, case: Case, side: str, package: Session, second: reference.Session) -> None:
        self.side, self.package, self.second = side, package, second
        opener, accepter = case.ids
        self.ids = {"opener": (opener, accepter), "accepter": (accepter, opener)}

    def by_package(self, one: Sent) -> bytes:
        source, to = self.ids[one.side]
        sealed = self.package.seal_again(one.counter, one.kind, one.flags, to, source, one.message_id, one.payload)
        hop_limit, attempt, detours = one.relayed
        header = {"hop_limit": hop_limit, "attempt": attempt, "detours": detours}
        return build_frame(one.kind, to, source, one.message_id, sealed, flags=one.flags, **header)

    def by_reference(self, one: Sent, box: bytes = b"") -> bytes:
        source, to = self.ids[one.side]
        start = bytes([*one.relayed, 1, one.kind, one.flags, 0, 0])
        return self.second.seal(one.side, start + to + source + one.message_id, one.counter, one.payload, box)

    def talk(self, conversation: list[Sent]) -> None:
        """Every frame: sealed by one, opened by the other, once."""
        highest = -1
        for one in conversation:
            if one.side == self.side:
                frame = self.by_package(one)
                assert frame == self.by_reference(one)
                assert self.second.open(one.side, frame) == (one.counter, b"", one.payload)
            elif one.counter > highest - 8192:
                highest = max(one.counter, highest)
                frame = self.by_reference(one)
                own = self.ids[self.side][0]
                assert product.unseal(self.package, own, frame) == (one.counter, b"", one.payload)
                with pytest.raises(RemoteProtocolError):
                    product.unseal(self.package, own, frame)


def package_opens(case: Case) -> Both:
    """The package opens, the reference accepts."""
    own = product.make_self(case.opener, case.opener_ciphers, kem=case.kem_seed is not None)
    peer = case.ids[1]
    opening = product.make_opening(own, peer, case.opener_index, case.opener_ephemeral, case.kem_seed)
    opened = reference.parse_open(opening.payload)
    assert bool(opened.kem_key) is (case.kem_seed is not None)
    kem = encapsulate(opened.kem_key) if opened.kem_key and case.accepter_kem else (b"", b"")
    accepter = reference.Accepter(case.accepter, case.accepter_index, case.accepter_ephemeral, case.accepter_ciphers)
    accept, second = accepter.accept(case.ids[0], case.opener_index, opening.payload, kem)
    session = product.accepted(opening, accept)
    second.check_opener(session.proof)
    assert session.proof == second.opener_box(case.opener)
    assert second.agreed.cipher == case.cipher
    return Both(case, "opener", session, second)


def package_accepts(case: Case) -> Both:
    """The reference opens, the package accepts."""
    opener = reference.Opener(
        case.opener, case.ids[1], case.opener_index, case.opener_ephemeral, case.opener_ciphers | 0x40, case.kem_seed
    )
    own = product.make_self(case.accepter, case.accepter_ciphers, kem=case.accepter_kem and has_kem())
    half = product.answer(
        own,
        case.ids[0],
        case.opener_index,
        opener.open(cookie=case.accepter_index * 2).build(),
        case.accepter_index,
        case.accepter_ephemeral,
    )
    assert half.index == case.accepter_index
    second = opener.read(half.payload)
    both = case.kem_seed is not None and own.kem
    assert bool(reference.parse_accept(half.payload).ciphertext) is both
    assert second.agreed.cipher == case.cipher
    return Both(case, "accepter", half.confirmed(second.opener_box(case.opener), 0.0), second)


@given(cases, conversations)
def test_the_package_opens_and_the_reference_accepts(case: Case, conversation: list[Sent]) -> None:
    package_opens(case).talk(conversation)


@given(cases, conversations)
def test_the_reference_opens_and_the_package_accepts(case: Case, conversation: list[Sent]) -> None:
    package_accepts(case).talk(conversation)


@given(cases, st.lists(sent, min_size=1, max_size=5))
def test_what_the_package_seals_in_turn_is_what_the_reference_seals(case: Case, conversation: list[Sent]) -> None:
    """Counters from 0 without a gap; the proof goes along until it is taken away, and copies are the same bytes."""
    both = package_opens(case)
    session = both.package
    source, to = both.ids["opener"]
    box = session.proof
    for number, one in enumerate(conversation):
        proof = box if number < 2 else b""
        if number == 2:
            session.proof = b""
        flags, sealed = session.seal(one.kind, Flag.CONFIRM, to, source, one.message_id, one.payload)
        expected = Flag.CONFIRM | Flag.SEALED | (Flag.OPENING if proof else 0)
        assert flags == expected
        frame = build_frame(one.kind, to, source, one.message_id, sealed, flags=flags)
        assert both.second.open("opener", frame) == (number, proof, one.payload)
        again = session.seal_again(number, one.kind, flags, to, source, one.message_id, one.payload)
        assert again == sealed
    assert session.sealed == len(conversation)


@given(cases, sent, st.data())
def test_a_changed_byte_is_refused_by_both(case: Case, one: Sent, data: st.DataObject) -> None:
    """Any byte from the version on; the lengths stay, for framing would refuse them before."""
    both = package_accepts(case)
    box = data.draw(st.sampled_from([b"", both.second.opener_box(case.opener)]))
    flags = one.flags | (Flag.OPENING if box else 0)
    one = Sent("opener", one.kind, flags, one.counter, one.message_id, one.payload, one.relayed)
    frame = both.by_reference(one, box)
    position = data.draw(st.integers(3, len(frame) - 1).filter(lambda position: position not in (6, 7)))
    wrong = frame[:position] + bytes([frame[position] ^ data.draw(st.integers(1, 255))]) + frame[position + 1 :]
    own = both.ids["accepter"][0]
    with pytest.raises(Broken):
        both.second.open("opener", wrong)
    with pytest.raises(RemoteProtocolError):
        product.unseal(both.package, own, wrong)
    assert product.unseal(both.package, own, frame) == (one.counter, box, one.payload)


@given(cases, st.data())
def test_a_changed_byte_of_the_agreement_is_refused_by_both(case: Case, data: st.DataObject) -> None:
    """In OPEN on its way to the accepter (but in the cookie), or in ACCEPT on its way back."""
    opener = reference.Opener(
        case.opener, case.ids[1], case.opener_index, case.opener_ephemeral, case.opener_ciphers, case.kem_seed
    )
    own = product.make_self(case.accepter, case.accepter_ciphers, kem=case.accepter_kem and has_kem())
    first = product.make_self(case.opener, case.opener_ciphers, kem=case.kem_seed is not None)
    opening = product.make_opening(first, case.ids[1], case.opener_index, case.opener_ephemeral, case.kem_seed)
    opened = opener.open().build()
    assert opening.payload == opened
    change_open = data.draw(st.booleans())

    position = data.draw(st.integers(0, 49 if change_open else 153))
    # The cookie is in nobody's transcript.
    assume(not change_open or position < 34)
    mask = data.draw(st.integers(1, 255))

    def change(message: bytes) -> bytes:
        return message[:position] + bytes([message[position] ^ mask]) + message[position + 1 :]

    try:
        half = product.answer(
            own,
            case.ids[0],
            case.opener_index,
            change(opened) if change_open else opened,
            case.accepter_index,
            case.accepter_ephemeral,
        )
    except RemoteProtocolError:
        assert change_open
        return
    accept = half.payload if change_open else change(half.payload)
    with pytest.raises(Broken):
        opener.read(accept)
    with pytest.raises(RemoteProtocolError):
        product.accepted(opening, accept)
