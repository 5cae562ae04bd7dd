"""Where a broker is, what it is asked for, and which ids peers can have."""

from __future__ import annotations

import ssl
import warnings
from typing import Any

import pytest

from trio_relay.exceptions import PeerError
from trio_relay.peerjs.signalling.address import BrokerAddress, check_id, random_token


def test_the_default_paths() -> None:
    broker = BrokerAddress(host="Broker.Example", port=9000)
    assert str(broker.websocket_url("alice", "t1")) == (
        "ws://broker.example:9000/peerjs?key=peerjs&id=alice&token=t1&version=1.5.5"
    )
    assert broker.http_url("id", "1.2").target == "/peerjs/id?ts=1.2&version=1.5.5"
    assert broker.authority == "broker.example:9000"


@pytest.mark.parametrize("path", ["my/app", "/my/app", "my/app/", "/my/app/"])
def test_slashes_around_a_path(path: str) -> None:
    broker = BrokerAddress(host="b", port=1, path=path)
    assert broker.path == "/my/app/"
    assert broker.http_url("peers", "0").target.startswith("/my/app/peerjs/peers?")
    assert broker.websocket_url("a", "t").target.startswith("/my/app/peerjs?")


def test_what_means_something_in_a_url_is_encoded() -> None:
    broker = BrokerAddress(host="b", port=1, path="/a b?#", key="k&y/\u00e9", secure=True)
    url = broker.websocket_url("a b&id=c", "t=+#%", relay=True)
    assert str(url) == (
        "wss://b:1/a%20b%3F%23/peerjs?key=k%26y%2F%C3%A9&id=a%20b%26id%3Dc&token=t%3D%2B%23%25&version=1.5.5&relay=1"
    )
    assert broker.http_url("id", "0").target == "/a%20b%3F%23/k%26y%2F%C3%A9/id?ts=0&version=1.5.5"


def test_ipv6() -> None:
    for host in ("::1", "[::1]"):
        assert str(BrokerAddress(host=host, port=9).websocket_url("a", "t")).startswith("ws://[::1]:9/peerjs?")


@pytest.mark.parametrize(
    "changes",
    [
        {"host": ""},
        {"host": "a b"},
        {"host": "a/b"},
        {"host": "a?b"},
        {"host": "u@a"},
        {"port": 0},
        {"port": 65536},
        {"key": ""},
        {"key": "\ud800"},
        {"path": "\n"},
    ],
)
def test_no_broker(changes: dict[str, Any]) -> None:
    options: dict[str, Any] = {"host": "b", "port": 1, **changes}
    with pytest.raises(ValueError, match="expected"):
        BrokerAddress(**options)


def test_an_old_tls_is_refused() -> None:
    context = ssl.create_default_context()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ValueError, match=r"version 1\.2"):
        BrokerAddress(host="b", port=1, secure=True, ssl_context=context)


@pytest.mark.parametrize("id", ["a", "A1", "a b", "a-b_c d", "0"])
def test_ids(id: str) -> None:
    check_id(id)


@pytest.mark.parametrize("id", ["", " a", "a ", "a--b", "a b\n", "\u00e9", "a.b", "-", "a_"])
def test_invalid_ids(id: str) -> None:
    with pytest.raises(PeerError, match="not ") as caught:
        check_id(id)
    assert caught.value.type == "invalid-id"


def test_tokens_differ() -> None:
    tokens = {random_token() for _ in range(100)}
    assert len(tokens) == 100
    assert {len(token) for token in tokens} == {32}
