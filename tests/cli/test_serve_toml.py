"""The configuration file of ``serve``: which options it takes, and what is said of one that is wrong."""

from __future__ import annotations

import string
from dataclasses import fields
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_relay.cli.options import UsageError
from trio_relay.cli.toml_config import SCHEMA, load_file, parse_config
from trio_relay.limits import Limits
from trio_relay.peerix.hub.config import HubConfig
from trio_relay.peerjs.broker.config import BrokerConfig, RelayedConfig
from trio_relay.wsrelay import BlobConfig, RelayConfig

SECRET: Final = "very-secret-key"


def test_the_file_has_every_option_of_the_relay() -> None:
    elsewhere = {"listen", "tls", "hooks", "limits", "key_store", "blob_store"}
    wanted = {f"relay.{item.name}" for item in fields(RelayConfig)} - {f"relay.{name}" for name in elsewhere}
    assert wanted <= SCHEMA.keys()
    blobs = {f"relay.blobs.{item.name}" for item in fields(BlobConfig)} - {"relay.blobs.store"}
    assert blobs <= SCHEMA.keys()
    broker = {f"peerjs.{item.name}" for item in fields(BrokerConfig)}
    elsewhere = {"listen", "tls", "hooks", "limits", "generate_client_id", "relayed"}
    assert {name for name in SCHEMA if name.rpartition(".")[0] == "peerjs"} - {"peerjs.enabled"} == broker - {
        f"peerjs.{name}" for name in elsewhere
    }
    relayed = {f"peerjs.relayed.{item.name}" for item in fields(RelayedConfig)}
    assert {name for name in SCHEMA if name.startswith("peerjs.relayed.")} - {"peerjs.relayed.enabled"} == relayed
    hub = {f"hub.{item.name}" for item in fields(HubConfig)}
    assert {name for name in SCHEMA if name.rpartition(".")[0] == "hub"} - {"hub.enabled"} == hub - {
        f"hub.{name}" for name in ("listen", "tls", "limits", "access_keys", "jwt")
    }
    assert {f"limits.{item.name}" for item in fields(Limits)} <= SCHEMA.keys()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[relya]", "there is no table 'relya'; is it relay?"),
        ("listen = 1", "there is no option 'listen'; is it server.listen?"),
        ("[relay]\nmax_watch = 1", "there is no option 'relay.max_watch'; is it relay.max_watches?"),
        ("[limits]\nconections = 1", "there is no option 'limits.conections'; is it limits.connections?"),
        ("[relay.keys]\nzzz = 1", "there is no option 'relay.keys.zzz'"),
        ("[relay.key]\nfile = 'x'", "there is no table 'relay.key'; is it relay.keys?"),
        ("server = 1", "server: expected a table, not a whole number"),
        ("server = false", "server: expected a table, not false"),
        ("peerjs = 1", "peerjs: expected a table, true or false, not a whole number"),
        (
            "[peerjs]\nallow_discover = true",
            "there is no option 'peerjs.allow_discover'; is it peerjs.allow_discovery?",
        ),
        ("[peerjs]\nrelayed = 'no'", "peerjs.relayed: expected a table, true or false, not a string"),
        ("[relay]\nmax_watches = '7'", "relay.max_watches: expected a whole number, not a string"),
        ("[relay]\nmax_watches = 7.5", "relay.max_watches: expected a whole number, not a fraction"),
        ("[relay]\nmax_watches = true", "relay.max_watches: expected a whole number, not true"),
        ("[relay]\nrate_limit_window = inf", "relay.rate_limit_window: expected a number, not infinity"),
        ("[relay]\nrate_limit_window = 1979-05-27", "relay.rate_limit_window: expected a number, not a date or time"),
        ("[relay]\nkey_check_interval = true", "relay.key_check_interval: expected a number or false, not true"),
        ("[relay]\ncors = 1", "relay.cors: expected true, false or a string, not a whole number"),
        ("[relay]\norigins = 'x'", "relay.origins: expected a list of strings, not a string"),
        ("[relay]\norigins = [1]", "relay.origins: expected a list of strings, not a list"),
        ("[relay]\nchannels = 'pwa'", "relay.channels: expected a list of names or tables, not a string"),
        ("[relay]\nchannels = [1]", "relay.channels: expected a list of names or tables, not a list"),
        ("[[relay.channels]]\nnam = 'a'", "there is no option 'nam' of relay.channels; is it name?"),
        ("[[relay.channels]]\nname = 1", "relay.channels.name: expected a string, not a whole number"),
        ("[[relay.channels]]\non_duplicate = 'reject'", "relay.channels: expected a name in each table"),
        ("[server]\nlisten = 8080", "server.listen: expected a string or a list of strings, not a whole number"),
        (f"[relay]\nadmin_key = ['{SECRET}']", "relay.admin_key: expected a string, not a list"),
        ("[relay\n", "Expected ']' at the end of a table declaration (at line 1, column 7)"),
    ],
)
def test_a_file_that_is_wrong(text: str, fault: str, tmp_path: Path) -> None:
    file = tmp_path / "relay.toml"
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        load_file(str(file))
    assert str(caught.value) == f"{file}: {fault}"


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"\xff", "expected UTF-8, not byte 0"),
        (b"#" * 1_048_577, "at most 1048576 bytes"),
        (b"a=" + b"[" * 99_999, "recursion"),
    ],
)
def test_a_file_that_is_no_text(content: bytes, fault: str, tmp_path: Path) -> None:
    file = tmp_path / "relay.toml"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=fault):
        load_file(str(file))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"can't read configuration .*: No such file"):
        load_file(str(tmp_path / "relay.toml"))


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    values = parse_config("[relay.keys]\nfile = 'keys.txt'\n[server]\ntls_cert = '/etc/chain.pem'", str(tmp_path))
    assert values == {"relay.keys.file": str(tmp_path / "keys.txt"), "server.tls_cert": "/etc/chain.pem"}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("overlay = false", {"overlay.enabled": False}),
        ("[relay]\nblobs = false", {"relay.blobs.enabled": False}),
        ("peerjs = true", {"peerjs.enabled": True}),
        ("[peerjs]", {"peerjs.enabled": True}),
        ("[peerjs]\nrelayed = false", {"peerjs.relayed.enabled": False}),
        ("[peerjs]\nkey = 'b'", {"peerjs.key": "b"}),
    ],
)
def test_parts_are_switched_on_and_off(text: str, values: dict[str, object]) -> None:
    assert parse_config(text, "/") == values


TOML: Final = st.recursive(
    st.one_of(
        st.text(string.printable, max_size=8).map(repr), st.integers().map(str), st.sampled_from(["true", "inf"])
    ),
    lambda inner: st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
    max_leaves=4,
)


@given(name=st.sampled_from(sorted(SCHEMA)), value=TOML)
def test_any_value_of_an_option_is_taken_or_its_name_is_told(name: str, value: str) -> None:
    try:
        found = parse_config(f"{name} = {value}", "/")
    except ValueError as error:
        message = str(error)
        assert name in message or "(at " in message or message.startswith("relay.channels")
    else:
        assert list(found) == [name]
        assert SCHEMA[name].accepts(found[name])


@given(st.text(max_size=200))
def test_any_text_is_a_configuration_or_a_value_error(text: str) -> None:
    try:
        assert parse_config(text, "/").keys() <= SCHEMA.keys()
    except ValueError as error:
        assert str(error)
