"""Who is taken for the operator, and how keys are shown."""

from __future__ import annotations

from collections import Counter

import pytest

from trio_relay.transports.routes import Request
from trio_relay.wsrelay.config import RelayConfig
from trio_relay.wsrelay.pages.admin import has_key, is_operator, mask_key, refuse_stranger

KEY = "admin-key-1"
LOCAL = "127.0.0.1:5000"
AWAY = "203.0.113.7:5000"
PROXY = "10.0.0.2:5000"


def make_request(*headers: str, remote: str = LOCAL, query: str = "") -> Request:
    pairs = (header.partition(": ") for header in headers)
    return Request(
        method="GET",
        target="/stats",
        path="/stats",
        query=query,
        headers=tuple((name.lower().encode(), value.encode("latin-1")) for name, _, value in pairs),
        remote=remote,
    )


def make_config(*proxies: str, admin_key: str | None = KEY) -> RelayConfig:
    return RelayConfig(channels=["pwa"], key_store=False, trusted_proxies=proxies, admin_key=admin_key)


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ((f"Authorization: Bearer {KEY}",), ""),
        ((f"Authorization: bearer  {KEY} ",), ""),
        ((), f"key={KEY}"),
        ((), f"a=b&key={KEY}&key=other-key"),
        ((), "key=admin%2Dkey%2d1"),
        (("Authorization: Basic eA==",), f"key={KEY}"),
        (("Authorization: Bearer other-key",), f"key={KEY}"),
    ],
)
def test_a_key_is_found(headers: tuple[str, ...], query: str) -> None:
    assert has_key(make_request(*headers, query=query), KEY)


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ((), ""),
        ((), "key="),
        ((), f"key={KEY}x"),
        ((), f"key={KEY[:-1]}"),
        ((), f"key=other-key&key={KEY}"),
        ((), f"Key={KEY}"),
        ((), "key=%ff%C3%BC"),
        ((f"Authorization: {KEY}",), ""),
        ((f"Authorization: Basic {KEY}",), ""),
        ((f"Authorization: Bearer {KEY.upper()}",), ""),
        ((f"Authorization: Bearer {KEY}, Bearer {KEY}",), ""),
        (("Authorization: Bearer \xfc\xff",), ""),
        (("Authorization: Bearer",), ""),
    ],
)
def test_no_key_is_found(headers: tuple[str, ...], query: str) -> None:
    assert not has_key(make_request(*headers, query=query), KEY)


def test_the_admin_key_is_good_from_anywhere() -> None:
    bearer = f"Authorization: Bearer {KEY}"
    for headers in [
        (),
        ("X-Forwarded-For: 198.51.100.9",),
        ("Origin: https://elsewhere.example", "Host: evil.example"),
    ]:
        assert is_operator(make_request(bearer, *headers, remote=AWAY), make_config())
        assert not is_operator(make_request(bearer, *headers, remote=AWAY), make_config(admin_key=None))


@pytest.mark.parametrize("remote", [LOCAL, "127.9.9.9:1", "[::1]:5000", "[::ffff:127.0.0.1]:5000"])
@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8080", "localhost", "LOCALHOST:8080", "[::1]:8080", "[::1]", "0.0.0.0:80"]
)
def test_this_machine_is_the_operators(remote: str, host: str) -> None:
    for admin_key in (KEY, None):
        assert is_operator(make_request(f"Host: {host}", remote=remote), make_config(admin_key=admin_key))


def test_a_request_without_a_host_is_of_no_browser() -> None:
    assert is_operator(make_request(), make_config())


@pytest.mark.parametrize(
    "remote", ["", "unknown:1", AWAY, PROXY, "[2001:db8::1]:5000", "localhost:5000", "[fe80::1]:1"]
)
def test_another_machine_is_not(remote: str) -> None:
    assert not is_operator(make_request("Host: 127.0.0.1", remote=remote), make_config())


@pytest.mark.parametrize(
    "header",
    [
        "X-Forwarded-For: 203.0.113.7",
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-For: ",
        "Forwarded: for=127.0.0.1",
        "Via: 1.1 cache",
        "X-Real-IP: 127.0.0.1",
        "X-Client-IP: 127.0.0.1",
        "X-Cluster-Client-IP: 127.0.0.1",
        "True-Client-IP: 127.0.0.1",
        "CF-Connecting-IP: 127.0.0.1",
        "X-Forwarded-Host: relay.example",
        "X-Forwarded-Proto: https",
    ],
)
def test_what_comes_through_a_proxy_is_not_local(header: str) -> None:
    request = make_request("Host: 127.0.0.1", header)
    assert not is_operator(request, make_config())
    trusting = is_operator(request, make_config("127.0.0.1"))
    assert trusting is (header == "X-Forwarded-For: 127.0.0.1")


@pytest.mark.parametrize(
    "header",
    [
        "Origin: https://elsewhere.example",
        "Origin: null",
        "Origin: http://127.0.0.1:8080",
        "Host: elsewhere.example",
        "Host: elsewhere.example:8080",
        "Host: localhost.elsewhere.example",
        "Host: 127.0.0.1.elsewhere.example",
        "Host: ",
        "Host: [::1",
    ],
)
def test_a_web_page_in_a_browser_on_this_machine_is_not_the_operator(header: str) -> None:
    headers = (header,) if header.startswith("Host") else (header, "Host: 127.0.0.1:8080")
    assert not is_operator(make_request(*headers), make_config())


def test_a_stranger_is_refused_and_counted() -> None:
    counts = Counter[str]()
    assert refuse_stranger(make_request("Host: localhost"), make_config(), counts) is None
    refusal = refuse_stranger(make_request(remote=AWAY, query="key=guess-key"), make_config(), counts)
    assert refusal is not None
    assert refusal.status == 403
    assert b"admin key" in refusal.body
    assert KEY.encode() not in refusal.body
    assert counts == {"refused_admin": 1}


def test_keys_are_shown_by_their_ends() -> None:
    alike = [f"ab{middle:04}yz" for middle in range(1000)]
    shown = {mask_key(key) for key in alike}
    assert len(shown) == 1000
    assert {name[:6] for name in shown} == {"ab…yz-"}
    assert mask_key(alike[0]) == mask_key(alike[0])
    assert "SECRET" not in mask_key("a-SECRET-b").upper()
