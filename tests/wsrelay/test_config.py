"""`RelayConfig`: the original's defaults, and what is refused at start."""

from __future__ import annotations

from typing import Any

import pytest

from trio_relay.wsrelay import BlobConfig, Channel, RelayConfig


def make(**options: Any) -> RelayConfig:
    return RelayConfig(**{"channels": ["pwa"], "key_store": False, **options})


def test_the_defaults_are_those_of_the_original() -> None:
    config = make()
    assert config.listen == "0.0.0.0:8080"
    assert (config.heartbeat_interval, config.rate_limit_window) == (30.0, 60.0)
    assert (config.rate_limit_max_connections, config.rate_limit_max_messages) == (30, 100)
    assert config.on_invalid_key == "close-after-connect"
    assert (config.stats_window, config.stats_history, config.cors) == (3600.0, 24, True)
    assert isinstance(config.blob_store, BlobConfig)
    assert (config.blob_store.max_blob_size, config.blob_store.route_prefix) == (8192, "/blob")
    (channel,) = config.channel_list
    assert (channel.on_duplicate, channel.parse_id("a" * 8), channel.parse_id("a" * 7)) == ("replace", "a" * 8, None)


def test_open_access_must_be_a_decision() -> None:
    with pytest.raises(ValueError, match="key_store is required: give a store of access keys, or False"):
        RelayConfig(channels=["pwa"])


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"channels": []}, "at least one channel"),
        ({"channels": ["a", Channel(name="a")]}, "different names"),
        ({"listen": "nowhere"}, "expected an address to listen on"),
        ({"heartbeat_interval": 0}, "expected a positive heartbeat_interval, not 0"),
        ({"rate_limit_max_messages": -1}, "expected a positive rate_limit_max_messages, not -1"),
        ({"key_check_interval": 0.0}, "expected a positive key_check_interval"),
        ({"stats_history": -1}, "stats_history of 0 or more"),
        ({"on_invalid_key": "ignore"}, "close-after-connect or reject-upgrade, not 'ignore'"),
        ({"slow_consumer": "wait"}, "slow_consumer of pause, drop-newest, drop-oldest, disconnect, not 'wait'"),
        ({"queue_bytes": 1000}, "queue_bytes of at least max_message, 1048576, not 1000"),
        ({"burst_bytes_per_ip": 1000.0}, "burst_bytes_per_ip of at least max_message"),
        ({"ui": True}, "ui needs an admin_key"),
        ({"admin_key": "short"}, "admin_key of 8 to 64 characters"),
        ({"trusted_proxies": ["10.0.0.1/8"]}, "10.0.0.1/8"),
        ({"cors": "https://example.org\r\nx: y"}, "expected an origin"),
        ({"channels": [Channel(name="a", watchable_by=["b"])]}, "watchable_by of 'a'"),
        *(
            ({"channels": [name]}, "two owners of one path")
            for name in ("health", "stats", "metrics", "ui", "blob", "blob/more", "health/more")
        ),
        ({"channels": ["files"], "blob_store": BlobConfig(route_prefix="/files")}, "two owners of one path"),
        ({"channels": ["a"], "blob_store": BlobConfig(route_prefix="/a/12345678")}, "two owners of one path"),
    ],
)
def test_what_makes_no_sense(options: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        make(**options)


def test_a_channel_may_be_called_blob_where_there_are_no_blobs() -> None:
    assert make(channels=["blob"], blob_store=False).channel_list[0].name == "blob"


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"max_blobs": 0}, "positive blob_store.max_blobs"),
        ({"time_to_live": 0.0}, "positive blob_store.time_to_live"),
        ({"max_blob_size": 20, "max_bytes": 10}, "max_blob_size of at most max_bytes"),
        ({"route_prefix": "blob"}, "route_prefix like /blob, not 'blob'"),
        ({"route_prefix": "/stats"}, "route_prefix like /blob, not '/stats'"),
        ({"route_prefix": "/a b"}, "route_prefix like /blob"),
        ({"access_key": "short"}, "access_key of 8 to 64 characters"),
    ],
)
def test_blob_settings_that_make_no_sense(options: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        BlobConfig(**options)


def test_secrets_are_in_no_repr() -> None:
    config = make(admin_key="secret-admin", blob_store=BlobConfig(access_key="secret-blobs"))
    assert "secret" not in repr(config)
