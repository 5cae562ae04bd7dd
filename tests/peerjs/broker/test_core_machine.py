"""The tables of a broker under everything that can happen, in any order, against a naive model."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from trio_relay.peerjs.broker.core import MESSAGE_COST, Core, Expired, QueueLimits, Verdict

IDS = ["alice", "bob", "carol", "dave"]
MOST = 3
ALIVE, EXPIRE = 10.0, 4.0
# Room for more small messages than may wait, and for fewer large ones.
LIMITS = QueueLimits(messages=6, bytes=8 * MESSAGE_COST, all_messages=16, all_bytes=22 * MESSAGE_COST)

ids = st.sampled_from(IDS)
numbers = st.integers(0, 20)


@dataclass(eq=False)
class Fake:
    """One connection."""

    id: str
    token: str
    crowd: str


def cost(messages: list[tuple[str, str, bytes]]) -> int:
    return sum(len(frame) + MESSAGE_COST for _, _, frame in messages)


@dataclass
class Waiting:
    """What waits for one receiver."""

    since: float
    messages: list[tuple[str, str, bytes]] = field(default_factory=list)


class CoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.core: Core[Fake] = Core(most_members=MOST, alive_timeout=ALIVE, expire_timeout=EXPIRE, limits=LIMITS)
        self.now = 100.0
        # The model
        self.members: dict[str, Fake] = {}
        self.heard: dict[Fake, float] = {}
        self.queues: dict[str, Waiting] = {}

    def somebody(self, number: int) -> Fake:
        return list(self.heard)[number % len(self.heard)]

    def all_messages(self) -> list[tuple[str, str, bytes]]:
        return [message for queue in self.queues.values() for message in queue.messages]

    # What happens

    @rule(id=ids, token=st.sampled_from(["one", "two"]), crowd=st.sampled_from(["here", "there"]))
    def one_comes(self, id: str, token: str, crowd: str) -> None:
        there = self.members.get(id)
        verdict = self.core.judge(id, token)
        if there is not None:
            assert verdict is (Verdict.RETURNS if there.token == token else Verdict.TAKEN)
        else:
            assert verdict is (Verdict.FREE if len(self.members) < MOST else Verdict.FULL)
        if verdict in (Verdict.TAKEN, Verdict.FULL):
            return
        member = Fake(id, token, crowd)
        replaced, frames = self.core.enter(member, self.now)
        assert replaced is there
        waited = self.queues.pop(id, None)
        assert frames == ([frame for _, _, frame in waited.messages] if waited else [])
        self.members[id], self.heard[member] = member, self.now

    @precondition(lambda self: self.heard)
    @rule(number=numbers)
    def one_gives_its_id_back(self, number: int) -> None:
        member = self.somebody(number)
        had = self.members.get(member.id) is member
        assert self.core.leave(member) is had
        if had:
            del self.members[member.id]

    @precondition(lambda self: self.heard)
    @rule(number=numbers)
    def one_goes(self, number: int) -> None:
        member = self.somebody(number)
        self.one_gives_its_id_back(number)
        self.core.forget(member)
        self.core.heartbeat(member, self.now)
        del self.heard[member]

    @precondition(lambda self: self.heard)
    @rule(number=numbers)
    def one_is_heard(self, number: int) -> None:
        member = self.somebody(number)
        self.core.heartbeat(member, self.now)
        self.heard[member] = self.now

    @precondition(lambda self: self.heard)
    @rule(number=numbers, receiver=ids, size=st.integers(1, 25) | st.integers(60, 700), times=st.integers(1, 4))
    def messages_wait(self, number: int, receiver: str, size: int, times: int) -> None:
        if receiver in self.members:
            return
        sender = self.somebody(number)
        for count in range(times):
            frame = bytes([count]) * size
            fits = self.fits(sender, receiver, size)
            assert self.core.wait(receiver, sender, frame, self.now) is fits
            if fits:
                queue = self.queues.setdefault(receiver, Waiting(self.now))
                queue.messages.append((sender.id, sender.crowd, frame))

    def fits(self, sender: Fake, receiver: str, size: int) -> bool:
        everything = self.all_messages()
        queue = self.queues[receiver].messages if receiver in self.queues else []
        for messages, most, most_bytes in (
            (everything, LIMITS.all_messages, LIMITS.all_bytes),
            ([each for each in everything if each[1] == sender.crowd], LIMITS.all_messages / 4, LIMITS.all_bytes / 4),
            (queue, LIMITS.messages, LIMITS.bytes),
            ([each for each in queue if each[1] == sender.crowd], LIMITS.messages / 2, LIMITS.bytes / 2),
        ):
            if len(messages) + 1 > most or cost(messages) + size + MESSAGE_COST > most_bytes:
                return False
        return True

    @rule(seconds=st.floats(0, 6))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        expected = []
        for receiver in [name for name, queue in self.queues.items() if queue.since + EXPIRE <= self.now]:
            senders = dict.fromkeys(sender for sender, _, _ in self.queues.pop(receiver).messages)
            expected += [Expired(sender, receiver) for sender in senders]
        found = []
        while some := self.core.expire(self.now, 1):
            found += some
        assert found == expected
        silent = {member for member, heard in self.heard.items() if heard + ALIVE <= self.now}
        gone = set()
        while (member := self.core.pop_silent(self.now)) is not None:
            gone.add(member)
            self.core.leave(member)
        assert gone == silent
        for member in silent:
            del self.heard[member]
            if self.members.get(member.id) is member:
                del self.members[member.id]

    # What always holds

    @invariant()
    def it_agrees_with_the_model(self) -> None:
        core, messages = self.core, self.all_messages()
        assert core.members == self.members
        assert set(core.everybody()) == set(self.heard)
        assert core.waiting_messages == len(messages) <= LIMITS.all_messages
        assert core.waiting_bytes == cost(messages) <= LIMITS.all_bytes
        assert core.next_silent == min((heard + ALIVE for heard in self.heard.values()), default=math.inf)
        for id in IDS:
            there = self.members.get(id)
            assert [core.is_registered(id, token) for token in ("one", "two")] == [
                there is not None and there.token == token for token in ("one", "two")
            ]

    def teardown(self) -> None:
        """Nothing is left of what is over, in the tables that nobody sees either."""
        for member in list(self.heard):
            self.core.leave(member)
            self.core.forget(member)
        self.core.expire(self.now + EXPIRE, len(IDS))
        assert (self.core.waiting_messages, self.core.waiting_bytes, self.core._by_crowd) == (0, 0, {})


CoreMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=25)
TestCoreMachine = CoreMachine.TestCase


def test_one_crowd_leaves_half_of_a_queue_to_others() -> None:
    core: Core[Fake] = Core(most_members=MOST, alive_timeout=ALIVE, expire_timeout=EXPIRE, limits=LIMITS)
    flooders, other = [Fake(id, "t", "here") for id in IDS], Fake("bob", "t", "there")
    kept = Counter(core.wait("nobody", flooders[number % 4], b"x", 0.0) for number in range(100))
    assert kept == {True: 3, False: 97}
    assert core.wait("nobody", other, b"x", 0.0)


def test_there_is_an_end_for_all_crowds_together() -> None:
    core: Core[Fake] = Core(most_members=MOST, alive_timeout=ALIVE, expire_timeout=EXPIRE, limits=LIMITS)
    crowds = [Fake("alice", "t", f"crowd {number % 6}") for number in range(30)]
    kept = Counter(core.wait(f"nobody {number}", each, b"x", 0.0) for number, each in enumerate(crowds))
    assert kept == {True: 16, False: 14}


def test_a_share_is_used_to_the_last_byte() -> None:
    core: Core[Fake] = Core(most_members=MOST, alive_timeout=ALIVE, expire_timeout=EXPIRE, limits=LIMITS)
    alice = Fake("alice", "t", "here")
    for receiver, sizes in (("one", [3 * MESSAGE_COST]), ("two", [3 * MESSAGE_COST + 1])):
        kept = [core.wait(receiver, alice, b"x" * size, 0.0) for size in (*sizes, 0)]
        assert kept == [receiver == "one", receiver == "two"]


def test_one_crowd_leaves_three_quarters_of_everything_to_others() -> None:
    core: Core[Fake] = Core(most_members=MOST, alive_timeout=ALIVE, expire_timeout=EXPIRE, limits=LIMITS)
    crowd = [Fake(f"flooder {number}", "t", "here") for number in range(10)]
    kept = Counter(core.wait(f"nobody {each.id}", each, b"x", 0.0) for each in crowd)
    assert kept == {True: 4, False: 6}
    assert core.wait("nobody", Fake("bob", "t", "there"), b"x", 0.0)


def test_time_is_over_when_it_is_reached() -> None:
    core: Core[Fake] = Core(most_members=MOST, alive_timeout=ALIVE, expire_timeout=EXPIRE, limits=LIMITS)
    alice = Fake("alice", "t", "here")
    core.enter(alice, 0.0)
    for receiver in ("one", "two", "three"):
        core.wait(receiver, alice, b"x", 0.0)
    assert core.expire(EXPIRE, 2) == [Expired("alice", "one"), Expired("alice", "two")]
    assert core.pop_silent(core.next_silent) is alice
