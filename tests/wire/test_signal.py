from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_relay.exceptions import RemoteProtocolError
from trio_relay.wire.description import MAX_DESCRIPTION
from trio_relay.wire.frame import MAX_PAYLOAD
from trio_relay.wire.hello import Reason
from trio_relay.wire.session import MAX_SEALING
from trio_relay.wire.signal import MAX_SIGNAL, Answer, Offer, Over, Signal, is_offer, parse_signal_untrusted

from ..overlay.webrtc_world import description

SDP: Final = description(1)
VECTORS: Final[dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "vectors" / "signals.json").read_text(encoding="utf-8")
)


def signal_of(vector: dict[str, Any]) -> Signal:
    match vector["type"]:
        case "offer":
            return Offer(vector["sequence"], vector["description"], vector["preferred"])
        case "answer":
            return Answer(vector["sequence"], vector["description"])
        case _:
            return Over(vector["reason"])


@pytest.mark.parametrize("vector", VECTORS["signals"], ids=lambda vector: vector["name"])
def test_vectors_are_what_is_sent_and_read(vector: dict[str, Any]) -> None:
    signal, payload = signal_of(vector), bytes.fromhex(vector["payload"])
    assert signal.to_bytes() == payload
    assert parse_signal_untrusted(payload) == signal
    assert is_offer(payload) == (vector["type"] == "offer")


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda vector: vector["name"])
def test_vectors_that_are_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_signal_untrusted(bytes.fromhex(vector["payload"]))


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b"", "type of a signal"),
        (b"\4\0", "type of a signal"),
        (Over(1).to_bytes() + b"\0", "3 bytes"),
        (b"\3\1\5", "without flags"),
        (b"\1\0" + bytes(8), "11 to"),
        (b"\1\2" + bytes(8) + SDP.encode(), "flags"),
        (b"\2\1" + bytes(8) + SDP.encode(), "flags"),
        (b"\1\0" + bytes(8) + b"\xff", "UTF-8"),
        (b"\1\0" + bytes(8) + b"rubbish", "description"),
        (b"\1\0" + bytes(8) + b" " * (MAX_DESCRIPTION + 1), "bytes"),
    ],
)
def test_what_is_malformed_says_what_was_expected(payload: bytes, words: str) -> None:
    with pytest.raises(RemoteProtocolError, match=words):
        parse_signal_untrusted(payload)


def test_the_largest_signal_fits_a_sealed_frame() -> None:
    assert MAX_SIGNAL + MAX_SEALING < MAX_PAYLOAD


@given(
    st.one_of(
        st.builds(Offer, st.integers(0, 2**64 - 1), st.just(SDP), st.booleans()),
        st.builds(Answer, st.integers(0, 2**64 - 1), st.just(SDP)),
        st.builds(Over, st.sampled_from(list(Reason)) | st.integers(0, 255)),
    ),
    st.integers(0, 600),
    st.integers(0, 255),
)
def test_one_changed_byte_is_read_or_refused(signal: Signal, position: int, value: int) -> None:
    payload = bytearray(signal.to_bytes())
    assert parse_signal_untrusted(bytes(payload)) == signal
    payload[position % len(payload)] = value
    try:
        again = parse_signal_untrusted(bytes(payload))
    except RemoteProtocolError:
        return
    assert again.to_bytes() == payload
