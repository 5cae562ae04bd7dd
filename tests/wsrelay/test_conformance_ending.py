"""How the relay ends connections: a drain, keys that became invalid, and its own end, also inside a larger server."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from trio_relay.wsrelay import Hooks

from .support import ALICE, BOB, CAROL, Relaying, error, relaying, routed, status, target_of, watch

SHUTTING_DOWN = error("SHUTTING_DOWN", "Server is shutting down")
REVOKED = error("INVALID_KEY", "Access key rejected")


class Keys:
    """A key store whose keys a test changes."""

    def __init__(self, *good: str) -> None:
        self.good = set(good)
        self.broken = self.hangs = False
        self.closed = 0

    async def validate(self, key: str) -> bool:
        await trio.sleep(3600 if self.hangs else 0)
        if self.broken:
            raise OSError("the database is gone")
        return key in self.good

    def close(self) -> None:
        self.closed += 1


# Draining


async def test_a_drain_tells_clients_and_waits_for_them(autojump_clock: trio.testing.MockClock) -> None:
    async with relaying(memory=True, drain_timeout=30) as relay:
        alice, bob = await relay.join(ALICE), await relay.join(BOB)
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(relay.relay.aclose)
            assert await alice.receive() == SHUTTING_DOWN
            assert await bob.receive() == SHUTTING_DOWN
            # Until it leaves, a client is served; new ones are not taken in.
            await alice.send(routed(ALICE, BOB, "bye"))
            assert await bob.receive() == routed(ALICE, BOB, "bye")
            late = await relay.connect(CAROL)
            assert await late.end() == ([], 1001, "Server shutting down")
            await trio.sleep(7)
            await alice.aclose()
            await bob.aclose()
        assert relay.ended.is_set()
        assert 7 <= trio.current_time() - began < 8


@pytest.mark.parametrize("memory", [False, True])
async def test_who_does_not_leave_is_closed(memory: bool) -> None:
    async with relaying(memory=memory, drain_timeout=0.05) as relay:
        alice, bob = await relay.join(ALICE), await relay.join(BOB)
        await bob.send(watch(ALICE))
        assert await bob.receive() == status(ALICE, True)
        with trio.fail_after(3):
            await relay.relay.aclose()
        assert relay.ended.is_set()
        assert await alice.end() == ([SHUTTING_DOWN], 1001, "Server shutting down")
        frames, code, _ = await bob.end()
        assert (frames[0], code) == (SHUTTING_DOWN, 1001)


async def test_a_drain_ends_in_time_whoever_hangs(autojump_clock: trio.testing.MockClock) -> None:
    keys = Keys("good-key")
    async with relaying(memory=True, drain_timeout=5, key_store=keys) as relay:
        for number in range(3):
            await relay.raw(f"/pwa/alice12{number}?key=good-key")
        began = trio.current_time()
        await relay.relay.aclose()
        await relay.relay.aclose()  # again: nothing
        assert 5 <= trio.current_time() - began <= 7
        assert keys.closed == 1


async def test_whoever_asks_for_a_drain_waits_no_longer_than_it_takes(autojump_clock: trio.testing.MockClock) -> None:
    async with relaying(memory=True, drain_timeout=30) as relay:
        alice = await relay.join(ALICE)
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(relay.relay.aclose)
            nursery.start_soon(relay.relay.aclose)
            assert await alice.receive() == SHUTTING_DOWN
            await alice.aclose()
        assert trio.current_time() - began < 1


async def test_a_drain_stops_listening() -> None:
    async with relaying() as relay:
        await relay.relay.aclose()
        with pytest.raises(OSError, match="all attempts to connect"):
            await relay.connect(ALICE)


# Keys that became invalid


async def test_a_revoked_key_closes_its_connections_within_a_second(autojump_clock: trio.testing.MockClock) -> None:
    keys = Keys("good-key", "bad-key1")
    async with relaying(memory=True, key_store=keys) as relay:
        alice = await relay.join("/pwa/alice123?key=bad-key1")
        carol = await relay.join("/pwa/carol123?key=bad-key1")
        bob = await relay.join("/pwa/bobbobbob?key=good-key")
        await bob.send(watch(ALICE))
        await trio.sleep(100)
        assert await bob.settle() == [status(ALICE, True)]
        keys.good.remove("bad-key1")
        began = trio.current_time()
        for client in (alice, carol):
            assert await client.end() == ([REVOKED], 1008, "Invalid key")
        assert trio.current_time() - began <= 1
        assert await bob.receive() == status(ALICE, False)
        assert [peer.address for peer in relay.relay.registry] == [BOB]
        assert await relay.counts("key_revoked") == 2


async def test_who_is_in_stays_in_while_the_key_store_is_out_of_order(autojump_clock: trio.testing.MockClock) -> None:
    keys = Keys("good-key")
    async with relaying(memory=True, key_store=keys, key_check_interval=1) as relay:
        alice = await relay.join("/pwa/alice123?key=good-key")
        keys.broken = True
        await trio.sleep(5.5)
        assert await alice.settle() == []
        assert await relay.counts("key_store_failed") == 5
        keys.broken = False
        keys.good.clear()
        assert (await alice.end())[1] == 1008


async def test_a_key_store_that_hangs_is_asked_again(autojump_clock: trio.testing.MockClock) -> None:
    keys = Keys("good-key")
    async with relaying(memory=True, key_store=keys, verify_timeout=3) as relay:
        alice = await relay.join("/pwa/alice123?key=good-key")
        keys.hangs = True
        await trio.sleep(5)
        assert await alice.settle() == []
        assert await relay.counts("key_store_failed") == 1
        keys.hangs = False
        keys.good.clear()
        assert await alice.end() == ([REVOKED], 1008, "Invalid key")


async def test_keys_are_not_checked_again_when_that_is_off(autojump_clock: trio.testing.MockClock) -> None:
    keys = Keys("good-key")
    async with relaying(memory=True, key_store=keys, key_check_interval=None) as relay:
        alice = await relay.join("/pwa/alice123?key=good-key")
        keys.good.clear()
        await trio.sleep(1000)
        assert await alice.settle() == []
        await relay.relay.check_keys()
        assert (await alice.end())[1] == 1008


# The application's own messages


async def test_the_application_sends_to_peers() -> None:
    async with relaying() as relay:
        alice = await relay.join(ALICE)
        assert await relay.relay.send(ALICE, {"news": ["é", 1]})
        assert await alice.frame() == '{"news":["é",1]}'
        assert not await relay.relay.send(BOB, {})


# A relay that ends while a larger server still holds its connections


async def test_a_relay_that_ended_closes_what_a_larger_server_gave_it() -> None:
    left: list[str] = []
    hooks = Hooks(on_peer_disconnect=lambda peer, registry: left.append(peer.address))
    async with relaying(memory=True, hooks=hooks) as relay:
        alice, bob = await relay.join(ALICE), await relay.join(BOB)
        await alice.send(watch(BOB))
        assert await alice.receive() == status(BOB, True)
        relay.stop()
        await relay.ended.wait()
        assert (await alice.end())[1] == 1006
        assert (await bob.end())[1] == 1006
        assert sorted(left) == [ALICE, BOB]
        await check_refused(relay)


async def test_a_larger_server_outlives_relays_with_tasks_that_hang(autojump_clock: trio.testing.MockClock) -> None:
    stuck = trio.Event()

    async def hang(*arguments: object) -> None:
        stuck.set()
        await trio.sleep_forever()

    async with relaying(memory=True, hooks=Hooks(on_peer_connect=hang), hook_timeout=3) as relay:
        bob = await relay.connect(BOB)
        await stuck.wait()
        relay.stop()
        await relay.ended.wait()
        # Now the hook fails, of a peer of a relay that is no more.
        assert (await bob.end())[1] == 1006
        await trio.sleep(5)
        await check_refused(relay)


async def check_refused(relay: Relaying) -> None:
    """Who comes later is not served."""
    client = await relay.raw(target_of(ALICE))
    assert await client.end() == ([], 1001, "Server shutting down")
