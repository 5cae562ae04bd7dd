"""Coming back to a relay server, noticing that it is dead, and leaving it. Memory streams and a mock clock."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from tests.wsrelay.scripted_server import (
    OWN,
    URL,
    Script,
    ScriptedPeer,
    ScriptedRelay,
    client_of,
    collect,
    refusing,
    routed,
    stay,
    waits,
)
from trio_relay.wsrelay.client import RelayClient, RelayRefused, open_relay_client
from trio_relay.wsrelay.client.events import Connected, ConnectFailed, Disconnected

SECRET = "secret-key-of-mine"


def staying(seconds: float) -> Script:
    async def script(peer: ScriptedPeer) -> None:
        await peer.accept()
        await trio.sleep(seconds)
        await peer.connection.aclose(1001, "going away")

    return script


# Coming back


@pytest.mark.parametrize("code", ["RATE_LIMITED", "ID_IN_USE"])
async def test_refusals_that_pass_are_tried_again_with_growing_waits(
    code: str, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    relay = ScriptedRelay(*[refusing(code)] * 7, stay)
    async with client_of(relay, monkeypatch) as client:
        await client.wait_connected()
        assert waits(relay) == pytest.approx([1, 2, 4, 8, 16, 30, 30])
        assert client.statistics().counts["connect_failed"] == 7


async def test_waits_are_chance(monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock) -> None:
    relay = ScriptedRelay()
    relay.refused = [OSError(111, "cannot connect to relay.example:80: Connection refused")] * 4
    chances = iter([0.5, 0.0, 0.25, 0.75])
    async with client_of(relay, monkeypatch, random=lambda: next(chances), max_reconnect_delay=3) as client:
        events = await collect(client, 2)
        assert events[0] == ConnectFailed("cannot connect to relay.example:80: Connection refused", None, 0.5)
        await client.wait_connected()
        assert waits(relay) == pytest.approx([0.5, 0.0, 0.75, 2.25])


async def test_only_a_stable_connection_makes_the_waits_short_again(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    relay = ScriptedRelay(staying(1), staying(4.9), staying(5.1), staying(1), stay)
    async with client_of(relay, monkeypatch) as client:
        events = await collect(client, 9)
        assert waits(relay) == pytest.approx([1 + 1, 4.9 + 2, 5.1 + 1, 1 + 2])
        assert events[1] == Disconnected("going away", 1001, 1.0)
        assert events[5] == Disconnected("going away", 1001, 1.0)


async def test_a_connection_that_just_ends(monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock) -> None:
    relay = ScriptedRelay(ScriptedPeer.accept, stay)
    async with client_of(relay, monkeypatch) as client:
        events = await collect(client, 3)
        assert events[1] == Disconnected("the connection ended without a close frame", 1006, 1.0)


async def test_a_server_that_breaks_the_protocol_is_told_and_dialled_again(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async def too_large(peer: ScriptedPeer) -> None:
        await peer.accept()
        await peer.send(routed("x" * 2000))
        await peer.until_end()

    relay = ScriptedRelay(too_large, stay)
    async with client_of(relay, monkeypatch, max_message=1000) as client:
        events = await collect(client, 3)
        assert isinstance(events[1], Disconnected)
        assert events[1].reason.startswith("the server broke the protocol: expected a message of at most 1000 bytes")
        assert relay.peers[0].connection.close_code == 1009
        assert client.statistics().counts["protocol_errors"] == 1


async def test_without_reconnecting_the_first_end_is_the_last(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async def script(peer: ScriptedPeer) -> None:
        await peer.accept()
        await peer.send(routed(1), routed(2))
        await peer.connection.aclose(1001, "going away")

    relay = ScriptedRelay(script)
    async with client_of(relay, monkeypatch, reconnect=False) as client:
        assert [(await client.receive()).payload for _ in range(2)] == [1, 2]
        with pytest.raises(trio.BrokenResourceError, match="going away"):
            await client.receive()
        with pytest.raises(trio.BrokenResourceError, match="going away"):
            await client.wait_connected()
        assert len(relay.attempts) == 1


async def test_an_upgrade_that_takes_too_long(monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock) -> None:
    async def dial(url: str, **_: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr("trio_relay.wsrelay.client.running.dial_websocket", dial)
    async with open_relay_client(URL, "pwa", "alice123", reconnect=False, connect_timeout=3) as client:
        with pytest.raises(trio.BrokenResourceError, match="no answer to the upgrade request within 3 s"):
            await client.wait_connected()
        assert trio.current_time() == pytest.approx(3)


async def test_the_server_s_last_words_are_read_although_nothing_can_be_written(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async def script(peer: ScriptedPeer) -> None:
        await peer.accept()
        stream = peer.connection._stream
        assert isinstance(stream, trio.StapledStream)
        await stream.receive_stream.aclose()
        await trio.sleep(0.5)
        await peer.refuse("INVALID_KEY")

    async with client_of(ScriptedRelay(script), monkeypatch) as client:
        await client.wait_connected()
        await client.send(OWN, 1)
        with pytest.raises(RelayRefused, match="INVALID_KEY"):
            await client.receive()
        assert trio.current_time() == pytest.approx(0.5)


async def test_a_connection_that_takes_nothing_ends_soon(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async def script(peer: ScriptedPeer) -> None:
        await peer.accept()
        stream = peer.connection._stream
        assert isinstance(stream, trio.StapledStream)
        await stream.receive_stream.aclose()
        await trio.sleep_forever()

    relay = ScriptedRelay(script, stay)
    async with client_of(relay, monkeypatch) as client:
        await client.wait_connected()
        await client.send(OWN, 1)
        disconnected = (await collect(client, 1))[0]
        assert isinstance(disconnected, Disconnected)
        assert "broke" in disconnected.reason
        assert trio.current_time() == pytest.approx(2.0)


# Liveness


async def test_a_dead_server_is_noticed(monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock) -> None:
    async def silent(peer: ScriptedPeer) -> None:
        await peer.accept()
        await trio.sleep_forever()

    relay = ScriptedRelay(silent, stay)
    async with client_of(relay, monkeypatch, idle_timeout=60) as client:
        events = await collect(client, 3)
        assert isinstance(events[1], Disconnected)
        assert events[1].reason == "the server did not answer a ping within 10 s"
        assert 60 + 10 <= relay.attempts[1] - 1 <= 75 + 10
        assert client.statistics().counts["server_silent"] == 1


async def test_a_silent_server_that_answers_pings_is_alive(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    relay = ScriptedRelay(stay)
    async with client_of(relay, monkeypatch) as client:
        await client.wait_connected()
        await trio.sleep(1000)
        assert client.connected
        assert len(relay.attempts) == 1


async def test_a_client_that_is_not_read_takes_no_server_for_dead(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async def script(peer: ScriptedPeer) -> None:
        await peer.accept()
        await peer.send(*map(routed, range(3)))
        await peer.until_end()

    relay = ScriptedRelay(script)
    async with client_of(relay, monkeypatch, inbox_messages=1) as client:
        await trio.sleep(1000)
        assert client.connected
        assert len(relay.attempts) == 1
        heard = relay.peers[0].connection
        heard.heard = False
        await trio.sleep(30)
        assert heard.heard
        assert [(await client.receive()).payload for _ in range(3)] == [0, 1, 2]


# Closing


async def test_closing_says_goodbye_and_ends_everything(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    relay = ScriptedRelay(stay)
    seen: list[Sequence[object]] = []

    async def read_events(client: RelayClient, *, task_status: trio.TaskStatus[None]) -> None:
        async with client.events() as events:
            task_status.started()
            seen.append([event async for event in events])

    async def read_messages(client: RelayClient) -> None:
        seen.append([message async for message in client])

    async with client_of(relay, monkeypatch) as client, trio.open_nursery() as nursery:
        await nursery.start(read_events, client)
        nursery.start_soon(read_messages, client)
        await client.wait_connected()
        await client.aclose()
        await client.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(seen, key=len) == [[], [Connected()]]
        closed = relay.peers[0].connection
        assert (closed.close_code, closed.close_reason) == (1000, "Client closed")
        for call in (client.wait_connected, lambda: client.send(OWN, 1), lambda: client.unwatch(OWN)):
            with pytest.raises(trio.ClosedResourceError):
                await call()
        with pytest.raises(trio.EndOfChannel):
            await client.receive()
        async with client.events() as events:
            assert [event async for event in events] == []
        assert not client.connected
        assert len(relay.attempts) == 1


async def test_a_client_closes_while_it_waits_to_dial_again(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    relay = ScriptedRelay()
    relay.refused = [OSError(111, "no")] * 9
    async with client_of(relay, monkeypatch) as client:
        await trio.sleep(0.5)
    assert trio.current_time() == pytest.approx(0.5)
    with pytest.raises(trio.ClosedResourceError):
        await client.wait_connected()


async def test_a_cancelled_block_says_goodbye_too(monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock) -> None:
    relay = ScriptedRelay(stay)
    async with relay.over_memory(monkeypatch) as url:
        with trio.move_on_after(5) as scope:
            async with open_relay_client(url, "pwa", "alice123") as client:
                await client.wait_connected()
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert relay.peers[0].connection.close_code == 1000


async def test_a_server_that_ignores_the_goodbye_is_left_in_time(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async def deaf(peer: ScriptedPeer) -> None:
        await peer.accept()
        await trio.sleep_forever()

    async with client_of(ScriptedRelay(deaf), monkeypatch) as client:
        await client.wait_connected()
        began = trio.current_time()
        await client.aclose()
        assert trio.current_time() - began <= 2


async def test_a_goodbye_is_not_cut_short_by_what_still_arrives(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    still_there = []

    async def script(peer: ScriptedPeer) -> None:
        await peer.accept()
        for number in range(3):
            await trio.sleep(0.1)
            await peer.send(routed(number))
            still_there.append(number)
        await peer.until_end()

    relay = ScriptedRelay(script)
    async with client_of(relay, monkeypatch) as client:
        await client.wait_connected()
        await client.aclose()
        assert still_there == [0, 1, 2]
        assert relay.peers[0].connection.close_code == 1000
