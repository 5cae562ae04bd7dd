"""Sealed records: both ends agree on keys, and whatever a relay does to records is found."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from contextlib import suppress
from itertools import count
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_relay.exceptions import RemoteProtocolError
from trio_relay.peerjs.fallback.sealing import SEALING, RelayKey, RelaySecret, Role, SealedCarriage, agree

A_SEED: Final = hashlib.sha256(b"a").digest()
B_SEED: Final = hashlib.sha256(b"b").digest()
A, B = RelayKey(A_SEED), RelayKey(B_SEED)


def secret(key: RelayKey, other: RelayKey, role: Role, **changed: object) -> RelaySecret:
    facts: dict[str, Any] = {"connection_id": "dc_1", "originator": "alice", "answerer": "bob", "round_": 0}
    return agree(key, other.public, role, **(facts | changed))


ORIGINATOR: Final = secret(A, B, "originator")
ANSWERER: Final = secret(B, A, "answerer")


def make(reorder: int = 0, counts: Counter[str] | None = None) -> tuple[SealedCarriage, SealedCarriage]:
    """Two ends that have each other's salt."""
    counts = Counter() if counts is None else counts
    one = SealedCarriage(ORIGINATOR, "broker", b"1" * 16, counts=counts, reorder=reorder)
    other = SealedCarriage(ANSWERER, "broker", b"2" * 16, counts=counts, reorder=reorder)
    before = one.is_ready
    assert one.open(other.greeting) == other.open(one.greeting) == []
    assert (before, one.is_ready) == (False, True)
    return one, other


def test_records_are_as_the_documentation_says() -> None:
    shared = X25519PrivateKey.from_private_bytes(A_SEED).exchange(X25519PublicKey.from_public_bytes(B.public))
    info = b"trio-relay peerjs fallback 1" + bytes(4)
    for text in (b"dc_1", b"alice", b"bob"):
        info += len(text).to_bytes(4, "big") + text
    salt = hashlib.sha256(info + A.public + B.public).digest()
    label = b"originatorbroker" + b"1" * 16 + b"2" * 16
    material = HKDF(SHA256(), 44, salt, label).derive(shared)
    one, _ = make()
    for counter in (0, 1):
        head = b"\x02" + counter.to_bytes(8, "big")
        nonce = material[32:-1] + bytes([material[-1] ^ counter])
        assert one.seal(b"data") == head + ChaCha20Poly1305(material[:32]).encrypt(nonce, b"data", head)
    assert one.greeting == b"\x01" + b"1" * 16


def test_both_directions_carry_what_was_sealed() -> None:
    one, other = make()
    for number in range(5):
        record = one.seal(b"%d" % number)
        assert len(record) == 1 + SEALING
        assert other.open(record) == [b"%d" % number]
        assert one.open(other.seal(bytes(70_000))) == [bytes(70_000)]
    assert other.open(one.seal(b"")) == [b""]


@pytest.mark.parametrize(
    "changed",
    [{"connection_id": "dc_2"}, {"originator": "eve"}, {"answerer": "eve"}, {"round_": 1}, {"originator": "aliceb"}],
)
def test_every_fact_of_the_connection_is_in_the_keys(changed: dict[str, object]) -> None:
    one, _ = make()
    wrong = SealedCarriage(secret(B, A, "answerer", **changed), "broker", b"2" * 16, counts=Counter())
    wrong.open(one.greeting)
    with pytest.raises(RemoteProtocolError, match="does not open"):
        wrong.open(one.seal(b"data"))
    other = secret(B, A, "answerer", **changed)
    assert other.incoming_tag != ORIGINATOR.outgoing_tag == ANSWERER.incoming_tag
    assert other.outgoing_tag != ORIGINATOR.incoming_tag == ANSWERER.outgoing_tag != ANSWERER.incoming_tag


def test_another_key_another_medium_or_another_salt_opens_nothing() -> None:
    one, _ = make()
    eve = RelayKey(hashlib.sha256(b"eve").digest())
    ends = [
        SealedCarriage(secret(eve, A, "answerer"), "broker", b"2" * 16, counts=Counter()),
        SealedCarriage(ANSWERER, "overlay", b"2" * 16, counts=Counter()),
        SealedCarriage(ANSWERER, "broker", b"3" * 16, counts=Counter()),
    ]
    record = one.seal(b"data")
    for end in ends:
        end.open(one.greeting)
        with pytest.raises(RemoteProtocolError, match="does not open"):
            end.open(record)


def test_what_is_reflected_is_refused() -> None:
    one, _ = make()
    alone = SealedCarriage(ORIGINATOR, "broker", b"1" * 16, counts=Counter())
    with pytest.raises(RemoteProtocolError, match="16 bytes as a salt, and not our own"):
        alone.open(alone.greeting)
    with pytest.raises(RemoteProtocolError, match="does not open"):
        one.open(one.seal(b"data"))
    with pytest.raises(RemoteProtocolError, match="of the other side, got our own"):
        secret(A, A, "originator")


@pytest.mark.parametrize(
    ("place", "reason"), [(0, "a salt or a record"), (8, "record 0, got"), (9, "does not open"), (-1, "does not open")]
)
def test_a_changed_record_is_refused(place: int, reason: str) -> None:
    one, other = make()
    record = bytearray(one.seal(b"data"))
    record[place] ^= 4
    with pytest.raises(RemoteProtocolError, match=reason):
        other.open(bytes(record))


def test_a_record_that_was_cut_is_refused() -> None:
    one, other = make()
    record = one.seal(b"data")
    for size in range(len(record)):
        with pytest.raises(RemoteProtocolError):
            other.open(record[:size])
    assert other.open(record) == [b"data"]


def test_where_the_order_is_kept_any_other_order_is_a_violation() -> None:
    one, other = make()
    first, second = one.seal(b"1"), one.seal(b"2")
    with pytest.raises(RemoteProtocolError, match="record 0, got record 1"):
        other.open(second)
    assert other.open(first) == [b"1"]
    with pytest.raises(RemoteProtocolError, match="record 1, got record 0"):
        other.open(first)
    assert other.open(second) == [b"2"]
    with pytest.raises(RemoteProtocolError, match="one salt, got another"):
        other.open(one.greeting)


def test_a_record_before_the_salt_is_a_violation_where_the_order_is_kept() -> None:
    one, _ = make()
    fresh = SealedCarriage(ANSWERER, "broker", b"2" * 16, counts=Counter())
    with pytest.raises(RemoteProtocolError, match="a salt, got record 0"):
        fresh.open(one.seal(b"data"))
    with pytest.raises(RuntimeError, match="both salts"):
        fresh.seal(b"data")


@given(st.integers(0, 2**32), st.integers(1, 40))
@settings(max_examples=40)
def test_where_it_is_not_kept_records_wait_for_earlier_ones(seed: int, number: int) -> None:
    rng, counts = random.Random(seed), Counter[str]()
    one, _ = make(16)
    other = SealedCarriage(ANSWERER, "broker", b"2" * 16, counts=counts, reorder=16)
    messages = [one.seal(bytes([n])) for n in range(number)]
    late = sorted(range(number), key=lambda n: n + rng.randrange(8))
    repeats = sum(rng.random() < 0.3 for _ in late)
    heard: list[bytes] = []
    for place, n in enumerate(late):
        if place == min(rng.randrange(9), number - 1) or (place == 8 and not other.is_ready):
            heard += other.open(one.greeting)
        heard += other.open(messages[n])
    heard += other.open(one.greeting)
    for n in range(repeats):
        assert other.open(messages[n]) == []
    assert heard == [bytes([n]) for n in range(number)]
    assert counts["relay_repeated"] == repeats


def test_only_so_many_records_wait() -> None:
    one, other = make(4)
    records = [one.seal(b"x") for _ in range(6)]
    assert other.open(records[4]) == []
    with pytest.raises(RemoteProtocolError, match="record 0, got record 5"):
        other.open(records[5])
    with pytest.raises(RemoteProtocolError, match="one salt, got another"):
        other.open(b"\x01" + b"9" * 16)


def test_a_forged_early_record_ends_the_carrier_when_its_turn_comes() -> None:
    one, other = make(4)
    first, second = one.seal(b"x"), one.seal(b"y")
    assert other.open(second[:-1] + bytes([second[-1] ^ 1])) == []
    with pytest.raises(RemoteProtocolError, match="does not open"):
        other.open(first)


@pytest.mark.parametrize("public", [b"", bytes(32), bytes(31), bytes(33)])
def test_what_is_no_key_is_refused(public: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="an X25519 key of 32 bytes"):
        agree(A, public, "originator", connection_id="", originator="", answerer="", round_=0)


def test_no_secret_is_printed() -> None:
    assert A_SEED.hex() not in f"{A!r}{ORIGINATOR!r}"
    assert repr(ORIGINATOR) == "RelaySecret(role='originator')"


@given(st.binary(max_size=60))
@settings(max_examples=50)
def test_no_bytes_raise_anything_else(message: bytes) -> None:
    for reorder, end in zip(count(), make(), strict=False):
        with suppress(RemoteProtocolError):
            assert end.open(message) == [] or reorder
