from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_relay.cli.stdio import LineSplitter

SIZE = 8
pieces = st.lists(st.binary(max_size=3) | st.just(b"\n") | st.binary(max_size=20))


def split(chunks: list[bytes]) -> list[bytes | None]:
    splitter = LineSplitter(SIZE)
    lines = [line for chunk in chunks for line in splitter.feed(chunk)]
    return [*lines, *splitter.finish()]


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"\n", [b""]),
        (b"a", [b"a"]),
        (b"a\nb\n", [b"a", b"b"]),
        (b"a\r\n\nb", [b"a\r", b"", b"b"]),
        (b"12345678\n", [b"12345678"]),
        (b"123456789\nb\n", [None, b"b"]),
        (b"123456789", [None]),
        (b"a\n123456789\n", [b"a", None]),
    ],
)
def test_lines(data: bytes, lines: list[bytes | None]) -> None:
    assert split([data]) == lines


@given(pieces)
def test_chunks_do_not_matter(chunks: list[bytes]) -> None:
    whole = b"".join(chunks)
    expected = [line if len(line) <= SIZE else None for line in whole.split(b"\n")]
    if expected[-1] == b"":
        expected.pop()
    assert split(chunks) == expected
    assert split([whole]) == expected
