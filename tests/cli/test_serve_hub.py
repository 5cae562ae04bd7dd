"""``serve --hub``: its options, and keys that are read again."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from trio_relay.cli.options import UsageError
from trio_relay.cli.serve_options import option_name
from trio_relay.peerix.hub.config import HubConfig, JwtConfig

from .test_serve_config import EXAMPLE, configuration, load

SECRET: Final = "a secret of the hub, as long as it has to be"
PUBLIC: Final = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"


def hub_of(folder: Path, text: str, *arguments: str) -> HubConfig:
    hub = load(folder, text, *arguments).config.hub
    assert hub is not None
    return hub


def test_the_example_has_the_defaults(tmp_path: Path) -> None:
    text = EXAMPLE.read_text()
    part = text[text.index("[hub]") : text.index("[hub.keys]")].replace("enabled = false", "enabled = true")
    lines = [
        line if line.startswith(("#origins", "#trusted")) else re.sub(r"^#(\w+ = )", r"\1", line)
        for line in part.splitlines()
    ]
    assert sum(line.startswith("#") for line in part.splitlines()) > sum(line.startswith("#") for line in lines) + 20
    hub = hub_of(tmp_path, "\n".join(lines))
    assert replace(hub, prefixes=tuple(hub.prefixes)) == HubConfig(listen=None)


def test_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_KEYS", "key-1, key-2")
    monkeypatch.setenv("HUB_JWT", SECRET)
    (tmp_path / "keys.txt").write_text("# ours\nkey-3\n\n key-4 \n")
    (tmp_path / "jwt.txt").write_text(SECRET + "\n")
    settings = configuration("--hub").load()
    assert settings.config.hub == HubConfig(listen=None)
    assert settings.config.relay is None
    assert settings.config.limits.connections == 4096 + 5000
    text = 'hub = {socketio_path = false, jwt = {key_env = "HUB_JWT"}, keys = {env = "HUB_KEYS"}}'
    hub = hub_of(tmp_path, text, "--hub-origin", "https://a.example", "--hub-origin", "https://b.example")
    assert hub == HubConfig(
        listen=None,
        socketio_path=None,
        access_keys=("key-1", "key-2"),
        jwt=JwtConfig(key=SECRET),
        origins=["https://a.example", "https://b.example"],
    )
    files = ("--hub-key-file", str(tmp_path / "keys.txt"), "--hub-jwt-key-file", str(tmp_path / "jwt.txt"))
    hub = hub_of(tmp_path, text, *files, "--hub-jwt-algorithm", "HS256")
    assert hub.access_keys == ("key-3", "key-4")
    assert hub.jwt == JwtConfig(key=SECRET)
    (tmp_path / "public.pem").write_text(f"{PUBLIC}\n")
    files = ("--hub-jwt-key-file", str(tmp_path / "public.pem"), "--hub-jwt-algorithm", "ES256")
    assert hub_of(tmp_path, "overlay = false", *files).jwt == JwtConfig(key=PUBLIC, algorithm="ES256")
    assert hub_of(tmp_path, 'hub = {jwt = {key_file = "public.pem", algorithm = "EdDSA"}}').jwt == JwtConfig(
        key=PUBLIC, algorithm="EdDSA"
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("hub = {max_topics = 0}", "hub.max_topics: expected a positive max_topics, not 0"),
        ("hub = {mercure_path = false, socketio_path = false}", "expected a mercure_path, a socketio_path or both"),
        ("hub = {mercure_path = true}", "hub.mercure_path: expected a string or false, not true"),
        ('hub = {keys = {file = "nowhere.txt"}}', "can't read hub.keys.file .*nowhere.txt: No such file"),
        ('hub = {keys = {file = "relay.toml", env = "X"}}', "expected one of file and env"),
        ('hub = {keys = {env = "NOT_SET"}}', "environment variable NOT_SET is not set"),
        ('hub = {keys = {file = "empty.txt"}}', "hub.keys.file: expected at least one access key"),
        ('hub = {jwt = {key = "short"}}', "hub.jwt.key: expected a secret of at least 32 bytes"),
        ('hub = {jwt = {algorithm = "HS256"}}', "expected a key beside the algorithm"),
        (f'hub = {{jwt = {{key = "{SECRET}", key_env = "X"}}}}', "expected one of hub.jwt.key and hub.jwt.key_env"),
        (f'hub = {{jwt = {{key = "{SECRET}", algorithm = "none"}}}}', "hub.jwt.algorithm: expected one of HS256"),
        (f'hub = {{jwt = {{key = "{SECRET}", algorithm = "RS256"}}}}', "hub.jwt.key: expected a public key"),
        ("[hub]\nmax_topic = '7'", "hub.max_topic: expected a whole number, not a string"),
        ("[hub]\nsocket_path = '/x'", "there is no option 'hub.socket_path'; is it hub.socketio_path?"),
    ],
)
def test_options_that_make_no_sense(text: str, fault: str, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("# no key\n")
    with pytest.raises(UsageError, match=fault) as error:
        load(tmp_path, text)
    assert SECRET not in str(error.value)


def test_keys_are_read_again(tmp_path: Path) -> None:
    keys = tmp_path / "keys.txt"
    keys.write_text("key-1\n")
    read = configuration("--hub-key-file", str(keys))
    first = read.load().config.hub
    keys.write_text("key-2\n")
    second = read.load().config.hub
    assert first is not None
    assert second is not None
    assert (first.access_keys, second.access_keys) == (("key-1",), ("key-2",))
    keys.write_text("")
    with pytest.raises(UsageError, match="at least one access key"):
        read.load()
    assert option_name("hub.access_keys") == "hub.keys"
