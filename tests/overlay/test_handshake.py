from __future__ import annotations

import contextlib
import hashlib
from dataclasses import replace
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_relay.exceptions import HandshakeError, LocalProtocolError, RemoteProtocolError
from trio_relay.identity import Identity, verify
from trio_relay.overlay.handshake import Acceptor, Admit, Dialler, Proven, Refused
from trio_relay.wire import hello
from trio_relay.wire.hello import Field, Hello, Proof, Reason, Reply
from trio_relay.wire.ids import NodeId
from trio_relay.wire.record import PeerRecord, build_record, join_records

ALICE, BOB, MALLORY = (Identity.from_seed(bytes([number]) * 32) for number in (1, 2, 3))
BOBS_AUTHORITY: Final = "bob.example:8000"
Reasoned = tuple[Reason, bytes]


def record_of(identity: Identity) -> PeerRecord:
    return build_record(identity.public_key, identity.sign, sequence=1, expiry=2**40, urls=["ws://bob.example:8000/"])


RECORDS: Final = {identity.id: record_of(identity) for identity in (ALICE, BOB, MALLORY)}


def admit_all(peer: NodeId, probe: bool, claims_relay: bool) -> Reasoned | None:
    return None


def acceptor_of(
    identity: Identity = BOB, nonce: bytes = b"a" * 32, *, admit: Admit = admit_all, authority: str = BOBS_AUTHORITY
) -> Acceptor:
    record = RECORDS[identity.id].raw
    return Acceptor(identity.public_key, identity.sign, verify, nonce, record, {authority}, admit)


def dialler_of(
    identity: Identity = ALICE,
    nonce: bytes = b"d" * 32,
    *,
    authority: str = BOBS_AUTHORITY,
    expected: NodeId | None = BOB.id,
    from_record: bool = True,
    probe: bool = False,
) -> Dialler:
    record = RECORDS[identity.id].raw
    return Dialler(identity.public_key, identity.sign, verify, nonce, record, authority, expected, from_record, probe)


def refusal_of(caught: pytest.ExceptionInfo[Refused]) -> hello.Refusal:
    """What the refusing side sends."""
    assert caught.value.by_us
    refusal = hello.parse_refusal_untrusted(caught.value.message)
    assert refusal is not None
    assert refusal.reason == caught.value.reason
    return refusal


# Success


@pytest.mark.parametrize("from_record", [False, True])
@pytest.mark.parametrize("probe", [False, True])
def test_both_ends_are_proven(from_record: bool, probe: bool) -> None:
    asked: list[tuple[NodeId, bool]] = []

    def admit(peer: NodeId, probing: bool, claims_relay: bool) -> Reasoned | None:
        asked.append((peer, probing))
        return None

    acceptor, dialler = acceptor_of(admit=admit), dialler_of(from_record=from_record, probe=probe)
    proof, who_dialled = acceptor.receive(dialler.receive_hello(acceptor.greet()))
    who_accepted = dialler.receive_proof(proof)
    assert who_dialled == Proven(ALICE.id, ALICE.public_key, RECORDS[ALICE.id], BOBS_AUTHORITY, probe)
    assert who_accepted == Proven(BOB.id, BOB.public_key, RECORDS[BOB.id], BOBS_AUTHORITY)
    assert asked == [(ALICE.id, probe)]


def test_a_bootstrap_dialler_knows_neither_id_nor_advertised_address() -> None:
    acceptor = acceptor_of(authority="elsewhere.example:1")
    dialler = dialler_of(authority="nat.example:9", expected=None, from_record=False)
    proof, who_dialled = acceptor.receive(dialler.receive_hello(acceptor.greet()))
    assert who_dialled.authority == "nat.example:9"
    assert dialler.receive_proof(proof).id == BOB.id


def signed_reply(greeting: bytes, reply: Reply, identity: Identity, role: str = "dialler") -> bytes:
    """A reply with a right signature over whatever it says, made with a dialler's own means."""
    unsigned = replace(reply, signature=b"").to_bytes()
    return unsigned + identity.sign(transcript(role, greeting, unsigned))


def transcript(role: str, *messages: bytes) -> bytes:
    """As docs/protocol/overlay.md section 4 says, written a second time."""
    joined = b"".join(len(message).to_bytes(4, "big") + message for message in messages)
    return b"trio-relay link 1\0" + role.encode() + b"\0" + hashlib.sha256(joined).digest()


def test_unknown_fields_and_later_versions_beside_ours_are_ignored() -> None:
    greeting = Hello(b"a" * 32, BOB.public_key, 1, 9, {200: b"later"}).to_bytes()
    dialler = dialler_of()
    reply = hello.parse_reply_untrusted(dialler.receive_hello(greeting))
    assert reply.version == 1
    unsigned = Proof({Field.RECORD: RECORDS[BOB.id].raw, 201: b"later"}).to_bytes()
    sent = dialler_of().receive_hello(greeting)
    proof = unsigned + BOB.sign(transcript("acceptor", greeting, sent, unsigned))
    assert dialler.receive_proof(proof).id == BOB.id

    acceptor = acceptor_of()
    greeting = acceptor.greet()
    grown = replace(reply, fields={**reply.fields, 202: b"later"})
    assert acceptor.receive(signed_reply(greeting, grown, ALICE))[1].id == ALICE.id


def test_records_are_optional() -> None:
    acceptor = acceptor_of()
    reply = Reply(1, b"d" * 32, ALICE.public_key, {Field.AUTHORITY: b"bob.example:8000"})
    _, proven = acceptor.receive(signed_reply(acceptor.greet(), reply, ALICE))
    assert proven.record is None


# Refusals


def test_a_replayed_reply_is_refused() -> None:
    first, second = acceptor_of(), acceptor_of(nonce=b"b" * 32)
    reply = dialler_of().receive_hello(first.greet())
    assert first.receive(reply)[1].id == ALICE.id
    second.greet()
    with pytest.raises(Refused, match="signature of 34750f98 is wrong") as caught:
        second.receive(reply)
    assert refusal_of(caught).reason == Reason.BAD_PROOF


def test_a_nonce_is_good_for_one_reply() -> None:
    acceptor = acceptor_of()
    reply = dialler_of().receive_hello(acceptor.greet())
    acceptor.receive(reply)
    with pytest.raises(LocalProtocolError, match="one reply"):
        acceptor.receive(reply)


def test_calls_out_of_order_are_refused() -> None:
    with pytest.raises(LocalProtocolError, match="after greet"):
        acceptor_of().receive(b"")
    with pytest.raises(LocalProtocolError, match="after the reply"):
        dialler_of().receive_proof(b"")


def test_a_reflected_signature_is_refused() -> None:
    """Mallory has nothing but what the dialler itself signed."""
    dialler = dialler_of()
    reply = dialler.receive_hello(acceptor_of().greet())
    with pytest.raises(Refused, match="signature of 6a3803d5 is wrong"):
        dialler.receive_proof(Proof({}, reply[-64:]).to_bytes())


def test_a_signature_in_the_other_role_is_refused() -> None:
    acceptor = acceptor_of()
    greeting = acceptor.greet()
    reply = Reply(1, b"d" * 32, ALICE.public_key, {Field.AUTHORITY: b"bob.example:8000"})
    with pytest.raises(Refused, match="is wrong"):
        acceptor.receive(signed_reply(greeting, reply, ALICE, role="acceptor"))


def test_a_handshake_that_is_carried_to_another_address_is_refused() -> None:
    """Mallory took Alice's dial and passes everything on to Bob."""
    acceptor = acceptor_of()
    reply = dialler_of(authority="mallory.example:8000", expected=None).receive_hello(acceptor.greet())
    with pytest.raises(Refused, match=r"'mallory\.example:8000' is not an address of ours") as caught:
        acceptor.receive(reply)
    assert refusal_of(caught).reason == Reason.WRONG_AUTHORITY


def test_the_authority_can_not_be_changed_on_the_way() -> None:
    acceptor = acceptor_of()
    dialler = dialler_of(authority="mal.example:8000", expected=None)
    reply = dialler.receive_hello(acceptor.greet()).replace(b"mal.example:8000", b"bob.example:8000")
    with pytest.raises(Refused, match="is wrong"):
        acceptor.receive(reply)


def test_another_id_than_the_expected_one_is_refused() -> None:
    with pytest.raises(Refused, match=r"expected 6a3803d5 at bob\.example:8000, not ") as caught:
        dialler_of().receive_hello(acceptor_of(MALLORY).greet())
    assert refusal_of(caught).reason == Reason.BAD_PROOF


def test_a_hello_with_a_key_that_its_sender_does_not_have_is_refused() -> None:
    greeting = Hello(b"a" * 32, BOB.public_key).to_bytes()
    dialler = dialler_of()
    reply = dialler.receive_hello(greeting)
    unsigned = Proof({Field.RECORD: RECORDS[BOB.id].raw}).to_bytes()
    with pytest.raises(Refused, match="signature of 6a3803d5 is wrong"):
        dialler.receive_proof(unsigned + MALLORY.sign(transcript("acceptor", greeting, reply, unsigned)))


def test_a_link_with_oneself_is_refused_by_both() -> None:
    with pytest.raises(Refused, match="a link with oneself") as caught:
        dialler_of(BOB, expected=None).receive_hello(acceptor_of().greet())
    assert refusal_of(caught).reason == Reason.SELF
    acceptor = acceptor_of()
    reply = Reply(1, b"d" * 32, BOB.public_key, {})
    with pytest.raises(Refused, match="a link with oneself") as caught:
        acceptor.receive(signed_reply(acceptor.greet(), reply, BOB))
    assert refusal_of(caught).reason == Reason.SELF


@pytest.mark.parametrize(("first", "last"), [(2, 3), (0, 0), (5, 4)])
def test_no_common_version_is_refused_by_the_dialler(first: int, last: int) -> None:
    with pytest.raises(Refused, match=f"versions {first}-{last} are not spoken here") as caught:
        dialler_of().receive_hello(Hello(b"a" * 32, BOB.public_key, first, last).to_bytes())
    assert refusal_of(caught).reason == Reason.VERSION
    assert refusal_of(caught).fields[Field.TEXT].decode() == f"versions {first}-{last} are not spoken here"


@pytest.mark.parametrize("version", [0, 2, 255])
def test_an_unoffered_version_is_refused_by_the_acceptor(version: int) -> None:
    acceptor = acceptor_of()
    reply = Reply(version, b"d" * 32, ALICE.public_key, {})
    with pytest.raises(Refused, match=f"version {version} is not spoken here") as caught:
        acceptor.receive(signed_reply(acceptor.greet(), reply, ALICE))
    assert refusal_of(caught).reason == Reason.VERSION


def must_not_verify(public_key: bytes, signature: bytes, data: bytes) -> bool:
    raise AssertionError("a signature was verified")


@pytest.mark.parametrize("reason", [Reason.NOT_ADMITTED, Reason.FULL, Reason.DISCONNECTED])
def test_admit_has_its_say_before_signatures_are_verified(reason: Reason) -> None:
    records = join_records([RECORDS[MALLORY.id]]) if reason is Reason.FULL else b""
    acceptor = replace(acceptor_of(admit=lambda peer, probe, claims_relay: (reason, records)), verify=must_not_verify)
    dialler = dialler_of()
    reply = dialler.receive_hello(acceptor.greet())
    with pytest.raises(Refused) as caught:
        acceptor.receive(reply)
    refusal = refusal_of(caught)
    assert refusal.fields.get(Field.RECORDS, b"") == records

    with pytest.raises(Refused, match=f"refused by the other side: {refusal.name} ") as caught:
        dialler.receive_proof(refusal.to_bytes())
    assert (caught.value.reason, caught.value.records) == (reason, records)
    assert (caught.value.by_us, caught.value.message) == (False, b"")


def test_versions_addresses_and_own_keys_are_checked_before_signatures() -> None:
    def receive(reply: Reply) -> None:
        acceptor = replace(acceptor_of(), verify=must_not_verify)
        acceptor.greet()
        acceptor.receive(reply.to_bytes())

    good = Reply(1, b"d" * 32, ALICE.public_key, {}, bytes(64))
    elsewhere: dict[int, bytes] = {Field.AUTHORITY: b"x:1", Field.FROM_RECORD: b""}
    for bad in (replace(good, version=7), replace(good, public_key=BOB.public_key), replace(good, fields=elsewhere)):
        with pytest.raises(Refused):
            receive(bad)
    with pytest.raises(AssertionError, match="was verified"):
        receive(good)


def test_each_side_hears_a_refusal() -> None:
    full = hello.Refusal(Reason.FULL, {Field.TEXT: b"full", Field.RECORDS: b"\0\1x"}).to_bytes()
    unknown = hello.Refusal(77, {Field.TEXT: b"\x1b[2J\xff"}).to_bytes()
    acceptor = acceptor_of()
    acceptor.greet()
    with pytest.raises(Refused, match=r"^refused by the other side: full \(full\)$") as caught:
        acceptor.receive(full)
    assert caught.value.records == b"\0\1x"
    with pytest.raises(Refused, match=r"^refused by the other side: reason 77$") as caught:
        dialler_of().receive_hello(unknown)
    assert caught.value.reason == 77


def test_the_record_must_be_the_senders_own() -> None:
    gateway = build_record(ALICE.public_key, ALICE.sign, sequence=1, expiry=2, legacy_id=NodeId(b"\x07" * 20))
    for record in (RECORDS[MALLORY.id], gateway):
        acceptor = acceptor_of()
        reply = Reply(1, b"d" * 32, ALICE.public_key, {Field.RECORD: record.raw})
        with pytest.raises(RemoteProtocolError, match="expected the record of 34750f98"):
            acceptor.receive(signed_reply(acceptor.greet(), reply, ALICE))
    dialler = dialler_of()
    greeting = acceptor_of().greet()
    sent = dialler.receive_hello(greeting)
    unsigned = Proof({Field.RECORD: RECORDS[MALLORY.id].raw}).to_bytes()
    with pytest.raises(RemoteProtocolError, match="expected the record of 6a3803d5"):
        dialler.receive_proof(unsigned + BOB.sign(transcript("acceptor", greeting, sent, unsigned)))


# Arbitrary and mutated messages


@given(st.binary(max_size=400) | st.binary(max_size=400).map(b"TRLH".__add__))
def test_arbitrary_messages_raise_only_the_documented_errors(data: bytes) -> None:
    acceptor, dialler, replied = acceptor_of(), dialler_of(), dialler_of()
    replied.receive_hello(acceptor.greet())
    for receive in (acceptor.receive, dialler.receive_hello, replied.receive_proof):
        with contextlib.suppress(RemoteProtocolError, HandshakeError):
            receive(data)
            assert receive == dialler.receive_hello


@given(st.sampled_from(["hello", "reply", "proof"]), st.data())
def test_a_change_of_any_byte_is_refused(which: str, data: st.DataObject) -> None:
    def mutate(message: bytes, name: str) -> bytes:
        if name != which:
            return message
        mutated = bytearray(message)
        mutated[data.draw(st.integers(0, len(mutated) - 1))] ^= data.draw(st.integers(1, 255))
        return bytes(mutated)

    def shake_hands() -> None:
        acceptor, dialler = acceptor_of(), dialler_of(expected=None, from_record=False)
        reply = dialler.receive_hello(mutate(acceptor.greet(), "hello"))
        proof, _ = acceptor.receive(mutate(reply, "reply"))
        dialler.receive_proof(mutate(proof, "proof"))

    with pytest.raises((RemoteProtocolError, Refused)):
        shake_hands()
