"""Being taken in by a relay server, or refused. Memory streams and a mock clock."""

from __future__ import annotations

import traceback
from typing import Any

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
    error_frame,
    refusing,
    routed,
    status_frame,
    stay,
    waits,
)
from trio_relay.exceptions import HandshakeError
from trio_relay.wsrelay.client import RelayRefused, RelayReplaced, open_relay_client
from trio_relay.wsrelay.client.events import Connected, ConnectFailed, Disconnected, ServerError

SECRET = "secret-key-of-mine"


# Being taken in


async def test_a_client_is_connected_when_the_server_has_taken_it_in(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async def slow(peer: ScriptedPeer) -> None:
        assert await peer.receive() == {"type": "watch", "address": OWN}
        await trio.sleep(0.5)
        await peer.send(status_frame(OWN, True))
        await peer.until_end()

    relay = ScriptedRelay(slow)
    async with client_of(relay, monkeypatch) as client:
        assert (client.channel, client.id, client.address) == ("pwa", "alice123", OWN)
        assert not client.statistics().connected
        assert await collect(client, 1) == [Connected()]
        assert client.connected
        assert trio.current_time() == pytest.approx(0.5)
        await client.wait_connected()
        assert relay.peers[0].path == "/pwa/alice123"
        assert client.statistics().connected


async def test_a_message_shows_that_the_server_has_taken_it_in(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async def script(peer: ScriptedPeer) -> None:
        await peer.send(routed(1))
        await peer.until_end()

    async with client_of(ScriptedRelay(script), monkeypatch) as client:
        await client.wait_connected()
        assert trio.current_time() == 0
        assert (await client.receive()).payload == 1


@pytest.mark.parametrize("code", ["WATCH_DENIED", "TOO_MANY_WATCHES"])
async def test_a_server_that_refuses_the_question_has_taken_it_in(
    code: str, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async def script(peer: ScriptedPeer) -> None:
        await peer.receive()
        await peer.send(error_frame(code))
        await peer.until_end()

    async with client_of(ScriptedRelay(script), monkeypatch) as client:
        assert await collect(client, 1) == [Connected()]
        assert trio.current_time() == 0


async def test_a_server_that_loses_the_question_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async def script(peer: ScriptedPeer) -> None:
        for _ in range(2):
            assert await peer.receive() == {"type": "watch", "address": OWN}
        await stay(peer)

    async with client_of(ScriptedRelay(script), monkeypatch) as client:
        await client.wait_connected()
        assert trio.current_time() == pytest.approx(3.0)


async def test_a_server_that_never_answers_is_believed_after_a_while(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async with client_of(ScriptedRelay(ScriptedPeer.until_end), monkeypatch, connect_timeout=4) as client:
        await client.wait_connected()
        assert trio.current_time() == pytest.approx(4.0)
        assert client.statistics().counts["accept_unconfirmed"] == 1


# Refusals


@pytest.mark.parametrize(
    ("code", "close_code"), [("INVALID_KEY", 1008), ("INVALID_URL", 1002), ("VERIFY_FAILED", 1008), ("BANNED", 4003)]
)
async def test_a_refusal_for_good_stops_the_client(
    code: str, close_code: int, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    relay = ScriptedRelay(refusing(code, close_code))
    async with client_of(relay, monkeypatch, key=SECRET) as client:
        async with client.events() as events:
            with pytest.raises(RelayRefused) as caught:
                await client.wait_connected()
            assert [event async for event in events] == [
                ServerError(code, "words"),
                ConnectFailed("words", close_code, None),
            ]
        assert (caught.value.code, caught.value.reason) == (code, "words")
        for call in (client.receive, lambda: client.send(OWN, 1), lambda: client.watch(OWN)):
            with pytest.raises(RelayRefused, match=code):
                await call()
        with pytest.raises(RelayRefused, match=code):
            client.send_nowait(OWN, 1)
        with pytest.raises(RelayRefused, match=code):
            async for _ in client:
                pass
        await trio.sleep(1000)
        assert len(relay.attempts) == 1
        assert relay.peers[0].path.endswith(f"?key={SECRET}")
        assert SECRET not in f"{client!r} {client.statistics()} {''.join(traceback.format_exception(caught.value))}"


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_upgrade_stops_the_client(
    status: int, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    relay = ScriptedRelay()
    relay.refused = [HandshakeError(f"expected 101 switching protocols, not {status}", status)]
    async with client_of(relay, monkeypatch) as client:
        with pytest.raises(RelayRefused, match=f"HTTP_{status}"):
            await client.wait_connected()


async def test_a_replaced_client_does_not_come_back(monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock) -> None:
    relay = ScriptedRelay(refusing("REPLACED", 1000, accept=True))
    async with client_of(relay, monkeypatch) as client:
        with pytest.raises(RelayReplaced, match="took over this client's address: REPLACED words"):
            await client.receive()
        await trio.sleep(1000)
        assert len(relay.attempts) == 1
        assert not client.connected


async def test_a_client_that_may_not_send_under_its_address_stops(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async def script(peer: ScriptedPeer) -> None:
        await peer.accept()
        await peer.send(error_frame("INVALID_FROM"))
        await peer.until_end()

    relay = ScriptedRelay(script)
    async with client_of(relay, monkeypatch) as client:
        with pytest.raises(RelayRefused, match="INVALID_FROM words"):
            await client.receive()
        await trio.sleep(1000)
        assert len(relay.attempts) == 1
        assert relay.peers[0].connection.close_code == 1000


async def test_a_server_that_knows_the_client_under_another_address(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async def script(peer: ScriptedPeer) -> None:
        await peer.receive()
        await peer.send(status_frame(OWN, False))
        await peer.until_end()

    relay = ScriptedRelay(script)
    async with client_of(relay, monkeypatch) as client:
        with pytest.raises(RelayRefused, match="ADDRESS_UNKNOWN the server says that pwa:alice123"):
            await client.wait_connected()
        assert waits(relay) == pytest.approx([1.0, 2.0])


async def test_a_server_that_forgets_the_client_is_dialled_again(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async def forget(peer: ScriptedPeer) -> None:
        await peer.accept()
        await peer.send(status_frame(OWN, False))
        await peer.until_end()

    relay = ScriptedRelay(forget, forget, forget, forget, stay)
    async with client_of(relay, monkeypatch) as client:
        events = await collect(client, 9)
        assert events[::2] == [Connected()] * 5
        assert all(isinstance(event, Disconnected) for event in events[1::2])
        assert client.connected


async def test_a_bad_key_never_shows() -> None:
    with pytest.raises(ValueError, match="expected an access key of 8 to 64") as caught:
        async with open_relay_client(URL, "pwa", "alice123", key=SECRET + "!"):
            pass
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"max_reconnect_delay": 0},
        {"idle_timeout": -1},
        {"queue_bytes": 0},
        {"event_buffer": 0},
        {"stable_after": 0},
        {"when_disconnected": "drop"},
    ],
)
async def test_unusable_arguments(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        async with open_relay_client(URL, "pwa", "alice123", **options):
            pass


@pytest.mark.parametrize("name", ["max_reconnect_delay", "stable_after", "connect_timeout", "idle_timeout"])
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
async def test_times_are_finite(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"expected a finite {name}, not"):
        async with open_relay_client(URL, "pwa", "alice123", **{name: value}):  # type: ignore[arg-type]
            pass


@pytest.mark.parametrize(
    "options",
    [
        {"max_message": 1e6},
        {"queue_messages": "9"},
        {"queue_bytes": 2.0},
        {"inbox_messages": True},
        {"inbox_bytes": None},
        {"event_buffer": float("inf")},
        {"connect_timeout": "10"},
        {"idle_timeout": True},
        {"ssl_context": True},
    ],
)
async def test_arguments_of_another_type(options: dict[str, Any]) -> None:
    with pytest.raises(
        TypeError, match=rf"^expected an? .* as {next(iter(options))}, not |^expected an ssl.SSLContext"
    ):
        async with open_relay_client(URL, "pwa", "alice123", **options):
            pass


# Connections that are given up already


async def refuses_and_stays(peer: ScriptedPeer) -> None:
    await peer.send(error_frame("ID_IN_USE"))
    await trio.sleep_forever()


async def knows_nobody_and_stays(peer: ScriptedPeer) -> None:
    await peer.send(status_frame(OWN, False), routed("to somebody else"))
    await trio.sleep_forever()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (refuses_and_stays, "words"),
        (knows_nobody_and_stays, "is offline"),
    ],
)
async def test_a_connection_that_is_given_up_is_none(
    script: Script, words: str, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """The goodbye takes 0.5 s, longer than a server that does not answer is believed to think."""
    relay = ScriptedRelay(script)
    async with client_of(relay, monkeypatch, connect_timeout=0.2, reconnect=False) as client:
        with pytest.raises(trio.BrokenResourceError, match=words):
            await client.wait_connected()
        assert trio.current_time() < 1
        counts = client.statistics().counts
        assert ("connected" in counts, "accept_unconfirmed" in counts, counts["connect_failed"]) == (False, False, 1)


async def test_a_bad_key_without_a_close_frame_is_final(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async def script(peer: ScriptedPeer) -> None:
        await peer.send(error_frame("INVALID_KEY"))
        await peer.until_end()

    async with client_of(ScriptedRelay(script), monkeypatch, connect_timeout=0.2) as client:
        with pytest.raises(RelayRefused, match="INVALID_KEY"):
            await client.wait_connected()


async def test_while_it_says_goodbye_a_client_is_not_connected(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async def forget(peer: ScriptedPeer) -> None:
        await peer.accept()
        await peer.send(status_frame(OWN, False))
        await trio.sleep_forever()

    relay = ScriptedRelay(forget, stay)
    async with client_of(relay, monkeypatch) as client:
        await client.wait_connected()
        await trio.testing.wait_all_tasks_blocked()
        assert (client.connected, len(relay.attempts)) == (False, 1)
        await client.wait_connected()
        assert len(relay.attempts) == 2


async def test_a_server_s_words_are_escaped(monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock) -> None:
    async def end(peer: ScriptedPeer) -> None:
        await peer.accept()
        await peer.connection.aclose(1000, "a\x1b[2J\nb\u2028")

    async with client_of(ScriptedRelay(end), monkeypatch, reconnect=False) as client:
        disconnected = (await collect(client, 2))[1]
        assert isinstance(disconnected, Disconnected)
        assert disconnected.reason == r"a\x1b[2J\nb\u2028"
        with pytest.raises(trio.BrokenResourceError) as caught:
            await client.receive()
        assert str(caught.value) == disconnected.reason
