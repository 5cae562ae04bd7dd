"""The configuration of ``serve``: options in place of those in the file, and what becomes of both."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from trio_relay.cli.arguments import make_parser
from trio_relay.cli.options import UsageError
from trio_relay.cli.serve_options import Configuration, Settings, merge, overrides
from trio_relay.cli.toml_config import SCHEMA
from trio_relay.identity import Identity
from trio_relay.limits import Limits
from trio_relay.peerjs.broker.config import BrokerConfig, RelayedConfig
from trio_relay.wsrelay import BlobConfig, Channel, EnvKeyStore, FileKeyStore, RelayConfig

EXAMPLE: Final = Path(__file__).parents[2] / "docs" / "examples" / "relay.toml"
OPEN: Final = '[relay]\nchannels = ["pwa"]\n[relay.keys]\nopen = true\n'
SECRET: Final = "very-secret-key"


def configuration(*arguments: str) -> Configuration:
    return Configuration(make_parser().parse_args(["serve", *arguments]))


def load(folder: Path, text: str, *arguments: str) -> Settings:
    """A configuration file, with options in place of some of it."""
    file = folder / "relay.toml"
    file.write_text(text)
    return configuration("--config", str(file), *arguments).load()


def relay_of(settings: Settings) -> RelayConfig:
    assert settings.config.relay is not None
    return settings.config.relay


# Options in place of the file's


def given_by(*arguments: str) -> dict[str, Any]:
    return overrides(make_parser().parse_args(["serve", *arguments]))


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        ([], {}),
        (["--listen", "127.0.0.1:1", "--listen", "[::1]:2"], {"server.listen": ["127.0.0.1:1", "[::1]:2"]}),
        (["--channel", "a", "--open"], {"relay.channels": ["a"], "relay.keys.open": True}),
        (["--key-env", "KEYS"], {"relay.keys.env": "KEYS"}),
        (["--no-overlay"], {"overlay.enabled": False}),
        (["--legacy", "--bootstrap", "ws://a:1"], {"overlay.bootstrap": ["ws://a:1"], "overlay.legacy": True}),
        (["--limit", "hops=3", "--limit", "ping_after=1.5"], {"limits.hops": 3, "limits.ping_after": 1.5}),
        (["--rate-limit-messages", "7"], {"relay.rate_limit_max_messages": 7}),
        (["--log-json", "--verbose"], {"log.json": True, "log.level": "debug"}),
        (["--peerjs"], {"peerjs.enabled": True}),
        (
            ["--peerjs-path", "/a", "--peerjs-key", "b", "--peerjs-discovery"],
            {"peerjs.path": "/a", "peerjs.key": "b", "peerjs.allow_discovery": True},
        ),
    ],
)
def test_options_have_the_names_of_the_file(arguments: list[str], values: dict[str, Any]) -> None:
    assert given_by(*arguments) == values
    assert values.keys() <= SCHEMA.keys()


def test_every_option_of_the_command_line_is_one_of_the_file() -> None:
    everything = given_by(
        *("--listen=127.0.0.1:1", "--channel=a", "--key-file=a", "--blob-file=b", "--admin-key-env=A", "--ui"),
        *(
            "--rate-limit-connections=1",
            "--rate-limit-messages=1",
            "--log-json",
            "--advertise=ws://a:1",
            "--tls-cert=c",
        ),
        *("--tls-key=d", "--limit=hops=3", "--bootstrap=ws://a:1", "--identity=i", "--passphrase-file=p", "--ca=c"),
        *("--legacy", "--verbose", "--peerjs", "--peerjs-path=/a", "--peerjs-key=b", "--peerjs-discovery"),
        *("--hub", "--hub-origin=https://a", "--hub-key-file=k", "--hub-jwt-key-file=j", "--hub-jwt-algorithm=ES256"),
    )
    assert len(everything) == 28
    assert everything.keys() <= SCHEMA.keys()


@pytest.mark.parametrize(
    ("file", "given", "merged"),
    [
        ({"relay.keys.file": "f"}, {"relay.keys.open": True}, {"relay.keys.open": True}),
        ({"relay.admin_key": "a"}, {"relay.admin_key_env": "A"}, {"relay.admin_key_env": "A"}),
        ({"relay.ui": True}, {"relay.max_watches": 1}, {"relay.ui": True, "relay.max_watches": 1}),
        ({"overlay.enabled": False}, {"overlay.legacy": True}, {"overlay.legacy": True}),
        ({"relay.blobs.enabled": False}, {"relay.blobs.file": "f"}, {"relay.blobs.file": "f"}),
        ({"overlay.enabled": True}, {"overlay.enabled": False}, {"overlay.enabled": False}),
        ({"peerjs.enabled": False}, {"peerjs.key": "b"}, {"peerjs.key": "b"}),
        ({"hub.enabled": False}, {"hub.origins": ["b"]}, {"hub.origins": ["b"]}),
        ({"hub.keys.env": "E"}, {"hub.keys.file": "f"}, {"hub.keys.file": "f"}),
        ({"hub.jwt.key": "k"}, {"hub.jwt.key_file": "f"}, {"hub.jwt.key_file": "f"}),
    ],
)
def test_options_take_the_place_of_the_files(
    file: dict[str, Any], given: dict[str, Any], merged: dict[str, Any]
) -> None:
    assert merge(file, given) == merged


@pytest.mark.parametrize("other", ["--legacy", "--bootstrap=ws://a:1", "--passphrase-file=x"])
def test_options_of_an_overlay_that_is_not_wanted(other: str) -> None:
    with pytest.raises(UsageError, match=f"not beside {re.escape(other.partition('=')[0])}$"):
        given_by("--no-overlay", other)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--open", "--key-env", "A"],
        ["--rate-limit-messages", "0"],
        ["--rate-limit-messages", "²"],
        ["--listen", "none"],
        ["--peerjs-path", "myapp"],
        ["--peerjs-key", "a key"],
        ["--hub-origin", "example.org"],
        ["--hub-key-env", "A", "--hub-key-file", "b"],
    ],
)
def test_arguments_that_are_refused(arguments: list[str]) -> None:
    with pytest.raises(UsageError, match="see trio-relay serve --help"):
        make_parser().parse_args(["serve", *arguments])


# What becomes of them


def test_the_example(tmp_path: Path) -> None:
    (tmp_path / "keys.txt").write_text("some-key-1\n")
    settings = load(tmp_path, EXAMPLE.read_text())
    relay = relay_of(settings)
    assert settings.config.listen_addresses == ["127.0.0.1:8080"]
    assert settings.config.limits.connections == 8192
    assert relay.rate_limit_max_messages == 600
    assert relay.channel_list == [
        Channel(name="pwa"),
        Channel(name="device", on_duplicate="reject", watchable_by=["pwa"]),
    ]
    assert isinstance(relay.key_store, FileKeyStore)
    assert relay.blob_store == BlobConfig(file=str(tmp_path / "blobs.sqlite"))


def test_the_example_has_every_option_with_its_default(tmp_path: Path) -> None:
    """Its comments become options, one by one where one would exclude another."""
    text = re.sub(r"^#(\w+ = )", r"\1", EXAMPLE.read_text(), flags=re.MULTILINE)
    named: set[str] = set()
    table = ""
    for line in text.splitlines():
        if found := re.match(r"\[+([\w.]+)\]+$", line):
            table = found[1]
        elif found := re.match(r"(\w+) = ", line):
            named.add(f"{table}.{found[1]}")
    channel = {"relay.channels.name", "relay.channels.on_duplicate", "relay.channels.watchable_by"}
    secrets = {"relay.blobs.access_key_env", "relay.blobs.access_key_file"}
    assert named - channel | secrets == {name for name in SCHEMA if not name.startswith("limits.")} | {
        "limits.connections",
        "limits.unproven_connections",
    }
    (tmp_path / "keys.txt").write_text("some-key-1\n")
    without = (
        "channels",
        "max_bytes",
        "burst",
        "max_messages_per_second",
        "bytes_per_second",
        "admin_key",
        "open =",
        "env =",
        "access_key",
        "origins",
        "cors_origins",
        "trusted",
        "max_share",
    )
    files = ("tls_", "identity", "passphrase", "ca =", "bootstrap", "advertise")
    lines = []
    for line in EXAMPLE.read_text().splitlines():
        option = line.removeprefix("#")
        is_option = re.match(r"#\w+ = ", line) is not None and not option.startswith((*without, *files))
        lines.append(option if is_option or option.startswith("max_bytes = ") else line)
    assert sum(a != b for a, b in zip(lines, EXAMPLE.read_text().splitlines(), strict=True)) > 25
    relay, text = relay_of(load(tmp_path, EXAMPLE.read_text())), "\n".join(lines)
    assert replace(relay_of(load(tmp_path, text)), key_store=relay.key_store) == relay
    with_broker = load(tmp_path, text.replace("[peerjs]\nenabled = false", "[peerjs]\nenabled = true"))
    assert with_broker.config.peerjs == BrokerConfig(listen=None)


def test_values_become_options_of_the_relay(tmp_path: Path) -> None:
    relay = relay_of(
        load(
            tmp_path,
            '[relay]\nchannels = ["a", {name = "b"}]\nkey_check_interval = false\ncors = "https://a"\nmax_watches = 7\n'
            "[relay.keys]\nopen = true\n[relay.blobs]\ntime_to_live = false\nmax_blobs = 3\n",
        )
    )
    assert relay.channel_list == [Channel(name="a"), Channel(name="b")]
    assert (relay.key_check_interval, relay.cors, relay.max_watches, relay.key_store) == (None, "https://a", 7, False)
    assert relay.blob_store == BlobConfig(time_to_live=None, max_blobs=3)
    assert relay.listen is None


@pytest.mark.parametrize("source", ["inline", "env", "file"])
def test_secrets_come_from_three_places(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", f" {SECRET} ")
    (tmp_path / "secret").write_text(f"{SECRET}\nmore\n")
    suffix, value = {"inline": ("", SECRET), "env": ("_env", "SECRET"), "file": ("_file", "secret")}[source]
    text = f"[relay]\nchannels = ['a']\nadmin_key{suffix} = '{value}'\n[relay.keys]\nopen = true\n"
    settings = load(tmp_path, f"{text}[relay.blobs]\naccess_key{suffix} = '{value}'\n")
    relay = relay_of(settings)
    assert isinstance(relay.blob_store, BlobConfig)
    assert (relay.admin_key, relay.blob_store.access_key) == (SECRET, SECRET)
    assert SECRET not in repr(settings)


def test_keys_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYS", "some-key-1,some-key-2")
    settings = configuration("--channel", "a", "--key-env", "KEYS").load()
    assert isinstance(relay_of(settings).key_store, EnvKeyStore)
    assert settings.config.listen_addresses == ["0.0.0.0:8080"]


@pytest.mark.parametrize(
    ("text", "arguments", "fault"),
    [
        ("", [], "expected at least one channel: --channel NAME"),
        ("", ["--channel", "a"], "--key-file FILE or --key-env VARIABLE .* or --open for everybody"),
        (OPEN, ["--no-overlay", "--ui"], "ui needs an admin_key"),
        (OPEN + "file = 'x'", [], "relay.keys: expected one of file and open, not both"),
        (OPEN, ["--key-file", "/nowhere/keys"], "can't read key file /nowhere/keys: No such file"),
        (OPEN, ["--key-env", "NO_SUCH_VARIABLE"], "environment variable NO_SUCH_VARIABLE is not set"),
        (OPEN, ["--admin-key-env", "NO_SUCH_VARIABLE"], "environment variable NO_SUCH_VARIABLE is not set"),
        (OPEN, ["--tls-cert", "x"], "expected --tls-cert and --tls-key together"),
        (OPEN, ["--tls-cert", "/x", "--tls-key", "/y"], "can't read certificate /x with key /y"),
        (OPEN, ["--passphrase-file", "x"], "expected --identity beside --passphrase-file"),
        (OPEN, ["--identity", "/nowhere/key"], "can't read identity /nowhere/key"),
        (OPEN, ["--channel", "stats"], "two owners of one path: channel 'stats' and the page /stats"),
        (
            OPEN,
            ["--channel", "peerjs", "--peerjs"],
            "two owners of one path: /peerjs of the PeerJS broker and channel 'peerjs'",
        ),
        (OPEN, ["--peerjs-path", "/blob"], "/blob of the PeerJS broker and the page /blob"),
        ("peerjs = true", ["--peerjs-key", "metrics"], "/metrics of the PeerJS broker and the page /metrics"),
        ("[peerjs]\npath = 'x'", [], "peerjs.path: expected a path like / or /myapp, not 'x'"),
        ("[peerjs]\nexpire_timeout = 0", [], "peerjs.expire_timeout: expected a positive expire_timeout, not 0"),
        ("[peerjs]\ntrusted_proxies = ['x']", [], "peerjs.trusted_proxies: expected a network"),
        ("[peerjs.relayed]\nidle = -1", [], "peerjs.relayed.idle: expected a positive idle, not -1"),
        ("[overlay]\nenabled = false\n[peerjs]\nenabled = false", [], "expected at least one channel"),
        (OPEN + "[log]\nlevel = 'loud'", [], "log.level: expected debug, info, warning, error, not 'loud'"),
        (OPEN + "[limits]\nhops = 0", [], "limits.hops must be positive, not 0"),
        (OPEN + "[overlay]\nbootstrap = 'http://x'", [], "overlay.bootstrap: "),
        (
            OPEN + "[overlay]\nadvertise = 'ws://0.0.0.0:1'",
            [],
            "overlay.advertise: expected the address of one machine",
        ),
        (OPEN + "[server]\nlisten = 'x'", [], "x"),
        (OPEN + "[relay.blobs]\nmax_blobs = 0", [], "expected a positive relay.blobs.max_blobs, not 0"),
        (OPEN + "[relay.blobs]\naccess_key = 'a$very$secret$key'", [], "relay.blobs.access_key of 8 to 64 characters"),
        ('[relay]\nchannels = ["a"]\nadmin_key = "a$very$secret$key"\nkeys.open = true', [], "admin_key of 8 to 64"),
        ('[relay]\nchannels = ["a"]\nadmin_key = "x"\nadmin_key_env = "y"\nkeys.open = true', [], "not both"),
        (
            '[relay]\nchannels = ["a"]\nadmin_key_file = "/nowhere/x"\nkeys.open = true',
            [],
            "can't read relay.admin_key_file",
        ),
        (
            '[relay]\nchannels = ["a"]\nrate_limit_window = -1\nkeys.open = true',
            [],
            "positive rate_limit_window, not -1",
        ),
        (
            "[overlay]\nenabled = false\n[relay]\nenabled = false",
            [],
            "expected an overlay node, a relay server, a PeerJS broker or a hub",
        ),
    ],
)
def test_what_makes_no_sense(text: str, arguments: list[str], fault: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=fault) as caught:
        load(tmp_path, text, *arguments)
    assert "secret" not in str(caught.value)


def test_the_relay_and_the_overlay_can_be_left_out(tmp_path: Path) -> None:
    assert load(tmp_path, OPEN + "[overlay]\nenabled = false").config.overlay is None
    settings = load(tmp_path, "[relay]\nenabled = false\n[overlay]\nlegacy = true\nbootstrap = 'ws://a:1'")
    assert settings.config.relay is None
    assert settings.config.overlay is not None
    assert (settings.config.overlay.legacy, settings.config.overlay.bootstrap) == (True, ["ws://a:1"])


@pytest.mark.parametrize(
    ("text", "arguments", "wanted"),
    [
        ("", ["--peerjs"], BrokerConfig(listen=None)),
        ("peerjs = true", [], BrokerConfig(listen=None)),
        ("[peerjs]", [], BrokerConfig(listen=None)),
        ("[peerjs]\nkey = 'b'", ["--peerjs-path", "/a/"], BrokerConfig(listen=None, key="b", path="/a/")),
        ("[peerjs]\nenabled = false\nkey = 'b'", ["--peerjs"], BrokerConfig(listen=None, key="b")),
        ("peerjs = {relayed = false}", [], BrokerConfig(listen=None, relayed=None)),
        ("[peerjs.relayed]\nidle = 7", [], BrokerConfig(listen=None, relayed=RelayedConfig(idle=7))),
    ],
)
def test_a_broker_is_enough(text: str, arguments: list[str], wanted: BrokerConfig, tmp_path: Path) -> None:
    config = load(tmp_path, text, *arguments).config
    assert (config.peerjs, config.relay) == (wanted, None)
    assert config.overlay is not None


def test_there_are_sockets_for_all_clients_of_a_broker(tmp_path: Path) -> None:
    usual = Limits().connections
    assert load(tmp_path, OPEN).config.limits == Limits()
    assert load(tmp_path, "peerjs = true").config.limits == Limits(connections=usual + 5000 + 2 * 256)
    fewer = "[peerjs]\nconcurrent_limit = 7\nrelayed.meetings = 2"
    assert load(tmp_path, fewer).config.limits.connections == usual + 7 + 4
    assert load(tmp_path, "peerjs = {concurrent_limit = 7, relayed = false}").config.limits.connections == usual + 7
    assert load(tmp_path, "peerjs = true", "--limit", "connections=9").config.limits.connections == 9


def test_a_broker_is_there_if_it_is_asked_for(tmp_path: Path) -> None:
    assert load(tmp_path, OPEN).config.peerjs is None
    assert load(tmp_path, OPEN + "[peerjs]\nenabled = false\nkey = 'b'").config.peerjs is None
    both = load(tmp_path, OPEN, "--peerjs", "--no-overlay").config
    assert (both.overlay, both.peerjs) == (None, BrokerConfig(listen=None))
    assert relay_of(load(tmp_path, OPEN, "--peerjs")).channels == ["pwa"]


def test_a_second_load_makes_no_second_store(tmp_path: Path) -> None:
    (tmp_path / "keys.txt").write_text("some-key-1\n")
    Identity.generate().save(tmp_path / "relay.pem")
    text = '[relay]\nchannels = ["a"]\nkeys.file = "keys.txt"\n[overlay]\nidentity = "relay.pem"\n'
    file = tmp_path / "relay.toml"
    file.write_text(text)
    loader = configuration("--config", str(file))
    first = loader.load()
    file.write_text(text.replace('["a"]', '["b"]'))
    second = loader.load()
    assert relay_of(second).key_store is relay_of(first).key_store
    assert second.config.overlay == first.config.overlay
    assert relay_of(second).channels == ["b"]
    # Not read, for that could mean to ask for a passphrase; it could not come into force either.
    file.write_text(text.replace("relay.pem", "nowhere.pem"))
    assert loader.load().config.overlay != first.config.overlay
