"""Messages of PeerJS' signalling: what original peers and brokers write is read, and what we write is the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_relay.exceptions import LocalProtocolError, RemoteProtocolError
from trio_relay.peerjs.messages import (
    NO_METADATA,
    Answer,
    CandidateMessage,
    ConnectionKind,
    Offer,
    RelayTerms,
    ServerMessage,
    encode_answer,
    encode_candidate,
    encode_offer,
    parse_answer_untrusted,
    parse_candidate_message_untrusted,
    parse_offer_untrusted,
    parse_server_message_untrusted,
)
from trio_relay.wire.description import Candidate
from trio_relay.wire.ids import NodeId

OFFER_FRAME = (
    b'{"type":"OFFER","payload":{"sdp":{"type":"offer","sdp":"v=0"},"type":"data","connectionId":"dc_k3x9a1b2c3",'
    b'"metadata":{"a":1},"label":"dc_k3x9a1b2c3","reliable":false,"serialization":"binary"},"dst":"bob"}'
)
ANSWER_FRAME = (
    b'{"type":"ANSWER","payload":{"sdp":{"type":"answer","sdp":"v=0"},"type":"data","connectionId":"dc_k3x9a1b2c3"},'
    b'"dst":"alice"}'
)
LINE = "candidate:842163049 1 udp 1677729535 192.0.2.1 46154 typ srflx raddr 10.0.0.1 rport 46154 generation 0"
KEY = bytes(range(32))
KEY_TEXT = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


def payload(**changes: Any) -> dict[str, Any]:
    """Of a data offer as `peerjs` 1.5 sends it; a change to None takes the member out."""
    members: dict[str, Any] = {
        "sdp": {"type": "offer", "sdp": "v=0"},
        "type": "data",
        "connectionId": "dc_1",
        "label": "chat",
        "reliable": True,
        "serialization": "json",
    }
    members |= changes
    return {name: value for name, value in members.items() if name not in changes or changes[name] is not None}


def relay(**changes: Any) -> RelayTerms | None:
    return parse_offer_untrusted(payload(relay={"key": KEY_TEXT} | changes)).relay


# Frames of the broker


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ('{"type":"OPEN"}', ServerMessage("OPEN")),
        (b'{"type":"LEAVE","src":"a","dst":"b"}', ServerMessage("LEAVE", "a")),
        ('{"type":"EXPIRE","src":null,"payload":null}', ServerMessage("EXPIRE")),
        ('{"type":"ERROR","payload":{"msg":"no"}}', ServerMessage("ERROR", "", {"msg": "no"})),
        ('{"type":"","src":"\\u00e9"}', ServerMessage("", "\u00e9")),
    ],
)
def test_a_frame_of_the_broker(frame: bytes | str, message: ServerMessage) -> None:
    assert parse_server_message_untrusted(frame) == message


@pytest.mark.parametrize(
    ("frame", "complaint"),
    [
        ("nonsense", "expected json"),
        (b"\xff", "expected utf-8"),
        ("[]", "as an object, got list"),
        ("{}", "a text as type, got NoneType"),
        ('{"type":1}', "a text as type, got int"),
        ('{"type":"OFFER","src":7}', "a text as src, got int"),
    ],
)
def test_a_frame_that_is_none(frame: bytes | str, complaint: str) -> None:
    with pytest.raises(RemoteProtocolError, match=complaint):
        parse_server_message_untrusted(frame)


# Offers


def test_an_offer_is_written_as_the_original_writes_it() -> None:
    offer = Offer("data", "dc_k3x9a1b2c3", "v=0", metadata={"a": 1}, label="dc_k3x9a1b2c3")
    assert encode_offer("bob", offer) == OFFER_FRAME
    assert parse_offer_untrusted(json.loads(OFFER_FRAME)["payload"]) == offer


def test_a_media_offer_has_no_members_of_data_connections() -> None:
    frame = json.loads(encode_offer("bob", Offer("media", "mc_1", "v=0", metadata=None)))
    assert list(frame) == ["type", "payload", "dst"]
    assert list(frame["payload"]) == ["sdp", "type", "connectionId", "metadata"]
    assert frame["payload"]["metadata"] is None


def test_an_offer_without_metadata_is_not_one_with_null() -> None:
    assert parse_offer_untrusted(payload()).metadata is NO_METADATA
    with_null = parse_offer_untrusted(payload() | {"metadata": None})
    assert with_null.metadata is None
    assert "metadata" not in json.loads(encode_offer("b", parse_offer_untrusted(payload())))["payload"]


def test_an_offer_of_0_3_lacks_much() -> None:
    old = parse_offer_untrusted(payload(label=None, reliable=None, serialization=None, browser="Firefox"))
    assert (old.label, old.reliable, old.serialization, old.legacy) == ("dc_1", False, "binary", True)
    assert parse_offer_untrusted(payload(serialization="none")).serialization == "none"
    assert b"browser" not in encode_offer("b", old)


def test_an_empty_label_is_none_and_a_number_is_a_text() -> None:
    assert parse_offer_untrusted(payload(label="")).label == "dc_1"
    assert parse_offer_untrusted(payload(label=17)).label == "17"


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"type": "text"}, "type data or media, got 'text'"),
        ({"type": None}, "type data or media"),
        ({"connectionId": ""}, "printable characters as connectionId"),
        ({"connectionId": "x" * 129}, "printable characters as connectionId"),
        ({"connectionId": "a\nb"}, "printable characters as connectionId"),
        ({"connectionId": 1}, "connectionId, got int"),
        ({"sdp": "v=0"}, "sdp as an object, got 'v=0'"),
        ({"sdp": {"type": "answer", "sdp": "v=0"}}, "of type offer, got 'answer'"),
        ({"sdp": {"type": "offer"}}, "a text as sdp, got NoneType"),
        ({"sdp": {"type": "offer", "sdp": "x" * 65537}}, "at most 65536 characters, got 65537"),
        ({"label": "\u00e9" * 32768}, "at most 65535 bytes, got 65536"),
        ({"label": "\ud800"}, "lone surrogate"),
        ({"label": []}, "a text as label, got list"),
        ({"label": True}, "a text as label, got bool"),
        ({"serialization": "x" * 65}, "at most 64 characters as serialization"),
        ({"serialization": 7}, "as serialization, got int"),
    ],
)
def test_an_offer_that_is_none(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(RemoteProtocolError, match=complaint):
        parse_offer_untrusted(payload(**changes))


def test_bounds_are_allowed() -> None:
    offer = parse_offer_untrusted(
        payload(
            connectionId="x" * 128,
            sdp={"type": "offer", "sdp": "x" * 65536},
            label="x" * 65535,
            serialization="x" * 64,
        )
    )
    assert (len(offer.connection_id), len(offer.sdp), len(offer.label)) == (128, 65536, 65535)


def test_metadata_without_a_json_form() -> None:
    bad: Any = {"when": object()}
    with pytest.raises(LocalProtocolError, match="not object"):
        encode_offer("bob", Offer("data", "dc_1", "v=0", metadata=bad))


def test_a_payload_that_is_no_object() -> None:
    for parse in (parse_offer_untrusted, parse_answer_untrusted, parse_candidate_message_untrusted):
        values: list[Any] = [None, "x", [], 1.5]
        for value in values:
            with pytest.raises(RemoteProtocolError, match="payload as an object"):
                parse(value)


# Terms of relaying


def test_relay_terms_are_the_last_member() -> None:
    terms = RelayTerms(KEY, broker="0123456789abcdef" * 2, node=NodeId(bytes(20)), round=2)
    frame = json.loads(encode_offer("bob", Offer("data", "dc_1", "v=0", relay=terms)))
    assert list(frame["payload"])[-1] == "relay"
    assert frame["payload"]["relay"] == {
        "key": KEY_TEXT,
        "broker": "0123456789abcdef" * 2,
        "node": "00" * 20,
        "round": 2,
    }
    assert parse_offer_untrusted(frame["payload"]).relay == terms


def test_relay_terms_that_say_little() -> None:
    frame = json.loads(encode_answer("bob", Answer("data", "dc_1", "v=0", RelayTerms(KEY))))
    assert frame["payload"]["relay"] == {"key": KEY_TEXT}
    assert parse_answer_untrusted(frame["payload"]).relay == RelayTerms(KEY)
    assert relay(broker=None, node=None, round=None, later=[1]) == RelayTerms(KEY)


@pytest.mark.parametrize(
    "changes",
    [
        {"key": None},
        {"key": KEY_TEXT[:-4]},
        {"key": KEY_TEXT + "AAAA"},
        {"key": "\u00e9" * 44},
        {"key": "_" + KEY_TEXT[1:]},
        {"broker": "0" * 31},
        {"broker": "g" * 32},
        {"broker": 1},
        {"node": "0" * 39},
        {"node": 1},
        {"round": -1},
        {"round": 1.0},
        {"round": True},
        {"round": 1 << 16},
    ],
)
def test_relay_terms_of_an_unknown_form_are_none(changes: dict[str, Any]) -> None:
    assert relay() == RelayTerms(KEY)
    assert relay(**changes) is None


def test_relay_that_is_no_object_is_none() -> None:
    assert parse_offer_untrusted(payload(relay="yes")).relay is None
    assert parse_offer_untrusted(payload(relay=[])).relay is None


# Answers and candidates


def test_an_answer_is_written_as_the_original_writes_it() -> None:
    answer = Answer("data", "dc_k3x9a1b2c3", "v=0")
    assert encode_answer("alice", answer) == ANSWER_FRAME
    assert parse_answer_untrusted(json.loads(ANSWER_FRAME)["payload"]) == answer


def test_an_offer_is_no_answer() -> None:
    with pytest.raises(RemoteProtocolError, match="of type answer, got 'offer'"):
        parse_answer_untrusted(payload())


def test_a_candidate_is_written_as_the_original_writes_it() -> None:
    message = CandidateMessage("data", "dc_1", Candidate(LINE, "0", 0))
    frame = encode_candidate("bob", message)
    expected = (
        f'{{"candidate":{{"candidate":"{LINE}","sdpMid":"0","sdpMLineIndex":0}},"type":"data","connectionId":"dc_1"}}'
    )
    assert frame.decode() == f'{{"type":"CANDIDATE","payload":{expected},"dst":"bob"}}'
    assert parse_candidate_message_untrusted(json.loads(frame)["payload"]) == message


def test_the_end_of_candidates() -> None:
    over = CandidateMessage("media", "mc_1", None)
    assert parse_candidate_message_untrusted(json.loads(encode_candidate("bob", over))["payload"]) == over
    assert parse_candidate_message_untrusted({"type": "media", "connectionId": "mc_1", "candidate": None}) == over


@pytest.mark.parametrize("candidate", ["text", 1, {"candidate": 1}, {"candidate": "candidate:x"}])
def test_a_candidate_that_is_none(candidate: Any) -> None:
    with pytest.raises(RemoteProtocolError, match="ICE candidate"):
        parse_candidate_message_untrusted({"type": "data", "connectionId": "dc_1", "candidate": candidate})


# Whatever is written is read

kinds: st.SearchStrategy[ConnectionKind] = st.sampled_from(["data", "media"])
ids = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=20)
texts = st.text(max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
terms = st.none() | st.builds(
    RelayTerms,
    st.binary(min_size=32, max_size=32),
    st.none() | st.binary(min_size=16, max_size=16).map(bytes.hex),
    st.none() | st.binary(min_size=20, max_size=20).map(NodeId),
    st.integers(0, 0xFFFF),
)


@given(ids, ids, texts, st.just(NO_METADATA) | values, texts, st.text(min_size=1, max_size=64), st.booleans(), terms)
@settings(max_examples=50)
def test_data_offers_come_back(
    dst: str, name: str, sdp: str, metadata: Any, label: str, form: str, reliable: bool, relayed: RelayTerms | None
) -> None:
    offer = Offer("data", name, sdp, metadata, label or name, form, reliable, relay=relayed)
    message = json.loads(encode_offer(dst, offer))
    assert (message["type"], message["dst"]) == ("OFFER", dst)
    assert parse_offer_untrusted(message["payload"]) == offer


@given(kinds, ids, texts, terms)
@settings(max_examples=30)
def test_answers_come_back(kind: ConnectionKind, name: str, sdp: str, relayed: RelayTerms | None) -> None:
    answer = Answer(kind, name, sdp, relayed)
    assert parse_answer_untrusted(json.loads(encode_answer("a", answer))["payload"]) == answer
