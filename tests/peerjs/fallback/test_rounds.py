"""Which carriers two sides use, whatever each of them sees of a network: always the same in the end, nothing lost."""

from __future__ import annotations

import random
from typing import Final

import pytest
import trio
from trio.testing import MockClock

from tests.transports.fake_channel import Behaviour
from trio_relay.exceptions import PeerError
from trio_relay.peerjs.fallback.lasting import LastingPipe
from trio_relay.peerjs.fallback.rounds import Timing

from .fake_carriers import BLOCKED, LATENCY, NEVER, Kind, Link, Pair, Script, opened, take

GOOD: Final = Link()


def always(webrtc: Link | None, relay: Link | None) -> Script:
    return lambda kind, _round: webrtc if kind == "webrtc" else relay


def by_round(*rounds: dict[Kind, Link | None]) -> Script:
    """What is not named has no way."""
    return lambda kind, round_: rounds[round_].get(kind) if round_ < len(rounds) else None


def losing(side: int, after: int = 0) -> Link:
    """What this side sends is lost, from some message on."""
    lossy, whole = Behaviour(delay=LATENCY, loses_after=after), Behaviour(delay=LATENCY)
    return Link(behaviours=(lossy, whole) if side == 0 else (whole, lossy))


async def exchange(pair: Pair, word: str = "word") -> None:
    """Something arrives in both directions."""
    for one, other in (pair.pipes, pair.pipes[::-1]):
        await one.send(word)
        assert await take(other, 1) == [word]


def elapsed() -> float:
    return trio.current_time()


async def test_a_data_channel_that_opens_is_all_there_is(autojump_clock: MockClock) -> None:
    start = elapsed()
    async with opened(always(GOOD, GOOD)) as pair:
        assert elapsed() - start < 1
        await exchange(pair)
        assert pair.tried == ([("webrtc", 0)], [("webrtc", 0)])
        assert [pipe.transport for pipe in pair.pipes] == ["webrtc", "webrtc"]
        await trio.sleep(600)  # with nothing to say: signs of life keep it
        await exchange(pair)
        assert pair.tried == ([("webrtc", 0)], [("webrtc", 0)])
        assert not pair.counts


async def test_without_udp_the_relay_is_there_after_ten_seconds(autojump_clock: MockClock) -> None:
    start = elapsed()
    async with opened(always(BLOCKED, GOOD)) as pair:
        assert 10 < elapsed() - start < 11
        await exchange(pair)
        assert [pipe.transport for pipe in pair.pipes] == ["relay", "relay"]
        assert pair.counts == {"lasting_webrtc_failed": 2}


@pytest.mark.parametrize("fails", [(1.0, 2.0), (2.0, NEVER), (NEVER, 2.0)])
async def test_a_negotiation_that_fails_leads_to_the_relay_at_once(
    fails: tuple[float, float], autojump_clock: MockClock
) -> None:
    start = elapsed()
    async with opened(always(Link(opens=(NEVER, NEVER), fails=fails), GOOD)) as pair:
        assert elapsed() - start < min(max(fails), 10.0) + 1
        await exchange(pair)
        assert pair.tried == ([("webrtc", 0), ("relay", 0)],) * 2


@pytest.mark.parametrize("opens", [(1.0, NEVER), (NEVER, 1.0), (9.99, 10.01), (10.01, 9.99), (9.9, 9.97), (9.97, 9.9)])
async def test_a_channel_that_opened_for_one_side_only(opens: tuple[float, float], autojump_clock: MockClock) -> None:
    async with opened(always(Link(opens=opens), GOOD)) as pair:
        await exchange(pair)
        assert pair.pipes[0].transport == pair.pipes[1].transport
        assert elapsed() < 60


@pytest.mark.parametrize(
    ("side", "then"),
    [
        (0, [("webrtc", 1)]),  # the originator believed in it, and makes a new offer
        (1, [("relay", 0)]),  # the answerer did, and comes to the relay, where the originator waits
    ],
)
async def test_a_channel_that_carries_in_one_direction_only(
    side: int, then: list[tuple[Kind, int]], autojump_clock: MockClock
) -> None:
    """Who hears HELLO believes in the channel; the other side gives up on it, and closes it."""
    async with opened(by_round({"webrtc": losing(side), "relay": GOOD}, {"webrtc": GOOD})) as pair:
        await exchange(pair)
        assert elapsed() < 12
        assert pair.tried[0] == [("webrtc", 0), *then]
        assert pair.tried[1][-1:] == then
        assert pair.pipes[0].transport == pair.pipes[1].transport == then[0][0]


@pytest.mark.parametrize("side", [0, 1])
async def test_a_channel_that_falls_silent_is_replaced(side: int, autojump_clock: MockClock) -> None:
    async with opened(by_round({"webrtc": losing(side, 3)}, {"webrtc": GOOD})) as pair:
        for number in range(10):
            for pipe in pair.pipes:
                await pipe.send(f"{number}")
            await trio.sleep(1)
        for pipe in pair.pipes:
            assert await take(pipe, 10) == [f"{number}" for number in range(10)]
        assert 15 < elapsed() < 40
        assert ("webrtc", 1) in pair.tried[0]


async def test_a_channel_that_breaks_is_negotiated_again_at_once(autojump_clock: MockClock) -> None:
    async with opened(always(GOOD, GOOD)) as pair:
        for round_ in range(3):
            await exchange(pair)
            await trio.sleep(31)
            start = elapsed()
            pair.cut("webrtc", round_)
            await exchange(pair, "after")
            assert elapsed() - start < 1
        assert pair.tried[0] == [("webrtc", n) for n in range(4)]
        assert pair.counts["lasting_broken"] == 6


async def test_when_negotiating_again_fails_the_relay_goes_on(autojump_clock: MockClock) -> None:
    async with opened(by_round({"webrtc": GOOD}, {"webrtc": BLOCKED, "relay": GOOD}, {"webrtc": GOOD})) as pair:
        await exchange(pair)
        pair.cut("webrtc", 0)
        await exchange(pair)
        assert [pipe.transport for pipe in pair.pipes] == ["relay", "relay"]
        pair.cut("relay", 1)
        await exchange(pair)
        assert [pipe.transport for pipe in pair.pipes] == ["webrtc", "webrtc"]


async def test_carriers_that_keep_breaking_are_not_replaced_without_a_pause(autojump_clock: MockClock) -> None:
    async with opened(always(Link(behaviours=(Behaviour(breaks_after=2),) * 2), None)) as pair:
        with trio.move_on_after(100):
            while True:
                await pair.pipes[0].send("x")
                await take(pair.pipes[1], 1)
        assert 5 < len(pair.tried[0]) < 25


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_breaks_everything_arrives_once_and_in_order(seed: int, autojump_clock: MockClock) -> None:
    rng = random.Random(seed)
    links = {
        (kind, round_): rng.choice(
            [
                BLOCKED,
                losing(rng.randrange(2), rng.randrange(40)),
                *[
                    Link(
                        opens=(rng.uniform(0, 12), rng.uniform(0, 12)),
                        behaviours=(
                            Behaviour(delay=0.1, breaks_after=rng.randrange(1, 60), rate=1e6),
                            Behaviour(delay=0.1, rate=1e6),
                        ),
                    )
                    for _ in range(4)
                ],
            ]
        )
        for kind in ("webrtc", "relay")
        for round_ in range(400)
    }
    sizes = [rng.choice([10, 1000, 16_355, 40_000, 300_000]) for _ in range(40)]
    messages = [rng.randbytes(size) for size in sizes] + ["the last one"]
    timing = Timing(give_up=10_000)

    async def send(pipe: LastingPipe) -> None:
        for message in messages:
            await pipe.send(message)

    async with opened(lambda kind, round_: links[kind, round_], timing) as pair:
        async with trio.open_nursery() as nursery:
            for pipe in pair.pipes:
                nursery.start_soon(send, pipe)
            for pipe in pair.pipes:
                assert await take(pipe, len(messages)) == messages
        assert len(pair.tried[0]) > 2
        assert not pair.errors


async def test_without_any_carrier_it_fails_after_a_minute(autojump_clock: MockClock) -> None:
    async with opened(always(BLOCKED, BLOCKED), wait=False) as pair:
        for pipe in pair.pipes:
            with pytest.raises(Exception, match="no connection for 60 s"):
                await pipe.wait_open()
        await trio.sleep(1)
        assert {side: error.type for side, error in pair.errors.items()} == dict.fromkeys((0, 1), "negotiation-failed")
        assert all(60 <= time < 61 for time in pair.ended.values())


async def test_without_a_relay_in_common_the_first_round_is_the_last(autojump_clock: MockClock) -> None:
    async with opened(always(BLOCKED, None), wait=False) as pair:
        with pytest.raises(PeerError, match="no relay in common, and no WebRTC") as caught:
            await pair.pipes[0].wait_open()
        assert caught.value.type == "negotiation-failed"
        assert elapsed() < 11
        assert pair.tried[0] == [("webrtc", 0)]


async def test_when_no_carrier_is_found_again_it_fails_after_a_minute(autojump_clock: MockClock) -> None:
    async with opened(by_round({"webrtc": GOOD})) as pair:
        await exchange(pair)
        start = elapsed()
        await pair.pipes[0].send("lost")
        pair.cut("webrtc", 0)
        for pipe in pair.pipes:
            with pytest.raises(trio.BrokenResourceError, match="no connection for 60 s: there is no way"):
                await pipe.receive()
            with pytest.raises(trio.BrokenResourceError, match="no connection"):
                await pipe.send("more")
        assert elapsed() - start == pytest.approx(60)
        await trio.sleep(1)
        assert {error.type for error in pair.errors.values()} == {"connection-closed"}


async def test_offers_of_earlier_rounds_are_ignored(autojump_clock: MockClock) -> None:
    async with opened(always(GOOD, GOOD)) as pair:
        pair.pipes[1].offer_came(0)
        await exchange(pair)
        assert pair.tried[1] == [("webrtc", 0)]
        assert pair.counts == {"lasting_old_offers": 1}
