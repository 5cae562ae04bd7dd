"""What waits for a slow link: bounds, the control reserve, who loses, and exact accounts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from trio_relay import Limits
from trio_relay.node.backlog import Backlog, Batch

LIMITS = Limits(backlog_bytes=800, backlog_frames=80)
DATA_BYTES, DATA_FRAMES = 700, 70


def batch(size: int, via: object = None, *, frames: int = 1, control: bool = False) -> Batch:
    return Batch([bytes(size)], frames, size, via, control)


def backlog() -> Backlog:
    return Backlog(LIMITS, Counter())


def test_batches_that_fit_are_kept() -> None:
    waiting = backlog()
    assert waiting.add(batch(300, "a"))
    assert waiting.add(batch(400, "b", frames=69))
    assert (waiting.size, waiting.frames) == (700, 70)
    assert waiting.counts == {}


def test_an_eighth_is_kept_for_control() -> None:
    waiting = backlog()
    assert waiting.add(batch(700, "a"))
    assert not waiting.add(batch(1, "a"))
    assert waiting.add(batch(100, "a", control=True))
    assert not waiting.add(batch(1, "a", control=True))
    assert waiting.counts["backlog_full"] == 2


def test_an_eighth_of_the_frames_too() -> None:
    waiting = backlog()
    assert waiting.add(batch(1, "a", frames=70))
    assert not waiting.add(batch(1, "a"))
    assert waiting.add(batch(1, "a", frames=10, control=True))


def test_whoever_holds_most_loses_its_newest() -> None:
    waiting = backlog()
    first, second = batch(300, "flooder", frames=3), batch(300, "flooder", frames=5)
    for one in (first, second, batch(80, "quiet")):
        assert waiting.add(one)
    mine = batch(100, "quiet")
    assert waiting.add(mine)
    assert (second.dropped, second.pieces) == (True, ())
    assert not first.dropped
    assert not mine.dropped
    assert waiting.counts["backlog_full"] == 5
    assert (waiting.size, waiting.frames) == (480, 5)


def test_flooder_loses_its_own() -> None:
    waiting = backlog()
    assert waiting.add(batch(600, "flooder"))
    assert waiting.add(batch(100, "quiet"))
    late = batch(50, "flooder")
    assert not waiting.add(late)
    assert late.dropped
    assert waiting.size == 700


def test_newcomer_that_would_hold_most_is_the_one_that_loses() -> None:
    waiting = backlog()
    for via in "abcdefg":
        assert waiting.add(batch(100, via))
    assert not waiting.add(batch(100, "h"))
    assert not waiting.add(batch(10_000, "h"))
    assert waiting.size == 700
    assert waiting.add(batch(99, "h"))


def test_flood_of_small_frames_does_not_push_out_large_ones() -> None:
    """The frames have run out, not the bytes: whoever holds most frames loses."""
    waiting = backlog()
    large = batch(500, "honest")
    assert waiting.add(large)
    for _ in range(100):
        waiting.add(batch(1, "flooder"))
    assert waiting.frames == DATA_FRAMES
    assert waiting.add(batch(1, "honest"))
    assert not large.dropped


def test_flood_of_large_frames_does_not_push_out_small_ones() -> None:
    waiting = backlog()
    small = [batch(1, "honest") for _ in range(40)]
    for one in small:
        assert waiting.add(one)
    for _ in range(20):
        waiting.add(batch(110, "flooder"))
    assert waiting.add(batch(60, "honest"))
    assert not any(one.dropped for one in small)


def test_what_is_left_when_the_link_breaks_is_counted() -> None:
    waiting = backlog()
    left = [batch(10, via, frames=2) for via in "ab"]
    for one in left:
        waiting.add(one)
    waiting.clear()
    assert (waiting.size, waiting.frames) == (0, 0)
    assert waiting.counts["link_broken"] == 4
    assert all(one.dropped and not one.pieces for one in left)


@dataclass
class Model:
    """The same rules, told with lists."""

    held: list[Batch] = field(default_factory=list)

    def size(self, via: object = ...) -> int:
        return sum(one.size for one in self.held if via is ... or one.via == via)

    def frames(self, via: object = ...) -> int:
        return sum(one.frames for one in self.held if via is ... or one.via == via)


operations = st.lists(
    st.one_of(
        st.tuples(
            st.just("add"),
            st.sampled_from(["a", "b", "c", None]),
            st.integers(1, 900),
            st.integers(1, 90),
            st.booleans(),
        ),
        st.tuples(st.just("write"), st.none(), st.just(0), st.just(0), st.just(False)),
    ),
    max_size=60,
)


@given(operations)
def test_accounts_are_exact_and_bounds_hold_after_any_sequence(
    steps: list[tuple[str, str | None, int, int, bool]],
) -> None:
    waiting, model = backlog(), Model()
    offered = written = 0
    for step, via, size, frames, control in steps:
        if step == "write":
            if model.held:
                first = model.held.pop(0)
                written += first.frames
                waiting.remove(first)
            continue
        new = batch(size, via, frames=frames, control=control)
        offered += frames
        before = list(model.held)
        shares = {one.via: (model.size(one.via), model.frames(one.via)) for one in before}
        model.held.append(new)
        taken = waiting.add(new)
        model.held = [one for one in model.held if not one.dropped]
        assert taken == (new in model.held)

        assert (waiting.size, waiting.frames) == (model.size(), model.frames())
        assert waiting.size <= LIMITS.backlog_bytes
        assert waiting.frames <= LIMITS.backlog_frames
        if taken and not control:
            assert waiting.size <= DATA_BYTES
            assert waiting.frames <= DATA_FRAMES
        for victim in {one.via for one in before if one.dropped}:
            # Whoever lost held more than the newcomer, of bytes or of frames, and lost its newest.
            own = shares.get(via, (0, 0))
            assert victim != via
            assert shares[victim][0] > own[0] + size or shares[victim][1] > own[1] + frames
            fate = [one.dropped for one in before if one.via == victim]
            assert fate == sorted(fate)
        assert offered == written + model.frames() + waiting.counts["backlog_full"]


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 5)), max_size=40))
def test_flooder_never_costs_a_small_sender_anything(bursts: list[tuple[int, int]]) -> None:
    """A sender that holds less than half of the room loses nothing, whatever the other does."""
    waiting = backlog()
    honest: list[Batch] = []
    for size, frames in bursts:
        for _ in range(5):
            waiting.add(batch(137, "flooder", frames=13))
        if sum(one.size for one in honest) + size < 200 and sum(one.frames for one in honest) + frames < 20:
            honest.append(batch(size, "honest", frames=frames))
            assert waiting.add(honest[-1])
    assert not any(one.dropped for one in honest)
