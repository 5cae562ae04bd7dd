"""Presence and events of a relay client."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.wsrelay.scripted_server import (
    BOB,
    OWN,
    Recorder,
    ScriptedPeer,
    ScriptedRelay,
    client_of,
    collect,
    error_frame,
    routed,
    status_frame,
    stay,
    telling,
    unwatch,
    watch,
)
from trio_relay.wsrelay.client.events import (
    Connected,
    Disconnected,
    EventsLost,
    PresenceChanged,
    ServerError,
    Undelivered,
)

# Presence


async def test_presence_is_told_and_known(monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock) -> None:
    async def script(peer: ScriptedPeer) -> None:
        await peer.accept()
        assert await peer.receive() == watch(BOB)
        for online in (False, True, True, False):
            await peer.send(status_frame(BOB, online))
        assert await peer.receive() == unwatch(BOB)
        await peer.send(status_frame(BOB, True), routed("end"))
        await peer.until_end()

    async with client_of(ScriptedRelay(script), monkeypatch) as client:
        await client.wait_connected()
        async with client.events() as events:
            await client.watch(BOB)
            await client.watch(BOB)
            assert client.presence == {BOB: None}
            for online in (False, True, False):
                assert await anext(events) == PresenceChanged(BOB, online)
            assert client.presence == {BOB: False}
            await client.unwatch(BOB)
            assert (await client.receive()).payload == "end"
            assert client.presence == {}
            await client.aclose()
            assert [event async for event in events] == []


async def test_watches_are_repeated_on_each_connection(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    heard: list[Any] = []

    async def script(peer: ScriptedPeer) -> None:
        await peer.accept()
        for _ in range(2):
            heard.append(await peer.receive())
            await peer.send(status_frame(heard[-1]["address"], True))
        await trio.sleep(1)

    async with client_of(ScriptedRelay(script, script, stay), monkeypatch) as client, client.events() as events:
        for name in (BOB, "pwa:carol", "pwa:dave"):
            await client.watch(name)
        await client.unwatch("pwa:carol")
        seen = [await anext(events) for _ in range(4)]
        assert isinstance(seen.pop(), Disconnected)
        assert seen == [Connected(), PresenceChanged(BOB, True), PresenceChanged("pwa:dave", True)]
        assert client.presence == {BOB: None, "pwa:dave": None}
        assert [await anext(events) for _ in range(3)] == seen
    assert heard == [watch(BOB), watch("pwa:dave")] * 2


async def test_one_s_own_presence(monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock) -> None:
    server = Recorder()
    async with client_of(ScriptedRelay(server), monkeypatch) as client:
        await client.wait_connected()
        async with client.events() as events:
            await client.watch(OWN)
            assert await anext(events) == PresenceChanged(OWN, True)
        assert client.presence == {OWN: True}
        await client.unwatch(OWN)
        assert client.presence == {}
    assert server.heard == [[]]


async def test_watches_that_a_rate_limit_refused_are_repeated_later(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async def script(peer: ScriptedPeer) -> None:
        await peer.accept()
        assert await peer.receive() == watch(BOB)
        assert await peer.receive() == watch("pwa:carol")
        await peer.send(status_frame(BOB, True), error_frame("RATE_LIMITED"))
        with trio.move_on_after(59) as early:
            await peer.receive()
        assert early.cancelled_caught
        assert await peer.receive() == watch("pwa:carol")
        await peer.send(status_frame("pwa:carol", True))
        await peer.until_end()

    async with client_of(ScriptedRelay(script), monkeypatch) as client:
        async with client.events() as events:
            await client.watch(BOB)
            await client.watch("pwa:carol")
            assert [await anext(events) for _ in range(4)] == [
                Connected(),
                PresenceChanged(BOB, True),
                ServerError("RATE_LIMITED", "words"),
                PresenceChanged("pwa:carol", True),
            ]
        assert 60 <= trio.current_time() <= 80


# Events


@pytest.mark.parametrize("reports", [False, True])
async def test_undelivered_messages_are_reported_to_who_asked(
    reports: bool, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    frames = [error_frame("UNDELIVERED", to=BOB, reason="offline"), error_frame("UNDELIVERED", to=BOB)]
    relay = ScriptedRelay(telling(*frames))
    async with client_of(relay, monkeypatch, reports=reports) as client:
        events = await collect(client, 3)
        assert events[1:] == (
            [Undelivered(BOB, "offline"), Undelivered(BOB, "words")]
            if reports
            else [ServerError("UNDELIVERED", "words")] * 2
        )
        assert relay.peers[0].path == "/pwa/alice123" + "?reports=1" * reports
        assert client.statistics().counts.get("undelivered", 0) == 2 * reports


async def test_who_does_not_read_events_is_told_how_many_were_lost(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    errors = [error_frame(f"E{number}") for number in range(10)]
    relay = ScriptedRelay(telling(*errors, routed(1)))
    async with client_of(relay, monkeypatch, event_buffer=4) as client, client.events() as events:
        await client.receive()
        kept = [await anext(events) for _ in range(4)]
        assert kept == [Connected(), *(ServerError(f"E{number}", "words") for number in range(3))]
        await client.aclose()
        assert [event async for event in events] == [EventsLost(7)]


async def test_what_a_client_shows(monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock) -> None:
    async with client_of(ScriptedRelay(stay), monkeypatch, key="secret-key") as client:
        assert repr(client) == "<RelayClient ws://relay.example/pwa/alice123, not connected>"
        await client.wait_connected()
        assert repr(client) == "<RelayClient ws://relay.example/pwa/alice123, connected>"
    assert repr(client) == "<RelayClient ws://relay.example/pwa/alice123, closed>"
