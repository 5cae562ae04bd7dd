"""``--limit``, and the descriptors that the limits need."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from dataclasses import fields

import pytest
import trio

import trio_relay
from trio_relay import Limits
from trio_relay.cli.bounds import make_limits, parse_limit, raise_descriptor_limit

from .support import DEADLINE, open_readable

SOFT = 300


@pytest.mark.parametrize("name", [field.name for field in fields(Limits)])
def test_every_limit_can_be_changed(name: str) -> None:
    assert getattr(make_limits([parse_limit(f"{name}=7")]), name) == 7


def test_the_last_change_of_a_limit_counts() -> None:
    changes = [parse_limit("leaves=2"), parse_limit("ping_after=0.5"), parse_limit("leaves=3")]
    assert make_limits(changes) == Limits(leaves=3, ping_after=0.5)


async def test_a_node_keeps_to_them() -> None:
    async with open_readable("--limit", "leaves=1") as running:
        await running.line()
        url = (await running.line()).removeprefix("listening on ")
        async with trio_relay.open_node(None, [url]) as first:
            with trio.fail_after(DEADLINE):
                await first.wait_linked()
            async with trio_relay.open_node(None, [url]) as second:
                with trio.fail_after(DEADLINE):
                    while "handshakes_failed" not in second.statistics().counts:
                        await trio.sleep(0.01)
                assert not second.links
        assert await running.stop() == 0


@pytest.fixture
def hard() -> Iterator[int]:
    """The hard limit of this process's descriptors, whose soft limit is low meanwhile."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (SOFT, before[1]))
    yield before[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize(("connections", "expected"), [(1, SOFT), (400, 528), (10**9, None)])
def test_descriptors_are_raised_as_far_as_the_system_allows(hard: int, connections: int, expected: int | None) -> None:
    if expected is None and hard == resource.RLIM_INFINITY:
        connections, expected = 1000, 1128
    raise_descriptor_limit(Limits(connections=connections))
    soft, now = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert now == hard
    assert soft == (hard if expected is None else expected)
