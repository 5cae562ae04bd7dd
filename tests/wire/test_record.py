from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_relay.exceptions import LocalProtocolError, RemoteProtocolError
from trio_relay.identity import Identity, verify
from trio_relay.wire.ids import NodeId
from trio_relay.wire.record import (
    MAX_RECORDS,
    PeerRecord,
    RecordKind,
    Role,
    build_record,
    id_of_key,
    join_records,
    parse_record_untrusted,
    split_records_untrusted,
)

SIGNERS = [Identity.from_seed(bytes([number]) * 32) for number in range(3)]
LEGACY_ID = NodeId(b"\x07" * 20)

urls = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=255)
unsigned_64 = st.integers(0, 2**64 - 1)


@st.composite
def records(draw: st.DrawFn) -> PeerRecord:
    signer = draw(st.sampled_from(SIGNERS))
    return build_record(
        signer.public_key,
        signer.sign,
        sequence=draw(unsigned_64),
        expiry=draw(unsigned_64),
        urls=draw(st.lists(urls, max_size=4)),
        roles=draw(st.integers(0, 255)),
        legacy_id=draw(st.none() | st.binary(min_size=20, max_size=20).map(NodeId)),
    )


@given(records())
def test_records_survive(record: PeerRecord) -> None:
    assert parse_record_untrusted(record.raw, verify) == record
    assert record.gateway == id_of_key(record.public_key)
    assert (record.id == record.gateway) == (record.kind is RecordKind.PEER)


@given(records(), st.data())
def test_a_change_of_any_byte_is_refused(record: PeerRecord, data: st.DataObject) -> None:
    mutated = bytearray(record.raw)
    mutated[data.draw(st.integers(0, len(mutated) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(RemoteProtocolError):
        parse_record_untrusted(bytes(mutated), verify)


@given(records(), st.data())
def test_a_record_that_is_cut_or_longer_is_refused(record: PeerRecord, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(record.raw) - 1))
    for changed in (record.raw[:cut], record.raw + data.draw(st.binary(min_size=1, max_size=5))):
        with pytest.raises(RemoteProtocolError):
            parse_record_untrusted(changed, verify)


@given(records(), records())
def test_a_signature_is_good_for_one_record(one: PeerRecord, other: PeerRecord) -> None:
    mixed = one.raw[:-64] + other.raw[-64:]
    if mixed in (one.raw, other.raw):
        assert parse_record_untrusted(mixed, verify)
    else:
        with pytest.raises(RemoteProtocolError, match="wrong signature"):
            parse_record_untrusted(mixed, verify)


def test_cheap_checks_come_before_the_signature() -> None:
    signer = SIGNERS[0]
    record = build_record(signer.public_key, signer.sign, sequence=1, expiry=2, urls=["ws://a"])
    bad_id = record.raw[:19] + bytes(20) + record.raw[39:]
    bad_url = record.raw.replace(b"ws://a", b"ws://\n")
    for raw in (b"", b"\x02" + record.raw[1:], bad_id, bad_url, record.raw + b"\0"):
        with pytest.raises(RemoteProtocolError):
            parse_record_untrusted(raw, must_not_verify)


def must_not_verify(public_key: bytes, signature: bytes, data: bytes) -> bool:
    raise AssertionError("a signature was verified")


def test_unknown_roles_are_signed_and_ignored() -> None:
    signer = SIGNERS[0]
    record = build_record(signer.public_key, signer.sign, sequence=1, expiry=2, roles=0xF9)
    assert record.raw[2] == 0xF9
    assert record.roles is Role.RELAY
    assert record.relay
    assert parse_record_untrusted(record.raw, verify) == record


def test_a_gateway_does_not_make_an_original_node_a_relay() -> None:
    signer = SIGNERS[0]
    record = build_record(signer.public_key, signer.sign, sequence=1, expiry=2, roles=1, legacy_id=LEGACY_ID)
    assert not record.relay


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"urls": ["ws://a"] * 5}, "at most 4 URLs"),
        ({"urls": [""]}, "printable ASCII"),
        ({"urls": ["a" * 256]}, "printable ASCII"),
        ({"urls": ["ws://\u00e9"]}, "printable ASCII"),
        ({"urls": ["ws://a\n"]}, "printable ASCII"),
        ({"sequence": -1}, "does not fit"),
        ({"expiry": 2**64}, "does not fit"),
        ({"roles": 256}, "does not fit"),
        ({"legacy_id": SIGNERS[0].id}, "the id of an original node"),
        ({"legacy_id": b"short"}, "the id of an original node"),
    ],
)
def test_what_could_not_be_read_is_not_written(change: dict[str, object], complaint: str) -> None:
    arguments: dict[str, object] = {"sequence": 1, "expiry": 2} | change
    signer = SIGNERS[0]
    with pytest.raises(LocalProtocolError, match=complaint):
        build_record(signer.public_key, signer.sign, **arguments)  # type: ignore[arg-type]


@given(st.lists(records(), max_size=MAX_RECORDS))
def test_lists_survive(several: list[PeerRecord]) -> None:
    assert split_records_untrusted(join_records(several)) == [record.raw for record in several]


def test_the_seventeenth_record_is_refused() -> None:
    signer = SIGNERS[0]
    record = build_record(signer.public_key, signer.sign, sequence=1, expiry=2)
    assert len(split_records_untrusted(join_records([record] * 16))) == 16
    with pytest.raises(RemoteProtocolError, match="at most 16"):
        split_records_untrusted(join_records([record] * 17))
