"""Code of the application that fails in unusual ways: it costs one client, one page or one key, and nothing else."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from trio_relay.limits import Limits
from trio_relay.wsrelay import Hooks, Refusal, RelayConfig, Request, Response

from .asking import ask, read_answer, request
from .support import ALICE, BOB, PATIENCE, Relaying, eventually, relaying, routed, target_of

KEYS = [f"key-0000{number}" for number in range(10)]


async def fail_when_cut_off(*arguments: object) -> Any:
    """As any client in a nursery of its own may."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("the clean-up failed")


class Store:
    """A key store made of one function."""

    def __init__(self, validate: Callable[[str], Any]) -> None:
        self.validate = validate


async def assert_others_are_served(relay: Relaying, query: str = "") -> None:
    bob = await relay.connect(target_of(BOB) + query)
    await bob.send(routed(BOB, BOB, 1))
    assert await bob.receive() == routed(BOB, BOB, 1)
    assert not relay.ended.is_set()


@pytest.mark.parametrize("early", [False, True])
async def test_a_key_store_that_fails_when_it_is_cut_off(early: bool) -> None:
    store = Store(lambda key: fail_when_cut_off() if key == KEYS[0] else True)
    options: dict[str, Any] = {"on_invalid_key": "reject-upgrade"} if early else {}
    async with relaying(key_store=store, verify_timeout=0.05, **options) as relay:
        if early:
            client = await relay._dial()
            await client.send_all(b"GET /pwa/alice123?key=%s HTTP/1.1\r\nHost: h\r\n" % KEYS[0].encode() + UPGRADE)
            assert (await client.receive_some()).startswith(b"HTTP/1.1 500 ")
        else:
            alice = await relay.raw(f"{target_of(ALICE)}?key={KEYS[0]}")
            assert (await alice.end())[1:] == (1011, "Internal verification error")
        await assert_others_are_served(relay, f"?key={KEYS[1]}")


UPGRADE = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


@pytest.mark.parametrize("name", ["verify_peer", "on_peer_connect"])
async def test_a_hook_that_fails_when_it_is_cut_off(name: str) -> None:
    async def hook(who: Any, *rest: object) -> None:
        if "alice" in repr(who):
            await fail_when_cut_off()

    async with relaying(hooks=Hooks(**{name: hook}), verify_timeout=0.05, hook_timeout=0.05) as relay:
        alice = await relay.raw(target_of(ALICE))
        assert (await alice.end())[1] == 1011
        await assert_others_are_served(relay)


@pytest.mark.parametrize("changes", [{"close_code": None}, {"close_code": 1005}, {"reason": 5}, {"error_code": None}])
async def test_a_refusal_that_can_not_be_sent(changes: dict[str, Any]) -> None:
    def verify(who: object) -> Refusal | None:
        return Refusal(**changes) if "alice" in repr(who) else None

    async with relaying(hooks=Hooks(verify_peer=verify)) as relay:
        alice = await relay.raw(target_of(ALICE))
        assert await alice.end() == ([], 1011, "Internal verification error")
        await assert_others_are_served(relay)


async def test_what_nobody_foresaw_ends_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async with relaying() as relay:
        admit = relay.relay._core.entrance.admit

        async def failing(connection: Any, request: Request, *rest: Any) -> Any:
            if "alice" in request.path:
                raise BaseExceptionGroup("several", [RuntimeError("a bug"), ExceptionGroup("more", [KeyError(1)])])
            return await admit(connection, request, *rest)

        monkeypatch.setattr(relay.relay._core.entrance, "admit", failing)
        alice = await relay.raw(target_of(ALICE))
        assert (await alice.end())[1] == 1006
        assert await relay.counts("connection_failed") == 1
        await assert_others_are_served(relay)
        assert relay.relay._core._present == 1


@pytest.mark.parametrize("body", ["text", ["list"], {}, None])
async def test_a_page_whose_body_is_no_bytes(body: Any) -> None:
    async with relaying(hooks=Hooks(on_http_request=lambda request: Response(200, body))) as relay:
        assert (await ask(relay, "GET", "/anything")).status == 500
        await assert_others_are_served(relay)


# Key stores


class Changing:
    """A store whose own task fails at first."""

    def __init__(self) -> None:
        self.changes = 0
        self.good = set(KEYS)
        self.started = 0
        self.changed = trio.Event()

    def validate(self, key: str) -> bool:
        return key in self.good

    async def watch(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        self.started += 1
        if self.started == 1:
            raise RuntimeError("no thread")
        await trio.sleep_forever()

    async def wait_change(self, seen: int) -> int:
        await self.changed.wait()
        self.changes += 1
        self.changed = trio.Event()
        return self.changes


async def test_a_store_whose_task_fails_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_relay.wsrelay.key_checks._RETRY", 0.01)
    store = Changing()
    async with relaying(key_store=store, key_check_interval=None) as relay:
        await eventually(lambda: store.started == 2, "it is started again")
        assert await relay.counts("key_store_failed") == 1
        alice = await relay.raw(f"{target_of(ALICE)}?key={KEYS[0]}")
        await assert_others_are_served(relay, f"?key={KEYS[1]}")
        store.good.remove(KEYS[0])
        store.changed.set()
        assert (await alice.end())[1:] == (1008, "Invalid key")


@pytest.mark.parametrize("bad", ["raises", "hangs"])
async def test_one_key_that_nobody_can_judge_keeps_no_other_from_being_revoked(bad: str) -> None:
    let_in = True

    async def validate(key: str) -> bool:
        if not let_in and key == KEYS[0]:
            if bad == "raises":
                raise OSError("no answer")
            await trio.sleep_forever()
        return let_in or key == KEYS[0]

    async with relaying(key_store=Store(validate), key_check_interval=0.05, verify_timeout=0.2) as relay:
        stays = await relay.connect(f"{target_of(ALICE)}?key={KEYS[0]}")
        await stays.settle()
        goes = await relay.raw(f"{target_of(BOB)}?key={KEYS[1]}")
        await eventually(lambda: len(relay.relay.registry) == 2, "both are in")
        let_in = False
        assert (await goes.end())[1:] == (1008, "Invalid key")
        await stays.send(routed(ALICE, ALICE, 1))
        assert await stays.receive() == routed(ALICE, ALICE, 1)


async def test_a_slow_store_is_asked_about_many_keys_at_once() -> None:
    asked = most = 0
    let_in = True

    async def validate(key: str) -> bool:
        nonlocal asked, most
        asked += 1
        most = max(most, asked)
        await trio.sleep(0.02)
        asked -= 1
        return let_in

    async with relaying(key_store=Store(validate), key_check_interval=None) as relay:
        for number, key in enumerate(KEYS):
            await relay.raw(f"/pwa/peer-{number:04}?key={key}")
        await eventually(lambda: len(relay.relay.registry) == 10, "all are in")
        most, let_in = 0, False
        await relay.relay.check_keys()
        assert most == 10
        await eventually(lambda: len(relay.relay.registry) == 0, "all are out")


async def test_a_shorter_interval_holds_at_once() -> None:
    good = set(KEYS)
    async with relaying(key_store=Store(good.__contains__), key_check_interval=3600.0) as relay:
        alice = await relay.raw(f"{target_of(ALICE)}?key={KEYS[0]}")
        await eventually(lambda: len(relay.relay.registry) == 1, "she is in")
        config = relay.relay._core.config
        relay.relay.configure(change(config, key_check_interval=0.02))
        good.clear()
        assert (await alice.end())[1:] == (1008, "Invalid key")


def change(config: RelayConfig, **changes: Any) -> RelayConfig:
    names = RelayConfig.__dataclass_fields__
    return RelayConfig(**{**{name: getattr(config, name) for name in names}, **changes})


async def test_no_key_is_logged_when_the_store_fails_of_it(caplog: pytest.LogCaptureFixture) -> None:
    nobody: dict[str, bool] = {}
    async with relaying(key_store=Store(lambda key: nobody[key])) as relay:
        alice = await relay.raw(f"{target_of(ALICE)}?key=the-secret-key")
        assert (await alice.end())[1] == 1011
        shown = "\n".join(logging.Formatter().format(record) for record in caplog.records)
        assert "the key store failed" in shown
        assert "KeyError: '***'" in shown
        assert "the-secret-key" not in shown
        assert "secret" not in repr(relay.relay.statistics())


async def test_keys_are_in_no_repr_of_statistics() -> None:
    async with relaying(key_store=Store(lambda key: True)) as relay:
        await assert_others_are_served(relay, "?key=the-secret-key")
        assert "the-secret-key" in relay.relay.statistics().keys
        assert "the-secret-key" not in repr(relay.relay.statistics())


# Rates


async def test_what_the_address_may_not_send_costs_its_key_nothing() -> None:
    rates: dict[str, Any] = {"max_message": 1000, "queue_bytes": 1000, "max_bytes_per_second_per_ip": 1.0}
    rates |= {"burst_bytes_per_ip": 1000.0, "max_bytes_per_second_per_key": 1.0, "burst_bytes_per_key": 1500.0}
    async with relaying(key_store=Store(lambda key: True), trusted_proxies=["127.0.0.1"], **rates) as relay:
        loud = await relay.connect(f"{target_of(ALICE)}?key={KEYS[0]}", [(b"X-Forwarded-For", b"192.0.2.1")])
        quiet = await relay.connect(f"{target_of(BOB)}?key={KEYS[0]}", [(b"X-Forwarded-For", b"192.0.2.2")])
        for _ in range(3):
            await loud.send(routed(ALICE, ALICE, "x" * 800))
        for _ in range(3):
            await loud.receive()
        await quiet.send(routed(BOB, BOB, "y" * 400))
        assert await quiet.receive() == routed(BOB, BOB, "y" * 400)


async def test_another_configuration_gives_no_new_burst() -> None:
    rates: dict[str, Any] = {
        "max_message": 1000,
        "queue_bytes": 1000,
        "max_bytes_per_second_per_ip": 1.0,
        "burst_bytes_per_ip": 1000.0,
    }
    async with relaying(**rates) as relay:
        alice = await relay.connect(target_of(ALICE))
        for number in range(2):
            await alice.send(routed(ALICE, ALICE, "x" * 800))
            answer = await alice.receive()
            assert ("from" in answer) == (number == 0)
            relay.relay.configure(change(relay.relay._core.config, rate_limit_max_messages=7))


# The end


async def test_a_page_that_is_being_made_is_finished_before_the_end() -> None:
    asked, go_on = trio.Event(), trio.Event()

    async def slow(request: Request) -> Response:
        asked.set()
        await go_on.wait()
        return Response.text(200, "done")

    async with relaying(hooks=Hooks(on_http_request=slow)) as relay, trio.open_nursery() as nursery:
        stream = await relay._dial()
        await stream.send_all(request("GET", "/slow"))
        await asked.wait()
        nursery.start_soon(relay.relay.aclose)
        await trio.testing.wait_all_tasks_blocked()
        go_on.set()
        assert (await read_answer(stream)).body == b"done"


async def test_who_is_verified_while_the_relay_ends_is_told_so() -> None:
    asked, go_on = trio.Event(), trio.Event()

    async def verify(who: object) -> bool:
        asked.set()
        await go_on.wait()
        return True

    async with relaying(hooks=Hooks(verify_peer=verify)) as relay, trio.open_nursery() as nursery:
        alice = await relay.raw(target_of(ALICE))
        await asked.wait()
        nursery.start_soon(relay.relay.aclose)
        await trio.testing.wait_all_tasks_blocked()
        go_on.set()
        with trio.fail_after(PATIENCE):
            assert await alice.end() == ([], 1001, "Server shutting down")


async def test_the_key_store_is_closed_though_the_blob_store_can_not_be() -> None:
    closed: list[str] = []

    class Blobs:
        async def get(self, key: str) -> None: ...
        async def put(self, key: str, data: bytes) -> None: ...
        async def delete(self, key: str) -> bool:
            return False

        async def stats(self) -> dict[str, int]:
            return {"entries": 0}

        async def aclose(self) -> None:
            raise OSError("no disk")

    class Keys:
        def validate(self, key: str) -> bool:
            return True

        async def aclose(self) -> None:
            closed.append("keys")

    async with relaying(blob_store=Blobs(), key_store=Keys(), limits=Limits(close_timeout=0.2)) as relay:
        await relay.relay.aclose()
        await relay.ended.wait()
    assert closed == ["keys"]
