"""Watching: answers, changes, and how long a watch lives."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from trio_relay.wsrelay import Channel

from .support import (
    ALICE,
    BOB,
    CAROL,
    Client,
    Relaying,
    error,
    eventually,
    relaying,
    routed,
    status,
    target_of,
    unwatch,
    watch,
)


@pytest.fixture(params=["socket", "memory"])
async def relay(request: pytest.FixtureRequest) -> AsyncIterator[Relaying]:
    async with relaying(memory=request.param == "memory") as relay:
        yield relay


async def watches(relay: Relaying) -> int:
    return relay.relay.statistics().watches


async def gone(relay: Relaying, number: int) -> None:
    """Waits until so many peers are left."""
    await eventually(lambda: len(relay.relay.registry) == number, f"{number} peers")


async def test_every_watch_is_answered_at_once_with_the_present_state(relay: Relaying) -> None:
    alice = await relay.join(ALICE)
    frames = [watch(BOB), watch(ALICE), watch(BOB), watch("nowhere:x"), watch("no address"), watch(""), watch("pwa:")]
    await alice.send(*frames)
    assert await alice.settle() == [status(str(frame["address"]), frame["address"] == ALICE) for frame in frames]
    await relay.join(BOB)
    assert await alice.receive() == status(BOB, True)
    assert await alice.settle() == []


async def test_coming_and_going_is_told_once_each(relay: Relaying) -> None:
    alice = await relay.join(ALICE)
    await alice.send(watch(BOB))
    for _ in range(3):
        bob = await relay.join(BOB)
        await bob.aclose()
        await gone(relay, 1)
    assert await alice.settle() == [status(BOB, online) for online in (False, True, False, True, False, True, False)]


async def test_a_watched_peer_that_vanishes_is_told_of() -> None:
    async with relaying() as relay:
        alice = await relay.join(ALICE)
        bob = await relay.raw(target_of(BOB))
        await alice.send(watch(BOB))
        assert await alice.receive() == status(BOB, True)
        await trio.aclose_forcefully(bob.stream)
        assert await alice.receive() == status(BOB, False)


async def test_unwatch_ends_it_without_an_answer(relay: Relaying) -> None:
    alice = await relay.join(ALICE)
    await alice.send(watch(BOB), unwatch(BOB), unwatch(BOB), unwatch("nobody"))
    assert await alice.settle() == [status(BOB, False)]
    await relay.join(BOB)
    assert await alice.settle() == []
    assert await watches(relay) == 0


async def test_watching_is_asked_for_before_anything_is_routed(relay: Relaying) -> None:
    alice, bob = await relay.join(ALICE), await relay.join(BOB)
    both = {**routed(ALICE, BOB, 1), **watch(BOB)}
    await alice.send(both, {**both, "type": "unwatch"}, {**both, "from": "somebody else"})
    assert await alice.settle() == [status(BOB, True), status(BOB, True)]
    assert await bob.settle() == []


async def test_watching_goes_across_channels(relay: Relaying) -> None:
    alice = await relay.join(ALICE)
    await alice.send(watch("ext:bobbobbob"))
    await relay.join("ext:bobbobbob")
    assert await alice.settle() == [status("ext:bobbobbob", False), status("ext:bobbobbob", True)]


async def test_a_watch_ends_with_its_connection(relay: Relaying) -> None:
    alice = await relay.join(ALICE)
    await alice.send(watch(BOB), watch(CAROL))
    await alice.settle()
    assert await watches(relay) == 2
    await alice.aclose()
    await gone(relay, 0)
    again = await relay.join(ALICE)
    await relay.join(BOB)
    assert await again.settle() == []
    assert await watches(relay) == 0


async def test_who_takes_an_address_over_starts_without_watches(relay: Relaying) -> None:
    old = await relay.join(ALICE)
    await old.send(watch(BOB))
    await old.settle()
    new = await relay.join(ALICE)
    await relay.join(BOB)
    assert await new.settle() == []


async def replace(relay: Relaying, old: Client, address: str) -> Client:
    new = await relay.join(address)
    assert (await old.end())[1:] == (1000, "Replaced")
    return new


async def test_the_end_of_a_replaced_connection_is_nothing_to_the_new_one(relay: Relaying) -> None:
    alice, bob = await relay.join(ALICE), await relay.join(BOB)
    await bob.send(watch(ALICE))
    for _ in range(3):
        alice = await replace(relay, alice, ALICE)
        await alice.send(watch(BOB))
        assert await alice.receive() == status(BOB, True)
    told = await bob.settle()
    assert told.count(status(ALICE, False)) == 0
    assert told == [status(ALICE, True)] * 4
    # It can be reached, and its own watch lives.
    await bob.send(routed(BOB, ALICE, 1))
    assert await alice.receive() == routed(BOB, ALICE, 1)
    await bob.aclose()
    assert await alice.receive() == status(BOB, False)
    assert [peer.address for peer in relay.relay.registry] == [ALICE]


async def test_a_replaced_client_that_hangs_is_nothing_to_the_new_one() -> None:
    async with relaying() as relay:
        bob = await relay.join(BOB)
        old = await relay.raw(target_of(ALICE))
        await bob.send(watch(ALICE))
        assert await bob.receive() == status(ALICE, True)
        alice = await relay.join(ALICE)
        # What the old one still sends reaches nobody, and is read to the end.
        await old.send(routed(ALICE, BOB, "late"), watch(BOB))
        frames, code, reason = await old.end()
        assert (frames, code, reason) == ([error("REPLACED", "Replaced by new connection")], 1000, "Replaced")
        await trio.aclose_forcefully(old.stream)
        assert await bob.settle() == [status(ALICE, True)]
        await bob.send(routed(BOB, ALICE, 1))
        assert await alice.receive() == routed(BOB, ALICE, 1)


@pytest.mark.parametrize("watcher", ["open:watcher1", "staff:watcher1", "closed:watcher1"])
async def test_channels_may_say_who_watches_their_peers(watcher: str) -> None:
    channels = [
        Channel(name="open"),
        Channel(name="closed", watchable_by=[]),
        Channel(name="staff", watchable_by=["staff"]),
    ]
    async with relaying(channels=channels) as relay:
        client = await relay.join(watcher)
        denied = error("WATCH_DENIED", "Peers of this channel may not be watched from yours")
        await client.send(watch("open:somebody"), watch("closed:somebody"), watch("staff:somebody"))
        mine = watcher.partition(":")[0] == "staff"
        allowed = [status("open:somebody", False), denied, status("staff:somebody", False) if mine else denied]
        assert await client.settle() == allowed
        for address in ("open:somebody", "closed:somebody", "staff:somebody"):
            await relay.join(address)
        told = [status("open:somebody", True), status("staff:somebody", True)]
        assert await client.settle() == told[: 1 + mine]
        assert await relay.counts("watch_denied") == (1 if mine else 2)


async def test_watches_are_bounded() -> None:
    async with relaying(max_watches=10) as relay:
        alice = await relay.join(ALICE)
        full = error("TOO_MANY_WATCHES", "Too many addresses are watched")
        await alice.send(*[watch(f"pwa:somebody{number}") for number in range(1000)])
        told = await alice.settle()
        assert told == [status(f"pwa:somebody{number}", False) for number in range(10)] + [full] * 990
        assert await watches(relay) == 10
        # A watch again is no new one, and one that ends makes room.
        await alice.send(watch("pwa:somebody0"), unwatch("pwa:somebody1"), watch(BOB), watch(CAROL))
        assert await alice.settle() == [status("pwa:somebody0", False), status(BOB, False), full]


async def test_watches_of_nobody_possible_take_no_room(relay: Relaying) -> None:
    alice = await relay.join(ALICE)
    long = "pwa:" + "x" * 100_000
    await alice.send(*[watch(f"void:{number}") for number in range(500)], watch(long))
    told = await alice.settle()
    assert told == [*(status(f"void:{number}", False) for number in range(500)), status(long[:512], False)]
    assert await watches(relay) == 0


async def test_many_watchers_see_a_flapping_peer_consistently() -> None:
    async with relaying(memory=True) as relay:
        watchers = [await relay.join(f"pwa:watcher-{number}") for number in range(60)]
        for watcher in watchers:
            await watcher.send(watch(BOB))
        bob = await relay.join(BOB)
        for number in range(10):
            if number % 2:
                bob = await relay.join(BOB)
            else:
                await bob.aclose()
                await gone(relay, 60)
        for watcher in watchers:
            states = [frame["payload"]["online"] for frame in [await watcher.receive(), *await watcher.settle()]]
            assert states[-1] is True
            changes = [one for one, other in zip(states, [None, *states], strict=False) if one != other]
            assert changes == states
