from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_relay.wire.urls import WebSocketUrl, authority, host, parse_ws_url


@pytest.mark.parametrize(
    ("url", "expected", "host_header"),
    [
        ("ws://example.org", WebSocketUrl(False, "example.org", 80, "/"), "example.org"),
        ("wss://Example.ORG", WebSocketUrl(True, "example.org", 443, "/"), "example.org"),
        ("WS://a:8000/x/y?k=v", WebSocketUrl(False, "a", 8000, "/x/y?k=v"), "a:8000"),
        ("ws://a?k=/v", WebSocketUrl(False, "a", 80, "/?k=/v"), "a"),
        ("ws://[::1]:80/", WebSocketUrl(False, "::1", 80, "/"), "[::1]"),
        ("wss://[0:0::1]:80", WebSocketUrl(True, "::1", 80, "/"), "[::1]:80"),
        ("ws://127.0.0.1:1", WebSocketUrl(False, "127.0.0.1", 1, "/"), "127.0.0.1:1"),
    ],
)
def test_parse(url: str, expected: WebSocketUrl, host_header: str) -> None:
    parsed = parse_ws_url(url)
    assert parsed == expected
    assert parsed.host_header == host_header
    assert parse_ws_url(str(parsed)) == expected


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("", "visible ASCII"),
        ("ws://a b", "visible ASCII"),
        ("ws://b\u00fccher.example", "visible ASCII"),
        ("ws://a\r\nx:1", "visible ASCII"),
        ("http://a", "like ws://host:port"),
        ("a:80", "like ws://host:port"),
        ("ws:/a", "like ws://host:port"),
        ("ws://a#b", "without a fragment"),
        ("ws://u:p@a", "without user information"),
        ("ws://", "expected host:port"),
        ("ws:///x", "expected host:port"),
        ("ws://a:0", "expected host:port"),
        ("ws://a:65536", "expected host:port"),
        ("ws://a:x", "expected host:port"),
        ("ws://::1", "expected host:port"),
        ("ws://[::1", "expected host:port"),
        ("ws://2130706433", "expected host:port"),
    ],
)
def test_parse_refuses(url: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_ws_url(url)


@given(st.text() | st.text(max_size=40).map("ws://".__add__))
def test_parse_raises_only_value_error(url: str) -> None:
    try:
        parsed = parse_ws_url(url)
    except ValueError:
        return
    assert parse_ws_url(str(parsed)) == parsed


def test_authority_has_one_spelling() -> None:
    assert authority("ws://Example.org/x?y") == "example.org:80"
    assert authority("wss://example.org") == "example.org:443"
    assert authority("ws://[0:0::1]:9") == authority("ws://[::1]:9/") == "[::1]:9"
    assert authority("memory://Alpha") == "alpha"
    for bad in ("nonsense", "memory://", "ws://a b"):
        with pytest.raises(ValueError, match="expected a"):
            authority(bad)


@pytest.mark.parametrize("mapped", ["[::ffff:1.2.3.4]", "[::FFFF:102:304]", "[0:0:0:0:0:ffff:1.2.3.4]"])
def test_mapped_addresses_have_one_spelling_in_every_python(mapped: str) -> None:
    assert authority(f"ws://{mapped}:80/") == "[::ffff:1.2.3.4]:80"


def test_host() -> None:
    assert host("wss://Example.org/x") == "example.org"
    assert host("ws://[0:0::1]:9") == "::1"
    assert host("memory://Alpha") == "alpha"
    for bad in ("memory://", "memory://a b", "nonsense", "ws://[::1%a%b]"):
        with pytest.raises(ValueError, match=r"."):
            host(bad)
