from __future__ import annotations

import json

import pytest

from trio_relay.cli.reports import JsonReport, ReadableReport, describe_failure
from trio_relay.exceptions import MailboxFull, PayloadTooLarge
from trio_relay.node.values import Event, EventsLost, LinkChanged, LinkDown, LinkUp, Message
from trio_relay.wire.content import Data
from trio_relay.wire.ids import parse_node_id
from trio_relay.wire.json import MAX_DEPTH, decode_untrusted

from .support import NOBODY

SENDER = parse_node_id(NOBODY)


@pytest.mark.parametrize(
    ("data", "member"),
    [
        (None, '"data":null'),
        ({"a": [True, 1.5]}, '"data":{"a":[true,1.5]}'),
        (b"\x00\xff", '"bytes":"AP8="'),
        (b"", '"bytes":""'),
        ([float("inf"), float("-inf"), 1], '"data":[null,null,1]'),
        ("\ud800 é", '"data":"\\ud800 é"'),
        ("two\nlines", '"data":"two\\nlines"'),
    ],
)
def test_message_for_programs(data: Data, member: str) -> None:
    line = JsonReport().message(Message(data, SENDER, proven=True))
    assert line.decode() == f'{{"event":"message","from":"{NOBODY}","proven":true,{member}}}'


def test_whatever_a_stranger_can_send_is_written() -> None:
    deepest = decode_untrusted("[" * MAX_DEPTH + "1e400" + "]" * MAX_DEPTH)
    longest = decode_untrusted("9" * 4300)
    report = JsonReport()
    assert report.message(Message(deepest, SENDER, proven=False)).endswith(b"null" + b"]" * MAX_DEPTH + b"}")
    assert report.message(Message(longest, SENDER, proven=False)).endswith(b"9}")
    assert ReadableReport("ascii").message(Message(deepest, SENDER, proven=False)).endswith(b"inf" + b"]" * MAX_DEPTH)
    assert ReadableReport("ascii").message(Message(longest, SENDER, proven=False)).endswith(b": " + b"9" * 4300)


def test_events_for_programs() -> None:
    report = JsonReport()
    events: list[Event] = [
        LinkUp(SENDER, "websocket", 0.0123456),
        LinkChanged(SENDER, "webrtc", None, ("host", "prflx")),
        LinkDown(SENDER, "gone"),
        EventsLost(3),
    ]
    candidates = {"local": "host", "remote": "prflx"}
    assert [json.loads(report.event(event)) for event in events] == [
        {"event": "link_up", "id": NOBODY, "transport": "websocket", "rtt_ms": 12.346},
        {"event": "link_changed", "id": NOBODY, "transport": "webrtc", "rtt_ms": None, "candidates": candidates},
        {"event": "link_down", "id": NOBODY, "reason": "gone"},
        {"event": "events_lost", "count": 3},
    ]


def test_failures_for_programs() -> None:
    assert describe_failure(PayloadTooLarge("too large")) == {
        "event": "error",
        "error": "PayloadTooLarge",
        "message": "too large",
    }
    assert describe_failure(MailboxFull("full", "not_delivered")) == {
        "event": "error",
        "error": "MailboxFull",
        "message": "full",
        "outcome": "not_delivered",
    }


def test_events_for_people() -> None:
    report = ReadableReport("utf-8")
    events: list[Event] = [
        LinkUp(SENDER, "websocket", 0.00234),
        LinkChanged(SENDER, "webrtc", 0.0105, ("host", "srflx")),
        LinkDown(SENDER, "gone"),
        EventsLost(3),
    ]
    assert [report.event(event).decode() for event in events] == [
        f"link up    {NOBODY} (websocket, 2.3 ms)",
        f"link now   {NOBODY} (webrtc, host to srflx, 10.5 ms)",
        f"link down  {NOBODY}: gone",
        "3 events lost",
    ]


@pytest.mark.parametrize(
    ("encoding", "shown"), [("utf-8", "'\\x1b[2J é \\n \\ud800'"), ("ascii", "'\\x1b[2J \\xe9 \\n \\ud800'")]
)
def test_a_message_cannot_control_the_terminal(encoding: str, shown: str) -> None:
    line = ReadableReport(encoding).message(Message("\x1b[2J é \n \ud800", SENDER, proven=False))
    assert line == f"message from {NOBODY} (not proven): {shown}".encode(encoding)
