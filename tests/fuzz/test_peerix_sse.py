"""The parser of event streams, on whatever may come, in any pieces, beside one that takes the standard word by word."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from trio_relay.peerix.drivers.sse_stream import MAX_EVENT_ID, SseEvent, SseItem, SseParser, SseRetry, SseSkipped

MOST = 48
"""Bytes of a line, and of the data of an event, that is not skipped, here."""

PIECES = [
    *(b"data: ", b"data:", b"data", b"event:", b"id: ", b"retry:", b":", b" ", b"other: ", b"Data: 1"),
    *(b"\n", b"\n", b"\n\n", b"\r", b"\r\n", b"\r\n\r\n"),
    *(b"1", b"12000", b"x" * MOST, b"\0", b"\xff", b"\xc3\xa4", b"\xe2\x82", b"\xef\xbb\xbf", b"\xef\xbb"),
]
streams = st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join) | st.binary(max_size=60)
all_places = st.lists(st.integers(0, 500), max_size=6)


def standard(stream: bytes) -> Iterator[SseItem]:
    """The standard's section 9.2.6 over the whole text at once."""
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    data, type, last_id = "", "", ""
    *whole, _ = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for line in whole:
        name, colon, value = line.partition(":")
        value = value[1:] if value[:1] == " " else value
        if line == "":
            if data:
                yield SseEvent(data[:-1], type or "message", last_id)
            data, type = "", ""
        elif colon and not name:
            pass
        elif name == "data":
            data += value + "\n"
        elif name == "event":
            type = value
        elif name == "id" and "\0" not in value:
            last_id = value
        elif name == "retry" and value and set(value) <= set("0123456789") and len(value) <= 15:
            yield SseRetry(int(value) / 1000)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    at = sorted(place % (len(data) + 1) for place in places)
    return [data[start:end] for start, end in zip([0, *at], [*at, len(data)], strict=True)]


def parse(pieces: list[bytes], most: int) -> list[SseItem]:
    parser = SseParser(most)
    return [item for piece in pieces for item in parser.parse_untrusted(piece)]


@given(stream=streams, places=all_places)
def test_it_reads_what_the_standard_says(stream: bytes, places: list[int]) -> None:
    wanted = list(standard(stream))
    assert parse([stream], 10_000) == wanted
    assert parse(cut(stream, places), 10_000) == wanted


@given(stream=streams, places=all_places)
def test_with_bounds_nothing_is_read_that_is_not_there(stream: bytes, places: list[int]) -> None:
    items = parse([stream], MOST)
    assert parse(cut(stream, places), MOST) == items
    events = [item for item in items if isinstance(item, SseEvent)]
    rest = iter([item for item in standard(stream) if isinstance(item, SseEvent)])
    for event in events:
        assert any((event.data, event.type) == (other.data, other.type) for other in rest)
        assert len(event.id.encode()) <= 3 * MAX_EVENT_ID
    if SseSkipped() not in items and max(map(len, stream.splitlines()), default=0) <= MOST:
        assert items == list(standard(stream))
