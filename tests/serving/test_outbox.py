"""What waits for a slow client, under every policy: against a connection that takes what it likes and may break."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any, Final
from unittest.mock import patch

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wsrelay.fakes import FakeConnection, make_outbox, make_rules, starting_in
from tests.wsrelay.support import ALICE, LIMITS, eventually, make_config, relaying
from trio_relay.serving import outbox as outbox_module
from trio_relay.serving.outbox import Outbox, SlowConsumer

POLICIES: Final[tuple[SlowConsumer, ...]] = ("pause", "drop-newest", "drop-oldest", "disconnect")
MOST_BYTES: Final = 100
MOST_MESSAGES: Final = 6
MOST_CONTROL: Final = 5
WRITE_SIZE: Final = 40
BIGGEST: Final = 30
LARGEST_BATCH: Final = 4 * BIGGEST


class Walk:
    """One outbox, its connection, and what is known of every message that was given to it."""

    def __init__(self, nursery: trio.Nursery, policy: SlowConsumer, direct: bool) -> None:
        self.nursery: Final = nursery
        self.policy: Final = policy
        self.connection: Final = FakeConnection(direct=direct, room=50)
        self.counts: Final[Counter[str]] = Counter()
        self.overflows: Final[list[Outbox]] = []
        rules = make_rules(
            self.start_soon,
            self.counts,
            self.overflows.append,
            policy=policy,
            most_bytes=MOST_BYTES,
            most_messages=MOST_MESSAGES,
        )
        self.outbox: Final = make_outbox(self.connection, rules)
        self.writers = 0
        self.offered = self.controls = 0
        self.refused = False  # a control frame, for there were too many or the outbox was closed
        # number of a control frame -> messages that may be written before it
        self.before: Final[dict[int, int]] = {}
        self.waiting_tasks = {"room": 0, "answered": 0, "drained": 0}

    def start_soon(self, function: Callable[[], Awaitable[None]]) -> None:
        async def write() -> None:
            self.writers += 1
            assert self.writers == 1, "two writers"
            await function()
            self.writers -= 1

        self.nursery.start_soon(write)

    @property
    def written(self) -> list[int]:
        return [int(message[1:5]) for message in self.connection.wire if message[:1] == b"m"]

    def send(self, number: int, size: int) -> None:
        if self.policy == "pause" and self.outbox.high:
            return
        batch = [b"m%04d" % (self.offered + n) + b"." * (size - 5) for n in range(number)]
        self.offered += number
        kept = self.outbox.send(batch, number * size)
        assert 0 <= kept <= number

    def push(self, number: int) -> None:
        for _ in range(number):
            full = self.counts["control_full"]
            ahead = len(self.written) + self.outbox._in_hand_messages
            self.outbox.push(b"c%04d" % self.controls)
            if self.outbox.closed or self.counts["control_full"] > full:
                self.refused = True
            else:
                self.before[self.controls] = ahead
            self.controls += 1

    def answer(self, number: int) -> None:
        if self.outbox.crowded:
            return
        ahead = len(self.written) + self.outbox._in_hand_messages
        self.outbox.answer(*[b"c%04d" % (self.controls + n) for n in range(number)])
        for n in range(number):
            if self.outbox.closed:
                self.refused = True
            else:
                self.before[self.controls + n] = ahead
        self.controls += number

    def step(self, what: str, number: int, size: int) -> None:
        match what:
            case "send":
                self.send(number, size)
            case "push":
                self.push(number)
            case "answer":
                self.answer(number)
            case "room":
                self.connection.give_room(size)
            case "ping":
                self.outbox.ping()
            case "fail":
                self.connection.fail()
            case "abort":
                self.outbox.abort()
            case "wait room":
                self.nursery.start_soon(self.wait, "room", self.outbox.wait_room)
            case "wait answered":
                self.nursery.start_soon(self.wait, "answered", self.outbox.wait_answered)
            case "drain":
                self.nursery.start_soon(self.wait, "drained", self.outbox.drain)

    async def wait(self, name: str, call: Callable[[], Awaitable[None]]) -> None:
        self.waiting_tasks[name] += 1
        await call()
        self.waiting_tasks[name] -= 1

    # What holds

    def check(self) -> None:
        outbox, counts = self.outbox, self.counts
        written = self.written
        assert all(a < b for a, b in pairwise(written)), written
        controls = [int(message[1:5]) for message in self.connection.wire if message[:1] == b"c"]
        assert all(a < b for a, b in pairwise(controls)), controls
        lost = counts["slow_consumer_dropped"] + counts["client_broken"] + counts["client_closing"]
        assert len(written) + outbox.waiting + outbox._in_hand_messages + lost >= self.offered
        if not counts["client_broken"]:
            assert len(written) + outbox.waiting + lost <= self.offered
        assert outbox.waiting <= MOST_MESSAGES + (4 if self.policy == "pause" else 0)
        most = MOST_BYTES + LARGEST_BATCH if self.policy == "pause" else max(MOST_BYTES, LARGEST_BATCH)
        assert outbox.size <= most
        assert len(outbox._control or ()) < MOST_CONTROL + 4  # one batch above at most
        assert outbox._control_size == sum(map(len, outbox._control or ()))
        assert len(self.overflows) <= 1
        assert self.connection.most_held <= max(LARGEST_BATCH, WRITE_SIZE + BIGGEST, 5 * (MOST_CONTROL + 4))
        if outbox.closed and self.connection.closed:
            assert (outbox.size, outbox.waiting) == (0, 0)

    def check_idle(self) -> None:
        self.check()
        outbox = self.outbox
        assert (self.writers == 1) == outbox._writing
        if not outbox._writing:
            assert (outbox.size, outbox.waiting) == (0, 0)
            assert not outbox._control
            assert self.waiting_tasks == {"room": 0, "answered": 0, "drained": 0}
        elif self.waiting_tasks["room"]:
            # By number, those in hand count until they are written.
            messages = outbox.waiting + outbox._in_hand_messages
            assert 2 * outbox.size > MOST_BYTES or 2 * messages > MOST_MESSAGES
        for number, ahead in self.before.items():
            name = b"c%04d" % number
            if name in self.connection.wire:
                at = self.connection.wire.index(name)
                assert sum(message[:1] == b"m" for message in self.connection.wire[:at]) <= ahead
        if self.counts["client_broken"]:
            assert self.connection.closed

    def check_end(self) -> None:
        """The connection took everything, or is gone."""
        self.check_idle()
        assert self.writers == 0
        counts = self.counts
        if not self.connection.broken and not self.connection.closed:
            lost = counts["slow_consumer_dropped"] + counts["client_closing"]
            assert len(self.written) + lost == self.offered
            sent = [message for message in self.connection.wire if message[:1] == b"c"]
            assert self.refused or len(sent) == self.controls


steps = st.tuples(
    st.sampled_from(
        ["send"] * 6
        + ["push"] * 2
        + ["answer"]
        + ["room"] * 3
        + ["ping", "wait room", "wait answered", "turn", "turn", "idle", "drain"]
    ),
    st.integers(1, 4),
    st.integers(5, BIGGEST),
)
endings = st.tuples(st.sampled_from(["fail", "abort", "idle", "idle"]), st.just(1), st.just(5))


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("policy", POLICIES)
def test_bounded_in_order_and_once_whatever_happens(policy: SlowConsumer, direct: bool) -> None:
    @settings(max_examples=25)
    @given(st.lists(steps, max_size=40), endings, st.lists(steps, max_size=6))
    def run(
        before: list[tuple[str, int, int]], ending: tuple[str, int, int], after: list[tuple[str, int, int]]
    ) -> None:
        async def play() -> None:
            async with trio.open_nursery() as nursery:
                walk = Walk(nursery, policy, direct)
                for what, number, size in [*before, ending, *after]:
                    if what == "turn":
                        await trio.lowlevel.checkpoint()
                    elif what == "idle":
                        await trio.testing.wait_all_tasks_blocked()
                        walk.check_idle()
                    walk.step(what, number, size)
                    walk.check()
                walk.connection.give_room(1 << 40)
                await trio.testing.wait_all_tasks_blocked()
                walk.check_end()

        trio.run(play)

    with (
        patch.object(outbox_module, "_CONTROL_FRAMES", MOST_CONTROL),
        patch.object(outbox_module, "_WRITE_SIZE", WRITE_SIZE),
    ):
        run()


async def test_a_writer_that_is_cancelled_leaves_the_connection_aborted() -> None:
    counts: Counter[str] = Counter()
    connection = FakeConnection(room=7)
    async with trio.open_nursery() as outer, trio.open_nursery() as nursery:
        outbox = make_outbox(connection, make_rules(starting_in(nursery), counts))
        outbox.send([b"12345", b"67890"], 10)
        outbox.send([b"abc"], 3)
        outbox.push(b"{}")
        outer.start_soon(outbox.drain)
        outer.start_soon(outbox.wait_room)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert connection.closed
    assert outbox.closed
    assert (outbox.size, outbox.waiting) == (0, 0)
    assert connection.wire == [b"12345"]
    assert counts["client_broken"] >= 2  # the message that was cut, and the one that waited


async def test_who_waits_for_room_goes_on_when_the_first_write_alone_made_enough() -> None:
    connection = FakeConnection(room=0)
    async with trio.open_nursery() as nursery:
        outbox = make_outbox(connection, make_rules(starting_in(nursery), Counter(), most_bytes=100))
        outbox.send([b"x" * 90], 90)
        outbox.send([b"y" * 10], 10)
        nursery.start_soon(outbox.wait_room)
        await trio.testing.wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 2
        connection.give_room(90)
        await trio.testing.wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 1  # the writer
        outbox.abort()


@pytest.mark.parametrize("direct", [True, False])
async def test_a_drop_policy_keeps_what_its_name_says(direct: bool) -> None:
    kept = {}
    for policy in ("drop-newest", "drop-oldest"):
        counts: Counter[str] = Counter()
        connection = FakeConnection(direct=direct, room=0)
        async with trio.open_nursery() as nursery:
            rules = make_rules(starting_in(nursery), counts, policy=policy, most_messages=3)
            outbox = make_outbox(connection, rules)
            outbox.send([b"0"], 1)
            await trio.testing.wait_all_tasks_blocked()  # in hand
            for number in range(1, 9):
                outbox.send([b"%d" % number], 1)
            connection.give_room(100)
        assert counts == {"slow_consumer_dropped": 5}
        kept[policy] = b"".join(connection.wire)
    assert kept == {"drop-newest": b"0123", "drop-oldest": b"0678"}


async def test_disconnect_says_so_once() -> None:
    overflows: list[Outbox] = []
    async with trio.open_nursery() as nursery:
        rules = make_rules(starting_in(nursery), Counter(), overflows.append, policy="disconnect", most_messages=1)
        outbox = make_outbox(FakeConnection(room=0), rules)
        for _ in range(10):
            outbox.send([b"x"], 1)
        assert overflows == [outbox]
        outbox.abort()


async def test_a_client_that_reads_costs_no_task() -> None:
    started: list[object] = []
    outbox = make_outbox(FakeConnection(), make_rules(started.append, Counter()))
    for _ in range(100):
        assert outbox.send([b"x", b"y"], 2) == 2
        outbox.push(b"{}")
        outbox.ping()
    await outbox.wait_room()
    await outbox.drain()
    assert started == []


# The same as the relay uses it


async def test_send_says_no_to_a_client_that_was_too_slow() -> None:
    async with relaying(slow_consumer_timeout=0.05) as running:
        await running.raw()
        await eventually(lambda: running.relay.registry.get_by_address(ALICE) is not None, "alice is let in")
        message = "x" * 1_000_000
        answers = []
        while running.relay.registry.get_by_address(ALICE) is not None:
            answers.append(await running.relay.send(ALICE, message))
        assert answers[0]
        assert not answers[-1]
        assert await running.counts("slow_consumer_disconnected") == 1


async def test_sends_that_waited_together_do_not_pass_the_bound_together() -> None:
    async with relaying(lockstep=True, slow_consumer_timeout=0.05, max_message=1000, queue_bytes=2000) as running:
        await running.raw()
        most = 0
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(running.relay.send, ALICE, "x" * 900)
            while len(running.relay.registry):
                await trio.testing.wait_all_tasks_blocked(0.001)
                most = max(most, running.relay.statistics().backlog)
                if not nursery.child_tasks:
                    break
        assert most <= 3000


@pytest.mark.parametrize("policy", ["drop-newest", "drop-oldest", "disconnect"])
async def test_another_policy_holds_for_those_who_are_connected_already(policy: str) -> None:
    config: dict[str, Any] = {"max_message": 100_000, "queue_bytes": 200_000, "limits": LIMITS}
    async with relaying(**config) as running:
        await running.raw()
        await eventually(lambda: running.relay.registry.get_by_address(ALICE) is not None, "alice is let in")
        running.relay.configure(make_config(slow_consumer=policy, **config))
        for _ in range(100):
            await running.relay.send(ALICE, "x" * 90_000)
        statistics = running.relay.statistics()
        assert statistics.backlog <= 200_000
        assert statistics.counts["slow_consumer_dropped"] > 0
