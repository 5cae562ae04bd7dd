"""Clients that do not read: what waits for them is bounded, each policy does what it says, and nobody else notices."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import pytest
import trio
import trio_websocket

from .support import (
    ALICE,
    BOB,
    CAROL,
    PATIENCE,
    TEXT,
    Client,
    RawClient,
    Relaying,
    error,
    eventually,
    relaying,
    routed,
    status,
    target_of,
    watch,
)

SIZE: Final = 20_000
QUEUE: Final = 100_000
NUMBER: Final = 400
"""Messages: more than the sockets of both ends hold."""
BATCH: Final = 64 * 1024 + 2 * SIZE
"""What one read brings, at most: so much may be above the bound."""
LIMITED: Final = error("RATE_LIMITED", "Too many messages")
TOO_SLOW: Final = error("TOO_SLOW", "Messages were not read in time")


def message(number: int) -> dict[str, object]:
    return routed(ALICE, BOB, "x" * SIZE, number=number)


class Scene:
    """Alice writes to Bob, who does not read; Carol writes to herself, and watches Bob.

    Attributes:
        most: the largest backlog so far.
        written: set when Alice has got rid of everything.
    """

    def __init__(self, relay: Relaying, alice: Client, bob: RawClient, carol: Client) -> None:
        self.relay, self.alice, self.bob, self.carol = relay, alice, bob, carol
        self.most = 0
        self.written = trio.Event()
        self.told: list[Any] = []

    async def write(self) -> None:
        with suppress(trio_websocket.ConnectionClosed):
            for number in range(NUMBER):
                with trio.move_on_after(PATIENCE):
                    await self.alice.send(message(number))
        self.written.set()

    async def observe(self) -> None:
        """Remembers the backlog and what Carol is told, while she is served as always."""
        while True:
            self.most = max(self.most, self.relay.relay.statistics().backlog)
            await self.carol.send(routed(CAROL, CAROL, 1))
            with trio.fail_after(PATIENCE / 2):
                while (frame := await self.carol.receive()) != routed(CAROL, CAROL, 1):
                    self.told.append(frame)
            await trio.sleep(0.001)

    async def next(self) -> Any:
        """What Bob reads now."""
        opcode, payload = await self.bob.frame()
        assert opcode == TEXT
        return json.loads(payload)

    async def read(self) -> tuple[list[int], list[Any], int]:
        """What Bob reads at last: the numbers of messages, everything else, and the code at the end."""
        frames, code, _ = await self.bob.end()
        numbers = [frame["number"] for frame in frames if "number" in frame]
        return numbers, [frame for frame in frames if "number" not in frame], code


@asynccontextmanager
async def scene(*, lockstep: bool, query: str = "", **options: Any) -> AsyncIterator[Scene]:
    async with relaying(lockstep=lockstep, queue_bytes=QUEUE, max_message=QUEUE, **options) as relay:
        alice, carol = await relay.join(target_of(ALICE) + query), await relay.join(CAROL)
        bob = await relay.raw(target_of(BOB))
        await eventually(lambda: len(relay.relay.registry) == 3, "three peers")
        scene = Scene(relay, alice, bob, carol)
        await carol.send(watch(BOB))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scene.observe)
            nursery.start_soon(scene.write)
            yield scene
            nursery.cancel_scope.cancel()


@pytest.fixture(params=["socket", "lockstep"])
def lockstep(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "lockstep")


async def test_pause_stops_reading_from_the_sender_and_loses_nothing(lockstep: bool) -> None:
    async with scene(lockstep=lockstep) as it:
        await eventually(lambda: it.most >= QUEUE, "the queue is full")
        assert not it.written.is_set()
        assert [(await it.next())["number"] for _ in range(NUMBER)] == list(range(NUMBER))
        await it.written.wait()
        assert QUEUE <= it.most <= QUEUE + BATCH
        assert await it.relay.counts("slow_consumer_paused") >= 1
        assert it.told == [status(BOB, True)]
        await eventually(lambda: backlog_is(it, 0), "nothing waits")


async def backlog_is(it: Scene, size: int) -> bool:
    return it.relay.relay.statistics().backlog == size


async def test_pause_ends_with_the_disconnection_of_the_slow(lockstep: bool) -> None:
    async with scene(lockstep=lockstep, slow_consumer_timeout=0.1, query="?reports=1") as it:
        await it.written.wait()
        assert it.most <= QUEUE + BATCH
        numbers, _, code = await it.read()
        assert numbers == list(range(len(numbers)))
        assert len(numbers) < NUMBER
        # It reads again too late: the close frame can not be expected to get through.
        assert code in (1006, 1008)
        assert await it.relay.counts("slow_consumer_disconnected") == 1
        assert not it.relay.relay.registry.has("pwa", "bobbobbob")
        reports = await it.alice.settle()
        assert reports
        assert {report["payload"]["reason"] for report in reports} <= {"offline", "slow"}
        await eventually(lambda: status(BOB, False) in it.told, "Carol is told")


async def test_drop_newest_keeps_what_came_first(lockstep: bool) -> None:
    async with scene(lockstep=lockstep, slow_consumer="drop-newest", query="?reports=1") as it:
        await it.written.wait()
        reports = await it.alice.settle()
        dropped = await it.relay.counts("slow_consumer_dropped")
        assert dropped > 0
        assert it.most <= QUEUE
        late = error("UNDELIVERED", "The receiver does not read fast enough", to=BOB, reason="slow")
        assert reports == [late] * dropped
        numbers = [(await it.next())["number"] for _ in range(NUMBER - dropped)]
        assert numbers == list(range(NUMBER - dropped))
        assert it.relay.relay.statistics().messages_relayed >= NUMBER - dropped
        await it.alice.send(routed(ALICE, BOB, number=-1))
        assert (await it.next())["number"] == -1


async def test_drop_oldest_keeps_what_came_last(lockstep: bool) -> None:
    async with scene(lockstep=lockstep, slow_consumer="drop-oldest") as it:
        await it.written.wait()
        await it.alice.settle()
        dropped = await it.relay.counts("slow_consumer_dropped")
        assert dropped > 0
        assert it.most <= QUEUE
        numbers = [(await it.next())["number"] for _ in range(NUMBER - dropped)]
        assert numbers == sorted(numbers)
        assert numbers[-3:] == [NUMBER - 3, NUMBER - 2, NUMBER - 1]


async def test_disconnect_does_so_at_once(lockstep: bool) -> None:
    async with scene(lockstep=lockstep, slow_consumer="disconnect") as it:
        await it.written.wait()
        assert it.most <= QUEUE
        assert await it.relay.counts("slow_consumer_disconnected") == 1
        assert not it.relay.relay.registry.has("pwa", "bobbobbob")
        numbers, _, code = await it.read()
        assert numbers == list(range(len(numbers)))
        assert code in (1006, 1008)
        await eventually(lambda: it.told == [status(BOB, True), status(BOB, False)], "Carol is told")


async def test_a_slow_client_that_reads_again_in_time_is_told_why(lockstep: bool) -> None:
    async with scene(lockstep=lockstep, slow_consumer="disconnect") as it:
        await eventually(lambda: not it.relay.relay.registry.has("pwa", "bobbobbob"), "Bob is disconnected")
        numbers, others, code = await it.read()
        assert numbers == list(range(len(numbers)))
        assert (others, code) == ([TOO_SLOW], 1008)


@pytest.mark.parametrize("policy", ["pause", "drop-newest", "drop-oldest"])
async def test_presence_overtakes_messages(lockstep: bool, policy: str) -> None:
    async with scene(lockstep=lockstep, slow_consumer=policy) as it:
        await it.bob.send(watch("pwa:somebody"))
        assert (await it.next())["type"] == "peer-status"
        await eventually(lambda: it.most >= QUEUE - 2 * SIZE, "the queue is full")
        await it.relay.join("pwa:somebody")
        after = 0
        while await it.next() != status("pwa:somebody", True):
            after += 1
        assert after < NUMBER
        # All that waited in the queue comes later.
        for _ in range(3):
            assert "number" in (await it.next())


async def test_who_lets_its_answers_wait_is_not_read_from_and_then_disconnected(lockstep: bool) -> None:
    async with scene(lockstep=lockstep, slow_consumer="drop-newest", slow_consumer_timeout=0.2) as it:
        await eventually(lambda: it.most >= QUEUE - SIZE, "the queue is full")
        for _ in range(3):
            await it.bob.send(*[watch(f"void:{number}") for number in range(1200)])
        await eventually(lambda: not it.relay.relay.registry.has("pwa", "bobbobbob"), "Bob is disconnected")
        assert await it.relay.counts("slow_consumer_disconnected") == 1


async def test_all_answers_to_one_read_reach_who_reads_them(lockstep: bool) -> None:
    async with relaying(lockstep=lockstep, rate_limit_max_messages=10) as relay:
        bob = await relay.raw(target_of(BOB))
        await eventually(lambda: len(relay.relay.registry) == 1, "Bob is there")
        await bob.send(*[watch(f"void:{number}") for number in range(3000)])
        told = [json.loads((await bob.frame())[1]) for _ in range(3000)]
        assert told == [status(f"void:{number}", False) for number in range(10)] + [LIMITED] * 2990
        assert relay.relay.registry.has("pwa", "bobbobbob")


async def test_too_many_presence_frames_for_who_does_not_read_disconnect(
    lockstep: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_relay.serving.outbox._CONTROL_FRAMES", 20)
    async with scene(lockstep=lockstep) as it:
        await it.bob.send(watch("pwa:somebody"))
        await eventually(lambda: it.most >= QUEUE, "the queue is full")
        with trio.move_on_after(PATIENCE):
            while it.relay.relay.registry.has("pwa", "bobbobbob"):
                await (await it.relay.join("pwa:somebody")).aclose()
        assert await it.relay.counts("control_full") == 1
        assert await it.relay.counts("slow_consumer_disconnected") == 1


async def test_who_writes_to_itself_and_does_not_read_is_disconnected(lockstep: bool) -> None:
    async with (
        relaying(lockstep=lockstep, queue_bytes=QUEUE, max_message=QUEUE, slow_consumer_timeout=0.1) as relay,
        trio.open_nursery() as nursery,
    ):
        alice, carol = await relay.raw(target_of(ALICE)), await relay.join(CAROL)
        await carol.send(watch(ALICE))
        assert await carol.receive() == status(ALICE, True)
        nursery.start_soon(alice.send, *[routed(ALICE, ALICE, "x" * SIZE)] * NUMBER)
        assert await carol.receive() == status(ALICE, False)
        nursery.cancel_scope.cancel()
        assert await relay.counts("slow_consumer_disconnected") == 1


async def test_a_sender_may_leave_while_it_waits_for_a_slow_receiver(lockstep: bool) -> None:
    async with scene(lockstep=lockstep) as it:
        await eventually(lambda: it.most >= QUEUE, "the queue is full")
        replacing = await it.relay.connect(ALICE)
        # What had been read from the old connection is not lost.
        numbers = [(await it.next())["number"] for _ in range(3)]
        assert numbers == [0, 1, 2]
        assert await replacing.settle() == []
        assert [peer.address for peer in it.relay.relay.registry].count(ALICE) == 1
