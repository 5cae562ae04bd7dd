"""One session: sealing, sealing again, opening, and the counters that bound it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from trio_relay.overlay.session.session import MOST_FRAMES, RENEW_FRAMES, Arrival, Session
from trio_relay.wire.frame import Flag, Kind
from trio_relay.wire.session import BOX_LENGTH, SEALED_HEAD, TAG_LENGTH

from .support import OWN, make_keys, node_id, numbered

PEER = node_id(1)
ID = b"message1"
BOX = bytes(range(BOX_LENGTH))
SEALED = Flag.SEALED
NEW, COPY, REFUSED = ((b"hello", arrival) for arrival in (Arrival.NEW, Arrival.COPY, Arrival.REFUSED))
BROKEN = None


@dataclass
class Pair:
    """Both ends of a session; the opener's proof is not checked here."""

    opener: Session
    accepter: Session

    def seal(self, payload: bytes = b"hello", flags: int = 0) -> tuple[int, bytes]:
        return self.opener.seal(Kind.DATA, flags, PEER, OWN, ID, payload)

    def seal_as(self, counter: int, payload: bytes = b"hello") -> bytes:
        return self.opener.seal_again(counter, Kind.DATA, SEALED, PEER, OWN, ID, payload)

    def unseal(self, sealed: bytes, flags: int = SEALED) -> tuple[bytes, Arrival] | None:
        plain, arrival = self.accepter.unseal(Kind.DATA, flags, PEER, OWN, ID, sealed)
        return None if plain is None else (plain, arrival)


def make_pair(*, confirmed: bool = True) -> Pair:
    keys = make_keys()
    opener = Session(OWN, PEER, numbered(1), numbered(2), keys, bytes(32), BOX, 0.0)
    accepter = Session(PEER, OWN, numbered(2), numbered(1), keys, bytes(32), b"", 0.0)
    if confirmed:
        opener.proof = b""
    return Pair(opener, accepter)


def test_the_documents_numbers() -> None:
    assert RENEW_FRAMES == 2**21
    assert MOST_FRAMES == 2**22


def test_a_frame_has_the_receivers_index_and_the_next_counter() -> None:
    pair = make_pair()
    for counter in range(3):
        flags, sealed = pair.seal()
        assert flags == Flag.SEALED
        assert sealed[:16] == numbered(2) + numbered(counter)
        assert len(sealed) == 16 + len(b"hello") + TAG_LENGTH
        assert b"hello" not in sealed
        assert pair.unseal(sealed) == NEW
    assert pair.opener.sealed == 3
    assert pair.accepter.sealed == 0


def test_both_directions_have_counters_and_keys_of_their_own() -> None:
    pair = make_pair()
    _, there = pair.opener.seal(Kind.DATA, 0, PEER, OWN, ID, b"hello")
    _, back = pair.accepter.seal(Kind.DATA, 0, PEER, OWN, ID, b"hello")
    assert there[8:16] == back[8:16] == bytes(8)
    assert there[16:] != back[16:]
    assert pair.opener.unseal(Kind.DATA, SEALED, PEER, OWN, ID, back) == NEW
    assert pair.unseal(there) == NEW


def test_the_proof_goes_along_until_the_session_is_confirmed() -> None:
    pair = make_pair(confirmed=False)
    flags, sealed = pair.seal(flags=Flag.CONFIRM)
    assert flags == Flag.SEALED | Flag.OPENING | Flag.CONFIRM
    assert sealed[16 : 16 + BOX_LENGTH] == BOX
    assert pair.unseal(sealed, flags) == NEW
    pair.opener.proof = b""
    assert pair.opener.confirmed
    flags, sealed = pair.seal()
    assert flags == Flag.SEALED
    assert BOX not in sealed
    assert pair.unseal(sealed) == NEW
    # An accepter's session is confirmed from the beginning.
    assert pair.accepter.confirmed
    assert pair.accepter.seal(Kind.DATA, 0, OWN, PEER, ID, b"")[0] == Flag.SEALED


def test_a_copy_is_the_same_bytes_even_after_the_session_was_confirmed() -> None:
    pair = make_pair(confirmed=False)
    flags, sealed = pair.seal()
    pair.opener.proof = b""
    pair.seal()
    assert pair.opener.seal_again(0, Kind.DATA, flags, PEER, OWN, ID, b"hello") == sealed
    assert pair.opener.sealed == 2
    assert pair.unseal(sealed, flags) == NEW
    assert pair.unseal(sealed, flags) == COPY


def test_no_more_frames_than_the_limit() -> None:
    pair = make_pair()
    pair.opener.sealed = MOST_FRAMES - 1
    _, last = pair.seal()
    assert last[8:16] == numbered(MOST_FRAMES - 1)
    assert pair.unseal(last) == NEW
    with pytest.raises(AssertionError):
        pair.seal()
    assert pair.opener.sealed == MOST_FRAMES


def test_a_copy_is_told_from_a_forgery() -> None:
    pair = make_pair()
    _, sealed = pair.seal()
    assert pair.unseal(sealed) == NEW
    assert pair.unseal(sealed) == COPY
    assert pair.unseal(sealed[:-1] + bytes([sealed[-1] ^ 1])) is BROKEN
    assert pair.unseal(sealed[:8] + numbered(9) + sealed[16:]) is BROKEN


@pytest.mark.parametrize("length", [*range(SEALED_HEAD.size, SEALED_HEAD.size + TAG_LENGTH + 1), 100, 127, 143])
@pytest.mark.parametrize("flags", [SEALED, SEALED | Flag.OPENING])
def test_garbage_of_any_length(length: int, flags: int) -> None:
    """Shorter than a tag, or than the box that the flag promises: not genuine, and nothing is raised."""
    pair = make_pair()
    assert pair.unseal(bytes(length), flags) is BROKEN
    assert pair.unseal(pair.seal()[1]) == NEW


def test_what_does_not_open_changes_nothing() -> None:
    pair = make_pair()
    ahead = pair.seal_as(2**40)
    pair.unseal(ahead[:-1] + bytes([ahead[-1] ^ 1]))
    assert pair.unseal(pair.seal_as(0)) == NEW


def test_the_edge_of_the_window() -> None:
    pair = make_pair()
    assert pair.unseal(pair.seal_as(20_000)) == NEW
    assert pair.unseal(pair.seal_as(20_000 - 8191)) == NEW
    assert pair.unseal(pair.seal_as(20_000 - 8192)) == COPY
    assert pair.unseal(pair.seal_as(20_000 - 8191)) == COPY


def test_what_was_not_taken_is_told_from_other_copies_and_never_taken() -> None:
    """So its sender can seal the message anew: no delayed copy of this frame makes a second message of it."""
    pair = make_pair()
    _, first = pair.seal()
    _, second = pair.seal()
    assert pair.unseal(second) == NEW
    assert pair.unseal(first) == NEW
    pair.accepter.refuse(first)
    assert pair.unseal(second) == COPY
    assert pair.unseal(first) == REFUSED
    assert pair.unseal(first) == REFUSED


def test_as_many_refused_messages_are_remembered_as_documented() -> None:
    pair = make_pair()
    frames = [pair.seal()[1] for _ in range(100)]
    for frame in frames:
        assert pair.unseal(frame) == NEW
        pair.accepter.refuse(frame)
    assert [pair.unseal(frame) for frame in frames] == [COPY] * 36 + [REFUSED] * 64


def test_the_smaller_id_is_known_to_both() -> None:
    pair = make_pair()
    assert pair.opener.by_smaller is pair.accepter.by_smaller is (OWN < PEER)
    keys = make_keys()
    opener = Session(PEER, OWN, numbered(1), numbered(2), keys, bytes(32), BOX, 0.0)
    accepter = Session(OWN, PEER, numbered(2), numbered(1), keys, bytes(32), b"", 0.0)
    assert opener.by_smaller is accepter.by_smaller is (PEER < OWN)


def test_every_nonce_is_another_one() -> None:
    """The iv XOR the counter: the same plain text never has the same bytes twice."""
    pair = make_pair()
    sealed = {pair.seal_as(counter)[16:] for counter in [*range(64), 2**21, MOST_FRAMES - 1]}
    assert len(sealed) == 66
