"""The application's hooks: when each is called, with what, and what one that fails costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from trio_relay.wsrelay import Hooks, Peer, PeerRegistry, Refusal, Verification

from .support import ALICE, BOB, CAROL, Client, Relaying, compact, error, eventually, relaying, routed, status, watch

INTERNAL: tuple[list[Any], int, str] = ([], 1011, "Internal error")


def fails(*arguments: object) -> None:
    raise LookupError("no such database")


async def fails_later(*arguments: object) -> None:
    await trio.lowlevel.checkpoint()
    raise LookupError("no such database")


async def never_returns(*arguments: object) -> None:
    await trio.sleep_forever()


FAILING = [fails, fails_later]


def later(hook: Callable[..., Any]) -> Callable[..., Any]:
    """The same as a coroutine function."""

    async def call(*arguments: object) -> Any:
        await trio.lowlevel.checkpoint()
        return hook(*arguments)

    return call


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> Callable[[Callable[..., Any]], Any]:
    return later if request.param == "async" else lambda hook: hook


async def works(relay: Relaying, one: Client, other: Client) -> None:
    """Two connected clients are served as always."""
    await one.send(routed(BOB, CAROL, "well"))
    assert await other.receive() == routed(BOB, CAROL, "well")


async def logged(caplog: pytest.LogCaptureFixture, hook: str) -> None:
    records = [record for record in caplog.records if record.name.startswith("trio_relay")]
    assert [record.getMessage() for record in records if hook in record.getMessage()]


# Coming and going


async def test_connect_and_disconnect_see_the_peer_registered_or_not(kind: Callable[..., Any]) -> None:
    seen: list[tuple[str, Peer, bool]] = []

    def connected(peer: Peer, registry: PeerRegistry) -> None:
        seen.append(("connected", peer, registry.get(peer.channel, peer.id) is peer))

    def disconnected(peer: Peer, registry: PeerRegistry) -> None:
        seen.append(("disconnected", peer, registry.get(peer.channel, peer.id) is peer))

    hooks = Hooks(on_peer_connect=kind(connected), on_peer_disconnect=kind(disconnected))
    async with relaying(hooks=hooks) as relay:
        alice = await relay.join(ALICE)
        await alice.aclose()
        await eventually(lambda: len(seen) == 2, "both hooks ran")
        (_, peer, was), (_, same, still) = seen
        assert [name for name, _, _ in seen] == ["connected", "disconnected"]
        assert (was, still) == (True, False)
        assert same is peer
        assert (peer.channel, peer.id, peer.address, peer.ip, peer.key) == ("pwa", "alice123", ALICE, "127.0.0.1", None)
        assert abs(peer.connected_at - relay.relay.statistics().start_time) < 60
        assert peer.bytes_in > 0


async def test_replaced_peers_disconnect_before_or_after_but_each_once(kind: Callable[..., Any]) -> None:
    seen: list[tuple[str, int]] = []
    hooks = Hooks(
        on_peer_connect=kind(lambda peer, registry: seen.append(("connected", id(peer)))),
        on_peer_disconnect=kind(lambda peer, registry: seen.append(("disconnected", id(peer)))),
    )
    async with relaying(hooks=hooks) as relay:
        old = await relay.join(ALICE)
        new = await relay.join(ALICE)
        await old.end()
        await eventually(lambda: len(seen) == 3, "the old one's end")
        await new.aclose()
        await eventually(lambda: len(seen) == 4, "the new one's end")
        assert sorted(name for name, _ in seen) == ["connected"] * 2 + ["disconnected"] * 2
        assert len(set(seen)) == 4


@pytest.mark.parametrize("hook", FAILING)
async def test_a_failing_connect_hook_costs_its_connection(hook: Any, caplog: pytest.LogCaptureFixture) -> None:
    def choose(peer: Peer, registry: PeerRegistry) -> Any:
        return hook(peer, registry) if peer.address == ALICE else None

    async with relaying(hooks=Hooks(on_peer_connect=choose)) as relay:
        bob, carol = await relay.join(BOB), await relay.join(CAROL)
        await bob.send(watch(ALICE))
        alice = await relay.connect(ALICE)
        assert await alice.end() == INTERNAL
        # Whoever watches saw it come and go.
        assert [await bob.receive() for _ in range(3)] == [status(ALICE, online) for online in (False, True, False)]
        await works(relay, bob, carol)
        assert await relay.counts("hook_failed") == 1
    await logged(caplog, "on_peer_connect")


@pytest.mark.parametrize("hook", FAILING)
async def test_a_failing_disconnect_hook_costs_nothing(hook: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with relaying(hooks=Hooks(on_peer_disconnect=hook)) as relay:
        alice, bob, carol = await relay.join(ALICE), await relay.join(BOB), await relay.join(CAROL)
        await alice.aclose()
        await eventually(lambda: len(relay.relay.registry) == 2, "Alice is gone")
        await works(relay, bob, carol)

        async def counted() -> bool:
            return await relay.counts("hook_failed") == 1

        await eventually(counted, "the failure is counted")
    await logged(caplog, "on_peer_disconnect")


@pytest.mark.parametrize("hook", ["on_peer_connect", "on_peer_disconnect", "verify_peer"])
async def test_hooks_that_never_return_have_a_deadline(hook: str, autojump_clock: trio.testing.MockClock) -> None:
    hooks = Hooks(**{hook: never_returns})
    async with relaying(memory=True, hooks=hooks, hook_timeout=3, verify_timeout=3) as relay:
        alice = await relay.connect(ALICE)
        if hook == "on_peer_disconnect":
            await alice.aclose()
        else:
            _, code, _ = await alice.end()
            assert code == 1011
        await trio.sleep(10)
        assert len(relay.relay.registry) == 0
        assert sum([await relay.counts("hook_failed"), await relay.counts("verify_timeout")]) == 1


# Messages


async def test_routed_messages_are_shown_before_they_are_forwarded(kind: Callable[..., Any]) -> None:
    seen: list[tuple[str, str, Any, bytes]] = []
    hooks = Hooks(on_routed_message=kind(lambda *arguments: seen.append(arguments)))
    async with relaying(hooks=hooks) as relay:
        alice, bob = await relay.join(ALICE), await relay.join(BOB)
        text = '{ "to":"pwa:bobbobbob","from":"pwa:alice123", "payload":[1e400,"\\ud800"]}'
        # Only what would be forwarded is shown.
        await alice.send(text, routed(ALICE, "pwa:offline1"), routed(BOB, ALICE), routed(ALICE, BOB, type="error"), [])
        assert await bob.frame() == text
        assert [frame["payload"]["code"] for frame in await alice.settle()] == ["INVALID_FROM", "INVALID_MESSAGE"]
        ((sender, to, value, raw),) = seen
        assert (sender, to, raw) == (ALICE, BOB, text.encode())
        assert value == {"from": ALICE, "to": BOB, "payload": [float("inf"), "\ud800"]}


@pytest.mark.parametrize("verdict", [None, True, 0, "", [], "no"])
async def test_only_false_blocks(kind: Callable[..., Any], verdict: object) -> None:
    async with relaying(hooks=Hooks(on_routed_message=kind(lambda *_: verdict))) as relay:
        alice, bob = await relay.join(ALICE), await relay.join(BOB)
        await alice.send(routed(ALICE, BOB, 1))
        assert await bob.receive() == routed(ALICE, BOB, 1)


async def test_what_is_blocked_is_silent_counted_and_reported_on_request(kind: Callable[..., Any]) -> None:
    hooks = Hooks(on_routed_message=kind(lambda sender, to, value, raw: value["payload"] != "bad"))
    async with relaying(hooks=hooks) as relay:
        alice, bob = await relay.join(ALICE), await relay.join(BOB)
        reporting = await relay.join("/pwa/carol123?reports=1")
        await alice.send(routed(ALICE, BOB, "bad"), routed(ALICE, BOB, "good"))
        assert await bob.receive() == routed(ALICE, BOB, "good")
        assert await alice.settle() == []
        await reporting.send(routed(CAROL, BOB, "bad"))
        told = error("UNDELIVERED", "The relay does not pass this message on", to=BOB, reason="blocked")
        assert await reporting.settle() == [told]
        assert await relay.counts("blocked") == 2
        assert relay.relay.statistics().messages_relayed == 1


@pytest.mark.parametrize("hook", FAILING)
@pytest.mark.parametrize("name", ["on_routed_message", "on_message"])
async def test_a_failing_message_hook_costs_its_message(hook: Any, name: str, caplog: pytest.LogCaptureFixture) -> None:
    def choose(*arguments: Any) -> Any:
        value = arguments[2] if name == "on_routed_message" else arguments[1]
        return hook() if value.get("payload") == "bad" else None

    async with relaying(hooks=Hooks(**{name: choose})) as relay:
        alice, bob = await relay.join(ALICE), await relay.join(BOB)
        bad = routed(ALICE, BOB, "bad") if name == "on_routed_message" else {"payload": "bad"}
        await alice.send(bad, routed(ALICE, BOB, "good"))
        assert await bob.receive() == routed(ALICE, BOB, "good")
        assert await alice.settle() == []
        assert await relay.counts("hook_failed") == 1
    await logged(caplog, name)


@pytest.mark.parametrize("name", ["on_routed_message", "on_message"])
async def test_a_message_hook_that_waits_holds_up_its_sender_only(
    name: str, autojump_clock: trio.testing.MockClock
) -> None:
    asked, go = trio.Event(), trio.Event()

    async def hook(*arguments: Any) -> None:
        if "slow" in compact([str(argument) for argument in arguments]):
            asked.set()
            await go.wait()

    options: dict[str, Any] = {"heartbeat_interval": 30, "hook_timeout": 1000}
    async with relaying(memory=True, hooks=Hooks(**{name: hook}), **options) as relay:
        alice, bob, carol = await relay.join(ALICE), await relay.join(BOB), await relay.join(CAROL)
        slow = routed(ALICE, CAROL, "slow") if name == "on_routed_message" else {"payload": "slow"}
        await alice.send(slow, routed(ALICE, CAROL, "next"))
        await asked.wait()
        for _ in range(3):
            await works(relay, bob, carol)
            await trio.sleep(40)
        assert await carol.settle() == []
        go.set()
        expected = [slow] if name == "on_routed_message" else []
        assert [await carol.receive() for _ in range(len(expected) + 1)] == [*expected, routed(ALICE, CAROL, "next")]
        # A heartbeat does not take a client for dead that the relay itself did not listen to.
        assert len(relay.relay.registry) == 3


async def test_a_receiver_may_leave_while_the_hook_thinks() -> None:
    asked, go = trio.Event(), trio.Event()

    async def hook(*arguments: Any) -> None:
        asked.set()
        await go.wait()

    async with relaying(hooks=Hooks(on_routed_message=hook)) as relay:
        alice, bob = await relay.join("/pwa/alice123?reports=1"), await relay.join(BOB)
        await alice.send(routed(ALICE, BOB, 1))
        await asked.wait()
        await bob.aclose()
        await eventually(lambda: len(relay.relay.registry) == 1, "Bob is gone")
        go.set()
        assert [frame["payload"]["reason"] for frame in await alice.settle()] == ["offline"]


# The registry that hooks get


async def test_the_registry_has_the_originals_read_methods() -> None:
    answers: dict[str, Any] = {}

    def ask(peer: Peer, value: Any, raw: bytes, registry: PeerRegistry) -> None:
        answers["get"] = registry.get("pwa", "alice123"), registry.get_by_address(BOB), registry.get("pwa", "nobody")
        answers["has"] = registry.has("pwa", "bobbobbob"), registry.has("ext", "bobbobbob")
        answers["watchers"] = registry.get_watchers(BOB), registry.get_watchers("pwa:nobody")
        answers["watched"] = registry.get_watched(ALICE), registry.get_watched(BOB), registry.get_watched("pwa:nobody")
        answers["stats"] = registry.get_stats()
        answers["all"] = [each.address for each in registry]

    async with relaying(hooks=Hooks(on_message=ask)) as relay:
        alice = await relay.join(ALICE)
        await relay.join(BOB)
        await alice.send(watch(BOB), watch("pwa:nobody"), routed(ALICE, BOB), {})
        await alice.settle()
        assert [peer and peer.address for peer in answers["get"]] == [ALICE, BOB, None]
        assert answers["has"] == (True, False)
        assert answers["watchers"] == ({ALICE}, {ALICE})
        assert answers["watched"] == ([BOB, "pwa:nobody"], [], [])
        assert (answers["stats"].total_connections, answers["stats"].messages_relayed) == (2, 1)
        assert dict(answers["stats"].channels) == {"pwa": (2, 2)}
        assert answers["all"] == [ALICE, BOB]


async def test_a_verification_can_look_at_who_is_connected() -> None:
    def only_one(who: Verification) -> Refusal | None:
        return Refusal("full") if len(who.registry) else None

    async with relaying(hooks=Hooks(verify_peer=only_one)) as relay:
        await relay.join(ALICE)
        bob = await relay.connect(BOB)
        assert (await bob.end())[2] == "full"


async def test_a_client_may_leave_while_the_connect_hook_thinks() -> None:
    asked, go = trio.Event(), trio.Event()
    left: list[str] = []

    async def hook(peer: Peer, registry: PeerRegistry) -> None:
        if peer.address == ALICE:
            asked.set()
            await go.wait()

    hooks = Hooks(on_peer_connect=hook, on_peer_disconnect=lambda peer, registry: left.append(peer.address))
    async with relaying(hooks=hooks) as relay:
        bob = await relay.join(BOB)
        alice = await relay.raw("/pwa/alice123")
        await asked.wait()
        # It is registered, so it is known to be there, and what it sends waits.
        await bob.send(watch(ALICE))
        assert await bob.receive() == status(ALICE, True)
        await alice.send(routed(ALICE, BOB, 1))
        await trio.aclose_forcefully(alice.stream)
        assert left == []
        go.set()
        assert {compact(await bob.receive()) for _ in range(2)} == {
            compact(routed(ALICE, BOB, 1)),
            compact(status(ALICE, False)),
        }
        await eventually(lambda: left == [ALICE], "the disconnect hook ran")
