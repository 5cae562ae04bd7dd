from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transports.support import echo, hello
from trio_relay.transports.routes import Request, Response, Route, RouteTable, split_target


def owner(table: RouteTable, path: str) -> str | None:
    route = table.find(path)
    return None if route is None else route.prefix


def test_the_longest_prefix_of_whole_segments_wins() -> None:
    table = RouteTable([Route(prefix, respond=hello) for prefix in ("/", "/blob", "/blob/own", "/a/b")])
    assert owner(table, "/") == "/"
    assert owner(table, "/blob") == "/blob"
    assert owner(table, "/blob/") == "/blob"
    assert owner(table, "/blob/x/y") == "/blob"
    assert owner(table, "/blob/own/x") == "/blob/own"
    assert owner(table, "/blob/owner") == "/blob"
    for path in ("/blobs", "/a", "/x", "//", "*", ""):
        assert owner(table, path) is None


def test_a_subtree_owns_what_nobody_else_does() -> None:
    table = RouteTable([Route("/blob", respond=hello), Route("/", upgrade=echo, subtree=True)])
    assert owner(table, "/") == owner(table, "/blobs") == owner(table, "/x/y") == "/"
    assert owner(table, "/blob/x") == "/blob"


def test_two_owners_of_one_path_are_refused() -> None:
    with pytest.raises(ValueError, match="two routes own the path /blob"):
        RouteTable([Route("/blob", respond=hello), Route("/blob", upgrade=echo)])


@pytest.mark.parametrize("prefix", ["", "blob", "/blob/", "//"])
def test_bad_prefixes_are_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="expected a route prefix"):
        Route(prefix, respond=hello)


def test_a_route_serves_something() -> None:
    with pytest.raises(ValueError, match="serves neither"):
        Route("/x")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/", ("/", "")),
        ("/a%20b?x=?y", ("/a%20b", "x=?y")),
        ("http://h:1/a?b", ("/a", "b")),
        ("http://h?b", ("/", "b")),
        ("https://h", ("/", "")),
        ("*", ("*", "")),
    ],
)
def test_split_target(target: str, expected: tuple[str, str]) -> None:
    assert split_target(target) == expected


@pytest.mark.parametrize("target", ["host:80", "ftp://h/x", "x", ""])
def test_split_target_refuses(target: str) -> None:
    with pytest.raises(ValueError, match="expected a path"):
        split_target(target)


@given(st.text())
def test_split_target_raises_only_value_error(target: str) -> None:
    try:
        path, _ = split_target(target)
    except ValueError:
        return
    assert path.startswith("/") or path == "*"


def test_headers_are_found_in_lower_case_and_joined() -> None:
    request = Request(method="GET", target="/", path="/", query="", headers=((b"x-a", b"1"), (b"x-a", b"2")))
    assert request.header(b"x-a") == b"1, 2"
    assert request.header(b"x-b") is None


def test_text_responses_name_their_type() -> None:
    assert Response.text(404, "no").headers == ((b"content-type", b"text/plain; charset=utf-8"),)
