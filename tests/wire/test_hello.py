from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_relay.exceptions import RemoteProtocolError
from trio_relay.wire.hello import (
    MAX_HELLO,
    Field,
    Hello,
    Proof,
    Reason,
    Refusal,
    Reply,
    is_hello,
    parse_hello_untrusted,
    parse_proof_untrusted,
    parse_refusal_untrusted,
    parse_reply_untrusted,
)
from trio_relay.wire.record import MAX_RECORDS

octets = st.integers(0, 255)
fields = st.dictionaries(octets, st.binary(max_size=40), max_size=6)
halves = st.binary(min_size=32, max_size=32)
signatures = st.binary(min_size=64, max_size=64)

hellos = st.builds(Hello, halves, halves, octets, octets, fields)
replies = st.builds(Reply, octets, halves, halves, fields, signatures)
proofs = st.builds(Proof, fields, signatures)
refusals = st.builds(Refusal, octets, fields)

HELLO = Hello(bytes(32), bytes(32))


@given(hellos, replies, proofs, refusals)
def test_messages_survive(hello: Hello, reply: Reply, proof: Proof, refusal: Refusal) -> None:
    assert parse_hello_untrusted(hello.to_bytes()) == hello
    assert parse_reply_untrusted(reply.to_bytes()) == reply
    assert parse_proof_untrusted(proof.to_bytes()) == proof
    assert parse_refusal_untrusted(refusal.to_bytes()) == refusal


@given(hellos, replies, proofs, refusals)
def test_no_message_passes_for_another(hello: Hello, reply: Reply, proof: Proof, refusal: Refusal) -> None:
    parsers = (parse_hello_untrusted, parse_reply_untrusted, parse_proof_untrusted)
    messages = [message.to_bytes() for message in (hello, reply, proof, refusal)]
    assert all(is_hello(message) for message in messages)
    for place, parse in enumerate(parsers):
        for message in messages[:place] + messages[place + 1 :]:
            with pytest.raises(RemoteProtocolError, match="expected handshake message"):
                parse(message)
    assert [parse_refusal_untrusted(message) for message in messages[:3]] == [None] * 3


@given(st.permutations([b"\x01\x00\x01a", b"\x02\x00\x00", b"\xc8\x00\x02bc"]))
def test_fields_come_in_any_order(written: list[bytes]) -> None:
    hello = parse_hello_untrusted(HELLO.to_bytes() + b"".join(written))
    assert hello.fields == {1: b"a", 2: b"", 200: b"bc"}


def test_fields_are_written_in_the_order_of_their_tags() -> None:
    assert Hello(bytes(32), bytes(32), fields={9: b"", 3: b"x"}).to_bytes()[71:] == b"\x03\x00\x01x\x09\x00\x00"


@pytest.mark.parametrize("tail", [b"\1", b"\1\0", b"\1\0\1", b"\1\xff\xffxx", b"\1\0\0\2\0\0\1\0\0"])
def test_broken_fields_are_refused(tail: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="handshake field"):
        parse_hello_untrusted(HELLO.to_bytes() + tail)


def test_longer_messages_are_refused() -> None:
    def padded(length: int, head: bytes) -> bytes:
        return head + b"\xc8" + (length - len(head) - 3).to_bytes(2, "big") + bytes(length - len(head) - 3)

    refusal = Refusal(Reason.FULL, {}).to_bytes()
    assert parse_hello_untrusted(padded(MAX_HELLO, HELLO.to_bytes())).fields.keys() == {200}
    assert parse_refusal_untrusted(padded(MAX_HELLO, refusal)) is not None
    for parse, head in ((parse_hello_untrusted, HELLO.to_bytes()), (parse_refusal_untrusted, refusal)):
        with pytest.raises(RemoteProtocolError, match="at most 32768 bytes"):
            parse(padded(MAX_HELLO + 1, head))


def test_a_refusal_that_names_sixteen_of_the_longest_records_fits() -> None:
    longest = 72 + 4 * 256 + 64
    records = MAX_RECORDS * (longest.to_bytes(2, "big") + bytes(longest))
    message = Refusal(Reason.FULL, {Field.RECORDS: records, Field.TEXT: b"full"}).to_bytes()
    assert len(message) <= MAX_HELLO
    assert parse_refusal_untrusted(message) is not None


def test_reasons_have_names() -> None:
    assert Refusal(Reason.NOT_ADMITTED, {}).name == "not admitted"
    assert Refusal(77, {}).name == "reason 77"


@pytest.mark.parametrize("data", [b"", b"TRL", b"\x10\x00\x02\x01", b"trlh\x01"])
def test_other_messages_are_none_of_ours(data: bytes) -> None:
    assert not is_hello(data)
    assert parse_refusal_untrusted(data) is None
    with pytest.raises(RemoteProtocolError, match="expected a handshake message"):
        parse_hello_untrusted(data)
