"""Chunks: cut as the original cuts, put together from whatever order, and bounded by what has come."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.peerjs.serialization.support import SMALL, memory_below, refusal
from trio_relay.exceptions import RemoteProtocolError
from trio_relay.peerjs.serialization.binarypack import unpack_untrusted
from trio_relay.peerjs.serialization.chunks import SLICE, Assembler, split
from trio_relay.peerjs.serialization.serializer import SerializerLimits


def chunk(set_id: Any = 1, index: Any = 0, total: Any = 2, data: Any = b"x") -> dict[str, Any]:
    return {"__peerData": set_id, "n": index, "data": data, "total": total}


def test_a_chunk_has_the_bytes_of_the_original() -> None:
    data = bytes(range(256)) * 64
    first, last = split([data[:10000], memoryview(data)[10000:]], 7)
    head = b"\x84\xba__peerData\x07\xb1n"
    assert first == head + b"\x00\xb4data\xda\x3f\xac" + data[:SLICE] + b"\xb5total\x02"
    assert last == head + b"\x01\xb4data\xda\x00\x54" + data[SLICE:] + b"\xb5total\x02"
    assert list(split([data[: SLICE + 3]], 200))[1].hex() == (
        "84ba5f5f7065657244617461ccc8b16e01b464617461a3acadaeb5746f74616c02"
    )


def test_chunks_are_made_as_they_are_taken() -> None:
    data = bytes(5_000_000)
    with memory_below(200_000):
        assert sum(len(each) for each in split([data], 1)) > len(data)


@given(st.lists(st.integers(0, 40_000), min_size=1, max_size=5), st.integers(1, 2**40))
@settings(max_examples=20)
def test_what_was_cut_is_put_together(sizes: list[int], set_id: int) -> None:
    parts = [bytes([number % 256]) * size for number, size in enumerate(sizes)]
    whole = b"".join(parts)
    assembler = Assembler(SerializerLimits(max_value=300_000))
    chunks = [unpack_untrusted(each) for each in split(parts, set_id)]
    assert [len(each["data"]) for each in chunks[:-1]] == [SLICE] * (len(chunks) - 1)
    results = [assembler.add_untrusted(each) for each in reversed(chunks)]
    if whole:
        assert results[:-1] == [None] * (len(chunks) - 1)
        assert b"".join(results[-1] or []) == whole
    assert assembler.held == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"set_id": "1"},
        {"set_id": True},
        {"set_id": 1.5},
        {"index": None},
        {"index": -1},
        {"index": 2},
        {"index": "__proto__"},
        {"total": None},
        {"total": 0},
        {"total": 2.5},
        {"data": b""},
        {"data": "x"},
        {"data": None},
        {"total": 2**31},
        {"total": 2**64 - 1},
    ],
    ids=str,
)
def test_a_chunk_that_is_none_is_refused(fields: dict[str, Any]) -> None:
    assembler = Assembler(SMALL)
    with pytest.raises(RemoteProtocolError):
        assembler.add_untrusted(chunk(**fields))


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (chunk(), "once"),
        (chunk(data=b"y"), "once"),
        (chunk(index=1, total=3), "2 slices in all"),
        (chunk(total=1), "2 slices in all"),
    ],
)
def test_a_chunk_that_contradicts_its_set_is_refused(second: dict[str, Any], reason: str) -> None:
    assembler = Assembler(SMALL)
    assembler.add_untrusted(chunk())
    with pytest.raises(RemoteProtocolError, match=reason):
        assembler.add_untrusted(second)


def test_unfinished_sets_are_bounded() -> None:
    assembler = Assembler(SMALL)
    for number in range(3):
        assembler.add_untrusted(chunk(number))
    with pytest.raises(RemoteProtocolError, match="at most 3 unfinished"):
        assembler.add_untrusted(chunk(3))


def test_finished_sets_make_room() -> None:
    assembler = Assembler(SMALL)
    for number in range(10):
        assert assembler.add_untrusted(chunk(number)) is None
        assert assembler.add_untrusted(chunk(number, 1, data=b"y" * 60_000)) == [b"x", b"y" * 60_000]
    for _ in range(500):
        assert assembler.add_untrusted(chunk(0, 0, 1)) == [b"x"]
    assert assembler.held == 0


def test_bytes_of_all_sets_together_are_bounded() -> None:
    assembler = Assembler(SMALL)
    assembler.add_untrusted(chunk(1, data=bytes(60_000)))
    assembler.add_untrusted(chunk(2, data=bytes(39_000)))
    assert assembler.held == 99_000
    with pytest.raises(RemoteProtocolError, match="100000 bytes"):
        assembler.add_untrusted(chunk(3, data=bytes(1000)))


def test_slices_are_bounded_by_number_too() -> None:
    assembler = Assembler(SMALL)
    with memory_below(200_000):
        chunks = (chunk(number, index, 401) for number in range(3) for index in range(400))
        assert "slices" in str(refusal(assembler.add_untrusted, chunks))


class Sets(RuleBasedStateMachine):
    """Chunks of several values, in any order among each other."""

    def __init__(self) -> None:
        super().__init__()
        self.assembler = Assembler(SMALL)
        self.values = dict[int, list[bytes]]()
        self.missing = dict[int, list[int]]()
        self.last = 0

    @precondition(lambda self: len(self.missing) < SMALL.max_unfinished)
    @rule(sizes=st.lists(st.integers(1, 300), min_size=1, max_size=6), data=st.data())
    def begin(self, sizes: list[int], data: st.DataObject) -> None:
        self.last += 1
        self.values[self.last] = [bytes([index]) * size for index, size in enumerate(sizes)]
        self.missing[self.last] = data.draw(st.permutations(range(len(sizes))))
        self.take(self.last)

    @precondition(lambda self: bool(self.missing))
    @rule(data=st.data())
    def proceed(self, data: st.DataObject) -> None:
        self.take(data.draw(st.sampled_from(sorted(self.missing))))

    def take(self, number: int) -> None:
        slices, index = self.values[number], self.missing[number].pop()
        result = self.assembler.add_untrusted(chunk(number, index, len(slices), slices[index]))
        if self.missing[number]:
            assert result is None
        else:
            assert result == slices
            del self.missing[number]

    @invariant()
    def holds_what_has_come_of_the_unfinished(self) -> None:
        came = {number: set(range(len(self.values[number]))) - set(left) for number, left in self.missing.items()}
        expected = sum(len(self.values[number][index]) for number, indices in came.items() for index in indices)
        assert self.assembler.held == expected


Sets.TestCase.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
test_sets = Sets.TestCase
