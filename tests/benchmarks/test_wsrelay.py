"""What the benchmark of the relay server sends, counts and calls wrong."""

from __future__ import annotations

import json
import socket

import pytest

from benchmarks.ends import PING, PONG, TEXT, frame_head
from benchmarks.presence import Fan, Tally, Watcher, flapping, run_fan
from benchmarks.relay_ends import Frames, IdleClient, message, target
from benchmarks.relay_server import ACCESS_KEY, LIFTED, NO_PINGS, lifted, make_config
from benchmarks.summary import GOALS
from trio_relay.wire.masking import xor_mask
from trio_relay.wsrelay import RelayConfig

_ONLINE = b'{"type":"peer-status","payload":{"address":"bench:the-one-that-flaps","online":true}}'
_OFFLINE = _ONLINE.replace(b"true", b"false")


def framed(content: bytes, first: int = TEXT) -> bytes:
    return frame_head(first, len(content)) + content


@pytest.mark.parametrize("size", [100, 1024, 16384])
def test_a_routed_message_says_who_and_has_a_payload_of_that_size(size: int) -> None:
    value = json.loads(message("pair-a-1", "pair-b-1", size))
    assert (value["from"], value["to"], len(value["payload"])) == ("bench:pair-a-1", "bench:pair-b-1", size)


@pytest.mark.parametrize("length", [0, 125, 126, 65_535, 65_536])
@pytest.mark.parametrize("chunk", [1, 3, 100_000])
def test_frames_are_found_however_they_are_cut(length: int, chunk: int) -> None:
    if length > 126 and chunk < 100:
        chunk = 4999
    data = framed(b"x" * length) + framed(b"ab", PING)
    frames = Frames()
    found = [frame for start in range(0, len(data), chunk) for frame in frames.take(data[start : start + chunk])]
    assert found == [(TEXT, b"x" * length), (PING, b"ab")]


@pytest.mark.parametrize(
    ("told", "violations"),
    [
        ([_OFFLINE, _ONLINE, _OFFLINE, _ONLINE], 0),
        ([_OFFLINE, _ONLINE, _ONLINE], 1),
        ([_OFFLINE, _OFFLINE, _ONLINE], 1),
        ([_OFFLINE, b'{"type":"error","payload":{"code":"X","message":""}}', _ONLINE], 1),
        ([_OFFLINE, _ONLINE.replace(b"flaps", b"other"), _ONLINE], 1),
    ],
)
def test_a_watcher_must_not_be_told_the_same_twice(told: list[bytes], violations: int) -> None:
    tally = Tally()
    Watcher(tally).take(b"".join(map(framed, told)))
    assert (tally.violations, tally.online) == (violations, 1)


def test_a_watcher_whose_connection_is_lost_knows_nothing() -> None:
    tally = Tally()
    watcher = Watcher(tally)
    watcher.take(framed(_ONLINE))
    watcher.lose()
    assert (tally.told, tally.violations, tally.online) == (1, 1, 0)


def test_an_idle_client_answers_pings_and_counts_messages() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        client = IdleClient(ours, framed(b"early"))
        theirs.sendall(framed(b"ab", PING) + framed(b"{}"))
        client.answer()
        answer = theirs.recv(100)
    assert client.got == 2
    assert (answer[:2], xor_mask(answer[6:], answer[2:6])) == (bytes((PONG, 0x82)), b"ab")


def test_the_limits_that_are_lifted_are_those_that_are_named() -> None:
    config, default = make_config(None, NO_PINGS), RelayConfig(channels=["bench"], key_store=False)
    own = {"channels", "key_store", "listen", "heartbeat_interval", "limits"}
    changed = {name for name in RelayConfig.__slots__ if getattr(config, name) != getattr(default, name)} - own
    inner = type(default.limits).__slots__
    changed |= {f"limits.{name}" for name in inner if getattr(config.limits, name) != getattr(default.limits, name)}
    assert changed == set(LIFTED)
    assert lifted().startswith("rate_limit_max_connections 100,000 (default 30), rate_limit_max_messages ")
    assert config.key_store is not False
    assert not isinstance(config.key_store, str)
    assert config.key_store.validate(ACCESS_KEY) is True
    assert target("idle-001") == f"/bench/idle-001?key={ACCESS_KEY}"


def test_goals_name_the_rows_of_presence() -> None:
    rows = {goal.one for goal in GOALS if goal.title.startswith("wsrelay, presence")}
    assert rows == {flapping(Fan(1000, 100, pause, 5.0)) for pause in (0.05, 0.0)}


def test_watchers_of_a_real_server_see_what_is_true() -> None:
    quiet, loud = run_fan(Fan(watchers=5, flaps=3, pause=0.02, seconds=0.05), warm_up=0.05)
    assert (quiet.lost, loud.lost) == (0, 0)
    assert (loud.values["told"], loud.values["violations"]) == (7, 0)
    assert quiet.values["violations"] == 0
