"""What is read without h11 is what h11 reads."""

from __future__ import annotations

import time

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transports.talking import KEY, UPGRADE
from trio_relay.limits import Limits
from trio_relay.transports.conversation import upgrade_at_once
from trio_relay.transports.routes import Request, Response, Route, RouteTable, header_value
from trio_relay.transports.upgrade import (
    SUBPROTOCOL,
    Acceptance,
    accept_upgrade,
    is_upgrade,
    switch_protocols,
    upgrade_headers,
)
from trio_relay.transports.usual_upgrade import read_usual_upgrade
from trio_relay.wire.urls import parse_ws_url

from .support import echo

MOST = 16 * 1024
FIELDS = (
    b"Host: h",
    b"Upgrade: websocket",
    b"Connection: keep-alive, Upgrade",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: " + KEY,
)
BROWSER = (
    *FIELDS,
    b"Pragma: no-cache",
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    b"Accept-Encoding: gzip, deflate, br, zstd",
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
    b"Sec-WebSocket-Protocol: chat, " + SUBPROTOCOL.encode(),
    b'Sec-CH-UA: "Chromium";v="131"',
    b"Cookie:",
)


def head(*fields: bytes, first: bytes = b"GET /x?y=z HTTP/1.1", end: bytes = b"\r\n") -> bytes:
    return end.join([first, *fields, b"", b""])


def by_h11(data: bytes) -> tuple[Request, bytes, bytes] | None:
    """The upgrade that h11 reads, what it is answered with, and what follows; None if it is refused."""
    http = h11.Connection(h11.SERVER)
    http.receive_data(data)
    try:
        event = http.next_event()
    except h11.RemoteProtocolError:
        return None
    if not isinstance(event, h11.Request):
        return None
    target = event.target.decode("ascii")
    request = Request(
        method=event.method.decode("ascii"), target=target, path=target, query="", headers=(*event.headers,)
    )
    accepted = accept_upgrade(request, event.http_version)
    body = request.header(b"content-length") or request.header(b"transfer-encoding")
    if not is_upgrade(request) or isinstance(accepted, Response) or body is not None:
        return None
    assert isinstance(http.next_event(), h11.EndOfMessage)
    event_101 = h11.InformationalResponse(
        status_code=101, headers=list(accepted.headers), reason=b"Switching Protocols"
    )
    return request, http.send(event_101) or b"", http.trailing_data[0]


def check(data: bytes) -> bool:
    """Whether it was read; what was read is what h11 reads."""
    found = read_usual_upgrade(data, MOST)
    if found is None:
        return False
    expected = by_h11(data)
    assert expected is not None
    request, answer, rest = expected
    assert (found.target, found.headers) == (request.target, request.headers)
    assert (found.answer, found.received) == (answer, rest)
    assert found.offered_subprotocol is (b"sec-websocket-protocol" in answer)
    return True


@pytest.mark.parametrize("fields", [FIELDS, BROWSER], ids=["a library", "a browser"])
def test_usual_requests_are_read(fields: tuple[bytes, ...]) -> None:
    assert check(head(*fields))
    assert check(head(*fields) + b"\x82\x80\0\0\0\0")
    assert check(head(*[field.replace(b": ", b":") for field in fields]))
    assert check(head(*[field.replace(b": ", b":  ") + b"  " for field in reversed(fields)]))


def test_what_our_own_dialler_sends_is_read() -> None:
    headers = upgrade_headers(parse_ws_url("ws://example.com:80/a?b"), bytes(16), subprotocol=SUBPROTOCOL)
    assert check(head(*[name + b": " + value for name, value in headers]))
    assert check(UPGRADE + b"\r\n")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        head(*FIELDS)[:-1],
        head(*FIELDS, end=b"\n"),
        head(*FIELDS, first=b"POST / HTTP/1.1"),
        head(*FIELDS, first=b"GET / HTTP/1.0"),
        head(*FIELDS, first=b"GET /a b HTTP/1.1"),
        head(*FIELDS, first=b"GET  / HTTP/1.1"),
        head(*FIELDS, first=b"GET http://h/ HTTP/1.1"),
        head(*FIELDS, first=b"GET /\xc3\xbc HTTP/1.1"),
        b"\r\n" + head(*FIELDS),
        head(),
        head(*FIELDS[1:]),
        head(*FIELDS, b"host: h"),
        head(*FIELDS, b"x: 1", b"X: 2"),
        head(*FIELDS, b" folded"),
        head(*FIELDS, b"\tfolded"),
        head(*FIELDS, b"no colon"),
        head(*FIELDS, b": no name"),
        head(*FIELDS, b"a space : x"),
        head(*FIELDS, b"x: tab\tbed"),
        head(*FIELDS, b"x: \xff"),
        head(*FIELDS, b"x: a\rb: c"),
        head(*FIELDS, b"x: a\nb: c"),
        head(*FIELDS, b"x: \0"),
        head(*FIELDS, b"content-length: 0"),
        head(*FIELDS, b"Transfer-Encoding: chunked"),
        head(*FIELDS, b"expect: 100-continue"),
        head(FIELDS[0], b"upgrade: h2c", *FIELDS[2:]),
        head(*FIELDS[:2], b"connection: close", *FIELDS[3:]),
        head(*FIELDS[:3], b"sec-websocket-version: 8", FIELDS[4]),
        head(*FIELDS[:4], b"sec-websocket-key: short"),
        head(*FIELDS[:4]),
    ],
)
def test_anything_else_is_left_to_h11(data: bytes) -> None:
    assert not check(data)


@pytest.mark.parametrize(("most", "taken"), [(400, True), (399, False)])
def test_a_head_is_no_larger_than_h11_may_read(most: int, taken: bool) -> None:
    data = head(*FIELDS)
    data = head(*FIELDS, b"x:" + b"y" * (400 - 4 * len(FIELDS) - 4 - len(data) - 4))
    assert (read_usual_upgrade(data, most) is not None) is taken


pieces = st.sampled_from(
    [
        *BROWSER,
        b"x",
        b":",
        b": ",
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b"\t",
        b"\0",
        b"\xff",
        b",",
        b"Content-Length: 0",
        b"\x7f",
    ]
)


@given(st.permutations(FIELDS), st.lists(st.tuples(st.integers(0, 300), pieces), max_size=2), st.binary(max_size=3))
def test_whatever_stands_where_it_should_not_nothing_is_read_differently(
    fields: list[bytes], inserted: list[tuple[int, bytes]], rest: bytes
) -> None:
    data = head(*fields) + rest
    for position, piece in inserted:
        data = data[:position] + piece + data[position:]
    check(data)


@given(st.lists(st.binary(max_size=8) | pieces, max_size=6), st.binary(max_size=12))
def test_headers_of_any_bytes_are_not_read_differently(extra: list[bytes], target: bytes) -> None:
    check(head(*FIELDS, *extra, first=b"GET /" + target + b" HTTP/1.1"))


@pytest.mark.parametrize("tail", [b"a:" + b" " * 200_000, b"a" * 200_000, b"a:\r\n" * 50_000, b"a:b" + b" " * 200_000])
def test_a_head_that_is_wrong_at_its_end_costs_no_more_than_its_length(tail: bytes) -> None:
    data = head(*FIELDS)[:-2] + tail + b"\0"
    begin = time.process_time()
    assert read_usual_upgrade(data, len(data)) is None
    assert time.process_time() - begin < 0.5


@pytest.mark.parametrize("offered", [False, True])
def test_the_answer_has_the_headers_of_an_acceptance(offered: bool) -> None:
    protocol = SUBPROTOCOL.encode() if offered else b"none"
    headers = ((b"connection", b"upgrade"), (b"sec-websocket-version", b"13"), (b"sec-websocket-key", KEY))
    request = Request(
        method="GET", target="/", path="/", query="", headers=(*headers, (b"sec-websocket-protocol", protocol))
    )
    accepted = accept_upgrade(request, b"1.1")
    assert isinstance(accepted, Acceptance)
    first, *lines = switch_protocols(KEY, offered).split(b"\r\n")
    assert first == b"HTTP/1.1 101 Switching Protocols"
    assert [tuple(line.split(b": ")) for line in lines[:-2]] == list(accepted.headers)
    assert header_value(accepted.headers, b"sec-websocket-protocol") == (protocol if offered else None)


# With the routes


async def no_decision(request: Request) -> None:
    raise AssertionError("asked in vain")


def fail(request: Request) -> Response | None:
    raise ValueError(request.path)


def at_once(data: bytes, route: Route) -> bool:
    found = upgrade_at_once(data, RouteTable([route]), Limits(), ("r:1", "l:2"), 3.0)
    if found is not None:
        request = found.request
        assert (request.method, request.path, request.query) == ("GET", "/x", "y=z")
        assert (request.remote, request.local, request.since, request.secure) == ("r:1", "l:2", 3.0, False)
        assert found.handler is route.upgrade
    return found is not None


def test_only_what_nothing_speaks_against_is_accepted_at_once() -> None:
    data = head(*FIELDS)
    assert at_once(data, Route("/x", upgrade=echo, check=lambda request: None))
    assert not at_once(data, Route("/other", upgrade=echo))
    assert not at_once(data, Route("/x", respond=lambda request: no_response()))
    assert not at_once(data, Route("/x", upgrade=echo, guard=no_decision))
    assert not at_once(data, Route("/x", upgrade=echo, check=lambda request: Response.text(403, "no")))
    assert not at_once(data, Route("/x", upgrade=echo, check=fail))


async def no_response() -> Response:
    raise AssertionError("asked in vain")
