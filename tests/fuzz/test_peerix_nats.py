"""The parser of what a NATS server says, on whatever may come, in any pieces."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_relay.exceptions import RemoteProtocolError
from trio_relay.peerix.drivers import nats_protocol
from trio_relay.peerix.drivers.nats_protocol import (
    MAX_LINE,
    NatsError,
    NatsEvent,
    NatsInfo,
    NatsMessage,
    NatsParser,
    NatsPing,
    NatsPong,
    NatsSkipped,
    encode_connect,
    encode_publish,
    encode_subscribe,
    encode_unsubscribe,
    is_subject,
    parse_info_untrusted,
)

MOST = 64
"""Bytes of a packet that is not skipped, here."""

payloads = st.binary(max_size=MOST) | st.sampled_from([b"\r\n", b"MSG a 1 1\r\nx\r\n", b""])
lines = st.one_of(
    st.builds(lambda body: (b"MSG a.b 7 %d\r\n%b\r\n" % (len(body), body), NatsMessage("a.b", 7, body)), payloads),
    st.builds(
        lambda body: (b"hmsg a 1 reply 3 %d\r\nh\r\n%b\r\n" % (len(body) + 3, body), NatsMessage("a", 1, body)),
        payloads,
    ),
    st.builds(
        lambda size: (b"MSG a 2 %d\r\n%b\r\n" % (size, bytes(size)), NatsSkipped(2, size)), st.integers(MOST + 1, 300)
    ),
    st.sampled_from(
        [
            (b"PING\r\n", NatsPing()),
            (b"pong\r\n", NatsPong()),
            (b"+OK\r\n", None),
            (b"-ERR 'Stale Connection'\r\n", NatsError("Stale Connection")),
            (b"-ERR\r\n", NatsError("")),
            (b'INFO {"max_payload":4096,"nonce":"n","other":[1]} \r\n', NatsInfo(max_payload=4096, nonce="n")),
        ]
    ),
)


def parse(pieces: Sequence[bytes]) -> list[NatsEvent]:
    parser = NatsParser(MOST)
    return [event for piece in pieces for event in parser.parse_untrusted(piece)]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted(place % (len(data) + 1) for place in places)
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


@given(said=st.lists(lines, max_size=6), places=st.lists(st.integers(0, 10_000), max_size=12))
def test_whole_lines_in_any_pieces(said: list[tuple[bytes, NatsEvent | None]], places: list[int]) -> None:
    data = b"".join(line for line, _ in said)
    wanted = [event for _, event in said if event is not None]
    assert parse([data]) == wanted
    assert parse(cut(data, places)) == wanted
    assert parse([data[at : at + 1] for at in range(len(data))]) == wanted


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """Lines of which parts were cut out or replaced."""
    data = b"".join(line for line, _ in draw(st.lists(lines, min_size=1, max_size=3)))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(data)))
        pieces = [b"\r", b"\n", b" ", b"-1", b"999999999", b"0" * 20, b"\xff", b"{", b"[" * 80, b"'", b"MSG"]
        piece = draw(st.sampled_from(pieces) | st.binary(max_size=3))
        data = data[:start] + piece + data[start + draw(st.sampled_from([0, 1, 5, 100])) :]
    return data


@given(data=st.binary(max_size=200) | spoilt(), places=st.lists(st.integers(0, 10_000), max_size=6))
def test_anything_else_raises_the_documented_error_alone(data: bytes, places: list[int]) -> None:
    """However it is cut into pieces."""
    outcomes = []
    for pieces in ([data], cut(data, places), [data[at : at + 1] for at in range(len(data))]):
        parser, events, failure = NatsParser(MOST), [], ""
        try:
            for piece in pieces:
                events += parser.parse_untrusted(piece)
                assert parser.buffered <= MAX_LINE + MOST + 2
        except RemoteProtocolError as error:
            failure = str(error)
        outcomes.append((events if not failure else [], failure))
    assert outcomes[0] == outcomes[1] == outcomes[2]


@given(st.binary(max_size=80) | st.text(max_size=80).map(str.encode))
def test_info_raises_the_documented_error_alone(text: bytes) -> None:
    with suppress(RemoteProtocolError):
        assert 0 < parse_info_untrusted(text).max_payload < 2**31


@pytest.mark.parametrize(
    "info",
    [
        b"[]",
        b"",
        b'{"max_payload":"1"}',
        b'{"max_payload":0}',
        b'{"max_payload":1e400}',
        b'{"max_payload":true}',
        b'{"tls_required":1}',
        b'{"nonce":null}',
        b'{"version":2}',
    ],
)
def test_info_that_makes_no_sense(info: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="expected"):
        parse_info_untrusted(info)


@pytest.mark.parametrize(
    "lines", [b"PING\n", b"MSG a 1\r\n", b"MSG a x 1\r\n", b"MSG a 1 b c 1\r\n", b"HMSG a 1 2 1\r\n"]
)
def test_lines_that_are_none(lines: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="expected"):
        parse([lines])


def test_no_parser_is_forgotten() -> None:
    found = {name for holder in (nats_protocol, NatsParser) for name in vars(holder) if name.endswith("_untrusted")}
    assert found == {"parse_untrusted", "parse_info_untrusted", "decode_untrusted"}


def test_what_nats_server_2_9_10_says() -> None:
    """Recorded: verbose, a message with a header that we send to ourselves, and a word that it does not know."""
    info = (
        b'"proto":1,"go":"go1.19.8","host":"127.0.0.1","port":54111,"headers":true,"max_payload":1048576,"client_id":4'
    )
    recorded = b'INFO {"server_id":"N","version":"2.9.10",%b,"client_ip":"127.0.0.1"} \r\n+OK\r\n+OK\r\nPONG\r\n' % info
    recorded += b"HMSG a 1 r 17 18\r\nNATS/1.0\r\nA:b\r\n\r\nx\r\n-ERR 'Unknown Protocol Operation'\r\n"
    assert NatsParser().parse_untrusted(recorded) == [
        NatsInfo("2.9.10", 1048576),
        NatsPong(),
        NatsMessage("a", 1, b"x"),
        NatsError("Unknown Protocol Operation"),
    ]


def test_a_line_without_end_is_not_stored() -> None:
    parser = NatsParser()
    for _ in range(32):
        assert parser.parse_untrusted(bytes(1000)) == []
    with pytest.raises(RemoteProtocolError, match="at most 32768 bytes"):
        parser.parse_untrusted(bytes(1000))
    assert parser.buffered < MAX_LINE + 2000


def test_a_long_payload_is_not_stored() -> None:
    parser = NatsParser(MOST)
    assert parser.parse_untrusted(b"MSG a 1 1000000\r\n") == []
    for _ in range(100):
        assert parser.parse_untrusted(bytes(10_000)) == []
        assert parser.buffered == 0
    assert parser.parse_untrusted(b"\r\nPING\r\n") == [NatsSkipped(1, 1_000_000), NatsPing()]


def test_long_headers_are_not_stored() -> None:
    parser = NatsParser(MOST)
    assert parser.parse_untrusted(b"HMSG a 1 999999 1000000\r\n") == []
    for _ in range(100):
        assert parser.parse_untrusted(bytes(10_000)) == []
        assert parser.buffered == 0
    assert parser.parse_untrusted(b"\r\nPING\r\n") == [NatsSkipped(1, 1_000_000), NatsPing()]


def test_what_we_say() -> None:
    assert encode_publish("a.b", b"\r\n") == b"PUB a.b 2\r\n\r\n\r\n"
    assert encode_subscribe("a.b", 3) == b"SUB a.b 3\r\n"
    assert encode_unsubscribe(3) == b"UNSUB 3\r\n"
    assert encode_connect({"echo": False}) == b'CONNECT {"echo":false}\r\n'


@given(st.text(st.characters(codec=None), max_size=8))
def test_a_subject_is_one_word_on_the_line(text: str) -> None:
    if is_subject(text):
        assert encode_publish(text, b"").split() == [b"PUB", text.encode(), b"0"]
        assert not {"*", ">", ""} & set(text.split("."))
