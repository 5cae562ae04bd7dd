"""The WebSocket codec's verdict on right and wrong streams against two independent implementations.

The others are wsproto and the Sans-I/O protocol of websockets, both without extensions. On streams of complete
frames, right or wrong, all three must deliver the same messages and refuse at the same place with the same code,
except for the differences that `TestDifferences` pins down one by one. Streams end with a complete frame because
the others judge some rules only when a frame is complete; we judge those by its head.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Opcode as TheirOpcode
from websockets.protocol import Protocol, Side
from wsproto.frame_protocol import FrameProtocol, ParseFailed
from wsproto.frame_protocol import Opcode as WsprotoOpcode

from tests.wire.websocket_peer import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    PING,
    TEXT,
    Outcome,
    codec,
    complete,
    each_role,
    receive,
    streams,
    to,
)
from trio_relay.wire.websocket import Role

cut_lists = st.lists(st.integers(0, 600), max_size=20)


# What the others make of a stream


def by_wsproto(role: Role, stream: bytes) -> Outcome:
    decoder = FrameProtocol(client=role is Role.CLIENT, extensions=[])
    decoder.receive_bytes(stream)
    messages: list[bytes | str] = []
    parts: list[Any] = []
    try:
        for frame in decoder.received_frames():
            if frame.opcode is WsprotoOpcode.CLOSE:
                assert isinstance(frame.payload, tuple)
                code, reason = frame.payload
                return Outcome(messages, None, int(code), reason)
            if not frame.opcode.iscontrol():
                parts.append(frame.payload)
                if frame.message_finished:
                    messages.append(type(parts[0])().join(parts))
                    parts = []
    except ParseFailed as failure:
        return Outcome(messages, failure.code, None)
    return Outcome(messages, None, None)


def by_websockets(role: Role, stream: bytes) -> Outcome:
    """Its protocol yields frames; joining and decoding them is done here as its connections do it."""
    subject = Protocol(Side.CLIENT if role is Role.CLIENT else Side.SERVER, max_size=None)
    subject.receive_data(stream)
    messages: list[bytes | str] = []
    parts: list[bytes | str] = []
    utf8: codecs.IncrementalDecoder | None = None
    for frame in subject.events_received():
        opcode = frame.opcode  # type: ignore[union-attr]
        if opcode in (TheirOpcode.TEXT, TheirOpcode.BINARY, TheirOpcode.CONT):
            data, final = bytes(frame.data), frame.fin  # type: ignore[union-attr]
            if opcode is not TheirOpcode.CONT:
                parts, utf8 = [], codecs.getincrementaldecoder("utf-8")() if opcode is TheirOpcode.TEXT else None
            try:
                parts.append(data if utf8 is None else utf8.decode(data, final))
            except UnicodeDecodeError:
                return Outcome(messages, 1007, None)
            if final:
                messages.append(b"".join(parts) if utf8 is None else "".join(parts))  # type: ignore[arg-type]
    if subject.parser_exc is not None:
        assert subject.close_sent is not None
        return Outcome(messages, subject.close_sent.code, None, violation=str(subject.parser_exc))
    if subject.close_rcvd is not None:
        return Outcome(messages, None, subject.close_rcvd.code, subject.close_rcvd.reason)
    return Outcome(messages, None, None)


Reference = Callable[[Role, bytes], Outcome]


def is_known_difference(ours: Outcome, theirs: Outcome, reference: Reference) -> bool:
    """Whether `TestDifferences` has a case for this."""
    if reference is by_wsproto:
        return ours.closed_with == 1014 and theirs.verdict == (ours.messages, 1002, None, "")
    if ours.violation.startswith(("expected the shortest encoding", "expected a one-byte length")):
        return theirs.messages[: len(ours.messages)] == ours.messages
    if ours.closed_with is not None:
        return theirs.verdict == (ours.messages, 1002, None, "") and theirs.violation == "incomplete fragmented message"
    return ours.violation.startswith("expected a close code") and theirs.verdict == (ours.messages, 1007, None, "")


each_reference = pytest.mark.parametrize("reference", [by_wsproto, by_websockets])


def check_agreement(role: Role, stream: bytes, reference: Reference) -> None:
    ours, theirs = receive(codec(role), [stream]), reference(role, stream)
    if not is_known_difference(ours, theirs, reference):
        assert ours.verdict == theirs.verdict


@each_role
@each_reference
@given(data=st.data())
def test_same_verdict_on_right_and_wrong_frames(role: Role, reference: Reference, data: st.DataObject) -> None:
    check_agreement(role, data.draw(streams(masked=role is Role.SERVER)), reference)


@each_role
@each_reference
@given(data=st.data())
def test_same_verdict_on_damaged_streams(role: Role, reference: Reference, data: st.DataObject) -> None:
    stream = bytearray(data.draw(streams(masked=role is Role.SERVER, oddities=False)))
    for _ in range(data.draw(st.integers(1, 3)) if stream else 0):
        stream[data.draw(st.integers(0, len(stream) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    check_agreement(role, complete(bytes(stream)), reference)


@each_role
@each_reference
@given(stream=st.binary(max_size=100))
def test_same_verdict_on_arbitrary_bytes(role: Role, reference: Reference, stream: bytes) -> None:
    check_agreement(role, complete(stream), reference)


@each_role
@each_reference
@given(first=st.integers(0, 255), second=st.integers(0, 255), inside=st.booleans())
def test_same_verdict_on_any_head(role: Role, reference: Reference, first: int, second: int, inside: bool) -> None:
    start = to(role, TEXT, b"a") if inside else b""
    head = bytes((first, second)) + {126: b"\1\0", 127: b"\0" * 5 + b"\1\0\0"}.get(second & 0x7F, b"")
    check_agreement(role, complete(start + head), reference)


class TestDifferences:
    """Where we and another implementation differ on purpose."""

    @staticmethod
    def outcomes(stream: bytes) -> tuple[Outcome, Outcome, Outcome]:
        """Ours, wsproto's and that of websockets, all as a server."""
        ours = receive(codec(Role.SERVER), [stream])
        return ours, by_wsproto(Role.SERVER, stream), by_websockets(Role.SERVER, stream)

    @pytest.mark.parametrize(("size", "width"), [(5, 2), (5, 8), (300, 8)])
    def test_websockets_accepts_lengths_that_are_not_minimal(self, size: int, width: int) -> None:
        """RFC 6455 section 5.2: the minimal number of bytes MUST be used."""
        ours, wsproto, websockets = self.outcomes(to(Role.SERVER, FIN | BINARY, b"x" * size, width=width))
        assert ours.verdict == wsproto.verdict == ([], 1002, None, "")
        assert websockets.verdict == ([b"x" * size], None, None, "")
        ours, wsproto, websockets = self.outcomes(to(Role.SERVER, FIN | CLOSE, width=2))
        assert ours.verdict == wsproto.verdict == ([], 1002, None, "")
        assert websockets.verdict == ([], None, 1005, "")

    def test_websockets_refuses_a_close_frame_inside_a_message(self) -> None:
        """RFC 6455 section 5.4: control frames may be injected in the middle of a fragmented message."""
        stream = to(Role.SERVER, BINARY, b"half") + to(Role.SERVER, FIN | CLOSE, b"\x03\xe8")
        ours, wsproto, websockets = self.outcomes(stream)
        assert ours.verdict == wsproto.verdict == ([], None, 1000, "")
        assert websockets.verdict == ([], 1002, None, "")

    def test_wsproto_refuses_close_code_1014(self) -> None:
        """It was registered (bad gateway) after the RFC was written."""
        ours, wsproto, websockets = self.outcomes(to(Role.SERVER, FIN | CLOSE, b"\x03\xf6"))
        assert ours.verdict == websockets.verdict == ([], None, 1014, "")
        assert wsproto.verdict == ([], 1002, None, "")

    def test_websockets_looks_at_a_close_reason_before_the_code(self) -> None:
        ours, wsproto, websockets = self.outcomes(to(Role.SERVER, FIN | CLOSE, b"\0\0\xff"))
        assert ours.verdict == wsproto.verdict == ([], 1002, None, "")
        assert websockets.verdict == ([], 1007, None, "")

    def test_wsproto_refuses_text_before_its_frame_is_complete(self) -> None:
        """We validate frame by frame: an incomplete frame is bounded anyhow, and nothing of it is delivered."""
        stream = to(Role.SERVER, TEXT, b"\xff....")
        ours, wsproto, websockets = self.outcomes(stream[:-1])
        assert ours.verdict == websockets.verdict == ([], None, None, "")
        assert wsproto.verdict == ([], 1007, None, "")
        ours, wsproto, websockets = self.outcomes(stream)
        assert ours.verdict == wsproto.verdict == websockets.verdict == ([], 1007, None, "")

    @pytest.mark.parametrize("first", [FIN | 0x40 | BINARY, FIN | CONTINUATION, PING])
    def test_websockets_judges_some_rules_after_the_payload(self, first: int) -> None:
        """We judge a head by itself, so that nothing is kept for a frame that will be refused."""
        stream = to(Role.SERVER, first, b"payload")
        ours, _, websockets = self.outcomes(stream[:2])
        assert ours.verdict == ([], 1002, None, "")
        assert websockets.verdict == ([], None, None, "")
        assert by_websockets(Role.SERVER, stream).verdict == ours.verdict

    def test_websockets_waits_for_a_length_with_its_top_bit(self) -> None:
        ours, wsproto, websockets = self.outcomes(b"\x82\xff\x80" + b"\0" * 20)
        assert ours.verdict == wsproto.verdict == ([], 1002, None, "")
        assert websockets.verdict == ([], None, None, "")
