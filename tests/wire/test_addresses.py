from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_relay.wire.addresses import (
    Endpoint,
    Scope,
    is_dialable,
    join_host_port,
    network_group,
    parse_listen,
    scope,
)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("8.8.8.8", Scope.GLOBAL),
        ("2606:4700::1111", Scope.GLOBAL),
        ("example.org", Scope.GLOBAL),
        ("10.1.2.3", Scope.PRIVATE),
        ("172.31.0.1", Scope.PRIVATE),
        ("192.168.1.1", Scope.PRIVATE),
        ("100.64.0.1", Scope.PRIVATE),
        ("169.254.1.1", Scope.PRIVATE),
        ("fe80::1", Scope.PRIVATE),
        ("fe80::1%eth0", Scope.PRIVATE),
        ("fd00::1", Scope.PRIVATE),
        ("127.0.0.1", Scope.LOOPBACK),
        ("127.255.0.1", Scope.LOOPBACK),
        ("::1", Scope.LOOPBACK),
        ("::ffff:127.0.0.1", Scope.LOOPBACK),
        ("::ffff:10.0.0.1", Scope.PRIVATE),
        ("::ffff:8.8.8.8", Scope.GLOBAL),
        ("0.0.0.0", Scope.LOOPBACK),
        ("::", Scope.LOOPBACK),
        ("localhost", Scope.LOOPBACK),
        ("LocalHost.", Scope.LOOPBACK),
        ("relay.localhost", Scope.LOOPBACK),
    ],
)
def test_scope(host: str, expected: Scope) -> None:
    assert scope(host) is expected


def test_scopes_are_ordered_from_wide_to_narrow() -> None:
    assert Scope.GLOBAL < Scope.PRIVATE < Scope.LOOPBACK


@pytest.mark.parametrize("host", ["8.8.8.8", "127.0.0.1", "::1", "fe80::1%eth0", "example.org", "a_b.example"])
def test_dialable(host: str) -> None:
    assert is_dialable(host)


@pytest.mark.parametrize(
    "host",
    [
        *["0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "::ffff:0.0.0.0", "8.8.8.8%eth0"],
        *["", "a b", "-a.example", "127.1", "0x7f.1", "2130706433", "1.2.3.4.5", "a" * 300],
    ],
)
def test_not_dialable(host: str) -> None:
    assert not is_dialable(host)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("8.8.8.8", "8.8.8.0/24"),
        ("8.8.8.200", "8.8.8.0/24"),
        ("::ffff:8.8.8.8", "8.8.8.0/24"),
        ("2606:4700:1:2:3::4", "2606:4700:1:2::/64"),
        ("Example.org.", "example.org"),
        ("127.0.0.1", ""),
        ("::1", ""),
        ("localhost", ""),
    ],
)
def test_network_group(host: str, expected: str) -> None:
    assert network_group(host) == expected


@given(st.text())
def test_any_text_has_a_scope_and_a_group(host: str) -> None:
    assert scope(host) in Scope
    assert isinstance(network_group(host), str)
    assert is_dialable(host) in (True, False)


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        ("127.0.0.1:0", Endpoint("127.0.0.1", 0)),
        ("[::1]:0", Endpoint("::1", 0)),
        ("[::]:65535", Endpoint("::", 65535)),
        ("0.0.0.0:80", Endpoint("0.0.0.0", 80)),
        ("localhost:1234", Endpoint("localhost", 1234)),
    ],
)
def test_parse_listen(listen: str, expected: Endpoint) -> None:
    assert parse_listen(listen) == expected
    assert str(expected) == listen


@pytest.mark.parametrize(
    "listen",
    [
        *["", ":", ":80", "80", "localhost", "127.0.0.1", "::1:80", "[::1]", "[::1]80", "[x]:80", "[1.2.3.4]:80"],
        *["a:b", "a:-1", "a:65536", "a:1:2", "a:\u0661", "ws://a:80", "a b:80", "127.1:80", "127.0.0.1%lo:80"],
    ],
)
def test_parse_listen_refuses(listen: str) -> None:
    with pytest.raises(ValueError, match="expected an address to listen on"):
        parse_listen(listen)


@given(st.text())
def test_parse_listen_raises_only_value_error(listen: str) -> None:
    try:
        endpoint = parse_listen(listen)
    except ValueError:
        return
    assert parse_listen(join_host_port(*endpoint)) == endpoint
