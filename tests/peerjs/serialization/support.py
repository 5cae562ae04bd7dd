"""Values to send, and one pair of serializers."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest
from hypothesis import strategies as st

from trio_relay.exceptions import RemoteProtocolError
from trio_relay.peerjs.serialization.builtin import Serializers
from trio_relay.peerjs.serialization.serializer import Serializer, SerializerLimits

SMALL: Final = SerializerLimits(max_value=100_000, max_depth=8, max_unfinished=3)

TEXTS: Final = st.one_of(
    st.text("a\u00e9\u20ac\U0001f600\x00", max_size=6), st.sampled_from(["x" * 15, "x" * 16, "x" * 32, "\u00e9" * 130])
)
INTEGERS: Final = st.one_of(
    st.integers(-(2**63), 2**64 - 1),
    st.integers(-300, 300),
    st.builds(lambda power, step: (1 << power) + step, st.integers(0, 62), st.integers(-2, 2)),
)
FLOATS: Final = st.floats(allow_nan=False) | st.floats(width=32, allow_nan=False)
SCALARS: Final = st.one_of(st.none(), st.booleans(), INTEGERS, FLOATS, TEXTS)
KEYS: Final = TEXTS.filter(lambda key: key != "__peerData") | st.sampled_from(["0", "1", "10", "01", "__proto__", "n"])


def nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Such values, and lists and dicts of them."""
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=17) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
    )


VALUES: Final = nested(SCALARS | st.binary(max_size=40))


def serializer(name: str, limits: SerializerLimits = SMALL) -> Serializer:
    return Serializers().requested(name)[1](limits)


def through(name: str, *values: Any, limits: SerializerLimits = SMALL) -> list[Any]:
    """What one end receives of what the other has sent."""
    sender, receiver = serializer(name, limits), serializer(name, limits)
    return [got for value in values for message in sender.encode(value) for got in receiver.decode(message)]


def refusal(take: Callable[[Any], object], items: Iterable[Any]) -> RemoteProtocolError:
    """How one of the items was refused."""
    for item in items:
        try:
            take(item)
        except RemoteProtocolError as error:
            return error
    pytest.fail("all was accepted")


@contextmanager
def memory_below(most: int) -> Iterator[None]:
    """Fails if more bytes were allocated meanwhile; what `pytest.raises` does takes megabytes itself."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < most
