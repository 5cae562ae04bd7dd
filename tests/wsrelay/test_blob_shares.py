"""Shares of the blob store against a naive model."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trio_relay.wsrelay.stores.blob_shares import BlobShares

KEYS, OWNERS = st.sampled_from("abcdef"), st.sampled_from("XY")
STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "put", "forget"]), KEYS, OWNERS, st.floats(0, 4)),
    max_size=40,
)


@given(steps=STEPS)
def test_nobody_has_more_than_a_share(steps: list[tuple[str, str, str, float]]) -> None:
    shares, now = BlobShares(2, 6, 5.0), 0.0
    model: dict[str, tuple[str, float]] = {}
    for what, key, owner, pause in steps:
        now += pause
        model = {name: entry for name, entry in model.items() if entry[1] > now}
        if what == "forget":
            shares.forget(key)
            model.pop(key, None)
            continue
        held = [name for name, (who, _) in model.items() if who == owner]
        allowed = shares.allows(key, owner, now)
        assert allowed == (key in held or len(held) < 2)
        if allowed:
            shares.put(key, owner, now)
            model[key] = owner, now + 5.0
        assert len(shares) == len(model)


def test_the_oldest_is_forgotten_when_there_is_no_room() -> None:
    shares = BlobShares(9, 2, None)
    for key in "abc":
        shares.put(key, "X", 0.0)
    assert len(shares) == 2
    shares.forget("a")
    assert len(shares) == 2


def test_what_others_overwrite_is_theirs() -> None:
    shares = BlobShares(1, 9, None)
    shares.put("a", "X", 0.0)
    assert not shares.allows("b", "X", 0.0)
    shares.put("a", "Y", 0.0)
    assert shares.allows("b", "X", 0.0)
    assert not shares.allows("b", "Y", 0.0)
