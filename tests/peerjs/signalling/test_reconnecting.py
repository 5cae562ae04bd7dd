"""A signaller whose broker goes away and comes back."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
import trio
import trio.testing

from tests.peerjs.signalling.scripted_broker import (
    OPEN,
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
from trio_relay.exceptions import HandshakeError
from trio_relay.peerjs.messages import ServerMessage

lose = telling(OPEN, end=True)
BROKE = ("lost", "network", "lost the connection to the broker: it closed it")


async def test_it_comes_back_with_the_same_id_and_token(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    broker, counts = ScriptedBroker(lose, stay), Counter[str]()
    desk = await ask(broker, monkeypatch, 3, counts)
    assert desk.told == [("open", "alice", False), BROKE, ("open", "alice", False)]
    assert broker.peers[0].path == broker.peers[1].path
    assert counts == {"broker_opened": 2, "broker_lost": 1}


async def test_a_broker_that_kept_the_registration_says_nothing(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    broker = ScriptedBroker(telling({"type": "OPEN", "payload": {"relay": True}}, end=True), say_nothing)
    desk = await ask(broker, monkeypatch, 3, relayed=True)
    assert desk.told[2] == ("open", "alice", True)
    assert desk.times[2] - broker.attempts[1] == pytest.approx(1.0)


async def test_a_broker_that_kept_the_registration_sends_a_message(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    broker = ScriptedBroker(lose, telling({"type": "LEAVE", "src": "bob"}))
    desk = await ask(broker, monkeypatch, 4)
    assert desk.told[2:] == [("open", "alice", False), ServerMessage("LEAVE", "bob")]
    assert desk.times[2] - broker.attempts[1] < 0.1


async def test_the_id_that_the_broker_made_is_kept(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    made = iter(["first", "second"])

    async def fetch(*_: object, **__: object) -> str:
        await trio.lowlevel.checkpoint()
        return next(made)

    monkeypatch.setattr("trio_relay.peerjs.signalling.signaller.fetch_id", fetch)
    broker = ScriptedBroker(lose, stay)
    desk = await ask(broker, monkeypatch, 3, id=None)
    assert desk.told == [("open", "first", False), BROKE, ("open", "first", False)]
    assert next(made) == "second"


async def test_the_back_off_doubles_up_to_its_maximum(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    broker, counts = ScriptedBroker(lose, stay), Counter[str]()
    broker.refused = [None, OSError(111, "refused"), HandshakeError("not 502", 502), *[OSError("gone")] * 3]
    desk = await ask(broker, monkeypatch, 3, counts)
    assert [told[0] for told in desk.told] == ["open", "lost", "open"]
    waits = [later - earlier for earlier, later in pairwise(broker.attempts)]
    assert waits == [pytest.approx(seconds, abs=0.01) for seconds in (1, 2, 4, 8, 8, 8)]
    assert counts == {"broker_opened": 2, "broker_lost": 1, "broker_failed": 5}


async def test_after_a_stable_connection_the_back_off_begins_anew(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    async def last(peer: ScriptedPeer) -> None:
        await peer.send(OPEN)
        with trio.move_on_after(10.5):
            await peer.until_end()

    broker = ScriptedBroker(lose, lose, last, stay)
    desk = await ask(broker, monkeypatch, 7)
    waits = [opened - lost for lost, opened in zip(desk.times[1::2], desk.times[2::2], strict=True)]
    assert waits == [pytest.approx(seconds, abs=0.01) for seconds in (1, 2, 1)]


async def test_a_full_broker_may_have_room_later(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    full = telling({"type": "ERROR", "payload": {"msg": "Server has reached its concurrent user limit"}})
    desk = await ask(ScriptedBroker(lose, full, stay), monkeypatch, 3)
    assert desk.told == [("open", "alice", False), BROKE, ("open", "alice", False)]


@pytest.mark.parametrize(
    ("frame", "type"),
    [
        ({"type": "ID-TAKEN"}, "unavailable-id"),
        ({"type": "INVALID-KEY"}, "invalid-key"),
        ({"type": "ERROR", "payload": {"msg": "Invalid key provided"}}, "server-error"),
    ],
)
async def test_refusals_for_good(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock, frame: object, type: str
) -> None:
    broker = ScriptedBroker(lose, telling(frame))
    desk = await ask(broker, monkeypatch, 3)
    assert desk.told[:2] == [("open", "alice", False), BROKE]
    assert desk.told[2][:2] == ("over", type)
    assert len(broker.attempts) == 2


async def test_without_reconnection(monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock) -> None:
    broker, desk = ScriptedBroker(lose), RecordingDesk()
    async with broker.over_memory(monkeypatch):
        await make(desk, reconnect=False).run()
    assert desk.told == [("open", "alice", False), ("over", *BROKE[1:])]


async def test_an_error_of_the_broker_ends_a_registration(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    broker = ScriptedBroker(telling(OPEN, {"type": "ERROR", "payload": {"msg": "Oops"}}), stay)
    desk = await ask(broker, monkeypatch, 3)
    assert desk.told == [("open", "alice", False), ("lost", "server-error", "Oops"), ("open", "alice", False)]


# What is sent meanwhile


async def test_what_is_sent_meanwhile_waits(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    heard: list[Any] = []

    async def second(peer: ScriptedPeer) -> None:
        await peer.send(OPEN)
        heard.append(await peer.receive())

    desk, counts = RecordingDesk(), Counter[str]()
    async with ScriptedBroker(lose, second, stay).over_memory(monkeypatch), running(make(desk, counts)) as signaller:
        await desk.wait(2)
        assert not signaller.open
        signaller.send(b'{"type":"OFFER"}')
        await desk.wait(4)
    assert heard == [{"type": "OFFER"}]
    assert counts["signals_sent"] == 1


async def test_what_is_sent_meanwhile_waits_ten_seconds(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    broker, desk, counts = ScriptedBroker(lose, stay), RecordingDesk(), Counter[str]()
    broker.refused = [None, *[OSError("gone")] * 4]
    async with broker.over_memory(monkeypatch), running(make(desk, counts)) as signaller:
        await desk.wait(2)
        signaller.send(b'{"type":"OFFER"}')
        await trio.sleep(9)
        signaller.send(b'{"type":"ANSWER"}')
        assert counts["signals_expired"] == 0
        await trio.sleep(7)
        assert counts["signals_expired"] == 1
        await desk.wait(3)
    assert counts["signals_expired"] == 2
    assert counts["signals_sent"] == 0


# A broker that is gone without a word


async def test_a_silent_broker_is_noticed(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    async def vanish(peer: ScriptedPeer) -> None:
        await peer.send(OPEN)
        await trio.sleep_forever()  # answers no ping: nobody reads

    counts = Counter[str]()
    desk = await ask(ScriptedBroker(vanish, stay), monkeypatch, 3, counts)
    assert desk.told[1] == ("lost", "network", "the broker did not answer a ping within 10 s")
    assert desk.times[1] - desk.times[0] <= 30
    assert counts["broker_silent"] == 1


async def test_a_broker_that_answers_pings_is_not_silent(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    desk = RecordingDesk()
    async with ScriptedBroker(stay).over_memory(monkeypatch), running(make(desk)) as signaller:
        await trio.sleep(300)
        assert signaller.open
    assert desk.told == [("open", "alice", False)]
