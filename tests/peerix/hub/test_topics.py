"""Topics and their subscribers, under whatever is asked of them, against a naive model."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from trio_relay.peerix.hub.topics import EVERY, Full, TopicBounds, Topics

TOPICS = ["a", "b", "c", "d", EVERY]
PEOPLE = ["ann", "ben", "cid", "dot"]
names = st.sampled_from(PEOPLE)
topics = st.lists(st.sampled_from(TOPICS), min_size=1, max_size=4)


class TopicsMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.bounds = TopicBounds(topics=4, subscribers=2, each=3)
        self.topics: Topics[str] = Topics(self.bounds)
        self.model: set[tuple[str, str]] = set()

    def count(self, *, name: str | None = None, topic: str | None = None) -> int:
        return sum(name in (None, one) and topic in (None, other) for one, other in self.model)

    @rule(name=names, wanted=topics)
    def subscribe(self, name: str, wanted: list[str]) -> None:
        new = {topic for topic in wanted if (name, topic) not in self.model}
        there = {topic for _, topic in self.model}
        if self.count(name=name) + len(new) > self.bounds.each:
            expected = Full.EACH
        elif len(there | new) > self.bounds.topics and not new <= there:
            expected = Full.TOPICS
        elif any(self.count(topic=topic) >= self.bounds.subscribers for topic in new):
            expected = Full.SUBSCRIBERS
        else:
            expected = None
        assert self.topics.judge(name, wanted) is expected
        assert self.topics.subscribe(name, wanted) is expected
        if expected is None:
            self.model |= {(name, topic) for topic in wanted}

    @rule(name=names, topic=st.sampled_from(TOPICS))
    def unsubscribe(self, name: str, topic: str) -> None:
        self.topics.unsubscribe(name, topic)
        self.model.discard((name, topic))

    @rule(name=names)
    def leave(self, name: str) -> None:
        self.topics.leave(name)
        self.model = {(other, topic) for other, topic in self.model if other != name}

    @rule(said=st.lists(st.sampled_from(TOPICS[:-1]), min_size=1, max_size=3), but=names | st.none())
    def publish(self, said: list[str], but: str | None) -> None:
        receivers = self.topics.receivers(said, but)
        wanted = {name for name, topic in self.model if topic in said or topic == EVERY} - {but}
        assert receivers.keys() == wanted
        for name, topic in receivers.items():
            heard = [topic for topic in said if (name, topic) in self.model]
            assert topic == (heard or said)[0]

    @rule(most=st.integers(1, 4))
    def change_bounds(self, most: int) -> None:
        self.bounds.each = most

    @invariant()
    def nothing_is_kept_of_who_is_gone(self) -> None:
        assert self.topics.subscriptions == len(self.model)
        assert self.topics.subscribers == len({name for name, _ in self.model})
        assert self.topics.topics == len({topic for _, topic in self.model})
        for name in PEOPLE:
            assert set(self.topics.of(name)) == {topic for other, topic in self.model if other == name}


TopicsMachine.TestCase.settings = settings(max_examples=10, stateful_step_count=15)
test_topics = TopicsMachine.TestCase


def test_somebody_new_is_judged_without_a_name() -> None:
    topics: Topics[str] = Topics(TopicBounds(2, 1, 2))
    assert topics.subscribe("ann", ["a"]) is None
    assert topics.judge(None, ["a"]) is Full.SUBSCRIBERS
    assert topics.judge(None, ["b", "c"]) is Full.TOPICS
    assert topics.judge(None, ["b", "b", "b"]) is None
    assert topics.judge(None, ["b", "c", "d"]) is Full.EACH
    assert topics.subscribe("ben", ["b", "a"]) is Full.SUBSCRIBERS
    assert topics.topics == 1
