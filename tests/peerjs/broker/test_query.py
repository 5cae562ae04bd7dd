"""What a client says in its URL."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_relay.peerjs.broker.accepting import Query, _parse

pieces = st.sampled_from(
    ["id", "token", "key", "relay", "1", "a", "=", "&", "&&", ";", "+", "%", "%41", "%zz", "\x7f", "?"]
)


@given(st.lists(pieces, max_size=12).map("".join))
def test_a_query_is_read_as_the_standard_library_does(query: str) -> None:
    found = dict(parse_qsl(query, keep_blank_values=True))
    expected = Query(found.get("id", ""), found.get("token", ""), found.get("key", ""), found.get("relay") == "1")
    assert _parse(query) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("key=peerjs&id=a&token=t&version=1.5.5", Query("a", "t", "peerjs", False)),
        ("id=a&id=b&relay=1", Query("b", "", "", True)),
        ("id=a+b&token=%41", Query("a b", "A", "", False)),
        ("id&&=x&token=a=b", Query("", "a=b", "", False)),
    ],
)
def test_queries(query: str, expected: Query) -> None:
    assert _parse(query) == expected
