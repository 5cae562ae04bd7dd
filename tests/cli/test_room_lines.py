"""What strangers write, made fit for terminals and disks; commands of people and programs; URLs of brokers."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from trio_relay.cli.arguments import make_parser
from trio_relay.cli.commands import BadInput
from trio_relay.cli.options import UsageError
from trio_relay.cli.room_arguments import SECRET, family_of
from trio_relay.cli.room_commands import RoomCommand, parse_json_line, parse_line
from trio_relay.cli.room_driver import Broker, open_driver, read_secret
from trio_relay.cli.room_text import clean, file_info, nick_of, readable_size, safe_name, said


@pytest.mark.parametrize(
    ("said_name", "safe"),
    [
        ("film.mp4", "film.mp4"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Windows\\x.exe", "x.exe"),
        ("..", "unnamed"),
        ("", "unnamed"),
        (".bashrc", "bashrc"),
        ("a\x00b\nc\u202egpj.exe", "a_b_c_gpj.exe"),
        ('<>:"|?*', "_______"),
        ("con.txt", "_con.txt"),
        ("NUL", "_NUL"),
        ("end. .", "end"),
        ("é" * 200 + ".tar", "é" * 88 + ".tar"),
        ("x." + "y" * 300, "unnamed"),
        ("\ud800", "_"),
        ("日本語.txt", "日本語.txt"),
    ],
)
def test_names_of_files(said_name: str, safe: str) -> None:
    if said_name.startswith("x."):
        assert len(safe_name(said_name).encode()) <= 180
    else:
        assert safe_name(said_name) == safe
    assert "/" not in safe_name(said_name)


def test_texts_for_a_terminal() -> None:
    assert clean("a\x1b[2J\tb\x07\u2028\u202e👩\u200d🚀é") == "a\\x1b[2J b\\x07\\u2028\\u202e👩\u200d🚀é"
    assert said("bob", "one\r\ntwo\n") == "bob: one\n   | two"
    assert said("bob", "x\n" * 50).endswith("\n   | (10 more lines)")
    assert [readable_size(n) for n in (0, 999, 1000, 999_949, 999_950, 5_000_000, 3 * 10**12, 10**16)] == [
        "0 bytes",
        "999 bytes",
        "1.0 kB",
        "999.9 kB",
        "1.0 MB",
        "5.0 MB",
        "3.0 TB",
        "10000.0 TB",
    ]


@pytest.mark.parametrize(
    ("metadata", "nick"),
    [
        ({"name": "alice"}, "alice"),
        ("bob", "bob"),
        ({"name": " a \n b "}, "a \\n b"),
        ({"name": "x" * 99}, "x" * 32),
        ({"name": 7}, ""),
        (None, ""),
        ([], ""),
    ],
)
def test_names_of_members(metadata: Any, nick: str) -> None:
    assert nick_of(metadata) == nick


@pytest.mark.parametrize(
    ("info", "found"),
    [
        ({"name": "a", "size": 7, "type": "x"}, ("a", 7)),
        ({"filename": "b"}, ("b", None)),
        ({"name": 1, "fileName": "c", "size": -1}, ("c", None)),
        ({"size": True}, ("", None)),
        ({"size": 1e300}, ("", None)),
        ({"size": 10**30}, ("", None)),
        ("text", ("", None)),
        (None, ("", None)),
    ],
)
def test_what_is_told_of_files(info: Any, found: tuple[str, int | None]) -> None:
    assert file_info(info) == found


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("hello", RoomCommand("send", "hello")),
        ("  ", None),
        ("//x", RoomCommand("send", "/x")),
        ("/to bob hi there", RoomCommand("send", "hi there", to=("bob",))),
        ('/to "bob b" hi', RoomCommand("send", "hi", to=("bob b",))),
        ("/send a.txt", RoomCommand("file", path="a.txt")),
        ('/send "a b.txt" to bob', RoomCommand("file", path="a b.txt", to=("bob",))),
        ("/send C:\\a.txt to 'bob b'", RoomCommand("file", path="C:\\a.txt", to=("bob b",))),
        ("/accept", RoomCommand("accept")),
        (" /accept", RoomCommand("send", " /accept")),
        ("/reject 12", RoomCommand("reject", number=12)),
        ("/who", RoomCommand("who")),
        ("/help", RoomCommand("help")),
        ("/quit", RoomCommand("quit")),
    ],
)
def test_lines_that_people_type(line: str, command: RoomCommand | None) -> None:
    assert parse_line(line) == command


@pytest.mark.parametrize(
    "line", ["/", "/nothing", "/to bob", "/to 'bob hi", "/send", "/send a b", "/send 'a", "/accept x", "/reject ²"]
)
def test_lines_that_are_no_commands(line: str) -> None:
    with pytest.raises(BadInput):
        parse_line(line)


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (b'{"send": {"text": "x"}, "ref": 1}', RoomCommand("send", "x", ref=1)),
        (b'{"send": {"data": null, "to": ["a", "b"]}}', RoomCommand("send", None, to=("a", "b"))),
        (b'{"send": {"file": "p", "to": "a", "info": 7}}', RoomCommand("file", path="p", to=("a",), info=7)),
        (b'{"accept": 3}', RoomCommand("accept", number=3)),
        (b'{"who": true, "ref": []}', RoomCommand("who", ref=[])),
        (b'{"quit": true}', RoomCommand("quit")),
    ],
)
def test_lines_of_programs(line: bytes, command: RoomCommand) -> None:
    assert parse_json_line(line) == command


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"{}",
        b'{"send": {}}',
        b'{"send": {"text": 1}}',
        b'{"send": {"text": "x", "data": 1}}',
        b'{"send": {"text": "x", "to": []}}',
        b'{"send": {"text": "x", "to": 7}}',
        b'{"accept": true}',
        b'{"accept": "1"}',
        b'{"who": true, "quit": true}',
        b'{"dance": 1}',
    ],
)
def test_lines_of_programs_that_are_no_commands(line: bytes) -> None:
    with pytest.raises(BadInput):
        parse_json_line(line)


async def open_url(url: str, **members: Any) -> str:
    async with open_driver(Broker(url=url, **members)) as driver:
        return repr(driver)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://a", "<NatsDriver nats://a:4222, inactive>"),
        ("tls://a", "<NatsDriver tls://a:4222, inactive>"),
        ("nats+ws://a/x", "<NatsDriver ws://a:80, inactive>"),
        ("nats+wss://a", "<NatsDriver wss://a:443, inactive>"),
        ("mqtt://a", "<MqttDriver mqtt://a:1883, inactive>"),
        ("mqtts://a:1", "<MqttDriver mqtts://a:1, inactive>"),
        ("mqtt+ws://a/mqtt", "<MqttDriver ws://a:80, inactive>"),
        ("mqtt+wss://a/mqtt", "<MqttDriver wss://a:443, inactive>"),
        ("http://a/hub", "<SseDriver http://a:80, inactive>"),
        ("https://a/hub", "<SseDriver https://a:443, inactive>"),
        ("socket.io+http://a", "<SocketIoDriver http://a:80, inactive>"),
        ("socket.io+https://a/x", "<SocketIoDriver https://a:443, inactive>"),
    ],
)
async def test_a_driver_for_every_url(url: str, shown: str) -> None:
    assert await open_url(url) == shown


@pytest.mark.parametrize("url", ["", "a", "ftp://a", "ws://a", "nats://"])
def test_urls_that_no_driver_has(url: str) -> None:
    with pytest.raises(ValueError, match="expected a URL that begins with one of"):
        family_of(url)


@pytest.mark.parametrize(
    ("url", "members", "why"),
    [
        ("nats://a b", {}, "expected a URL"),
        ("nats://u:p@a", {}, "user and password"),
        ("http://a/hub", {"prefix": "x"}, "--prefix has no meaning"),
        ("http://a/hub", {"user": "x"}, "--user has no meaning"),
        ("nats://a", {"secret": "SU" + "A" * 56}, "expected a seed"),
    ],
)
async def test_brokers_that_can_not_be(url: str, members: dict[str, str], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        await open_url(url, **members)


def test_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SECRET, raising=False)
    assert read_secret(None) is None
    monkeypatch.setenv(SECRET, " from the environment\n")
    assert read_secret(None) == "from the environment"
    file = tmp_path / "secret"
    file.write_bytes(b"from a file\nsecond line\n")
    assert read_secret(str(file)) == "from a file"
    assert "from a file" not in repr(Broker(url="nats://a", secret="from a file"))
    file.write_bytes(b"\xff")
    for bad in (file, tmp_path / "missing"):
        with pytest.raises(UsageError):
            read_secret(str(bad))


def test_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trio_relay.cli.room import make_settings

    def settings(*arguments: str) -> Any:
        return make_settings(make_parser().parse_args(["room", "r", "--driver", "nats://a", *arguments]))

    monkeypatch.delenv(SECRET, raising=False)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert settings().wait_members == 1
    assert settings("--receive").wait_members == 0
    assert settings("--jsonl").wait_members == 0
    assert settings("--jsonl", "--wait-members", "3").wait_members == 3
    (tmp_path / "f").touch()
    assert settings("--send", str(tmp_path / "f")).send == (tmp_path / "f",)
    assert settings("--name", "alice").options["metadata"] == {"name": "alice"}
    relayed = settings("--relay-only", "--turn", "turn:u:c@t", "--stun", "stun:s", "--no-encryption").options
    assert relayed["ice_transport_policy"] == "relay"
    assert [server.urls for server in relayed["ice_servers"]] == ["stun:s", "turn:t"]
    assert not relayed["signaling_encryption"]
    for bad in (["--relay-only"], ["--send", "/nowhere"], ["--download-dir", str(tmp_path / "f")]):
        with pytest.raises(UsageError):
            settings(*bad)
