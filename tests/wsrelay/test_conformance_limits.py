"""Rates, sizes, bad frames and heartbeats: what is refused, what closes a connection, and that others do not notice."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from trio_relay.wsrelay import RelayStatistics

from .support import (
    ALICE,
    BINARY,
    BOB,
    PING,
    PONG,
    TEXT,
    Client,
    Relaying,
    client_frame,
    compact,
    error,
    relaying,
    routed,
    status,
    target_of,
    watch,
)

TOO_MANY = error("RATE_LIMITED", "Too many messages")
TOO_MUCH = error("RATE_LIMITED", "Too many bytes")


async def received(client: Client, number: int) -> list[Any]:
    return [await client.receive() for _ in range(number)]


def numbered(*numbers: int) -> list[dict[str, object]]:
    return [routed(ALICE, BOB, number) for number in numbers]


# Messages in a window


@pytest.mark.parametrize("memory", [False, True])
async def test_each_message_beyond_the_limit_is_answered_with_one_error(memory: bool) -> None:
    async with relaying(memory=memory, rate_limit_max_messages=10) as relay:
        alice, bob = await relay.connect(ALICE), await relay.connect(BOB)
        # Frames of every kind count.
        await alice.send(watch(BOB), "no json", [], *numbered(*range(7)))
        await alice.send(*numbered(7, 8), watch(BOB), "no json", b"")
        assert await received(alice, 6) == [status(BOB, True), *[TOO_MANY] * 5]
        assert await received(bob, 7) == numbered(*range(7))
        # Its own limit only, and the connection stays.
        await bob.send(routed(BOB, ALICE, 1))
        assert await alice.receive() == routed(BOB, ALICE, 1)
        assert await relay.counts("rate_limited_messages") == 5


async def test_a_flood_in_one_read_is_answered_whole() -> None:
    async with relaying(rate_limit_max_messages=10) as relay:
        alice = await relay.raw(target_of(ALICE))
        await alice.send(*["{}"] * 3000)
        answers = [await alice.frame() for _ in range(2990)]
        assert set(answers) == {(TEXT, compact(TOO_MANY).encode())}
        assert [peer.address for peer in relay.relay.registry] == [ALICE]


async def test_a_window_starts_with_the_first_message_after_the_last(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with relaying(memory=True, rate_limit_max_messages=3, rate_limit_window=60) as relay:
        alice, bob = await relay.connect(ALICE), await relay.connect(BOB)
        await trio.sleep(1000)
        began = trio.current_time()

        async def say(at: float, *numbers: int, refused: int = 0) -> None:
            await trio.sleep_until(began + at)
            await alice.send(*numbered(*numbers))
            assert await received(bob, len(numbers) - refused) == numbered(*numbers)[: len(numbers) - refused]
            assert await received(alice, refused) == [TOO_MANY] * refused

        await say(0, 1)
        await say(30, 2, 3)
        await say(59, 4, refused=1)
        # Exactly one window later it is still the old one.
        await say(60, 5, refused=1)
        await say(60.5, 6, 7, 8, 9, refused=1)
        await say(120.25, 10, refused=1)
        await say(121, 11)
        assert await relay.counts("rate_limited_messages") == 4


async def test_bytes_of_refused_messages_are_counted() -> None:
    class Keys:
        def validate(self, key: str) -> bool:
            return True

    async with relaying(rate_limit_max_messages=2, key_store=Keys()) as relay:
        alice = await relay.connect("/pwa/alice123?key=alicekey")
        bob = await relay.connect("/pwa/bobbobbob?key=bobs-key")
        frames = [compact(message) for message in numbered(1, 2, 3, 4)] + ["no json é"]
        await alice.send(*frames)
        assert await received(alice, 3) == [TOO_MANY] * 3
        assert await received(bob, 2) == numbered(1, 2)
        seen: RelayStatistics = relay.relay.statistics()
        everything = sum(len(frame.encode()) for frame in frames)
        forwarded = sum(len(frame.encode()) for frame in frames[:2])
        assert (seen.bytes_in, seen.bytes_out) == (everything, forwarded)
        assert (seen.keys["alicekey"].current.bytes_in, seen.keys["alicekey"].current.bytes_out) == (everything, 0)
        assert (seen.keys["bobs-key"].current.bytes_in, seen.keys["bobs-key"].current.bytes_out) == (0, forwarded)
        peers = {peer.address: (peer.bytes_in, peer.bytes_out) for peer in relay.relay.registry}
        assert peers == {ALICE: (everything, 0), BOB: (0, forwarded)}


# Bytes a second


@pytest.mark.parametrize("by", ["ip", "key"])
async def test_bytes_beyond_the_rate_are_refused(by: str, autojump_clock: trio.testing.MockClock) -> None:
    class Keys:
        def validate(self, key: str) -> bool:
            return True

    limits: dict[str, Any] = {f"max_bytes_per_second_per_{by}": 1000.0, f"burst_bytes_per_{by}": 2000.0}
    limits |= {"max_message": 2000, "queue_bytes": 2000}
    async with relaying(memory=True, key_store=Keys(), **limits) as relay:
        alice = await relay.connect("/pwa/alice123?key=same-key")
        other = await relay.connect("/pwa/carol123?key=same-key")
        bob = await relay.connect("/pwa/bobbobbob?key=bobs-key")
        message = routed(ALICE, BOB, "x" * (1000 - len(compact(routed(ALICE, BOB, "")))))
        await alice.send(message, message, message)
        assert await received(bob, 2) == [message] * 2
        assert await alice.receive() == TOO_MUCH
        # Others of the same key, or address, share it.
        await other.send(watch(BOB))
        assert await other.receive() == TOO_MUCH
        await trio.sleep(1)
        await alice.send(message, message)
        assert await bob.receive() == message
        assert await alice.receive() == TOO_MUCH
        assert await relay.counts("rate_limited_bytes") == 3


# Frames that close


async def ended_after(*frames: bytes, **options: Any) -> tuple[list[Any], list[Any], int]:
    """What Bob gets, what Alice is told, and her close code, after she sent frames; Bob must not notice anything."""
    async with relaying(**options) as relay:
        bob, alice = await relay.join(BOB), await relay.raw(target_of(ALICE))
        await bob.send(watch(ALICE))
        assert await bob.receive() == status(ALICE, True)
        await alice.send(*frames)
        told, code, _ = await alice.end()
        heard = []
        while (frame := await bob.receive()) != status(ALICE, False):
            heard.append(frame)
        await bob.send(routed(BOB, BOB, "well"))
        assert await bob.receive() == routed(BOB, BOB, "well")
        return heard, told, code


ONE = client_frame(compact(routed(ALICE, BOB, 1)).encode())
BAD_UTF8 = b'{"from":"pwa:alice123","to":"pwa:bobbobbob","payload":"\xff"}'


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_invalid_utf8_closes_after_what_came_before_it(opcode: int) -> None:
    heard, told, code = await ended_after(ONE, ONE, client_frame(BAD_UTF8, opcode), ONE)
    assert (heard, told, code) == ([routed(ALICE, BOB, 1)] * 2, [], 1007)


@pytest.mark.parametrize("payload", [b"\xff", b'"\xed\xa0\x80"', b'{"type":"watch","address":"\xc0"}'])
async def test_invalid_utf8_closes_whatever_the_message_is(payload: bytes) -> None:
    assert (await ended_after(client_frame(payload)))[2] == 1007


async def test_a_message_that_is_too_long_closes() -> None:
    heard, told, code = await ended_after(ONE, client_frame(b"x" * (2 * 1024 * 1024)))
    assert (heard, told, code) == ([routed(ALICE, BOB, 1)], [], 1009)


async def test_an_announced_length_is_enough_to_be_closed() -> None:
    heard, told, code = await ended_after(ONE, b"\x81\xff" + (100 * 1024 * 1024).to_bytes(8, "big") + bytes(4))
    assert (heard, told, code) == ([routed(ALICE, BOB, 1)], [], 1009)


async def test_the_longest_message_is_forwarded() -> None:
    async with relaying(max_message=1000, queue_bytes=1000) as relay:
        alice, bob = await relay.join(ALICE), await relay.join(BOB)
        message = routed(ALICE, BOB, "x" * (1000 - len(compact(routed(ALICE, BOB, "")))))
        await alice.send(message, {**message, "x": 1})
        assert await bob.receive() == message
        assert (await alice.end())[1] == 1009


async def test_a_flood_of_fragments_closes() -> None:
    flood = [client_frame(b"", TEXT, fin=False), *[client_frame(b"", 0, fin=False)] * 100]
    heard, told, code = await ended_after(ONE, *flood)
    assert (heard, told, code) == ([routed(ALICE, BOB, 1)], [], 1008)


@pytest.mark.parametrize(
    "frame", [b"\xff" * 20, client_frame(b"", 3), client_frame(b"", 0), b"\x81\x02{}", client_frame(b"x" * 126, PING)]
)
async def test_frames_that_break_the_rules_close(frame: bytes) -> None:
    heard, told, code = await ended_after(ONE, frame, ONE)
    assert (heard, told, code) == ([routed(ALICE, BOB, 1)], [], 1002)


async def test_a_message_in_fragments_is_one_message() -> None:
    async with relaying() as relay:
        bob, alice = await relay.join(BOB), await relay.raw(target_of(ALICE))
        text = compact(routed(ALICE, BOB, "é")).encode()
        cut = text.index("é".encode()) + 1
        await alice.send(client_frame(text[:cut], fin=False))
        await alice.send(client_frame(b"ping", PING), client_frame(b"", 0, fin=False), client_frame(text[cut:], 0))
        assert await bob.frame() == text.decode()
        assert await alice.frame() == (PONG, b"ping")


# Heartbeats


async def until_dropped(relay: Relaying, interval: float) -> float:
    """Connects a client that does not answer pings; returns the seconds until Bob heard that it is gone."""
    bob = await relay.join(BOB)
    await bob.send(watch(ALICE))
    began = trio.current_time()
    silent = await relay.raw(target_of(ALICE))
    assert await received(bob, 2) == [status(ALICE, False), status(ALICE, True)]
    while len(relay.relay.registry) == 2:
        await trio.sleep(interval / 10)
    passed = trio.current_time() - began
    assert await bob.receive() == status(ALICE, False)
    assert await silent.frame() == (PING, b"")
    assert (await silent.end())[1] == 1006
    assert await relay.counts("heartbeat_lost") == 1
    return passed


async def test_a_silent_client_is_dropped_within_two_intervals(autojump_clock: trio.testing.MockClock) -> None:
    async with relaying(memory=True, heartbeat_interval=30) as relay:
        assert 30 <= await until_dropped(relay, 30) <= 63


async def test_a_silent_client_on_a_socket_is_dropped() -> None:
    async with relaying(heartbeat_interval=0.2) as relay:
        with trio.fail_after(5):
            assert await until_dropped(relay, 0.2) >= 0.2


async def test_clients_that_answer_or_speak_stay(autojump_clock: trio.testing.MockClock) -> None:
    async with relaying(memory=True, heartbeat_interval=30) as relay:
        answering, talking = await relay.join(ALICE), await relay.raw(target_of(BOB))
        for _ in range(20):
            await trio.sleep(25)
            await talking.send(routed(BOB, ALICE, 1))
            assert await answering.receive() == routed(BOB, ALICE, 1)
        assert len(relay.relay.registry) == 2
        assert await relay.counts("heartbeat_lost") == 0


async def test_a_client_that_is_being_checked_is_not_dropped(autojump_clock: trio.testing.MockClock) -> None:
    class SlowKeys:
        async def validate(self, key: str) -> bool:
            await trio.sleep(9)
            return True

    async with relaying(memory=True, heartbeat_interval=2, key_store=SlowKeys(), key_check_interval=None) as relay:
        alice = await relay.connect("/pwa/alice123?key=good-key")
        await trio.sleep(9.5)
        assert await alice.settle() == []
