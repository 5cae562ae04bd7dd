"""Messages of a relay client: queues, backpressure, what survives a connection."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.wsrelay.scripted_server import (
    BOB,
    OWN,
    Recorder,
    ScriptedPeer,
    ScriptedRelay,
    client_of,
    collect,
    message,
    routed,
    status_frame,
    stay,
    telling,
    watch,
)
from trio_relay.exceptions import LocalProtocolError, PayloadTooLarge
from trio_relay.wsrelay.client import RelayMessage
from trio_relay.wsrelay.client.desk import Outbox
from trio_relay.wsrelay.client.events import (
    Connected,
    Disconnected,
)

# Receiving


@pytest.mark.parametrize("binary", [False, True])
async def test_messages_arrive_from_text_and_binary_frames(
    binary: bool, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    envelope = {**routed({"ä": [1, None]}), "extra": True}
    async with client_of(ScriptedRelay(telling(envelope, binary=binary)), monkeypatch) as client:
        assert await client.receive() == RelayMessage(BOB, {"ä": [1, None]}, envelope)


async def test_no_peer_speaks_in_the_server_s_name(monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock) -> None:
    spoofed = [
        {**routed({"code": "REPLACED", "message": "words"}), "type": "error"},
        {**routed({"code": "INVALID_KEY", "message": "words"}), "type": "error"},
        {**routed({"address": "pwa:carol", "online": True}), "type": "peer-status"},
        {**routed({"address": OWN, "online": False}), "type": "peer-status"},
    ]
    async with client_of(ScriptedRelay(telling(*spoofed)), monkeypatch) as client:
        await client.watch("pwa:carol")
        async with client.events() as events:
            assert [(await client.receive()).envelope for _ in spoofed] == spoofed
            await client.aclose()
            assert [event async for event in events] == [Connected()]
        assert client.presence == {"pwa:carol": None}


async def test_frames_that_say_nothing_are_counted(monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock) -> None:
    frames = ["{", b"\xff", "null", "[1]", {"type": "error"}, {"type": "welcome"}, status_frame("pwa:x", True)]
    async with client_of(ScriptedRelay(telling(*frames, routed(1))), monkeypatch) as client:
        assert (await client.receive()).payload == 1
        counts = client.statistics().counts
        assert (counts["frames_not_json"], counts["frames_unknown"], counts["status_not_watched"]) == (2, 4, 1)


@pytest.mark.parametrize("bounds", [{"inbox_messages": 10}, {"inbox_bytes": 1000}])
async def test_a_full_inbox_stops_the_reading_and_loses_nothing(
    bounds: dict[str, int], monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async def script(peer: ScriptedPeer) -> None:
        await peer.accept()
        await peer.send(*map(routed, range(200)))
        await peer.refuse("INVALID_KEY")

    async with client_of(ScriptedRelay(script), monkeypatch, **bounds) as client:
        await client.wait_connected()
        await wait_all_tasks_blocked()
        sizes = client.statistics().sizes
        assert 9 <= sizes["inbox_messages"] <= 16
        assert sizes["inbox_bytes"] <= 1000
        assert client.connected
        assert [(await client.receive()).payload for _ in range(200)] == list(range(200))
        assert client.statistics().counts["inbox_full"] > 0
        assert client.statistics().counts["received"] == 200
        with pytest.raises(Exception, match="INVALID_KEY"):
            await client.receive()


async def test_a_message_larger_than_the_inbox_comes_alone(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    script = telling(routed(1), routed("x" * 500), routed(2))
    async with client_of(ScriptedRelay(script), monkeypatch, inbox_bytes=100) as client:
        assert [(await client.receive()).payload for _ in range(3)] == [1, "x" * 500, 2]


async def test_what_was_received_can_be_taken_after_the_end(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async def script(peer: ScriptedPeer) -> None:
        await peer.accept()
        await peer.connection.send([json.dumps(routed(number)).encode() for number in range(9)], text=True, each=True)
        await peer.until_end()

    async with client_of(ScriptedRelay(script), monkeypatch, inbox_messages=4) as client:
        await client.wait_connected()
        await wait_all_tasks_blocked()
        await client.aclose()
        assert [message.payload async for message in client] == [0, 1, 2, 3]
        await wait_all_tasks_blocked()
        assert client.statistics().counts["received_at_end"] == 5


# Sending


async def test_messages_leave_in_order(monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock) -> None:
    server = Recorder()
    async with client_of(ScriptedRelay(server), monkeypatch) as client:
        for number in range(1000):
            await client.send(BOB, number)
    assert server.heard == [[message(number) for number in range(1000)]]
    assert client.statistics().counts["sent"] == 1000


async def test_nothing_leaves_before_the_server_has_taken_the_client_in(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    server = Recorder()

    async def refuse(peer: ScriptedPeer) -> None:
        await trio.sleep(0.5)
        await peer.refuse("ID_IN_USE")
        assert [await peer.receive() for _ in range(2)] == [watch(OWN), None]

    async with client_of(ScriptedRelay(refuse, server), monkeypatch) as client:
        await client.send(BOB, "kept")
        await client.watch(BOB)
        await client.wait_connected()
    assert server.heard == [[watch(BOB), message("kept")]]


async def test_messages_wait_for_the_next_connection(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    server = Recorder(ends_after=2)
    async with client_of(ScriptedRelay(server, server), monkeypatch, queue_messages=3) as client:
        for number in range(2):
            await client.send(BOB, number)
        assert isinstance((await collect(client, 2))[1], Disconnected)
        for number in range(2, 5):
            client.send_nowait(BOB, number)
        with pytest.raises(trio.WouldBlock):
            client.send_nowait(BOB, "no room")
        with trio.move_on_after(0.5) as waiting:
            await client.send(BOB, "no room")
        assert waiting.cancelled_caught
        await client.send(BOB, 5)
        await wait_all_tasks_blocked()
    assert server.heard[0] == [message(0), message(1)]
    assert server.heard[1] == [message(2), message(3)]
    assert server.heard[2:] in ([], [[]])


async def test_the_queue_is_bounded_by_bytes(monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock) -> None:
    relay = ScriptedRelay(stay)
    relay.refused = [OSError(111, "no")] * 99
    async with client_of(relay, monkeypatch, queue_bytes=1000) as client:
        for _ in range(9):
            client.send_nowait(BOB, "x" * 50)
        with pytest.raises(trio.WouldBlock):
            client.send_nowait(BOB, "x" * 50)
        sizes = client.statistics().sizes
        assert sizes["outbox_messages"] == 9
        assert 880 < sizes["outbox_bytes"] <= 1000
        began = trio.current_time()
        await client.aclose()
        assert trio.current_time() - began == pytest.approx(2.0)
        assert client.statistics().counts["unsent_at_end"] == 9


def test_messages_are_written_together_up_to_a_size() -> None:
    outbox = Outbox(100, 1 << 20)
    for size in (100_000, 30_000, 30_000, 30_000, 1):
        outbox.put(bytes(size))
    batches = []
    while outbox:
        batches.append([len(frame) for frame in outbox.batch()])
        outbox.remove(len(batches[-1]))
    assert batches == [[100_000], [30_000, 30_000], [30_000, 1]]
    assert outbox.bytes == 0


async def test_closing_lets_waiting_messages_leave(monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock) -> None:
    server = Recorder()
    async with client_of(ScriptedRelay(server), monkeypatch) as client:
        await client.send(BOB, "at once closed")
    assert server.heard == [[message("at once closed")]]


async def test_raising_while_disconnected(monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock) -> None:
    server = Recorder(ends_after=1)
    async with client_of(ScriptedRelay(server), monkeypatch, when_disconnected="raise") as client:
        for call in (client.send, async_of(client.send_nowait)):
            with pytest.raises(trio.BrokenResourceError, match="not connected"):
                await call(BOB, 1)
        await client.wait_connected()
        await client.send(BOB, 2)
        assert isinstance((await collect(client, 1))[0], Disconnected)
        with pytest.raises(trio.BrokenResourceError, match="not connected"):
            await client.send(BOB, 3)
        await client.wait_connected()
        await client.send(BOB, 4)
    assert server.heard[:2] == [[message(2)], [message(4)]]


def async_of(function: Callable[[str, int], None]) -> Callable[[str, int], Awaitable[None]]:
    async def call(to: str, payload: int) -> None:
        function(to, payload)

    return call


async def test_raising_reaches_who_waits_for_room(monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock) -> None:
    async def end(peer: ScriptedPeer) -> None:
        await peer.accept()
        await trio.sleep(1)

    async def stuck(self: object, batch: list[bytes]) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr("trio_relay.wsrelay.client.session.Session._write_messages", stuck)
    async with client_of(ScriptedRelay(end), monkeypatch, when_disconnected="raise", queue_messages=2) as client:
        await client.wait_connected()
        for number in range(2):
            await client.send(BOB, number)
        with pytest.raises(trio.BrokenResourceError, match="not connected"):
            await client.send(BOB, 2)
        assert trio.current_time() == pytest.approx(1)
        assert client.statistics().counts["unsent_disconnected"] == 2


@pytest.mark.parametrize("bounds", [{"max_message": 100}, {"queue_bytes": 100}])
async def test_messages_that_are_too_large(
    bounds: dict[str, int], monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    server = Recorder()
    fits = 100 - len('{"from":"pwa:alice123","to":"pwa:bobbobbob","payload":""}')
    async with client_of(ScriptedRelay(server), monkeypatch, **bounds) as client:
        await client.send(BOB, "x" * fits)
        with pytest.raises(PayloadTooLarge, match="at most 100 bytes with its envelope, not 101"):
            await client.send(BOB, "x" * (fits + 1))
    assert server.heard == [[message("x" * fits)]]


@pytest.mark.parametrize("payload", [b"bytes", {1: 2}, float("nan"), object()])
async def test_payloads_that_are_no_json(
    payload: Any, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async with client_of(ScriptedRelay(stay), monkeypatch) as client:
        with pytest.raises(LocalProtocolError):
            await client.send(BOB, payload)
        with pytest.raises(LocalProtocolError):
            client.send_nowait("bob", 1)


async def test_calls_are_points_of_cancellation(monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock) -> None:
    async def cancelled(call: Callable[[], Awaitable[object]]) -> bool:
        with trio.CancelScope() as scope:
            scope.cancel()
            await call()
        return scope.cancelled_caught

    async with client_of(ScriptedRelay(telling(routed(1))), monkeypatch) as client:
        await client.wait_connected()
        await wait_all_tasks_blocked()
        assert await cancelled(lambda: client.send(BOB, 1))
        assert await cancelled(client.receive)
        assert await cancelled(client.wait_connected)
        assert await cancelled(lambda: client.watch(BOB))
        assert (await client.receive()).payload == 1
        assert client.statistics().counts.get("sent", 0) == 0
