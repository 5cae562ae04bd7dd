"""Packets of messages in pieces."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_relay.exceptions import PayloadTooLarge, RemoteProtocolError
from trio_relay.peerix.packets.transfer import (
    CHUNK,
    MAX_PACKET,
    MAX_TRANSFER_ID,
    Acknowledgement,
    PayloadType,
    Piece,
    ReceiverAbort,
    SenderAbort,
    TransferPacket,
    encode_ack,
    encode_piece,
    encode_receiver_abort,
    encode_sender_abort,
    first_chunk,
    next_transfer_id,
    parse_transfer_untrusted,
)


def encode(packet: TransferPacket) -> bytes:
    match packet:
        case Piece(id, index, chunk, done, type, info):
            return encode_piece(id, index, chunk, done=done, type=type, info=info)
        case Acknowledgement(id):
            return encode_ack(id)
        case ReceiverAbort(id):
            return encode_receiver_abort(id)
        case SenderAbort(id):
            return encode_sender_abort(id)


@pytest.mark.parametrize(
    ("packet", "encoded"),
    [
        (Piece(1, 0, b"hi", True, PayloadType.TEXT), "08 01 18 00 20 01 30 01 42 02 6869"),
        (Acknowledgement(1), "08 01 10 01 30 01"),
        (
            Piece(2, 0, b"hi", True, PayloadType.TEXT, b'{"a":1}'),
            "08 02 18 00 20 01 30 01 3a 07 7b2261223a317d 42 02 6869",
        ),
        (Piece(4, 0, b'{"x":1}', True, PayloadType.JSON), "08 04 18 00 20 02 30 01 42 07 7b2278223a317d"),
        (Piece(5, 0, b"null", True, PayloadType.JSON), "08 05 18 00 20 02 30 01 42 04 6e756c6c"),
        (Piece(9, 0, b"x" * 16320, False, PayloadType.TEXT), "08 09 18 00 20 01 30 00 42 c0 7f" + "78" * 16320),
        (Piece(9, 1, b"x", True), "08 09 18 01 30 01 42 01 78"),
        (Piece(65535, 128, b"", True), "08 ffff03 18 8001 30 01 42 00"),
        (Piece(300, 0, b"", True, PayloadType.BYTES, b""), "08 ac02 18 00 20 04 30 01 3a 00 42 00"),
        (ReceiverAbort(15), "08 0f 10 01 28 01"),
        (SenderAbort(15), "08 0f 28 01"),
    ],
)
def test_written_and_read(packet: TransferPacket, encoded: str) -> None:
    assert encode(packet) == bytes.fromhex(encoded)
    assert parse_transfer_untrusted(bytes.fromhex(encoded)) == packet


@pytest.mark.parametrize(
    ("encoded", "packet"),
    [
        ("08 01 18 00 20 07 30 01 42 00", Piece(1, 0, b"", True, PayloadType.BYTES)),
        ("08 01 18 00 20 00 30 01 3a 00 42 00", Piece(1, 0, b"", True)),
        ("08 01 18 01 20 01 30 01 3a 00 42 00", Piece(1, 1, b"", True)),
        ("08 01 18 01 42 00", Piece(1, 1, b"", False)),
        ("42 01 61 30 00 18 02 10 00 28 00 08 01", Piece(1, 2, b"a", False)),
        ("08 01 10 01 28 01 30 01", ReceiverAbort(1)),
        ("08 01 28 01 18 00 20 01 30 01 42 00", SenderAbort(1)),
        ("08 01 10 01", None),
        ("08 01 10 01 30 00", None),
        ("08 01 10 01 18 00 20 01 42 00", None),
    ],
)
def test_only_read(encoded: str, packet: TransferPacket | None) -> None:
    assert parse_transfer_untrusted(bytes.fromhex(encoded)) == packet


@pytest.mark.parametrize(
    "encoded",
    [
        "",
        "08 00 10 01 30 01",
        "08 808004 10 01 30 01",
        "10 01 30 01",
        "08 01",
        "08 01 18 00 20 01 30 01",
        "08 01 30 01 42 00",
        "08 01 18 00 20 01 30 02 42 00",
        "08 01 18 00 20 01 30 01 42 01",
        "08 01 18 00 20 01 30 01 40 01",
    ],
)
def test_refused(encoded: str) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_transfer_untrusted(bytes.fromhex(encoded))


def test_large_packets() -> None:
    head = encode_piece(1, 1, b"", done=False)[:-1]
    chunk = bytes(MAX_PACKET - len(head) - 3)
    packet = encode_piece(1, 1, chunk, done=False)
    assert len(packet) == MAX_PACKET
    assert parse_transfer_untrusted(packet) == Piece(1, 1, chunk, False)
    with pytest.raises(RemoteProtocolError, match="at most"):
        parse_transfer_untrusted(packet + b"\x00")


def test_chunks_may_be_views() -> None:
    data = bytearray(b"some bytes")
    assert encode_piece(1, 1, memoryview(data)[5:], done=True) == encode_piece(1, 1, b"bytes", done=True)
    packet = parse_transfer_untrusted(encode_piece(1, 1, data, done=True))
    assert packet == Piece(1, 1, b"some bytes", True)


def test_what_fits_beside_the_info() -> None:
    assert first_chunk(None) == first_chunk(b"") == CHUNK == 16384 - 64
    assert first_chunk(b'{"a":1}') == CHUNK - 7
    assert first_chunk(bytes(CHUNK - 1)) == 1
    with pytest.raises(PayloadTooLarge, match="less than 16320 bytes, not 16320"):
        first_chunk(bytes(CHUNK))


def test_the_largest_packets_are_smaller_than_16_kib() -> None:
    full = encode_piece(MAX_TRANSFER_ID, 2**32 - 1, bytes(CHUNK), done=False)
    first = encode_piece(MAX_TRANSFER_ID, 0, bytes(1), done=False, type=PayloadType.BLOB, info=bytes(CHUNK - 1))
    assert len(first) < 16384
    assert len(full) < 16384


def test_transfers_are_numbered_in_a_circle() -> None:
    assert [next_transfer_id(id) for id in (0, 1, 65534, 65535)] == [1, 2, 65535, 1]


ids: Final = st.integers(1, MAX_TRANSFER_ID)
chunks: Final = st.binary(max_size=300)
packets: Final[st.SearchStrategy[TransferPacket]] = (
    st.builds(Piece, ids, st.integers(0, 2**32 - 1), chunks, st.booleans())
    | st.builds(
        Piece, ids, st.just(0), chunks, st.booleans(), st.sampled_from(PayloadType), st.none() | st.binary(max_size=150)
    )
    | st.builds(Acknowledgement, ids)
    | st.builds(ReceiverAbort, ids)
    | st.builds(SenderAbort, ids)
)


@given(packets)
@settings(max_examples=50)
def test_round(packet: TransferPacket) -> None:
    assert parse_transfer_untrusted(encode(packet)) == packet
