from __future__ import annotations

import json
import subprocess
from random import Random
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_relay.wsrelay.addresses import (
    MAX_CHANNEL_NAME,
    MAX_ID,
    Channel,
    ChannelTable,
    PeerAddress,
    default_parse_id,
    parse_query_key,
    percent_decoded,
    query_flag,
    split_address,
)

segments = st.sampled_from(["a", "b", "ab", "...", "a b", "%2e"])
channel_names = st.lists(segments, min_size=1, max_size=3).map("/".join)


def anything(raw: str) -> str | None:
    return raw


# Addresses


@given(st.text(st.characters(exclude_characters=":")), st.text())
def test_an_address_is_split_where_it_was_joined(channel: str, peer_id: str) -> None:
    address = PeerAddress(channel, peer_id)
    assert split_address(address.text) == address


@pytest.mark.parametrize(
    ("text", "address"),
    [("pwa:alice123", ("pwa", "alice123")), ("a/b:c:d", ("a/b", "c:d")), (":", ("", "")), ("", None), ("pwa", None)],
)
def test_split_address(text: str, address: tuple[str, str] | None) -> None:
    assert split_address(text) == address


@given(st.text(st.sampled_from("aZ09_-.é\n "), min_size=6, max_size=10) | st.text(st.just("a"), min_size=60))
def test_default_ids(raw: str) -> None:
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
    assert default_parse_id(raw) == (raw if 8 <= len(raw) <= 64 and set(raw) <= allowed else None)


# Channels


@given(channel_names)
def test_names_of_channels(name: str) -> None:
    assert ChannelTable([Channel(name=name)]).parse_target(f"/{name}/alice123") == (name, "alice123")


@pytest.mark.parametrize(
    "name",
    [
        *["", "/", "a/", "/a", "a//b", ".", "..", "a/../b", "./a", "a:b", "a?b", "a#b", "a\nb", "\x7f", "\x85"],
        *["\u2028", "\ud800", "a" * (MAX_CHANNEL_NAME + 1), None],
    ],
)
def test_names_that_no_channel_can_have(name: Any) -> None:
    with pytest.raises(ValueError, match=r"^expected a channel name "):
        Channel(name=name)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"on_duplicate": "refuse"}, "'replace' or 'reject', not 'refuse'"),
        ({"parse_id": None}, "a function as parse_id"),
        ({"watchable_by": "pwa"}, "channel names as watchable_by"),
    ],
)
def test_other_fields_are_checked(fields: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=f"^expected .*{expected}"):
        Channel(name="pwa", **fields)


def test_a_channel_is_a_value() -> None:
    assert Channel(name="a" * MAX_CHANNEL_NAME, watchable_by=["b", "b"]) == Channel(
        name="a" * MAX_CHANNEL_NAME, watchable_by={"b"}
    )
    assert Channel(name="a").watchable_by is None
    assert hash(Channel(name="a", watchable_by=[])) == hash(Channel(name="a", watchable_by=[]))


@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        ([], "at least one channel"),
        ([Channel(name="a"), Channel(name="b"), Channel(name="a")], "two called 'a'"),
        ([Channel(name="a", watchable_by=["a", "b"])], "watchable_by of 'a' to name channels, not 'b'"),
    ],
)
def test_tables_that_cannot_be(channels: list[Channel], expected: str) -> None:
    with pytest.raises(ValueError, match=f"^expected .*{expected}"):
        ChannelTable(channels)


def test_a_table_gives_its_channels_in_order() -> None:
    channels = [Channel(name="a"), Channel(name="long/name"), Channel(name="b")]
    table = ChannelTable(channels)
    assert list(table) == channels
    assert len(table) == 3
    assert table.get("long/name") is channels[1]
    assert table.get("long") is None


# Targets


@pytest.mark.parametrize(
    ("target", "address"),
    [
        ("/pwa/alice123", ("pwa", "alice123")),
        ("/pwa/alice123?key=secret12", ("pwa", "alice123")),
        ("/pwa/alice123#x?key=1", ("pwa", "alice123")),
        ("/pwa/alice123?/pwa/x#y", ("pwa", "alice123")),
        ("/pwa/room/alice123", ("pwa/room", "alice123")),
        ("/raw/%41%2F:", ("raw", "%41%2F:")),
        ("/raw/" + "x" * MAX_ID, ("raw", "x" * MAX_ID)),
        *[(target, None) for target in ("/pwa/alice12", "/pwa/alice123/", "/pwa/a/alice123", "/PWA/alice123")],
        *[(target, None) for target in ("", "/", "*", "/pwa", "/pwa/", "/pwa/?alice123", "//pwa/alice123", "/raw/")],
        *[
            (target, None)
            for target in (
                "pwa/alice123",
                "xpwa/alice123",
                "/pwa/%61lice123",
                "/raw/" + "x" * (MAX_ID + 1),
                "/raw/a\x00",
            )
        ],
    ],
)
def test_targets(target: str, address: tuple[str, str] | None) -> None:
    table = ChannelTable([Channel(name="pwa"), Channel(name="raw", parse_id=anything), Channel(name="pwa/room")])
    assert table.parse_target(target) == address


@pytest.mark.parametrize("bad", ["", "x" * (MAX_ID + 1), "a\nb", "a\x9fb", "a\u2029b", "a\ud800b", 7, True, b"c", None])
def test_what_is_no_id_makes_no_address(bad: Any) -> None:
    asked = []

    def parse(raw: str) -> Any:
        asked.append(raw)
        return bad if raw == "c" else raw

    table = ChannelTable([Channel(name="a", parse_id=parse), Channel(name="a/b", parse_id=parse)])
    assert table.parse_target("/a/b/c") is None
    assert table.parse_target("/a/b/d") == ("a/b", "d")
    assert asked == ["c", "d"]


def test_no_channel_is_asked_about_an_empty_id() -> None:
    table = ChannelTable([Channel(name="a", parse_id=lambda raw: f"id {raw}")])
    assert table.parse_target("/a/") is None
    assert table.parse_target("/a/b") == ("a", "id b")


def test_what_parse_id_raises_is_the_callers_matter() -> None:
    def parse(raw: str) -> str:
        raise LookupError(raw)

    with pytest.raises(LookupError, match="alice"):
        ChannelTable([Channel(name="a", parse_id=parse)]).parse_target("/a/alice")


def tried_one_by_one(channel_list: list[str], target: str) -> tuple[str, str] | None:
    """As the original does it."""
    for name in sorted(channel_list, key=len, reverse=True):
        prefix = f"/{name}/"
        raw = target.split("?")[0].split("#")[0].removeprefix(prefix)
        if target.startswith(prefix) and raw and "/" not in raw:
            return name, raw
    return None


@given(
    st.lists(channel_names, min_size=1, max_size=5, unique=True),
    st.lists(segments | st.sampled_from(["", "?", "#", "?a"]), max_size=5),
    st.sampled_from(["/", "", "//"]),
)
def test_a_target_is_for_the_channel_that_trying_them_finds(names: list[str], path: list[str], first: str) -> None:
    target = first + "/".join(path)
    table = ChannelTable(Channel(name=name, parse_id=anything) for name in names)
    assert table.parse_target(target) == tried_one_by_one(names, target)
    target = f"/{names[-1]}/{''.join(path)}"
    assert table.parse_target(target) == tried_one_by_one(names, target)


@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=MAX_ID))
def test_ids_that_a_url_must_encode_survive_with_percent_decoded(peer_id: str) -> None:
    table = ChannelTable([Channel(name="pwa", parse_id=percent_decoded(anything))])
    encoded = quote(peer_id, safe="!'()*-._~")  # what encodeURIComponent leaves
    assert table.parse_target(f"/pwa/{encoded}?key=1") == PeerAddress("pwa", peer_id)


@pytest.mark.parametrize(("raw", "peer_id"), [("%ff", None), ("%00", None), ("%zz", "%zz"), ("a+b", "a+b")])
def test_percent_decoded_edges(raw: str, peer_id: str | None) -> None:
    found = ChannelTable([Channel(name="a", parse_id=percent_decoded(anything))]).parse_target(f"/a/{raw}")
    assert found == (None if peer_id is None else ("a", peer_id))


def test_percent_decoded_asks_the_inner_rule_about_the_decoded_id() -> None:
    assert percent_decoded(default_parse_id)("%61lice123") == "alice123"
    assert percent_decoded(default_parse_id)("a%2Flice123") is None


# Queries


@pytest.mark.parametrize(
    ("query", "key"),
    [
        *[("key=abc", "abc"), ("a=1&key=abc&key=def", "abc"), ("key", ""), ("key=", ""), ("key=a=b", "a=b")],
        *[
            ("k%65y=a+b%2Bc", "a b+c"),
            ("key=%zz%4", "%zz%4"),
            ("key=%ff%C3", "\ufffd\ufffd"),
            ("key=%EF%BB%BFa", "\ufeffa"),
        ],
        *[("", None), ("&&=key", None), ("KEY=a", None), ("keys=a", None), ("a=key", None), ("x#&key=a", None)],
    ],
)
def test_the_key_in_a_query(query: str, key: str | None) -> None:
    assert parse_query_key(query) == key


@given(
    st.lists(
        st.tuples(st.sampled_from(["key", "a", "Key", "", "k y"]), st.text(st.characters(exclude_categories=["Cs"])))
    )
)
def test_keys_survive_encoding(parameters: list[tuple[str, str]]) -> None:
    assert parse_query_key(urlencode(parameters)) == next((value for name, value in parameters if name == "key"), None)


@pytest.mark.parametrize(
    ("query", "flag"),
    [
        *[("reports", True), ("reports=", True), ("reports=1", True), ("a=b&reports=true", True)],
        *[
            ("", False),
            ("reports=0", False),
            ("reports=false", False),
            ("reports=no&reports", False),
            ("report=1", False),
        ],
    ],
)
def test_flags(query: str, flag: bool) -> None:
    assert query_flag(query, "reports") is flag


@pytest.mark.interop
def test_keys_are_decoded_as_node_does() -> None:
    random = Random(5)
    pieces = ["key", "=", "&", "+", "%", "%41", "%c3", "%A9", "%f0%9f", "%ed%a0%80", "%2", "%zz", "#", "a", "?", "%00"]
    queries = ["key=" + "".join(random.choices(pieces, k=random.randrange(1, 9))) for _ in range(500)]
    queries += ["".join(random.choices(pieces, k=random.randrange(1, 12))) for _ in range(500)]
    program = """
        const queries = JSON.parse(require('fs').readFileSync(0))
        const keys = queries.map((query) => new URL('/?' + query, 'http://localhost').searchParams.get('key'))
        console.log(JSON.stringify(keys))
    """
    done = subprocess.run(["node", "-e", program], input=json.dumps(queries).encode(), capture_output=True, check=True)
    keys = json.loads(done.stdout)
    assert [parse_query_key(query) for query in queries] == keys
    assert sum(key is not None for key in keys) > 500
