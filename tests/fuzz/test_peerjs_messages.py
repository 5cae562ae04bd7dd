"""The parsers of PeerJS' signalling and of what a broker answers, on whatever may come."""

from __future__ import annotations

import base64
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.peerjs.test_messages import ANSWER_FRAME, KEY_TEXT, LINE, OFFER_FRAME
from trio_relay.exceptions import PeerError, RemoteProtocolError
from trio_relay.peerjs import messages
from trio_relay.peerjs.signalling.address import check_id
from trio_relay.peerjs.signalling.endings import ending_of
from trio_relay.wire.json import decode_untrusted

SEEDS = [
    OFFER_FRAME.decode(),
    ANSWER_FRAME.decode(),
    f'{{"type":"CANDIDATE","src":"a","payload":{{"candidate":{{"candidate":"{LINE}","sdpMid":"0"}},'
    '"type":"data","connectionId":"dc_1"}}',
    '{"type":"ERROR","payload":{"msg":"Invalid key provided"}}',
    '{"type":"OPEN"}',
]
PIECES = ['"payload"', '"sdp"', '"type"', '"label":1', "{", "}", "[", "]", ":", ",", '"', "\\u0000", "\\ud800", "1e999"]
PIECES += ["null", "-", "\x00", "\u2028", "\ufeff", "[" * 70, "true", '"relay":{', f'"key":"{KEY_TEXT}"']


@st.composite
def frames(draw: st.DrawFn) -> str:
    """A frame, parts of which were cut out or replaced."""
    text = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(text)))
        removed = draw(st.sampled_from([0, 1, 1, 2, 8, 1000]))
        text = text[:start] + draw(st.sampled_from(PIECES) | st.text(max_size=3)) + text[start + removed :]
    return text


scalars: st.SearchStrategy[Any] = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
nested = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=3,
)
descriptions = st.fixed_dictionaries(
    {}, optional={"type": st.sampled_from(["offer", "answer"]) | scalars, "sdp": scalars}
)
relays = st.fixed_dictionaries(
    {"key": st.binary(max_size=33).map(lambda key: base64.b64encode(key).decode()) | st.just(KEY_TEXT) | scalars},
    optional={"broker": st.just("0a" * 16) | scalars, "node": st.just("0a" * 20) | scalars, "round": scalars},
)
payloads = nested | st.fixed_dictionaries(
    {"type": st.sampled_from(["data", "media"]) | scalars, "connectionId": st.just("dc_1") | scalars},
    optional={
        "sdp": descriptions | scalars,
        "label": scalars | nested,
        "serialization": scalars | nested,
        "reliable": nested,
        "metadata": nested,
        "browser": scalars,
        "relay": relays | nested,
        "candidate": nested | st.fixed_dictionaries({"candidate": st.just(LINE)}, optional={"sdpMid": scalars}),
    },
)


@given(frames() | st.binary(max_size=60) | frames().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_frames_of_a_broker(frame: bytes | str) -> None:
    with suppress(RemoteProtocolError):
        message = messages.parse_server_message_untrusted(frame)
        ending = ending_of(message)
        assert (ending is not None) == (message.type in ("ERROR", "ID-TAKEN", "INVALID-KEY"))
        assert ending is None or str(ending.error).isprintable()


@given(frames())
def test_payloads_of_broken_frames(text: str) -> None:
    value: Any = None
    with suppress(RemoteProtocolError):
        value = decode_untrusted(text)
    check_payload(value.get("payload") if isinstance(value, dict) else value)


@given(payloads)
def test_payloads(value: Any) -> None:
    check_payload(value)


def check_payload(value: Any) -> None:
    """What is read can be written, but for metadata that hold infinity or NaN; and it is bounded."""
    with suppress(RemoteProtocolError):
        offer = messages.parse_offer_untrusted(value)
        assert 0 < len(offer.connection_id) <= 128
        assert offer.connection_id.isprintable()
        assert 0 < len(offer.label) <= 0xFFFF
        assert len(offer.serialization) <= 64
        assert offer.relay is None or len(offer.relay.key) == 32
        if "inf" not in repr(value) and "nan" not in repr(value):
            assert messages.encode_offer("b", offer)
    with suppress(RemoteProtocolError):
        assert messages.encode_answer("b", messages.parse_answer_untrusted(value))
    with suppress(RemoteProtocolError):
        assert messages.encode_candidate("b", messages.parse_candidate_message_untrusted(value))


@given(st.text(st.sampled_from("aZ09 -_.\n\u00e9"), max_size=12))
def test_ids(id: str) -> None:
    groups = id.replace("-", " ").replace("_", " ").split(" ")
    if all(group and group.isascii() and group.isalnum() for group in groups):
        check_id(id)
    else:
        with pytest.raises(PeerError):
            check_id(id)
