"""What raw generators send and count, without a process between them."""

from __future__ import annotations

import json
import zlib

import pytest

from benchmarks.ends import TEXT, Counter, client_frame, frame_head
from benchmarks.original import Numbered, deflated, envelope
from trio_relay.wire.masking import xor_mask


def contents(block: bytes) -> list[tuple[int, bytes]]:
    """The first byte and the unmasked payload of each client's frame."""
    found = []
    while block:
        length, start = block[1] & 0x7F, 2
        if length == 126:
            length, start = int.from_bytes(block[2:4], "big"), 4
        mask, end = block[start : start + 4], start + 4 + length
        found.append((block[0], xor_mask(block[start + 4 : end], mask)))
        block = block[end:]
    return found


@pytest.mark.parametrize("chunk", [1, 7, 10, 64])
def test_counts_messages_of_one_length_however_they_are_cut(chunk: int) -> None:
    data = b"0123456789" * 9 + b"01234"
    counter = Counter(b"0123456789")
    counts = [counter.count(data[start : start + chunk]) for start in range(0, len(data), chunk)]
    assert sum(counts) == 9
    assert counter.count(b"56789") == 1


def test_counts_what_came_with_the_handshake() -> None:
    assert Counter(b"abc", b"abcab").count(b"cabc") == 3


def test_the_first_message_must_be_the_one_that_was_sent() -> None:
    counter = Counter(b"0123456789")
    assert counter.count(b"01234") == 0
    with pytest.raises(ValueError, match="expected b'0123456789', not b'01234X6789'"):
        counter.count(b"X6789")


@pytest.mark.parametrize("length", [125, 126, 65_535, 65_536])
def test_lengths_of_frames_are_written_as_rfc_6455_says(length: int) -> None:
    head = {125: b"\x81\x7d", 126: b"\x81\x7e\x00\x7e", 65_535: b"\x81\x7e\xff\xff"}
    assert frame_head(TEXT, length) == head.get(length, b"\x81\x7f" + length.to_bytes(8, "big"))


def test_a_client_masks_its_payload() -> None:
    assert client_frame(TEXT, b"aaaaa", b"\x00\x01\x02\x03") == b"\x81\x85\x00\x01\x02\x03a`cba"


@pytest.mark.parametrize("compression", [False, True])
@pytest.mark.parametrize("extra", range(4))
def test_every_envelope_for_the_original_has_a_nonce_of_its_own(compression: bool, extra: int) -> None:
    text = envelope("to" + extra * "x", "from", [b"path"], 100)
    head, tail = (part.encode() for part in (text % "731|").split("|"))
    first = TEXT
    if compression:
        first |= 0x40
        head, tail = deflated(head, tail)
    block = Numbered(first, head, tail, 3).block
    for start in (0, 9_998, 12_345_678):
        messages = contents(bytes(block(start)))
        assert [byte for byte, _ in messages] == [first] * 3
        plain = [inflated(data) if compression else data for _, data in messages]
        assert [json.loads(each)["nonce"] for each in plain] == [f"731{start + n:08}" for n in range(3)]
        assert [json.loads(each)["path"] for each in plain] == [[b"path".hex()]] * 3


def inflated(data: bytes) -> bytes:
    """A compressed message (RFC 7692 section 7.2.2) that has no history."""
    return zlib.decompressobj(wbits=-15).decompress(data + b"\x00\x00\xff\xff")
