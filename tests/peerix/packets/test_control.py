"""Messages of the control channel."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_relay.exceptions import LocalProtocolError, RemoteProtocolError
from trio_relay.peerix.packets.candidates import IceCandidate
from trio_relay.peerix.packets.control import (
    MAX_CONTROL,
    MAX_LABELS,
    ChannelRequest,
    Control,
    ControlAnswer,
    ControlCandidate,
    ControlOffer,
    encode_control,
    parse_control_untrusted,
)

from .test_signalling import CANDIDATE, LINE


def message(event: int, payload: Any) -> bytes:
    text = json.dumps(payload).encode()
    assert len(text) < 128
    return bytes((8, event, 0x12, len(text))) + text


@pytest.mark.parametrize(
    ("control", "head", "payload"),
    [
        (ControlOffer("x"), "0801 121f", '[{"type":"offer","sdp":"x"},{}]'),
        (ControlOffer("x", {"a": "b"}), "0801 1226", '[{"type":"offer","sdp":"x"},{"a":"b"}]'),
        (ControlAnswer("x"), "0801 121d", '[{"type":"answer","sdp":"x"}]'),
        (
            ControlCandidate(CANDIDATE),
            "0801 1280 01",
            f'[{{"candidate":"{LINE}","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":"EsAw"}}]',
        ),
        (ChannelRequest("chat"), "0802 1210", '{"label":"chat"}'),
        (ChannelRequest("chat", ordered=True), "0802 121f", '{"ordered":true,"label":"chat"}'),
        (
            ChannelRequest("chat", "p", False, 0.25),
            "0802 1247",
            '{"protocol":"p","ordered":false,"maxPacketLifeTime":250,"label":"chat"}',
        ),
        (ChannelRequest("", max_retransmits=0), "0802 121f", '{"maxRetransmits":0,"label":""}'),
    ],
)
def test_written_and_read(control: Control, head: str, payload: str) -> None:
    data = bytes.fromhex(head) + payload.encode()
    assert encode_control(control) == data
    assert parse_control_untrusted(data) == control


@pytest.mark.parametrize(
    ("data", "control"),
    [
        (message(1, [{"type": "offer", "sdp": "x"}]), ControlOffer("x")),
        (message(1, [{"sdp": "x", "type": "offer", "candidate": "y"}, {}, 1]), ControlOffer("x")),
        (message(1, [{"candidate": "", "sdpMid": "0"}]), ControlCandidate(IceCandidate("", None, None, None))),
        (message(2, {"label": "a", "ordered": None, "protocol": None, "negotiated": True}), ChannelRequest("a")),
        (message(2, {"ordered": True}), ChannelRequest("default", ordered=True)),
        (message(0, 1), None),
        (message(3, {"any": "thing"}), None),
        (b"\x08\x03\x12\x01\xff", None),
    ],
)
def test_only_read(data: bytes, control: Control | None) -> None:
    assert parse_control_untrusted(data) == control


OFFER: Final = {"type": "offer", "sdp": "x"}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x08\x01",
        b"\x12\x02{}",
        b"\x08\x01\x12\x05[]",
        b"\x08\x01\x12\x01[",
        b"\x08\x01\x12\x01\xff",
        b"\x0a\x01\x01\x12\x02{}",
        message(1, {}),
        message(1, []),
        message(1, [1]),
        message(1, [{}]),
        message(1, [{"sdp": "x"}]),
        message(1, [{"type": "rollback", "sdp": "x"}]),
        message(1, [{"type": "answer", "sdp": 1}]),
        message(1, [{"candidate": "nonsense"}]),
        message(1, [OFFER, []]),
        message(1, [OFFER, None]),
        message(1, [OFFER, {"a": 1}]),
        message(2, []),
        message(2, {"label": None}),
        message(2, {"label": "\ud800"}),
        message(2, {"label": "a", "ordered": 1}),
        message(2, {"label": "a", "protocol": 1}),
        message(2, {"label": "a", "protocol": "\udfff"}),
        message(2, {"label": "a", "maxRetransmits": -1}),
        message(2, {"label": "a", "maxRetransmits": True}),
        message(2, {"label": "a", "maxRetransmits": 1.5}),
        message(2, {"label": "a", "maxPacketLifeTime": 65536}),
        message(2, {"label": "a", "maxPacketLifeTime": 1, "maxRetransmits": 1}),
    ],
)
def test_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_control_untrusted(data)


def test_bounds() -> None:
    labels = {str(number): "" for number in range(MAX_LABELS)}
    assert parse_control_untrusted(encode_control(ControlOffer("x", labels))) == ControlOffer("x", labels)
    for control in (ControlOffer("x", {**labels, "one": "more"}), ChannelRequest("é" * 32768)):
        with pytest.raises(RemoteProtocolError):
            parse_control_untrusted(encode_control(control))
    with pytest.raises(RemoteProtocolError, match="at most 262144 bytes"):
        parse_control_untrusted(bytes(MAX_CONTROL + 1))


def test_labels_must_be_texts() -> None:
    with pytest.raises(LocalProtocolError):
        encode_control(ControlOffer("x", {1: "a"}))  # type: ignore[dict-item]


limits = st.none() | st.integers(0, 65535)
requests = st.builds(
    ChannelRequest,
    st.text(max_size=5),
    st.none() | st.text(max_size=5),
    st.none() | st.booleans(),
    limits.map(lambda milliseconds: None if milliseconds is None else milliseconds / 1000),
) | st.builds(ChannelRequest, st.text(max_size=5), max_retransmits=limits)
descriptions = st.text(min_size=1, max_size=9)
controls: Final[st.SearchStrategy[Control]] = (
    st.builds(ControlOffer, descriptions, st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=3))
    | st.builds(ControlAnswer, descriptions)
    | st.just(ControlCandidate(CANDIDATE))
    | requests
)


@given(controls)
@settings(max_examples=50)
def test_round(control: Control) -> None:
    assert parse_control_untrusted(encode_control(control)) == control
