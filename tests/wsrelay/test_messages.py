"""What the relay reads of a message, and the frames of its own."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_relay.exceptions import RemoteProtocolError
from trio_relay.wire.json import MAX_DEPTH, decode_untrusted
from trio_relay.wsrelay.messages import SPOOFED_TYPES, Head, encode_error, encode_status, read_head_untrusted

NAMES = ("from", "to", "type", "address")
NUMBERS = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False))
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=10))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)),
    max_leaves=15,
)
OBJECTS = st.dictionaries(st.one_of(st.sampled_from([*NAMES, "payload"]), st.text(max_size=5)), VALUES, max_size=7)


def members(head: Head) -> tuple[str | None, ...]:
    return (head.sender, head.to, head.type, head.address)


def expected(value: dict[str, Any]) -> tuple[str | None, ...]:
    return tuple(value[name] if isinstance(value.get(name), str) else None for name in NAMES)


@settings(max_examples=50)
@given(OBJECTS, st.sampled_from([None, 1, "\t"]), st.booleans())
def test_the_members_are_read_whatever_else_there_is(value: dict[str, Any], indent: Any, escapes: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=escapes)
    assert members(read_head_untrusted(text)) == expected(value)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=8))
def test_of_members_that_are_there_twice_the_last_counts(pairs: list[tuple[str, Any]]) -> None:
    text = "{" + ",".join(f"{json.dumps(name)}:{json.dumps(value)}" for name, value in pairs) + "}"
    assert members(read_head_untrusted(text)) == expected(dict(pairs))


@given(st.text(st.sampled_from('{}[]":,\\ "abfromtyedsu0189.eE+-\t\x01é'), max_size=30))
def test_it_takes_what_the_decoder_takes(text: str) -> None:
    try:
        value = decode_untrusted(text)
    except RemoteProtocolError:
        value = None
    if isinstance(value, list | dict):
        assert members(read_head_untrusted(text)) == (expected(value) if isinstance(value, dict) else (None,) * 4)
    else:
        with pytest.raises(RemoteProtocolError):
            read_head_untrusted(text)


@settings(max_examples=50)
@given(OBJECTS, st.data())
def test_damaged_messages_are_judged_as_by_the_decoder(value: dict[str, Any], data: st.DataObject) -> None:
    text = json.dumps(value)
    position = data.draw(st.integers(0, len(text)))
    inserted = data.draw(st.sampled_from(["", ",", '"', "\\", "{", "}", "[", "]", "0", ":", "\x00", "\\ud800", " "]))
    test_it_takes_what_the_decoder_takes.hypothesis.inner_test(  # type: ignore[attr-defined]
        text[:position] + inserted + text[position + data.draw(st.integers(0, 2)) :]
    )


@pytest.mark.parametrize("text", ["", "null", "true", "1", '"from"', "1e400", "NaN", "{", '{"from":"a"', "[1,]", "{}x"])
def test_no_object_and_no_array_is_refused(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        read_head_untrusted(text)


@pytest.mark.parametrize(
    ("inside", "taken"),
    [
        *[(text, False) for text in ("01", "1.", ".5", "+1", "1e", "tru", r'"\x"', '"\t"', '"\x00"', r'"\u12"')],
        *[(text, False) for text in ("[1,]", '{"a"}', "NaN")],
        *[(text, True) for text in (r'"\ud800"', "1e400", "-0", "9" * 5000, '"\u2028"', "1E-9999")],
    ],
)
def test_members_that_are_not_looked_at_must_be_json_all_the_same(inside: str, taken: bool) -> None:
    text = f'{{"from":"a","payload":{inside},"to":"b"}}'
    if taken:
        assert members(read_head_untrusted(text)) == ("a", "b", None, None)
    else:
        with pytest.raises(RemoteProtocolError):
            read_head_untrusted(text)


def test_members_that_are_no_strings_are_none() -> None:
    assert members(read_head_untrusted('{"from":1,"to":null,"type":["watch"],"address":{"a":1}}')) == (None,) * 4
    assert members(read_head_untrusted('["from","to"]')) == (None,) * 4


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('{"from":', "}")])
def test_depth(opening: str, closing: str) -> None:
    def nested(depth: int) -> str:
        return opening * depth + "1" + closing * depth

    read_head_untrusted(nested(MAX_DEPTH))
    read_head_untrusted(f'{{"a":"{"[" * 1000}","b":{nested(MAX_DEPTH - 1)}}}')
    for text in (nested(MAX_DEPTH + 1), f'{{"a":{nested(MAX_DEPTH)}}}', nested(100_000), opening * 100_000):
        with pytest.raises(RemoteProtocolError):
            read_head_untrusted(text)


def test_frames_are_spelled_as_the_originals() -> None:
    assert encode_status("pwa:é", True) == '{"type":"peer-status","payload":{"address":"pwa:é","online":true}}'.encode()
    assert encode_error("A_B", 'say "x"') == b'{"type":"error","payload":{"code":"A_B","message":"say \\"x\\""}}'
    more = b'{"type":"error","payload":{"code":"C","message":"m","to":"a:b","reason":"slow"}}'
    assert encode_error("C", "m", to="a:b", reason="slow") == more
    assert {json.loads(frame)["type"] for frame in (encode_status("", False), more)} == SPOOFED_TYPES
