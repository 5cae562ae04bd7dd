"""Ids and channels, who is behind a proxy, and the original's defects on the way in, which are none here."""

from __future__ import annotations

import pytest
import trio

from trio_relay.wsrelay import Channel, Hooks, Refusal, Verification, percent_decoded

from .support import (
    ALICE,
    BOB,
    LIMITS,
    Client,
    client_frame,
    error,
    eventually,
    relaying,
    routed,
    status,
    target_of,
    upgrade_request,
    watch,
)

GOOD = "good-key"


def anything(raw: str) -> str | None:
    return raw


async def pairs(sender: Client, receiver: Client, message: object) -> None:
    """A message gets through."""
    await sender.send(message)
    assert await receiver.receive() == message


# Ids and channels


async def test_the_longest_channel_name_is_tried_first() -> None:
    channels = [Channel(name="a"), Channel(name="a/b"), Channel(name="a/b/c", parse_id=anything)]
    async with relaying(channels=channels) as relay:
        for target in ("/a/12345678", "/a/b/12345678", "/a/b/c/x"):
            await relay.join(target)
        assert [peer.address for peer in relay.relay.registry] == ["a:12345678", "a/b:12345678", "a/b/c:x"]


async def test_ids_with_colons_are_reached() -> None:
    async with relaying(channels=[Channel(name="any", parse_id=anything)]) as relay:
        one, two = await relay.join("/any/a:b:c"), await relay.join("/any/::")
        await pairs(one, two, routed("any:a:b:c", "any:::", 1))


async def test_an_id_that_stays_encoded_is_the_raw_text() -> None:
    async with relaying(channels=[Channel(name="any", parse_id=anything)]) as relay:
        one = await relay.join("/any/caf%C3%A9")
        await one.send(routed("any:café", "any:caf%C3%A9"))
        assert await one.settle() == [error("INVALID_FROM", "From field does not match sender identity")]
        await pairs(one, one, routed("any:caf%C3%A9", "any:caf%C3%A9", 1))


async def test_a_decoding_channel_knows_clients_by_the_ids_that_they_know() -> None:
    async with relaying(channels=[Channel(name="any", parse_id=percent_decoded(anything))]) as relay:
        one, two = await relay.join("/any/caf%C3%A9%20%2F"), await relay.join("/any/%F0%9F%98%80")
        await pairs(one, two, routed("any:café /", "any:😀", 1))
        client = await relay.connect("/any/%FF")
        assert await client.end() == ([error("INVALID_URL", "Invalid connection URL")], 1002, "Invalid URL")


async def test_a_parse_id_that_raises_costs_its_connection_only() -> None:
    def parse(raw: str) -> str | None:
        return {"alice123": raw, "bobbobbob": raw}[raw]

    async with relaying(channels=[Channel(name="pwa", parse_id=parse)]) as relay:
        alice = await relay.join(ALICE)
        refused = await relay.connect("/pwa/mallory1")
        assert await refused.end() == ([], 1011, "Internal verification error")
        await pairs(alice, await relay.join(BOB), routed(ALICE, BOB, 1))


# Who it is


@pytest.mark.parametrize(
    ("trusted", "forwarded", "ip"),
    [
        ([], b"10.1.1.1", "127.0.0.1"),
        (["127.0.0.0/8"], b"10.1.1.1", "10.1.1.1"),
        (["127.0.0.0/8"], b"1.2.3.4,  10.1.1.1", "10.1.1.1"),
        (["127.0.0.0/8", "10.0.0.0/8"], b"1.2.3.4, 10.1.1.1", "1.2.3.4"),
        (["10.0.0.0/8"], b"10.1.1.1", "127.0.0.1"),
        (["127.0.0.0/8"], b"not an address", "127.0.0.1"),
    ],
)
async def test_forwarded_addresses_count_from_trusted_proxies_only(
    trusted: list[str], forwarded: bytes, ip: str
) -> None:
    async with relaying(trusted_proxies=trusted, rate_limit_max_connections=1) as relay:
        alice = await relay.connect(ALICE, [(b"X-Forwarded-For", forwarded)])
        assert await alice.settle() == []
        assert [peer.ip for peer in relay.relay.registry] == [ip]
        # Others on this machine share its limit if and only if it is the client's address.
        bob = await relay.connect(BOB)
        assert len(await bob.settle() if ip != "127.0.0.1" else (await bob.end())[0]) == (ip == "127.0.0.1")


@pytest.mark.parametrize(
    ("origin", "taken"),
    [
        *[("https://a.example", True), ("https://b.example", False), ("https://a.example.evil", False)],
        *[("null", False), (None, True)],
    ],
)
async def test_origins(origin: str | None, taken: bool) -> None:
    async with relaying(origins=["https://a.example"]) as relay:
        header = f"Origin: {origin}\r\n" if origin is not None else ""
        if taken:
            await relay.raw(headers=header)
        else:
            answer = await relay.request(upgrade_request(headers=header))
            assert answer.startswith(b"HTTP/1.1 403 ")
        assert await relay.counts("refused_origin") == (not taken)


# Defect 3: refused connections kept their slot


async def test_a_hundred_refusals_use_up_no_slot() -> None:
    class Keys:
        def validate(self, key: str) -> bool:
            return key == GOOD

    hooks = Hooks(verify_peer=lambda who: Refusal() if who.address.id == "mallory1" else None)
    channels = [Channel(name="pwa", on_duplicate="reject")]
    async with relaying(key_store=Keys(), hooks=hooks, channels=channels, rate_limit_max_connections=5) as relay:
        await relay.join(f"/pwa/alice123?key={GOOD}")
        refused = ["/pwa/alice123", "/pwa/x?key=bad_key_", f"/x?key={GOOD}", f"/pwa/mallory1?key={GOOD}"]
        for target in [*refused, f"/pwa/alice123?key={GOOD}"] * 20:
            client = await relay.connect(target)
            frames, _, _ = await client.end()
            assert frames[0]["payload"]["code"] != "RATE_LIMITED"
        await relay.join(f"/pwa/bobbobbob?key={GOOD}")
        assert len(relay.relay.registry) == 2


async def test_a_refused_client_that_stays_keeps_its_slot_no_longer_than_the_close_timeout(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with relaying(memory=True, rate_limit_max_connections=1) as relay:
        silent = await relay.raw("/nowhere/x")
        client = await relay.connect(ALICE)
        assert (await client.end())[1:] == (1008, "Rate limited")
        frames, code, _ = await silent.end()
        assert (len(frames), code) == (1, 1002)
        await trio.sleep(2 * LIMITS.close_timeout + 0.1)
        await relay.join(ALICE)


# Defects 4, 5, 6: while a check runs


class Gate:
    """A `verify_peer` that waits until the test opens it."""

    def __init__(self) -> None:
        self.asked = trio.Event()
        self.open = trio.Event()

    async def __call__(self, who: Verification) -> None:
        if who.address.text == ALICE:
            self.asked.set()
            await self.open.wait()


GARBAGE = [b"\xff" * 50, client_frame(b"x", opcode=7), b"\x81\x05hello", client_frame(b"\x03", opcode=8)]


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
@pytest.mark.parametrize("checks", [False, True])
async def test_malformed_frames_before_the_decision_hurt_nobody(garbage: bytes, checks: bool) -> None:
    gate = Gate()
    async with relaying(hooks=Hooks(verify_peer=gate)) as relay:
        bob = await relay.join(BOB)
        mallory = await relay.raw(target_of(ALICE) if checks else "/nowhere/x")
        if checks:
            await gate.asked.wait()
        await mallory.send(garbage)
        gate.open.set()
        await mallory.end()
        await pairs(bob, bob, routed(BOB, BOB, 1))
        await eventually(lambda: len(relay.relay.registry) == 1, "only bob is left")


@pytest.mark.parametrize("memory", [False, True])
async def test_frames_sent_during_the_check_arrive_in_order(memory: bool) -> None:
    gate = Gate()
    async with relaying(hooks=Hooks(verify_peer=gate), memory=memory) as relay:
        bob = await relay.join(BOB)
        alice = await relay.connect(ALICE)
        await gate.asked.wait()
        sent = [routed(ALICE, BOB, number) for number in range(200)]
        await alice.send(*sent[:100])
        gate.open.set()
        await alice.send(*sent[100:])
        assert [await bob.receive() for _ in sent] == sent


@pytest.mark.parametrize("resets", [False, True])
async def test_who_leaves_during_the_check_leaves_nothing_behind(resets: bool) -> None:
    gate = Gate()
    left: list[str] = []
    hooks = Hooks(verify_peer=gate, on_peer_disconnect=lambda peer, registry: left.append(peer.address))
    async with relaying(hooks=hooks, rate_limit_max_connections=2) as relay:
        bob = await relay.join(BOB)
        await bob.send(watch(ALICE))
        alice = await relay.raw(target_of(ALICE))
        await gate.asked.wait()
        if not resets:
            await alice.send(client_frame(b"\x03\xe8", opcode=8))
        await trio.aclose_forcefully(alice.stream)
        gate.open.set()
        await eventually(lambda: left in ([], [ALICE]) and len(relay.relay.registry) == 1, "only bob is registered")
        again = await relay.connect(ALICE)
        await again.send(watch(ALICE))
        seen = [status(ALICE, False), status(ALICE, True)]
        told = [await bob.receive(), await bob.receive()]
        while told[-2:] != seen or await again.settle() != [status(ALICE, True)]:
            told.append(await bob.receive())
        assert len(relay.relay.registry) == 2


async def failing_validate(key: str) -> bool:
    await trio.lowlevel.checkpoint()
    raise OSError("the database is gone")


def raising_validate(key: str) -> bool:
    raise OSError("the database is gone")


class Failing:
    """A key store out of order."""

    def __init__(self, validate: object) -> None:
        self.validate = validate


@pytest.mark.parametrize("validate", [failing_validate, raising_validate])
async def test_a_key_store_that_raises_costs_one_connection(validate: object, caplog: pytest.LogCaptureFixture) -> None:
    async with relaying(key_store=Failing(validate)) as relay:
        for _ in range(2):
            client = await relay.connect(f"/pwa/alice123?key={GOOD}")
            assert await client.end() == ([], 1011, "Internal verification error")
        assert await relay.counts("key_store_failed") == 2
        assert not relay.ended.is_set()
    assert GOOD not in caplog.text


@pytest.mark.parametrize("validate", [failing_validate, raising_validate])
async def test_a_key_store_that_raises_before_the_upgrade_is_answered(validate: object) -> None:
    async with relaying(key_store=Failing(validate), on_invalid_key="reject-upgrade") as relay:
        answer = await relay.request(upgrade_request(f"/pwa/alice123?key={GOOD}"))
        assert answer.startswith(b"HTTP/1.1 500 ")


@pytest.mark.parametrize("early", [False, True])
async def test_a_check_that_never_ends_ends_at_the_timeout(early: bool, autojump_clock: trio.testing.MockClock) -> None:
    class Stuck:
        async def validate(self, key: str) -> bool:
            await trio.sleep(3600)
            return True

    when = "reject-upgrade" if early else "close-after-connect"
    async with relaying(memory=True, key_store=Stuck(), on_invalid_key=when, verify_timeout=3) as relay:
        if early:
            answer = await relay.request(upgrade_request(f"/pwa/alice123?key={GOOD}"))
            assert answer.startswith(b"HTTP/1.1 503 ")
        else:
            client = await relay.connect(f"/pwa/alice123?key={GOOD}")
            assert await client.end() == ([], 1011, "Internal verification error")
        assert await relay.counts("verify_timeout") == 1
