"""A signaller and a broker: being taken in, messages both ways, heartbeats, endings."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from typing import Any

import pytest
import trio
import trio.testing

from tests.peerjs.signalling.scripted_broker import (
    HEARTBEAT,
    OPEN,
    TOKEN,
    RecordingDesk,
    ScriptedBroker,
    ask,
    make,
    running,
    say_nothing,
    stay,
    telling,
)
from tests.wsrelay.scripted_server import ScriptedPeer
from trio_relay.exceptions import HandshakeError, PeerError
from trio_relay.peerjs.messages import ServerMessage
from trio_relay.transports.dial import TlsUnavailable

OFFER = {"type": "OFFER", "src": "bob", "payload": {"x": 1}}


# Being taken in


async def test_open(monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock) -> None:
    broker, desk = ScriptedBroker(), RecordingDesk()
    async with broker.over_memory(monkeypatch), running(make(desk)) as signaller:
        assert repr(signaller) == "<Signaller of 'alice' at broker.example:9000, connecting>"
        assert await desk.wait(1) == [("open", "alice", False)]
        assert repr(signaller) == "<Signaller of 'alice' at broker.example:9000, open>"
        assert signaller.id == "alice"
    assert broker.peers[0].path == (
        "ws://broker.example:9000/peerjs?key=peerjs&id=alice&token=secret%2Btoken%2F1&version=1.5.5"
    )


@pytest.mark.parametrize(
    ("wanted", "opening", "relayed"),
    [
        (True, OPEN, False),
        (True, {"type": "OPEN", "payload": {"relay": True}}, True),
        (True, {"type": "OPEN", "payload": {"relay": False}}, False),
        (True, {"type": "OPEN", "payload": "relay"}, False),
        (False, {"type": "OPEN", "payload": {"relay": True}}, False),
    ],
)
async def test_whether_the_broker_relays(
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: trio.testing.MockClock,
    wanted: bool,
    opening: object,
    relayed: bool,
) -> None:
    broker = ScriptedBroker(telling(opening))
    desk = await ask(broker, monkeypatch, 1, relayed=wanted)
    assert desk.told == [("open", "alice", relayed)]
    assert broker.peers[0].path.endswith("&relay=1") == wanted


async def test_silence_is_no_consent_of_a_broker_that_does_not_know_the_peer(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    desk = await ask(ScriptedBroker(say_nothing), monkeypatch, 1, connect_timeout=15)
    assert desk.told == [("over", "server-error", "the broker accepted the connection and then said nothing")]
    assert desk.times[0] - 15 == pytest.approx(0, abs=0.01)


async def test_silence_is_consent_of_a_broker_that_knows_the_peer(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    broker = ScriptedBroker(say_nothing)
    desk = await ask(broker, monkeypatch, 1, known=True)
    assert desk.told == [("open", "alice", False)]
    assert desk.times[0] - broker.attempts[0] == pytest.approx(1.0)


@pytest.mark.parametrize("kind", ["OFFER", "ANSWER", "CANDIDATE", "LEAVE", "EXPIRE"])
async def test_who_gets_messages_is_registered(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock, kind: str
) -> None:
    desk = await ask(ScriptedBroker(telling({"type": kind, "src": "bob"}, OPEN)), monkeypatch, 2)
    assert desk.told == [("open", "alice", False), ServerMessage(kind, "bob")]
    assert desk.times[0] == desk.times[1]


# Refusals


@pytest.mark.parametrize(
    ("frame", "type", "complaint"),
    [
        ({"type": "ID-TAKEN", "payload": {"msg": "ID is taken"}}, "unavailable-id", "the id is taken"),
        ({"type": "INVALID-KEY"}, "invalid-key", "another key"),
        ({"type": "ERROR", "payload": {"msg": "Invalid key provided"}}, "server-error", "Invalid key provided"),
        ({"type": "ERROR", "payload": {"msg": "bad\n\u2028" + "x" * 500}}, "server-error", r"bad\?\?x{195}$"),
        ({"type": "ERROR"}, "server-error", "the broker reports an error"),
    ],
)
async def test_refusals(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock, frame: object, type: str, complaint: str
) -> None:
    broker, desk, counts = ScriptedBroker(telling(frame, OFFER)), RecordingDesk(), Counter[str]()
    signaller = make(desk, counts)
    async with broker.over_memory(monkeypatch):
        await signaller.run()
    (told,) = desk.told
    assert told[:2] == ("over", type)
    assert re.search(complaint, told[2])
    assert len(broker.attempts) == 1
    assert counts == {"broker_failed": 1}
    with pytest.raises(PeerError) as caught:
        signaller.send(b"{}")
    assert caught.value.type == "disconnected"


@pytest.mark.parametrize(
    ("error", "type", "text"),
    [
        (OSError(111, "cannot connect to b:1: Connection refused"), "socket-error", "cannot connect to b:1"),
        (OSError("no such host"), "socket-error", "no such host"),
        (UnicodeError("label too long"), "socket-error", "label too long"),
        (HandshakeError("expected 101, not 400", 400), "socket-error", "expected 101, not 400"),
        (TlsUnavailable("no TLS with b:1: WRONG"), "ssl-unavailable", "no TLS with b:1: WRONG"),
    ],
)
async def test_no_websocket(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock, error: Exception, type: str, text: str
) -> None:
    broker = ScriptedBroker()
    broker.refused = [error]
    desk = await ask(broker, monkeypatch, 1)
    (told,) = desk.told
    assert told[:2] == ("over", type)
    assert text in told[2]


async def test_closed_before_the_peer_was_taken_in(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    desk = await ask(ScriptedBroker(telling(end=True)), monkeypatch, 1)
    (told,) = desk.told
    assert told[:2] == ("over", "network")


# Messages


async def test_messages_come_in_order(monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock) -> None:
    frames = [OFFER | {"payload": number} for number in range(5)] + [{"type": "NEWS", "payload": [None]}]
    desk = await ask(ScriptedBroker(telling(OPEN, *frames)), monkeypatch, 7)
    assert desk.told[1:] == [ServerMessage("OFFER", "bob", number) for number in range(5)] + [
        ServerMessage("NEWS", "", [None])
    ]


async def test_what_is_no_message_is_ignored(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    async def script(peer: ScriptedPeer) -> None:
        await peer.send({"type": "NEWS"}, OPEN, OPEN, HEARTBEAT, "garbage", "[1]", '{"type":1}')
        await peer.send(json.dumps(OFFER), b"\xff\x00", binary=True)
        await peer.send("[" * 1000, OFFER)
        await peer.until_end()

    broker, desk, counts = ScriptedBroker(script), RecordingDesk(), Counter[str]()
    async with broker.over_memory(monkeypatch), running(make(desk, counts)):
        await desk.wait(2)
    assert desk.told == [("open", "alice", False), ServerMessage("OFFER", "bob", {"x": 1})]
    assert counts == {"broker_opened": 1, "signals_untimely": 1, "signals_malformed": 6}


async def test_what_is_sent_before_the_peer_is_registered_waits(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    heard: list[Any] = []

    async def script(peer: ScriptedPeer) -> None:
        await trio.sleep(3)
        await peer.send(OPEN)
        heard.extend([await peer.receive() for _ in range(3)])
        heard.append(trio.current_time())

    desk, counts = RecordingDesk(), Counter[str]()
    signaller = make(desk, counts)
    signaller.send(b'{"type":"A"}')
    async with ScriptedBroker(script, stay).over_memory(monkeypatch), running(signaller):
        await trio.sleep(1)
        signaller.send(b'{"type":"B"}')
        await desk.wait(1)
        signaller.send(b'{"type":"C"}')
        await desk.wait(2)
    assert heard == [{"type": "A"}, {"type": "B"}, {"type": "C"}, pytest.approx(3)]
    assert counts["signals_sent"] == 3


async def test_what_waits_too_long_is_dropped(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    desk, counts = RecordingDesk(), Counter[str]()
    signaller = make(desk, counts, connect_timeout=60)
    signaller.send(b'{"type":"OLD"}')

    async def script(peer: ScriptedPeer) -> None:
        await trio.sleep(11)
        await peer.send(OPEN)
        assert await peer.receive() == HEARTBEAT

    broker = ScriptedBroker(script, stay)
    async with broker.over_memory(monkeypatch), running(signaller):
        await desk.wait(2)
    assert desk.told[1][0] == "lost"
    assert (counts["signals_expired"], counts["signals_sent"]) == (1, 0)


async def test_too_much_waits(monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock) -> None:
    counts = Counter[str]()
    signaller = make(RecordingDesk(), counts)
    for _ in range(256):
        signaller.send(b"{}")
    for frame in (b"{}", bytes(1 << 20 | 1)):
        with pytest.raises(PeerError) as caught:
            signaller.send(frame)
        assert caught.value.type == "network"
    assert counts == {"signals_full": 2}
    await signaller.close()
    assert counts["signals_unsent"] == 256


# Heartbeats


async def test_heartbeats_from_the_websocket_on(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    times: list[float] = []

    async def script(peer: ScriptedPeer) -> None:
        await trio.sleep(6)
        await peer.send(OPEN)
        while await peer.receive() == HEARTBEAT:
            times.append(trio.current_time() - peer.opened)

    async with ScriptedBroker(script).over_memory(monkeypatch), running(make(RecordingDesk(), ping_interval=4)):
        await trio.sleep(13)
    assert times == [pytest.approx(6), pytest.approx(8), pytest.approx(12)]


# Closing


async def test_close_sends_what_waits_and_says_goodbye(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    heard: list[Any] = []

    async def script(peer: ScriptedPeer) -> None:
        await peer.send(OPEN)
        heard.extend(await peer.until_end())
        heard.append(peer.connection.close_code)

    desk = RecordingDesk()
    signaller = make(desk)
    async with ScriptedBroker(script).over_memory(monkeypatch), trio.open_nursery() as nursery:
        nursery.start_soon(signaller.run)
        await desk.wait(1)
        signaller.send(b'{"type":"A"}')
        signaller.send(b'{"type":"B"}')
        await signaller.close()
        await signaller.close()
        await trio.testing.wait_all_tasks_blocked()
    assert heard == [{"type": "A"}, {"type": "B"}, 1000]
    assert desk.told == [("open", "alice", False)]
    assert not signaller.open
    with pytest.raises(PeerError, match="disconnected"):
        signaller.send(b"{}")


async def test_close_sends_all_of_much(monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock) -> None:
    heard: list[Any] = []

    async def script(peer: ScriptedPeer) -> None:
        await peer.send(OPEN)
        heard.extend(await peer.until_end())

    desk, counts = RecordingDesk(), Counter[str]()
    signaller = make(desk, counts)
    async with ScriptedBroker(script).over_memory(monkeypatch), running(signaller):
        await desk.wait(1)
        for _ in range(100):
            signaller.send(b'"' + b"x" * 10_000 + b'"')
        await signaller.close()
    assert heard == ["x" * 10_000] * 100
    assert counts == {"broker_opened": 1, "signals_sent": 100}


async def test_messages_that_come_after_close(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    async def script(peer: ScriptedPeer) -> None:
        await peer.send(OPEN)
        await trio.sleep(1)
        await peer.send(OFFER)
        await peer.until_end()

    desk, counts = RecordingDesk(), Counter[str]()
    async with ScriptedBroker(script).over_memory(monkeypatch), running(make(desk, counts)) as signaller:
        await trio.sleep(0.9)
        await signaller.close()
        await trio.sleep(5)
    assert desk.told == [("open", "alice", False)]
    assert counts == {"broker_opened": 1, "signals_untimely": 1}


async def test_close_is_bounded(monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock) -> None:
    async def script(peer: ScriptedPeer) -> None:
        await peer.send(OPEN)
        await trio.sleep_forever()

    desk = RecordingDesk()
    signaller = make(desk)
    async with ScriptedBroker(script).over_memory(monkeypatch), running(signaller):
        await desk.wait(1)
        since = trio.current_time()
        await signaller.close()
        assert trio.current_time() - since <= 1.0
    assert desk.told == [("open", "alice", False)]


async def test_close_before_and_while_it_dials(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    desk, broker = RecordingDesk(), ScriptedBroker(say_nothing)
    signaller = make(desk)
    await signaller.close()
    async with broker.over_memory(monkeypatch):
        await signaller.run()
        assert broker.attempts == []
        async with running(make(desk)) as other:
            await trio.testing.wait_all_tasks_blocked()
            await other.close()
    assert desk.told == []


# Secrets


async def test_the_token_is_nowhere(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    broker = ScriptedBroker(telling(OPEN, "garbage", end=True), telling({"type": "ID-TAKEN"}))
    desk = RecordingDesk()
    signaller = make(desk)
    async with broker.over_memory(monkeypatch), running(signaller):
        await desk.wait(3)
    assert [record.name for record in caplog.records if record.name != "trio_relay.peerjs"] == []
    assert len(caplog.records) == 4
    for text in (caplog.text, repr(signaller), str(desk.told)):
        assert "secret" not in text
    assert repr(signaller) == "<Signaller of 'alice' at broker.example:9000, over>"


@pytest.mark.parametrize("token", ["", "a\nb", "\ud800"])
def test_tokens_that_no_url_can_have(token: str) -> None:
    with pytest.raises(ValueError, match="expected a token of printable characters"):
        make(RecordingDesk(), token=token)
    assert TOKEN.isprintable()
