from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_relay.exceptions import LocalProtocolError, RemoteProtocolError
from trio_relay.wire.body import Unknown, User
from trio_relay.wire.envelope import (
    MAX_NONCE,
    MAX_PATH,
    MAX_TYPE,
    Envelope,
    build_envelope,
    build_id_frame,
    make_envelope,
    parse_body_untrusted,
    parse_envelope_untrusted,
    parse_id_frame_untrusted,
)
from trio_relay.wire.ids import NodeId
from trio_relay.wire.json import MAX_DEPTH, JSONValue, decode_untrusted, encode

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent.parent / "vectors" / "envelope.json").read_text("utf-8"))

A, B, C = (NodeId(bytes([octet]) * 20) for octet in (0x0A, 0x0B, 0x07))

node_ids = st.binary(min_size=20, max_size=20).map(NodeId)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
json_values: st.SearchStrategy[JSONValue] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)
nonces = st.text(st.characters(max_codepoint=127), min_size=1, max_size=MAX_NONCE)
known_keys = frozenset({"to", "from", "path", "nonce", "data", "type"})
extras = st.dictionaries(texts.filter(lambda key: key not in known_keys), json_values, max_size=3)


@st.composite
def envelopes(draw: st.DrawFn) -> Envelope:
    has_data = draw(st.booleans())
    return Envelope(
        to=draw(node_ids),
        source=draw(node_ids),
        path=tuple(draw(st.lists(node_ids, min_size=1, max_size=MAX_PATH))),
        nonce=draw(nonces),
        body_type=draw(st.sampled_from(["user", "other", ""])),
        data=draw(json_values) if has_data else None,
        has_data=has_data,
        extra=draw(extras),
        body_extra=draw(extras),
    )


def from_vector(fields: Mapping[str, Any]) -> Envelope:
    ids = {key: NodeId(bytes.fromhex(fields[key])) for key in ("to", "source")}
    path = tuple(NodeId(bytes.fromhex(entry)) for entry in fields["path"])
    return Envelope(**{**fields, **ids, "path": path})


def by_name(vector: Mapping[str, Any]) -> str:
    return str(vector["name"])


@pytest.mark.parametrize("vector", VECTORS["id_frames"], ids=by_name)
def test_id_frame_vectors(vector: Mapping[str, str]) -> None:
    node_id = NodeId(bytes.fromhex(vector["id"]))
    assert parse_id_frame_untrusted(vector["text"]) == node_id
    assert parse_id_frame_untrusted(vector["text"].encode()) == node_id
    assert build_id_frame(node_id).decode() == vector.get("written", vector["text"])


@pytest.mark.parametrize("text", VECTORS["refused_id_frames"])
def test_bad_id_frames_are_refused(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_id_frame_untrusted(text)


@pytest.mark.parametrize("vector", VECTORS["envelopes"], ids=by_name)
def test_envelope_vectors(vector: Mapping[str, Any]) -> None:
    envelope = from_vector(vector["fields"])
    assert parse_envelope_untrusted(vector["text"]) == envelope
    assert parse_envelope_untrusted(vector["text"].encode()) == envelope
    if "written_with_path" in vector:
        envelope = replace(envelope, path=tuple(NodeId(bytes.fromhex(entry)) for entry in vector["written_with_path"]))
    assert build_envelope(envelope).decode() == vector.get("written", vector["text"])


@pytest.mark.parametrize("change", VECTORS["refused_changes"]["changes"], ids=json.dumps)
def test_bad_envelopes_are_refused(change: dict[str, JSONValue]) -> None:
    good: dict[str, JSONValue] = json.loads(VECTORS["envelopes"][0]["text"])
    bad = {key: value for key, value in (good | change).items() if value != "absent"}
    with pytest.raises(RemoteProtocolError, match=r"^expected "):
        parse_envelope_untrusted(encode(bad))


@given(node_ids)
def test_id_frames_survive(node_id: NodeId) -> None:
    assert parse_id_frame_untrusted(build_id_frame(node_id)) == node_id


@given(envelopes())
def test_envelopes_survive(envelope: Envelope) -> None:
    assert parse_envelope_untrusted(build_envelope(envelope)) == envelope


members: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {},
    optional={
        "to": json_values | node_ids.map(bytes.hex),
        "from": json_values | node_ids.map(bytes.hex),
        "path": json_values | st.lists(node_ids.map(bytes.hex), max_size=22),
        "nonce": json_values | nonces,
        "data": json_values | st.fixed_dictionaries({"type": texts | st.just("user")}, optional={"data": json_values}),
    },
)


@given(st.binary() | st.text().map(str.encode) | json_values.map(encode) | members.map(encode))
def test_arbitrary_messages_raise_only_the_documented_error(data: bytes) -> None:
    accepted: list[object] = []
    for parse in (parse_id_frame_untrusted, parse_envelope_untrusted):
        with contextlib.suppress(RemoteProtocolError):
            accepted.append(parse(data))
    assert len(accepted) <= 1


def test_a_path_of_twenty_is_read_and_one_of_more_refused() -> None:
    full = make_envelope(User("x"), to=A, source=B, nonce="1", path=(B,) * MAX_PATH)
    text = build_envelope(full)
    assert parse_envelope_untrusted(text) == full
    more = text.replace(b'"path":[', b'"path":["' + A.hex().encode() + b'",')
    with pytest.raises(RemoteProtocolError, match="at most 20 ids, not 21"):
        parse_envelope_untrusted(more)
    with pytest.raises(LocalProtocolError, match="1 to 20 ids, not 21"):
        build_envelope(replace(full, path=(B,) * (MAX_PATH + 1)))


def test_an_empty_path_is_not_written() -> None:
    with pytest.raises(LocalProtocolError, match="1 to 20 ids, not 0"):
        build_envelope(make_envelope(User("x"), to=A, source=B, nonce="1", path=()))


@pytest.mark.parametrize("nonce", ["", "é", "0" * (MAX_NONCE + 1), 7, None])
def test_a_bad_nonce_is_not_written(nonce: Any) -> None:
    with pytest.raises(LocalProtocolError, match="nonce"):
        build_envelope(make_envelope(User("x"), to=A, source=B, nonce=nonce))


def test_the_path_of_a_new_envelope_is_its_originator() -> None:
    envelope = make_envelope(User("x"), to=A, source=B, nonce="1")
    assert envelope.path == (B,)


def test_extra_keys_cannot_replace_known_ones() -> None:
    envelope = make_envelope(User("mine"), to=A, source=B, nonce="1")
    extra: JSONValue = "theirs"
    wrong = replace(envelope, extra={"to": extra, "data": extra, "k": 1}, body_extra={"type": extra, "data": extra})
    assert parse_envelope_untrusted(build_envelope(wrong)) == replace(envelope, extra={"k": 1})
    absent = replace(make_envelope(User(None, present=False), to=A, source=B, nonce="1"), body_extra={"data": extra})
    assert not parse_envelope_untrusted(build_envelope(absent)).has_data


def test_a_value_may_be_as_deep_in_an_envelope_as_outside() -> None:
    value = decode_untrusted("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    envelope = make_envelope(User(value), to=A, source=B, nonce="1")
    text = build_envelope(envelope)
    assert parse_envelope_untrusted(text).data == value
    with pytest.raises(RemoteProtocolError, match="nested"):
        parse_envelope_untrusted(text.replace(b"[]", b"[[]]"))
    with pytest.raises(LocalProtocolError, match="nested"):
        build_envelope(replace(envelope, data=[value]))


def test_infinity_from_a_stranger_is_relayed_as_the_original_does() -> None:
    text = build_envelope(make_envelope(User("x"), to=A, source=B, nonce="1")).replace(b'"x"', b'[1e400,"\\ud800"]')
    assert build_envelope(parse_envelope_untrusted(text)) == text.replace(b"1e400", b"null")


HARMFUL: list[tuple[str, JSONValue]] = [
    ("findPeers", None),
    ("findPeers", 5),
    ("findPeers", "zz"),
    ("foundPeers", None),
    ("foundPeers", 5),
    ("foundPeers", {}),
    ("handshake-answer", "x"),
    ("handshake-answer", {"ws": "http://", "wrtc": False}),
    ("handshake-answer", {"ws": 5, "wrtc": False}),
    ("signal", None),
    ("signal", {}),
    ("signal", {"sdp": "v=0", "type": "nonsense"}),
    ("trio-relay", "not base64"),
]


@pytest.mark.parametrize(("body_type", "data"), HARMFUL)
def test_a_body_that_ends_an_original_is_not_passed_on(body_type: str, data: JSONValue) -> None:
    envelope = Envelope(to=A, source=B, path=(B,), nonce="1", body_type=body_type, data=data, has_data=data is not None)
    with pytest.raises(LocalProtocolError, match=r"^expected "):
        build_envelope(envelope)


def test_ids_that_end_an_original_are_left_out_when_passed_on() -> None:
    data: JSONValue = [5, None, C.hex(), "zz", {}]
    envelope = Envelope(to=A, source=B, path=(B,), nonce="1", body_type="foundPeers", data=data, has_data=True)
    assert parse_envelope_untrusted(build_envelope(envelope)).data == [C.hex()]


def test_the_longest_type_is_unknown_and_passed_on() -> None:
    envelope = Envelope(to=A, source=B, path=(B,), nonce="1", body_type="x" * MAX_TYPE, data=[1], has_data=True)
    assert parse_body_untrusted(envelope) == Unknown("x" * MAX_TYPE)
    assert parse_envelope_untrusted(build_envelope(envelope)) == envelope
