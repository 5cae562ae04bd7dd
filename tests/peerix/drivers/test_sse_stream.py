"""The parser of event streams: the HTML standard's own examples, and its odd corners."""

from __future__ import annotations

import pytest

from trio_relay.peerix.drivers.sse_stream import MAX_EVENT_ID, SseEvent, SseItem, SseParser, SseRetry, SseSkipped

MOST = 64


def parse(*pieces: bytes, most: int = MOST) -> list[SseItem]:
    parser = SseParser(most)
    return [item for piece in pieces for item in parser.parse_untrusted(piece)]


@pytest.mark.parametrize(
    ("stream", "items"),
    [
        # The examples of section 9.2.6.
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", [SseEvent("YHOO\n+2\n10")]),
        (
            b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n",
            [SseEvent("first event", id="1"), SseEvent("second event")],
        ),
        (b"data\n\ndata\ndata\n\ndata:", [SseEvent(""), SseEvent("\n")]),
        (b"data:test\n\ndata: test\n\n", [SseEvent("test"), SseEvent("test")]),
        # Others.
        (b"event: add\ndata: 1\n\ndata: 2\n\n", [SseEvent("1", "add"), SseEvent("2")]),
        (b"event: add\n\ndata: 2\n\n", [SseEvent("2")]),
        (b"event\ndata: 1\n\n", [SseEvent("1")]),
        (b"id: 7\n\ndata: 1\n\ndata: 2\n\n", [SseEvent("1", id="7"), SseEvent("2", id="7")]),
        (b"id: 7\ndata: 1\n\nid: 8\0\ndata: 2\n\n", [SseEvent("1", id="7"), SseEvent("2", id="7")]),
        (b"retry: 1500\nretry: 1.5\nretry: -1\nretry\nretry: \xb2\n\n", [SseRetry(1.5)]),
        (b"retry: 1" + b"0" * 20 + b"\n", []),
        (b"Data: 1\n data: 2\ndata : 3\nmore: 4\n\n", []),
        (b"data: a:b\n\n", [SseEvent("a:b")]),
        (b"\xef\xbb\xbfdata: 1\n\n", [SseEvent("1")]),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: 1\n\ndata: \xef\xbb\xbf\n\n", [SseEvent("\ufeff")]),
        (b"data: \xc3\xa4\xff\xe2\x82\n\n", [SseEvent("ä\ufffd\ufffd")]),
        (b"data: 1\rdata: 2\r\r", [SseEvent("1\n2")]),
        (b"data: 1\r\ndata: 2\r\n\r\n", [SseEvent("1\n2")]),
        (b"data: 1\n\r\n\r\n", [SseEvent("1")]),
        (b"data: 1\r\n\rdata: 2\n\r", [SseEvent("1"), SseEvent("2")]),
        ("data: 1\u2028\x0b\x0c\x852\n\n".encode(), [SseEvent("1\u2028\x0b\x0c\x852")]),
    ],
)
def test_streams(stream: bytes, items: list[SseItem]) -> None:
    assert parse(stream) == items
    assert parse(*(stream[at : at + 1] for at in range(len(stream)))) == items


def test_an_event_is_there_with_the_first_byte_of_its_end() -> None:
    parser = SseParser(MOST)
    assert parser.parse_untrusted(b"data: 1\r\n\r") == [SseEvent("1")]
    assert parser.parse_untrusted(b"") == []
    assert parser.parse_untrusted(b"\n") == []
    assert parser.parse_untrusted(b"data: 2\n\n") == [SseEvent("2")]


def test_what_is_larger_than_the_bound_is_skipped_and_what_follows_is_not() -> None:
    long = b"x" * (MOST + 1)
    for skipped in (b"data: " + long, b"data: 1\n" * 40, b"data\n" * (MOST + 2), b"event: " + long + b"\ndata: 1"):
        assert parse(skipped + b"\n\ndata: 2\n\n") == [SseSkipped(), SseEvent("2")]
    exact = b"x" * (MOST - len("data: "))
    assert parse(b"data: " + exact + b"\n\n") == [SseEvent(exact.decode())]
    assert parse(b"data: " + exact + b"x\n\n") == [SseSkipped()]


def test_a_comment_of_any_length_harms_nothing() -> None:
    assert parse(b"data: 1\n:" + b"x" * 500, b"y" * 500 + b"\n\n") == [SseEvent("1")]


def test_the_last_id_is_that_of_whole_events() -> None:
    parser = SseParser(4096, "before")
    parser.parse_untrusted(b"id: 1\n")
    assert parser.last_id == "before"
    parser.parse_untrusted(b"\n")
    assert parser.last_id == "1"
    parser.parse_untrusted(b"id: " + b"x" * (MAX_EVENT_ID + 1) + b"\n\n")
    assert parser.last_id == "1"
    parser.parse_untrusted(b"id\n\n")
    assert parser.last_id == ""


def test_a_line_in_many_pieces_is_bounded() -> None:
    parser = SseParser(MOST)
    for _ in range(1000):
        assert parser.parse_untrusted(b"data: data: data: ") == []
    assert parser.parse_untrusted(b"\n\n") == [SseSkipped()]
