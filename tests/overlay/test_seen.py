from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trio_relay.overlay.seen import SeenMessages

A, B, C = b"a" * 20, b"b" * 20, b"c" * 20


def number(value: int) -> bytes:
    return value.to_bytes(8, "big")


def test_a_pair_is_remembered_for_its_time() -> None:
    seen = SeenMessages(100, 10, 120.0)
    seen.add(A, number(1), 0.0)
    assert seen.seen(A, number(1), 119.9)
    assert not seen.seen(A, number(1), 120.0)
    assert not seen.seen(B, number(1), 0.0)
    assert not seen.seen(A, number(2), 0.0)


def test_a_sender_pushes_out_only_its_own() -> None:
    seen = SeenMessages(100, 10, 120.0)
    seen.add(B, number(0), 0.0)
    for value in range(50):
        seen.add(A, number(value), 1.0)
    assert seen.seen(B, number(0), 2.0)
    assert not seen.seen(A, number(39), 2.0)
    assert all(seen.seen(A, number(value), 2.0) for value in range(40, 50))
    assert (len(seen), seen.evicted) == (11, 40)


def test_when_all_is_full_the_sender_silent_longest_is_forgotten() -> None:
    seen = SeenMessages(4, 10, 120.0)
    for sender, value in [(A, 1), (B, 1), (A, 2), (C, 1)]:
        seen.add(sender, number(value), 0.0)
    seen.add(C, number(2), 0.0)
    assert not seen.seen(B, number(1), 1.0)
    assert seen.seen(A, number(1), 1.0)
    assert (len(seen), seen.evicted) == (4, 1)


def test_expiry_frees_what_is_old() -> None:
    seen = SeenMessages(100, 10, 120.0)
    seen.add(A, number(1), 0.0)
    seen.add(B, number(1), 60.0)
    seen.add(A, number(2), 100.0)
    seen.expire(130.0)
    assert seen.seen(A, number(2), 130.0)
    seen.expire(190.0)
    assert not seen.seen(B, number(1), 190.0)
    seen.expire(221.0)
    assert (len(seen), seen.evicted) == (0, 0)


adds = st.lists(st.tuples(st.sampled_from([A, B, C]), st.integers(0, 9), st.floats(0, 50)), max_size=60)


@given(adds)
def test_it_never_invents_and_never_exceeds_its_bounds(steps: list[tuple[bytes, int, float]]) -> None:
    seen = SeenMessages(12, 5, 20.0)
    added: dict[tuple[bytes, int], float] = {}
    now = 0.0
    for sender, value, later in steps:
        now += later
        seen.add(sender, number(value), now)
        added[sender, value] = now
        assert len(seen) <= 12
        for (one, other), at in added.items():
            if seen.seen(one, number(other), now):
                assert at + 20.0 > now
        assert seen.seen(sender, number(value), now)
    seen.expire(now + 20.0)
    assert len(seen) == 0
