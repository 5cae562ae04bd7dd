"""What the benchmark of the broker of PeerJS sends, expects and counts."""

from __future__ import annotations

import json
import socket
from urllib.parse import parse_qs, urlsplit

import pytest

from benchmarks import binarypack
from benchmarks.dialling import Place
from benchmarks.ends import TEXT, frame_head, read
from benchmarks.peerjs import NPM, SIZES, clients
from benchmarks.peerjs_ends import LEAST, BrokerGuest, Offers, leave, offer, register
from benchmarks.peerjs_server import LIFTED, lifted, make_config, run_broker
from benchmarks.report import Options, Report
from benchmarks.summary import GOALS
from trio_relay.peerjs.broker.config import BrokerConfig

_OPEN = b'{"type":"OPEN"}'


@pytest.mark.parametrize("size", [LEAST, *range(1000, 1024), *SIZES])
def test_an_offer_has_that_size_and_is_what_a_broker_would_write_again(size: int) -> None:
    text = offer(size)
    value = json.loads(text)
    assert len(text.encode()) == size
    assert json.dumps(value, separators=(",", ":"), ensure_ascii=False) == text
    assert value["sdp"]["sdp"].startswith("v=0\r\n")
    assert list(value) == ["sdp", "type", "connectionId", "label", "reliable", "serialization"]


def test_a_client_is_registered_when_it_is_told_so_however_that_is_cut() -> None:
    ours, theirs = socket.socketpair()
    frame = frame_head(TEXT, len(_OPEN)) + _OPEN
    with ours, theirs:
        theirs.sendall(frame[5:])
        register(ours, frame[:5])
        theirs.sendall(frame_head(TEXT, 2) + b"{}")
        with pytest.raises(ValueError, match="expected OPEN, not"):
            register(ours, b"")


def test_a_client_that_leaves_waits_for_the_broker() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"\x88\x00")
        leave(ours)
        assert read(theirs)[:2] == b"\x88\x80"
        theirs.sendall(b"\x81\x02{}")
        with pytest.raises(ValueError, match="expected a close frame"):
            leave(ours)


def test_idle_clients_have_ids_as_long_as_those_of_a_broker() -> None:
    url, headers = BrokerGuest().request("ws://127.0.0.1:9", 7)
    query = parse_qs(urlsplit(url).query)
    assert (len(query["id"][0]), query["key"], headers) == (36, ["peerjs"], ())
    assert query["id"] != parse_qs(urlsplit(BrokerGuest().request("", 8)[0]).query)["id"]


def test_the_limits_that_are_lifted_are_those_that_are_named() -> None:
    config, default = make_config(), BrokerConfig()
    changed = {name for name in BrokerConfig.__slots__ if getattr(config, name) != getattr(default, name)}
    assert changed - {"listen"} == set(LIFTED)
    assert lifted().startswith("concurrent_limit 100,000 (default 5,000), max_connections_per_ip 100,000 (default ")


def test_goals_name_the_rows_of_registrations() -> None:
    goals = {(goal.one, goal.other) for goal in GOALS if goal.title == "peerjs, registrations"}
    assert goals == {(clients("trio_relay", 0), clients(NPM, 0))}


def test_offers_pass_our_broker_and_idle_clients_are_registered() -> None:
    traffic, guest = Offers(SIZES[0]), BrokerGuest()
    with run_broker() as relay:
        receiver = traffic.receiver(relay.url, 0)
        sender = traffic.sender(relay.url, 0, 3)
        with receiver.socket, sender.socket:
            sender.socket.sendall(sender.block(0))
            arrived = 0
            while arrived < 3:
                arrived += receiver.count(read(receiver.socket))
        place = Place(relay.url, None, guest)
        sock, rest = place.connect(None, 0)
        with sock:
            guest.settle(sock, relay.url, rest)
            leave(sock)
    assert arrived == 3


def test_every_shape_comes_back_and_has_a_row() -> None:
    report = Report("a test")
    binarypack.run(report, Options(seconds=0.001, repeat=1, rivals=False))
    (table,) = report.tables
    assert table.title == binarypack.TITLE
    assert [row.name for row in table.rows] == [f"{shape}, trio_relay" for shape in binarypack.SHAPES]
    assert all(row.values["packs/s"][0] > 0 < row.values["unpacks/s"][0] for row in table.rows)
