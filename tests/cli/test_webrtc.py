"""``--webrtc``, ``--stun`` and ``--turn``."""

from __future__ import annotations

from pathlib import Path

import pytest

from trio_relay.cli.arguments import make_parser
from trio_relay.cli.options import UsageError
from trio_relay.cli.serve_options import Configuration
from trio_relay.cli.webrtc import CREDENTIAL, make_webrtc, parse_stun, parse_turn
from trio_relay.transports.webrtc import IceServer, WebRTCConfig


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("turn:al:secret@h:1", IceServer(urls="turn:h:1", username="al", credential="secret")),
        ("turns:al:secret@h", IceServer(urls="turns:h", username="al", credential="secret")),
        (
            "turn:a%3Ab:c%40d%3A@h?transport=tcp",
            IceServer(urls="turn:h?transport=tcp", username="a:b", credential="c@d:"),
        ),
        ("turn:al:a@b:c@h", IceServer(urls="turn:h", username="al", credential="a@b:c")),
    ],
)
def test_turn_urls(url: str, server: IceServer) -> None:
    assert parse_turn(url) == server


def test_the_credential_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CREDENTIAL, "secret\n")
    assert parse_turn("turn:al@h") == IceServer(urls="turn:h", username="al", credential="secret")
    monkeypatch.delenv(CREDENTIAL)
    with pytest.raises(
        ValueError, match=f"expected a credential for turn:h in the URL or in the variable {CREDENTIAL}"
    ):
        parse_turn("turn:al@h")


@pytest.mark.parametrize("url", ["turn:h:1", "turn:@h", "turn:al:hidden@", "stun:al:hidden@h", "hidden", ""])
def test_a_bad_turn_url_is_not_shown(url: str) -> None:
    with pytest.raises(ValueError, match="expected turn:USER@HOST") as raised:
        parse_turn(url)
    assert "hidden" not in str(raised.value)


@pytest.mark.parametrize("url", ["", "stun", "stun:", "turn:h", "stun://h", "h:3478"])
def test_bad_stun_urls(url: str) -> None:
    with pytest.raises(ValueError, match="expected stun:HOST"):
        parse_stun(url)


def test_a_configuration_of_all() -> None:
    assert make_webrtc(False, ["stun:h"], []) is False
    assert make_webrtc(True, [], []) == WebRTCConfig()
    made = make_webrtc(True, ["stun:h"], ["turn:al:secret@h"])
    assert isinstance(made, WebRTCConfig)
    assert [server.urls for server in made.ice_servers] == ["stun:h", "turn:h"]
    assert "secret" not in repr(made)
    with pytest.raises(UsageError, match="expected stun:HOST"):
        make_webrtc(True, ["h"], [])


def test_a_server_in_the_file_means_webrtc(tmp_path: Path) -> None:
    """As on the command line; unless the file says that there is to be none."""
    for extra, wanted in (("", True), ("webrtc = false\n", False)):
        file = tmp_path / "relay.toml"
        file.write_text(f'[overlay]\nstun = "stun:h"\n{extra}[relay]\nenabled = false\n')
        config = Configuration(make_parser().parse_args(["serve", "--config", str(file)])).load().config
        assert config.overlay is not None
        assert isinstance(config.overlay.webrtc, WebRTCConfig) is wanted


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"negotiations": 0}, "negotiations must be positive, not 0"),
        ({"send_buffer": -1}, "send_buffer must be positive, not -1"),
        ({"negotiation_timeout": float("nan")}, "negotiation_timeout must be positive, not nan"),
        ({"ice_transport_policy": "some"}, "must be 'all' or 'relay', not 'some'"),
        ({"ice_transport_policy": "relay"}, "expected a TURN server"),
        ({"ice_transport_policy": "relay", "ice_servers": (IceServer(urls="stun:h"),)}, "expected a TURN server"),
    ],
)
def test_configurations_that_make_no_sense(options: dict[str, object], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        WebRTCConfig(**options)  # type: ignore[arg-type]


def test_servers_that_make_no_sense() -> None:
    for url in ("http://h", "stun", "turn:", "stun://h"):
        with pytest.raises(ValueError, match="expected stun:HOST"):
            IceServer(urls=url, username="a", credential="b")
    with pytest.raises(ValueError, match="expected a user name and a credential for turn:h"):
        IceServer(urls="turn:h", username="a")
