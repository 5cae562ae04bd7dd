"""Options of a hub that make no sense, and requests that it has rules for."""

from __future__ import annotations

from typing import Any

import pytest

from trio_relay.peerix.hub.access import Access
from trio_relay.peerix.hub.config import HubConfig
from trio_relay.transports.routes import Request


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"listen": "nowhere"}, "nowhere"),
        ({"mercure_path": None, "socketio_path": None}, "mercure_path"),
        ({"mercure_path": "/"}, "'/'"),
        ({"socketio_path": "/socket.io/"}, "/socket.io/"),
        ({"mercure_path": "/a", "socketio_path": "/a/b"}, "two owners"),
        ({"prefixes": ()}, "prefixes"),
        ({"prefixes": "peerix:"}, "prefixes"),
        ({"prefixes": ["\n"]}, "prefixes"),
        ({"access_keys": "key"}, "access_keys"),
        ({"access_keys": ["key", ""]}, "access_keys"),
        ({"origins": ["example.org"]}, "origins"),
        ({"trusted_proxies": ["x"]}, "network"),
        ({"max_clients": 0}, "max_clients"),
        ({"keepalive": float("inf")}, "keepalive"),
        ({"burst_bytes": 1000}, "burst_bytes"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], part: str) -> None:
    with pytest.raises(ValueError, match=r"expected|two owners") as error:
        HubConfig(**options)
    assert part in str(error.value)


def request(method: str = "GET", **headers: str) -> Request:
    pairs = tuple((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items())
    return Request(method=method, target="/", path="/", query="", headers=(*pairs, (b"host", b"hub.example")))


COOKIE = "x=1; mercureAuthorization=t.t.t"


@pytest.mark.parametrize(
    ("asked", "token"),
    [
        (request(), None),
        (request(authorization="Bearer abc"), "abc"),
        (request(authorization="bearer  abc "), "abc"),
        (request(authorization="Basic abc", cookie=COOKIE), None),
        # A page of the hub's own host, of a named one, and of a stranger.
        (request(cookie=COOKIE), "t.t.t"),
        (request(cookie='mercureAuthorization="q"'), "q"),
        (request(cookie="mercureAuthorization="), None),
        (request("POST", cookie=COOKIE), None),
        (request("POST", cookie=COOKIE, origin="https://hub.example"), "t.t.t"),
        (request("POST", cookie=COOKIE, origin="https://app.example"), "t.t.t"),
        (request("POST", cookie=COOKIE, origin="https://evil.example"), None),
        (request("GET", cookie=COOKIE, origin="https://evil.example"), None),
        (request("POST", cookie=COOKIE, referer="https://hub.example/page"), "t.t.t"),
        (request("POST", cookie=COOKIE, referer="https://evil.example/https://hub.example"), None),
        (request("GET", cookie=COOKIE, referer="nonsense"), None),
        (request("POST", cookie=COOKIE, origin="null"), None),
    ],
)
def test_what_a_request_has_to_show(asked: Request, token: str | None) -> None:
    access = Access(["https://app.example"], ())
    assert access.token(asked, None) == token
    if asked.header(b"authorization") is None:
        assert access.token(asked, "in-query") == "in-query"


def test_origins() -> None:
    page, stranger = request(origin="https://app.example"), request(origin="https://evil.example")
    some, all_ = Access(["https://app.example"], ()), Access(None, ())
    assert [some.admits(asked) for asked in (request(), page, stranger)] == [True, True, False]
    assert all_.admits(stranger)
    allowed = dict(all_.cors(stranger))
    assert allowed[b"access-control-allow-origin"] == b"https://evil.example"
    assert allowed[b"access-control-allow-credentials"] == b"true"
    assert dict(some.cors(stranger)) == {b"vary": b"Origin"}
    # Even where all may use the hub, a cookie is not for them.
    assert all_.token(request("POST", cookie=COOKIE, origin="https://evil.example"), None) is None
