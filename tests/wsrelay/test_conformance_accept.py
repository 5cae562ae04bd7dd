"""The way in, step by step in the original's order: what a client is told, and how its connection is closed."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from trio_relay.wsrelay import Channel, Hooks, Refusal, Verification

from .support import ALICE, BOB, Relaying, error, relaying, routed, status, upgrade_request

GOOD = "good-key"
OTHER = "other_key_2"

TOO_MANY = (error("RATE_LIMITED", "Too many connections"), 1008, "Rate limited")
NO_KEY = (error("INVALID_KEY", "Missing or invalid access key"), 1008, "Invalid key")
BAD_KEY = (error("INVALID_KEY", "Access key rejected"), 1008, "Invalid key")
BAD_URL = (error("INVALID_URL", "Invalid connection URL"), 1002, "Invalid URL")
NOT_VERIFIED = (error("VERIFY_FAILED", "Peer verification failed"), 1008, "Verify failed")
IN_USE = (error("ID_IN_USE", "ID already connected on this channel"), 1008, "ID in use")


class Keys:
    """A key store of a test's.

    Attributes:
        asked: the keys that were validated.
    """

    def __init__(self, *good: str) -> None:
        self.good = set(good)
        self.asked: list[str] = []

    def validate(self, key: str) -> bool:
        self.asked.append(key)
        return key in self.good


class AsyncKeys(Keys):
    async def validate(self, key: str) -> bool:  # type: ignore[override]
        await trio.lowlevel.checkpoint()
        return super().validate(key)


async def refusal(relaying: Relaying, target: str) -> tuple[Any, int, str]:
    """The one frame that a refused client gets, and how it is closed."""
    client = await relaying.connect(target)
    frames, code, reason = await client.end()
    return (frames[0] if len(frames) == 1 else frames), code, reason


# Step 0: before the upgrade


@pytest.mark.parametrize("query", ["", "?key=", "?key=short", "?key=unknown-key", "?other=good-key"])
@pytest.mark.parametrize("keys", [Keys, AsyncKeys])
async def test_step_0_refuses_a_bad_key_over_http(keys: type[Keys], query: str) -> None:
    async with relaying(key_store=keys(GOOD), on_invalid_key="reject-upgrade") as relay:
        answer = await relay.request(upgrade_request(f"/pwa/alice123{query}"))
        head, _, body = answer.partition(b"\r\n\r\n")
        line, *headers = head.split(b"\r\n")
        assert line.startswith(b"HTTP/1.1 403 ")
        assert {header.lower() for header in headers} >= {
            b"connection: close",
            b"content-type: text/html",
            b"content-length: 11",
        }
        assert body == b"Invalid key"
        assert await relay.counts("refused_key") == 1


async def test_step_0_comes_before_everything_else() -> None:
    async with relaying(key_store=Keys(GOOD), on_invalid_key="reject-upgrade", rate_limit_max_connections=1) as relay:
        await relay.join(f"/pwa/alice123?key={GOOD}")
        answer = await relay.request(upgrade_request("/nowhere/alice123"))
        assert answer.startswith(b"HTTP/1.1 403 ")


async def test_step_0_asks_for_a_good_key_once_and_goes_on_with_the_other_steps() -> None:
    keys = Keys(GOOD)
    async with relaying(key_store=keys, on_invalid_key="reject-upgrade") as relay:
        assert await refusal(relay, f"/nowhere/alice123?key={GOOD}") == BAD_URL
        assert keys.asked == [GOOD]
        await relay.join(f"/pwa/alice123?key={GOOD}")
        assert [peer.key for peer in relay.relay.registry] == [GOOD]


# Step 1: connections of an address


async def test_step_1_connections_at_once() -> None:
    async with relaying(rate_limit_max_connections=2) as relay:
        alice = await relay.join(ALICE)
        await relay.join(BOB)
        assert await refusal(relay, "/pwa/carol123") == TOO_MANY
        assert await relay.counts("refused_connections") == 1
        await alice.aclose()
        await relay.join("/pwa/carol123")


# Step 2: the key


@pytest.mark.parametrize(
    "query",
    [
        *["", "?", "?key", "?key=", "?key=seven-7", f"?key={'k' * 65}", "?key=good%20key", "?key=good+key"],
        *["?KEY=good-key", f"?key=bad!&key={GOOD}", f"?x=1#&key={GOOD}"],
    ],
)
async def test_step_2a_a_key_of_the_right_form(query: str) -> None:
    keys = Keys(GOOD)
    async with relaying(key_store=keys) as relay:
        assert await refusal(relay, f"/pwa/alice123{query}") == NO_KEY
        assert keys.asked == []


@pytest.mark.parametrize("keys", [Keys, AsyncKeys])
async def test_step_2b_a_key_that_the_store_does_not_know(keys: type[Keys]) -> None:
    async with relaying(key_store=keys(GOOD)) as relay:
        assert await refusal(relay, "/pwa/alice123?key=unknown-key") == BAD_KEY
        assert await relay.counts("refused_key") == 1


@pytest.mark.parametrize(
    "query",
    [f"?key={GOOD}", f"?a=1&key={GOOD}&b=2", f"?key={GOOD}&key={OTHER}", "?key=good%2Dkey", "?%6Bey=%67ood-key"],
)
@pytest.mark.parametrize("keys", [Keys, AsyncKeys])
async def test_the_first_key_decides_in_whatever_form(keys: type[Keys], query: str) -> None:
    async with relaying(key_store=keys(GOOD)) as relay:
        await relay.join(f"/pwa/alice123{query}")
        assert [peer.key for peer in relay.relay.registry] == [GOOD]


@pytest.mark.parametrize("key", ["k" * 8, "k" * 64, "AZaz09_-"])
async def test_keys_of_every_allowed_form(key: str) -> None:
    async with relaying(key_store=Keys(key)) as relay:
        await relay.join(f"/pwa/alice123?key={key}")
        assert len(relay.relay.registry) == 1


async def test_without_a_key_store_a_key_is_not_looked_at() -> None:
    async with relaying(key_store=False) as relay:
        await relay.join("/pwa/alice123?key=x")
        assert [peer.key for peer in relay.relay.registry] == [None]


# Step 3: the URL


@pytest.mark.parametrize(
    "target",
    [
        *["/", "/pwa", "/pwa/", "/pwa?id=alice123", "/pwa/alice12", f"/pwa/{'i' * 65}", "/pwa/alice%2D123"],
        *["/pwa/alice.123", "/other/alice123", "/pwa/x/alice123", "//pwa/alice123", "/PWA/alice123"],
        *["/x/pwa/alice123", "/pwa/alice123/"],
    ],
)
async def test_step_3_no_channel_and_id(target: str) -> None:
    async with relaying() as relay:
        assert await refusal(relay, target) == BAD_URL
        assert await relay.counts("refused_url") == 1


@pytest.mark.parametrize("target", ["/pwa/alice123", "/pwa/alice123?", "/pwa/alice123?x=/y/z", "/pwa/alice123#/y/z"])
async def test_query_and_fragment_are_no_part_of_the_id(target: str) -> None:
    async with relaying() as relay:
        await relay.join(target)
        assert [peer.address for peer in relay.relay.registry] == [ALICE]


# Step 4: the application's own check


VERDICTS = [
    (Refusal(), NOT_VERIFIED),
    (False, NOT_VERIFIED),
    (Refusal("banned"), (error("VERIFY_FAILED", "banned"), 1008, "banned")),
    (Refusal("pay first", 4402, "UNPAID"), (error("UNPAID", "pay first"), 4402, "pay first")),
    (Refusal(error_code="MINE"), (error("MINE", "Peer verification failed"), 1008, "Verify failed")),
    (Refusal(close_code=1000), (error("VERIFY_FAILED", "Peer verification failed"), 1000, "Verify failed")),
    (Refusal("", 3000), (error("VERIFY_FAILED", "Peer verification failed"), 3000, "Verify failed")),
]


@pytest.mark.parametrize(("verdict", "told"), VERDICTS, ids=range(len(VERDICTS)))
@pytest.mark.parametrize("waits", [False, True])
async def test_step_4_verify_peer_refuses(verdict: object, told: tuple[Any, int, str], waits: bool) -> None:
    async def later(who: Verification) -> Any:
        await trio.lowlevel.checkpoint()
        return verdict

    hooks = Hooks(verify_peer=later if waits else lambda who: verdict)  # type: ignore[arg-type,return-value]
    async with relaying(hooks=hooks) as relay:
        assert await refusal(relay, "/pwa/alice123") == told
        assert await relay.counts("refused_by_hook") == 1
        assert len(relay.relay.registry) == 0


@pytest.mark.parametrize("verdict", [None, True])
async def test_step_4_verify_peer_lets_in(verdict: bool | None) -> None:
    asked: list[Verification] = []

    def verify(who: Verification) -> bool | None:
        asked.append(who)
        assert not who.registry.has("pwa", "alice123")
        return verdict

    async with relaying(hooks=Hooks(verify_peer=verify), key_store=Keys(GOOD)) as relay:
        await relay.join(f"/pwa/alice123?key={GOOD}")
        (who,) = asked
        assert (who.address.text, who.ip, who.key) == (ALICE, "127.0.0.1", GOOD)
        assert who.request.header(b"sec-websocket-version") == b"13"
        assert GOOD not in repr(who)


def raises(who: Verification) -> None:
    raise LookupError("no such database")


async def raises_later(who: Verification) -> None:
    await trio.lowlevel.checkpoint()
    raise LookupError("no such database")


UNUSABLE = (0, 999, 1004, 1005, 1006, 1015, 2999, 5000, -1)
FAILING = [raises, raises_later, lambda who: "yes", *[lambda who, code=code: Refusal("no", code) for code in UNUSABLE]]


@pytest.mark.parametrize("hook", FAILING, ids=range(len(FAILING)))
async def test_step_4_a_check_that_fails_closes_without_a_frame(hook: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with relaying(hooks=Hooks(verify_peer=hook)) as relay:
        assert await refusal(relay, "/pwa/alice123") == ([], 1011, "Internal verification error")
        assert await relay.counts("verify_failed") == 1
    assert any("verify_peer" in message for message in caplog.messages)


async def test_step_4_a_reason_too_long_for_a_close_frame_is_whole_in_the_error_frame() -> None:
    async with relaying(hooks=Hooks(verify_peer=lambda who: Refusal("é" * 100, 4000))) as relay:
        frame, code, reason = await refusal(relay, "/pwa/alice123")
        assert frame == error("VERIFY_FAILED", "é" * 100)
        assert (code, reason) == (4000, "é" * 61)


# Step 5: an address in use


async def test_step_5_reject() -> None:
    async with relaying(channels=[Channel(name="pwa", on_duplicate="reject")]) as relay:
        alice = await relay.join(ALICE)
        assert await refusal(relay, ALICE) == IN_USE
        assert await relay.counts("refused_in_use") == 1
        assert await alice.settle() == []
        await alice.aclose()
        await relay.join(ALICE)


async def test_step_5_replace() -> None:
    async with relaying() as relay:
        old = await relay.join(ALICE)
        new = await relay.join(ALICE)
        assert await old.end() == ([error("REPLACED", "Replaced by new connection")], 1000, "Replaced")
        bob = await relay.join(BOB)
        await bob.send(routed(BOB, ALICE, 1))
        assert await new.receive() == routed(BOB, ALICE, 1)
        assert await relay.counts("replaced") == 1


async def test_step_6_success_is_silence() -> None:
    connected = []
    async with relaying(hooks=Hooks(on_peer_connect=lambda peer, registry: connected.append(peer.address))) as relay:
        alice = await relay.connect(ALICE)
        assert await alice.settle() == []
        assert connected == [ALICE]


# The order of the checks


@pytest.mark.parametrize(
    ("target", "most", "told"),
    [
        ("/nowhere/x", 2, TOO_MANY),
        ("/nowhere/x", 9, NO_KEY),
        ("/nowhere/x?key=unknown-key", 9, BAD_KEY),
        (f"/nowhere/x?key={GOOD}", 9, BAD_URL),
        (f"/only/alice123?key={GOOD}", 9, NOT_VERIFIED),
        (f"/pwa/alice123?key={GOOD}", 9, NOT_VERIFIED),
        (f"/only/alice123?key={OTHER}", 9, IN_USE),
    ],
)
async def test_of_several_faults_the_first_in_order_is_told(target: str, most: int, told: tuple[Any, int, str]) -> None:
    # Who is connected already has the other key, which the hook likes.
    hooks = Hooks(verify_peer=lambda who: None if who.key == OTHER else Refusal())
    channels = ["pwa", Channel(name="only", on_duplicate="reject")]
    keys = Keys(GOOD, OTHER)
    async with relaying(key_store=keys, hooks=hooks, channels=channels, rate_limit_max_connections=most) as relay:
        alice = await relay.join(f"/pwa/alice123?key={OTHER}")
        only = await relay.join(f"/only/alice123?key={OTHER}")
        assert await refusal(relay, target) == told
        # Nobody was pushed out by who was refused.
        assert await alice.settle() == []
        assert await only.settle() == []


async def test_watchers_are_told_before_the_connect_hook_runs() -> None:
    order: list[str] = []
    async with relaying(hooks=Hooks(on_peer_connect=lambda peer, registry: order.append(peer.address))) as relay:
        bob = await relay.join(BOB)
        await bob.send({"type": "watch", "address": ALICE})
        assert await bob.receive() == status(ALICE, False)
        await relay.join(ALICE)
        assert await bob.receive() == status(ALICE, True)
        assert order == [BOB, ALICE]
