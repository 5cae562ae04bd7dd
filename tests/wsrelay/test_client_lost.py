"""A relay client that answers from the loop that receives, when both queues are full and the connection is lost."""

from __future__ import annotations

import runpy

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.documents import EXAMPLES
from tests.wsrelay.scripted_server import (
    BOB,
    OWN,
    Recorder,
    Script,
    ScriptedPeer,
    ScriptedRelay,
    client_of,
    collect,
    encoded,
    message,
    routed,
    stay,
    telling,
)
from trio_relay.limits import Limits
from trio_relay.wsrelay.client import RelayClient, open_relay_client
from trio_relay.wsrelay.client.events import Connected, Disconnected
from trio_relay.wsrelay.client.session import Session

FULL = {"queue_messages": 2, "inbox_messages": 2}


def flooding(number: int) -> Script:
    """Takes the client in, and sends it so many messages, which it has in one read."""

    async def script(peer: ScriptedPeer) -> None:
        await peer.accept()
        await peer.connection.send([encoded(routed(each)) for each in range(number)], text=True, each=True)
        await trio.sleep_forever()

    return script


def stall(patch: pytest.MonkeyPatch, connections: int, *, fails: bool) -> None:
    """The first connections take no message; writing fails after a second, or never ends."""
    write, stalled = Session._write_messages, list[Session]()

    async def stuck(self: Session, batch: list[bytes]) -> None:
        if self not in stalled and len(stalled) < connections:
            stalled.append(self)
        if self not in stalled:
            await write(self, batch)
        elif fails:
            await trio.sleep(1)
            raise trio.BrokenResourceError("the connection broke")
        else:
            await trio.sleep_forever()

    patch.setattr(Session, "_write_messages", stuck)


async def answer(client: RelayClient) -> None:
    async for received in client:
        await client.send(received.sender, received.payload)


@pytest.mark.parametrize(
    ("fails", "reason", "after"),
    [(True, "the connection broke", 1 + 2), (False, "the server took nothing for 85 s, while the inbox was full", 85)],
)
async def test_who_answers_from_the_loop_that_receives_is_connected_again(
    fails: bool, reason: str, after: float, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    stall(monkeypatch, 1, fails=fails)
    server = Recorder()
    relay = ScriptedRelay(flooding(9), server)
    async with client_of(relay, monkeypatch, **FULL) as client, trio.open_nursery() as nursery:
        nursery.start_soon(answer, client)
        with trio.fail_after(500):
            events = await collect(client, 3)
        assert isinstance(events[1], Disconnected)
        assert (events[0], events[1].reason, events[2]) == (Connected(), reason, Connected())
        assert after <= relay.attempts[1] - 1 <= after + 75 / 2 * (not fails)
        await wait_all_tasks_blocked()
        assert server.heard == [[message(number) for number in range(9)]]
        counts = client.statistics().counts
        # Three were taken, two were in the inbox.
        assert (counts["received"], counts["inbox_exceeded"], counts.get("server_silent", 0)) == (9, 4, int(not fails))
        await client.aclose()


async def test_who_waits_in_send_is_told_where_that_is_wanted(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    stall(monkeypatch, 1, fails=True)
    relay = ScriptedRelay(flooding(9), stay)
    async with client_of(relay, monkeypatch, **FULL, when_disconnected="raise") as client:
        await client.wait_connected()
        with trio.fail_after(10), pytest.raises(trio.BrokenResourceError, match="not connected"):
            await answer(client)
        assert [(await client.receive()).payload for _ in range(6)] == [3, 4, 5, 6, 7, 8]
        assert client.statistics().counts["unsent_disconnected"] == 2


async def test_an_inbox_is_exceeded_by_one_read_at_most(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    stall(monkeypatch, 2, fails=True)
    relay = ScriptedRelay(flooding(9), flooding(5), stay)
    async with client_of(relay, monkeypatch, **FULL) as client:
        await client.send(BOB, 1)
        with trio.fail_after(500):
            await collect(client, 5)
        counts, sizes = client.statistics().counts, client.statistics().sizes
        assert (counts["disconnected"], counts["received"], counts["inbox_exceeded"]) == (2, 9, 7)
        assert (counts["received_at_end"], sizes["inbox_messages"]) == (5, 9)
        assert [(await client.receive()).payload for _ in range(9)] == list(range(9))


async def test_a_server_that_takes_little_is_not_left(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    write = Session._write_messages

    async def slowly(self: Session, batch: list[bytes]) -> None:
        await trio.sleep(60)
        await write(self, batch)

    monkeypatch.setattr(Session, "_write_messages", slowly)
    relay = ScriptedRelay(telling(*map(routed, range(9))))
    async with client_of(relay, monkeypatch, queue_messages=1, inbox_messages=1) as client:
        for number in range(10):
            await client.send(BOB, number)
        assert trio.current_time() >= 9 * 60
        assert client.connected
        assert len(relay.attempts) == 1
        assert client.statistics().counts["received"] == 1


async def test_a_server_that_floods_and_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over sockets: both directions are full when it resets the connection."""
    monkeypatch.setattr("trio_relay.wsrelay.client.client._LIMITS", Limits(close_timeout=0.1))
    batch = [encoded(routed("y" * 1000))] * 100
    heard = trio.Event()

    async def flood(peer: ScriptedPeer) -> None:
        await peer.accept()
        while True:
            with trio.move_on_after(0.2) as blocked:
                await peer.connection.send(batch, text=True, each=True)
            if blocked.cancelled_caught:
                return

    async def listen(peer: ScriptedPeer) -> None:
        await peer.accept()
        assert (await peer.receive())["to"] == BOB
        heard.set()
        await peer.until_end()

    async def echo(client: RelayClient) -> None:
        async for received in client:
            await client.send(received.sender, "r" * 4000)

    with trio.fail_after(10):
        async with (
            ScriptedRelay(flood, listen).over_sockets() as url,
            open_relay_client(url, "pwa", "alice123", random=lambda: 0.01, inbox_messages=64) as client,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(echo, client)
            await heard.wait()
            assert client.statistics().counts["disconnected"] == 1
            nursery.cancel_scope.cancel()


# Room in the outbox


async def test_who_waits_for_room_is_not_overtaken(monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock) -> None:
    relay = ScriptedRelay(stay)
    relay.refused = [OSError(111, "no")] * 99
    async with client_of(relay, monkeypatch, queue_bytes=1000) as client, trio.open_nursery() as nursery:
        outbox = client._desk.outbox
        for _ in range(3):
            client.send_nowait(BOB, "x" * 250)
        nursery.start_soon(client.send, BOB, "large" * 180)
        await wait_all_tasks_blocked()
        nursery.start_soon(client.send, BOB, "small")
        await wait_all_tasks_blocked()
        outbox.remove(1)
        await wait_all_tasks_blocked()
        assert len(outbox) == 2
        assert outbox.has_room(100)
        with pytest.raises(trio.WouldBlock):
            client.send_nowait(BOB, "small")
        outbox.remove(2)
        await wait_all_tasks_blocked()
        assert [frame.count(b"large") for frame in outbox.batch()] == [180]
        outbox.remove(1)
        await wait_all_tasks_blocked()
        assert [b"small" in frame for frame in outbox.batch()] == [True]
        client.send_nowait(BOB, "x")
        outbox.remove(2)


async def test_who_gave_up_waiting_holds_up_nobody(monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock) -> None:
    relay = ScriptedRelay(stay)
    relay.refused = [OSError(111, "no")] * 99
    async with client_of(relay, monkeypatch, queue_messages=1) as client:
        client.send_nowait(BOB, 1)
        with trio.move_on_after(0.1) as waiting:
            await client.send(BOB, 2)
        assert waiting.cancelled_caught
        client._desk.outbox.remove(1)
        client.send_nowait(BOB, 3)
        assert client.statistics().sizes["outbox_messages"] == 1
        client._desk.outbox.remove(1)


# What was received need not be sendable


async def test_the_loop_of_the_example_goes_on(monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock) -> None:
    (path,) = (path for path in EXAMPLES if path.name == "relay_client.py")
    loop = runpy.run_path(str(path))["answer"]
    heard: list[object] = []

    async def script(peer: ScriptedPeer) -> None:
        await peer.accept()
        for payload in ("1e999", "9" * 5000, "[" * 63 + "]" * 63, '"' + "x" * 900 + '"', "1"):
            await peer.send(f'{{"from":"{BOB}","to":"{OWN}","payload":{payload}}}')
        heard.append(await peer.receive())

    async with (
        client_of(ScriptedRelay(script, stay), monkeypatch, queue_bytes=900) as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(loop, client)
        with trio.fail_after(500):
            await collect(client, 2)
        await client.aclose()
    assert heard == [message({"you said": 1})]
