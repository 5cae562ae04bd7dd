"""How deep JSON is nested: the quick scan against two plain ones, for any text at all."""

from __future__ import annotations

import re
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_relay.exceptions import RemoteProtocolError
from trio_relay.wire.json import MAX_DEPTH, JSONValue, decode_untrusted, encode, require_shallow

# Quotes and backslashes in every neighbourhood, and what UTF-8 makes of characters above ASCII and of halves of pairs.
pieces = st.sampled_from([*'[]{}"\\,:1n é\ud800', '""', '\\"', "\\\\", "[]", "[{", "}]", '"["', '"a":', "[[[[", "]]]]"])
texts = st.lists(pieces, max_size=60).map("".join)


def naive_depth(text: str) -> int:
    """The greatest number of brackets that are open at once, outside strings; never less than none.

    Backslashes count outside strings too, where JSON has none: what they do there has no consequence.
    """
    depth = deepest = 0
    in_string = escaped = False
    for character in text:
        if escaped:
            escaped = False
            if character in '\\"':
                continue
        if character == "\\":
            escaped = True
        elif character == '"':
            in_string = not in_string
        elif not in_string and character in "[]{}":
            depth += 1 if character in "[{" else -1
            deepest = max(deepest, depth)
    return deepest


def depth_by_splitting(text: str) -> int:
    """The same by taking the text apart at its quotes."""
    unescaped = text.encode("utf-8", "surrogatepass").replace(b"\\\\", b"").replace(b'\\"', b"")
    outside_strings = b"".join(unescaped.split(b'"')[::2])
    return max(accumulate({91: 1, 123: 1, 93: -1, 125: -1}.get(byte, 0) for byte in b" " + outside_strings))


def found_depth(text: str, limit: int) -> int | None:
    """What the refusal says; None: it was not refused."""
    try:
        require_shallow(text, limit)
    except RemoteProtocolError as refused:
        found = re.fullmatch(r"expected json nested at most (-?\d+) deep, not (\d+)", str(refused))
        assert found is not None
        assert int(found[1]) == limit
        return int(found[2])
    return None


@given(texts, st.integers(0, 12))
def test_the_scan_agrees_with_the_plain_ones_on_any_text(text: str, limit: int) -> None:
    depth = naive_depth(text)
    assert depth == depth_by_splitting(text)
    assert found_depth(text, limit) == (depth if depth > limit else None)


@given(
    st.recursive(
        st.sampled_from([0, "", "[", '"', '\\"', '"[{', "\\", "a"]),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["", '"', "[", "\\", "b"]), inner),
        max_leaves=40,
    ),
    st.integers(1, 30),
    st.integers(0, 20),
)
def test_the_scan_agrees_with_the_plain_ones_on_json(value: JSONValue, copies: int, limit: int) -> None:
    text = encode([value] * copies).decode()
    depth = naive_depth(text)
    assert depth == depth_by_splitting(text)
    assert found_depth(text, limit) == (depth if depth > limit else None)


@pytest.mark.parametrize("unit", ["[]", "{}", "[[]]", "[[[[]]]]", "[" * 30 + "]" * 30, '[{"a":[{"[":"]"}]}]', '""'])
@pytest.mark.parametrize("depth", [MAX_DEPTH, MAX_DEPTH + 1])
def test_one_deep_place_among_many_shallow_ones_is_found(unit: str, depth: int) -> None:
    wide = f"[{','.join([unit] * 200)}]"
    deep = "[" * (depth - 1) + "{}" + "]" * (depth - 1)
    for text in (f"[{wide},{deep[1:-1]}]", f"[{deep[1:-1]},{wide}]"):
        if depth <= MAX_DEPTH:
            assert len(decode_untrusted(text)) == 2  # type: ignore[arg-type]
        else:
            with pytest.raises(RemoteProtocolError, match=f"nested at most {MAX_DEPTH} deep, not {depth}"):
                decode_untrusted(text)
