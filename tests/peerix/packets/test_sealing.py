"""Keys, ids and sealed payloads."""

from __future__ import annotations

import pytest

from trio_relay.exceptions import RemoteProtocolError
from trio_relay.peerix.packets.namespaces import namespace
from trio_relay.peerix.packets.sealing import SEALING, Keys, PairKey, id_of, id_to_bytes_untrusted, unsealed_id

A, B = Keys.from_secret(7), Keys.from_secret(bytes(31) + b"\xff")
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
NONCE = bytes(range(12))
PLAIN = b'[{"name":"Bob"}]'
SEALED = bytes.fromhex("000102030405060708090a0bf31f546831478a559a547f5ab4e90fbaf6550183b71a93ede8fcf0ae1153b77e")
PAIR_KEY = bytes.fromhex("c5ff1089501716951686ab394b9c429ceb88923fc88de2d90ad7d3d40f4b4588")


def test_ids_are_public_keys() -> None:
    assert A.public.hex() == "028e533b6fa0bf7b4625bb30667c01fb607ef9f8b8a80fef5b300628703187b2a3"
    assert B.public.hex() == "02f44b39759a2e6db723a6f90249972dfd08e95380f1fca470eacd1d03e5edf214"
    assert A.id == "2v9Xv4k00ow2aDNr5udPP1xsSX73cVCUyf2wXqZwXL9N"
    assert B.id == "2Tl780PBCfhaelZdOwyxWn9x1uCTICqhoNc5byBmQOhe"
    assert id_to_bytes_untrusted(A.id) == A.public
    assert namespace(A.id, hashing=True) == "jOdtJ2H1wkUCL1w3jNGtglHNnXsTP1sVKWlJKwnsmjT"


def test_sealed_with_the_key_of_both() -> None:
    for keys, public in ((A, B.public), (B, A.public)):
        pair = keys.agree_untrusted(public)
        assert pair.seal(PLAIN, NONCE) == SEALED
        assert pair.open_untrusted(SEALED) == PLAIN
    assert PairKey(PAIR_KEY).open_untrusted(SEALED) == PLAIN
    assert len(SEALED) == len(PLAIN) + SEALING


def test_nothing_can_be_sealed() -> None:
    pair = PairKey(PAIR_KEY)
    assert pair.open_untrusted(pair.seal(b"", NONCE)) == b""


@pytest.mark.parametrize("at", [0, 11, 12, 27, 28, 43])
def test_changed(at: int) -> None:
    changed = bytearray(SEALED)
    changed[at] ^= 1
    with pytest.raises(RemoteProtocolError):
        PairKey(PAIR_KEY).open_untrusted(bytes(changed))


def test_truncated() -> None:
    pair = PairKey(PAIR_KEY)
    for length in range(len(SEALED)):
        with pytest.raises(RemoteProtocolError):
            pair.open_untrusted(SEALED[:length])
    with pytest.raises(RemoteProtocolError):
        pair.open_untrusted(SEALED + b"\x00")


def test_another_key() -> None:
    other = Keys.from_secret(8).agree_untrusted(A.public)
    with pytest.raises(RemoteProtocolError):
        other.open_untrusted(SEALED)


@pytest.mark.parametrize(
    "public",
    [
        b"",
        b"\x00",
        b"\x00" * 33,
        A.public[:-1],
        A.public + b"\x00",
        b"\x04" + A.public[1:],
        b"\x05" + A.public[1:],
        b"\x02" + b"\xff" * 32,
        b"\x02" + bytes(31) + b"\x01",
        bytes.fromhex("046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296")
        + bytes.fromhex("4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"),
    ],
    ids=[
        "nothing",
        "infinity",
        "zeros",
        "short",
        "long",
        "point-4",
        "point-5",
        "too-large",
        "off-curve",
        "uncompressed",
    ],
)
def test_no_compressed_point(public: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="compressed point"):
        A.agree_untrusted(public)


@pytest.mark.parametrize("secret", [0, -1, ORDER, bytes(32), b"\xff" * 32])
def test_no_private_scalar(secret: int | bytes) -> None:
    with pytest.raises(ValueError, match=r"positive integer|Invalid EC key"):
        Keys.from_secret(secret)


def test_ids_without_encryption() -> None:
    entropy = b"\x00\x00" + bytes(range(31))
    assert id_to_bytes_untrusted(unsealed_id(entropy)) == entropy
    assert unsealed_id(bytes(33)) == "0"
    assert len(unsealed_id(b"\xff" * 33)) == 45
    for size in (0, 32, 34):
        with pytest.raises(ValueError, match="33 bytes"):
            id_of(bytes(size))


@pytest.mark.parametrize("size", [0, 11, 13])
def test_nonces_of_another_size(size: int) -> None:
    with pytest.raises(ValueError, match="12 bytes"):
        PairKey(PAIR_KEY).seal(b"", bytes(size))


def test_keys_are_not_shown() -> None:
    shown = repr(A) + repr(PairKey(PAIR_KEY))
    assert PAIR_KEY.hex() not in shown
    assert "c5ff" not in shown
