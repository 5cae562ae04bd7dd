"""Messages out of pieces: what aiortc makes of them, at a cost that does not grow with what waits."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest
from aiortc.rtcsctptransport import DataChunk, InboundStream

from trio_relay.transports.aio.reassembly import MAX_AHEAD, Reassembly, bound_disorder

FIRST, LAST, UNORDERED = 2, 1, 4
AROUND_ZERO = 2**32 - 20


def piece(tsn: int, flags: int, number: int = 0, data: bytes = b"x") -> DataChunk:
    chunk = DataChunk(flags=flags)
    chunk.tsn, chunk.stream_id, chunk.stream_seq = tsn % 2**32, 7, number % 2**16
    chunk.protocol, chunk.user_data = 53, data
    return chunk


def messages(start: int, count: int, rng: random.Random) -> list[DataChunk]:
    """The pieces of so many, some of which need no order."""
    pieces: list[DataChunk] = []
    number = 2**16 - 5
    for message in range(count):
        is_ordered, length = rng.random() < 0.7, rng.randrange(1, 6)
        for at in range(length):
            flags = (FIRST if at == 0 else 0) | (LAST if at == length - 1 else 0) | (0 if is_ordered else UNORDERED)
            pieces.append(piece(start + len(pieces), flags, number, f"{message}.{at} ".encode()))
        number += is_ordered
    return pieces


def feed(stream: Any, pieces: Iterable[DataChunk]) -> list[bytes]:
    given: list[bytes] = []
    for chunk in pieces:
        stream.add_chunk(chunk)
        given += [data for _, _, data in stream.pop_messages()]
    return given


@pytest.mark.parametrize("seed", range(30))
def test_as_aiortc_does(seed: int) -> None:
    rng = random.Random(seed)
    pieces = messages(AROUND_ZERO, 30, rng)
    if seed % 2:
        rng.shuffle(pieces)
    stream, original = Reassembly(7), InboundStream()
    stream.sequence_number = original.sequence_number = 2**16 - 5
    given, expected = feed(stream, pieces), feed(original, pieces)
    assert sorted(given) == sorted(expected)
    assert len(given) == 30
    in_order = {b"".join([p.user_data for p in pieces if p.user_data.startswith(b"%d." % n)]): n for n in range(30)}
    ordered = {chunk.user_data.split(b".")[0] for chunk in pieces if not chunk.flags & UNORDERED}
    if seed % 2 == 0:
        assert given == list(in_order)
    numbers = [int(data.split(b".")[0]) for data in given if data.split(b".")[0] in ordered]
    assert numbers == sorted(numbers)
    assert stream.waiting == 0


def test_what_the_other_side_gave_up() -> None:
    stream = Reassembly(7)
    pieces = [
        piece(2, FIRST, 0, b"never whole"),
        piece(5, FIRST | LAST, 1, b"one"),
        piece(6, FIRST | LAST, 3, b"three"),
        piece(7, FIRST | UNORDERED, 0, b"goes "),
        piece(10, 0, 4, b"its beginning is missing"),
        piece(12, FIRST, 4, b"behind"),
    ]
    assert feed(stream, pieces) == []
    stream.sequence_number = 3
    assert [data for _, _, data in stream.pop_messages()] == [b"one", b"three"]
    assert stream.prune_chunks(7) == len(b"never whole")
    assert feed(stream, [piece(8, LAST | UNORDERED, 0, b"on")]) == [b"goes on"]
    assert stream.prune_chunks(11) == len(b"its beginning is missing")
    assert feed(stream, [piece(13, LAST, 4, b" all")]) == [b"behind all"]
    assert stream.waiting == 0


def test_two_messages_with_one_number() -> None:
    stream = Reassembly(7)
    stream.add_chunk(piece(1, FIRST | LAST, 9))
    with pytest.raises(ValueError, match="the same number"):
        stream.add_chunk(piece(2, FIRST | LAST, 9))


class Association:
    """The private parts of aiortc's that are looked at."""

    def __init__(self, last: int) -> None:
        self._last_received_tsn = last
        self._sack_misordered: set[int] = set()
        self._sack_duplicates: list[int] = []


def test_numbers_of_what_came() -> None:
    association: Any = Association(2**32 - 2)
    drops: list[bool] = []
    bound_disorder(association, lambda: drops.append(True))
    mark = association._mark_received
    assert [mark(tsn) for tsn in (1, 2, 2**32 - 1, 0)] == [False] * 4
    assert (association._last_received_tsn, association._sack_misordered) == (2, set())
    assert [mark(tsn) for tsn in (2, 2**32 - 2, 9, 9)] == [True, True, False, True]
    assert association._sack_duplicates == [2, 2**32 - 2, 9]
    assert [mark(tsn) for tsn in (2 + MAX_AHEAD, 3 + MAX_AHEAD)] == [False, True]
    assert drops == [True]


def test_endless_pieces_cost_as_much_as_few() -> None:
    """10,000 pieces of one message, then whole ones that need no order, look at nothing that waits."""

    class Counted(dict[int, Any]):
        looks = 0

        def __iter__(self) -> Any:
            raise AssertionError("all that waits is looked through")

        def get(self, key: int, default: Any = None) -> Any:
            Counted.looks += 1
            return super().get(key, default)

    stream: Any = Reassembly(7)
    stream._by_first, stream._by_last = Counted(), Counted()
    assert feed(stream, (piece(n, FIRST if n == 1 else 0) for n in range(1, 10_001))) == []
    assert stream.waiting == 10_000
    assert len(feed(stream, (piece(n, FIRST | LAST | UNORDERED) for n in range(20_000, 20_100)))) == 100
    assert Counted.looks <= 2 * 10_100
