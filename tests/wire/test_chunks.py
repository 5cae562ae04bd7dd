from __future__ import annotations

from collections import deque

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_relay.exceptions import RemoteProtocolError
from trio_relay.wire.chunks import FIRST_CREDIT, GOODBYE, MAX_CHUNK, MIN_CHUNK, Incoming, Outgoing, cost
from trio_relay.wire.frame import MAX_MESSAGE

WINDOW = 1 << 20
sizes = st.integers(0, 5000) | st.sampled_from([1023, 1024, 1025, 65534, 65535, 65536, MAX_MESSAGE])
most = st.integers(MIN_CHUNK + 1, 5000) | st.sampled_from([16384, 65535, 65536, 65537, 262144])


def message(size: int) -> bytes:
    return bytes([size % 251]) * size


@given(st.lists(sizes, max_size=6), most)
@example([MAX_MESSAGE] * 3, MIN_CHUNK + 1)
def test_messages_come_out_as_they_went_in(lengths: list[int], max_message: int) -> None:
    incoming, outgoing = Incoming(WINDOW), Outgoing(max_message)
    got: list[bytes] = []
    for length in lengths:
        for chunk in outgoing.split(message(length)):
            assert len(chunk) <= min(max_message, MAX_CHUNK)
            incoming.feed(chunk)
        got += incoming.take()
        incoming.grant()
    assert got == [message(length) for length in lengths]
    assert not incoming.waiting
    assert not incoming.ended


@given(st.lists(st.tuples(st.binary(max_size=6000), st.integers(MIN_CHUNK, 6000)), max_size=5))
def test_any_splitting_is_understood(messages: list[tuple[bytes, int]]) -> None:
    incoming = Incoming(WINDOW)
    for body, size in messages:
        while len(body) > size:
            incoming.feed(b"\1" + body[:size])
            body = body[size:]
        incoming.feed(b"\0" + body)
    assert incoming.take() == [body for body, _ in messages]


@given(
    st.lists(sizes, min_size=1, max_size=40),
    most,
    st.sampled_from([1, FIRST_CREDIT, FIRST_CREDIT + 1, WINDOW]),
    st.lists(st.integers(0, 7), min_size=1, max_size=20),
)
@example([MAX_MESSAGE] * 10, MIN_CHUNK + 1, 1, [3])
@example([0] * 40 + [MAX_MESSAGE] * 5, MAX_CHUNK, FIRST_CREDIT, [1])
def test_credit_never_stops_an_honest_sender(
    lengths: list[int], max_message: int, window: int, pauses: list[int]
) -> None:
    """Who takes, now and then, all that has come, gets everything; credit may be on its way for some time."""
    incoming, outgoing = Incoming(window), Outgoing(max_message)
    chunks = deque(chunk for length in lengths for chunk in outgoing.split(message(length)))
    got: list[bytes] = []
    for turn in range(10_000):
        sent = 0
        while chunks and outgoing.credit >= cost(chunks[0]) and sent <= pauses[turn % len(pauses)]:
            outgoing.credit -= cost(chunks[0])
            incoming.feed(chunks.popleft())
            sent += 1
        got += incoming.take()
        if incoming.credit_due:
            grant = incoming.grant()
            if turn % 3 == 0:
                incoming.take_back(grant)
                grant = incoming.grant()
            back = Incoming(WINDOW)
            back.feed(grant)
            outgoing.credit += back.granted
        if not chunks:
            break
    assert got == [message(length) for length in lengths]


def test_what_may_wait_is_bounded() -> None:
    """In bytes, and in messages that have none."""
    for body in (b"", bytes(1000), bytes(MAX_CHUNK - 1)):
        incoming, chunk = Incoming(FIRST_CREDIT), b"\0" + body
        fits = FIRST_CREDIT // cost(chunk)
        for _ in range(fits):
            incoming.feed(chunk)
        with pytest.raises(RemoteProtocolError, match="credit of 262144 bytes"):
            incoming.feed(chunk)
        assert len(incoming.take()) == fits <= 4096


def test_what_is_taken_is_not_yet_credit() -> None:
    incoming, chunk = Incoming(FIRST_CREDIT), b"\0" + bytes(60_000)
    for _ in range(4):
        incoming.feed(chunk)
    assert len(incoming.take()) == 4
    assert incoming.credit_due
    with pytest.raises(RemoteProtocolError, match="credit"):
        incoming.feed(chunk)


def test_the_first_credit_tells_the_window() -> None:
    incoming = Incoming(WINDOW)
    before, grant, after = incoming.credit_due, incoming.grant(), incoming.credit_due
    assert (before, after) == (True, False)
    assert grant == b"\2" + (WINDOW - FIRST_CREDIT).to_bytes(4, "big")
    assert not Incoming(FIRST_CREDIT).credit_due
    assert Incoming(1 << 40).grant() == b"\2\xff\xff\xff\xff"


def test_credit_for_us_adds_up() -> None:
    incoming = Incoming(WINDOW)
    incoming.feed(b"\2\0\0\1\0")
    incoming.feed(b"\2\xff\xff\xff\xff")
    assert incoming.granted == (1 << 32) + 255


def test_a_goodbye_is_the_last() -> None:
    incoming = Incoming(WINDOW)
    incoming.feed(b"\0last")
    incoming.feed(GOODBYE)
    assert incoming.ended
    assert incoming.take() == [b"last"]
    for late in (GOODBYE, b"\0", b"\2\0\0\0\1"):
        with pytest.raises(RemoteProtocolError, match="nothing after a goodbye"):
            incoming.feed(late)


def test_after_our_goodbye_only_theirs_counts() -> None:
    incoming = Incoming(WINDOW)
    incoming.feed(b"\1" + bytes(MIN_CHUNK))
    incoming.closing = True
    for ignored in (b"\0", b"", "text", b"\3x", b"\1" + bytes(MAX_CHUNK)):
        incoming.feed(ignored)
        assert not incoming.ended
    incoming.feed(GOODBYE)
    assert incoming.ended
    assert incoming.take() == []


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        (["text"], "got text"),
        ([b""], "got nothing"),
        ([b"\4"], "got 04"),
        ([b"\xff" * 100], "got ffffffffffffffff"),
        ([b"\1" + bytes(MIN_CHUNK - 1)], "at least 1024 bytes before the last, got 1023"),
        ([b"\0" + bytes(MAX_CHUNK)], "at most 65536 bytes, got 65537"),
        ([b"\1" + bytes(MAX_CHUNK)], "at most 65536 bytes, got 65537"),
        ([b"\1" + bytes(60_000)] * 3, "at most 131072 bytes, got 180000"),
        ([b"\2"], "got none"),
        ([b"\2\0\0\0\0"], "got 00000000"),
        ([b"\2\0\0\0\0\1"], "got 0000000001"),
        ([b"\3\0"], "with a payload"),
        ([b"\1" + bytes(MIN_CHUNK), b"\3"], "amid a message"),
    ],
)
def test_broken_rules(messages: list[bytes | str], complaint: str) -> None:
    incoming = Incoming(WINDOW)
    for good in messages[:-1]:
        incoming.feed(good)
    with pytest.raises(RemoteProtocolError, match=complaint):
        incoming.feed(messages[-1])


@given(st.lists(st.binary(max_size=40) | st.text(max_size=3), max_size=20))
def test_garbage_is_good_or_refused(messages: list[bytes | str]) -> None:
    incoming = Incoming(WINDOW)
    fed: list[bytes | str] = []
    try:
        for garbage in messages:
            incoming.feed(garbage)
            fed.append(garbage)
    except RemoteProtocolError:
        pass
    assert incoming.take() == [good[1:] for good in fed if isinstance(good, bytes) and good[0] == 0]


@pytest.mark.parametrize("most", [0, 1, MIN_CHUNK])
def test_who_takes_only_crumbs_is_refused(most: int) -> None:
    with pytest.raises(RemoteProtocolError, match="1025 bytes to be taken"):
        Outgoing(most)


def test_a_part_of_what_waits_can_be_taken() -> None:
    outgoing, incoming = Outgoing(65536), Incoming(FIRST_CREDIT)
    for message in (b"a" * 600, b"", b"b" * 100_000, b"c"):
        for chunk in outgoing.split(message):
            incoming.feed(chunk)
    assert incoming.take(600) == [b"a" * 600]
    assert incoming.take(2) == [b"", b"b" * 100_000]
    assert incoming.waiting
    assert not incoming.credit_due or incoming.grant() == bytes([2]) + (600 + 100_000 + 4 * 64).to_bytes(4, "big")
    assert incoming.take(1) == [b"c"]
    assert not incoming.waiting
