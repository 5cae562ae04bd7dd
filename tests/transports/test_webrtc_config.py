"""`WebRTCConfig` and `IceServer` refuse at once what could never make a connection, and show no credential."""

from __future__ import annotations

from typing import Any

import pytest

from trio_relay import IceServer, WebRTCConfig

TURN = IceServer(urls="turn:relay.example:3478", username="me", credential="s3cret")


@pytest.mark.parametrize(
    "url",
    [
        "stun:192.0.2.1",
        "stun:stun.example:3478",
        "turn:h",
        "turn:h:1?transport=udp",
        "turn:h?transport=tcp",
        "turns:h:65535",
        "turns:h?transport=tcp",
    ],
)
def test_urls_of_servers(url: str) -> None:
    assert IceServer(urls=url, username="me", credential="key").urls == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "stun:",
        "stun://h",
        "http:h",
        "stun:h:0",
        "stun:h:65536",
        "stun:h:http",
        "stun:h:",
        "stun:h/path",
        "stun:two words",
        "stun:[::1]:3478",
        "stun:h?transport=udp",
        "turn:h?transport=sctp",
        "turns:h?transport=udp",
    ],
)
def test_what_is_no_url_of_a_server(url: str) -> None:
    with pytest.raises(ValueError, match="expected stun:HOST:PORT, turn:HOST:PORT or turns:HOST:PORT, not "):
        IceServer(urls=url, username="me", credential="key")


def test_credentials_are_not_shown() -> None:
    assert "s3cret" not in repr(WebRTCConfig(ice_servers=(TURN,), ice_transport_policy="relay"))
    with pytest.raises(ValueError, match=r"not 'turn:\.\.\.@relay\.example'"):
        IceServer(urls="turn:me:s3cret@relay.example", username="me", credential="s3cret")


@pytest.mark.parametrize("login", [{}, {"username": "me"}, {"credential": "key"}])
def test_a_turn_server_needs_a_login(login: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="expected a user name and a credential for turns:h"):
        IceServer(urls="turns:h", **login)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"negotiation_timeout": 0}, "negotiation_timeout must be positive, not 0"),
        ({"negotiation_timeout": float("nan")}, "negotiation_timeout must be positive, not nan"),
        ({"negotiations": 0}, "negotiations must be positive"),
        ({"send_buffer": -1}, "send_buffer must be positive"),
        ({"receive_window": 0}, "receive_window must be positive"),
        ({"ice_transport_policy": "none"}, "must be 'all' or 'relay', not 'none'"),
        ({"ice_transport_policy": "relay"}, "expected a TURN server in ice_servers"),
        (
            {"ice_transport_policy": "relay", "ice_servers": (IceServer(urls="stun:h"),)},
            "expected a TURN server in ice_servers",
        ),
    ],
)
def test_values_without_a_sense(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        WebRTCConfig(**options)
