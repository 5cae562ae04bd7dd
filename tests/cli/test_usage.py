"""What can't start says so in one line and exits with 2; in this process, which spares the start of another."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from trio_relay.cli import main
from trio_relay.identity import Identity
from trio_relay.transports import webrtc_implementation

from .support import NOBODY

Capture = pytest.CaptureFixture[str]

SEND = ("send", NOBODY, "hello")
SOMEWHERE = ("--bootstrap", "ws://127.0.0.1:1")


def refusal(arguments: Sequence[str], capture: Capture) -> str:
    """What the only line on standard error says."""
    assert main(arguments) == 2
    shown = capture.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("trio-relay: ")
    assert shown.err.count("\n") == 1
    return shown.err.removeprefix("trio-relay: ").removesuffix("\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND; see trio-relay --help"),
        (["listen"], "argument COMMAND: invalid choice: 'listen'"),
        (["node", "--nothing"], "unrecognized arguments: --nothing"),
        (["node", "--boot", "ws://a"], "unrecognized arguments: --boot ws://a"),
        (["node", "two\nlines"], "unrecognized arguments: two lines"),
        (["node", "--listen", "9001"], "argument --listen: expected an address to listen on like 127.0.0.1:8000"),
        (["node", "--listen", "127.0.0.1:70000"], "argument --listen: expected an address"),
        (["node", "--listen", "none", "--listen", "127.0.0.1:0"], "expected --listen none alone"),
        (["node", "--listen", "nowhere.invalid:0"], "can't listen on nowhere.invalid:0: "),
        (["node", "--bootstrap", "http://a"], "argument --bootstrap: expected a URL like ws://host:port"),
        (["node", "--bootstrap", "ws://a\nb"], "argument --bootstrap: expected a URL of visible ASCII characters"),
        (["node", "--advertise", "ws://"], "argument --advertise: expected host:port after ws://, not ''"),
        (["node", "--advertise", "ws://0.0.0.0:1"], "argument --advertise: expected the address of one machine"),
        (["node", *["--advertise", "ws://a"] * 5], "expected at most 4 URLs to advertise, not 5"),
        (["node", "--tls-cert", "file"], "expected --tls-cert and --tls-key together"),
        (["node", "--tls-key", "file"], "expected --tls-cert and --tls-key together"),
        (["node", "--limit", "leaves"], "argument --limit: expected NAME=VALUE, not 'leaves'"),
        (["node", "--limit", "leafs=9"], "argument --limit: there is no limit 'leafs'; is it 'leaves'?"),
        (["node", "--limit", "leaves=1.5"], "argument --limit: expected a whole number above 0 for leaves, not '1.5'"),
        (["node", "--limit", "hops=0"], "argument --limit: expected a whole number above 0 for hops, not '0'"),
        (["node", "--limit", "ping_after=inf"], "argument --limit: expected a number above 0 for ping_after"),
        (["send", "0123", "hello", *SOMEWHERE], "argument ID: expected a node id of 40 hexadecimal digits, not '0123'"),
        ([*SEND], "the following arguments are required: --bootstrap; see trio-relay send --help"),
        ([*SEND, *SOMEWHERE, "--timeout", "nan"], "argument --timeout: expected a positive number of seconds"),
        ([*SEND, *SOMEWHERE, "--timeout", "soon"], "argument --timeout: expected a positive number of seconds"),
        (["send", NOBODY, "{", "--json", *SOMEWHERE], "DATA is not JSON: "),
        (["send", NOBODY, "1e400", "--json", *SOMEWHERE], "DATA is not JSON: expected a finite number"),
        (["send", NOBODY, "\udcff", *SOMEWHERE], "expected DATA in UTF-8"),
        (["room", "r"], "one of the arguments --driver --bootstrap is required"),
        (["room", "r", "--driver", "ws://a"], "argument --driver: expected a URL that begins with one of nats://"),
        (["room", "r", "--driver", "nats://a", "--send", "/nowhere"], "can't send /nowhere: it is no file"),
        (["room", "r", "--driver", "nats://a", "--wait-members", "0"], "argument --wait-members: expected a whole"),
        (["room", "r", "--driver", "nats://u:p@a", "--jsonl"], "expected a URL without user and password"),
        (["keygen"], "the following arguments are required: FILE"),
        (["keygen", "/nowhere/key.pem"], "can't write /nowhere/key.pem: No such file or directory"),
    ],
)
def test_wrong_arguments(arguments: list[str], message: str, capfd: Capture) -> None:
    assert refusal(arguments, capfd).startswith(message)


def write_garbage(path: Path) -> None:
    path.write_bytes(b"\x00garbage\xff")
    path.chmod(0o600)


def write_rsa(path: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)


def write_open(path: Path) -> None:
    Identity.generate().save(path)
    path.chmod(0o644)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "can't read identity {}: No such file or directory"),
        (Path.mkdir, "can't read identity {}: Is a directory"),
        (write_garbage, "{}: expected an Ed25519 private key in PEM form"),
        (write_rsa, "{}: expected an Ed25519 private key, not RSAPrivateKey"),
        (write_open, "{}: others may read this private key; make it mode 0600"),
    ],
    ids=["missing", "directory", "garbage", "rsa", "readable by others"],
)
@pytest.mark.parametrize("command", [["node"], [*SEND, *SOMEWHERE]], ids=["node", "send"])
def test_unusable_key_file(
    command: list[str], write: Callable[[Path], None], message: str, tmp_path: Path, capfd: Capture
) -> None:
    path = tmp_path / "key.pem"
    write(path)
    assert refusal([*command, "--identity", str(path)], capfd) == message.format(path)


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """A folder with two certificates, ``a`` and ``b``, and other files."""
    authority = trustme.CA()
    for name in ("a", "b"):
        certificate = authority.issue_cert("localhost")
        certificate.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.crt")
        certificate.private_key_pem.write_to_path(tmp_path / f"{name}.key")
    key = load_pem_private_key((tmp_path / "a.key").read_bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    (tmp_path / "locked.key").write_bytes(locked)
    (tmp_path / "garbage").write_bytes(b"garbage")
    return tmp_path


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["--tls-cert", "a.crt", "--tls-key", "missing"], "can't read certificate a.crt with key missing: No such"),
        (["--tls-cert", "a.crt", "--tls-key", "b.key"], "can't load certificate a.crt with key b.key: key values mis"),
        (["--tls-cert", "garbage", "--tls-key", "a.key"], "can't load certificate garbage with key a.key: not in PEM"),
        (["--tls-cert", "a.crt", "--tls-key", "locked.key"], "can't load certificate a.crt with key locked.key: "),
        (["--ca", "missing"], "can't read certificate authorities missing: No such file or directory"),
        (["--ca", "garbage"], "can't load certificate authorities garbage: "),
    ],
)
def test_unusable_certificate(
    files: list[str], message: str, certificates: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    monkeypatch.chdir(certificates)
    assert refusal(["node", *files], capfd).startswith(message)


@pytest.mark.parametrize("command", ["node", "send", "room", "demo", "keygen"])
def test_help_of_command(command: str, capfd: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    shown = capfd.readouterr().out
    assert shown.startswith(f"usage: trio-relay {command}")
    assert max(map(len, shown.splitlines())) <= 120


def test_help_names_every_command(capfd: Capture) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capfd.readouterr().out
    assert [name for name in ("node", "send", "room", "demo", "keygen") if f"    {name} " not in shown] == []


@pytest.mark.parametrize(
    "command",
    [
        ("node", "--webrtc"),
        ("node", "--stun", "stun:192.0.2.1"),
        ("serve", "--open", "--channel", "x", "--listen", "127.0.0.1:0", "--webrtc"),
    ],
)
def test_webrtc_without_its_extra(command: Sequence[str], capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> NoReturn:
        raise ImportError("WebRTC needs aiortc, which is not installed: pip install 'trio-relay[webrtc]'")

    logger = logging.getLogger("trio_relay")
    for name in ("handlers", "level", "propagate"):  # as they were, whatever the command makes of them
        monkeypatch.setattr(logger, name, getattr(logger, name))
    monkeypatch.setattr(webrtc_implementation, "load", load)
    assert refusal(command, capfd) == "WebRTC needs aiortc, which is not installed: pip install 'trio-relay[webrtc]'"


@pytest.mark.parametrize("command", ["node", "serve"])
def test_servers_for_webrtc_that_are_none(command: str, capsys: Capture) -> None:
    said = refusal([command, "--stun", "stun.example.org:3478"], capsys)
    assert said.startswith("argument --stun: expected stun:HOST")
    said = refusal([command, "--turn", "turn:user:hidden@"], capsys)
    assert said.startswith("argument --turn: expected turn:USER@HOST")
    assert "hidden" not in said
