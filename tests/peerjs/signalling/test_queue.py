"""Frames that wait for the broker."""

from __future__ import annotations

from collections import Counter

from trio_relay.peerjs.signalling.queue import MAX_BYTES, SignalQueue


def test_in_order_in_batches() -> None:
    queue = SignalQueue(10, Counter())
    frames = [b"%d" % number + bytes(30_000) for number in range(5)]
    assert all(queue.put(frame, 0) for frame in frames)
    taken = []
    while batch := queue.batch(1):
        assert sum(map(len, batch)) <= 64 * 1024
        queue.remove(len(batch))
        taken += batch
    assert taken == frames
    assert len(queue) == 0


def test_a_frame_that_is_larger_than_a_batch_is_one() -> None:
    queue = SignalQueue(10, Counter())
    assert queue.put(bytes(MAX_BYTES), 0)
    assert queue.batch(0) == [bytes(MAX_BYTES)]


def test_the_bounds() -> None:
    counts: Counter[str] = Counter()
    queue = SignalQueue(10, counts)
    assert all(queue.put(b"x", 0) for _ in range(256))
    assert not queue.put(b"x", 0)
    queue.clear()
    assert queue.put(bytes(MAX_BYTES - 1), 0)
    assert queue.put(b"x", 0)
    assert not queue.put(b"x", 0)
    queue.remove(2)
    assert queue.put(bytes(MAX_BYTES), 0)
    assert counts == {"signals_full": 2, "signals_unsent": 256}


def test_what_waited_too_long_goes() -> None:
    counts: Counter[str] = Counter()
    queue = SignalQueue(10, counts)
    for now in (0.0, 5.0):
        queue.put(bytes(MAX_BYTES // 2), now)
    assert not queue.put(b"x", 9.9)
    assert queue.put(b"y", 10.0)
    assert queue.batch(15.0) == [b"y"]
    assert counts == {"signals_full": 1, "signals_expired": 2}
