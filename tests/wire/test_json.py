from __future__ import annotations

import enum
import json
import math
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_relay.exceptions import LocalProtocolError, RemoteProtocolError
from trio_relay.wire.json import (
    MAX_DEPTH,
    MAX_INTEGER_LITERAL,
    JSONValue,
    array_to_bytes,
    buffer_to_bytes,
    bytes_to_buffer,
    decode_untrusted,
    describe,
    encode,
)

any_text = st.text(st.characters())  # lone surrogates included
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False, allow_infinity=False)
    | any_text
)
json_values: st.SearchStrategy[JSONValue] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(any_text, inner, max_size=5), max_leaves=20
)

LONE = "\ud800"


def as_utf16(text: str) -> str:
    """As JavaScript sees it: two surrogates side by side are one character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def normal(value: JSONValue) -> JSONValue:
    if isinstance(value, str):
        return as_utf16(value)
    if isinstance(value, list):
        return [normal(item) for item in value]
    if isinstance(value, dict):
        return {as_utf16(key): normal(item) for key, item in value.items()}
    return value


def nested(depth: int, inner: str = "") -> str:
    return "[" * depth + inner + "]" * depth


@given(json_values)
def test_what_is_encoded_decodes_to_the_same_value(value: JSONValue) -> None:
    text = encode(value)
    assert decode_untrusted(text) == normal(value)
    assert decode_untrusted(text.decode()) == normal(value)


@given(json_values)
def test_both_decoders_agree(value: JSONValue) -> None:
    text = json.dumps(value)
    # A lone surrogate beside the value makes msgspec refuse the whole, so the slow decoder reads it.
    slow = decode_untrusted(f'["\\ud800",{text}]')
    assert slow == [LONE, decode_untrusted(text)]


@given(st.binary() | st.text().map(str.encode))
def test_arbitrary_bytes_raise_only_the_documented_error(data: bytes) -> None:
    try:
        value = decode_untrusted(data)
    except RemoteProtocolError:
        return
    assert encode(value, non_finite_as_null=True)


@given(st.text(st.sampled_from('[]{}",:\\u08d1e+-. nulltrefasNI\ud800')))
def test_arbitrary_text_raises_only_the_documented_error(text: str) -> None:
    try:
        value = decode_untrusted(text)
    except RemoteProtocolError:
        return
    assert encode(value, non_finite_as_null=True)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('"\\ud800"', LONE),
        ('"\\udc00x\\ud800"', "\udc00x\ud800"),
        ('{"\\ud800":1}', {LONE: 1}),
        ('"\\ud83d\\ude00"', "😀"),
        ("1e400", math.inf),
        ("[-1e400]", [-math.inf]),
        ("1e-400", 0.0),
        ('{"a":1,"b":2,"a":3}', {"a": 3, "b": 2}),
        ('{"a":"\\ud800","a":3}', {"a": 3}),
        (" \t\r\n1 \t\r\n", 1),
        ("18446744073709551617", 2**64 + 1),
        ('{"__proto__":{"a":1}}', {"__proto__": {"a": 1}}),
    ],
)
def test_what_json_parse_accepts(text: str, value: JSONValue) -> None:
    assert decode_untrusted(text) == value
    assert decode_untrusted(text.encode()) == value


@pytest.mark.parametrize(
    "text",
    [
        *["", " ", "NaN", "Infinity", "[-Infinity]", '["\\ud800",NaN]', "01", "+1", ".5", "5.", "1e", "-"],
        *["[1,\u0661]", "[1,]", '{"a":1,}', "{a:1}", "'a'", "1 2", "nullnull", "tru", "// 1", '"', "[", "]", '{"a"'],
        *["\ufeff1", "\xa01", "\x0c1", "1\x00", '"\x1f"', '"a\nb"', '"\\ud800\x01"'],
        *['"\\x41"', '"\\u12"', '"\\u+123"', '"\\u1_23"', '"\\ud800\\u1_23"'],
    ],
)
def test_what_json_parse_refuses(text: str) -> None:
    with pytest.raises(RemoteProtocolError, match=r"^expected json"):
        decode_untrusted(text)


@pytest.mark.parametrize(
    "data",
    [b'"\xff"', b'{"skipped":"\xff"}', b'"\xed\xa0\x80"', b'"\xc0\x80"', b'"\xf4\x90\x80\x80"', b'"\xe2\x82', b"\x80"],
)
def test_bytes_that_are_not_utf8_are_refused_with_their_close_code(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match=r"^expected utf-8") as refused:
        decode_untrusted(data)
    assert refused.value.close_code == 1007


@pytest.mark.parametrize("inner", ["", '"\\ud800"', "1e400", '"[[[[ \\" ]"', '"\\\\",[],{}'])
@pytest.mark.parametrize("opening", ["[]", "{}"])
def test_depth_is_the_same_for_both_decoders(inner: str, opening: str) -> None:
    def wrap(depth: int) -> str:
        if opening == "[]":
            return nested(depth - 1, f"[{inner}]")
        return '{"a":' * (depth - 1) + f"[{inner}]" + "}" * (depth - 1)

    deepest = MAX_DEPTH - 1 if inner.endswith("{}") else MAX_DEPTH
    assert decode_untrusted(wrap(deepest)) is not None
    with pytest.raises(RemoteProtocolError, match=f"nested at most {MAX_DEPTH} deep, not {MAX_DEPTH + 1}"):
        decode_untrusted(wrap(deepest + 1))


@pytest.mark.parametrize(
    "text",
    [nested(100_000), "[" * 100_000, '{"a":' * 100_000, '["\\ud800",' + nested(100_000) + "]"],
    ids=["closed", "open", "objects", "slow"],
)
def test_very_deep_text_is_refused_without_recursion(text: str) -> None:
    with pytest.raises(RemoteProtocolError, match="nested at most"):
        decode_untrusted(text)


def test_wide_is_not_deep() -> None:
    assert decode_untrusted("[" + ",".join(["[]", "{}", '"["'] * 1000) + "]") == [[], {}, "["] * 1000


@given(json_values, st.integers(0, 8))
def test_depth_is_measured_as_recursion_would(value: JSONValue, limit: int) -> None:
    def depth(item: JSONValue) -> int:
        if isinstance(item, dict):
            return 1 + max(map(depth, item.values()), default=0)
        if isinstance(item, list):
            return 1 + max(map(depth, item), default=0)
        return 0

    allowed = depth(value) <= limit
    text = encode(value)
    for attempt in (lambda: encode(value, max_depth=limit), lambda: decode_untrusted(text, max_depth=limit)):
        if allowed:
            attempt()
        else:
            with pytest.raises((LocalProtocolError, RemoteProtocolError), match="nested"):
                attempt()


@pytest.mark.parametrize("wrap", [str, '["\\ud800",{}]'.format], ids=["fast", "slow"])
@pytest.mark.parametrize("sign", ["", "-"])
def test_long_integers_are_exact_up_to_the_bound_and_infinite_beyond(wrap: Callable[[str], str], sign: str) -> None:
    def read(literal: str) -> JSONValue:
        value = decode_untrusted(wrap(literal))
        return value[1] if isinstance(value, list) else value

    longest = sign + "9" * (MAX_INTEGER_LITERAL - len(sign))
    assert read(longest) == int(longest)
    assert read(longest + "9") == float(sign + "inf")
    assert read(longest + "9" * 100_000) == float(sign + "inf")


def test_a_lower_bound_of_the_interpreter_makes_long_integers_infinite() -> None:
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    try:
        assert decode_untrusted("9" * 640) == 10**640 - 1
        assert decode_untrusted("9" * 641) == math.inf
    finally:
        sys.set_int_max_str_digits(before)


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (math.nan, "nan"),
        ([-math.inf], "float -inf"),
        ({1: 2}, "int"),
        ({"a": {None: 2}}, "NoneType"),
        (b"x", "bytes"),
        ([1, {2}], "set"),
        ({"a": object()}, "object"),
    ],
)
def test_encode_names_what_json_cannot_hold(value: JSONValue, named: str) -> None:
    with pytest.raises(LocalProtocolError, match=rf"^expected .*{named}"):
        encode(value)


@pytest.mark.parametrize("beside", ["", LONE], ids=["fast", "slow"])
def test_integers_that_nobody_could_read_are_refused(beside: str) -> None:
    with pytest.raises(LocalProtocolError, match=f"at most {MAX_INTEGER_LITERAL} digits"):
        encode([beside, 10**MAX_INTEGER_LITERAL])


def test_a_value_that_contains_itself_is_refused() -> None:
    value: list[JSONValue] = []
    value += [value, value]
    with pytest.raises(LocalProtocolError, match="less deeply nested"):
        encode(value)


class Colour(enum.StrEnum):
    RED = "red"


class Text(str):
    __slots__ = ()


class Number(int):
    pass


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1, 2.5, "é", None, True]}, '{"a":[1,2.5,"é",null,true]}'.encode()),
        (["é", LONE, "😀"], '["é","\\ud800","😀"]'.encode()),
        ({LONE: '"\\'}, b'{"\\ud800":"\\"\\\\"}'),
        ((1, (2,)), b"[1,[2]]"),
        ([Colour.RED, Text("t"), Number(7)], b'["red","t",7]'),
        ("\x00\x7f\u2028", '"\\u0000\x7f\u2028"'.encode()),
    ],
)
def test_encoded_form(value: JSONValue, text: bytes) -> None:
    assert encode(value) == text


def test_non_finite_numbers_become_null_where_that_is_asked_for() -> None:
    assert encode([math.inf, {"a": -math.inf}, math.nan, 1.5], non_finite_as_null=True) == b'[null,{"a":null},null,1.5]'
    assert encode([math.inf, [LONE, math.inf]], non_finite_as_null=True) == b'[null,["\\ud800",null]]'


@given(st.binary())
def test_bytes_survive_as_buffers(data: bytes) -> None:
    assert buffer_to_bytes(decode_untrusted(encode(bytes_to_buffer(data)))) == data
    assert array_to_bytes(list(data)) == data


@pytest.mark.parametrize(
    "value",
    [
        None,
        [1],
        {"type": "Buffer"},
        {"type": "buffer", "data": [1]},
        {"type": "Buffer", "data": "AQ=="},
        {"type": "Buffer", "data": [256]},
        {"type": "Buffer", "data": [-1]},
        {"type": "Buffer", "data": [True]},
        {"type": "Buffer", "data": [1.0]},
        {"type": "Buffer", "data": [1], "more": 0},
        {"type": "Buffer", "data": 3},
    ],
)
def test_only_the_exact_form_is_a_buffer(value: JSONValue) -> None:
    assert buffer_to_bytes(value) is None


def test_descriptions_are_short() -> None:
    assert describe("x" * 1000) == repr("x" * 60)
    assert describe({"a": "x" * 1000}) == "dict"
    assert describe(LONE) == "'\\ud800'"


def test_what_only_the_slow_decoder_reads_is_bounded() -> None:
    few, many = ('["\\ud800"' + ",[]" * number + "]" for number in (20_000, 30_000))
    assert len(decode_untrusted(few)) == 20_001  # type: ignore[arg-type]
    with pytest.raises(RemoteProtocolError, match="at most 50000 items"):
        decode_untrusted(many)
    assert len(decode_untrusted(many.replace("\\ud800", "plain"))) == 30_001  # type: ignore[arg-type]
