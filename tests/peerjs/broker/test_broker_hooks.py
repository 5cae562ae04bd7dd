"""The application's functions inside a broker."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import trio

from trio_relay.peerjs.broker.hooks import BrokerClient, BrokerHooks, Registration

from .support import brokering, eventually, message


def error(text: str) -> str:
    return json.dumps({"type": "ERROR", "payload": {"msg": text}}, separators=(",", ":"))


@pytest.mark.parametrize(
    ("verdict", "frame", "counter"),
    [
        (False, error("Not allowed"), "refused_by_hook"),
        ("Who are you?", error("Who are you?"), "refused_by_hook"),
        (LookupError("no such database"), error("Internal error"), "hook_failed"),
        (7, error("Internal error"), "authenticate_failed"),
    ],
)
async def test_the_application_refuses_a_client(verdict: object, frame: str, counter: str) -> None:
    def authenticate(who: Registration) -> Any:
        if isinstance(verdict, Exception):
            raise verdict
        return verdict

    async with brokering(hooks=BrokerHooks(authenticate=authenticate)) as running:
        client = await running.connect("alice")
        assert (await client.close_frame())[0] == [frame]
        assert running.counts(counter) == 1
        assert list(running.broker.clients) == []


@pytest.mark.parametrize("verdict", [None, True])
async def test_the_application_lets_a_client_in(verdict: bool | None) -> None:
    seen: list[Registration] = []

    async def authenticate(who: Registration) -> bool | None:
        seen.append(who)
        return verdict

    async with brokering(hooks=BrokerHooks(authenticate=authenticate)) as running:
        await running.join("alice", "secret", more="&room=7")
        (who,) = seen
        assert (who.id, who.token, who.ip) == ("alice", "secret", "127.0.0.1")
        assert who.request.query.endswith("&room=7")
        assert "secret" not in repr(who)


async def test_who_is_refused_learns_nothing_about_ids_and_is_asked_after_the_key() -> None:
    def authenticate(who: Registration) -> bool:
        return who.token == "secret"

    async with brokering(hooks=BrokerHooks(authenticate=authenticate)) as running:
        alice = await running.join("alice", "secret")
        assert (await (await running.connect("alice", "guess")).close_frame())[0] == [error("Not allowed")]
        wrong = await running.connect("alice", "guess", key="wrong")
        assert (await wrong.close_frame())[0] == [error("Invalid key provided")]
        assert await alice.settle() == []


async def test_of_two_that_are_asked_about_at_once_one_gets_the_id() -> None:
    asked, decide = list[str](), trio.Event()

    async def authenticate(who: Registration) -> None:
        asked.append(who.token)
        await decide.wait()

    async with brokering(hooks=BrokerHooks(authenticate=authenticate)) as running:
        clients = [await running.connect("alice", token) for token in ("one", "two")]
        await eventually(lambda: len(asked) == 2, "both are asked about")
        decide.set()
        frames = sorted([await client.text() for client in clients])
        assert frames[0].startswith('{"type":"ID-TAKEN"')
        assert frames[1] == '{"type":"OPEN"}'


async def test_a_decision_has_a_deadline(autojump_clock: trio.testing.MockClock) -> None:
    async def authenticate(who: Registration) -> None:
        await trio.sleep_forever()

    async with brokering(memory=True, hook_timeout=3, hooks=BrokerHooks(authenticate=authenticate)) as running:
        client = await running.connect("alice")
        assert (await client.close_frame())[0] == [error("Internal error")]
        assert trio.current_time() >= 3


async def test_events_of_the_original() -> None:
    seen: list[Any] = []

    async def on_message(client: BrokerClient, type: str, dst: str | None, payload: Any) -> None:
        seen.append((client.id, type, dst, payload))

    hooks = BrokerHooks(
        on_connection=lambda client: seen.append(("connection", client.id, client.ip)),
        on_disconnect=lambda client: seen.append(("disconnect", client.id)),
        on_message=on_message,
        on_error=lambda text: seen.append(("error", text.split(",")[0])),
    )
    async with brokering(hooks=hooks) as running:
        await running.join("alice", "secret")
        alice = await running.join("alice", "secret")
        frames = [message("HEARTBEAT"), message("OFFER", "alice", {"a": [1]}), message("OTHER", "bob"), "x", "[]"]
        await alice.send(*frames)
        assert await alice.receive() == {"type": "OFFER", "src": "alice", "dst": "alice", "payload": {"a": [1]}}
        await eventually(lambda: ("alice", "", None, None) in seen, "the last frame is dealt with")
        await alice.leave()
        await eventually(lambda: ("disconnect", "alice") in seen, "the end is told of")
    assert [each for each in seen if each[0] != "error"] == [
        ("connection", "alice", "127.0.0.1"),
        ("connection", "alice", "127.0.0.1"),
        ("alice", "HEARTBEAT", None, None),
        ("alice", "OFFER", "alice", {"a": [1]}),
        ("alice", "OTHER", "bob", None),
        ("alice", "", None, None),
        ("disconnect", "alice"),
    ]
    assert len([each for each in seen if each[0] == "error"]) == 1


async def test_a_hook_that_fails_costs_what_it_was_called_for() -> None:
    def on_message(client: BrokerClient, type: str, dst: str | None, payload: Any) -> None:
        if payload == "bad":
            raise LookupError

    def on_connection(client: BrokerClient) -> None:
        if client.id == "bad":
            raise LookupError

    hooks = BrokerHooks(on_message=on_message, on_connection=on_connection, on_error=lambda text: 1 / 0)
    async with brokering(hooks=hooks) as running:
        alice = await running.join("alice")
        too_long_to_show = f'{{"type":"OFFER","dst":"alice","payload":[1e400{",0" * 60_000}]}}'
        await alice.send(message("OFFER", "alice", "bad"), too_long_to_show)
        await alice.send(message("OFFER", "alice", "good"), "nonsense")
        assert (await alice.receive())["payload"] == "good"
        bad = await running.join("bad")
        assert (await bad.close_frame())[0] == []
        assert await alice.settle() == []
        assert list(running.broker.clients) == ["alice"]
        assert running.counts("hook_failed") == 3


async def test_options_change_while_clients_stay(autojump_clock: trio.testing.MockClock) -> None:
    seen: list[str] = []
    async with brokering(memory=True, expire_timeout=100, queue_messages=2) as running:
        broker, alice = running.broker, await running.join("alice")
        await alice.send(message("OFFER", "bob", 1))
        assert await alice.settle() == []
        changes: dict[str, Any] = {
            "concurrent_limit": 2,
            "expire_timeout": 5,
            "cleanup_interval": 0.5,
            "alive_timeout": 20,
            "queue_messages": 8,
            "max_id": 5,
            "max_connections_per_ip": 3,
            "slow_bytes": 1000,
            "slow_messages": 7,
            "allow_discovery": True,
            "generate_client_id": lambda: "new",
            "cors_origins": ["http://a.test"],
            "hooks": BrokerHooks(on_error=seen.append, authenticate=lambda who: who.id != "eve"),
        }
        broker.configure(replace(broker.config, **changes))
        assert broker.config.max_id == 5
        await alice.send("nonsense", message("OFFER", "bob", 2), message("OFFER", "bob", 3), message("OFFER", "longer"))
        assert json.loads(await alice.text())["src"] == "longer"
        assert len(seen) == 1
        assert (await running.ask("/peerjs/peers"))[2] == '["alice"]'
        assert (await running.ask("/peerjs/id"))[2] == "new"
        assert "access-control-allow-origin" not in (await running.ask("/peerjs/id", Origin="http://b.test"))[1]
        for id, frame in (("longer", error("The id or token is too long")), ("eve", error("Not allowed"))):
            assert (await (await running.connect(id)).close_frame())[0] == [frame]
        rules = broker._core._rules
        assert (rules.most_bytes, rules.most_messages) == (1000, 7)
        assert await alice.text() == '{"type":"EXPIRE","src":"bob","dst":"alice"}'
        assert trio.current_time() < 7
        await running.join("bob")
        assert (await (await running.connect("c")).close_frame())[0] == [
            error("Server has reached its concurrent user limit")
        ]
        _, more = [await running.connect(id) for id in ("d", "e")]
        assert (await more.close_frame())[0] == [error("Too many connections from this address")]
        await trio.sleep(91)
        assert (list(broker.clients), running.counts("heartbeat_lost")) == ([], 2)


@pytest.mark.parametrize("change", [{"key": "k"}, {"path": "/x"}, {"relayed": None}, {"max_message": 7}])
async def test_what_can_not_be_changed_is_an_error(change: dict[str, Any]) -> None:
    async with brokering(memory=True) as running:
        with pytest.raises(ValueError, match=f"expected the {next(iter(change))} that the broker was started with"):
            running.broker.configure(replace(running.broker.config, max_id=7, **change))
        assert running.broker.config.max_id == 256
