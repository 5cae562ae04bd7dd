from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.transports.support import echo, hello
from trio_relay.exceptions import HandshakeError
from trio_relay.transports.memory import MemoryNetwork
from trio_relay.transports.routes import (
    NO_BODY,
    Body,
    BodyTooLarge,
    Request,
    Response,
    Route,
    RouteTable,
    split_target,
)


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


def test_the_root_and_its_subtree_stand_side_by_side() -> None:
    exact, rest = Route("/", upgrade=echo), Route("/", respond=hello, subtree=True)
    for routes in ([exact, rest], [rest, exact]):
        table = RouteTable([*routes, Route("/health", respond=hello)])
        assert table.find("/") is exact
        for path in ("/x", "/x/y", "//", "*", "/healthy"):
            assert table.find(path) is rest
        assert owner(table, "/health/x") == "/health"


@pytest.mark.parametrize("subtree", [False, True])
def test_two_roots_of_one_kind_are_refused(subtree: bool) -> None:
    with pytest.raises(ValueError, match="two routes own the path /"):
        RouteTable([Route("/", respond=hello, subtree=subtree), Route("/", upgrade=echo, subtree=subtree)])


def test_a_subtree_means_nothing_elsewhere() -> None:
    with pytest.raises(ValueError, match="two routes own the path /blob"):
        RouteTable([Route("/blob", respond=hello), Route("/blob", upgrade=echo, subtree=True)])


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


async def test_a_body_made_by_hand() -> None:
    assert await Body.of(b"").read(0) == await Body().read(0) == await NO_BODY.read(0) == b""
    body = Body.of(b"abc")
    assert body.length == 3
    with pytest.raises(BodyTooLarge, match="at most 2 bytes") as caught:
        await body.read(2)
    assert caught.value.most == 2
    assert await body.read(3) == b"abc"
    assert await body.read(0) == b""


async def test_a_body_is_given_once_in_pieces() -> None:
    pieces = [b"ab", b"c", b"de", b""]

    async def source() -> bytes:
        return pieces.pop(0)

    body = Body(None, source)
    assert await anext(body) == b"ab"
    assert await body.read(3) == b"cde"
    assert [piece async for piece in body] == []
    assert pieces == []


async def test_a_body_without_end_is_given_up_at_its_bound() -> None:
    given: list[bytes] = []

    async def source() -> bytes:
        given.append(b"abcd")
        return given[-1]

    with pytest.raises(BodyTooLarge):
        await Body(None, source).read(10)
    assert len(given) == 3


async def test_a_body_that_was_announced_too_large_is_not_received() -> None:
    async def source() -> bytes:
        raise AssertionError("received in vain")

    with pytest.raises(BodyTooLarge):
        await Body(11, source).read(10)


async def test_a_body_is_not_read_after_the_answer() -> None:
    body, read = Body.of(b"abc"), Body.of(b"x")
    assert await read.read(1) == b"x"
    body.end()
    read.end()
    with pytest.raises(trio.ClosedResourceError, match="was answered"):
        await body.read(3)
    assert await read.read(1) == b""


async def test_nothing_is_behind_a_guard_where_there_are_no_requests() -> None:
    async def guard(request: Request) -> None:
        raise AssertionError("there is no request to ask about")

    host = MemoryNetwork().host("a")
    async with trio.open_nursery() as nursery:
        await nursery.start(host.serve, "a", [Route("/", upgrade=echo, guard=guard)])
        with pytest.raises(HandshakeError, match="no connections are taken at /"):
            await host.dial("memory://a")
        nursery.cancel_scope.cancel()
