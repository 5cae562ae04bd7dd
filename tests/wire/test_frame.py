from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_relay.exceptions import LocalProtocolError, RemoteProtocolError
from trio_relay.wire.frame import (
    FIRST_LINK_LOCAL,
    HEADER,
    HEADER_LENGTH,
    UNCHANGED,
    Frame,
    Kind,
    build_frame,
    parse_frames_untrusted,
)
from trio_relay.wire.ids import NodeId

TO, SOURCE, MESSAGE_ID = NodeId(b"\x0a" * 20), NodeId(b"\x0b" * 20), b"\x0c" * 8

octets = st.integers(0, 255)
ids = st.binary(min_size=20, max_size=20).map(NodeId)
frames = st.builds(
    Frame,
    kind=octets,
    to=ids,
    source=ids,
    message_id=st.binary(min_size=8, max_size=8),
    payload=st.binary(max_size=80),
    flags=octets,
    hop_limit=octets,
    attempt=octets,
    detours=octets,
)


@given(st.lists(frames, max_size=5))
def test_messages_of_several_frames_survive(several: list[Frame]) -> None:
    message = b"".join(frame.to_bytes() for frame in several)
    assert parse_frames_untrusted(message) == several
    assert parse_frames_untrusted(memoryview(bytearray(message))) == several


@given(st.lists(frames, min_size=1, max_size=3), st.data())
def test_a_message_that_is_cut_short_is_refused(several: list[Frame], data: st.DataObject) -> None:
    pieces = [frame.to_bytes() for frame in several]
    cut = data.draw(st.integers(1, len(pieces[-1]) - 1))
    with pytest.raises(RemoteProtocolError, match=r"^expected a (frame header|payload) of "):
        parse_frames_untrusted(b"".join(pieces)[:-cut])


@given(frames, octets, octets, octets)
def test_what_relays_and_retries_change_is_outside_of_what_is_sealed(
    frame: Frame, hop_limit: int, attempt: int, detours: int
) -> None:
    changed = build_frame(
        frame.kind,
        frame.to,
        frame.source,
        frame.message_id,
        frame.payload,
        flags=frame.flags,
        hop_limit=hop_limit,
        attempt=attempt,
        detours=detours,
    )
    original = frame.to_bytes()
    assert changed[UNCHANGED] == original[UNCHANGED]
    assert changed[:3] == bytes([hop_limit, attempt, detours])
    assert changed[HEADER_LENGTH:] == original[HEADER_LENGTH:]


@given(frames, st.data())
def test_what_is_sealed_holds_everything_else(frame: Frame, data: st.DataObject) -> None:
    """Two frames that differ in any other field differ in the sealed bytes."""
    other = data.draw(frames)
    same = (frame.kind, frame.flags, frame.to, frame.source, frame.message_id, len(frame.payload)) == (
        (other.kind, other.flags, other.to, other.source, other.message_id, len(other.payload))
    )
    assert (frame.to_bytes()[UNCHANGED] == other.to_bytes()[UNCHANGED]) == same


def test_layout() -> None:
    frame = build_frame(7, TO, SOURCE, MESSAGE_ID, b"xy", flags=5, hop_limit=9, attempt=3, detours=1)
    assert HEADER_LENGTH == HEADER.size == 56
    assert frame == b"\x09\x03\x01\x01\x07\x05\x00\x02" + TO + SOURCE + MESSAGE_ID + b"xy"


def test_the_longest_payload() -> None:
    payload = bytes(65535)
    assert parse_frames_untrusted(build_frame(Kind.DATA, TO, SOURCE, MESSAGE_ID, payload))[0].payload == payload
    with pytest.raises(LocalProtocolError, match="does not fit its header"):
        build_frame(Kind.DATA, TO, SOURCE, MESSAGE_ID, bytes(65536))


@pytest.mark.parametrize(
    ("to", "source", "message_id", "complaint"),
    [
        (TO[:-1], SOURCE, MESSAGE_ID, "not 19, 20 and 8"),
        (TO, SOURCE + b"\0", MESSAGE_ID, "not 20, 21 and 8"),
        (TO, SOURCE, b"", "not 20, 20 and 0"),
    ],
)
def test_ids_of_another_length_are_not_written(to: bytes, source: bytes, message_id: bytes, complaint: str) -> None:
    with pytest.raises(LocalProtocolError, match=complaint):
        build_frame(Kind.DATA, to, source, message_id, b"")


@pytest.mark.parametrize("field", ["kind", "flags", "hop_limit", "attempt", "detours"])
@pytest.mark.parametrize("value", [-1, 256])
def test_numbers_out_of_range_are_not_written(field: str, value: int) -> None:
    frame = replace(Frame(kind=1, to=TO, source=SOURCE, message_id=MESSAGE_ID), **{field: value})  # type: ignore[arg-type]
    with pytest.raises(LocalProtocolError, match="does not fit its header"):
        frame.to_bytes()


def test_kinds_above_63_belong_to_one_link() -> None:
    link_local = {kind for kind in Kind if kind >= FIRST_LINK_LOCAL}
    assert link_local == {Kind.PING, Kind.PONG, Kind.STATUS, Kind.GOODBYE}
